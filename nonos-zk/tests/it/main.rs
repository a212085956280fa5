//! The integration tests of `nonos-zk`.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, in its helpers too"
)]

mod ceremony;
mod foreign;
mod gadgets;
mod keys;
mod pool;
mod properties;
mod prover;
mod receipts;
mod sealed;
#[cfg(feature = "stark")]
mod stark;
mod transit;
mod tree;
mod vectors;

use std::path::Path;
use std::sync::OnceLock;

use nonos_zk::Profile;
use nonos_zk::groth16::{Groth16Prover, Groth16Verifier, KeyCache, KeySet, VerifyingKey};

fn cache() -> KeyCache {
    KeyCache::open_or_create(Path::new(env!("CARGO_TARGET_TMPDIR"))).unwrap()
}

/// The development keys of `Lite`, made once and kept where cargo keeps temporary files of tests.
fn dev_keys() -> KeySet {
    static KEYS: OnceLock<KeySet> = OnceLock::new();
    KEYS.get_or_init(|| cache().dev_keys(Profile::Lite).unwrap()).clone().allow_insecure_dev()
}

fn prover() -> &'static Groth16Prover {
    static PROVER: OnceLock<Groth16Prover> = OnceLock::new();
    PROVER.get_or_init(|| Groth16Prover::new(dev_keys()).unwrap())
}

/// The development keys of `Full`, whose setup takes half a minute the first time.
fn full_prover_keys() -> KeySet {
    static KEYS: OnceLock<KeySet> = OnceLock::new();
    KEYS.get_or_init(|| cache().dev_keys(Profile::Full).unwrap()).clone().allow_insecure_dev()
}

fn full_prover() -> &'static Groth16Prover {
    static PROVER: OnceLock<Groth16Prover> = OnceLock::new();
    PROVER.get_or_init(|| Groth16Prover::new(full_prover_keys()).unwrap())
}

fn verifier() -> &'static Groth16Verifier {
    static VERIFIER: OnceLock<Groth16Verifier> = OnceLock::new();
    VERIFIER.get_or_init(|| Groth16Verifier::new(dev_keys().verifying_key().clone()).unwrap())
}

fn full_verifier() -> &'static Groth16Verifier {
    static VERIFIER: OnceLock<Groth16Verifier> = OnceLock::new();
    let key = || VerifyingKey::dev(Profile::Full).allow_insecure_dev();
    VERIFIER.get_or_init(|| Groth16Verifier::new(key()).unwrap())
}
