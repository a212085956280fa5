use core::time::Duration;

use minicbor::{Decode, Encode};
use nonos_identity::wire::{self, DecodeError, Wire};
use nonos_identity::{
    Digest, Envelope, EnvelopeError, Epoch, NetworkId, NodeId, SigningKey, Timestamp, Unverified, Verified,
};

use crate::domains;

/// What one node says about another for one epoch: counts of good and bad dealings.
///
/// Counts only grow within an epoch; a record with a higher `seq` replaces the lower one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Attestation {
    /// Who says it.
    #[n(0)]
    pub issuer: NodeId,
    /// About whom.
    #[n(1)]
    pub subject: NodeId,
    /// The epoch the counts belong to; also that of the envelope.
    #[n(2)]
    pub epoch: Epoch,
    /// Position among the issuer's records on this subject and epoch; also that of the envelope.
    #[n(3)]
    pub seq: u64,
    /// Good dealings.
    #[n(4)]
    pub pos: u32,
    /// Bad dealings.
    #[n(5)]
    pub neg: u32,
    /// Merkle root over the receipts both sides signed, for spot checks.
    #[n(6)]
    pub receipts_root: Digest,
}

impl Wire for Attestation {
    const MAX_BYTES: usize = 160;
}

/// Why an attestation does not count. The fault of its issuer or sender.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AttestationError {
    /// Not the canonical bytes of an attestation.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// Not signed, expired or of another kind.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// Issuer, epoch or sequence number differ between the record and its envelope.
    #[error("record and envelope disagree")]
    Header,
    /// About the issuer itself.
    #[error("an attestation about oneself says nothing")]
    SelfPraise,
}

/// An attestation together with the envelope that proves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedAttestation {
    attestation: Attestation,
    envelope: Envelope,
}

impl Attestation {
    /// Envelope kind of an attestation.
    pub const KIND: u16 = 0x5401;

    /// Signs the record with the issuer's key, inside its epoch.
    ///
    /// # Errors
    /// [`AttestationError::Header`] if `key` is not the issuer's or `now` lies outside the epoch.
    pub fn seal(
        self,
        key: &SigningKey,
        network: &NetworkId,
        now: Timestamp,
        lifetime: Duration,
    ) -> Result<Verified<SignedAttestation>, AttestationError> {
        let body = wire::to_bytes(&self);
        let envelope =
            Envelope::seal(key, domains::ATTESTATION, network, Self::KIND, self.seq, now, lifetime, body)?;
        SignedAttestation::new(envelope)
    }

    /// Checks a received record.
    ///
    /// # Errors
    /// [`AttestationError`] names the first check that failed.
    pub fn open(
        envelope: Unverified<Envelope>,
        network: &NetworkId,
        now: Timestamp,
    ) -> Result<Verified<SignedAttestation>, AttestationError> {
        SignedAttestation::new(envelope.check_signed(domains::ATTESTATION, network, Self::KIND, now)?)
    }

    /// Checks a record that may have expired since: as evidence, or out of a snapshot.
    pub(crate) fn open_expired(
        bytes: &[u8],
        network: &NetworkId,
    ) -> Result<Verified<SignedAttestation>, AttestationError> {
        // The header is not trusted here: it only picks the moment at which it is then checked.
        let mut made = Epoch::default();
        let _: Result<_, ()> = Envelope::parse(bytes)?.check(|envelope| {
            made = envelope.header().epoch;
            Ok(())
        });
        Self::open(Envelope::parse(bytes)?, network, made.start())
    }
}

impl SignedAttestation {
    fn new(envelope: Verified<Envelope>) -> Result<Verified<Self>, AttestationError> {
        let attestation: Attestation = wire::from_bytes(envelope.body())?;
        let header = envelope.header();
        let agrees = attestation.issuer == header.key.node_id()
            && attestation.epoch == header.epoch
            && attestation.seq == header.seq;
        if !agrees {
            return Err(AttestationError::Header);
        }
        if attestation.issuer == attestation.subject {
            return Err(AttestationError::SelfPraise);
        }
        Ok(envelope.map(|envelope| Self { attestation, envelope }))
    }

    /// What is said.
    #[must_use]
    pub const fn attestation(&self) -> &Attestation {
        &self.attestation
    }

    /// The signed bytes to forward.
    #[must_use]
    pub const fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    /// The greater one survives a merge: a total order, so that merging needs no referee.
    pub(crate) fn rank(&self) -> (u64, &[u8], &[u8]) {
        (self.attestation.seq, self.envelope.body(), self.envelope.as_bytes())
    }
}
