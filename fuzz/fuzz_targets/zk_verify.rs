#![no_main]

use std::sync::LazyLock;

use nonos_zk::Profile;
use nonos_zk::groth16::{Groth16Verifier, KeySet};

static VERIFIER: LazyLock<Groth16Verifier> = LazyLock::new(|| {
    let keys = KeySet::dev_setup(Profile::Lite).expect("the setup needs no input").allow_insecure_dev();
    Groth16Verifier::new(keys.verifying_key().clone()).expect("allowed above")
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| nonos_zk::testing::fuzz_verify(&*VERIFIER, bytes));
