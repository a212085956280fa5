//! Merkle trees over digests, and proofs of neighbouring leaves.

use core::ops::Range;

use nonos_identity::Digest;
use rs_merkle::{Hasher, MerkleProof, MerkleTree};
use sha3::{Digest as _, Sha3_256};

/// SHA3-256 with `0x00` before leaves and `0x01` before inner nodes, so that no node is a leaf.
#[derive(Clone)]
struct TreeHasher;

impl Hasher for TreeHasher {
    type Hash = [u8; 32];

    fn hash(data: &[u8]) -> [u8; 32] {
        Sha3_256::new().chain_update([0]).chain_update(data).finalize().into()
    }

    fn concat_and_hash(left: &[u8; 32], right: Option<&[u8; 32]>) -> [u8; 32] {
        // A node without a sibling moves up as it is; the count of leaves is signed, so it has one place.
        let Some(right) = right else { return *left };
        Sha3_256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
    }
}

/// A proof that does not lead from its leaves to the root.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("leaves are not under the root")]
pub(super) struct TreeError;

fn hashed(leaves: &[Digest]) -> Vec<[u8; 32]> {
    leaves.iter().map(|leaf| TreeHasher::hash(leaf.as_bytes())).collect()
}

/// A tree over some leaves.
pub(super) struct Tree(MerkleTree<TreeHasher>);

impl Tree {
    pub(super) fn new(leaves: &[Digest]) -> Self {
        Self(MerkleTree::from_leaves(&hashed(leaves)))
    }

    /// Its root; zero over none.
    pub(super) fn root(&self) -> Digest {
        Digest::from_bytes(self.0.root().unwrap_or_default())
    }

    /// The nodes that lead from a range of the leaves to the root.
    pub(super) fn prove(&self, range: Range<usize>) -> Vec<Digest> {
        let indices: Vec<usize> = range.collect();
        let proof = self.0.proof(&indices);
        proof.proof_hashes().iter().map(|&hash| Digest::from_bytes(hash)).collect()
    }
}

/// Checks that `leaves` are those from `first` on under a root over `total`; the total is of signed data.
pub(super) fn check(
    root: &Digest,
    total: usize,
    first: usize,
    leaves: &[Digest],
    proof: &[Digest],
) -> Result<(), TreeError> {
    let end = first.checked_add(leaves.len()).ok_or(TreeError)?;
    if leaves.is_empty() || end > total || proof.len() != nodes(total, first..end) {
        return Err(TreeError);
    }
    let indices: Vec<usize> = (first..end).collect();
    let proof = MerkleProof::<TreeHasher>::new(proof.iter().map(|node| *node.as_bytes()).collect());
    match proof.root(&indices, &hashed(leaves), total) {
        Ok(made) if made == *root.as_bytes() => Ok(()),
        _ => Err(TreeError),
    }
}

/// Nodes of the proof of a range of leaves: at each level those beside its ends.
fn nodes(mut total: usize, Range { mut start, mut end }: Range<usize>) -> usize {
    let mut count = 0;
    while total > 1 {
        count += usize::from(start % 2 == 1) + usize::from(end % 2 == 1 && end < total);
        (start, end, total) = (start / 2, end.div_ceil(2), total.div_ceil(2));
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves(count: u8) -> Vec<Digest> {
        (0..count).map(|leaf| Digest::from_bytes([leaf; 32])).collect()
    }

    #[test]
    fn every_range_of_every_tree_is_proven_and_nothing_else() {
        for total in 1..=17 {
            let all = leaves(total);
            let (tree, total) = (Tree::new(&all), usize::from(total));
            let root = tree.root();
            for start in 0..total {
                for end in start + 1..=total {
                    let proof = tree.prove(start..end);
                    let part = &all[start..end];
                    assert_eq!(check(&root, total, start, part, &proof), Ok(()), "{start}..{end} of {total}");
                    let mut more = proof.clone();
                    more.push(Digest::from_bytes([9; 32]));
                    assert!(check(&root, total, start, part, &more).is_err());
                    assert!(check(&root, total, start + 1, part, &proof).is_err());
                    let mut other = part.to_vec();
                    other[0] = Digest::from_bytes([99; 32]);
                    assert!(check(&root, total, start, &other, &proof).is_err());
                    if let Some((_, fewer)) = proof.split_last() {
                        assert!(check(&root, total, start, part, fewer).is_err());
                    }
                }
            }
            assert!(check(&root, total, 0, &[], &[]).is_err());
            assert!(check(&root, total, usize::MAX, &all, &[]).is_err());
        }
    }

    #[test]
    fn an_inner_node_is_no_leaf() {
        let all = leaves(4);
        let hashes = hashed(&all);
        let inner = TreeHasher::concat_and_hash(&hashes[0], Some(&hashes[1]));
        let right = TreeHasher::concat_and_hash(&hashes[2], Some(&hashes[3]));
        let proof = [Digest::from_bytes(right)];
        assert!(check(&Tree::new(&all).root(), 2, 0, &[Digest::from_bytes(inner)], &proof).is_err());
    }
}
