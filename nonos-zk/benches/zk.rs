//! `Lite` prove and verify, beside raw `ark-groth16` on a synthetic circuit of the same size, in
//! one run. The synthetic witness is as dense as ours: full-size field elements but for the bits.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    reason = "criterion makes undocumented functions; a bench fails by panicking"
)]

use std::hint::black_box;
use std::path::Path;

use ark_bn254::{Bn254, Fr};
use ark_groth16::Groth16;
use ark_relations::gr1cs::{ConstraintSynthesizer, ConstraintSystemRef, SynthesisError};
use ark_relations::lc;
use ark_snark::SNARK;
use ark_std::rand::SeedableRng;
use ark_std::rand::rngs::StdRng;
use criterion::{Criterion, criterion_group, criterion_main};
use nonos_zk::groth16::{Groth16Prover, Groth16Verifier, KeyCache};
use nonos_zk::testing::Run;
use nonos_zk::{Profile, Prover, Verifier};

/// Constraints of `Lite`, pinned by its test `size_is_pinned`.
const CONSTRAINTS: usize = 7170;
const PUBLIC_INPUTS: usize = 7;

/// A chain of squarings from a private start.
#[derive(Clone)]
struct Squares {
    start: Fr,
}

impl ConstraintSynthesizer<Fr> for Squares {
    fn generate_constraints(self, cs: ConstraintSystemRef<Fr>) -> Result<(), SynthesisError> {
        let mut value = self.start;
        let mut wire = cs.new_witness_variable(|| Ok(value))?;
        for _ in 0..CONSTRAINTS - PUBLIC_INPUTS {
            let square = value * value;
            let next = cs.new_witness_variable(|| Ok(square))?;
            cs.enforce_r1cs_constraint(|| lc!() + wire, || lc!() + wire, || lc!() + next)?;
            (value, wire) = (square, next);
        }
        for _ in 0..PUBLIC_INPUTS {
            let input = cs.new_input_variable(|| Ok(value))?;
            cs.enforce_r1cs_constraint(
                || lc!() + wire,
                || lc!() + ark_relations::gr1cs::Variable::One,
                || lc!() + input,
            )?;
        }
        Ok(())
    }
}

fn zk(criterion: &mut Criterion) {
    let cache = KeyCache::open_or_create(Path::new(env!("CARGO_TARGET_TMPDIR"))).unwrap();
    let keys = cache.dev_keys(Profile::Lite).unwrap().allow_insecure_dev();
    let run = Run::honest(1, 100, 5);
    let prover = Groth16Prover::new(keys.clone()).unwrap();
    let verifier = Groth16Verifier::new(keys.verifying_key().clone()).unwrap();
    let proof = prover.prove(&run.statement, &run.witness, [0; 32]).unwrap();

    let mut rng = StdRng::seed_from_u64(1);
    let raw = Squares { start: Fr::from(3) };
    let (raw_pk, raw_vk) = Groth16::<Bn254>::circuit_specific_setup(raw.clone(), &mut rng).unwrap();
    let raw_vk = ark_groth16::prepare_verifying_key(&raw_vk);
    let raw_proof = Groth16::<Bn254>::prove(&raw_pk, raw.clone(), &mut rng).unwrap();
    let output = (0..CONSTRAINTS - PUBLIC_INPUTS).fold(raw.start, |value, _| value * value);
    let inputs = [output; PUBLIC_INPUTS];
    assert!(Groth16::<Bn254>::verify_proof(&raw_vk, &raw_proof, &inputs).unwrap());

    let mut group = criterion.benchmark_group("groth16");
    group.sample_size(10);
    group.bench_function("prove/lite", |b| {
        b.iter(|| prover.prove(black_box(&run.statement), &run.witness, [0; 32]).unwrap());
    });
    group.bench_function("prove/raw", |b| {
        b.iter(|| Groth16::<Bn254>::prove(&raw_pk, black_box(raw.clone()), &mut rng).unwrap());
    });
    group.bench_function("verify/lite", |b| {
        b.iter(|| verifier.verify(black_box(&run.statement), &proof).unwrap());
    });
    group.bench_function("verify/raw", |b| {
        b.iter(|| Groth16::<Bn254>::verify_proof(&raw_vk, black_box(&raw_proof), &inputs).unwrap());
    });
    group.finish();
}

criterion_group!(benches, zk);
criterion_main!(benches);
