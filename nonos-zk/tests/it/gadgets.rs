//! The gadgets through their public interface, beside implementations of others.

use ark_bn254::Fr;
use ark_relations::gr1cs::ConstraintSystem;
use curve25519_dalek::edwards::EdwardsPoint;
use nonos_identity::{Digest, WideDigest};
use nonos_zk::domains;
use nonos_zk::gadgets::{Bit, Ed25519Scalar, sha3_512};

fn bytes(bits: &[Bit]) -> Vec<u8> {
    let byte = |bits: &[Bit]| {
        bits.iter().rev().fold(0, |byte, bit| byte << 1 | u8::from(bit.value().expect("an assignment")))
    };
    bits.chunks(8).map(byte).collect()
}

fn scalar(number: u32) -> [u8; 32] {
    *Digest::of(domains::DEV_SETUP, &[&number.to_le_bytes()]).as_bytes()
}

fn check_key(number: u32) {
    let scalar = scalar(number);
    let cs = ConstraintSystem::<Fr>::new_ref();
    let key = Ed25519Scalar::witness(&cs, Some(&scalar)).unwrap().public_key(&cs).unwrap();
    assert_eq!(bytes(&key), EdwardsPoint::mul_base_clamped(scalar).compress().as_bytes(), "{number}");
    assert!(cs.is_satisfied().unwrap(), "{number}");
}

#[test]
fn public_keys_are_those_of_dalek() {
    (0..3).for_each(check_key);
}

/// As many as NONOS_SCALARS says.
#[test]
#[ignore = "takes minutes"]
fn many_public_keys_are_those_of_dalek() {
    let count = std::env::var("NONOS_SCALARS").map_or(100, |count| count.parse().unwrap());
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for worker in 0..workers {
            scope.spawn(move || (0..count).skip(worker).step_by(workers).for_each(check_key));
        }
    });
}

#[test]
fn digests_are_those_of_sha3() {
    let cs = ConstraintSystem::<Fr>::new_ref();
    let message = scalar(7);
    let bits = message.iter().flat_map(|byte| (0..8).map(move |place| (byte >> place) & 1 == 1));
    let bits: Vec<Bit> = bits.map(|bit| Bit::witness(&cs, Some(bit)).unwrap()).collect();
    let digest = sha3_512(&cs, &bits).unwrap();
    assert_eq!(bytes(&digest), WideDigest::of_bytes(&message).as_bytes());
    assert!(cs.is_satisfied().unwrap());
}
