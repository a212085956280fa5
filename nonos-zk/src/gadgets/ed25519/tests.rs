use ark_bn254::Fr;
use ark_relations::gr1cs::ConstraintSystem;
use curve25519_dalek::edwards::EdwardsPoint;
use sha2::{Digest as _, Sha512};

use super::*;
use crate::gadgets::testing::{assert_no_wire_is_free, bytes_of};

fn public_key(scalar: &[u8; 32]) -> (ConstraintSystemRef<Fr>, Vec<u8>) {
    let cs = ConstraintSystem::<Fr>::new_ref();
    let key = Ed25519Scalar::witness(&cs, Some(scalar)).unwrap().public_key(&cs).unwrap();
    (cs, bytes_of(key.iter().map(|bit| bit.value().unwrap())))
}

/// RFC 8032, section 7.1: the first three secret keys and their public keys.
#[test]
fn rfc_8032() {
    for (seed, key) in [
        (
            "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        ),
        (
            "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        ),
        (
            "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
            "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        ),
    ] {
        let [seed, key] = [seed, key].map(|text| text.parse::<nonos_identity::Digest>().unwrap());
        let hash = Sha512::digest(seed.as_bytes());
        let (cs, found) = public_key(hash.first_chunk().unwrap());
        assert!(cs.is_satisfied().unwrap());
        assert_eq!(found, key.as_bytes());
    }
}

#[test]
fn scalars_at_the_borders() {
    for scalar in [[0; 32], [0xff; 32], [0x55; 32], [0xaa; 32]] {
        let (cs, found) = public_key(&scalar);
        assert!(cs.is_satisfied().unwrap());
        assert_eq!(found, EdwardsPoint::mul_base_clamped(scalar).compress().as_bytes());
    }
}

#[test]
fn size_is_pinned() {
    let cs = public_key(&[7; 32]).0;
    assert_eq!(cs.num_constraints(), 86_425);
}

/// Whether the constraint on numbers of 255 bits takes this one.
fn is_canonical(bytes: &[u8; 32]) -> bool {
    let cs = ConstraintSystem::<Fr>::new_ref();
    let bits = crate::gadgets::testing::bits_of(bytes).take(255);
    let bits: Vec<Bit> = bits.map(|bit| Bit::witness(&cs, Some(bit)).unwrap()).collect();
    enforce_canonical(&cs, &bits).unwrap();
    cs.is_satisfied().unwrap()
}

#[test]
fn numbers_from_the_modulus_on_are_refused() {
    let with_low = |low: u8| {
        let mut bytes = [0xff; 32];
        (bytes[0], bytes[31]) = (low, 0x7f);
        bytes
    };
    // The modulus ends in 0xed.
    for low in 0..=255 {
        assert_eq!(is_canonical(&with_low(low)), low < 0xed, "{low}");
    }
    let mut lower = with_low(0xff);
    lower[20] = 0xfe;
    assert!(is_canonical(&lower) && is_canonical(&[0; 32]));
}

/// Each of two scalars has a witness that holds for the other's system too, as the scalar is part of it;
/// of eleven mixtures, the beginning of one and the end of the other, none does.
#[test]
fn witnesses_of_two_scalars_do_not_mix() {
    let (cs, other) = (public_key(&[0x39; 32]).0, public_key(&[0x3a; 32]).0);
    let (mine, theirs) = (cs.witness_assignment().unwrap(), other.witness_assignment().unwrap());
    let instance = cs.instance_assignment().unwrap();
    let matrices = cs.to_matrices().unwrap().remove("R1CS").unwrap();
    let holds = |cut: usize| {
        let z = [&instance[..], &mine[..cut], &theirs[cut..]].concat();
        let product = |matrix: usize, row: usize| -> Fr {
            matrices[matrix][row].iter().map(|(c, at)| z[*at] * c).sum()
        };
        (0..matrices[0].len()).all(|row| product(0, row) * product(1, row) == product(2, row))
    };
    assert!(holds(0) && holds(mine.len()));
    for part in 1..12 {
        assert!(!holds(mine.len() * part / 12), "{part}");
    }
}

#[test]
fn no_wire_is_free() {
    assert_no_wire_is_free(&public_key(&[0x39; 32]).0);
}
