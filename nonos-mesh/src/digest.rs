//! State digests: one 32-byte root per collection that two nodes compare to see whether they
//! hold the same items.
//!
//! The ids of a collection fall into [`BUCKETS`] by their first byte; a bucket's digest is the
//! SHA3-256 of its sorted ids, and the root is a Merkle tree over the buckets at fixed positions.
//! The order of arrival therefore does not matter, and a collision is a SHA3-256 collision: there
//! is no homomorphic sum whose inputs a neighbour could grind. An insertion hashes one bucket
//! again (4 KiB at 32 k items) and eight inner nodes, both only when the root is next asked for.

use std::collections::BTreeSet;

use minicbor::{Decode, Encode};
use nonos_identity::Digest;
use rs_merkle::{Hasher, MerkleTree};
use sha3::{Digest as _, Sha3_256};

use crate::domains;
use crate::item::{Collection, ItemId};

/// Buckets of a collection: the values of an id's first byte.
pub const BUCKETS: usize = 256;

/// What a node says it holds of one collection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct StateDigest {
    /// Which collection.
    #[n(0)]
    pub collection: Collection,
    /// How many items.
    #[n(1)]
    pub count: u64,
    /// Merkle root over the bucket digests.
    #[n(2)]
    pub root: Digest,
}

/// SHA3-256 with `0x00` before leaves and `0x01` before inner nodes.
#[derive(Clone)]
struct TreeHasher;

impl Hasher for TreeHasher {
    type Hash = [u8; 32];

    fn hash(data: &[u8]) -> [u8; 32] {
        Sha3_256::new().chain_update([0]).chain_update(data).finalize().into()
    }

    fn concat_and_hash(left: &[u8; 32], right: Option<&[u8; 32]>) -> [u8; 32] {
        // 256 leaves make a perfect tree; `rs_merkle` 1.5 passes its top once more, without a sibling.
        let Some(right) = right else { return *left };
        Sha3_256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
    }
}

/// The root over bucket digests in bucket order.
pub(crate) fn root_of(buckets: &[Digest]) -> Digest {
    let leaves: Vec<_> = buckets.iter().map(|d| TreeHasher::hash(d.as_bytes())).collect();
    Digest::from_bytes(MerkleTree::<TreeHasher>::from_leaves(&leaves).root().unwrap_or_default())
}

pub(crate) const fn bucket_of(id: &ItemId) -> u8 {
    let [first, ..] = *id.as_bytes();
    first
}

/// The first and the last id of a bucket.
pub(crate) fn bounds(bucket: u8) -> (ItemId, ItemId) {
    let [mut first, mut last] = [[0; 32], [0xff; 32]];
    (first[0], last[0]) = (bucket, bucket);
    (ItemId::from_bytes(first), ItemId::from_bytes(last))
}

/// The ids of one collection with their digests, which are computed when asked for.
#[derive(Debug)]
pub(crate) struct Index {
    ids: BTreeSet<ItemId>,
    buckets: Vec<Digest>,
    /// The tree of [`root_of`] as a heap: the root at 1, the children of `i` at `2i` and `2i + 1`.
    tree: Vec<[u8; 32]>,
    stale: BTreeSet<u8>,
}

impl Index {
    pub(crate) fn new() -> Self {
        let empty = Digest::of(domains::BUCKET, &[]);
        let mut tree = vec![TreeHasher::hash(empty.as_bytes()); 2 * BUCKETS];
        for level in (0..BUCKETS.ilog2()).rev() {
            // All nodes of a level are equal while the collection is empty.
            let first = 1 << level;
            let child = tree.get(2 * first).copied().unwrap_or_default();
            let node = TreeHasher::concat_and_hash(&child, Some(&child));
            tree.iter_mut().skip(first).take(first).for_each(|slot| *slot = node);
        }
        Self { ids: BTreeSet::new(), buckets: vec![empty; BUCKETS], tree, stale: BTreeSet::new() }
    }

    pub(crate) fn insert(&mut self, id: ItemId) -> bool {
        let new = self.ids.insert(id);
        if new {
            self.stale.insert(bucket_of(&id));
        }
        new
    }

    pub(crate) fn remove(&mut self, id: &ItemId) -> bool {
        let held = self.ids.remove(id);
        if held {
            self.stale.insert(bucket_of(id));
        }
        held
    }

    pub(crate) fn contains(&self, id: &ItemId) -> bool {
        self.ids.contains(id)
    }

    pub(crate) fn len(&self) -> usize {
        self.ids.len()
    }

    /// The ids of one bucket, sorted.
    fn bucket(&self, bucket: u8) -> impl Iterator<Item = &ItemId> {
        let (first, last) = bounds(bucket);
        self.range(first, last)
    }

    /// The ids from `first` to `last`, sorted; `first` must not exceed `last`.
    pub(crate) fn range(&self, first: ItemId, last: ItemId) -> impl Iterator<Item = &ItemId> {
        self.ids.range(first..=last)
    }

    /// The bucket digests in bucket order.
    pub(crate) fn buckets(&mut self) -> &[Digest] {
        let mut parents = BTreeSet::new();
        for bucket in core::mem::take(&mut self.stale) {
            let ids: Vec<&[u8]> = self.bucket(bucket).map(|id| &id.as_bytes()[..]).collect();
            let digest = Digest::of(domains::BUCKET, &ids);
            let at = usize::from(bucket);
            if let (Some(slot), Some(leaf)) = (self.buckets.get_mut(at), self.tree.get_mut(BUCKETS + at)) {
                *slot = digest;
                *leaf = TreeHasher::hash(digest.as_bytes());
                parents.insert((BUCKETS + at) / 2);
            }
        }
        // The highest number first: children before their parents.
        while let Some(at) = parents.pop_last() {
            if let Some([left, right]) = self.tree.get(2 * at..2 * at + 2).and_then(<[_]>::as_array) {
                let node = TreeHasher::concat_and_hash(left, Some(right));
                self.tree.get_mut(at).into_iter().for_each(|slot| *slot = node);
            }
            if at > 1 {
                parents.insert(at / 2);
            }
        }
        &self.buckets
    }

    pub(crate) fn digest(&mut self, collection: Collection) -> StateDigest {
        self.buckets();
        let root = Digest::from_bytes(self.tree.get(1).copied().unwrap_or_default());
        StateDigest { collection, count: self.ids.len() as u64, root }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::item::ItemKind;

    fn ids(n: u32) -> Vec<ItemId> {
        (0..n).map(|i| ItemId::of(ItemKind::Receipt, &i.to_le_bytes())).collect()
    }

    #[test]
    fn order_does_not_matter_and_content_does() {
        let (mut a, mut b) = (Index::new(), Index::new());
        for id in ids(500) {
            a.insert(id);
        }
        for id in ids(500).into_iter().rev() {
            b.insert(id);
            // Interleaved queries must not change the result.
            b.digest(Collection::Receipts);
        }
        assert_eq!(a.digest(Collection::Receipts), b.digest(Collection::Receipts));
        assert!(b.remove(&ids(1)[0]));
        assert_ne!(a.digest(Collection::Receipts).root, b.digest(Collection::Receipts).root);
        assert!(b.insert(ids(1)[0]));
        assert_eq!(a.digest(Collection::Receipts), b.digest(Collection::Receipts));
    }

    #[test]
    fn the_root_binds_the_bucket_list() {
        let mut index = Index::new();
        ids(5_000).into_iter().for_each(|id| assert!(index.insert(id)));
        let mut buckets = index.buckets().to_vec();
        let root = index.digest(Collection::App).root;
        assert_eq!(root_of(&buckets), root);
        let mut empty = Index::new();
        assert_eq!(root_of(empty.buckets()), empty.digest(Collection::App).root);
        buckets.swap(3, 4);
        assert_ne!(root_of(&buckets), root);
    }
}
