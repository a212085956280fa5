//! Crafted keys and signatures on which Ed25519 implementations disagree.

use curve25519_dalek::constants::{ED25519_BASEPOINT_POINT as B, EIGHT_TORSION};
use curve25519_dalek::edwards::EdwardsPoint;
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::Identity as _;
use ed25519_dalek::Verifier as _;
use nonos_identity::testing::verify_untagged;
use nonos_identity::{AdmitError, NodeId, PublicKey};
use sha2::{Digest as _, Sha512};

const MESSAGE: &[u8] = b"message";

/// p = 2^255 - 19, little-endian; y + p encodes y a second time for y < 19.
const P: [u8; 32] = {
    let mut p = [0xff; 32];
    p[0] = 0xed;
    p[31] = 0x7f;
    p
};

fn secret() -> Scalar {
    Scalar::from(0x1234_5678_9abc_def1_u64)
}

fn challenge(r: &[u8; 32], a: &[u8; 32], message: &[u8]) -> Scalar {
    let hash = Sha512::new().chain_update(r).chain_update(a).chain_update(message).finalize();
    Scalar::from_bytes_mod_order_wide(&hash.into())
}

fn join(r: &[u8; 32], s: &[u8; 32]) -> [u8; 64] {
    let mut signature = [0; 64];
    signature[..32].copy_from_slice(r);
    signature[32..].copy_from_slice(s);
    signature
}

/// What the lax rule of the same library says: it shows that a case is one that matters.
fn lax(key: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> bool {
    ed25519_dalek::VerifyingKey::from_bytes(key)
        .is_ok_and(|key| key.verify(message, &ed25519_dalek::Signature::from_bytes(signature)).is_ok())
}

/// A signature of `a` with the commitment `r` shifted by a point.
fn sign(a: Scalar, key: &[u8; 32], nonce: Scalar, shift: EdwardsPoint, message: &[u8]) -> [u8; 64] {
    let r = (B * nonce + shift).compress().to_bytes();
    join(&r, (nonce + challenge(&r, key, message) * a).as_bytes())
}

/// The strict rule of the same library.
fn strict(key: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> bool {
    ed25519_dalek::VerifyingKey::from_bytes(key)
        .is_ok_and(|key| key.verify_strict(message, &ed25519_dalek::Signature::from_bytes(signature)).is_ok())
}

/// `S + L`: the same scalar, encoded a second time.
fn plus_order(mut signature: [u8; 64]) -> [u8; 64] {
    // L = -1 + 1, taken from the library's own -1.
    let mut carry = 1_u16;
    for (byte, minus_one) in signature[32..].iter_mut().zip((-Scalar::ONE).as_bytes()) {
        carry += u16::from(*byte) + u16::from(*minus_one);
        *byte = carry.to_le_bytes()[0];
        carry >>= 8;
    }
    signature
}

/// Who accepts what: the library's `verify`, its `verify_strict`, and *NONOS-Ed25519-v1*. Where the
/// first two disagree, two honest nodes with different libraries would.
#[test]
fn the_acceptance_table() {
    let o = EdwardsPoint::identity();
    let zero = o.compress().to_bytes();
    let key = (B * secret()).compress().to_bytes();
    let nonce = Scalar::from(99_u8);
    let honest = sign(secret(), &key, nonce, o, MESSAGE);
    // y = p + 1: the identity, encoded a second time.
    let mut second_zero = P;
    second_zero[0] += 1;

    let mixed = (B * secret() + EIGHT_TORSION[1]).compress().to_bytes();
    let signed = |message: &[u8; 4]| sign(secret(), &mixed, nonce, o, message);
    let find = |multiple: bool| {
        let multiple_of_eight = |message: &[u8; 4]| {
            let r = (B * nonce).compress().to_bytes();
            (challenge(&r, &mixed, message).as_bytes()[0].is_multiple_of(8)) == multiple
        };
        (0_u32..).map(u32::to_le_bytes).find(multiple_of_eight).expect("one in eight")
    };
    let (even, odd) = (find(true), find(false));
    let torsion_r = sign(secret(), &key, Scalar::ZERO, EIGHT_TORSION[1], MESSAGE);
    let zero_r = sign(secret(), &key, Scalar::ZERO, o, MESSAGE);

    type Row<'a> = (&'a str, [u8; 32], &'a [u8], [u8; 64], [bool; 3]);
    let rows: [Row<'_>; 9] = [
        ("honest", key, MESSAGE, honest, [true, true, true]),
        ("S + L", key, MESSAGE, plus_order(honest), [false; 3]),
        ("A = O, R = O, S = 0", zero, MESSAGE, join(&zero, &[0; 32]), [true, false, false]),
        ("R of order 8", key, MESSAGE, torsion_r, [false; 3]),
        ("R = O", key, MESSAGE, zero_r, [true, false, false]),
        ("A of mixed order, k = 0 mod 8", mixed, &even, signed(&even), [true, true, false]),
        ("A of mixed order, other k", mixed, &odd, signed(&odd), [false; 3]),
        ("A not canonical", second_zero, MESSAGE, join(&zero, &[0; 32]), [true, false, false]),
        ("R not canonical, A = O", zero, MESSAGE, join(&second_zero, &[0; 32]), [false; 3]),
    ];
    for (name, key, message, signature, expected) in rows {
        let ours = verify_untagged(&key, message, &signature).is_ok();
        let found = [lax(&key, message, &signature), strict(&key, message, &signature), ours];
        assert_eq!(found, expected, "{name}");
    }
}

#[test]
fn no_small_order_key_is_admitted() {
    for point in EIGHT_TORSION {
        let bytes = point.compress().to_bytes();
        assert_eq!(PublicKey::admit(&bytes), Err(AdmitError::Torsion));
        assert_eq!(PublicKey::try_from(NodeId::from_bytes(bytes)), Err(AdmitError::Torsion));
    }
}

#[test]
fn no_mixed_order_key_is_admitted() {
    for torsion in EIGHT_TORSION.into_iter().filter(|point| *point != EdwardsPoint::identity()) {
        let mixed = (B * secret() + torsion).compress().to_bytes();
        assert_eq!(PublicKey::admit(&mixed), Err(AdmitError::Torsion));
    }
}

#[test]
fn no_second_encoding_is_admitted() {
    for small in 0..19 {
        let mut bytes = P;
        bytes[0] += small;
        for sign in [0, 0x80] {
            bytes[31] = 0x7f | sign;
            assert_eq!(PublicKey::admit(&bytes), Err(AdmitError::NotCanonical), "y = p + {small}");
        }
    }
    // x = 0 with its sign bit set: y = 1 and y = -1.
    let mut one = [0; 32];
    (one[0], one[31]) = (1, 0x80);
    let mut minus_one = P;
    (minus_one[0], minus_one[31]) = (0xec, 0xff);
    for bytes in [one, minus_one] {
        assert_eq!(PublicKey::admit(&bytes), Err(AdmitError::NotCanonical));
    }
    // Not on the curve.
    let mut off = [0; 32];
    off[0] = 2;
    assert_eq!(PublicKey::admit(&off), Err(AdmitError::NotCanonical));
}

#[test]
fn the_identity_key_signs_nothing() {
    let identity = EdwardsPoint::identity().compress().to_bytes();
    let signature = join(&identity, &[0; 32]);
    assert!(lax(&identity, MESSAGE, &signature), "the lax rule lets this key sign everything");
    assert!(verify_untagged(&identity, MESSAGE, &signature).is_err());
}

#[test]
fn a_small_order_commitment_is_refused() {
    let key = (B * secret()).compress().to_bytes();
    let signature = sign(secret(), &key, Scalar::ZERO, EdwardsPoint::identity(), MESSAGE);
    assert!(lax(&key, MESSAGE, &signature));
    assert!(verify_untagged(&key, MESSAGE, &signature).is_err());
    for torsion in EIGHT_TORSION {
        let signature = sign(secret(), &key, Scalar::ZERO, torsion, MESSAGE);
        assert!(verify_untagged(&key, MESSAGE, &signature).is_err());
    }
}

#[test]
fn a_mixed_order_commitment_is_refused() {
    let key = (B * secret()).compress().to_bytes();
    let nonce = Scalar::from(99_u8);
    let honest = sign(secret(), &key, nonce, EdwardsPoint::identity(), MESSAGE);
    assert!(verify_untagged(&key, MESSAGE, &honest).is_ok());
    for torsion in EIGHT_TORSION.into_iter().skip(1) {
        let signature = sign(secret(), &key, nonce, torsion, MESSAGE);
        assert!(verify_untagged(&key, MESSAGE, &signature).is_err());
    }
}

/// Where the challenge is a multiple of eight, even strict verification does not see the torsion
/// of a key; only admission does.
#[test]
fn a_mixed_order_key_is_stopped_by_admission_alone() {
    let key = (B * secret() + EIGHT_TORSION[1]).compress().to_bytes();
    let (message, signature) = (0_u32..)
        .map(u32::to_le_bytes)
        .map(|message| {
            (message, sign(secret(), &key, Scalar::from(99_u8), EdwardsPoint::identity(), &message))
        })
        .find(|(message, signature)| lax(&key, message, signature))
        .expect("one in eight");
    assert!(strict(&key, &message, &signature));
    assert!(verify_untagged(&key, &message, &signature).is_err());
}

#[test]
fn a_scalar_beyond_the_group_order_is_refused() {
    let key = (B * secret()).compress().to_bytes();
    let signature = sign(secret(), &key, Scalar::from(99_u8), EdwardsPoint::identity(), MESSAGE);
    assert!(verify_untagged(&key, MESSAGE, &signature).is_ok());
    assert!(verify_untagged(&key, MESSAGE, &plus_order(signature)).is_err());
}
