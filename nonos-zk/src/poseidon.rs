//! Poseidon, natively and in the circuit, over the scalar field of any curve that has an instance here.
//!
//! Width 3, x^5, 8 full and 57 partial rounds: the 128-bit instance of the Poseidon paper
//! (eprint 2019/458, table 2), round constants and matrix from its Grain LFSR. Over BN254 these are the
//! parameters of circomlib and of the Ethereum ecosystem. The capacity cell starts as
//! `tag << 32 | length`, so two purposes or two lengths never share an input.

use std::sync::OnceLock;

use ark_crypto_primitives::sponge::constraints::CryptographicSpongeVar;
use ark_crypto_primitives::sponge::poseidon::constraints::PoseidonSpongeVar;
use ark_crypto_primitives::sponge::poseidon::{PoseidonConfig, PoseidonSponge, find_poseidon_ark_and_mds};
use ark_crypto_primitives::sponge::{Absorb, CryptographicSponge, FieldBasedCryptographicSponge};
use ark_ff::PrimeField;
use ark_r1cs_std::fields::fp::FpVar;
use ark_relations::gr1cs::{ConstraintSystemRef, SynthesisError};

const RATE: usize = 2;
const FULL_ROUNDS: usize = 8;
const PARTIAL_ROUNDS: usize = 57;
const ALPHA: u64 = 5;

/// What a hash is for. The numbers are part of the circuit and never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Tag {
    /// Secret digest and key digest to the leaf of an operator.
    Leaf = 1,
    /// Two children of the identity tree.
    Node = 2,
    /// Mark, epoch and slot to nullifier.
    Nullifier = 3,
    /// Policy limits.
    Policy = 4,
    /// Number of checkpoints: the start of the chain.
    Chain = 5,
    /// One link of the checkpoint chain.
    Checkpoint = 6,
    /// Limbs of `exec_hash`.
    ExecHash = 7,
    /// `exec_commit`.
    Execution = 8,
    /// Halves of the identity secret, for its digest.
    Secret = 9,
    /// Halves of the identity secret, for nullifiers and links.
    Mark = 10,
    /// Halves of a public key.
    Key = 11,
    /// Mark and execution key to their link.
    Link = 12,
    /// Job and execution key to the context.
    Context = 13,
    /// Limbs of the payload's digest.
    Payload = 14,
    /// Limbs of the payload's commitment.
    PayloadCommit = 15,
    /// Cells a relay received and forwarded, blinded.
    Carried = 16,
    /// Mark, epoch, hop and number of a batch to its nullifier.
    Transit = 17,
}

impl Tag {
    /// The start of the capacity cell for an input of `len` elements.
    fn capacity<F: PrimeField>(self, len: usize) -> F {
        F::from(((self as u64) << 32) | len as u64)
    }
}

/// A field of some 255 bits that circuits are made over: it has its own constants.
///
/// Its order less one must not be divisible by 5, or the fifth power is no permutation.
pub(crate) trait PoseidonField: PrimeField + Absorb {
    /// The instance, made once.
    fn config() -> &'static PoseidonConfig<Self>;
}

impl PoseidonField for ark_bn254::Fr {
    fn config() -> &'static PoseidonConfig<Self> {
        static CONFIG: OnceLock<PoseidonConfig<ark_bn254::Fr>> = OnceLock::new();
        CONFIG.get_or_init(instance)
    }
}

#[cfg(test)]
impl PoseidonField for ark_bls12_381::Fr {
    fn config() -> &'static PoseidonConfig<Self> {
        static CONFIG: OnceLock<PoseidonConfig<ark_bls12_381::Fr>> = OnceLock::new();
        CONFIG.get_or_init(instance)
    }
}

fn instance<F: PrimeField>() -> PoseidonConfig<F> {
    let bits = u64::from(F::MODULUS_BIT_SIZE);
    let (ark, mds) = find_poseidon_ark_and_mds(bits, RATE, FULL_ROUNDS as u64, PARTIAL_ROUNDS as u64, 0);
    PoseidonConfig::new(FULL_ROUNDS, PARTIAL_ROUNDS, ALPHA, mds, ark, RATE, 1)
}

/// Hashes field elements under a tag.
pub(crate) fn hash<F: PoseidonField>(tag: Tag, inputs: &[F]) -> F {
    let mut sponge = PoseidonSponge::new(F::config());
    if let Some(cell) = sponge.state.first_mut() {
        *cell = tag.capacity(inputs.len());
    }
    sponge.absorb(&inputs);
    sponge.squeeze_native_field_elements(1).into_iter().sum()
}

/// The same hash as constraints, about 243 for every two inputs.
pub(crate) fn hash_var<F: PoseidonField>(
    cs: &ConstraintSystemRef<F>,
    tag: Tag,
    inputs: &[FpVar<F>],
) -> Result<FpVar<F>, SynthesisError> {
    let mut sponge = PoseidonSpongeVar::new(cs.clone(), F::config());
    if let Some(cell) = sponge.state.first_mut() {
        *cell = FpVar::Constant(tag.capacity(inputs.len()));
    }
    sponge.absorb(&inputs)?;
    Ok(sponge.squeeze_field_elements(1)?.into_iter().sum())
}

#[cfg(test)]
mod tests {
    use ark_bn254::Fr;
    use ark_ff::MontFp;
    use ark_r1cs_std::GR1CSVar;
    use ark_r1cs_std::alloc::AllocVar;
    use ark_relations::gr1cs::ConstraintSystem;

    use super::*;

    /// circomlib 2.0, `poseidon([1, 2])` of its test `test/poseidoncircuit.js`.
    #[test]
    fn the_permutation_is_that_of_circomlib() {
        let mut sponge = PoseidonSponge::new(Fr::config());
        sponge.absorb(&vec![Fr::from(1), Fr::from(2)]);
        let _: Vec<Fr> = sponge.squeeze_native_field_elements(1);
        let expected: Fr =
            MontFp!("7853200120776062878684798364095072458815029376092732009249414926327459813530");
        assert_eq!(sponge.state[0], expected);
    }

    #[test]
    fn circuit_and_native_hash_agree() {
        for len in 1..=7 {
            let inputs: Vec<Fr> = (0..len).map(|i| Fr::from(i * i + 3) - Fr::from(5)).collect();
            let cs = ConstraintSystem::new_ref();
            let wires = Vec::<FpVar<Fr>>::new_witness(cs.clone(), || Ok(inputs.clone())).unwrap();
            let output = hash_var(&cs, Tag::Execution, &wires).unwrap();
            assert_eq!(output.value().unwrap(), hash(Tag::Execution, &inputs));
            assert!(cs.is_satisfied().unwrap());
        }
    }

    #[test]
    fn tag_and_length_separate() {
        let zero = Fr::from(0);
        assert_ne!(hash(Tag::Leaf, &[zero]), hash(Tag::Node, &[zero]));
        assert_ne!(hash(Tag::Leaf, &[zero]), hash(Tag::Leaf, &[zero, zero]));
    }
}
