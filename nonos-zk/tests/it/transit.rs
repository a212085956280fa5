//! Relays that are paid for what they carried, and stay unnamed.

use std::sync::OnceLock;

use nonos_identity::{Digest, NetworkId};
use nonos_zk::groth16::{Groth16Prover, Groth16Verifier, KeyError, KeySet, TransitProver, TransitVerifier};
use nonos_zk::testing::{Run, Transit, unsatisfied_transit};
use nonos_zk::{
    NullifierSet, Profile, Proof, ProveError, Prover as _, Reused, TransitStatement, Verifier as _,
    VerifyError,
};

use crate::{cache, dev_keys, prover, verifier};

pub(crate) fn transit_keys() -> KeySet {
    static KEYS: OnceLock<KeySet> = OnceLock::new();
    KEYS.get_or_init(|| cache().dev_keys(Profile::Transit).unwrap()).clone().allow_insecure_dev()
}

fn proven() -> (Transit, Proof) {
    let transit = Transit::honest(71);
    let proof = TransitProver::new(transit_keys()).unwrap();
    let proof = proof.prove(&transit.statement, &transit.witness, [1; 32]).unwrap();
    (transit, proof)
}

fn transit_verifier() -> TransitVerifier {
    TransitVerifier::new(transit_keys().verifying_key().clone()).unwrap()
}

#[test]
fn a_batch_is_paid_once_and_for_its_claim_alone() {
    let (Transit { statement, .. }, proof) = proven();
    let verifier = transit_verifier();
    assert_eq!(verifier.verify(&statement, &proof), Ok(()));
    let other = Run::honest(72, 2, 0).statement;
    let another = NetworkId::from_name("another");
    for altered in [
        TransitStatement { cells: statement.cells + 1, ..statement.clone() },
        TransitStatement { hop: 3, ..statement.clone() },
        TransitStatement { hop: 0, ..statement.clone() },
        TransitStatement { epoch: statement.epoch.next(), ..statement.clone() },
        TransitStatement { batch: Digest::from_bytes([1; 32]), ..statement.clone() },
        TransitStatement { network: another, ..statement.clone() },
        TransitStatement { claim_key: other.exec_key, ..statement.clone() },
        TransitStatement { key_link: other.key_link, ..statement.clone() },
        TransitStatement { id_root: other.id_root, ..statement.clone() },
        TransitStatement { nullifier: other.nullifier, ..statement.clone() },
    ] {
        assert_eq!(verifier.verify(&altered, &proof), Err(VerifyError::Refused), "{altered:?}");
    }
    let mut paid = NullifierSet::default();
    assert_eq!(paid.insert(statement.nullifier, statement.epoch), Ok(()));
    assert_eq!(paid.insert(statement.nullifier, statement.epoch), Err(Reused::Seen));
}

#[test]
fn the_prover_names_what_a_witness_misses() {
    let prover = TransitProver::new(transit_keys()).unwrap();
    for (fault, statement, witness) in unsatisfied_transit(&Transit::honest(73)) {
        match prover.prove(&statement, &witness, [1; 32]) {
            Err(ProveError::Transit(found)) => assert_eq!(found, fault),
            other => panic!("{fault:?} not refused: {other:?}"),
        }
    }
}

/// Keys, proofs and nullifiers of transit and of receipts are of no use for each other.
#[test]
fn transit_and_receipts_do_not_mix() {
    let (transit, proof) = proven();
    assert_eq!(TransitProver::new(dev_keys()).unwrap_err(), KeyError::Kind);
    assert_eq!(Groth16Prover::new(transit_keys()).unwrap_err(), KeyError::Kind);
    let key = transit_keys().verifying_key().clone();
    assert_eq!(Groth16Verifier::new(key).unwrap_err(), KeyError::Kind);
    let run = Run::honest(71, 7, 3);
    let receipt = prover().prove(&run.statement, &run.witness, [1; 32]).unwrap();
    assert_eq!(transit_verifier().verify(&transit.statement, &receipt), Err(VerifyError::Profile));
    assert_eq!(verifier().verify(&run.statement, &proof), Err(VerifyError::Profile));
    assert_ne!(run.statement.nullifier, transit.statement.nullifier);
    assert!(run.statement.public_inputs(Profile::Transit).is_empty());
}
