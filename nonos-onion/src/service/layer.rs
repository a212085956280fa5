//! Keys, ciphers and padding of the two layers.

use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{ChaCha20Poly1305, Nonce};
use hkdf::SimpleHkdf;
use nonos_identity::{Digest, Domain};
use sha3::Sha3_256;
use zeroize::Zeroizing;

use crate::domains::SERVICE_RANDOMNESS;

/// Bytes that authentication adds.
pub(super) const TAG_BYTES: usize = 16;
/// Length of the padded content, in bytes; ten introduction points take about 1480.
pub(super) const INNER_PLAIN_BYTES: usize = 4096;
/// Length of the padded outer layer before encryption, in bytes.
pub(super) const OUTER_PLAIN_BYTES: usize = OUTER_BYTES - TAG_BYTES;
/// Length of the encrypted outer layer, in bytes. A record stays below 16 KiB with its header and a frame
/// around it, which is what a message of a distributed hash table commonly takes.
pub(super) const OUTER_BYTES: usize = 15 * 1024;

/// Ends the content; zeros follow.
const END: u8 = 0x80;

/// HKDF (RFC 5869) with HMAC-SHA3-256; domain and context are its info.
pub(super) fn derive<const N: usize>(
    salt: &[u8; 32],
    secret: &[u8],
    domain: Domain,
    context: &[&[u8]],
) -> Zeroizing<[u8; N]> {
    const { assert!(N <= 255 * Digest::LEN, "the limit of HKDF") };
    let mut output = Zeroizing::new([0; N]);
    SimpleHkdf::<Sha3_256>::new(Some(salt), secret)
        .expand(Digest::of(domain, context).as_bytes(), &mut *output)
        .expect("checked above");
    output
}

/// Encrypts with a key that encrypts nothing else, so its nonce is zero.
pub(super) fn seal(key: &[u8; 32], aad: &[u8], plain: &[u8]) -> Vec<u8> {
    ChaCha20Poly1305::new(key.into())
        .encrypt(&Nonce::default(), Payload { msg: plain, aad })
        .expect("a few KiB are within the limit of the cipher")
}

/// Decrypts; `None` says nothing about why not.
pub(super) fn open(key: &[u8; 32], aad: &[u8], ciphertext: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    ChaCha20Poly1305::new(key.into())
        .decrypt(&Nonce::default(), Payload { msg: ciphertext, aad })
        .ok()
        .map(Zeroizing::new)
}

/// `content`, shorter than `len`, in `len` bytes.
pub(crate) fn pad(content: &[u8], len: usize) -> Zeroizing<Vec<u8>> {
    debug_assert!(content.len() < len);
    let mut plain = Zeroizing::new(Vec::with_capacity(len));
    plain.extend_from_slice(content);
    plain.push(END);
    plain.resize(len, 0);
    plain
}

/// What [`pad`] was given.
pub(crate) fn unpad(plain: &[u8]) -> Option<&[u8]> {
    let end = plain.iter().rposition(|byte| *byte != 0)?;
    let (content, padding) = plain.split_at_checked(end)?;
    (padding.first() == Some(&END)).then_some(content)
}

/// Everything random in one descriptor. It follows from the caller's seed, and from the content and a secret
/// of the service too: a seed that repeats by mistake encrypts no two contents under one key.
pub(super) struct Randomness(Zeroizing<[u8; 32]>);

impl Randomness {
    pub(super) fn new(seed: &[u8; 32], hedge: &[&[u8]]) -> Self {
        let fields: Vec<&[u8]> = [&seed[..]].into_iter().chain(hedge.iter().copied()).collect();
        Self(Zeroizing::new(*Digest::of(SERVICE_RANDOMNESS, &fields).as_bytes()))
    }

    pub(super) fn draw<const N: usize>(&self, purpose: &[u8], number: usize) -> Zeroizing<[u8; N]> {
        derive(&[0; 32], &*self.0, SERVICE_RANDOMNESS, &[purpose, &number.to_be_bytes()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_has_one_form() {
        for content in [&b""[..], b"a", b"a\0", &[END, 0]] {
            let plain = pad(content, 8);
            assert_eq!((plain.len(), unpad(&plain)), (8, Some(content)));
        }
        for plain in [&[][..], &[0; 8], &[1, 2, 3], &[1, END, 0, 1]] {
            assert_eq!(unpad(plain), None, "{plain:?}");
        }
    }

    #[test]
    fn keys_differ_by_every_input() {
        let d = |n: u8| if n == 3 { SERVICE_RANDOMNESS } else { crate::domains::SERVICE_OUTER_KEY };
        let key =
            |n: u8| derive::<32>(&[u8::from(n == 1); 32], &[u8::from(n == 2)], d(n), &[&[u8::from(n == 4)]]);
        let mut keys: Vec<_> = (0..5).map(|n| *key(n)).collect();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), 5);
    }

    #[test]
    fn a_seed_that_repeats_yields_other_bytes_for_other_content() {
        let draw =
            |seed: u8, hedge: &[&[u8]], number| Randomness::new(&[seed; 32], hedge).draw::<32>(b"x", number);
        let first = draw(1, &[b"a", b"b"], 0);
        assert_eq!(first, draw(1, &[b"a", b"b"], 0));
        for other in [draw(2, &[b"a", b"b"], 0), draw(1, &[b"ab", b""], 0), draw(1, &[b"a", b"b"], 1)] {
            assert_ne!(first, other);
        }
    }
}
