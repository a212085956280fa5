//! `tests/vectors/zk-v1.txt`: ours, version 1. A change of any line is a new wire version.
//! `cargo test -p nonos-zk regenerate -- --ignored` writes it anew, and the development verifying keys.

use nonos_identity::{Digest, wire};
use nonos_zk::testing::Run;
use nonos_zk::{IdentitySecret, IdentityTree, Profile, Prover};

use crate::transit::transit_keys;
use crate::{dev_keys, full_prover_keys, prover};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/zk-v1.txt");

fn lines() -> String {
    let run = Run::honest(1, 3, 5);
    let proof = prover().prove(&run.statement, &run.witness, [1; 32]).unwrap();
    let keys = dev_keys();
    let body = wire::to_bytes(&run.receipt(proof.clone(), keys.verifying_key().id()));
    let inputs = run.statement.public_inputs(Profile::Full);
    let mut lines = vec![
        ("commitment", run.witness.secret.commitment().to_string()),
        ("commitment-of-ones", IdentitySecret::from_seed(&[0xff; 32]).commitment().to_string()),
        ("empty-root", IdentityTree::new().root().to_string()),
        ("root", run.tree.root().to_string()),
        ("key-link", run.statement.key_link.to_string()),
        ("nullifier", run.statement.nullifier.to_string()),
        ("exec-commit", run.statement.exec_commit.to_string()),
        ("policy-commit", run.statement.policy.commit().to_string()),
        ("statement", hex(&wire::to_bytes(&run.statement))),
        ("circuit", keys.verifying_key().circuit().to_string()),
        ("dev-verifying-key-id", keys.verifying_key().id().to_string()),
        ("dev-verifying-key", hex(&keys.verifying_key().to_bytes())),
        ("dev-key-set-sha3", Digest::of_bytes(&keys.to_bytes()).to_string()),
        ("proof", hex(proof.as_bytes())),
        ("receipt-body-sha3", Digest::of_bytes(&body).to_string()),
    ];
    lines.extend(inputs.iter().map(|input| ("public-input", hex(input))));
    lines.into_iter().map(|(name, value)| format!("{name} {value}\n")).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn nothing_pinned_has_moved() {
    let pinned = std::fs::read_to_string(FILE).unwrap();
    for (now, then) in lines().lines().zip(pinned.lines()) {
        assert_eq!(now, then);
    }
    assert_eq!(lines().lines().count(), pinned.lines().count());
}

#[test]
#[ignore = "rewrites the pinned vectors"]
fn regenerate() {
    std::fs::write(FILE, lines()).unwrap();
    for keys in [dev_keys(), full_prover_keys(), transit_keys()] {
        let path = format!("{}/src/groth16/dev/{}.vk", env!("CARGO_MANIFEST_DIR"), keys.profile());
        std::fs::write(path, keys.verifying_key().to_bytes()).unwrap();
    }
}
