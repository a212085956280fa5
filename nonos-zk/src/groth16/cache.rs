use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::circuit::circuit_digest;
use super::keys::{KeyError, KeySet};
use crate::proof::Profile;

/// Why the cache gives no keys.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CacheError {
    /// The file system failed.
    #[error("key cache: {0}")]
    Io(#[from] io::Error),
    /// The setup failed.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// A directory that keeps key sets, so that a machine makes each of them once.
#[derive(Clone, Debug)]
pub struct KeyCache {
    dir: PathBuf,
}

impl KeyCache {
    /// Opens the directory, or creates it.
    ///
    /// # Errors
    /// [`CacheError::Io`] if it can neither be opened nor created.
    pub fn open_or_create(dir: &Path) -> Result<Self, CacheError> {
        fs::create_dir_all(dir)?;
        Ok(Self { dir: dir.to_owned() })
    }

    /// The keys of [`KeySet::dev_setup`], from the cache if they are there and whole.
    ///
    /// The development setup is the same everywhere, so a damaged file is made anew; nothing that
    /// could be trusted is lost with it.
    ///
    /// # Errors
    /// [`CacheError`] if the file system or the setup fails.
    pub fn dev_keys(&self, profile: Profile) -> Result<KeySet, CacheError> {
        let path = self.path(profile);
        if let Some(keys) = read(&path)? {
            return Ok(keys);
        }
        let keys = KeySet::dev_setup(profile)?;
        write(&path, &keys.to_bytes())?;
        Ok(keys)
    }

    /// Where the development keys of a profile are kept.
    #[must_use]
    pub fn path(&self, profile: Profile) -> PathBuf {
        let circuit: String = circuit_digest(profile).to_string().chars().take(16).collect();
        self.dir.join(format!("{profile}-{circuit}.dev-keys"))
    }
}

fn read(path: &Path) -> Result<Option<KeySet>, io::Error> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(KeySet::MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(KeySet::from_bytes(&bytes).ok())
}

/// Writes beside the target and renames, so that nobody ever reads half a file.
fn write(path: &Path, bytes: &[u8]) -> Result<(), io::Error> {
    // Threads and processes that write at once need drafts of their own.
    static DRAFTS: AtomicU64 = AtomicU64::new(0);
    let number = DRAFTS.fetch_add(1, Ordering::Relaxed);
    let draft = path.with_extension(format!("{}-{number}.draft", std::process::id()));
    let written = fill(&draft, bytes).and_then(|()| fs::rename(&draft, path));
    if written.is_err() {
        // The first error is the one to report; a draft that stays harms nobody.
        let _ = fs::remove_file(&draft);
    }
    written
}

fn fill(draft: &Path, bytes: &[u8]) -> Result<(), io::Error> {
    let mut file = File::create(draft)?;
    file.write_all(bytes)?;
    file.sync_all()
}
