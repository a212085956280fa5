use std::ffi::OsString;
use std::fs::{self, File, Metadata, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::{KeyStore, Keystore, StorageError};

/// Mode of every file made here.
const OWNER_ONLY: u32 = 0o600;

/// A keystore in one file of a Unix file system that knows hard links.
///
/// Writers serialise on `<path>.lock` and prepare `<path>.tmp`; both names belong to the store.
#[derive(Clone, Debug)]
pub struct FileKeyStore {
    path: PathBuf,
}

impl FileKeyStore {
    /// The store at a path; its directory must exist.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    fn sibling(&self, suffix: &str) -> PathBuf {
        let mut name = OsString::from(&self.path);
        name.push(suffix);
        name.into()
    }

    fn directory(&self) -> &Path {
        match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        }
    }

    /// Holds off other writers until the returned file is dropped.
    fn lock(&self) -> Result<File, StorageError> {
        let path = self.sibling(".lock");
        if stat(&path)?.is_some_and(|metadata| !metadata.is_file()) {
            return Err(StorageError::NotRegular);
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(OWNER_ONLY)
            .open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(TryLockError::WouldBlock) => Err(StorageError::Locked),
            Err(TryLockError::Error(error)) => Err(error.into()),
        }
    }

    /// Writes the bytes to a fresh temporary file, synced to the medium. Only under the lock.
    fn prepare(&self, bytes: &[u8]) -> Result<PathBuf, StorageError> {
        let path = self.sibling(".tmp");
        // What a crash left behind. It is not ours to read: a link is removed, not followed.
        if stat(&path)?.is_some() {
            fs::remove_file(&path)?;
        }
        let written = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(OWNER_ONLY)
            .open(&path)
            .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()));
        match written {
            Ok(()) => Ok(path),
            Err(error) => {
                discard(&path);
                Err(error.into())
            }
        }
    }

    fn sync_directory(&self) -> io::Result<()> {
        File::open(self.directory())?.sync_all()
    }
}

impl KeyStore for FileKeyStore {
    fn load(&self) -> Result<Option<Vec<u8>>, StorageError> {
        let Some(named) = stat(&self.path)? else { return Ok(None) };
        if !named.is_file() {
            return Err(StorageError::NotRegular);
        }
        let file = File::open(&self.path)?;
        let opened = file.metadata()?;
        // Another file, or a link to one, may have taken the name since it was looked at.
        if (named.dev(), named.ino()) != (opened.dev(), opened.ino()) {
            return Err(StorageError::Locked);
        }
        let mode = opened.mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(StorageError::Permissions(mode));
        }
        let limit = Keystore::MAX_BYTES as u64;
        let mut bytes = Vec::new();
        file.take(limit + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > limit {
            return Err(StorageError::TooLong(opened.len()));
        }
        Ok(Some(bytes))
    }

    fn create(&self, bytes: &[u8]) -> Result<(), StorageError> {
        let _lock = self.lock()?;
        if stat(&self.path)?.is_some() {
            return Err(StorageError::Exists);
        }
        let temporary = self.prepare(bytes)?;
        // Unlike a rename, a hard link never replaces what a program without our lock put there.
        let linked = fs::hard_link(&temporary, &self.path);
        discard(&temporary);
        linked.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => StorageError::Exists,
            _ => error.into(),
        })?;
        Ok(self.sync_directory()?)
    }

    fn replace(&self, bytes: &[u8]) -> Result<(), StorageError> {
        let _lock = self.lock()?;
        if self.load()?.is_none() {
            return Err(StorageError::Missing);
        }
        let temporary = self.prepare(bytes)?;
        if let Err(error) = fs::rename(&temporary, &self.path) {
            discard(&temporary);
            return Err(error.into());
        }
        Ok(self.sync_directory()?)
    }
}

/// What is at a path, links not followed; `None` if nothing is.
fn stat(path: &Path) -> io::Result<Option<Metadata>> {
    match fs::symlink_metadata(path) {
        Ok(metadata) => Ok(Some(metadata)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Removes a temporary file. If that fails the next writer removes it: it holds ciphertext only.
fn discard(path: &Path) {
    let _ = fs::remove_file(path);
}
