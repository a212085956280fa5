//! The handshake of one hop: `Noise_NKpsk2_25519_ChaChaPoly_BLAKE2s` (Noise rev. 34) to the
//! relay's epoch key, with a pre-shared key from an ephemeral ML-KEM-768 exchange (FIPS 203).
//!
//! ```text
//! message 1 = noise(e, es, payload = ML-KEM key || routing)       1312 bytes
//! h1        = handshake hash after message 1
//! psk       = H(ML-KEM secret || ML-KEM ciphertext || h1)
//! message 2 = ML-KEM ciphertext || noise(e, ee, psk, no payload)  1136 bytes
//! keys      = HKDF(salt = final handshake hash, Split())
//! ```
//! The classical suite has zeros in place of ML-KEM's key and ciphertext, and a psk of zeros.
//! Confidentiality of the layer keys holds while either X25519 or ML-KEM does; the relay is
//! authenticated by X25519 alone. The routing of message 1 is under X25519 to the epoch key alone:
//! it is secret until that key or X25519 falls. Suite and slot are part of the prologue, so nobody
//! in between can change them.

use core::fmt;

use hkdf::SimpleHkdf;
use libcrux_ml_kem::mlkem768;
use nonos_identity::{Digest, Epoch, NetworkId, NodeId};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use sha3::Sha3_256;
use snow::params::{CipherChoice, DHChoice, HashChoice};
use snow::resolvers::{CryptoResolver, DefaultResolver, RingResolver};
use snow::types::{Cipher, Dh, Hash, Random};
use zeroize::Zeroizing;

use crate::cgo::LAYER_SEED_BYTES;
use crate::domains;
use crate::records::{ROUTING_BYTES, Slot};

/// How the keys of a circuit's layers come about. The client chooses one for all hops; it is in the prologue of
/// every handshake, so nobody can change it on the way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Suite {
    /// X25519 with ML-KEM-768, ChaCha20-Poly1305, BLAKE2s, CGO on AES-128: what is recorded today is secret
    /// while either X25519 or ML-KEM holds.
    #[default]
    Hybrid = 1,
    /// The same without ML-KEM, for clients that count every millisecond: whoever breaks X25519 later reads
    /// what is recorded today. Its messages have the same size.
    Classical = 2,
}

impl Suite {
    pub(crate) fn from_byte(byte: u8) -> Result<Self, HandshakeError> {
        match byte {
            1 => Ok(Self::Hybrid),
            2 => Ok(Self::Classical),
            _ => Err(HandshakeError),
        }
    }
}

/// Length of the first message, in bytes.
pub(crate) const REQUEST_BYTES: usize = 32 + KEM_KEY_BYTES + ROUTING_BYTES + AEAD_TAG_BYTES;
/// Length of the second message, in bytes.
pub(crate) const REPLY_BYTES: usize = KEM_CIPHERTEXT_BYTES + 32 + AEAD_TAG_BYTES;

const PATTERN: &str = "Noise_NKpsk2_25519_ChaChaPoly_BLAKE2s";
pub(crate) const KEM_KEY_BYTES: usize = 1184;
pub(crate) const KEM_CIPHERTEXT_BYTES: usize = 1088;
pub(crate) const AEAD_TAG_BYTES: usize = 16;

/// The handshake does not complete. It says that, and not why, to leave no oracle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("handshake failed")]
pub(crate) struct HandshakeError;

/// The key material of one layer.
pub(crate) type LayerSeed = Zeroizing<[u8; LAYER_SEED_BYTES]>;

/// What both ends must agree on before the first message; it is not sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Context<'a> {
    pub(crate) suite: Suite,
    pub(crate) epoch: Epoch,
    pub(crate) relay: NodeId,
    pub(crate) network: &'a NetworkId,
    /// Which record of the message the request is.
    pub(crate) slot: Slot,
}

impl Context<'_> {
    fn prologue(&self) -> Vec<u8> {
        [
            domains::HANDSHAKE.as_bytes(),
            &[self.suite as u8],
            &self.epoch.number().to_be_bytes(),
            self.relay.as_bytes(),
            self.network.as_bytes(),
            &[self.slot.number()],
        ]
        .concat()
    }
}

/// The client between the two messages.
pub(crate) struct Initiator {
    noise: Box<snow::HandshakeState>,
    /// Of the hybrid suite.
    kem: Option<Box<mlkem768::MlKem768PrivateKey>>,
}

impl Initiator {
    /// Makes the first message to a relay whose public epoch key is `onion_key`.
    pub(crate) fn start(
        context: &Context<'_>,
        onion_key: &[u8; 32],
        routing: &[u8; ROUTING_BYTES],
        seed: &[u8; 32],
    ) -> Result<(Self, [u8; REQUEST_BYTES]), HandshakeError> {
        let mut rng = ChaCha20Rng::from_seed(*seed);
        let prologue = context.prologue();
        let mut noise = builder(PATTERN, &mut rng)?
            .prologue(&prologue)
            .and_then(|builder| builder.remote_public_key(onion_key))
            .and_then(snow::Builder::build_initiator)
            .map_err(|_| HandshakeError)?;
        let (kem, kem_key) = match context.suite {
            Suite::Hybrid => {
                let mut randomness = Zeroizing::new([0; 64]);
                rng.fill_bytes(&mut *randomness);
                let (kem, key) = mlkem768::generate_key_pair(*randomness).into_parts();
                (Some(Box::new(kem)), *key.as_slice())
            }
            Suite::Classical => (None, [0; KEM_KEY_BYTES]),
        };
        let payload = Zeroizing::new([&kem_key[..], routing.as_slice()].concat());
        let mut message = [0; REQUEST_BYTES];
        let len = noise.write_message(&payload, &mut message).map_err(|_| HandshakeError)?;
        debug_assert_eq!(len, REQUEST_BYTES);
        Ok((Self { noise: Box::new(noise), kem }, message))
    }

    /// Takes the second message.
    pub(crate) fn finish(mut self, message: &[u8; REPLY_BYTES]) -> Result<LayerSeed, HandshakeError> {
        let (ciphertext, reply) =
            message.split_first_chunk::<KEM_CIPHERTEXT_BYTES>().ok_or(HandshakeError)?;
        let psk = match &self.kem {
            Some(kem) => {
                let secret = Zeroizing::new(mlkem768::decapsulate(kem, &ciphertext.into()));
                psk(&secret, ciphertext, self.noise.get_handshake_hash())
            }
            None if *ciphertext == [0; KEM_CIPHERTEXT_BYTES] => Zeroizing::new([0; 32]),
            None => return Err(HandshakeError),
        };
        self.noise.set_psk(2, &*psk).map_err(|_| HandshakeError)?;
        self.noise.read_message(reply, &mut []).map_err(|_| HandshakeError)?;
        Ok(layer_seed(&mut self.noise))
    }
}

impl fmt::Debug for Initiator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Initiator(..)")
    }
}

/// The relay that has read the first message and may still refuse it as a replay.
pub(crate) struct Responder {
    noise: Box<snow::HandshakeState>,
    /// Of the hybrid suite.
    kem_key: Option<Box<mlkem768::MlKem768PublicKey>>,
    routing: Zeroizing<[u8; ROUTING_BYTES]>,
    rng: ChaCha20Rng,
}

impl Responder {
    /// Reads the first message with the secret epoch key.
    pub(crate) fn read(
        context: &Context<'_>,
        onion_secret: &[u8; 32],
        message: &[u8; REQUEST_BYTES],
        seed: &[u8; 32],
    ) -> Result<Self, HandshakeError> {
        let mut rng = ChaCha20Rng::from_seed(*seed);
        let prologue = context.prologue();
        let mut noise = builder(PATTERN, &mut rng)?
            .prologue(&prologue)
            .and_then(|builder| builder.local_private_key(onion_secret))
            .and_then(snow::Builder::build_responder)
            .map_err(|_| HandshakeError)?;
        let mut payload = Zeroizing::new([0; KEM_KEY_BYTES + ROUTING_BYTES]);
        noise.read_message(message, &mut *payload).map_err(|_| HandshakeError)?;
        let (kem_key, routing) = payload.split_first_chunk::<KEM_KEY_BYTES>().ok_or(HandshakeError)?;
        let routing = Zeroizing::new(*routing.first_chunk().ok_or(HandshakeError)?);
        let kem_key = match context.suite {
            Suite::Hybrid => {
                let kem_key = mlkem768::MlKem768PublicKey::from(kem_key);
                // FIPS 203 §7.2: a key that is not reduced is refused before it is used.
                if !mlkem768::validate_public_key(&kem_key) {
                    return Err(HandshakeError);
                }
                Some(Box::new(kem_key))
            }
            Suite::Classical if *kem_key == [0; KEM_KEY_BYTES] => None,
            Suite::Classical => return Err(HandshakeError),
        };
        Ok(Self { noise: Box::new(noise), kem_key, routing, rng })
    }

    /// What the client tells this hop.
    pub(crate) fn routing(&self) -> &[u8; ROUTING_BYTES] {
        &self.routing
    }

    /// Makes the second message.
    pub(crate) fn reply(mut self) -> Result<([u8; REPLY_BYTES], LayerSeed), HandshakeError> {
        let mut message = [0; REPLY_BYTES];
        let (kem_part, noise_part) = message.split_at_mut(KEM_CIPHERTEXT_BYTES);
        let psk = match &self.kem_key {
            Some(kem_key) => {
                let mut randomness = Zeroizing::new([0; 32]);
                self.rng.fill_bytes(&mut *randomness);
                let (ciphertext, secret) = mlkem768::encapsulate(kem_key, *randomness);
                let secret = Zeroizing::new(secret);
                kem_part.copy_from_slice(ciphertext.as_slice());
                psk(&secret, kem_part, self.noise.get_handshake_hash())
            }
            None => Zeroizing::new([0; 32]),
        };
        self.noise.set_psk(2, &*psk).map_err(|_| HandshakeError)?;
        self.noise.write_message(&[], noise_part).map_err(|_| HandshakeError)?;
        let seed = layer_seed(&mut self.noise);
        Ok((message, seed))
    }

    /// Answers as a relay without ML-KEM would: the attack that the psk must stop.
    #[cfg(test)]
    fn reply_with_zero_psk(mut self) -> [u8; REPLY_BYTES] {
        let (ciphertext, _) = mlkem768::encapsulate(self.kem_key.as_ref().unwrap(), [3; 32]);
        self.noise.set_psk(2, &[0; 32]).unwrap();
        let mut message = [0; REPLY_BYTES];
        message[..KEM_CIPHERTEXT_BYTES].copy_from_slice(ciphertext.as_slice());
        self.noise.write_message(&[], &mut message[KEM_CIPHERTEXT_BYTES..]).unwrap();
        message
    }
}

impl fmt::Debug for Responder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Responder(..)")
    }
}

/// The client's ephemeral key, by which a relay knows a replay.
pub(crate) fn ephemeral(message: &[u8; REQUEST_BYTES]) -> &[u8; 32] {
    message.first_chunk().expect("a request is longer than a key")
}

/// The pre-shared key of an ML-KEM exchange that began with the messages behind `hash`.
pub(crate) fn psk(secret: &[u8; 32], ciphertext: &[u8], hash: &[u8]) -> Zeroizing<[u8; 32]> {
    Zeroizing::new(*Digest::of(domains::HYBRID_PSK, &[secret, ciphertext, hash]).as_bytes())
}

/// The keys of the final `Split()` (Noise §5.2) depend on every secret of both sides; the salt
/// binds them to every byte that was sent.
fn layer_seed(noise: &mut snow::HandshakeState) -> LayerSeed {
    let salt = noise.get_handshake_hash().to_vec();
    let split = Zeroizing::new(noise.dangerously_get_raw_split());
    let ikm = Zeroizing::new([split.0, split.1].concat());
    let mut seed = Zeroizing::new([0; LAYER_SEED_BYTES]);
    SimpleHkdf::<Sha3_256>::new(Some(&salt), &ikm)
        .expand(domains::LAYER_KEYS.as_bytes(), &mut *seed)
        .expect("160 bytes are within 255 blocks");
    seed
}

/// A handshake of this pattern whose randomness is all from `rng`.
pub(crate) fn builder<'a>(pattern: &str, rng: &mut ChaCha20Rng) -> Result<snow::Builder<'a>, HandshakeError> {
    let params = pattern.parse().map_err(|_| HandshakeError)?;
    let mut seed = Zeroizing::new([0; 32]);
    rng.fill_bytes(&mut *seed);
    Ok(snow::Builder::with_resolver(params, Box::new(SeededResolver(seed))))
}

/// Ring where it has the primitive, and randomness from the caller's seed only.
struct SeededResolver(Zeroizing<[u8; 32]>);

impl CryptoResolver for SeededResolver {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(SeededRandom(ChaCha20Rng::from_seed(*self.0))))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        DefaultResolver.resolve_dh(choice)
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        RingResolver.resolve_hash(choice).or_else(|| DefaultResolver.resolve_hash(choice))
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        RingResolver.resolve_cipher(choice).or_else(|| DefaultResolver.resolve_cipher(choice))
    }
}

struct SeededRandom(ChaCha20Rng);

impl Random for SeededRandom {
    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), snow::Error> {
        self.0.fill_bytes(bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: [u8; 32] = [11; 32];

    fn network() -> NetworkId {
        NetworkId::from_name("handshake")
    }

    fn context(network: &NetworkId) -> Context<'_> {
        Context {
            suite: Suite::Hybrid,
            epoch: Epoch::from_number(5),
            relay: NodeId::from_bytes([1; 32]),
            network,
            slot: slot(2),
        }
    }

    fn slot(number: u8) -> Slot {
        Slot::new(number).unwrap()
    }

    fn public(secret: [u8; 32]) -> [u8; 32] {
        x25519_dalek::PublicKey::from(&x25519_dalek::StaticSecret::from(secret)).to_bytes()
    }

    const ROUTING: [u8; ROUTING_BYTES] = [8; ROUTING_BYTES];

    fn start(context: &Context<'_>) -> (Initiator, [u8; REQUEST_BYTES]) {
        Initiator::start(context, &public(SECRET), &ROUTING, &[2; 32]).unwrap()
    }

    #[test]
    fn both_ends_derive_the_same_fresh_keys() {
        let network = network();
        let context = context(&network);
        let (initiator, request) = start(&context);
        let responder = Responder::read(&context, &SECRET, &request, &[3; 32]).unwrap();
        assert_eq!(responder.routing(), &ROUTING);
        let (reply, relay) = responder.reply().unwrap();
        let client = initiator.finish(&reply).unwrap();
        assert_eq!(*client, *relay);

        let (_, again) = Responder::read(&context, &SECRET, &request, &[4; 32]).unwrap().reply().unwrap();
        assert_ne!(*again, *relay, "the relay's seed matters");
        let (other, _) = Initiator::start(&context, &public(SECRET), &ROUTING, &[9; 32]).unwrap();
        assert!(other.finish(&reply).is_err(), "the client's seed matters");
    }

    #[test]
    fn the_same_seed_makes_the_same_bytes() {
        let network = network();
        assert_eq!(start(&context(&network)).1, start(&context(&network)).1);
    }

    #[test]
    fn every_part_of_the_context_is_bound() {
        let (ours, other) = (network(), NetworkId::from_name("another"));
        let base = context(&ours);
        let (_, request) = start(&base);
        assert!(Responder::read(&base, &SECRET, &request, &[3; 32]).is_ok());
        for wrong in [
            Context { suite: Suite::Classical, ..base },
            Context { epoch: base.epoch.next(), ..base },
            Context { relay: NodeId::from_bytes([2; 32]), ..base },
            Context { network: &other, ..base },
            Context { slot: slot(3), ..base },
        ] {
            assert!(Responder::read(&wrong, &SECRET, &request, &[3; 32]).is_err(), "{wrong:?}");
            let (_, wrong_request) = start(&wrong);
            assert!(Responder::read(&base, &SECRET, &wrong_request, &[3; 32]).is_err(), "{wrong:?}");
        }
        assert!(Responder::read(&base, &[12; 32], &request, &[3; 32]).is_err(), "another relay key");
    }

    #[test]
    fn a_classical_relay_cannot_answer() {
        let network = network();
        let context = context(&network);
        let (initiator, request) = start(&context);
        let reply = Responder::read(&context, &SECRET, &request, &[3; 32]).unwrap().reply_with_zero_psk();
        assert_eq!(initiator.finish(&reply).err(), Some(HandshakeError));
    }

    #[test]
    fn the_classical_suite_keys_a_layer_and_has_no_room_for_anything_else() {
        let network = network();
        let context = Context { suite: Suite::Classical, ..context(&network) };
        let (initiator, request) = start(&context);
        let responder = Responder::read(&context, &SECRET, &request, &[3; 32]).unwrap();
        assert_eq!(responder.routing(), &ROUTING);
        let (reply, relay) = responder.reply().unwrap();
        assert_eq!(*initiator.finish(&reply).unwrap(), *relay);
        for offset in [0, 31, 32, 600, 1215, 1216, 1295, 1296, 1311] {
            let mut changed = request;
            changed[offset] ^= 1;
            assert!(Responder::read(&context, &SECRET, &changed, &[3; 32]).is_err(), "request {offset}");
        }
        for offset in [0, 500, 1087, 1088, 1119, 1120, 1135] {
            let mut changed = reply;
            changed[offset] ^= 1;
            assert!(start(&context).0.finish(&changed).is_err(), "reply {offset}");
        }
        // A hybrid client's key where there should be none.
        let (prologue, key) = (context.prologue(), public(SECRET));
        let mut noise = builder(PATTERN, &mut ChaCha20Rng::from_seed([4; 32]))
            .unwrap()
            .prologue(&prologue)
            .and_then(|builder| builder.remote_public_key(&key))
            .and_then(snow::Builder::build_initiator)
            .unwrap();
        let mut hidden = [0; REQUEST_BYTES];
        noise.write_message(&[&[1; KEM_KEY_BYTES][..], &ROUTING].concat(), &mut hidden).unwrap();
        assert!(Responder::read(&context, &SECRET, &hidden, &[3; 32]).is_err());
    }

    #[test]
    fn a_changed_byte_anywhere_fails() {
        let network = network();
        let context = context(&network);
        let (_, request) = start(&context);
        for offset in [0, 31, 32, 600, 1215, 1216, 1295, 1296, 1311] {
            let mut changed = request;
            changed[offset] ^= 1;
            assert!(Responder::read(&context, &SECRET, &changed, &[3; 32]).is_err(), "request {offset}");
        }
        let (reply, _) = Responder::read(&context, &SECRET, &request, &[3; 32]).unwrap().reply().unwrap();
        for offset in [0, 500, 1087, 1088, 1119, 1120, 1135] {
            let mut changed = reply;
            changed[offset] ^= 1;
            assert!(start(&context).0.finish(&changed).is_err(), "reply {offset}");
        }
    }
}
