use ark_bn254::Fr;
use ark_relations::gr1cs::ConstraintSystem;
use nonos_identity::WideDigest;

use super::*;
use crate::gadgets::testing::{assert_no_wire_is_free, bits_of, bytes_of};

/// A satisfied system with the digest of a message whose bits are all wires.
fn digest(message: &[u8]) -> (ConstraintSystemRef<Fr>, Vec<u8>) {
    let cs = ConstraintSystem::<Fr>::new_ref();
    let bits = bits_of(message).map(|bit| Bit::witness(&cs, Some(bit)).unwrap());
    let digest = sha3_512(&cs, &bits.collect::<Vec<_>>()).unwrap();
    assert!(cs.is_satisfied().unwrap());
    let digest = bytes_of(digest.iter().map(|bit| bit.value().unwrap()));
    (cs, digest)
}

/// NIST's examples of SHA3-512 and, for every border of padding, what our native digest says.
#[test]
fn known_answers() {
    let abc = "b751850b1a57168a5693cd924b6b096e08f621827444f70d884f5d0240d2712e\
               10e116e9192af3c91a7ec57647e3934057340b4cf408d5a56592f8274eec53f0";
    assert_eq!(digest(b"abc").1, abc.parse::<WideDigest>().unwrap().as_bytes());
    for len in [0, 1, 64, 70, 71, 72, 143, 144] {
        let message: Vec<u8> = (0..len).map(|i: u8| i.wrapping_mul(151) ^ 0x5a).collect();
        assert_eq!(digest(&message).1, WideDigest::of_bytes(&message).as_bytes(), "{len} bytes");
    }
    let long = [0xa3; 200];
    assert_eq!(digest(&long).1, WideDigest::of_bytes(&long).as_bytes(), "NIST's 1600-bit message");
}

#[test]
fn constants_cost_nothing() {
    let cs = ConstraintSystem::<Fr>::new_ref();
    let bits: Vec<Bit> = bits_of(b"abc").map(Bit::constant).collect();
    let digest = sha3_512(&cs, &bits).unwrap();
    assert_eq!(cs.num_constraints(), 0);
    assert_eq!(
        bytes_of(digest.iter().map(|bit| bit.value().unwrap())),
        WideDigest::of_bytes(b"abc").as_bytes()
    );
}

#[test]
fn sizes_are_pinned() {
    let sizes = [3, 64, 71, 128].map(|len| digest(&vec![7; len]).0.num_constraints() - len * 8);
    assert_eq!(sizes, [85_797, 89_664, 89_720, 182_336]);
}

/// A permutation whose input is all wires takes its full price.
#[test]
fn a_full_permutation_takes_92_160() {
    let first = digest(&[7; 143]).0.num_constraints() - 143 * 8;
    let second = digest(&[7; 215]).0.num_constraints() - 215 * 8;
    assert_eq!(second - first, 92_160 + RATE_BITS);
}

#[test]
fn no_wire_is_free() {
    assert_no_wire_is_free(&digest(&[0x5a; 64]).0);
}
