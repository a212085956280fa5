//! What clients, services and hubs say to each other. Every message has one size.

use nonos_identity::{AdmitError, NetworkId, NodeId, PublicKey, Signature, SignatureError, SigningKey};

use crate::domains::RENDEZVOUS_ESTABLISH;
use crate::rendezvous::handshake::{INTRODUCTION_BYTES, Sealed};
use crate::rendezvous::puzzle::Effort;

/// Length of what a hub draws for a service to sign, in bytes.
pub(crate) const CHALLENGE_BYTES: usize = 32;
/// Length of an [`Establish`], in bytes.
pub(crate) const ESTABLISH_BYTES: usize = 32 + 64;
/// Length of an [`Introduce`], in bytes.
pub(crate) const INTRODUCE_BYTES: usize = 32 + 1 + 8 + INTRODUCTION_BYTES;
/// Length of an [`Answer`], in bytes.
pub(crate) const ANSWER_BYTES: usize = 2;
/// A hub tells a service that it is established.
pub(crate) const ESTABLISHED: u8 = 1;
/// A service asks its hub for one introduction more.
pub(crate) const GRANT: u8 = 1;

/// Bytes are no message of the protocol; the fault of whoever sent them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// A key that is not admitted.
    #[error(transparent)]
    Key(#[from] AdmitError),
    /// More work than [`Effort::MOST`].
    #[error("effort of {0} bits does not exist")]
    Effort(u8),
    /// A code that means nothing.
    #[error("code {0} means nothing")]
    Code(u8),
}

/// A service asks a hub to take introductions for it.
///
/// The signature covers `domain || network || relay || challenge`: it is worth nothing to another relay, and
/// nothing on another stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Establish {
    auth_key: PublicKey,
    signature: Signature,
}

impl Establish {
    pub(crate) fn sign(
        key: &SigningKey,
        network: &NetworkId,
        relay: NodeId,
        challenge: &[u8; CHALLENGE_BYTES],
    ) -> Self {
        let message = [relay.as_bytes(), &challenge[..]].concat();
        Self { auth_key: key.public(), signature: key.sign(RENDEZVOUS_ESTABLISH, network, &message) }
    }

    pub(crate) fn read(bytes: &[u8; ESTABLISH_BYTES]) -> Result<Self, FrameError> {
        let (key, rest) = parts::<32>(bytes);
        let (signature, _) = parts::<64>(rest);
        Ok(Self { auth_key: PublicKey::admit(key)?, signature: Signature::from_bytes(*signature) })
    }

    pub(crate) fn write(&self) -> Vec<u8> {
        [&self.auth_key.as_bytes()[..], self.signature.as_bytes()].concat()
    }

    /// The key, once the signature holds.
    pub(crate) fn check(
        &self,
        network: &NetworkId,
        relay: NodeId,
        challenge: &[u8; CHALLENGE_BYTES],
    ) -> Result<PublicKey, SignatureError> {
        let message = [relay.as_bytes(), &challenge[..]].concat();
        self.auth_key.verify(RENDEZVOUS_ESTABLISH, network, &message, &self.signature)?;
        Ok(self.auth_key)
    }
}

/// A client asks a hub to pass an introduction on.
///
/// Wire form: `auth key 32 | effort u8 | nonce u64 | introduction 1488`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Introduce {
    /// Not admitted: a hub only looks it up.
    pub(crate) auth_key: [u8; 32],
    pub(crate) effort: Effort,
    pub(crate) nonce: u64,
    pub(crate) sealed: Sealed,
}

impl Introduce {
    pub(crate) fn read(bytes: &[u8; INTRODUCE_BYTES]) -> Result<Self, FrameError> {
        let (auth_key, rest) = parts::<32>(bytes);
        let (&[bits], rest) = parts::<1>(rest);
        let (nonce, sealed) = parts::<8>(rest);
        let (sealed, _) = parts::<INTRODUCTION_BYTES>(sealed);
        let effort = Effort::from_bits(bits).ok_or(FrameError::Effort(bits))?;
        Ok(Self { auth_key: *auth_key, effort, nonce: u64::from_be_bytes(*nonce), sealed: Box::new(*sealed) })
    }

    pub(crate) fn write(&self) -> Vec<u8> {
        [&self.auth_key[..], &[self.effort.bits()], &self.nonce.to_be_bytes(), &self.sealed[..]].concat()
    }
}

/// What a hub answers to an [`Introduce`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The service has it.
    Passed,
    /// No such service is here, or no longer.
    Unknown,
    /// Others did more work; so much would outbid them.
    Busy(Effort),
    /// The same introduction came before.
    Repeated,
}

impl Answer {
    pub(crate) fn read(&[code, bits]: &[u8; ANSWER_BYTES]) -> Result<Self, FrameError> {
        let effort = Effort::from_bits(bits).ok_or(FrameError::Effort(bits))?;
        match (code, bits) {
            (1, 0) => Ok(Self::Passed),
            (2, 0) => Ok(Self::Unknown),
            (3, _) => Ok(Self::Busy(effort)),
            (4, 0) => Ok(Self::Repeated),
            (1 | 2 | 4, bits) => Err(FrameError::Effort(bits)),
            (code, _) => Err(FrameError::Code(code)),
        }
    }

    pub(crate) const fn write(self) -> [u8; ANSWER_BYTES] {
        match self {
            Self::Passed => [1, 0],
            Self::Unknown => [2, 0],
            Self::Busy(effort) => [3, effort.bits()],
            Self::Repeated => [4, 0],
        }
    }
}

/// The first `N` bytes and the rest, of a message whose length is in its type.
fn parts<const N: usize>(bytes: &[u8]) -> (&[u8; N], &[u8]) {
    bytes.split_first_chunk().expect("the length of a message is in its type")
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHALLENGE: [u8; CHALLENGE_BYTES] = [4; CHALLENGE_BYTES];

    #[test]
    fn the_signature_binds_network_relay_and_challenge() {
        let key = SigningKey::from_seed(&[1; 32]);
        let (network, relay) = (NetworkId::from_name("test"), NodeId::from_bytes([2; 32]));
        let signed = Establish::sign(&key, &network, relay, &CHALLENGE);
        let read = Establish::read(&signed.write().try_into().unwrap()).unwrap();
        assert_eq!(read.check(&network, relay, &CHALLENGE), Ok(key.public()));
        let other_relay = NodeId::from_bytes([3; 32]);
        let mut other_challenge = CHALLENGE;
        other_challenge[31] ^= 1;
        assert!(read.check(&NetworkId::from_name("other"), relay, &CHALLENGE).is_err());
        assert!(read.check(&network, other_relay, &CHALLENGE).is_err());
        assert!(read.check(&network, relay, &other_challenge).is_err());
        let stolen = Establish { auth_key: SigningKey::from_seed(&[2; 32]).public(), ..read };
        assert!(stolen.check(&network, relay, &CHALLENGE).is_err());
    }

    #[test]
    fn answers_have_one_form() {
        for first in 0..=u8::MAX {
            for second in 0..=u8::MAX {
                if let Ok(answer) = Answer::read(&[first, second]) {
                    assert_eq!(answer.write(), [first, second]);
                }
            }
        }
        assert_eq!(Answer::read(&[3, 20]), Ok(Answer::Busy(Effort::MOST)));
        assert_eq!(Answer::read(&[3, 21]), Err(FrameError::Effort(21)));
        assert_eq!(Answer::read(&[5, 0]), Err(FrameError::Code(5)));
        assert_eq!(Answer::read(&[1, 1]), Err(FrameError::Effort(1)));
    }
}
