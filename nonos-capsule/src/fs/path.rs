//! From a directory and a relative path to an inode, without ever leaving the directory.

use std::collections::VecDeque;

use super::{FileSystem, FsError, Ino, Kind, Work};

/// Longest path, in bytes; bounds the copy of it and the walk along it.
pub(crate) const MAX_PATH_BYTES: usize = 4_096;
/// Longest name of an entry, in bytes.
pub(crate) const MAX_NAME_BYTES: usize = 255;
/// Most symbolic links that one path may lead through; stops loops of them.
pub(crate) const MAX_SYMLINKS: usize = 40;
/// Gas of looking up one name of a path.
const STEP_GAS: u64 = 200;

/// Where a path ends.
pub(super) struct Place<'a> {
    pub(super) directory: Ino,
    /// The last name; `None` if the path ends at a directory that it did not name: `.`, `a/..`.
    pub(super) name: Option<&'a str>,
    pub(super) found: Option<Ino>,
    /// Whether a slash at the end asks for a directory.
    pub(super) has_slash: bool,
}

impl<'a> Place<'a> {
    /// The name and what it stands for.
    pub(super) fn named(&self) -> Result<(&'a str, Ino), FsError> {
        let name = self.name.ok_or(FsError::Busy)?;
        Ok((name, self.found.ok_or(FsError::NotFound)?))
    }
}

/// Checks what any path must be, whether or not it leads anywhere.
pub(super) fn check(path: &str) -> Result<(), FsError> {
    if path.is_empty() {
        return Err(FsError::NotFound);
    }
    if path.len() > MAX_PATH_BYTES {
        return Err(FsError::NameTooLong);
    }
    if path.contains('\0') {
        return Err(FsError::Invalid);
    }
    if path.starts_with('/') {
        return Err(FsError::Escape);
    }
    Ok(())
}

/// What follows on what the path has led to so far; a dot asks for a directory before it.
fn names(path: &str) -> impl DoubleEndedIterator<Item = &str> {
    path.split('/').filter(|name| !name.is_empty())
}

impl FileSystem {
    /// Walks from `base`. The walk remembers the directories it came through, so `..` is the way
    /// back and never the parent on record: no link, removal or renaming leads above `base`.
    pub(super) fn resolve<'a>(
        &'a self,
        base: Ino,
        path: &'a str,
        follow: bool,
        work: &mut Work,
    ) -> Result<Place<'a>, FsError> {
        check(path)?;
        self.directory(base)?;
        work.pay(path.len() as u64)?;
        let mut has_slash = path.ends_with('/');
        let mut came_from = Vec::new();
        let mut directory = base;
        let mut ahead: VecDeque<&str> = names(path).collect();
        let mut symlinks = 0;
        while let Some(name) = ahead.pop_front() {
            work.pay(STEP_GAS)?;
            match name {
                "." => continue,
                ".." => {
                    directory = came_from.pop().ok_or(FsError::Escape)?;
                    continue;
                }
                _ => {}
            }
            if name.len() > MAX_NAME_BYTES {
                return Err(FsError::NameTooLong);
            }
            let is_last = ahead.is_empty();
            let Some(entry) = self.directory(directory)?.find(name) else {
                if is_last {
                    return Ok(Place { directory, name: Some(name), found: None, has_slash });
                }
                return Err(FsError::NotFound);
            };
            let found = entry.ino;
            match &self.inode(found)?.kind {
                Kind::Symlink(target) if !is_last || follow => {
                    symlinks += 1;
                    if symlinks > MAX_SYMLINKS {
                        return Err(FsError::Loop);
                    }
                    work.pay(target.len() as u64)?;
                    check(target)?;
                    has_slash |= is_last && target.ends_with('/');
                    for name in names(target).rev() {
                        ahead.push_front(name);
                    }
                }
                _ if is_last => {
                    return Ok(Place { directory, name: Some(name), found: Some(found), has_slash });
                }
                Kind::Directory(_) => {
                    came_from.push(directory);
                    directory = found;
                }
                _ => return Err(FsError::NotDirectory),
            }
        }
        Ok(Place { directory, name: None, found: Some(directory), has_slash })
    }
}
