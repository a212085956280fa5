use core::time::Duration;

use minicbor::{Decode, Encode};
use nonos_identity::wire::{self, DecodeError, Wire};
use nonos_identity::{
    Certificate, CertificateError, Envelope, EnvelopeError, NetworkId, NodeId, Role, SigningKey, Timestamp,
    Unverified,
};

use crate::contact::TransportId;
use crate::domains;

/// Envelope kind of a hello.
const KIND: u16 = 1;
/// Protocol version; both sides must speak the same.
const VERSION: u16 = 1;
/// How long a hello stays valid: covers the clock skew, while the two transport ids bind it to
/// one pair of endpoints.
const LIFETIME: Duration = Duration::from_secs(600);

#[derive(Encode, Decode)]
struct Body {
    #[n(0)]
    version: u16,
    #[n(1)]
    sender: TransportId,
    #[n(2)]
    receiver: TransportId,
    #[n(3)]
    certificate: Certificate,
}

impl Wire for Body {
    const MAX_BYTES: usize = 4096;
}

/// The first frame of a link: names the network in clear, so that a foreign node is told from
/// a forger, and binds the operator's certificate to this very link.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Hello {
    #[n(0)]
    network: NetworkId,
    #[cbor(n(1), with = "minicbor::bytes")]
    envelope: Vec<u8>,
}

/// Why a link was refused. The fault of the peer, but for clock skew.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HelloError {
    /// The peer belongs to another mesh.
    #[error("foreign network {0}")]
    ForeignNetwork(NetworkId),
    /// The peer speaks another protocol version.
    #[error("protocol version {0} where {VERSION} is spoken")]
    Version(u16),
    /// Something other than a hello came first, or a second hello.
    #[error("link did not begin with one hello")]
    Order,
    /// Not a canonical hello.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The signature or the validity is wrong.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// The certificate does not make the signer a signer of the node.
    #[error("hello certificate: {0}")]
    Certificate(#[from] CertificateError),
    /// Signed by another key than the certified one.
    #[error("hello is signed by another key than the certified one")]
    Signer,
    /// Made for another link: somebody relays it.
    #[error("hello was made for another link")]
    Relayed,
    /// The peer's root key is our own.
    #[error("link to ourselves")]
    Own,
    /// The node is banned after repeated faults.
    #[error("node is banned")]
    Banned,
    /// No hello came in time.
    #[error("no hello in time")]
    Timeout,
}

impl Hello {
    pub(crate) fn seal(
        signer: &SigningKey,
        certificate: &Certificate,
        network: &NetworkId,
        sender: &TransportId,
        receiver: &TransportId,
        now: Timestamp,
    ) -> Result<Self, DecodeError> {
        let body = Body {
            version: VERSION,
            sender: sender.clone(),
            receiver: receiver.clone(),
            certificate: certificate.clone(),
        };
        let body = wire::to_bytes(&body);
        let envelope = Envelope::seal(signer, domains::HELLO, network, KIND, 0, now, LIFETIME, body)?;
        Ok(Self { network: *network, envelope: envelope.as_bytes().to_vec() })
    }

    /// Checks everything and yields who the peer is.
    pub(crate) fn check(
        &self,
        network: &NetworkId,
        own: &TransportId,
        peer: &TransportId,
        now: Timestamp,
    ) -> Result<NodeId, HelloError> {
        if self.network != *network {
            return Err(HelloError::ForeignNetwork(self.network));
        }
        let envelope = Envelope::parse(&self.envelope)?.check_signed(domains::HELLO, network, KIND, now)?;
        let body: Body = wire::from_bytes(envelope.body())?;
        if body.version != VERSION {
            return Err(HelloError::Version(body.version));
        }
        if body.sender != *peer || body.receiver != *own {
            return Err(HelloError::Relayed);
        }
        let certificate = Unverified::new(body.certificate).check_issued(Role::EpochSigner, network, now)?;
        if certificate.subject() != envelope.header().key {
            return Err(HelloError::Signer);
        }
        Ok(certificate.node())
    }
}
