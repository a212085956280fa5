use core::fmt;
use core::time::Duration;

use minicbor::{Decode, Encode};
use nonos_identity::wire::{self, DecodeError, Wire};
use nonos_identity::{
    Certificate, CertificateError, Digest, Envelope, EnvelopeError, NetworkId, NodeId, Role, SigningKey,
    Timestamp, Unverified,
};

use crate::digest::StateDigest;
use crate::domains;
use crate::item::Collection;

/// Envelope kind of a beacon.
const KIND: u16 = 2;

/// What a node offers, as a bitmap; unknown bits are kept and forwarded.
#[derive(Clone, Copy, PartialEq, Eq, Default, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct Capabilities(#[n(0)] u32);

impl Capabilities {
    /// Makes zero-knowledge proofs.
    pub const ZK: Self = Self(1);
    /// Stores items for others.
    pub const STORAGE: Self = Self(1 << 1);
    /// Seeds capsule chunks.
    pub const SEEDER: Self = Self(1 << 2);
    /// Executes capsules.
    pub const EXECUTOR: Self = Self(1 << 3);
    /// Verifies receipts.
    pub const VERIFIER: Self = Self(1 << 4);
    /// Publishes receipts for others.
    pub const BROADCASTER: Self = Self(1 << 5);
    /// Relays onion cells.
    pub const RELAY: Self = Self(1 << 6);
    /// Bits 8 and 9: the bandwidth class.
    const BANDWIDTH_SHIFT: u32 = 8;

    /// From the bitmap.
    #[must_use]
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// The bitmap.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Both sets together.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` is offered.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Sets the bandwidth class: 0 below 1 Mbit/s, 1 below 10, 2 below 100, 3 from 100 up.
    #[must_use]
    pub const fn with_bandwidth_class(self, class: u8) -> Self {
        let class = (class & 3) as u32;
        Self(self.0 & !(3 << Self::BANDWIDTH_SHIFT) | class << Self::BANDWIDTH_SHIFT)
    }

    /// The bandwidth class, 0 to 3.
    #[must_use]
    pub const fn bandwidth_class(self) -> u8 {
        (self.0 >> Self::BANDWIDTH_SHIFT & 3) as u8
    }
}

impl fmt::Debug for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Capabilities({:#b})", self.0)
    }
}

/// What a node says about itself. It has no field for an IP address, on purpose.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct BeaconBody {
    /// Onion address bytes (public key, checksum, version), empty without an onion service.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub onion: Vec<u8>,
    /// What the node offers.
    #[n(1)]
    pub capabilities: Capabilities,
    /// Hashes of trust attestations, at most [`Self::MAX_ATTESTATIONS`]. Receivers compute trust
    /// themselves; a self-declared score would carry no weight.
    #[n(2)]
    pub attestations: Vec<Digest>,
    /// The onion layer's relay descriptor, opaque here, at most [`Self::MAX_RELAY_BYTES`].
    #[cbor(n(3), with = "minicbor::bytes")]
    pub relay: Vec<u8>,
    /// The application's own bytes, at most [`Self::MAX_EXTRA_BYTES`].
    #[cbor(n(4), with = "minicbor::bytes")]
    pub extra: Vec<u8>,
}

impl BeaconBody {
    /// Longest onion address, in bytes.
    pub const MAX_ONION_BYTES: usize = 64;
    /// Most attestation hashes.
    pub const MAX_ATTESTATIONS: usize = 4;
    /// Longest relay descriptor, in bytes.
    pub const MAX_RELAY_BYTES: usize = 512;
    /// Longest application part, in bytes.
    pub const MAX_EXTRA_BYTES: usize = 512;

    /// Checks the limits.
    ///
    /// # Errors
    /// [`BeaconError::Limit`] names the field.
    pub fn check(&self) -> Result<(), BeaconError> {
        let limits = [
            ("onion", self.onion.len(), Self::MAX_ONION_BYTES),
            ("attestations", self.attestations.len(), Self::MAX_ATTESTATIONS),
            ("relay", self.relay.len(), Self::MAX_RELAY_BYTES),
            ("extra", self.extra.len(), Self::MAX_EXTRA_BYTES),
        ];
        match limits.iter().find(|(_, len, limit)| len > limit) {
            Some((field, ..)) => Err(BeaconError::Limit(field)),
            None => Ok(()),
        }
    }
}

#[derive(Encode, Decode)]
struct Signed {
    #[n(0)]
    certificate: Certificate,
    #[n(1)]
    body: BeaconBody,
    #[n(2)]
    states: Vec<StateDigest>,
}

impl Wire for Signed {
    const MAX_BYTES: usize = 4096;
}

/// A checked beacon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beacon {
    /// Whose it is: the root key behind the certificate.
    pub node: NodeId,
    /// What the node says.
    pub body: BeaconBody,
    /// Its state digests when it was made.
    pub states: Vec<StateDigest>,
    /// Position in the node's sequence; the higher replaces the lower.
    pub seq: u64,
    /// The first second at which it no longer counts.
    pub expiry: Timestamp,
}

/// Why a beacon does not count. The fault of its maker, or of the neighbour who forwarded it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BeaconError {
    /// Not a canonical beacon.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The signature, the validity or the network is wrong.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// The certificate does not make the signer a signer of the node.
    #[error("beacon certificate: {0}")]
    Certificate(#[from] CertificateError),
    /// Signed by another key than the certified one.
    #[error("beacon is signed by another key than the certified one")]
    Signer,
    /// A field is beyond its limit.
    #[error("beacon field {0} is beyond its limit")]
    Limit(&'static str),
    /// Valid for longer than a beacon may be.
    #[error("beacon is valid for too long")]
    Lifetime,
}

impl BeaconError {
    /// A record that was fine once, or will be, is nobody's fault.
    pub(crate) const fn is_clock(&self) -> bool {
        matches!(self, Self::Envelope(EnvelopeError::Expired(_) | EnvelopeError::Future(_)) | Self::Lifetime)
    }
}

impl Beacon {
    /// Longest life of a beacon.
    pub const MAX_LIFETIME: Duration = Duration::from_secs(3600);

    /// Signs a beacon.
    #[expect(clippy::too_many_arguments, reason = "each is a signed field")]
    pub(crate) fn seal(
        signer: &SigningKey,
        certificate: &Certificate,
        network: &NetworkId,
        body: &BeaconBody,
        states: Vec<StateDigest>,
        seq: u64,
        now: Timestamp,
        lifetime: Duration,
    ) -> Result<std::sync::Arc<[u8]>, DecodeError> {
        let signed = Signed { certificate: certificate.clone(), body: body.clone(), states };
        let body = wire::to_bytes(&signed);
        let envelope = Envelope::seal(signer, domains::BEACON, network, KIND, seq, now, lifetime, body)?;
        Ok(envelope.as_bytes().clone())
    }

    /// Checks signature, certificate, validity and limits.
    ///
    /// # Errors
    /// [`BeaconError`] names the first check that failed.
    pub fn check(bytes: &[u8], network: &NetworkId, now: Timestamp) -> Result<Self, BeaconError> {
        let envelope = Envelope::parse(bytes)?.check_signed(domains::BEACON, network, KIND, now)?;
        let header = envelope.header();
        let latest = now.saturating_add(Self::MAX_LIFETIME).saturating_add(Timestamp::MAX_SKEW);
        if header.expiry > latest {
            return Err(BeaconError::Lifetime);
        }
        let Signed { certificate, body, states } = wire::from_bytes(envelope.body())?;
        let certificate = Unverified::new(certificate).check_issued(Role::EpochSigner, network, now)?;
        if certificate.subject() != header.key {
            return Err(BeaconError::Signer);
        }
        body.check()?;
        if states.len() > Collection::ALL.len() {
            return Err(BeaconError::Limit("states"));
        }
        Ok(Self { node: certificate.node(), body, states, seq: header.seq, expiry: header.expiry })
    }
}
