use minicbor::{Decode, Encode};
use nonos_identity::wire::Wire;
use nonos_identity::{Epoch, NodeId, PublicKey};

use crate::service::layer::INNER_PLAIN_BYTES;

/// A relay that passes introductions on to the service, and the keys to use with it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct IntroductionPoint {
    /// The relay.
    #[n(0)]
    pub relay: NodeId,
    /// Its X25519 onion key of `epoch`, as the service claims. A client that holds the relay's own
    /// descriptor takes the key from there: the service may lie to steer it.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub onion_key: [u8; 32],
    /// The epoch of the onion key.
    #[n(2)]
    pub epoch: Epoch,
    /// The Ed25519 key by which the relay knows the service; used with no other relay.
    #[n(3)]
    pub auth_key: PublicKey,
    /// The X25519 key to which introductions over this relay are encrypted.
    #[cbor(n(4), with = "minicbor::bytes")]
    pub encryption_key: [u8; 32],
}

/// Why introduction points make no descriptor. The fault of whoever listed them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PointsError {
    /// None, or more than [`ServiceDescriptor::MAX_POINTS`].
    #[error("{0} introduction points are not within 1 and {max}", max = ServiceDescriptor::MAX_POINTS)]
    Count(usize),
    /// Two with one relay or one authentication key, which would link them.
    #[error("introduction points share a relay or a key")]
    Repeated,
}

/// What only clients read: where to ask for an introduction.
///
/// Wire form: `[[introduction point...]]`.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ServiceDescriptor {
    #[cbor(n(0), decode_with = "decode_points")]
    points: Vec<IntroductionPoint>,
}

impl Wire for ServiceDescriptor {
    const MAX_BYTES: usize = INNER_PLAIN_BYTES - 1;
}

impl ServiceDescriptor {
    /// Most introduction points. Against a service that makes its clients try relays without end.
    pub const MAX_POINTS: usize = 10;

    /// With these introduction points, in the order in which they are listed.
    ///
    /// # Errors
    /// [`PointsError`] if their number is not accepted or two share a relay or key.
    pub fn new(points: Vec<IntroductionPoint>) -> Result<Self, PointsError> {
        if points.is_empty() || points.len() > Self::MAX_POINTS {
            return Err(PointsError::Count(points.len()));
        }
        let repeats = |(at, point): (usize, &IntroductionPoint)| {
            points.iter().skip(at + 1).any(|other| {
                other.relay == point.relay
                    || other.auth_key == point.auth_key
                    || other.encryption_key == point.encryption_key
            })
        };
        if points.iter().enumerate().any(repeats) {
            return Err(PointsError::Repeated);
        }
        Ok(Self { points })
    }

    /// The introduction points.
    #[must_use]
    pub fn points(&self) -> &[IntroductionPoint] {
        &self.points
    }
}

fn decode_points<C>(
    d: &mut minicbor::Decoder<'_>,
    _: &mut C,
) -> Result<Vec<IntroductionPoint>, minicbor::decode::Error> {
    let descriptor = ServiceDescriptor::new(d.decode()?).map_err(minicbor::decode::Error::custom)?;
    Ok(descriptor.points)
}
