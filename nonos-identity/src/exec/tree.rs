use rs_merkle::{Hasher, MerkleProof, MerkleTree};
use sha3::{Digest as _, Sha3_256};

use crate::digest::Digest;
use crate::domains::EXEC_LEAF;
use crate::key::PublicKey;
use crate::time::Epoch;

/// Depth of every epoch tree. One number for all nodes and all times: a tree that grew with its
/// use would tell how much a node runs, and one of another depth would tell nodes apart.
pub const LOG2_SLOTS: u8 = 10;

/// Slots of an epoch, 1024: at least as many runs as a node does in ten minutes.
pub const SLOTS_PER_EPOCH: u32 = 1 << LOG2_SLOTS;

/// SHA3-256, with a tag that tells leaves (`0x00`) from nodes (`0x01`).
#[derive(Clone, Debug)]
pub(super) struct SlotHasher;

impl Hasher for SlotHasher {
    type Hash = [u8; 32];

    fn hash(data: &[u8]) -> [u8; 32] {
        Sha3_256::new().chain_update([0]).chain_update(data).finalize().into()
    }

    fn concat_and_hash(left: &[u8; 32], right: Option<&[u8; 32]>) -> [u8; 32] {
        // A tree of 2^k leaves is perfect; `rs_merkle` 1.5 passes its top once more, without a sibling.
        let Some(right) = right else { return *left };
        Sha3_256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
    }
}

/// The leaf of a slot. Whoever lacks the blind cannot tell which key it hides.
pub(super) fn leaf(epoch: Epoch, slot: u32, exec_key: &PublicKey, blind: &[u8; 32]) -> [u8; 32] {
    let content = Digest::of(
        EXEC_LEAF,
        &[&epoch.number().to_le_bytes(), &slot.to_le_bytes(), exec_key.as_bytes(), blind],
    );
    SlotHasher::hash(content.as_bytes())
}

/// The tree of an epoch.
pub(super) struct SlotTree(MerkleTree<SlotHasher>);

impl SlotTree {
    /// Of exactly [`SLOTS_PER_EPOCH`] leaves, in the order of the slots.
    pub(super) fn new(leaves: &[[u8; 32]]) -> Self {
        Self(MerkleTree::from_leaves(leaves))
    }

    pub(super) fn root(&self) -> Digest {
        Digest::from_bytes(self.0.root().unwrap_or_default())
    }

    /// The siblings of a slot, from the leaf up.
    pub(super) fn path(&self, slot: u32) -> Vec<Digest> {
        let proof = self.0.proof(&[slot as usize]);
        proof.proof_hashes().iter().copied().map(Digest::from_bytes).collect()
    }
}

/// Whether a leaf stands at a slot. The caller has checked that the slot is below
/// [`SLOTS_PER_EPOCH`] and the path has [`LOG2_SLOTS`] siblings, and has computed the leaf itself:
/// `rs_merkle` would take an inner node for a leaf of a smaller tree.
pub(super) fn stands_at(root: &Digest, slot: u32, leaf: [u8; 32], path: &[Digest]) -> bool {
    let proof = MerkleProof::<SlotHasher>::new(path.iter().map(|node| *node.as_bytes()).collect());
    proof.verify(*root.as_bytes(), &[slot as usize], &[leaf], SLOTS_PER_EPOCH as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves() -> Vec<[u8; 32]> {
        (0..SLOTS_PER_EPOCH).map(|slot| SlotHasher::hash(&slot.to_le_bytes())).collect()
    }

    /// The definition, level by level.
    #[test]
    fn the_root_is_that_of_the_definition() {
        let mut level = leaves();
        while level.len() > 1 {
            let pairs = level.chunks(2);
            level =
                pairs.map(|p| Sha3_256::digest([&[1][..], &p[0][..], &p[1][..]].concat()).into()).collect();
        }
        assert_eq!(SlotTree::new(&leaves()).root(), Digest::from_bytes(level[0]));
    }

    #[test]
    fn every_leaf_stands_at_its_slot_and_at_no_other() {
        let (tree, leaves) = (SlotTree::new(&leaves()), leaves());
        for slot in (0..SLOTS_PER_EPOCH).step_by(31) {
            let path = tree.path(slot);
            assert_eq!(path.len(), usize::from(LOG2_SLOTS));
            assert!(stands_at(&tree.root(), slot, leaves[slot as usize], &path));
            assert!(!stands_at(&tree.root(), slot ^ 1, leaves[slot as usize], &path));
            assert!(!stands_at(&tree.root(), slot, leaves[slot as usize ^ 1], &path));
            for at in 0..path.len() {
                let mut altered = path.clone();
                altered[at] = Digest::of_bytes(b"other");
                assert!(!stands_at(&tree.root(), slot, leaves[slot as usize], &altered), "{slot} {at}");
            }
        }
    }

    #[test]
    fn an_inner_node_is_no_leaf() {
        let (tree, leaves) = (SlotTree::new(&leaves()), leaves());
        let inner = SlotHasher::concat_and_hash(&leaves[0], Some(&leaves[1]));
        let path = tree.path(0);
        assert!(!stands_at(&tree.root(), 0, inner, &path[1..]));
        assert!(!stands_at(&tree.root(), 0, inner, &path));
        // What the count from signed data is for: a smaller tree takes it.
        let proof = MerkleProof::<SlotHasher>::new(path[1..].iter().map(|node| *node.as_bytes()).collect());
        assert!(proof.verify(*tree.root().as_bytes(), &[0], &[inner], 512));
    }
}
