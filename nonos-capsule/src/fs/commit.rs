//! The commitment to a file system: keyed BLAKE3 over pages, files, inodes and groups of them.
//!
//! ```text
//! page  = H_page(up to 4 KiB)
//! file  = H(file, length, pages)
//! inode = H(inode, number, links, times, kind, file | target | entries by name: name and number)
//! group = H(group, inodes of 64 successive numbers)
//! root  = H(root, number and hash of each group)
//! ```
//! Fields of variable length carry their length. Only what changed since the last root is
//! hashed again. Open descriptors are not part of it; between two checkpoints determinism and
//! the log of host calls imply them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use nonos_identity::Digest;

use super::{FileSystem, Ino, Kind};
use crate::domains::FILES;

pub(crate) type Leaf = [u8; 32];

/// Inodes of a group: bounds what the change of one hashes beside itself.
const GROUP_INODES: u64 = 64;

struct Keys {
    page: Leaf,
    node: Leaf,
}

static KEYS: LazyLock<Keys> = LazyLock::new(|| Keys {
    page: *Digest::of(FILES, &[b"page"]).as_bytes(),
    node: *Digest::of(FILES, &[b"node"]).as_bytes(),
});

/// The hash of a page of a file.
pub(super) fn page(bytes: &[u8]) -> Leaf {
    *blake3::keyed_hash(&KEYS.page, bytes).as_bytes()
}

/// A hash over fields.
pub(super) struct Node(blake3::Hasher);

impl Node {
    pub(super) fn new(name: &[u8]) -> Self {
        let mut node = Self(blake3::Hasher::new_keyed(&KEYS.node));
        node.field(name);
        node
    }

    pub(super) fn number(&mut self, value: u64) {
        self.0.update(&value.to_le_bytes());
    }

    pub(super) fn field(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.update(bytes);
    }

    /// A field of fixed length.
    pub(super) fn raw(&mut self, leaf: &Leaf) {
        self.0.update(leaf);
    }

    pub(super) fn finish(self) -> Leaf {
        *self.0.finalize().as_bytes()
    }
}

/// What is known of the last root.
#[derive(Default)]
pub(super) struct Commit {
    dirty: BTreeSet<Ino>,
    inodes: BTreeMap<Ino, Leaf>,
    groups: BTreeMap<u64, Leaf>,
    root: Option<Leaf>,
}

impl Commit {
    /// Notes that an inode changed, appeared or went.
    pub(super) fn touch(&mut self, ino: Ino) {
        self.dirty.insert(ino);
    }
}

impl FileSystem {
    /// The commitment to everything in it; `None` if nothing is mounted.
    pub(crate) fn root(&mut self) -> Option<Leaf> {
        let dirty = core::mem::take(&mut self.commit.dirty);
        if dirty.is_empty() {
            return self.commit.root;
        }
        let mut groups = BTreeSet::new();
        for ino in dirty {
            groups.insert(ino / GROUP_INODES);
            match self.inode_root(ino) {
                Some(leaf) => self.commit.inodes.insert(ino, leaf),
                None => self.commit.inodes.remove(&ino),
            };
        }
        for group in groups {
            let first = group * GROUP_INODES;
            let mut members = self.commit.inodes.range(first..first + GROUP_INODES).peekable();
            if members.peek().is_none() {
                self.commit.groups.remove(&group);
                continue;
            }
            let mut node = Node::new(b"group");
            for (_, leaf) in members {
                node.raw(leaf);
            }
            self.commit.groups.insert(group, node.finish());
        }
        let mut node = Node::new(b"root");
        for (group, leaf) in &self.commit.groups {
            node.number(*group);
            node.raw(leaf);
        }
        self.commit.root = Some(node.finish());
        self.commit.root
    }

    fn inode_root(&mut self, ino: Ino) -> Option<Leaf> {
        let inode = self.inodes.get_mut(&ino)?;
        let mut node = Node::new(b"inode");
        node.number(ino);
        node.number(u64::from(inode.links));
        for time in [inode.times.accessed_ns, inode.times.modified_ns, inode.times.changed_ns] {
            node.number(time);
        }
        match &mut inode.kind {
            Kind::File(content) => {
                node.number(0);
                node.raw(&content.root());
            }
            Kind::Directory(directory) => {
                node.number(1);
                node.number(directory.len() as u64);
                for (name, ino) in directory.entries() {
                    node.field(name.as_bytes());
                    node.number(ino);
                }
            }
            Kind::Symlink(target) => {
                node.number(2);
                node.field(target.as_bytes());
            }
        }
        Some(node.finish())
    }
}
