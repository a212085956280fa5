//! What always holds, for tests and fuzzing.

use std::collections::BTreeMap;

use super::commit::Commit;
use super::{COOKIE_PARENT, FileSystem, Ino, Kind, Usage};

impl FileSystem {
    /// Recomputes everything that is kept up to date on the way.
    ///
    /// # Panics
    /// If anything differs.
    pub(crate) fn check(&mut self) {
        let (mut links, mut used, mut bytes) = (BTreeMap::<Ino, u32>::new(), Usage::default(), 0);
        for (ino, inode) in &self.inodes {
            used.bytes += inode.charged;
            match &inode.kind {
                Kind::File(content) => bytes += content.bytes().len() as u64,
                Kind::Symlink(_) => {}
                Kind::Directory(directory) => {
                    let mut cookie = COOKIE_PARENT;
                    for (name, child) in directory.entries() {
                        *links.entry(child).or_default() += 1;
                        let entry = directory.find(name).expect("listed");
                        used.files += u64::from(entry.is_own);
                        let (next, listed, listed_ino) = directory.after(cookie).expect("as many cookies");
                        assert_eq!((listed, listed_ino), (&**name, child), "cookies in the order of names");
                        cookie = next;
                        if let Some(Kind::Directory(below)) = self.inodes.get(&child).map(|inode| &inode.kind)
                        {
                            assert_eq!(below.parent, *ino, "a directory knows its parent");
                        }
                    }
                    assert!(directory.after(cookie).is_none());
                    if directory.parent == *ino {
                        *links.entry(*ino).or_default() += 1;
                    }
                }
            }
        }
        for (ino, inode) in &self.inodes {
            assert_eq!(links.remove(ino).unwrap_or(0), inode.links, "links of {ino}");
            assert!(inode.links > 0 || inode.handles > 0, "{ino} is held by something");
        }
        assert!(links.is_empty(), "entries of nothing");
        assert_eq!((used, bytes), (self.used, self.bytes));
        assert!(used.bytes <= self.quota.bytes && used.files <= self.quota.files, "{used:?}");

        let root = self.root();
        self.commit = Commit::default();
        for ino in self.inodes.keys() {
            self.commit.touch(*ino);
        }
        assert_eq!(root, self.root(), "an incremental root is a fresh one");
    }
}
