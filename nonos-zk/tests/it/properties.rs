use nonos_identity::wire::{self, DecodeError};
use nonos_zk::testing::{self, Run, mutated, receipt_body, run};
use nonos_zk::{
    Enrolment, IdentitySecret, Profile, Proof, ProveRequest, Receipt, ReceiptBody, Statement, Witness,
};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::{dev_keys, verifier};

fn noise() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..600)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn receipts_round_trip(body in receipt_body()) {
        let bytes = wire::to_bytes(&body);
        prop_assert!(bytes.len() <= <ReceiptBody as wire::Wire>::MAX_BYTES);
        prop_assert_eq!(wire::from_bytes::<ReceiptBody>(&bytes), Ok(body.clone()));
        let statement = wire::to_bytes(&body.statement);
        prop_assert!(statement.len() <= <Statement as wire::Wire>::MAX_BYTES);
        prop_assert_eq!(wire::from_bytes::<Statement>(&statement), Ok(body.statement));
    }

    #[test]
    fn honest_runs_pass_every_gate(run in run()) {
        prop_assert_eq!(run.witness.check(&run.statement), Ok(()));
    }

    #[test]
    fn requests_round_trip(run in run(), seed: [u8; 32]) {
        let bytes = ProveRequest::to_secret_bytes(&run.statement, &run.witness, &seed).unwrap();
        let request = ProveRequest::from_secret_bytes(&bytes).unwrap();
        prop_assert_eq!(&request.statement, &run.statement);
        prop_assert_eq!(*request.seed, seed);
        prop_assert_eq!(request.witness.check(&run.statement), Ok(()));
        testing::fuzz_request(&bytes);
        testing::fuzz_request(&run.witness.to_secret_bytes().unwrap());
    }

    #[test]
    fn mutated_requests_never_panic(
        (request, witness) in run().prop_flat_map(|run| {
            let request = ProveRequest::to_secret_bytes(&run.statement, &run.witness, &[5; 32]).unwrap();
            (mutated(request.to_vec()), mutated(run.witness.to_secret_bytes().unwrap().to_vec()))
        })
    ) {
        testing::fuzz_request(&request);
        testing::fuzz_request(&witness);
    }

    #[test]
    fn nullifiers_separate_secrets_epochs_and_slots(a in any::<(u64, u64, u32)>(), b in any::<(u64, u64, u32)>()) {
        let of = |(secret, epoch, slot): (u64, u64, u32)| {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&secret.to_le_bytes());
            IdentitySecret::from_seed(&bytes).nullifier(nonos_identity::Epoch::from_number(epoch), slot)
        };
        prop_assert_eq!(of(a) == of(b), a == b);
    }

    #[test]
    fn decoders_never_panic_on_noise(bytes in noise()) {
        testing::fuzz_statement(&bytes);
        testing::fuzz_request(&bytes);
        testing::fuzz_proof(&bytes);
        testing::fuzz_receipt(&bytes);
        testing::fuzz_enrolment(&bytes);
        testing::fuzz_keys(&bytes);
        testing::fuzz_ptau(&bytes);
        testing::fuzz_ceremony(&bytes);
    }

    #[test]
    fn decoders_never_panic_on_mutated_records(
        (statement, proof, receipt, enrolment) in (run(), receipt_body()).prop_flat_map(|(run, body)| {
            let network = run.statement.network;
            let proof = wire::to_bytes(&body.proof);
            let enrolment = Enrolment::sign(&run.exec_key, &network, run.witness.secret.operator_key(), run.now());
            let honest = Receipt::sign(&run.receipt(body.proof, body.verifying_key), &run.exec_key);
            (
                mutated(wire::to_bytes(&run.statement)),
                mutated(proof),
                mutated(honest.unwrap().as_bytes().to_vec()),
                mutated(enrolment.unwrap().as_bytes().to_vec()),
            )
        })
    ) {
        testing::fuzz_statement(&statement);
        testing::fuzz_proof(&proof);
        testing::fuzz_receipt(&receipt);
        testing::fuzz_enrolment(&enrolment);
    }

    #[test]
    fn mutated_keys_and_proofs_never_pass(
        key in mutated(dev_keys().verifying_key().to_bytes()),
        proof in vec(any::<u8>(), 128),
    ) {
        testing::fuzz_keys(&key);
        testing::fuzz_verify(verifier(), &proof);
    }
}

/// The first bytes of a witness: an array of twelve, the head of the scalar, the scalar.
#[test]
fn a_witness_has_one_form_and_a_longest_one() {
    let mut run = Run::honest(4, 3, 0);
    let bytes = run.witness.to_secret_bytes().unwrap().to_vec();
    assert_eq!(bytes[..3], [0x8c, 0x58, 32]);
    let read = |bytes: &[u8]| Witness::from_secret_bytes(bytes).map(drop);
    assert_eq!(read(&bytes), Ok(()));

    let mut unclamped = bytes.clone();
    unclamped[3] ^= 1;
    assert_eq!(read(&unclamped), Err(DecodeError::Malformed), "scalar that no key has");
    let mut no_leaf = bytes.clone();
    no_leaf.splice(35..36, [0x1a, 0, 0x10, 0, 0]);
    assert_eq!(read(&no_leaf), Err(DecodeError::Malformed), "leaf beyond the tree");
    let mut long = bytes.clone();
    long.splice(35..36, [0x18, bytes[35]]);
    assert_eq!(read(&long), Err(DecodeError::NotCanonical), "a number longer than it is");
    assert_eq!(read(&[&bytes[..], &[0]].concat()), Err(DecodeError::NotCanonical), "a byte behind");
    assert_eq!(read(&bytes[..bytes.len() - 1]), Err(DecodeError::Malformed), "a byte cut off");

    let most = (Witness::MAX_SECRET_BYTES - bytes.len()) / 66;
    run.witness.trace.checkpoints = vec![run.statement.exec_hash; most];
    assert_eq!(read(&run.witness.to_secret_bytes().unwrap()), Ok(()));
    run.witness.trace.checkpoints.resize(most + 6, run.statement.exec_hash);
    let too_long = run.witness.to_secret_bytes().map(drop);
    assert!(matches!(too_long, Err(DecodeError::TooLong { .. })), "{too_long:?}");
    let noise = vec![0; Witness::MAX_SECRET_BYTES + 1];
    assert!(matches!(read(&noise), Err(DecodeError::TooLong { .. })));
}

#[test]
fn a_proof_has_a_longest_form() {
    assert!(Proof::new(Profile::Lite, vec![0; Proof::MAX_BYTES]).is_ok());
    assert_eq!(
        Proof::new(Profile::Lite, vec![0; Proof::MAX_BYTES + 1]).unwrap_err().len,
        Proof::MAX_BYTES + 1
    );
    let longest = Proof::new(Profile::Lite, vec![0; Proof::MAX_BYTES]).unwrap();
    assert_eq!(wire::from_bytes::<Proof>(&wire::to_bytes(&longest)), Ok(longest));
}
