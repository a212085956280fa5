//! Tools of others, which share no code with us, check our proofs.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use nonos_zk::groth16::{SnarkjsProof, VerifyingKey, solidity_arguments};
use nonos_zk::testing::Run;
use nonos_zk::{Profile, Proof, Prover as _};
use serde::Serialize;
use serde_json::json;

use crate::full_prover;

fn proven() -> (Run, Proof) {
    let run = Run::honest(31, 4, 3);
    let proof = full_prover().prove(&run.statement, &run.witness, [3; 32]).unwrap();
    (run, proof)
}

fn key() -> VerifyingKey {
    VerifyingKey::dev(Profile::Full)
}

/// Where npm put the tools.
fn modules() -> PathBuf {
    let folder = std::env::var_os("NONOS_NODE_MODULES");
    PathBuf::from(folder.expect("NONOS_NODE_MODULES names the folder that npm filled"))
}

fn node(folder: &Path, script: &Path, args: &[&str]) -> (Output, String) {
    let output = Command::new("node").arg(script).args(args).current_dir(folder).output().unwrap();
    let told = [&output.stdout[..], &output.stderr[..]].concat();
    (output, String::from_utf8_lossy(&told).into_owned())
}

fn write(folder: &Path, name: &str, content: &impl Serialize) {
    std::fs::write(folder.join(name), serde_json::to_vec(content).unwrap()).unwrap();
}

#[test]
#[ignore = "needs snarkjs from npm in NONOS_NODE_MODULES"]
fn snarkjs_takes_the_proof_for_its_inputs_alone() {
    let (run, proof) = proven();
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "key.json", &key().to_snarkjs());
    write(folder.path(), "proof.json", &SnarkjsProof::new(&proof).unwrap());
    let accepts = |inputs: &[String]| {
        write(folder.path(), "public.json", &inputs);
        let cli = modules().join("snarkjs/build/cli.cjs");
        let args = ["groth16", "verify", "key.json", "public.json", "proof.json"];
        let (output, told) = node(folder.path(), &cli, &args);
        let verdict = if output.status.success() { "OK!" } else { "Invalid proof" };
        assert!(told.contains(verdict), "{told}");
        output.status.success()
    };
    let inputs = run.statement.to_snarkjs(Profile::Full);
    assert!(accepts(&inputs));
    for place in 0..inputs.len() {
        let mut changed = inputs.clone();
        changed[place] = if inputs[place] == "1" { "2" } else { "1" }.to_owned();
        assert!(!accepts(&changed), "input {place}");
    }
}

#[test]
#[ignore = "needs solc and anvil from npm in NONOS_NODE_MODULES"]
fn a_solidity_contract_takes_the_proof_for_its_inputs_alone() {
    let (run, proof) = proven();
    let words = solidity_arguments(&run.statement, &proof).unwrap();
    let hex = |words: &[[u8; 32]]| {
        words.iter().flatten().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    };
    let mut calls = vec![json!({"arguments": hex(&words), "accepts": true})];
    for place in 0..words.len() {
        let mut changed = words.clone();
        changed[place][31] ^= 1;
        calls.push(json!({"arguments": hex(&changed), "accepts": false}));
    }
    // An input and the order of the group more is the same number to the curve, and no other input.
    for place in 8..words.len() {
        let mut changed = words.clone();
        let order = "30644e72e131a029b85045b68181585d2833e84879b9709143e1f593f0000001";
        let order = *order.parse::<nonos_identity::Digest>().unwrap().as_bytes();
        let mut carry = 0;
        for (byte, order) in changed[place].iter_mut().zip(order).rev() {
            let sum = u16::from(*byte) + u16::from(order) + carry;
            (*byte, carry) = (u8::try_from(sum & 0xff).unwrap(), sum >> 8);
        }
        assert_eq!(carry, 0);
        calls.push(json!({"arguments": hex(&changed), "accepts": false}));
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("verifier.sol"), key().to_solidity()).unwrap();
    write(folder.path(), "calls.json", &calls);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.ci/verify_on_chain.mjs");
    let modules = modules();
    let (output, told) =
        node(folder.path(), &script, &[modules.to_str().unwrap(), "verifier.sol", "calls.json"]);
    assert!(output.status.success(), "{told}");
    println!("{told}");
}

/// What is written has the shape and the numbers that snarkjs documents.
#[test]
fn the_shape_is_that_of_snarkjs() {
    let key = serde_json::to_value(key().to_snarkjs()).unwrap();
    assert_eq!((&key["protocol"], &key["curve"]), (&"groth16".into(), &"bn128".into()));
    assert_eq!(key["nPublic"], 9);
    assert_eq!(key["IC"].as_array().unwrap().len(), 10);
    assert_eq!(key["vk_beta_2"][2], json!(["1", "0"]));
    let run = Run::honest(31, 4, 3);
    assert_eq!(run.statement.to_snarkjs(Profile::Full)[5], run.statement.epoch.number().to_string());
    let noise = Proof::new(Profile::Full, vec![7; 128]).unwrap();
    assert!(SnarkjsProof::new(&noise).is_err());
    assert!(solidity_arguments(&run.statement, &noise).is_err());
}

/// Every blank of the contract is filled in.
#[test]
fn the_contract_is_whole() {
    let contract = key().to_solidity();
    assert!(!contract.contains('@'), "{contract}");
    assert!(contract.contains("uint256[9] calldata inputs") && contract.contains("PUBLISHED"));
    assert_eq!(contract.matches("if (!add(sum").count(), 9);
}
