//! The private file system of a run: a value in memory, with no type of the host in it, so that
//! nothing of the host can be reached through it.

use std::collections::BTreeMap;
use std::sync::Arc;

#[cfg(any(test, feature = "testing"))]
mod check;
mod commit;
mod content;
mod directory;
mod image;
#[cfg(test)]
mod model;
mod path;
mod tree;

use self::commit::Commit;
pub(crate) use self::commit::Leaf;
use self::content::Content;
use self::directory::Directory;
pub(crate) use self::directory::{COOKIE_PARENT, COOKIE_SELF};
pub use self::image::{Image, ImageError};
pub(crate) use self::path::MAX_PATH_BYTES;
pub(crate) use self::tree::Open;

/// Number of an inode: the order of creation, never used again.
pub(crate) type Ino = u64;

/// Entries whose commitment costs about as much as that of a WASM page.
const ENTRIES_PER_PAGE: u64 = 16;

/// Why an operation failed; nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FsError {
    NotFound,
    Exists,
    NotDirectory,
    IsDirectory,
    NotEmpty,
    Loop,
    NameTooLong,
    /// The path leads out of the directory it is relative to.
    Escape,
    Invalid,
    /// A link to a directory.
    NotPermitted,
    /// Bytes or entries beyond the quota.
    NoSpace,
    TooLarge,
    /// A directory that its path does not name cannot be removed or renamed.
    Busy,
    /// The gas left does not pay for the next step.
    OutOfGas,
}

/// The gas an operation may spend. Each step is paid before it is taken.
#[derive(Debug)]
pub(crate) struct Work {
    left: u64,
    spent: u64,
}

impl Work {
    pub(crate) const fn new(left: u64) -> Self {
        Self { left, spent: 0 }
    }

    /// What was paid, and what could not be paid.
    pub(crate) const fn spent(&self) -> u64 {
        self.spent
    }

    pub(crate) fn pay(&mut self, gas: u64) -> Result<(), FsError> {
        self.spent = self.spent.saturating_add(gas);
        if self.spent > self.left { Err(FsError::OutOfGas) } else { Ok(()) }
    }
}

/// What a run may add to the images it starts from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Bytes of files and link targets. A file of an image counts from its first change, whole.
    pub(crate) bytes: u64,
    /// Entries of directories, which bounds inodes too.
    pub(crate) files: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Times {
    /// Creation, or as set. Reading does not move it: a read changes nothing to commit to.
    pub(crate) accessed_ns: u64,
    pub(crate) modified_ns: u64,
    pub(crate) changed_ns: u64,
}

impl Times {
    const fn all(now_ns: u64) -> Self {
        Self { accessed_ns: now_ns, modified_ns: now_ns, changed_ns: now_ns }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileType {
    Directory,
    Regular,
    Symlink,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) ino: Ino,
    pub(crate) file_type: FileType,
    pub(crate) links: u32,
    pub(crate) size: u64,
    pub(crate) times: Times,
}

enum Kind {
    File(Content),
    Directory(Directory),
    Symlink(Arc<str>),
}

struct Inode {
    kind: Kind,
    /// Entries that stand for it.
    links: u32,
    /// Descriptors that hold it; with links and handles gone it goes.
    handles: u32,
    times: Times,
    /// Bytes it counts for in [`Usage`].
    charged: u64,
}

/// Inodes in the order of their numbers, and what they may grow to.
pub(crate) struct FileSystem {
    inodes: BTreeMap<Ino, Inode>,
    next: Ino,
    quota: Usage,
    used: Usage,
    /// Bytes of all files, of images too: what a commitment may have to hash the leaves of.
    bytes: u64,
    commit: Commit,
}

impl FileSystem {
    /// Without a directory, so without a way to create anything.
    pub(crate) fn new(quota: Usage) -> Self {
        let (inodes, commit) = (BTreeMap::new(), Commit::default());
        Self { inodes, next: 1, quota, used: Usage::default(), bytes: 0, commit }
    }

    #[cfg(test)]
    const fn used(&self) -> Usage {
        self.used
    }

    /// Its size for the distance between checkpoints, in pages of 64 KiB.
    pub(crate) fn footprint_pages(&self) -> u64 {
        // Links make entries without inodes.
        (self.bytes >> 16) + (self.inodes.len() as u64 + self.used.files) / ENTRIES_PER_PAGE
    }

    fn inode(&self, ino: Ino) -> Result<&Inode, FsError> {
        self.inodes.get(&ino).ok_or(FsError::NotFound)
    }

    /// For a change: what is borrowed will be committed to again.
    fn inode_mut(&mut self, ino: Ino) -> Result<&mut Inode, FsError> {
        self.commit.touch(ino);
        self.inodes.get_mut(&ino).ok_or(FsError::NotFound)
    }

    fn directory(&self, ino: Ino) -> Result<&Directory, FsError> {
        match &self.inode(ino)?.kind {
            Kind::Directory(directory) => Ok(directory),
            _ => Err(FsError::NotDirectory),
        }
    }

    fn directory_mut(&mut self, ino: Ino) -> Result<&mut Directory, FsError> {
        match &mut self.inode_mut(ino)?.kind {
            Kind::Directory(directory) => Ok(directory),
            _ => Err(FsError::NotDirectory),
        }
    }

    fn content(&self, ino: Ino) -> Result<&Content, FsError> {
        match &self.inode(ino)?.kind {
            Kind::File(content) => Ok(content),
            Kind::Directory(_) => Err(FsError::IsDirectory),
            Kind::Symlink(_) => Err(FsError::Invalid),
        }
    }

    fn add(&mut self, kind: Kind, charged: u64, now_ns: u64) -> Ino {
        let ino = self.next;
        self.next += 1;
        self.used.bytes += charged;
        if let Kind::File(content) = &kind {
            self.bytes += content.bytes().len() as u64;
        }
        self.inodes.insert(ino, Inode { kind, links: 0, handles: 0, times: Times::all(now_ns), charged });
        self.commit.touch(ino);
        ino
    }

    /// Counts a descriptor that holds the inode.
    pub(crate) fn retain(&mut self, ino: Ino) {
        if let Some(inode) = self.inodes.get_mut(&ino) {
            inode.handles += 1;
        }
    }

    /// Counts a descriptor less.
    pub(crate) fn release(&mut self, ino: Ino) {
        if let Some(inode) = self.inodes.get_mut(&ino) {
            inode.handles = inode.handles.saturating_sub(1);
        }
        self.drop_unused(ino);
    }

    fn drop_unused(&mut self, ino: Ino) {
        if self.inodes.get(&ino).is_some_and(|inode| inode.links == 0 && inode.handles == 0)
            && let Some(inode) = self.inodes.remove(&ino)
        {
            self.used.bytes -= inode.charged;
            if let Kind::File(content) = &inode.kind {
                self.bytes -= content.bytes().len() as u64;
            }
            self.commit.touch(ino);
        }
    }

    pub(crate) fn stat(&self, ino: Ino) -> Result<Stat, FsError> {
        let inode = self.inode(ino)?;
        let (file_type, size) = match &inode.kind {
            Kind::File(content) => (FileType::Regular, content.bytes().len()),
            Kind::Directory(_) => (FileType::Directory, 0),
            Kind::Symlink(target) => (FileType::Symlink, target.len()),
        };
        Ok(Stat { ino, file_type, links: inode.links, size: size as u64, times: inode.times })
    }

    /// Sets the times that are given.
    pub(crate) fn set_times(
        &mut self,
        ino: Ino,
        accessed_ns: Option<u64>,
        modified_ns: Option<u64>,
        now_ns: u64,
    ) -> Result<(), FsError> {
        let times = &mut self.inode_mut(ino)?.times;
        times.accessed_ns = accessed_ns.unwrap_or(times.accessed_ns);
        times.modified_ns = modified_ns.unwrap_or(times.modified_ns);
        times.changed_ns = now_ns;
        Ok(())
    }

    /// What a file holds from `offset` on, at most `len` bytes.
    pub(crate) fn read(&self, ino: Ino, offset: u64, len: u32) -> Result<&[u8], FsError> {
        let bytes = self.content(ino)?.bytes();
        let rest = usize::try_from(offset).ok().and_then(|offset| bytes.get(offset..)).unwrap_or_default();
        Ok(rest.get(..len as usize).unwrap_or(rest))
    }

    /// Makes `len` bytes at `offset` writable: checks the quota, then grows the file and makes
    /// it the run's own. The caller pays for the bytes it writes, this for all others.
    pub(crate) fn prepare_write(
        &mut self,
        ino: Ino,
        offset: u64,
        len: u64,
        now_ns: u64,
        work: &mut Work,
    ) -> Result<(), FsError> {
        let end = offset.checked_add(len).ok_or(FsError::TooLarge)?;
        let size = self.content(ino)?.bytes().len() as u64;
        self.set_len(ino, size.max(end), len.min(end.saturating_sub(size)), now_ns, work)
    }

    /// Writes bytes that [`Self::prepare_write`] made writable.
    pub(crate) fn write(&mut self, ino: Ino, offset: u64, data: &[u8]) {
        if let (Ok(Inode { kind: Kind::File(content), .. }), Ok(offset)) =
            (self.inode_mut(ino), usize::try_from(offset))
        {
            content.write(offset, data);
        }
    }

    /// Cuts a file or fills it up with zeros.
    pub(crate) fn resize(&mut self, ino: Ino, len: u64, now_ns: u64, work: &mut Work) -> Result<(), FsError> {
        self.set_len(ino, len, 0, now_ns, work)
    }

    /// `paid` bytes of the growth are paid elsewhere.
    fn set_len(
        &mut self,
        ino: Ino,
        len: u64,
        paid: u64,
        now_ns: u64,
        work: &mut Work,
    ) -> Result<(), FsError> {
        let content = self.content(ino)?;
        let old = content.bytes().len() as u64;
        let charged = self.inode(ino)?.charged;
        if len > charged && len - charged > self.quota.bytes.saturating_sub(self.used.bytes) {
            return Err(FsError::NoSpace);
        }
        let new_len = usize::try_from(len).map_err(|_| FsError::TooLarge)?;
        work.pay(len.saturating_sub(old).saturating_sub(paid))?;
        work.pay(content.copied_by_change(new_len) as u64)?;
        self.used.bytes = self.used.bytes - charged + len;
        self.bytes = self.bytes - old + len;
        let inode = self.inode_mut(ino)?;
        inode.charged = len;
        inode.times.modified_ns = now_ns;
        inode.times.changed_ns = now_ns;
        if let Kind::File(content) = &mut inode.kind {
            content.resize(new_len);
        }
        Ok(())
    }

    /// The first entry of a directory behind a cookie: its cookie, name, and what it is.
    pub(crate) fn entry_after(
        &self,
        ino: Ino,
        cookie: u64,
    ) -> Result<Option<(u64, &str, Ino, FileType)>, FsError> {
        let directory = self.directory(ino)?;
        let (cookie, name, ino) = match cookie {
            0 => (COOKIE_SELF, ".", ino),
            COOKIE_SELF => (COOKIE_PARENT, "..", directory.parent),
            cookie => match directory.after(cookie) {
                Some(entry) => entry,
                None => return Ok(None),
            },
        };
        // A parent that was removed is still a directory.
        let file_type = self.stat(ino).map_or(FileType::Directory, |stat| stat.file_type);
        Ok(Some((cookie, name, ino, file_type)))
    }
}

impl core::fmt::Debug for FileSystem {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("FileSystem")
            .field("inodes", &self.inodes.len())
            .field("used", &self.used)
            .finish_non_exhaustive()
    }
}
