//! Compiled modules kept on disk between runs of a node.

use core::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nonos_capsule_aot::{Artifact, SealKey};
use nonos_identity::wire;
use nonos_identity::{Digest, WideDigest};

use crate::domains::AOT_KEY;
use crate::instrument;
use crate::profile::{Caps, Outline};
use crate::store::StoreError;

/// Where compiled modules are kept, by what they were compiled from.
///
/// Every file carries a seal under a key drawn on this machine: a file that somebody else put
/// there is not loaded but compiled again. Files are 0600, the directory 0700.
pub struct AotCache {
    directory: PathBuf,
    key: SealKey,
    max_bytes: u64,
}

/// Everything that decides what a payload is compiled to, by whom and for whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModuleKey(Digest);

impl ModuleKey {
    /// The key of a payload under structural caps: a module that smaller caps refuse is not found
    /// under them.
    #[must_use]
    pub fn of(payload: &WideDigest, caps: &Caps) -> Self {
        let caps = caps.to_array().map(u64::to_le_bytes).concat();
        Self(Digest::of(
            AOT_KEY,
            &[
                payload.as_bytes(),
                &instrument::VERSION.to_le_bytes(),
                &instrument::GAS_SCHEDULE.to_le_bytes(),
                &caps,
            ],
        ))
    }

    /// The same for one engine and its settings.
    fn with(&self, compatibility: &[u8]) -> Digest {
        Digest::of(AOT_KEY, &[self.0.as_bytes(), compatibility])
    }
}

/// Length of the key file, in bytes.
const KEY_BYTES: usize = 32;
/// Name of the key file in the cache's directory.
const KEY_FILE: &str = "seal.key";
const EXTENSION: &str = "aot";

impl AotCache {
    /// Bytes kept by default: some dozens of interpreters.
    pub const DEFAULT_MAX_BYTES: u64 = 2 << 30;

    /// Opens a cache, creating its directory and key where they are missing. The oldest files
    /// make room when there are more than `max_bytes`.
    ///
    /// # Errors
    /// [`StoreError`] if the directory or key cannot be made, read, or others may read them.
    pub fn open(directory: impl Into<PathBuf>, max_bytes: u64) -> Result<Self, StoreError> {
        let directory = directory.into();
        DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
        let key = read_key(&directory.join(KEY_FILE))?;
        Ok(Self { directory, key: SealKey::from_bytes(key), max_bytes })
    }

    /// What was kept for a module and engine; nothing if there is nothing, or it is not ours.
    pub(super) fn read(&self, key: &ModuleKey, compatibility: &[u8]) -> Option<(Outline, Artifact)> {
        let key = key.with(compatibility);
        let mut bytes = Vec::new();
        File::open(self.path(&key)).ok()?.take(self.max_bytes).read_to_end(&mut bytes).ok()?;
        let (len, rest) = bytes.split_first_chunk::<4>()?;
        let (outline_bytes, _) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
        let outline_bytes = outline_bytes.to_vec();
        let sealed = bytes.split_off(4 + outline_bytes.len());
        let context = [key.as_bytes(), &outline_bytes[..]].concat();
        let artifact = Artifact::open(&self.key, &context, sealed).ok()?;
        Some((wire::from_bytes(&outline_bytes).ok()?, artifact))
    }

    /// Keeps a module; returns the code for use. A cache that cannot be written costs the next
    /// start some time and this one nothing.
    pub(super) fn keep(
        &self,
        key: &ModuleKey,
        compatibility: &[u8],
        outline: &Outline,
        artifact: Artifact,
    ) -> Artifact {
        let key = key.with(compatibility);
        let outline_bytes = wire::to_bytes(outline);
        let context = [key.as_bytes(), &outline_bytes[..]].concat();
        let sealed = artifact.seal(&self.key, &context);
        let len = u32::try_from(outline_bytes.len()).unwrap_or(u32::MAX).to_le_bytes();
        let _ = self.write(&self.path(&key), &[&len, &outline_bytes, &sealed]);
        match Artifact::open(&self.key, &context, sealed) {
            Ok(artifact) => artifact,
            Err(_) => unreachable!("what was sealed with a key opens with it"),
        }
    }

    fn write(&self, path: &Path, parts: &[&[u8]]) -> io::Result<()> {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        self.make_room(len as u64)?;
        let unfinished = path.with_extension(format!("{}.part", std::process::id()));
        let written = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&unfinished)
            .and_then(|mut file| parts.iter().try_for_each(|part| file.write_all(part)))
            .and_then(|()| fs::rename(&unfinished, path));
        if written.is_err() {
            let _ = fs::remove_file(&unfinished);
        }
        written
    }

    /// Removes the files unused for longest until there is room.
    fn make_room(&self, bytes: u64) -> io::Result<()> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == EXTENSION) {
                let metadata = fs::metadata(&path)?;
                files.push((metadata.modified()?, metadata.len(), path));
            }
        }
        files.sort();
        let mut held: u64 = files.iter().map(|(_, len, _)| len).sum();
        for (_, len, path) in files {
            if held.saturating_add(bytes) <= self.max_bytes {
                return Ok(());
            }
            fs::remove_file(path)?;
            held -= len;
        }
        if bytes > self.max_bytes { Err(ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn path(&self, key: &Digest) -> PathBuf {
        self.directory.join(key.to_string()).with_extension(EXTENSION)
    }
}

impl fmt::Debug for AotCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AotCache").field("directory", &self.directory).finish_non_exhaustive()
    }
}

/// Reads the key, or draws one if there is none.
fn read_key(path: &Path) -> Result<[u8; KEY_BYTES], StoreError> {
    use std::os::unix::fs::MetadataExt as _;
    let created = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    match created {
        Ok(mut file) => {
            let key = draw()?;
            file.write_all(&key)?;
            file.sync_all()?;
            Ok(key)
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let metadata = fs::symlink_metadata(path)?;
            if !metadata.is_file() || metadata.mode() & 0o077 != 0 {
                return Err(StoreError::Damaged(format!("{}: others have access", path.display())));
            }
            let key = fs::read(path)?;
            let wrong = || StoreError::Damaged(format!("{}: {} bytes", path.display(), key.len()));
            key.as_slice().try_into().map_err(|_| wrong())
        }
        Err(error) => Err(error.into()),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a key of this machine that no other may know; it enters no result"
)]
fn draw() -> io::Result<[u8; KEY_BYTES]> {
    let mut key = [0; KEY_BYTES];
    getrandom::fill(&mut key).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(key)
}
