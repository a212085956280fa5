//! Receipts that some verifiers alone can read.

use std::sync::OnceLock;

use nonos_identity::{NetworkId, SealError, StaticSecret, wire};
use nonos_zk::testing::{Run, fuzz_sealed_receipt, mutated};
use nonos_zk::{
    AcceptedRoots, OpenReceiptError, Prover as _, Receipt, ReceiptError, SealReceiptError, SealedReceipt,
    VerifyError, VerifyingKeyId,
};
use proptest::prelude::*;

use crate::{prover, verifier};

fn secret(seed: u8) -> StaticSecret {
    StaticSecret::from_bytes(&[seed; 32])
}

fn sealed(run: &Run, verifiers: &[u8]) -> SealedReceipt {
    let proof = prover().prove(&run.statement, &run.witness, [0; 32]).unwrap();
    let receipt = Receipt::sign(&run.receipt(proof, prover().verifying_key_id()), &run.exec_key).unwrap();
    let keys: Vec<_> = verifiers.iter().map(|seed| secret(*seed).public()).collect();
    SealedReceipt::seal(&receipt, &keys, &secret(99)).unwrap()
}

/// One for the tests that only alter its bytes.
fn shared() -> &'static SealedReceipt {
    static SEALED: OnceLock<SealedReceipt> = OnceLock::new();
    SEALED.get_or_init(|| sealed(&Run::honest(65, 1, 0), &[1]))
}

#[test]
fn verifiers_read_it_and_nobody_else_does() {
    let run = Run::honest(61, 4, 2);
    let sealed = sealed(&run, &[1, 2]);
    let bytes = wire::to_bytes(&sealed);
    let carried: SealedReceipt = wire::from_bytes(&bytes).unwrap();
    assert_eq!((carried.id(), carried.epoch()), (run.statement.nullifier, run.statement.epoch));
    assert_eq!(carried.network(), &run.statement.network);
    let mut roots = AcceptedRoots::new();
    roots.accept(run.tree.root(), run.statement.epoch);
    for seed in [1, 2] {
        let receipt = carried.open(&secret(seed)).unwrap();
        let receipt = receipt.check(verifier(), &roots, &run.statement.network, run.now()).unwrap();
        assert_eq!(receipt.statement(), &run.statement);
    }
    assert_eq!(carried.open(&secret(3)).unwrap_err(), OpenReceiptError::Seal(SealError::Open));
    // Nothing of the statement but what is announced is in the bytes.
    for hidden in [run.statement.capsule_id.as_ref(), run.statement.exec_hash.as_ref(), &run.statement.nonce]
    {
        assert!(!bytes.windows(hidden.len()).any(|window| window == hidden));
    }
}

/// Sealing checks nothing of the receipt; opening gives no more than what was received.
#[test]
fn a_bad_receipt_stays_a_bad_receipt() {
    let run = Run::honest(62, 4, 2);
    let proof = prover().prove(&run.statement, &run.witness, [0; 32]).unwrap();
    let mut other = Run::honest(62, 4, 2);
    other.statement.nonce = [0; 32];
    let body = other.receipt(proof, prover().verifying_key_id());
    let receipt = Receipt::sign(&body, &run.exec_key).unwrap();
    let sealed = SealedReceipt::seal(&receipt, &[secret(1).public()], &secret(99)).unwrap();
    let mut roots = AcceptedRoots::new();
    roots.accept(run.tree.root(), run.statement.epoch);
    let opened = sealed.open(&secret(1)).unwrap();
    let error = opened.check(verifier(), &roots, &run.statement.network, run.now()).unwrap_err();
    assert_eq!(error, ReceiptError::Proof(VerifyError::Refused));
}

/// The open fields are bound: an epoch, a nullifier or a network of another receipt opens nothing.
#[test]
fn it_is_not_announced_as_another() {
    let run = Run::honest(63, 4, 2);
    let bytes = wire::to_bytes(&sealed(&run, &[1]));
    let position = |needle: &[u8]| bytes.windows(needle.len()).position(|window| window == needle).unwrap();
    for field in [run.statement.nullifier.as_bytes(), run.statement.network.as_bytes()] {
        let mut altered = bytes.clone();
        altered[position(field)] ^= 1;
        let altered: SealedReceipt = wire::from_bytes(&altered).unwrap();
        assert_eq!(altered.open(&secret(1)).unwrap_err(), OpenReceiptError::Seal(SealError::Open));
    }
}

#[test]
fn somebody_must_be_able_to_read_it() {
    let run = Run::honest(64, 1, 0);
    let id = VerifyingKeyId::from_digest(nonos_identity::Digest::from_bytes([1; 32]));
    let proof = nonos_zk::Proof::new(nonos_zk::Profile::Lite, vec![0; 128]).unwrap();
    let receipt = Receipt::sign(&run.receipt(proof, id), &run.exec_key).unwrap();
    let seal = |keys: &[[u8; 32]]| SealedReceipt::seal(&receipt, keys, &secret(99)).map(drop).unwrap_err();
    assert_eq!(seal(&[]), SealReceiptError::Seal(SealError::Recipients(0)));
    assert_eq!(seal(&[[0; 32]]), SealReceiptError::Seal(SealError::Recipient));
    let other = nonos_identity::Envelope::seal(
        &run.exec_key,
        nonos_zk::domains::RECEIPT,
        &NetworkId::from_name("a"),
        Receipt::KIND,
        0,
        run.now(),
        core::time::Duration::from_secs(60),
        vec![1, 2, 3],
    );
    let no_receipt = SealedReceipt::seal(&other.unwrap(), &[secret(1).public()], &secret(99));
    assert!(matches!(no_receipt, Err(SealReceiptError::Decode(_))));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn altered_bytes_never_panic_and_never_open_to_another_receipt(
        bytes in mutated(wire::to_bytes(shared()))
    ) {
        fuzz_sealed_receipt(&bytes);
    }
}
