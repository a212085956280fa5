use minicbor::{Decode, Encode};
use nonos_identity::wire::{self, Wire};
use nonos_identity::{NetworkId, PublicKey, Signature, SigningKey};
use serde::Serialize;

use crate::capsule::CapsuleId;
use crate::domains::CAPSULE_ATTESTATION;
use crate::signature::VerifyError;

/// A statement about a capsule, made after it was signed: a proof, an audit, a build log. It
/// carries its own signature and does not move the capsule's id.
///
/// Signed bytes: the CBOR array `[capsule_id, kind, body]` under the domain
/// `nonos/capsule/attestation/v1` and the network id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode, Serialize)]
pub struct Attestation {
    /// What the body is; the numbers belong to whoever makes such statements.
    #[n(0)]
    pub kind: u16,
    /// The statement, at most [`Self::MAX_BODY_BYTES`].
    #[cbor(n(1), with = "minicbor::bytes")]
    pub body: Vec<u8>,
    /// Who says so.
    #[n(2)]
    pub key: PublicKey,
    /// The signature.
    #[n(3)]
    signature: SignatureBytes,
}

/// A signature with an order, so that a list of statements has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode, Serialize)]
#[cbor(transparent)]
#[serde(into = "Signature")]
struct SignatureBytes(#[cbor(n(0), with = "minicbor::bytes")] [u8; 64]);

impl From<SignatureBytes> for Signature {
    fn from(bytes: SignatureBytes) -> Self {
        Self::from_bytes(bytes.0)
    }
}

#[derive(Encode, Decode)]
struct Statement {
    #[n(0)]
    id: CapsuleId,
    #[n(1)]
    kind: u16,
    #[cbor(n(2), with = "minicbor::bytes")]
    body: Vec<u8>,
}

impl Wire for Statement {
    const MAX_BYTES: usize = Attestation::MAX_BODY_BYTES + 128;
}

/// The statements: one section of the container, outside of the id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Attestations(#[n(0)] pub(crate) Vec<Attestation>);

impl Wire for Attestations {
    const MAX_BYTES: usize = 8 * 1_024;
}

/// Why a statement was not added. The caller's fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AttestError {
    /// The body is longer than [`Attestation::MAX_BODY_BYTES`].
    #[error("attestation of {0} bytes exceeds the limit of {max}", max = Attestation::MAX_BODY_BYTES)]
    TooLong(usize),
    /// The capsule carries as many bytes of statements as it may.
    #[error("the attestations of a capsule have at most {0} bytes")]
    Full(usize),
}

impl Attestation {
    /// Longest body, in bytes: several proofs fit, and a head stays small enough to gossip.
    pub const MAX_BODY_BYTES: usize = 4 * 1_024;

    pub(crate) fn sign(
        id: CapsuleId,
        kind: u16,
        body: Vec<u8>,
        key: &SigningKey,
        network: &NetworkId,
    ) -> Result<Self, AttestError> {
        if body.len() > Self::MAX_BODY_BYTES {
            return Err(AttestError::TooLong(body.len()));
        }
        let signature = key.sign(CAPSULE_ATTESTATION, network, &statement(id, kind, &body));
        Ok(Self { kind, body, key: key.public(), signature: SignatureBytes(*signature.as_bytes()) })
    }

    /// The signature.
    #[must_use]
    pub fn signature(&self) -> Signature {
        self.signature.into()
    }

    pub(crate) fn verify(&self, id: CapsuleId, network: &NetworkId) -> Result<(), VerifyError> {
        let statement = statement(id, self.kind, &self.body);
        self.key
            .verify(CAPSULE_ATTESTATION, network, &statement, &self.signature())
            .map_err(|_| VerifyError::Attestation(self.key))
    }
}

fn statement(id: CapsuleId, kind: u16, body: &[u8]) -> Vec<u8> {
    wire::to_bytes(&Statement { id, kind, body: body.to_vec() })
}

impl Attestations {
    /// Whether the list is in its one order, without repetition, and each body within its limit.
    pub(crate) fn is_canonical(&self) -> bool {
        self.0.is_sorted_by(|a, b| a < b)
            && self.0.iter().all(|one| one.body.len() <= Attestation::MAX_BODY_BYTES)
    }

    pub(crate) fn add(&mut self, attestation: Attestation) -> Result<(), AttestError> {
        if let Err(place) = self.0.binary_search(&attestation) {
            self.0.insert(place, attestation);
            if wire::to_bytes(self).len() > Self::MAX_BYTES {
                self.0.remove(place);
                return Err(AttestError::Full(Self::MAX_BYTES));
            }
        }
        Ok(())
    }
}
