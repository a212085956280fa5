use core::cmp::Ordering;

use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};
use nonos_identity::wire::{self, DecodeError, Wire};
use nonos_identity::{Envelope, Epoch, NetworkId, NodeId, Unverified, Verified};

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
}

#[derive(Encode, Decode)]
#[cbor(flat)]
enum FaultBytes {
    #[n(0)]
    Equivocation(#[n(0)] ByteVec, #[n(1)] ByteVec),
}

impl Wire for FaultBytes {
    const MAX_BYTES: usize = 2 * 1024;
}

/// One slip of one node; further evidence of the same slip adds nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FaultKey {
    pub(crate) culprit: NodeId,
    subject: NodeId,
    epoch: Epoch,
    seq: u64,
}

impl FaultKey {
    /// The least key of a culprit.
    pub(crate) const fn first_of(culprit: NodeId) -> Self {
        let (subject, epoch) = (NodeId::from_bytes([0; 32]), Epoch::from_number(0));
        Self { culprit, subject, epoch, seq: 0 }
    }
}

impl Fault {
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

    /// Parses and checks received evidence; the records in it may have expired since.
    ///
    /// # Errors
    /// [`FaultError`] names the first check that failed.
    pub fn parse(bytes: &[u8], network: &NetworkId) -> Result<Verified<Self>, FaultError> {
        let FaultBytes::Equivocation(first, second) = wire::from_bytes(bytes)?;
        let [first, second] =
            [Attestation::open_expired(&first, network)?, Attestation::open_expired(&second, network)?];
        if first.attestation() >= second.attestation() {
            return Err(FaultError::NoContradiction);
        }
        Self::equivocation(first, second).ok_or(FaultError::NoContradiction)
    }

    /// The bytes to send to others.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let Self::Equivocation { first, second } = self;
        let bytes = |envelope: &Envelope| ByteVec::from(envelope.as_bytes().to_vec());
        wire::to_bytes(&FaultBytes::Equivocation(bytes(first.envelope()), bytes(second.envelope())))
    }

    /// Who did it.
    #[must_use]
    pub fn culprit(&self) -> NodeId {
        self.key().culprit
    }

    pub(crate) fn key(&self) -> FaultKey {
        let Self::Equivocation { first, .. } = self;
        let Attestation { issuer, subject, epoch, seq, .. } = *first.attestation();
        FaultKey { culprit: issuer, subject, epoch, seq }
    }
}
