//! The circuits and the engine are of no curve: the same over BLS12-381, about 120 bits, which takes
//! twice the time. Only the statement's elements on the wire are of BN254.

use ark_bls12_381::{Bls12_381, Fr};
use ark_groth16::Groth16;
use ark_relations::gr1cs::{ConstraintSynthesizer as _, ConstraintSystem};
use ark_snark::SNARK as _;

use super::super::identity::Identity;
use super::*;
use crate::VerifyError;
use crate::groth16::engine::{prove_with, verify_inputs};
use crate::groth16::matrices::Matrices;
use crate::groth16::stream::Stream;
use crate::identity::{key_digest, leaf};
use crate::poseidon::hash;
use crate::trace::{exec_digest, payload_commit};

/// The public inputs of a run and what opens them, computed over this field.
fn assignment(profile: Profile) -> Assignment<Fr> {
    let (statement, Witness { secret, trace, slot, .. }) = honest();
    let path = core::array::from_fn(|height| (height % 3 == 1, Fr::from(height as u64 + 7)));
    let id_root = path.iter().fold(leaf(secret.digest(), secret.key()), |node, (is_right, sibling)| {
        hash(Tag::Node, &if *is_right { [*sibling, node] } else { [node, *sibling] })
    });
    let epoch = Fr::from(statement.epoch.number());
    let job = Fr::from(42);
    let mut public = vec![
        statement.policy.digest(),
        exec_digest(&statement.exec_hash),
        trace.digest(&statement.exec_hash),
        id_root,
        secret.spent(Tag::Nullifier, epoch, slot),
        epoch,
        hash(Tag::Context, &[job, key_digest(&statement.exec_key)]),
        secret.link(&statement.exec_key),
    ];
    if profile == Profile::Full {
        public.push(payload_commit(&statement.payload_commit));
    }
    let identity = Identity::of(&secret, path, slot, job, &statement.exec_key);
    Assignment::new(public, &statement.policy, &trace, identity)
}

fn circuit(profile: Profile, assignment: Assignment<Fr>) -> ReceiptCircuit<Fr> {
    ReceiptCircuit { profile, assignment: Some(assignment) }
}

fn holds(profile: Profile, edit: impl FnOnce(&mut Assignment<Fr>)) -> bool {
    let mut assignment = assignment(profile);
    edit(&mut assignment);
    let cs = ConstraintSystem::new_ref();
    circuit(profile, assignment).generate_constraints(cs.clone()).unwrap();
    cs.is_satisfied().unwrap()
}

#[test]
fn the_gates_hold_over_another_field() {
    for profile in Profile::RECEIPTS {
        assert!(holds(profile, |_| {}), "{profile}");
        assert!(!holds(profile, |a| a.gas_left += 1), "{profile}");
    }
    assert!(!holds(Profile::Full, |a| a.payload[0] ^= 1));
    assert!(!holds(Profile::Full, |a| a.identity.scalar[0] ^= 8));
    for position in 0..Profile::Full.public_inputs() {
        assert!(!holds(Profile::Full, |a| a.public[position] += Fr::from(1)), "input {position}");
    }
}

#[test]
fn a_proof_over_another_curve_verifies() {
    let blank = Blank::<Fr>::of(Profile::Lite);
    let mut rng = Stream::from_seed([1; 32]);
    let (key, verifying) = Groth16::<Bls12_381>::circuit_specific_setup(blank.clone(), &mut rng).unwrap();
    let assignment = assignment(Profile::Lite);
    let mut inputs = assignment.public.clone();
    let circuit = circuit(Profile::Lite, assignment);
    let mut proof = prove_with(&key, &Matrices::of(blank).unwrap(), circuit, [2; 32]).unwrap();
    let verifying = ark_groth16::prepare_verifying_key(&verifying);
    assert_eq!(proof.len(), 2 * 48 + 96);
    assert_eq!(verify_inputs(&verifying, &proof, &inputs), Ok(()));

    inputs[4] += Fr::from(1);
    assert_eq!(verify_inputs(&verifying, &proof, &inputs), Err(VerifyError::Refused));
    proof.push(0);
    assert_eq!(verify_inputs(&verifying, &proof, &inputs), Err(VerifyError::Malformed));
}
