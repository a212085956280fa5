//! Prove and verify, for each profile. What raw `ark-groth16` takes beside it, `nonos-versus zk` measures.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    reason = "criterion makes undocumented functions; a bench fails by panicking"
)]

use std::hint::black_box;
use std::path::Path;

use criterion::{Criterion, criterion_group, criterion_main};
use nonos_zk::groth16::{Groth16Prover, Groth16Verifier, KeyCache};
use nonos_zk::testing::Run;
use nonos_zk::{Profile, Prover, Verifier};

fn zk(criterion: &mut Criterion) {
    let cache = KeyCache::open_or_create(Path::new(env!("CARGO_TARGET_TMPDIR"))).unwrap();
    let run = Run::honest(1, 100, 5);
    let mut group = criterion.benchmark_group("groth16");
    group.sample_size(10);
    for profile in Profile::RECEIPTS {
        let keys = cache.dev_keys(profile).unwrap().allow_insecure_dev();
        let verifier = Groth16Verifier::new(keys.verifying_key().clone()).unwrap();
        let prover = Groth16Prover::new(keys).unwrap();
        let proof = prover.prove(&run.statement, &run.witness, [0; 32]).unwrap();
        group.bench_function(format!("prove/profile={profile}"), |b| {
            b.iter(|| prover.prove(black_box(&run.statement), &run.witness, [0; 32]).unwrap());
        });
        group.bench_function(format!("verify/profile={profile}"), |b| {
            b.iter(|| verifier.verify(black_box(&run.statement), &proof).unwrap());
        });
    }
    group.finish();
}

criterion_group!(benches, zk);
criterion_main!(benches);
