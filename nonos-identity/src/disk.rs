//! The disk, as far as durable stores see it, so that the same store runs over a real disk and
//! over one that loses power. See `testing::SimulatedDisk` for what a power cut may do.

#[cfg(not(unix))]
mod absent;
mod place;
#[cfg(unix)]
mod real;

use core::fmt;
use std::fs::TryLockError;
use std::io;
use std::path::Path;

#[cfg(not(unix))]
pub(crate) use self::absent::RealDisk;
pub(crate) use self::place::{Place, read};
#[cfg(unix)]
pub(crate) use self::real::RealDisk;

/// Why a store could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// Nothing is stored. The caller's fault.
    #[error("nothing is stored here")]
    Missing,
    /// Something is stored and is never overwritten by a new store. The caller's fault.
    #[error("something is stored here already")]
    Exists,
    /// Another process is writing the store.
    #[error("the store is locked by another process")]
    Locked,
    /// Another writer changed the store since it was read. Reading it again may help.
    #[error("the store was changed by another writer")]
    Changed,
    /// A symbolic link, directory, device or pipe stands in the place of the file.
    #[error("the store is not a regular file")]
    NotRegular,
    /// Others than the owner have access to the file.
    #[error("the mode of the store is {0:o}; only the owner may have access")]
    Permissions(u32),
    /// Longer than any store of its kind.
    #[error("the store has {0} bytes, more than any of its kind")]
    TooLong(u64),
    /// The medium failed.
    #[error("storage failed")]
    Io(#[from] io::Error),
}

/// File operations, each with the effect that POSIX gives it: a name is durable once its
/// directory is synced, content once its file is, and neither sync includes the other.
pub(crate) trait Disk: fmt::Debug + Send + Sync {
    /// What has a name, links not followed; `None` if nothing has.
    fn stat(&self, path: &Path) -> io::Result<Option<Stat>>;

    /// Opens a file; new ones have mode 0600.
    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn DiskFile>>;

    /// Gives a file a second name, which must be free.
    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Gives a file another name, taking it from whatever had it, atomically.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Takes a name away.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes the names of a directory durable.
    fn sync_directory(&self, directory: &Path) -> io::Result<()>;
}

/// An open file.
pub(crate) trait DiskFile: fmt::Debug + Send {
    fn stat(&self) -> io::Result<Stat>;

    /// The first `limit` bytes.
    fn read(&mut self, limit: u64) -> io::Result<Vec<u8>>;

    /// Writes at the end.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    fn set_len(&mut self, len: u64) -> io::Result<()>;

    /// Makes the content durable.
    fn sync(&mut self) -> io::Result<()>;

    /// Locks the file until it is dropped.
    fn try_lock(&self) -> Result<(), TryLockError>;
}

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// To read; it must exist.
    Read,
    /// To read and write; it must exist.
    Write,
    /// To write; the name must be free, and a link there is not followed.
    CreateNew,
    /// To read and write; made if it does not exist.
    OpenOrCreate,
}

/// What is known about a file without its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) is_file: bool,
    pub(crate) mode: u32,
    /// Device and inode: the same for two names of one file only.
    pub(crate) id: (u64, u64),
    pub(crate) len: u64,
}
