use std::ffi::OsString;
use std::fs::TryLockError;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Access, Disk, DiskFile, RealDisk, StorageError};

/// A name on a disk whose file is only ever replaced whole.
///
/// Writers serialise on `<path>.lock` and prepare `<path>.tmp`; both names belong to the place.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    disk: Arc<dyn Disk>,
    path: PathBuf,
}

impl Place {
    /// A place on the real disk; its directory must exist.
    pub(crate) fn new(path: PathBuf) -> Self {
        Self::on(Arc::new(RealDisk), path)
    }

    pub(crate) fn on(disk: Arc<dyn Disk>, path: PathBuf) -> Self {
        Self { disk, path }
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
    pub(crate) fn lock(&self) -> Result<Box<dyn DiskFile>, StorageError> {
        let path = self.sibling(".lock");
        if self.disk.stat(&path)?.is_some_and(|stat| !stat.is_file) {
            return Err(StorageError::NotRegular);
        }
        let file = self.disk.open(&path, Access::OpenOrCreate)?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(TryLockError::WouldBlock) => Err(StorageError::Locked),
            Err(TryLockError::Error(error)) => Err(error.into()),
        }
    }

    /// The file, `None` if there is none. Only a regular file that its owner alone can reach is
    /// opened; links are not followed.
    pub(crate) fn open(&self, access: Access) -> Result<Option<Box<dyn DiskFile>>, StorageError> {
        let Some(named) = self.disk.stat(&self.path)? else { return Ok(None) };
        if !named.is_file {
            return Err(StorageError::NotRegular);
        }
        let file = self.disk.open(&self.path, access)?;
        let opened = file.stat()?;
        // Another file, or a link to one, may have taken the name since it was looked at.
        if named.id != opened.id {
            return Err(StorageError::Locked);
        }
        if opened.mode & 0o077 != 0 {
            return Err(StorageError::Permissions(opened.mode));
        }
        Ok(Some(file))
    }

    /// The content, `None` if there is no file. At most `limit` bytes are read.
    pub(crate) fn load(&self, limit: usize) -> Result<Option<Vec<u8>>, StorageError> {
        match self.open(Access::Read)? {
            Some(mut file) => read(&mut *file, limit).map(Some),
            None => Ok(None),
        }
    }

    /// Stores the first content. Only under the lock.
    pub(crate) fn create(&self, bytes: &[u8]) -> Result<(), StorageError> {
        if self.disk.stat(&self.path)?.is_some() {
            return Err(StorageError::Exists);
        }
        let temporary = self.prepare(bytes)?;
        // Unlike a rename, a hard link never replaces what a program without our lock put there.
        let linked = self.disk.hard_link(&temporary, &self.path);
        self.discard(&temporary);
        linked.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => StorageError::Exists,
            _ => error.into(),
        })?;
        Ok(self.sync_directory()?)
    }

    /// Replaces the content. Only under the lock.
    pub(crate) fn replace(&self, bytes: &[u8]) -> Result<(), StorageError> {
        let temporary = self.prepare(bytes)?;
        if let Err(error) = self.disk.rename(&temporary, &self.path) {
            self.discard(&temporary);
            return Err(error.into());
        }
        Ok(self.sync_directory()?)
    }

    /// Makes the name durable, whoever gave it.
    pub(crate) fn sync_directory(&self) -> io::Result<()> {
        self.disk.sync_directory(self.directory())
    }

    /// Writes the bytes to a fresh temporary file, synced to the medium.
    fn prepare(&self, bytes: &[u8]) -> Result<PathBuf, StorageError> {
        let path = self.sibling(".tmp");
        // What a crash left behind. It is not ours to read: a link is removed, not followed.
        if self.disk.stat(&path)?.is_some() {
            self.disk.remove(&path)?;
        }
        let written = self
            .disk
            .open(&path, Access::CreateNew)
            .and_then(|mut file| file.append(bytes).and_then(|()| file.sync()));
        match written {
            Ok(()) => Ok(path),
            Err(error) => {
                self.discard(&path);
                Err(error.into())
            }
        }
    }

    /// Removes a temporary file. If that fails the next writer removes it: it holds nothing that
    /// the file itself would not.
    fn discard(&self, path: &Path) {
        let _ = self.disk.remove(path);
    }
}

/// At most `limit` bytes of a file.
pub(crate) fn read(file: &mut dyn DiskFile, limit: usize) -> Result<Vec<u8>, StorageError> {
    let limit = limit as u64;
    let bytes = file.read(limit.saturating_add(1))?;
    if bytes.len() as u64 > limit {
        return Err(StorageError::TooLong(file.stat()?.len));
    }
    Ok(bytes)
}
