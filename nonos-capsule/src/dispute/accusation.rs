//! A lie about a run, in the words of the one who told it.

use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};
use nonos_identity::wire::{self, DecodeError, Wire};
use nonos_identity::{NetworkId, NodeId, Unverified, Verified, WideDigest};

use super::Claimed;
use super::chain::{ChainCommitment, ChainError, CheckpointOpening, CheckpointOpeningError, SignedChain};
use super::referee::{RefereeError, at, check_run, commitment};
use crate::capsule::CapsuleId;
use crate::execution::Invocation;
use crate::runtime::{Loaded, replay_until};

/// A node's signed chain, and the checkpoint in it that is said to be wrong; without one, the
/// chain as a whole is.
///
/// The accused node made both: an accuser can only choose what to show. Whether it is a lie is
/// for [`Self::judge`]: only `Verified<Accusation>` is a proven fault. Wire form:
/// `[envelope, opening or null]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accusation {
    chain: SignedChain,
    opening: Option<CheckpointOpening>,
}

/// Why bytes accuse nobody. The accuser's fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AccusationError {
    /// Not the canonical bytes of an accusation.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The commitment is no node's.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The checkpoint is not of the commitment.
    #[error(transparent)]
    Opening(#[from] CheckpointOpeningError),
}

/// Why an accused node is not convicted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JudgeError {
    /// A re-run says what the accused said: the accuser's fault.
    #[error("a re-run confirms what the accused node says")]
    Innocent,
    /// There is no decision; nobody's fault but the caller's.
    #[error(transparent)]
    Undecided(#[from] RefereeError),
}

#[derive(Encode, Decode)]
struct AccusationBytes {
    #[n(0)]
    chain: ByteVec,
    #[n(1)]
    opening: Option<CheckpointOpening>,
}

impl Wire for AccusationBytes {
    const MAX_BYTES: usize = Accusation::MAX_BYTES;
}

impl Accusation {
    /// Longest encoding, in bytes.
    pub const MAX_BYTES: usize = SignedChain::MAX_BYTES + CheckpointOpening::MAX_BYTES + 8;

    /// What a referee's own re-run has shown.
    pub(super) fn proven(
        chain: Verified<SignedChain>,
        opening: Option<Verified<CheckpointOpening>>,
    ) -> Verified<Self> {
        let opening = opening.map(Verified::into_inner);
        chain.map(|chain| Self { chain, opening })
    }

    /// Parses received bytes and checks that the accused node signed and opened them.
    ///
    /// # Errors
    /// [`AccusationError`] names the first check that failed.
    pub fn parse(bytes: &[u8], network: &NetworkId) -> Result<Self, AccusationError> {
        let AccusationBytes { chain, opening } = wire::from_bytes(bytes)?;
        let chain = SignedChain::open_expired(&chain, network)?.into_inner();
        let opening = match opening {
            Some(opening) => Some(chain.commitment().check(Unverified::new(opening))?.into_inner()),
            None => None,
        };
        Ok(Self { chain, opening })
    }

    /// The bytes to send to others.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let chain = self.chain.envelope().as_bytes().to_vec().into();
        wire::to_bytes(&AccusationBytes { chain, opening: self.opening.clone() })
    }

    /// Who is accused.
    #[must_use]
    pub const fn accused(&self) -> NodeId {
        self.chain.node()
    }

    /// The capsule to run.
    #[must_use]
    pub const fn capsule_id(&self) -> CapsuleId {
        self.chain.commitment().capsule_id
    }

    /// What names the run: two lies of one node about one run are one fault.
    #[must_use]
    pub const fn genesis(&self) -> &WideDigest {
        &self.chain.commitment().genesis
    }

    /// What the accused node committed to.
    #[must_use]
    pub const fn commitment(&self) -> &ChainCommitment {
        self.chain.commitment()
    }

    /// The position of the checkpoint that is said to be wrong.
    #[must_use]
    pub fn position(&self) -> Option<u32> {
        self.opening.as_ref().map(|opening| opening.position)
    }

    /// Runs the capsule again up to the checkpoint in question, or to the end if it is the chain as
    /// a whole. Blocks the calling thread; consumes no nonce. Needs nobody's word.
    ///
    /// # Errors
    /// [`JudgeError::Innocent`] if the accused was right; [`JudgeError::Undecided`] if this cannot
    /// be said here.
    pub fn judge(self, loaded: &Loaded, invocation: &Invocation) -> Result<Verified<Self>, JudgeError> {
        check_run(loaded, invocation, self.chain.commitment())?;
        let rerun = replay_until(loaded, invocation, self.position()).map_err(RefereeError::from)?;
        Unverified::new(self).check(|accusation| {
            let is_right = match &accusation.opening {
                Some(CheckpointOpening { position, checkpoint, .. }) => {
                    at(&rerun, *position) == Some(Claimed::Checkpoint(*checkpoint))
                }
                None => commitment(&rerun) == Some(*accusation.commitment()),
            };
            if is_right { Err(JudgeError::Innocent) } else { Ok(()) }
        })
    }
}
