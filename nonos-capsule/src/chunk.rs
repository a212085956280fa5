//! Chunks of a payload, each verifiable alone.
//!
//! `leaf = SHA3-512(0x00 || index u32 || len u32 || data)`, `node = SHA3-512(0x01 || l || r)`,
//! little-endian; a node without a right sibling moves up unchanged.

use minicbor::{Decode, Encode};
use nonos_identity::WideDigest;
use nonos_identity::wire::Wire;
use rs_merkle::{Hasher, MerkleProof, MerkleTree};
use sha3::{Digest as _, Sha3_512};

/// Length of every chunk but the last, in bytes: small enough to verify before storing, large
/// enough that the proof is a small share.
pub const CHUNK_BYTES: usize = CHUNK_SIZE as usize;

/// The same as it stands in the signed chunk table.
const CHUNK_SIZE: u32 = 64 * 1024;

/// Longest path of a chunk: 2^16 chunks are 4 GiB, beyond any capsule.
const MAX_PATH: usize = 16;

#[derive(Clone)]
pub(crate) struct ChunkHasher;

impl Hasher for ChunkHasher {
    type Hash = [u8; 64];

    /// Only ever called by `concat_and_hash`, with two nodes.
    fn hash(nodes: &[u8]) -> [u8; 64] {
        let mut hash = Sha3_512::new();
        hash.update([1]);
        hash.update(nodes);
        hash.finalize().into()
    }
}

fn leaf(index: u32, data: &[u8]) -> [u8; 64] {
    let mut hash = Sha3_512::new();
    hash.update([0]);
    hash.update(index.to_le_bytes());
    hash.update((data.len() as u64).to_le_bytes());
    hash.update(data);
    hash.finalize().into()
}

/// The signed facts about the chunks of a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct ChunkTable {
    #[n(0)]
    pub(crate) chunk_bytes: u32,
    #[n(1)]
    pub(crate) count: u32,
    #[n(2)]
    pub(crate) root: WideDigest,
}

impl Wire for ChunkTable {
    const MAX_BYTES: usize = 128;
}

/// A piece of a payload with its path to the chunk root.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Chunk {
    /// Position in the payload, in units of [`CHUNK_BYTES`].
    #[n(0)]
    pub index: u32,
    /// The bytes: [`CHUNK_BYTES`] of them but in the last chunk.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub data: Vec<u8>,
    /// The siblings, from the leaf up.
    #[n(2)]
    pub proof: Vec<WideDigest>,
}

impl Wire for Chunk {
    const MAX_BYTES: usize = CHUNK_BYTES + 2_048;
}

/// Why a chunk is not a part of the payload. Always its sender's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChunkError {
    /// No such position.
    #[error("chunk {index} of {count}")]
    Index {
        /// The position claimed.
        index: u32,
        /// Chunks there are.
        count: u32,
    },
    /// Not as long as the chunk of this position.
    #[error("chunk of {found} bytes where {expected} are expected")]
    Length {
        /// Bytes of this chunk by the signed size.
        expected: usize,
        /// Bytes received.
        found: usize,
    },
    /// A path of the wrong length for this position.
    #[error("path of {found} siblings where {expected} are expected")]
    Path {
        /// Siblings on the path of this position.
        expected: usize,
        /// Siblings received.
        found: usize,
    },
    /// The path leads to another root.
    #[error("chunk does not lead to the signed root")]
    Root,
}

impl ChunkTable {
    pub(crate) fn of(payload: &[u8]) -> Self {
        let tree = tree(payload);
        Self {
            chunk_bytes: CHUNK_SIZE,
            count: count(payload.len() as u64),
            root: WideDigest::from_bytes(tree.root().unwrap_or([0; 64])),
        }
    }

    pub(crate) fn check(&self, size_bytes: u64, chunk: &Chunk) -> Result<(), ChunkError> {
        let Chunk { index, data, proof } = chunk;
        if *index >= self.count {
            return Err(ChunkError::Index { index: *index, count: self.count });
        }
        let start = u64::from(*index) * CHUNK_BYTES as u64;
        let expected =
            usize::try_from(size_bytes.saturating_sub(start)).unwrap_or(usize::MAX).min(CHUNK_BYTES);
        if data.len() != expected {
            return Err(ChunkError::Length { expected, found: data.len() });
        }
        let expected = path_len(*index, self.count);
        if proof.len() != expected || expected > MAX_PATH {
            return Err(ChunkError::Path { expected, found: proof.len() });
        }
        let path = MerkleProof::<ChunkHasher>::new(proof.iter().map(|node| *node.as_bytes()).collect());
        let leaf = leaf(*index, data);
        if path.verify(*self.root.as_bytes(), &[*index as usize], &[leaf], self.count as usize) {
            Ok(())
        } else {
            Err(ChunkError::Root)
        }
    }
}

/// Chunks of a payload of this size.
pub(crate) fn count(size_bytes: u64) -> u32 {
    u32::try_from(size_bytes.div_ceil(CHUNK_BYTES as u64)).unwrap_or(u32::MAX)
}

/// The chunk at `index`, or nothing past the end.
pub(crate) fn chunk(payload: &[u8], index: u32) -> Option<Chunk> {
    let data = payload.chunks(CHUNK_BYTES).nth(index as usize)?.to_vec();
    let proof = tree(payload).proof(&[index as usize]);
    let proof = proof.proof_hashes().iter().copied().map(WideDigest::from_bytes).collect();
    Some(Chunk { index, data, proof })
}

/// Every chunk, by ascending index; builds the tree once.
pub(crate) fn chunks(payload: &[u8]) -> impl Iterator<Item = Chunk> {
    let tree = tree(payload);
    payload.chunks(CHUNK_BYTES).zip(0u32..).map(move |(data, index)| {
        let proof = tree.proof(&[index as usize]);
        let proof = proof.proof_hashes().iter().copied().map(WideDigest::from_bytes).collect();
        Chunk { index, data: data.to_vec(), proof }
    })
}

fn tree(payload: &[u8]) -> MerkleTree<ChunkHasher> {
    let leaves: Vec<_> =
        payload.chunks(CHUNK_BYTES).zip(0u32..).map(|(data, index)| leaf(index, data)).collect();
    MerkleTree::from_leaves(&leaves)
}

/// Siblings on the path of a leaf: one per level at which its node has a sibling.
pub(crate) fn path_len(mut index: u32, mut count: u32) -> usize {
    let mut len = 0;
    while count > 1 {
        if index ^ 1 < count {
            len += 1;
        }
        index /= 2;
        count = count.div_ceil(2);
    }
    len
}
