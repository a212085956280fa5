//! The handshake between a client and an onion service:
//! `Noise_NKpsk0+psk2_25519_AESGCM_BLAKE2s` (Noise rev. 34, §9) to the encryption key of an
//! introduction point.
//!
//! ```text
//! psk0      = H(subcredential)
//! message 1 = noise(psk0, e, es, payload = ML-KEM key || padded introduction)     1488 bytes
//! psk2      = H(ML-KEM secret || ML-KEM ciphertext || hash after message 1)
//! message 2 = ML-KEM ciphertext || noise(e, ee, psk2, no payload)                 1136 bytes
//! ```
//! Confidentiality of the stream holds while X25519 or ML-KEM does. The service is authenticated by
//! X25519 alone; what proves the client is that it knows the subcredential and could read the
//! introduction point. The introduction itself is secret until somebody who knows the address takes the
//! encryption key or breaks X25519.

use core::fmt;

use libcrux_ml_kem::mlkem768;
use minicbor::{Decode, Encode};
use nonos_identity::wire::{self, Wire};
use nonos_identity::{Digest, Epoch, NetworkId, NodeId, PublicKey, StaticSecret};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use zeroize::Zeroizing;

use crate::descriptor::RelayDescriptor;
use crate::domains;
use crate::handshake::{
    AEAD_TAG_BYTES, HandshakeError, KEM_CIPHERTEXT_BYTES, KEM_KEY_BYTES, builder, psk as hybrid_psk,
};
use crate::service::layer::{pad, unpad};
use crate::service::{IntroductionPoint, PeriodKeys};

pub(crate) use crate::handshake::REPLY_BYTES;

/// Length of the first message, in bytes.
pub(crate) const INTRODUCTION_BYTES: usize = 32 + KEM_KEY_BYTES + CONTENT_BYTES + AEAD_TAG_BYTES;
/// Length of what a client tells the service, padded, in bytes.
const CONTENT_BYTES: usize = 256;
/// Length of a cookie, in bytes.
pub(crate) const COOKIE_BYTES: usize = 32;

const PATTERN: &str = "Noise_NKpsk0+psk2_25519_AESGCM_BLAKE2s";
/// The only suite: X25519 with ML-KEM-768.
const SUITE_HYBRID: u8 = 1;

/// The first message.
pub(crate) type Sealed = Box<[u8; INTRODUCTION_BYTES]>;

/// A relay as somebody else describes it: enough to make it the end of a circuit, if one has no
/// descriptor of it. Who gives the hint may lie to steer who takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct RelayHint {
    /// The relay.
    #[n(0)]
    pub relay: NodeId,
    /// Its X25519 onion key of `epoch`.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub onion_key: [u8; 32],
    /// The epoch of the key.
    #[n(2)]
    pub epoch: Epoch,
}

impl From<&RelayDescriptor> for RelayHint {
    fn from(relay: &RelayDescriptor) -> Self {
        Self { relay: relay.relay, onion_key: relay.onion_key, epoch: relay.epoch }
    }
}

impl From<&IntroductionPoint> for RelayHint {
    fn from(point: &IntroductionPoint) -> Self {
        Self { relay: point.relay, onion_key: point.onion_key, epoch: point.epoch }
    }
}

/// What a client tells a service: where it waits, and for what.
///
/// Wire form: `[[relay, onion key, epoch], cookie, port]`.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Introduction {
    #[n(0)]
    pub(crate) rendezvous: RelayHint,
    #[cbor(n(1), with = "minicbor::bytes")]
    pub(crate) cookie: [u8; COOKIE_BYTES],
    #[n(2)]
    pub(crate) port: u16,
}

impl Wire for Introduction {
    const MAX_BYTES: usize = CONTENT_BYTES - 1;
}

/// What both ends must agree on before the first message; it is not sent.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    pub(crate) network: &'a NetworkId,
    /// The introduction point's relay.
    pub(crate) relay: NodeId,
    /// By which the relay knows the service.
    pub(crate) auth_key: &'a PublicKey,
    pub(crate) keys: &'a PeriodKeys,
}

impl Context<'_> {
    fn prologue(&self) -> Vec<u8> {
        [
            domains::RENDEZVOUS_HANDSHAKE.as_bytes(),
            &[SUITE_HYBRID],
            self.network.as_bytes(),
            self.relay.as_bytes(),
            self.auth_key.as_bytes(),
            &self.keys.period.number().to_be_bytes(),
        ]
        .concat()
    }

    fn psk(&self) -> Zeroizing<[u8; 32]> {
        let subcredential = self.keys.subcredential.as_bytes();
        Zeroizing::new(*Digest::of(domains::RENDEZVOUS_PSK, &[subcredential]).as_bytes())
    }
}

/// The client between the two messages.
pub(crate) struct Initiator {
    noise: Box<snow::HandshakeState>,
    kem: Box<mlkem768::MlKem768PrivateKey>,
}

impl Initiator {
    /// Makes the first message to the holder of an introduction point's encryption key.
    pub(crate) fn start(
        context: &Context<'_>,
        encryption_key: &[u8; 32],
        introduction: &Introduction,
        seed: &[u8; 32],
    ) -> Result<(Self, Sealed), HandshakeError> {
        let mut rng = ChaCha20Rng::from_seed(*seed);
        let (prologue, psk) = (context.prologue(), context.psk());
        let mut noise = builder(PATTERN, &mut rng)?
            .prologue(&prologue)
            .and_then(|builder| builder.psk(0, &psk))
            .and_then(|builder| builder.remote_public_key(encryption_key))
            .and_then(snow::Builder::build_initiator)
            .map_err(|_| HandshakeError)?;
        let mut randomness = Zeroizing::new([0; 64]);
        rng.fill_bytes(&mut *randomness);
        let (kem, kem_key) = mlkem768::generate_key_pair(*randomness).into_parts();
        let content = pad(&Zeroizing::new(wire::to_bytes(introduction)), CONTENT_BYTES);
        let payload = Zeroizing::new([kem_key.as_slice(), &content[..]].concat());
        let mut message = Box::new([0; INTRODUCTION_BYTES]);
        let len = noise.write_message(&payload, &mut *message).map_err(|_| HandshakeError)?;
        debug_assert_eq!(len, INTRODUCTION_BYTES);
        Ok((Self { noise: Box::new(noise), kem: Box::new(kem) }, message))
    }

    /// Takes the second message.
    pub(crate) fn finish(
        mut self,
        message: &[u8; REPLY_BYTES],
    ) -> Result<snow::TransportState, HandshakeError> {
        let (ciphertext, reply) =
            message.split_first_chunk::<KEM_CIPHERTEXT_BYTES>().ok_or(HandshakeError)?;
        let secret = Zeroizing::new(mlkem768::decapsulate(&self.kem, &ciphertext.into()));
        let psk = hybrid_psk(&secret, ciphertext, self.noise.get_handshake_hash());
        self.noise.set_psk(2, &*psk).map_err(|_| HandshakeError)?;
        self.noise.read_message(reply, &mut []).map_err(|_| HandshakeError)?;
        self.noise.into_transport_mode().map_err(|_| HandshakeError)
    }
}

impl fmt::Debug for Initiator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Initiator(..)")
    }
}

/// The service that has read the first message and may still refuse it as a replay.
pub(crate) struct Responder {
    noise: Box<snow::HandshakeState>,
    kem_key: Box<mlkem768::MlKem768PublicKey>,
    introduction: Introduction,
    rng: ChaCha20Rng,
}

impl Responder {
    /// Reads the first message with the secret encryption key.
    pub(crate) fn read(
        context: &Context<'_>,
        encryption_secret: &StaticSecret,
        message: &[u8; INTRODUCTION_BYTES],
        seed: &[u8; 32],
    ) -> Result<Self, HandshakeError> {
        let mut rng = ChaCha20Rng::from_seed(*seed);
        let (prologue, psk) = (context.prologue(), context.psk());
        let secret = encryption_secret.to_bytes();
        let mut noise = builder(PATTERN, &mut rng)?
            .prologue(&prologue)
            .and_then(|builder| builder.psk(0, &psk))
            .and_then(|builder| builder.local_private_key(&*secret))
            .and_then(snow::Builder::build_responder)
            .map_err(|_| HandshakeError)?;
        let mut payload = Zeroizing::new([0; KEM_KEY_BYTES + CONTENT_BYTES]);
        noise.read_message(message, &mut *payload).map_err(|_| HandshakeError)?;
        let (kem_key, content) = payload.split_first_chunk::<KEM_KEY_BYTES>().ok_or(HandshakeError)?;
        let kem_key = mlkem768::MlKem768PublicKey::from(kem_key);
        // FIPS 203 §7.2: a key that is not reduced is refused before it is used.
        if !mlkem768::validate_public_key(&kem_key) {
            return Err(HandshakeError);
        }
        let introduction = read_content(content).ok_or(HandshakeError)?;
        Ok(Self { noise: Box::new(noise), kem_key: Box::new(kem_key), introduction, rng })
    }

    /// What the client tells the service.
    pub(crate) const fn introduction(&self) -> &Introduction {
        &self.introduction
    }

    /// Makes the second message.
    pub(crate) fn reply(mut self) -> Result<(Box<[u8; REPLY_BYTES]>, snow::TransportState), HandshakeError> {
        let mut randomness = Zeroizing::new([0; 32]);
        self.rng.fill_bytes(&mut *randomness);
        let (ciphertext, secret) = mlkem768::encapsulate(&self.kem_key, *randomness);
        let secret = Zeroizing::new(secret);
        let psk = hybrid_psk(&secret, ciphertext.as_slice(), self.noise.get_handshake_hash());
        self.reply_with(ciphertext.as_slice(), &psk)
    }

    fn reply_with(
        mut self,
        ciphertext: &[u8],
        psk: &[u8; 32],
    ) -> Result<(Box<[u8; REPLY_BYTES]>, snow::TransportState), HandshakeError> {
        self.noise.set_psk(2, psk).map_err(|_| HandshakeError)?;
        let mut message = Box::new([0; REPLY_BYTES]);
        let (kem_part, noise_part) = message.split_at_mut(KEM_CIPHERTEXT_BYTES);
        kem_part.copy_from_slice(ciphertext);
        self.noise.write_message(&[], noise_part).map_err(|_| HandshakeError)?;
        let transport = self.noise.into_transport_mode().map_err(|_| HandshakeError)?;
        Ok((message, transport))
    }
}

impl fmt::Debug for Responder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Responder(..)")
    }
}

/// The client's ephemeral key, by which a service knows a replay.
pub(crate) fn ephemeral(message: &[u8; INTRODUCTION_BYTES]) -> &[u8; 32] {
    message.first_chunk().expect("an introduction is longer than a key")
}

pub(crate) fn read_content(padded: &[u8]) -> Option<Introduction> {
    wire::from_bytes(unpad(padded)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::TimePeriod;
    use nonos_identity::SigningKey;

    fn keys(identity: u8, period: u64) -> PeriodKeys {
        let identity = SigningKey::from_seed(&[identity; 32]).public();
        PeriodKeys::of(&network(), &identity, TimePeriod::from_number(period))
    }

    fn network() -> NetworkId {
        NetworkId::from_name("rendezvous")
    }

    fn auth_key(number: u8) -> PublicKey {
        SigningKey::from_seed(&[number; 32]).public()
    }

    fn secret() -> StaticSecret {
        StaticSecret::from_bytes(&[11; 32])
    }

    fn introduction() -> Introduction {
        let rendezvous = RelayHint {
            relay: NodeId::from_bytes([5; 32]),
            onion_key: [6; 32],
            epoch: Epoch::from_number(u64::MAX),
        };
        Introduction { rendezvous, cookie: [7; 32], port: u16::MAX }
    }

    fn start(context: &Context<'_>) -> (Initiator, Sealed) {
        Initiator::start(context, &secret().public(), &introduction(), &[2; 32]).unwrap()
    }

    fn read(context: &Context<'_>, message: &[u8; INTRODUCTION_BYTES]) -> Result<Responder, HandshakeError> {
        Responder::read(context, &secret(), message, &[3; 32])
    }

    /// Whether what one end writes the other reads.
    fn agree(one: &mut snow::TransportState, other: &mut snow::TransportState) -> bool {
        let (mut sealed, mut opened) = ([0; 64], [0; 64]);
        let len = one.write_message(b"hello", &mut sealed).unwrap();
        other.read_message(&sealed[..len], &mut opened).is_ok_and(|len| &opened[..len] == b"hello")
    }

    macro_rules! context {
        ($network:ident, $auth:ident, $keys:ident) => {
            Context { network: &$network, relay: NodeId::from_bytes([1; 32]), auth_key: &$auth, keys: &$keys }
        };
    }

    #[test]
    fn both_ends_agree_in_both_directions() {
        let (network, auth, keys) = (network(), auth_key(1), keys(1, 9));
        let context = context!(network, auth, keys);
        let (initiator, message) = start(&context);
        let responder = read(&context, &message).unwrap();
        assert_eq!(*responder.introduction(), introduction());
        let (reply, mut service) = responder.reply().unwrap();
        let mut client = initiator.finish(&reply).unwrap();
        assert!(agree(&mut client, &mut service) && agree(&mut service, &mut client));
        assert_eq!(start(&context).1, message, "the same seed makes the same bytes");
    }

    #[test]
    fn every_part_of_the_context_is_bound() {
        let (ours, other_network) = (network(), NetworkId::from_name("another"));
        let (auth, other_auth) = (auth_key(1), auth_key(2));
        let (own, stranger, later) = (keys(1, 9), keys(2, 9), keys(1, 10));
        let base = context!(ours, auth, own);
        let (_, message) = start(&base);
        assert!(read(&base, &message).is_ok());
        // Of another period alone, with the subcredential of this one.
        let moved = PeriodKeys { period: TimePeriod::from_number(10), ..own.clone() };
        for (what, wrong) in [
            ("network", Context { network: &other_network, ..base }),
            ("relay", Context { relay: NodeId::from_bytes([2; 32]), ..base }),
            ("authentication key", Context { auth_key: &other_auth, ..base }),
            ("address", Context { keys: &stranger, ..base }),
            ("subcredential's period", Context { keys: &later, ..base }),
            ("period", Context { keys: &moved, ..base }),
        ] {
            assert!(read(&wrong, &message).is_err(), "{what}");
            assert!(read(&base, &start(&wrong).1).is_err(), "{what}");
        }
        let other_key = StaticSecret::from_bytes(&[12; 32]);
        assert!(Responder::read(&base, &other_key, &message, &[3; 32]).is_err());
    }

    /// Who knows the introduction point and the prologue, but not the address.
    #[test]
    fn the_subcredential_is_needed_and_not_the_prologue_alone() {
        let (network, auth, own) = (network(), auth_key(1), keys(1, 9));
        let stranger = PeriodKeys { period: own.period, ..keys(2, 9) };
        let (base, wrong) = (context!(network, auth, own), context!(network, auth, stranger));
        assert_eq!(base.prologue(), wrong.prologue());
        assert!(read(&base, &start(&wrong).1).is_err());
    }

    #[test]
    fn a_changed_byte_anywhere_fails() {
        let (network, auth, keys) = (network(), auth_key(1), keys(1, 9));
        let context = context!(network, auth, keys);
        let (_, message) = start(&context);
        for offset in [0, 31, 32, 600, 1215, 1216, 1471, 1472, INTRODUCTION_BYTES - 1] {
            let mut changed = message.clone();
            changed[offset] ^= 1;
            assert!(read(&context, &changed).is_err(), "message 1, byte {offset}");
        }
        let (reply, _) = read(&context, &message).unwrap().reply().unwrap();
        for offset in [0, 500, 1087, 1088, 1119, 1120, REPLY_BYTES - 1] {
            let mut changed = reply.clone();
            changed[offset] ^= 1;
            assert!(start(&context).0.finish(&changed).is_err(), "message 2, byte {offset}");
        }
    }

    #[test]
    fn a_service_without_ml_kem_cannot_answer() {
        let (network, auth, keys) = (network(), auth_key(1), keys(1, 9));
        let context = context!(network, auth, keys);
        let (initiator, message) = start(&context);
        let responder = read(&context, &message).unwrap();
        let (ciphertext, _) = mlkem768::encapsulate(&responder.kem_key, [3; 32]);
        let (reply, _) = responder.reply_with(ciphertext.as_slice(), &[0; 32]).unwrap();
        assert!(initiator.finish(&reply).is_err());
    }

    #[test]
    fn the_largest_introduction_fits_and_padding_is_canonical() {
        let content = pad(&wire::to_bytes(&introduction()), CONTENT_BYTES);
        assert_eq!(read_content(&content), Some(introduction()));
        for at in 0..CONTENT_BYTES {
            let mut changed = content.to_vec();
            changed[at] ^= 0x10;
            assert_ne!(read_content(&changed), Some(introduction()), "byte {at}");
        }
    }
}
