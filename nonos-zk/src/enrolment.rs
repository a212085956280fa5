use core::time::Duration;

use minicbor::{Decode, Encode};
use nonos_identity::wire::{self, DecodeError, Wire};
use nonos_identity::{Envelope, EnvelopeError, Epoch, NetworkId, NodeId, SigningKey, Timestamp, Verified};

use crate::domains;
use crate::identity::OperatorKey;

/// An operator's statement that an identity key is its own, signed by its root key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enrolment {
    /// What is enrolled.
    pub operator: OperatorKey,
    /// Whose root key signed.
    pub node: NodeId,
    /// The epoch it was signed in; a later one of the same node replaces it.
    pub epoch: Epoch,
    /// The first second at which it is no longer valid.
    pub expiry: Timestamp,
}

/// Why an enrolment does not count. Its sender's fault, but for clock skew.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EnrolmentError {
    /// Not a canonical enrolment.
    #[error(transparent)]
    Encoding(#[from] DecodeError),
    /// Not signed for this purpose and network, expired, or of the future.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
}

#[derive(Encode, Decode)]
struct Body {
    #[n(0)]
    operator: OperatorKey,
}

impl Wire for Body {
    const MAX_BYTES: usize = 96;
}

impl Enrolment {
    /// Envelope kind of an enrolment.
    pub const KIND: u16 = 0x0201;
    /// How long an enrolment stays valid: 30 days, as role certificates do.
    pub const LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);

    /// Signs an identity key with the operator's root key.
    ///
    /// # Errors
    /// None in practice: the body is far below the envelope's limit.
    pub fn sign(
        root: &SigningKey,
        network: &NetworkId,
        operator: OperatorKey,
        now: Timestamp,
    ) -> Result<Verified<Envelope>, DecodeError> {
        let body = wire::to_bytes(&Body { operator });
        let seq = now.as_secs();
        Envelope::seal(root, domains::ENROLMENT, network, Self::KIND, seq, now, Self::LIFETIME, body)
    }

    /// Parses and checks an enrolment.
    ///
    /// # Errors
    /// [`EnrolmentError`] names the first check that failed.
    pub fn check(
        bytes: &[u8],
        network: &NetworkId,
        now: Timestamp,
    ) -> Result<Verified<Self>, EnrolmentError> {
        let envelope = Envelope::parse(bytes)?.check_signed(domains::ENROLMENT, network, Self::KIND, now)?;
        let body: Body = wire::from_bytes(envelope.body())?;
        Ok(envelope.map(|envelope| {
            let header = envelope.header();
            Self {
                operator: body.operator,
                node: header.key.node_id(),
                epoch: header.epoch,
                expiry: header.expiry,
            }
        }))
    }
}
