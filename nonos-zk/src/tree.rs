use std::collections::BTreeMap;
use std::sync::OnceLock;

use ark_bn254::Fr;
use ark_ff::Zero;
use nonos_identity::{NodeId, Verified};

use crate::enrolment::Enrolment;
use crate::identity::{IdentityCommitment, IdentityRoot};
use crate::poseidon::{Tag, hash};

/// Levels between a leaf and the root: room for 2^20 operators.
pub const TREE_DEPTH: usize = 20;

/// Why a commitment did not enter the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TreeError {
    /// The commitment is a leaf already.
    #[error("commitment is already in the tree")]
    Duplicate,
    /// All 2^20 leaves are taken.
    #[error("the identity tree is full")]
    Full,
}

/// The Poseidon Merkle tree over the enrolled commitments, empty leaves being zero.
///
/// Proofs made against its root hide which leaf is theirs; the anonymity set is [`Self::len`]. A
/// tree of one is allowed and hides nothing.
#[derive(Clone, Debug, Default)]
pub struct IdentityTree {
    leaves: BTreeMap<IdentityCommitment, u32>,
    /// `levels[h]` maps a position to its node; absent nodes are those of an empty subtree.
    levels: [BTreeMap<u32, Fr>; TREE_DEPTH + 1],
}

/// The siblings from one leaf up to the root; private to its owner, because it tells the leaf.
#[derive(Clone, PartialEq, Eq)]
pub struct TreePath {
    index: u32,
    siblings: [IdentityCommitment; TREE_DEPTH],
}

/// Roots of empty subtrees by height.
fn empty() -> &'static [Fr; TREE_DEPTH + 1] {
    static EMPTY: OnceLock<[Fr; TREE_DEPTH + 1]> = OnceLock::new();
    EMPTY.get_or_init(|| {
        let mut next = Fr::zero();
        core::array::from_fn(|_| {
            let current = next;
            next = hash(Tag::Node, &[current, current]);
            current
        })
    })
}

impl IdentityTree {
    /// An empty tree.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The tree of a set of enrolments: the latest one of each node, in the order of the node ids.
    ///
    /// Nodes that hold the same enrolments get the same root, in whatever order they came. A
    /// commitment that two nodes claim is one leaf.
    ///
    /// # Errors
    /// [`TreeError::Full`] if there are more than 2^20.
    pub fn from_enrolments<'a>(
        enrolments: impl IntoIterator<Item = &'a Verified<Enrolment>>,
    ) -> Result<Self, TreeError> {
        let mut latest: BTreeMap<NodeId, &Enrolment> = BTreeMap::new();
        for enrolment in enrolments {
            let held = latest.entry(enrolment.node).or_insert(enrolment);
            // Two of one epoch are told apart by their bytes, so that order does not matter.
            let rank = |enrolment: &Enrolment| (enrolment.epoch, enrolment.operator.commitment());
            if rank(held) < rank(enrolment) {
                *held = enrolment;
            }
        }
        let mut tree = Self::new();
        for enrolment in latest.values() {
            match tree.insert(enrolment.operator.commitment()) {
                Ok(_) | Err(TreeError::Duplicate) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(tree)
    }

    /// Adds a commitment at the next free leaf and returns its index.
    ///
    /// # Errors
    /// [`TreeError`] if it is there already or the tree is full.
    pub fn insert(&mut self, commitment: IdentityCommitment) -> Result<u32, TreeError> {
        if self.leaves.contains_key(&commitment) {
            return Err(TreeError::Duplicate);
        }
        let index = u32::try_from(self.leaves.len()).map_err(|_| TreeError::Full)?;
        if index >> TREE_DEPTH != 0 {
            return Err(TreeError::Full);
        }
        self.leaves.insert(commitment, index);
        let mut node = commitment.unwrap();
        for height in 0..=TREE_DEPTH {
            if let Some(level) = self.levels.get_mut(height) {
                level.insert(index >> height, node);
            }
            let sibling = self.node(height, (index >> height) ^ 1);
            let children = if (index >> height) & 1 == 0 { [node, sibling] } else { [sibling, node] };
            node = hash(Tag::Node, &children);
        }
        Ok(index)
    }

    /// The root.
    #[must_use]
    pub fn root(&self) -> IdentityRoot {
        IdentityRoot::wrap(&self.node(TREE_DEPTH, 0))
    }

    /// The leaf a commitment is at.
    #[must_use]
    pub fn index_of(&self, commitment: &IdentityCommitment) -> Option<u32> {
        self.leaves.get(commitment).copied()
    }

    /// The path of a leaf, if it is taken.
    #[must_use]
    pub fn path(&self, index: u32) -> Option<TreePath> {
        if usize::try_from(index).is_ok_and(|index| index >= self.leaves.len()) {
            return None;
        }
        let sibling = |height| IdentityCommitment::wrap(&self.node(height, (index >> height) ^ 1));
        Some(TreePath { index, siblings: core::array::from_fn(sibling) })
    }

    /// Number of commitments: the size of the anonymity set.
    #[must_use]
    pub fn len(&self) -> usize {
        self.leaves.len()
    }

    /// Whether nobody is enrolled.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.leaves.is_empty()
    }

    fn node(&self, height: usize, position: u32) -> Fr {
        let node = self.levels.get(height).and_then(|level| level.get(&position));
        node.or_else(|| empty().get(height)).copied().unwrap_or_default()
    }
}

impl TreePath {
    /// The root that this path leads to from a commitment.
    #[must_use]
    pub fn root(&self, commitment: &IdentityCommitment) -> IdentityRoot {
        let root = self.steps().into_iter().fold(commitment.unwrap(), |node, (right, sibling)| {
            hash(Tag::Node, &if right { [sibling, node] } else { [node, sibling] })
        });
        IdentityRoot::wrap(&root)
    }

    /// Leaf and siblings.
    pub(crate) const fn parts(&self) -> (u32, &[IdentityCommitment; TREE_DEPTH]) {
        (self.index, &self.siblings)
    }

    /// The path of a leaf with these siblings, if a tree has such a leaf.
    pub(crate) fn from_parts(index: u32, siblings: [IdentityCommitment; TREE_DEPTH]) -> Option<Self> {
        (index >> TREE_DEPTH == 0).then_some(Self { index, siblings })
    }

    /// From the leaf up: whether the node is a right child, and its sibling.
    pub(crate) fn steps(&self) -> [(bool, Fr); TREE_DEPTH] {
        let mut index = self.index;
        self.siblings.map(|sibling| {
            let is_right = index & 1 == 1;
            index >>= 1;
            (is_right, sibling.unwrap())
        })
    }
}

impl core::fmt::Debug for TreePath {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("TreePath(..)")
    }
}
