#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking"
)]

use std::io::Cursor;

use ark_bn254::{Bn254, Fr};
use ark_groth16::Groth16;
use ark_r1cs_std::fields::fp::FpVar;
use ark_r1cs_std::prelude::*;
use ark_relations::gr1cs::{ConstraintSynthesizer, ConstraintSystemRef, SynthesisError};
use ark_snark::SNARK as _;
use nonos_identity::Digest;

use super::super::stream::Stream;
use super::testing::insecure_ptau;
use super::*;
use crate::proof::Profile;

/// `x^4 + 3 x - 2 y = z` for a public `z`, with rows of several terms and coefficients of all sorts.
#[derive(Clone)]
struct Small {
    x: Option<(u64, u64)>,
}

impl Small {
    const BLANK: Self = Self { x: None };

    fn z(x: u64, y: u64) -> Fr {
        let x = Fr::from(x);
        x * x * x * x + x * Fr::from(3) - Fr::from(2 * y)
    }
}

impl ConstraintSynthesizer<Fr> for Small {
    fn generate_constraints(self, cs: ConstraintSystemRef<Fr>) -> Result<(), SynthesisError> {
        let values = || self.x.ok_or(SynthesisError::AssignmentMissing);
        let z = FpVar::new_input(cs.clone(), || values().map(|(x, y)| Self::z(x, y)))?;
        let x = FpVar::new_witness(cs.clone(), || values().map(|(x, _)| Fr::from(x)))?;
        let y = FpVar::new_witness(cs.clone(), || values().map(|(_, y)| Fr::from(y)))?;
        // In no constraint: its points are the identity.
        let _unused = FpVar::new_witness(cs, || Ok(Fr::from(5)))?;
        let square = x.square()?;
        let sum = &square * &square + &x * Fr::from(3) - &y * Fr::from(2);
        sum.enforce_equal(&z)?;
        // Enough constraints for a domain of 16 points.
        let mut power = x.clone();
        for factor in [7u64, 1, 99, 5, 3, 2] {
            power = &power * &y + &x * Fr::from(factor);
        }
        Ok(())
    }
}

const CIRCUIT: Digest = Digest::from_bytes([9; 32]);

fn initial_of(ptau: Vec<u8>) -> Result<InitialKey, PtauError> {
    InitialKey::of(Small::BLANK, Profile::Lite, CIRCUIT, &mut Cursor::new(ptau), &mut |_| {})
}

fn initial() -> InitialKey {
    initial_of(insecure_ptau(4, [1; 32], false)).unwrap()
}

/// Three parties and a beacon.
fn whole() -> Ceremony {
    let mut ceremony = Ceremony::new(&initial());
    ceremony.contribute("ada", [1; 32]).unwrap();
    ceremony.contribute("bob", [2; 32]).unwrap();
    ceremony.contribute("eve", [3; 32]).unwrap();
    ceremony.beacon("the public", b"block 7", Contribution::BEACON_LOG2_MIN).unwrap();
    ceremony
}

/// Proves and verifies with a key.
fn works(key: &ark_groth16::ProvingKey<Bn254>) -> bool {
    let proof =
        Groth16::<Bn254>::prove(key, Small { x: Some((5, 7)) }, &mut Stream::from_seed([4; 32])).unwrap();
    let verify = |z| Groth16::<Bn254>::verify(&key.vk, &[z], &proof).unwrap();
    assert!(!verify(Small::z(5, 8)), "a proof for another input");
    verify(Small::z(5, 7))
}

#[test]
fn three_parties_and_a_beacon_make_keys_that_prove() {
    let ceremony = whole();
    let key = ceremony.proving_key(&initial(), &mut |_| {}).unwrap();
    assert!(works(&key));
    assert_ne!(key.vk.delta_g2, key.vk.gamma_g2);
}

/// The program is that of `ark_groth16`: the key at delta 1 proves, too.
#[test]
fn the_initial_key_proves() {
    assert!(works(&initial().key));
}

mod chain;
mod ptau;
