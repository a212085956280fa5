//! What a party of a dispute signs, and how it opens it.

use core::fmt;
use core::time::Duration;

use minicbor::{Decode, Encode};
use nonos_identity::wire::{self, DecodeError, Wire};
use nonos_identity::{
    Certificate, CertificateError, Envelope, EnvelopeError, Epoch, NetworkId, NodeId, Role, SigningKey,
    Timestamp, Unverified, Verified, WideDigest,
};
use rs_merkle::{MerkleProof, MerkleTree};

use crate::capsule::CapsuleId;
use crate::chunk::{ChunkHasher, path_len};
use crate::domains::{CHAIN, CHAIN_LEAF};
use crate::execution::Execution;
use crate::policy::MeshPolicy;

/// Longest path of a checkpoint in its tree.
const MAX_PATH: usize = 20;

/// A node's commitment to every checkpoint of one run, and to its result.
///
/// The checkpoints, genesis first, are the leaves of a Merkle tree, each hashed with its position;
/// the last one is the end of the run. Wire form: an array in the order of the fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ChainCommitment {
    /// The capsule.
    #[n(0)]
    pub capsule_id: CapsuleId,
    /// [`Invocation::digest`](crate::Invocation::digest).
    #[n(1)]
    pub input_digest: WideDigest,
    /// The first checkpoint: capsule, policy, nonce, invocation, and the versions of meter and
    /// prices. Two runs with one genesis must be equal.
    #[n(2)]
    pub genesis: WideDigest,
    /// Checkpoints, genesis included: 1 to [`Self::MAX_CHECKPOINTS`].
    #[n(3)]
    pub count: u32,
    /// The hash of the whole execution.
    #[n(4)]
    pub exec_hash: WideDigest,
    /// Root of the tree.
    #[n(5)]
    pub root: WideDigest,
}

impl Wire for ChainCommitment {
    const MAX_BYTES: usize = 384;
}

/// A checkpoint with its path to the root of a [`ChainCommitment`].
///
/// Wire form: an array in the order of the fields.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct CheckpointOpening {
    /// Its place in the chain; 0 is genesis.
    #[n(0)]
    pub position: u32,
    /// The checkpoint.
    #[n(1)]
    pub checkpoint: WideDigest,
    /// The siblings, from the leaf up; at most 20.
    #[n(2)]
    pub path: Vec<WideDigest>,
}

impl Wire for CheckpointOpening {
    const MAX_BYTES: usize = 128 + MAX_PATH * 66;
}

/// Why an opening opens nothing. Always the fault of the party that made it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointOpeningError {
    /// Not the canonical bytes of an opening.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// Another position than the one asked for, or none of the chain.
    #[error("checkpoint {found} where {expected} is expected")]
    Position {
        /// The position asked for; of a lone opening, the last one of the chain.
        expected: u32,
        /// The position received.
        found: u32,
    },
    /// A path of the wrong length for this position.
    #[error("path of {found} siblings where {expected} are expected")]
    Path {
        /// Siblings on the path of this position.
        expected: usize,
        /// Siblings received.
        found: usize,
    },
    /// The path leads to another root than the signed one.
    #[error("checkpoint does not lead to the signed root")]
    Root,
}

/// Why a run cannot be committed to. The caller's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// No checkpoint, or more than a commitment may cover.
    #[error("{0} checkpoints are not within 1 and {max}", max = ChainCommitment::MAX_CHECKPOINTS)]
    Count(usize),
    /// The policy lets the capsule talk to the mesh: what the mesh answers is in no invocation, so
    /// two honest runs may differ.
    #[error("a run that may talk to the mesh cannot be disputed")]
    Mesh,
}

/// Why received bytes are no node's commitment. The fault of whoever made them, but for clock skew.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChainError {
    /// Not the canonical form.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The envelope does not verify, is expired or of another kind.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// The certificate does not hold.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The certificate is another key's.
    #[error("the certificate is not for the key that signed")]
    Signer,
    /// No checkpoint, or more than a commitment may cover.
    #[error("{0} checkpoints are not within 1 and {max}", max = ChainCommitment::MAX_CHECKPOINTS)]
    Count(u32),
}

impl ChainCommitment {
    /// Envelope kind of a commitment.
    pub const KIND: u16 = 0x4301;
    /// Most checkpoints of a chain. It bounds the rounds of a dispute to 20, the length of a path,
    /// and the tree that a party holds to 128 MiB.
    pub const MAX_CHECKPOINTS: u32 = 1 << MAX_PATH;
    /// How long a signed commitment may open a dispute; as evidence it counts for ever.
    pub const LIFETIME: Duration = Duration::from_secs(24 * 3600);

    /// Checks that an opening belongs to the chain.
    ///
    /// # Errors
    /// [`CheckpointOpeningError`] names the first check that failed.
    pub fn check(
        &self,
        opening: Unverified<CheckpointOpening>,
    ) -> Result<Verified<CheckpointOpening>, CheckpointOpeningError> {
        opening.check(|CheckpointOpening { position, checkpoint, path }| {
            if *position >= self.count {
                let expected = self.count.saturating_sub(1);
                return Err(CheckpointOpeningError::Position { expected, found: *position });
            }
            let expected = path_len(*position, self.count);
            if path.len() != expected {
                return Err(CheckpointOpeningError::Path { expected, found: path.len() });
            }
            let path = MerkleProof::<ChunkHasher>::new(path.iter().map(|node| *node.as_bytes()).collect());
            let leaf = leaf(*position, checkpoint);
            match path.verify(*self.root.as_bytes(), &[*position as usize], &[leaf], self.count as usize) {
                true => Ok(()),
                false => Err(CheckpointOpeningError::Root),
            }
        })
    }

    pub(super) const fn is_bounded(&self) -> bool {
        1 <= self.count && self.count <= Self::MAX_CHECKPOINTS
    }
}

/// The leaf of a checkpoint: SHA3-512 over its position (u32, little-endian) and its 64 bytes.
fn leaf(position: u32, checkpoint: &WideDigest) -> [u8; 64] {
    *WideDigest::of(CHAIN_LEAF, &[&position.to_le_bytes(), checkpoint.as_bytes()]).as_bytes()
}

/// A chain that its holder can open at any position.
pub struct CommittedChain {
    commitment: ChainCommitment,
    checkpoints: Vec<WideDigest>,
    tree: MerkleTree<ChunkHasher>,
}

impl CommittedChain {
    /// Commits to a run.
    ///
    /// # Errors
    /// [`CommitError`] if the run cannot be disputed.
    pub fn of(execution: &Execution) -> Result<Self, CommitError> {
        if execution.policy.mesh != MeshPolicy::default() {
            return Err(CommitError::Mesh);
        }
        let Execution { capsule_id, input_digest, exec_hash, checkpoints, .. } = execution;
        Self::from_checkpoints(*capsule_id, *input_digest, *exec_hash, checkpoints.clone())
    }

    /// Commits to a chain that was kept; genesis is its first checkpoint.
    ///
    /// # Errors
    /// [`CommitError::Count`] if there are none, or too many.
    pub fn from_checkpoints(
        capsule_id: CapsuleId,
        input_digest: WideDigest,
        exec_hash: WideDigest,
        checkpoints: Vec<WideDigest>,
    ) -> Result<Self, CommitError> {
        let len = checkpoints.len();
        let count = u32::try_from(len).ok().filter(|count| *count <= ChainCommitment::MAX_CHECKPOINTS);
        let (Some(count), Some(genesis)) = (count, checkpoints.first().copied()) else {
            return Err(CommitError::Count(len));
        };
        let leaves: Vec<_> =
            (0u32..).zip(&checkpoints).map(|(position, checkpoint)| leaf(position, checkpoint)).collect();
        let tree = MerkleTree::<ChunkHasher>::from_leaves(&leaves);
        let root = WideDigest::from_bytes(tree.root().unwrap_or([0; 64]));
        let commitment = ChainCommitment { capsule_id, input_digest, genesis, count, exec_hash, root };
        Ok(Self { commitment, checkpoints, tree })
    }

    /// What is signed.
    #[must_use]
    pub const fn commitment(&self) -> &ChainCommitment {
        &self.commitment
    }

    /// The checkpoint at a position with its path, or nothing past the end.
    #[must_use]
    pub fn open(&self, position: u32) -> Option<CheckpointOpening> {
        let checkpoint = *self.checkpoints.get(position as usize)?;
        let proof = self.tree.proof(&[position as usize]);
        let path = proof.proof_hashes().iter().copied().map(WideDigest::from_bytes).collect();
        Some(CheckpointOpening { position, checkpoint, path })
    }

    /// Signs the commitment with a node's epoch signer.
    ///
    /// # Errors
    /// [`ChainError::Signer`] if the certificate is for another key; the caller's fault.
    pub fn sign(
        &self,
        key: &SigningKey,
        certificate: &Certificate,
        network: &NetworkId,
        now: Timestamp,
    ) -> Result<Verified<SignedChain>, ChainError> {
        if certificate.subject() != key.public() {
            return Err(ChainError::Signer);
        }
        let body = wire::to_bytes(&Body { certificate: certificate.clone(), commitment: self.commitment });
        let (kind, lifetime) = (ChainCommitment::KIND, ChainCommitment::LIFETIME);
        let envelope = Envelope::seal(key, CHAIN, network, kind, 0, now, lifetime, body)?;
        SignedChain::open(envelope.as_bytes(), network, now)
    }
}

impl fmt::Debug for CommittedChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CommittedChain").field("commitment", &self.commitment).finish_non_exhaustive()
    }
}

/// The body of the envelope: the commitment, and who stands behind the key that signs it.
#[derive(Encode, Decode)]
struct Body {
    #[n(0)]
    certificate: Certificate,
    #[n(1)]
    commitment: ChainCommitment,
}

impl Wire for Body {
    const MAX_BYTES: usize = Certificate::MAX_BYTES + ChainCommitment::MAX_BYTES + 1;
}

/// A commitment together with the envelope that proves whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedChain {
    node: NodeId,
    commitment: ChainCommitment,
    envelope: Envelope,
}

impl SignedChain {
    /// Longest signed commitment, in bytes: what a peer can make a party of a dispute hold.
    pub const MAX_BYTES: usize = 1_024;

    /// Checks a received commitment: signature, validity, certificate, canonical form and bounds.
    ///
    /// # Errors
    /// [`ChainError`] names the first check that failed.
    pub fn open(bytes: &[u8], network: &NetworkId, now: Timestamp) -> Result<Verified<Self>, ChainError> {
        if bytes.len() > Self::MAX_BYTES {
            return Err(DecodeError::TooLong { len: bytes.len(), limit: Self::MAX_BYTES }.into());
        }
        let envelope = Envelope::parse(bytes)?.check_signed(CHAIN, network, ChainCommitment::KIND, now)?;
        let Body { certificate, commitment } = wire::from_bytes(envelope.body())?;
        let certificate = Unverified::new(certificate).check_issued(Role::EpochSigner, network, now)?;
        if certificate.subject() != envelope.header().key {
            return Err(ChainError::Signer);
        }
        if !commitment.is_bounded() {
            return Err(ChainError::Count(commitment.count));
        }
        let node = certificate.node();
        Ok(envelope.map(|envelope| Self { node, commitment, envelope }))
    }

    /// As [`Self::open`], at the time it was made by its own word: as evidence it does not expire.
    ///
    /// # Errors
    /// [`ChainError`] names the first check that failed.
    pub fn open_expired(bytes: &[u8], network: &NetworkId) -> Result<Verified<Self>, ChainError> {
        // The header is not trusted here: it only picks the moment at which it is then checked.
        let mut made = Epoch::default();
        let _: Result<_, ()> = Envelope::parse(bytes)?.check(|envelope| {
            made = envelope.header().epoch;
            Ok(())
        });
        // A certificate may begin within the epoch that it is first used in.
        Self::open(bytes, network, made.start()).or_else(|_| Self::open(bytes, network, made.end()))
    }

    /// Who answers for it.
    #[must_use]
    pub const fn node(&self) -> NodeId {
        self.node
    }

    /// What it says.
    #[must_use]
    pub const fn commitment(&self) -> &ChainCommitment {
        &self.commitment
    }

    /// The signed bytes to send on.
    #[must_use]
    pub const fn envelope(&self) -> &Envelope {
        &self.envelope
    }
}
