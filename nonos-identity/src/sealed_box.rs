//! Encryption of a short message to X25519 keys.

use core::fmt;

use chacha20::ChaCha20Rng;
use chacha20::rand_core::{Rng as _, SeedableRng as _};
use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{ChaCha20Poly1305, Nonce};
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable as _, Kem, OpModeR, OpModeS, Serializable as _};
use minicbor::{Decode, Encode};
use zeroize::Zeroizing;

use crate::digest::Digest;
use crate::domain::Domain;
use crate::domains::{BOX_KEY, SHARED_BOX};
use crate::identity::StaticSecret;
use crate::wire::Wire;

type Aead = hpke::aead::ChaCha20Poly1305;
type Kdf = hpke::kdf::HkdfSha256;

/// Bytes that authentication adds.
const TAG_BYTES: usize = 16;

/// Why a message was not sealed or not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// A recipient's key has a small order: everybody could open the box. The recipient's fault.
    #[error("recipient's key has a small order")]
    Recipient,
    /// No recipient, or more than [`SharedBox::MAX_RECIPIENTS`]; the caller's fault.
    #[error("{0} recipients are not within 1 and {max}", max = SharedBox::MAX_RECIPIENTS)]
    Recipients(usize),
    /// The message is longer than [`SealedBox::MAX_PLAIN_BYTES`]; the caller's fault.
    #[error("{len} bytes exceed the limit of {}", SealedBox::MAX_PLAIN_BYTES)]
    TooLong {
        /// Its bytes.
        len: usize,
    },
    /// For another key, domain or associated data, or altered. It does not say which.
    #[error("box does not open")]
    Open,
}

/// A message that only the holder of one X25519 key can read: RFC 9180, base mode, one message,
/// DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20-Poly1305; `info` is the domain.
///
/// It says nothing about who sealed it, and whoever knows the key can. A thief of the recipient's
/// key reads old boxes: there is no forward secrecy on that side. Its length tells the
/// message's. The caller binds network and context by the associated data.
///
/// Wire form: `[encapsulated key, ciphertext]`.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub struct SealedBox {
    #[cbor(n(0), with = "minicbor::bytes")]
    enc: [u8; 32],
    #[cbor(n(1), with = "minicbor::bytes")]
    ciphertext: Vec<u8>,
}

impl Wire for SealedBox {
    const MAX_BYTES: usize = Self::MAX_PLAIN_BYTES + TAG_BYTES + 64;
}

impl SealedBox {
    /// Longest message, in bytes; with a frame around it, a box still fits an
    /// [`Envelope`](crate::Envelope). It bounds what a stranger can make us hold before the key
    /// is tried.
    pub const MAX_PLAIN_BYTES: usize = 60 * 1024;

    /// Encrypts `plain` to a public key, and binds `domain` and `aad` to it.
    ///
    /// `ephemeral` is fresh from the caller's generator and used for this one box; all randomness
    /// follows from it.
    ///
    /// # Errors
    /// [`SealError::Recipient`] or [`SealError::TooLong`].
    pub fn seal(
        to: &[u8; 32],
        ephemeral: &StaticSecret,
        domain: Domain,
        aad: &[u8],
        plain: &[u8],
    ) -> Result<Self, SealError> {
        Self::seal_with(to, &mut generator(ephemeral), domain, aad, plain)
    }

    fn seal_with(
        to: &[u8; 32],
        random: &mut ChaCha20Rng,
        domain: Domain,
        aad: &[u8],
        plain: &[u8],
    ) -> Result<Self, SealError> {
        check_len(plain)?;
        let to = <X25519HkdfSha256 as Kem>::PublicKey::from_bytes(to).map_err(|_| SealError::Recipient)?;
        let (enc, ciphertext) = hpke::single_shot_seal_with_rng::<Aead, Kdf, X25519HkdfSha256>(
            &OpModeS::Base,
            &to,
            domain.as_bytes(),
            plain,
            aad,
            random,
        )
        .map_err(|_| SealError::Recipient)?;
        Ok(Self { enc: enc.to_bytes().into(), ciphertext })
    }

    /// Decrypts with the recipient's key.
    ///
    /// # Errors
    /// [`SealError::Open`] if it is for another key, domain or associated data, or altered.
    pub fn open(
        &self,
        secret: &StaticSecret,
        domain: Domain,
        aad: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, SealError> {
        type Secret = <X25519HkdfSha256 as Kem>::PrivateKey;
        type Encapsulated = <X25519HkdfSha256 as Kem>::EncappedKey;
        let secret = Secret::from_bytes(&*secret.to_bytes()).map_err(|_| SealError::Open)?;
        let enc = Encapsulated::from_bytes(&self.enc).map_err(|_| SealError::Open)?;
        hpke::single_shot_open::<Aead, Kdf, X25519HkdfSha256>(
            &OpModeR::Base,
            &secret,
            &enc,
            domain.as_bytes(),
            &self.ciphertext,
            aad,
        )
        .map(Zeroizing::new)
        .map_err(|_| SealError::Open)
    }
}

impl fmt::Debug for SealedBox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealedBox({} bytes)", self.ciphertext.len())
    }
}

/// One message for several recipients: encrypted once under a content key, which a
/// [`SealedBox`] brings to each. It tells how many recipients there are, not who.
///
/// The content key is committed to in the clear, so a dishonest sender cannot make a box that
/// two recipients read differently. A recipient knows the content key, and could send the others
/// another message under it: a box does not authenticate its sender.
///
/// Wire form: `[key commitment, [sealed box...], ciphertext]`.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub struct SharedBox {
    #[n(0)]
    commitment: Digest,
    #[cbor(n(1), decode_with = "decode_keys")]
    keys: Vec<SealedBox>,
    #[cbor(n(2), with = "minicbor::bytes")]
    ciphertext: Vec<u8>,
}

impl Wire for SharedBox {
    const MAX_BYTES: usize = SealedBox::MAX_PLAIN_BYTES + TAG_BYTES + 64 + Self::MAX_RECIPIENTS * 96;
}

fn decode_keys<C>(
    d: &mut minicbor::Decoder<'_>,
    _: &mut C,
) -> Result<Vec<SealedBox>, minicbor::decode::Error> {
    let keys: Vec<SealedBox> = d.decode()?;
    if keys.is_empty() || keys.len() > SharedBox::MAX_RECIPIENTS {
        return Err(minicbor::decode::Error::message("number of recipients"));
    }
    Ok(keys)
}

impl SharedBox {
    /// Most recipients. Opening tries one key agreement for each, so this bounds what a sender
    /// can make a recipient compute.
    pub const MAX_RECIPIENTS: usize = 32;

    /// Encrypts `plain` to every one of `to`; otherwise as [`SealedBox::seal`].
    ///
    /// # Errors
    /// [`SealError`] if the number of recipients, one of them or the length is not accepted.
    pub fn seal(
        to: &[[u8; 32]],
        ephemeral: &StaticSecret,
        domain: Domain,
        aad: &[u8],
        plain: &[u8],
    ) -> Result<Self, SealError> {
        if to.is_empty() || to.len() > Self::MAX_RECIPIENTS {
            return Err(SealError::Recipients(to.len()));
        }
        check_len(plain)?;
        let mut random = generator(ephemeral);
        let mut key = Zeroizing::new([0; 32]);
        random.fill_bytes(&mut *key);
        let commitment = Digest::of(BOX_KEY, &[&*key]);
        let bound = bind(&commitment, domain, aad);
        let ciphertext = cipher(&key)
            .encrypt(&Nonce::default(), Payload { msg: plain, aad: bound.as_ref() })
            .map_err(|_| SealError::TooLong { len: plain.len() })?;
        let keys = to
            .iter()
            .map(|to| SealedBox::seal_with(to, &mut random, SHARED_BOX, bound.as_ref(), &*key))
            .collect::<Result<_, _>>()?;
        Ok(Self { commitment, keys, ciphertext })
    }

    /// Decrypts with one recipient's key.
    ///
    /// # Errors
    /// [`SealError::Open`] if the key is no recipient's, or as in [`SealedBox::open`].
    pub fn open(
        &self,
        secret: &StaticSecret,
        domain: Domain,
        aad: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let bound = bind(&self.commitment, domain, aad);
        let opened =
            self.keys.iter().find_map(|wrapped| wrapped.open(secret, SHARED_BOX, bound.as_ref()).ok());
        let key = opened.and_then(|key| <[u8; 32]>::try_from(&key[..]).ok()).map(Zeroizing::new);
        let key = key.ok_or(SealError::Open)?;
        if Digest::of(BOX_KEY, &[&*key]) != self.commitment {
            return Err(SealError::Open);
        }
        cipher(&key)
            .decrypt(&Nonce::default(), Payload { msg: &self.ciphertext, aad: bound.as_ref() })
            .map(Zeroizing::new)
            .map_err(|_| SealError::Open)
    }

    /// Number of recipients.
    #[must_use]
    pub const fn recipients(&self) -> usize {
        self.keys.len()
    }
}

impl fmt::Debug for SharedBox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SharedBox({} bytes for {})", self.ciphertext.len(), self.keys.len())
    }
}

const fn check_len(plain: &[u8]) -> Result<(), SealError> {
    if plain.len() > SealedBox::MAX_PLAIN_BYTES {
        return Err(SealError::TooLong { len: plain.len() });
    }
    Ok(())
}

fn generator(ephemeral: &StaticSecret) -> ChaCha20Rng {
    ChaCha20Rng::from_seed(*ephemeral.to_bytes())
}

fn bind(commitment: &Digest, domain: Domain, aad: &[u8]) -> Digest {
    Digest::of(SHARED_BOX, &[commitment.as_ref(), domain.as_bytes(), aad])
}

/// The key encrypts one message, so its nonce is zero.
fn cipher(key: &[u8; 32]) -> ChaCha20Poly1305 {
    ChaCha20Poly1305::new(key.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire;

    const D: Domain = Domain::new("nonos/identity/test/v1");
    const OTHER: Domain = Domain::new("nonos/identity/other-test/v1");
    const AAD: &[u8] = b"network and context";
    const PLAIN: &[u8] = b"one run, disclosed";

    fn key(byte: u8) -> StaticSecret {
        StaticSecret::from_bytes(&[byte; 32])
    }

    fn sealed() -> SealedBox {
        SealedBox::seal(&key(1).public(), &key(9), D, AAD, PLAIN).expect("honest key")
    }

    fn shared() -> SharedBox {
        let to = [key(1).public(), key(2).public(), key(3).public()];
        SharedBox::seal(&to, &key(9), D, AAD, PLAIN).expect("honest keys")
    }

    /// Every point of small order on the curve and its twist, in all encodings that X25519 takes.
    fn small_orders() -> Vec<[u8; 32]> {
        let mut p = [0xff; 32];
        (p[0], p[31]) = (0xed, 0x7f);
        let near = |delta: i16| {
            let mut bytes = p;
            bytes[0] = u8::try_from(0xed + delta).expect("no carry");
            bytes
        };
        let mut one = [0; 32];
        one[0] = 1;
        let eight = [
            "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
            "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        ];
        let mut all = vec![[0; 32], one, near(-1), near(0), near(1)];
        all.extend(eight.map(|text| crate::hex::parse(text).expect("32 bytes")));
        // X25519 ignores the highest bit.
        all.iter()
            .flat_map(|bytes| {
                [0, 0x80].map(|bit| {
                    let mut b = *bytes;
                    b[31] |= bit;
                    b
                })
            })
            .collect()
    }

    #[test]
    fn a_box_opens_for_its_recipient_domain_and_data_alone() {
        let sealed = sealed();
        assert_eq!(sealed.open(&key(1), D, AAD).as_deref().map(Vec::as_slice), Ok(PLAIN));
        assert_eq!(sealed.open(&key(2), D, AAD), Err(SealError::Open));
        assert_eq!(sealed.open(&key(1), OTHER, AAD), Err(SealError::Open));
        for other in [&b""[..], b"network and contex", b"network and context "] {
            assert_eq!(sealed.open(&key(1), D, other), Err(SealError::Open));
        }
    }

    #[test]
    fn no_altered_bit_of_a_box_opens() {
        let bytes = wire::to_bytes(&sealed());
        for at in 0..bytes.len() * 8 {
            let mut altered = bytes.clone();
            altered[at / 8] ^= 1 << (at % 8);
            // X25519 ignores the highest bit of a key, but the key schedule hashes it.
            let outcome = wire::from_bytes::<SealedBox>(&altered).map(|it| it.open(&key(1), D, AAD));
            assert!(!matches!(outcome, Ok(Ok(_))), "bit {at}");
        }
    }

    #[test]
    fn no_altered_bit_of_a_shared_box_is_read_by_everyone() {
        let bytes = wire::to_bytes(&shared());
        for at in 0..bytes.len() * 8 {
            let mut altered = bytes.clone();
            altered[at / 8] ^= 1 << (at % 8);
            let Ok(altered) = wire::from_bytes::<SharedBox>(&altered) else { continue };
            let read = [1, 2, 3].map(|of| altered.open(&key(of), D, AAD));
            assert!(read.iter().any(Result::is_err), "bit {at}");
            assert!(read.iter().flatten().all(|plain| &plain[..] == PLAIN), "bit {at}");
        }
    }

    #[test]
    fn keys_of_small_order_are_refused_on_both_sides() {
        for small in small_orders() {
            let refused = SealedBox::seal(&small, &key(9), D, AAD, PLAIN);
            assert_eq!(refused, Err(SealError::Recipient), "{small:02x?}");
            let refused = SharedBox::seal(&[key(1).public(), small], &key(9), D, AAD, PLAIN);
            assert_eq!(refused, Err(SealError::Recipient), "{small:02x?}");
            let forged = SealedBox { enc: small, ..sealed() };
            assert_eq!(forged.open(&key(1), D, AAD), Err(SealError::Open));
        }
    }

    #[test]
    fn a_shared_box_opens_for_all_recipients_and_nobody_else() {
        let shared = shared();
        assert_eq!(shared.recipients(), 3);
        for of in [1, 2, 3] {
            assert_eq!(shared.open(&key(of), D, AAD).as_deref().map(Vec::as_slice), Ok(PLAIN));
        }
        assert_eq!(shared.open(&key(4), D, AAD), Err(SealError::Open));
        assert_eq!(shared.open(&key(1), OTHER, AAD), Err(SealError::Open));
        assert_eq!(shared.open(&key(1), D, b""), Err(SealError::Open));
    }

    /// The sender wraps another content key for one recipient: without the commitment that
    /// recipient would be free to read something else.
    #[test]
    fn recipients_cannot_be_given_different_keys() {
        let honest = shared();
        let bound = bind(&honest.commitment, D, AAD);
        let other = SealedBox::seal(&key(2).public(), &key(8), SHARED_BOX, bound.as_ref(), &[5; 32]);
        let ciphertext =
            cipher(&[5; 32]).encrypt(&Nonce::default(), Payload { msg: b"other", aad: bound.as_ref() });
        let forged = SharedBox {
            keys: vec![other.expect("honest key")],
            ciphertext: ciphertext.expect("short"),
            ..honest
        };
        assert_eq!(forged.open(&key(2), D, AAD), Err(SealError::Open));
    }

    #[test]
    fn limits_hold() {
        let longest = vec![7; SealedBox::MAX_PLAIN_BYTES];
        let sealed = SealedBox::seal(&key(1).public(), &key(9), D, AAD, &longest).expect("at the limit");
        let bytes = wire::to_bytes(&sealed);
        assert_eq!(wire::from_bytes::<SealedBox>(&bytes), Ok(sealed));
        let to = vec![key(1).public(); SharedBox::MAX_RECIPIENTS];
        let shared = SharedBox::seal(&to, &key(9), D, AAD, &longest).expect("at the limits");
        let bytes = wire::to_bytes(&shared);
        assert_eq!(wire::from_bytes::<SharedBox>(&bytes), Ok(shared.clone()));

        let long = vec![7; SealedBox::MAX_PLAIN_BYTES + 1];
        let error = SealError::TooLong { len: long.len() };
        assert_eq!(SealedBox::seal(&key(1).public(), &key(9), D, AAD, &long), Err(error));
        assert_eq!(SharedBox::seal(&to, &key(9), D, AAD, &long), Err(error));
        for count in [0, SharedBox::MAX_RECIPIENTS + 1] {
            let to = vec![key(1).public(); count];
            assert_eq!(SharedBox::seal(&to, &key(9), D, AAD, PLAIN), Err(SealError::Recipients(count)));
        }
        for keys in [Vec::new(), vec![shared.keys[0].clone(); SharedBox::MAX_RECIPIENTS + 1]] {
            let bytes = wire::to_bytes(&SharedBox { keys, ciphertext: vec![0; 16], ..shared.clone() });
            assert_eq!(wire::from_bytes::<SharedBox>(&bytes), Err(wire::DecodeError::Malformed));
        }
    }

    #[test]
    fn two_recipients_or_two_ephemerals_share_no_bytes() {
        let seal = |to: u8, with: u8| SealedBox::seal(&key(to).public(), &key(with), D, AAD, PLAIN);
        let (a, b, c) = (seal(1, 8).unwrap(), seal(1, 9).unwrap(), seal(2, 9).unwrap());
        assert!(a.enc != b.enc && a.ciphertext != b.ciphertext && b.ciphertext != c.ciphertext);
        let keys = shared().keys;
        assert!(keys[0].enc != keys[1].enc && keys[1].enc != keys[2].enc);
    }

    /// RFC 9180, appendix A.2.1, sequence number 0.
    #[test]
    fn a_box_of_the_rfc_opens() {
        let secret = "8057991eef8f1f1af18f4a9491d16a1ce333f695d4db8e38da75975c4478e0fb";
        let enc = "1afa08d3dec047a643885163f1180476fa7ddb54c6a8029ea33f95796bf2ac4a";
        let ciphertext = concat!(
            "1c5250d8034ec2b784ba2cfd69dbdb8af406cfe3ff938e131f0def8c8b60b4db",
            "21993c62ce81883d2dd1b51a28"
        );
        let sealed = SealedBox {
            enc: crate::hex::parse(enc).unwrap(),
            ciphertext: crate::hex::parse::<45>(ciphertext).unwrap().to_vec(),
        };
        let secret = StaticSecret::from_bytes(&crate::hex::parse(secret).unwrap());
        let opened = sealed.open(&secret, Domain::new("Ode on a Grecian Urn"), b"Count-0").unwrap();
        assert_eq!(&opened[..], b"Beauty is truth, truth beauty");
    }
}
