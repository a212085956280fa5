//! The table of descriptors: numbers, what they stand for, and the rights on it.

use std::sync::Arc;

use super::Errno;
use super::rights::Rights;
use crate::fs::Ino;

/// Most open descriptors; bounds the table and the inodes that only descriptors hold.
const MAX_DESCRIPTORS: usize = 1_024;

/// `fdflags`
pub(super) const APPEND: u16 = 1;
/// `append`, `dsync`, `nonblock`, `rsync` and `sync`; all but the first change nothing here.
pub(super) const KNOWN_FLAGS: u16 = 31;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stream {
    Input,
    Output,
    Error,
}

#[derive(Clone, Debug)]
pub(super) enum Target {
    Stream(Stream),
    File {
        ino: Ino,
        offset: u64,
    },
    Directory {
        ino: Ino,
        /// The path of a preopened directory.
        preopen: Option<Arc<str>>,
    },
}

#[derive(Clone, Debug)]
pub(super) struct Descriptor {
    pub(super) target: Target,
    pub(super) rights: Rights,
    /// Of what is opened from it.
    pub(super) inheriting: Rights,
    pub(super) flags: u16,
}

impl Descriptor {
    fn stream(stream: Stream, right: Rights) -> Self {
        let rights = right | Rights::POLL_FD_READWRITE;
        Self { target: Target::Stream(stream), rights, inheriting: Rights::NONE, flags: 0 }
    }

    pub(super) const fn preopen(ino: Ino, path: Arc<str>) -> Self {
        let target = Target::Directory { ino, preopen: Some(path) };
        Self { target, rights: Rights::DIRECTORY, inheriting: Rights::ALL, flags: 0 }
    }

    /// The inode that it holds.
    pub(super) const fn ino(&self) -> Option<Ino> {
        match self.target {
            Target::Stream(_) => None,
            Target::File { ino, .. } | Target::Directory { ino, .. } => Some(ino),
        }
    }
}

#[derive(Debug)]
pub(super) struct Table(Vec<Option<Descriptor>>);

impl Table {
    pub(super) fn with_streams() -> Self {
        Self(vec![
            Some(Descriptor::stream(Stream::Input, Rights::FD_READ)),
            Some(Descriptor::stream(Stream::Output, Rights::FD_WRITE)),
            Some(Descriptor::stream(Stream::Error, Rights::FD_WRITE)),
        ])
    }

    pub(super) fn find(&self, fd: u32) -> Result<&Descriptor, Errno> {
        self.0.get(fd as usize).and_then(Option::as_ref).ok_or(Errno::Badf)
    }

    pub(super) fn find_mut(&mut self, fd: u32) -> Result<&mut Descriptor, Errno> {
        self.0.get_mut(fd as usize).and_then(Option::as_mut).ok_or(Errno::Badf)
    }

    /// A file, if the descriptor has the rights: its inode and the offset.
    pub(super) fn file(&self, fd: u32, rights: Rights) -> Result<(Ino, u64), Errno> {
        let descriptor = self.find(fd)?;
        match descriptor.target {
            Target::Stream(_) => Err(Errno::Spipe),
            Target::Directory { .. } => Err(Errno::Isdir),
            Target::File { .. } if !descriptor.rights.contains(rights) => Err(Errno::Notcapable),
            Target::File { ino, offset } => Ok((ino, offset)),
        }
    }

    /// A directory, if the descriptor has the rights.
    pub(super) fn directory(&self, fd: u32, rights: Rights) -> Result<Ino, Errno> {
        let descriptor = self.find(fd)?;
        match descriptor.target {
            Target::Directory { ino, .. } if descriptor.rights.contains(rights) => Ok(ino),
            Target::Directory { .. } => Err(Errno::Notcapable),
            _ => Err(Errno::Notdir),
        }
    }

    /// Moves the offset of a file.
    pub(super) fn set_offset(&mut self, fd: u32, to: u64) {
        if let Ok(Descriptor { target: Target::File { offset, .. }, .. }) = self.find_mut(fd) {
            *offset = to;
        }
    }

    /// The lowest number that is free.
    pub(super) fn lowest_free(&self) -> Result<u32, Errno> {
        let free = self.0.iter().position(Option::is_none).unwrap_or(self.0.len());
        u32::try_from(free).ok().filter(|_| free < MAX_DESCRIPTORS).ok_or(Errno::Mfile)
    }

    /// Opens under the lowest free number.
    pub(super) fn insert(&mut self, descriptor: Descriptor) -> Result<u32, Errno> {
        let fd = self.lowest_free()?;
        match self.0.get_mut(fd as usize) {
            Some(slot) => *slot = Some(descriptor),
            None => self.0.push(Some(descriptor)),
        }
        Ok(fd)
    }

    pub(super) fn remove(&mut self, fd: u32) -> Result<Descriptor, Errno> {
        self.0.get_mut(fd as usize).and_then(Option::take).ok_or(Errno::Badf)
    }

    /// Moves a descriptor to the number of another, which comes back to be closed.
    pub(super) fn renumber(&mut self, from: u32, to: u32) -> Result<Option<Descriptor>, Errno> {
        self.find(to)?;
        self.find(from)?;
        if from == to {
            return Ok(None);
        }
        let moved = self.remove(from)?;
        Ok(self.0.get_mut(to as usize).and_then(|slot| slot.replace(moved)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_the_lowest_free() {
        let mut table = Table::with_streams();
        let directory = || Descriptor::preopen(1, "/".into());
        assert_eq!(table.insert(directory()), Ok(3));
        assert_eq!(table.insert(directory()), Ok(4));
        table.remove(1).unwrap();
        assert_eq!(table.insert(directory()), Ok(1));
        assert!(table.renumber(4, 3).unwrap().is_some());
        assert_eq!(table.find(4).err(), Some(Errno::Badf));
        assert_eq!(table.renumber(3, 4).err(), Some(Errno::Badf));
        for fd in 4..1_024 {
            assert_eq!(table.insert(directory()), Ok(fd));
        }
        assert_eq!(table.insert(directory()), Err(Errno::Mfile));
    }
}
