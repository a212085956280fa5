//! Operations that change the tree: what exists under which name.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::content::Content;
use super::directory::Directory;
use super::image::{self, Image};
use super::path::{self, Place};
use super::{FileSystem, FsError, Ino, Inode, Kind, Stat, Work};

/// Gas of renumbering one entry of a directory.
const RENUMBER_GAS: u64 = 100;
/// Gas of one step from a directory to its parent.
const PARENT_GAS: u64 = 50;

/// How to open a path.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Open {
    pub(crate) follow: bool,
    pub(crate) create: bool,
    pub(crate) exclusive: bool,
    pub(crate) directory: bool,
    pub(crate) truncate: bool,
    /// Whether the descriptor is to write, which a directory refuses.
    pub(crate) write: bool,
}

impl FileSystem {
    /// Adds a directory tree of its own with the content of an image. Returns its root.
    pub(crate) fn mount(&mut self, image: &Image, now_ns: u64) -> Ino {
        let root = self.next;
        self.add(Kind::Directory(Directory::new(root)), 0, now_ns);
        if let Some(inode) = self.inodes.get_mut(&root) {
            inode.links = 1;
        }
        let mut directories = BTreeMap::from([("", root)]);
        for (path, entry) in image.entries() {
            let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
            // An image lists every directory before what is in it.
            let Some(parent) = directories.get(parent).copied() else { continue };
            let kind = match entry {
                image::Entry::Directory => Kind::Directory(Directory::new(parent)),
                image::Entry::File(blob) => Kind::File(Content::Shared(Arc::clone(blob))),
                image::Entry::Symlink(target) => Kind::Symlink(Arc::clone(target)),
            };
            if matches!(kind, Kind::Directory(_)) {
                directories.insert(path, self.next);
            }
            let ino = self.add(kind, 0, now_ns);
            if let Some(inode) = self.inodes.get_mut(&ino) {
                inode.links = 1;
            }
            if let Ok(directory) = self.directory_mut(parent) {
                directory.insert(name.into(), ino, false);
            }
        }
        root
    }

    /// Opens or creates; the caller has a descriptor to hold what comes back.
    pub(crate) fn open(
        &mut self,
        base: Ino,
        path: &str,
        how: Open,
        now_ns: u64,
        work: &mut Work,
    ) -> Result<Ino, FsError> {
        if how.create && how.directory {
            return Err(FsError::Invalid);
        }
        let follows = (how.follow || path.ends_with('/')) && !(how.create && how.exclusive);
        let place = self.resolve(base, path, follows, work)?;
        let Some(ino) = place.found else {
            if !how.create {
                return Err(FsError::NotFound);
            }
            let name = self.new_name(&place)?;
            if place.has_slash {
                return Err(FsError::IsDirectory);
            }
            let directory = place.directory;
            self.check_quota(0)?;
            let ino = self.add(Kind::File(Content::empty()), 0, now_ns);
            self.link_in(directory, name, ino, now_ns, work)?;
            return Ok(ino);
        };
        if how.create && how.exclusive {
            return Err(FsError::Exists);
        }
        match self.inode(ino)?.kind {
            Kind::Symlink(_) => Err(FsError::Loop),
            Kind::Directory(_) if how.write || how.create || how.truncate => Err(FsError::IsDirectory),
            Kind::File(_) if how.directory || place.has_slash => Err(FsError::NotDirectory),
            Kind::File(_) if how.truncate => self.resize(ino, 0, now_ns, work).map(|()| ino),
            _ => Ok(ino),
        }
    }

    pub(crate) fn find(&self, base: Ino, path: &str, follow: bool, work: &mut Work) -> Result<Stat, FsError> {
        let place = self.resolve(base, path, follow || path.ends_with('/'), work)?;
        let stat = self.stat(place.found.ok_or(FsError::NotFound)?)?;
        if place.has_slash {
            self.directory(stat.ino)?;
        }
        Ok(stat)
    }

    pub(crate) fn create_directory(
        &mut self,
        base: Ino,
        path: &str,
        now_ns: u64,
        work: &mut Work,
    ) -> Result<(), FsError> {
        let place = self.resolve(base, path, false, work)?;
        let (name, parent) = (self.new_name(&place)?, place.directory);
        self.check_quota(0)?;
        let ino = self.add(Kind::Directory(Directory::new(parent)), 0, now_ns);
        self.link_in(parent, name, ino, now_ns, work)
    }

    pub(crate) fn symlink(
        &mut self,
        target: &str,
        base: Ino,
        path: &str,
        now_ns: u64,
        work: &mut Work,
    ) -> Result<(), FsError> {
        path::check(target)?;
        let place = self.resolve(base, path, false, work)?;
        let (name, parent) = (self.new_name(&place)?, place.directory);
        if place.has_slash {
            return Err(FsError::NotFound);
        }
        let bytes = target.len() as u64;
        self.check_quota(bytes)?;
        let ino = self.add(Kind::Symlink(target.into()), bytes, now_ns);
        self.link_in(parent, name, ino, now_ns, work)
    }

    pub(crate) fn read_link(&self, base: Ino, path: &str, work: &mut Work) -> Result<Arc<str>, FsError> {
        let place = self.resolve(base, path, false, work)?;
        match &self.inode(place.found.ok_or(FsError::NotFound)?)?.kind {
            Kind::Symlink(target) if !place.has_slash => Ok(Arc::clone(target)),
            _ => Err(FsError::Invalid),
        }
    }

    /// A second name for a file or symbolic link.
    pub(crate) fn link(
        &mut self,
        from: (Ino, &str),
        to: (Ino, &str),
        now_ns: u64,
        work: &mut Work,
    ) -> Result<(), FsError> {
        let source = self.resolve(from.0, from.1, false, work)?;
        let ino = source.found.ok_or(FsError::NotFound)?;
        if matches!(self.inode(ino)?.kind, Kind::Directory(_)) {
            return Err(FsError::NotPermitted);
        }
        if source.has_slash {
            return Err(FsError::NotDirectory);
        }
        let place = self.resolve(to.0, to.1, false, work)?;
        let (name, parent) = (self.new_name(&place)?, place.directory);
        if place.has_slash {
            return Err(FsError::NotFound);
        }
        self.check_quota(0)?;
        self.link_in(parent, name, ino, now_ns, work)?;
        self.inode_mut(ino)?.times.changed_ns = now_ns;
        Ok(())
    }

    pub(crate) fn unlink(
        &mut self,
        base: Ino,
        path: &str,
        now_ns: u64,
        work: &mut Work,
    ) -> Result<(), FsError> {
        let place = self.resolve(base, path, false, work)?;
        let ino = place.found.ok_or(FsError::NotFound)?;
        if matches!(self.inode(ino)?.kind, Kind::Directory(_)) {
            return Err(FsError::IsDirectory);
        }
        if place.has_slash {
            return Err(FsError::NotDirectory);
        }
        let (directory, (name, _)) = (place.directory, place.named()?);
        let name = name.to_owned();
        self.link_out(directory, &name, now_ns)
    }

    pub(crate) fn remove_directory(
        &mut self,
        base: Ino,
        path: &str,
        now_ns: u64,
        work: &mut Work,
    ) -> Result<(), FsError> {
        let place = self.resolve(base, path, false, work)?;
        let (name, ino) = place.named().map_err(|error| match error {
            FsError::Busy => FsError::Invalid,
            error => error,
        })?;
        if self.directory(ino)?.len() > 0 {
            return Err(FsError::NotEmpty);
        }
        let (directory, name) = (place.directory, name.to_owned());
        self.link_out(directory, &name, now_ns)
    }

    /// Gives an entry another name, in place of what has it, as `rename(2)` does.
    pub(crate) fn rename(
        &mut self,
        from: (Ino, &str),
        to: (Ino, &str),
        now_ns: u64,
        work: &mut Work,
    ) -> Result<(), FsError> {
        let source = self.resolve(from.0, from.1, false, work)?;
        let (old_name, ino) = source.named()?;
        let target = self.resolve(to.0, to.1, false, work)?;
        let new_name = target.name.ok_or(FsError::Busy)?;
        let is_directory = matches!(self.inode(ino)?.kind, Kind::Directory(_));
        if (source.has_slash || target.has_slash) && !is_directory {
            return Err(FsError::NotDirectory);
        }
        self.check_linked(target.directory)?;
        if is_directory {
            self.check_outside(ino, target.directory, work)?;
        }
        let replaced = target.found;
        match replaced {
            Some(there) if there == ino => return Ok(()),
            Some(there) => match &self.inode(there)?.kind {
                Kind::Directory(_) if !is_directory => return Err(FsError::IsDirectory),
                Kind::Directory(directory) if directory.len() > 0 => return Err(FsError::NotEmpty),
                Kind::File(_) | Kind::Symlink(_) if is_directory => return Err(FsError::NotDirectory),
                _ => {}
            },
            None => {}
        }
        let (old_name, new_name): (Arc<str>, Arc<str>) = (old_name.into(), new_name.into());
        let (old_parent, new_parent) = (source.directory, target.directory);
        let frees = |directory: Ino, name: &str| -> Result<bool, FsError> {
            Ok(self.directory(directory)?.find(name).is_some_and(|entry| entry.is_own))
        };
        // What is there goes first; an entry of an image frees nothing.
        let is_covered = frees(old_parent, &old_name)? || replaced.is_some() && frees(new_parent, &new_name)?;
        if !is_covered {
            self.check_quota(0)?;
        }
        if replaced.is_some() {
            self.link_out(new_parent, &new_name, now_ns)?;
        }
        // The inode must not go while it has no name.
        self.retain(ino);
        let moved = self
            .link_out(old_parent, &old_name, now_ns)
            .and_then(|()| self.link_in(new_parent, new_name, ino, now_ns, work));
        self.release(ino);
        moved?;
        let inode = self.inode_mut(ino)?;
        inode.times.changed_ns = now_ns;
        if let Kind::Directory(directory) = &mut inode.kind {
            directory.parent = new_parent;
        }
        Ok(())
    }

    /// Checks that a directory would not move into itself.
    fn check_outside(&self, moving: Ino, directory: Ino, work: &mut Work) -> Result<(), FsError> {
        let mut at = directory;
        loop {
            if at == moving {
                return Err(FsError::Invalid);
            }
            work.pay(PARENT_GAS)?;
            match self.directory(at) {
                Ok(directory) if directory.parent != at => at = directory.parent,
                _ => return Ok(()),
            }
        }
    }

    /// Checks that something can be created in a directory: a removed one takes nothing.
    fn check_linked(&self, directory: Ino) -> Result<(), FsError> {
        if self.inode(directory)?.links == 0 { Err(FsError::NotFound) } else { Ok(()) }
    }

    /// The name of something that is to be created.
    fn new_name(&self, place: &Place<'_>) -> Result<Arc<str>, FsError> {
        match (place.name, place.found) {
            (Some(name), None) => self.check_linked(place.directory).map(|()| name.into()),
            (_, Some(ino)) if place.has_slash && self.directory(ino).is_err() => Err(FsError::NotDirectory),
            _ => Err(FsError::Exists),
        }
    }

    /// Checks that one entry more and some bytes fit.
    fn check_quota(&self, bytes: u64) -> Result<(), FsError> {
        let has_room =
            self.used.files < self.quota.files && bytes <= self.quota.bytes.saturating_sub(self.used.bytes);
        if has_room { Ok(()) } else { Err(FsError::NoSpace) }
    }

    fn link_in(
        &mut self,
        parent: Ino,
        name: Arc<str>,
        ino: Ino,
        now_ns: u64,
        work: &mut Work,
    ) -> Result<(), FsError> {
        let renumbered = self.directory_mut(parent)?.insert(name, ino, true);
        self.used.files += 1;
        self.inode_mut(ino)?.links += 1;
        self.modified(parent, now_ns);
        work.pay((renumbered as u64).saturating_mul(RENUMBER_GAS))
    }

    fn link_out(&mut self, parent: Ino, name: &str, now_ns: u64) -> Result<(), FsError> {
        let entry = self.directory_mut(parent)?.remove(name).ok_or(FsError::NotFound)?;
        self.used.files -= u64::from(entry.is_own);
        let Inode { links, times, .. } = self.inode_mut(entry.ino)?;
        *links = links.saturating_sub(1);
        times.changed_ns = now_ns;
        self.modified(parent, now_ns);
        self.drop_unused(entry.ino);
        Ok(())
    }

    fn modified(&mut self, directory: Ino, now_ns: u64) {
        if let Ok(inode) = self.inode_mut(directory) {
            inode.times.modified_ns = now_ns;
            inode.times.changed_ns = now_ns;
        }
    }

    /// What is under a directory, as an image that can be mounted again.
    pub(crate) fn to_image(&self, root: Ino) -> Image {
        let mut entries = BTreeMap::new();
        let mut ahead = vec![(String::new(), root)];
        while let Some((prefix, ino)) = ahead.pop() {
            let Ok(directory) = self.directory(ino) else { continue };
            for (name, ino) in directory.entries() {
                let path = if prefix.is_empty() { name.to_string() } else { format!("{prefix}/{name}") };
                let entry = match self.inode(ino).map(|inode| &inode.kind) {
                    Ok(Kind::File(content)) => image::Entry::File(content.to_blob()),
                    Ok(Kind::Symlink(target)) => image::Entry::Symlink(Arc::clone(target)),
                    _ => {
                        ahead.push((path.clone(), ino));
                        image::Entry::Directory
                    }
                };
                entries.insert(path, entry);
            }
        }
        Image::from_entries(entries)
    }
}
