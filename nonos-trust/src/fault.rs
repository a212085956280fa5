use core::cmp::Ordering;
use core::convert::Infallible;

use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};
use nonos_identity::wire::{self, DecodeError, Wire};
use nonos_identity::{Digest, Envelope, Epoch, NetworkId, NodeId, Unverified, Verified};

use crate::attestation::{Attestation, AttestationError, SignedAttestation};

/// Something no honest node does, with the evidence that convinces anybody.
///
/// Only these act on nodes that did not see the deed themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// Two signed attestations with one issuer, subject, epoch and sequence number, and different
    /// content.
    #[non_exhaustive]
    Equivocation {
        /// The one with the smaller body.
        first: Box<SignedAttestation>,
        /// The other one.
        second: Box<SignedAttestation>,
    },
    /// A signed claim about a run that everybody finds false who makes the run again.
    #[non_exhaustive]
    FalseRun {
        /// Whose claim it is, and about which run.
        conviction: Conviction,
        /// The claim, in the words of the crate that made it.
        evidence: Vec<u8>,
    },
}

/// What a [`Judge`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Conviction {
    /// Who made the false claim.
    #[n(0)]
    pub culprit: NodeId,
    /// What names the run: all false claims of one node about one run are one fault.
    #[n(1)]
    pub run: Digest,
}

/// Makes a run again and says whether a claim about it is false.
///
/// The answer must follow from the evidence alone, not from who brings it or from what this node
/// has seen, and the culprit must be named by a signature in it. It may take as long as the run.
pub trait Judge {
    /// Judges a claim.
    ///
    /// # Errors
    /// [`JudgeError`] unless the claim is false.
    fn judge(&self, evidence: &[u8]) -> Result<Conviction, JudgeError>;
}

/// Why nobody is convicted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JudgeError {
    /// The claim is true, or nobody signed it. The accuser's fault.
    #[error("false accusation: {0}")]
    FalseAccusation(String),
    /// The run cannot be made here now. Nobody's fault.
    #[error("cannot be judged here: {0}")]
    Undecided(String),
}

/// Why bytes prove no fault. The accuser's fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FaultError {
    /// Not the canonical bytes of a fault.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// A piece of evidence does not count.
    #[error(transparent)]
    Evidence(#[from] AttestationError),
    /// The evidence is sound and contradicts nothing.
    #[error("the evidence proves no fault")]
    NoContradiction,
    /// A claim about a run, which takes a [`Judge`]. Nobody's fault.
    #[error("a claim about a run takes a judge")]
    Unjudged,
    /// The judge did not convict.
    #[error(transparent)]
    Judge(#[from] JudgeError),
}

#[derive(Encode, Decode)]
#[cbor(flat)]
enum FaultBytes {
    #[n(0)]
    Equivocation(#[n(0)] ByteVec, #[n(1)] ByteVec),
    #[n(1)]
    FalseRun(#[n(0)] ByteVec),
}

impl Wire for FaultBytes {
    const MAX_BYTES: usize = Fault::MAX_EVIDENCE_BYTES + 16;
}

/// One slip of one node; further evidence of the same slip adds nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FaultKey {
    pub(crate) culprit: NodeId,
    slip: Slip,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Slip {
    Attestation { subject: NodeId, epoch: Epoch, seq: u64 },
    Run(Digest),
}

impl FaultKey {
    /// The least key of a culprit.
    pub(crate) const fn first_of(culprit: NodeId) -> Self {
        let (subject, epoch) = (NodeId::from_bytes([0; 32]), Epoch::from_number(0));
        Self { culprit, slip: Slip::Attestation { subject, epoch, seq: 0 } }
    }
}

impl Fault {
    /// Longest claim about a run, in bytes: what an accuser can make a node hold and keep.
    pub const MAX_EVIDENCE_BYTES: usize = 8 * 1024;

    /// The fault in two checked records, if they contradict each other.
    #[must_use]
    pub fn equivocation(
        a: Verified<SignedAttestation>,
        b: Verified<SignedAttestation>,
    ) -> Option<Verified<Self>> {
        let slot = |signed: &SignedAttestation| {
            let Attestation { issuer, subject, epoch, seq, .. } = *signed.attestation();
            (issuer, subject, epoch, seq)
        };
        if slot(&a) != slot(&b) {
            return None;
        }
        let (first, second) = match a.attestation().cmp(b.attestation()) {
            Ordering::Less => (a, b),
            Ordering::Greater => (b, a),
            Ordering::Equal => return None,
        };
        let (first, second) = (Box::new(first.into_inner()), Box::new(second.into_inner()));
        Unverified::new(Self::Equivocation { first, second }).check(|_| Ok::<(), ()>(())).ok()
    }

    /// Has a claim about a run judged.
    ///
    /// # Errors
    /// [`FaultError::Judge`] unless it is false; [`FaultError::Decode`] if it is longer than
    /// [`Self::MAX_EVIDENCE_BYTES`].
    pub fn false_run(evidence: Vec<u8>, judge: &dyn Judge) -> Result<Verified<Self>, FaultError> {
        let (len, limit) = (evidence.len(), Self::MAX_EVIDENCE_BYTES);
        if len > limit {
            return Err(DecodeError::TooLong { len, limit }.into());
        }
        let conviction = judge.judge(&evidence)?;
        Ok(Self::convicted(evidence, conviction))
    }

    /// A claim that this node had judged before; for its own snapshot alone.
    pub(crate) fn convicted(evidence: Vec<u8>, conviction: Conviction) -> Verified<Self> {
        match Unverified::new(Self::FalseRun { conviction, evidence }).check(|_| Ok::<_, Infallible>(())) {
            Ok(fault) => fault,
            Err(never) => match never {},
        }
    }

    /// Parses and checks received evidence; the records in it may have expired since.
    ///
    /// # Errors
    /// [`FaultError`] names the first check that failed; [`FaultError::Unjudged`] if it takes a
    /// judge, see [`Self::parse_judged`].
    pub fn parse(bytes: &[u8], network: &NetworkId) -> Result<Verified<Self>, FaultError> {
        let (first, second) = match wire::from_bytes(bytes)? {
            FaultBytes::Equivocation(first, second) => (first, second),
            FaultBytes::FalseRun(_) => return Err(FaultError::Unjudged),
        };
        let [first, second] =
            [Attestation::open_expired(&first, network)?, Attestation::open_expired(&second, network)?];
        if first.attestation() >= second.attestation() {
            return Err(FaultError::NoContradiction);
        }
        Self::equivocation(first, second).ok_or(FaultError::NoContradiction)
    }

    /// As [`Self::parse`], with somebody who judges claims about runs. It may take as long as a run:
    /// a caller limits how often strangers make it judge.
    ///
    /// # Errors
    /// [`FaultError`] names the first check that failed.
    pub fn parse_judged(
        bytes: &[u8],
        network: &NetworkId,
        judge: &dyn Judge,
    ) -> Result<Verified<Self>, FaultError> {
        match wire::from_bytes(bytes)? {
            FaultBytes::FalseRun(evidence) => Self::false_run(evidence.into(), judge),
            FaultBytes::Equivocation(..) => Self::parse(bytes, network),
        }
    }

    /// The claim about a run in received bytes, which nobody has judged: what a judge may need to
    /// see beforehand. `None` if they are another kind of fault.
    ///
    /// # Errors
    /// [`DecodeError`] if they are not the canonical bytes of a fault.
    pub fn claim(bytes: &[u8]) -> Result<Option<Vec<u8>>, DecodeError> {
        match wire::from_bytes(bytes)? {
            FaultBytes::FalseRun(evidence) => Ok(Some(evidence.into())),
            FaultBytes::Equivocation(..) => Ok(None),
        }
    }

    /// The bytes to send to others.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let bytes = |envelope: &Envelope| ByteVec::from(envelope.as_bytes().to_vec());
        wire::to_bytes(&match self {
            Self::Equivocation { first, second } => {
                FaultBytes::Equivocation(bytes(first.envelope()), bytes(second.envelope()))
            }
            Self::FalseRun { evidence, .. } => FaultBytes::FalseRun(evidence.clone().into()),
        })
    }

    /// Who did it.
    #[must_use]
    pub fn culprit(&self) -> NodeId {
        self.key().culprit
    }

    pub(crate) fn key(&self) -> FaultKey {
        match self {
            Self::Equivocation { first, .. } => {
                let Attestation { issuer, subject, epoch, seq, .. } = *first.attestation();
                FaultKey { culprit: issuer, slip: Slip::Attestation { subject, epoch, seq } }
            }
            Self::FalseRun { conviction: Conviction { culprit, run }, .. } => {
                FaultKey { culprit: *culprit, slip: Slip::Run(*run) }
            }
        }
    }
}
