use nonos_identity::wire;
use nonos_zk::testing::{self, mutated, receipt_body, run};
use nonos_zk::{Enrolment, IdentitySecret, Profile, Proof, Receipt, ReceiptBody, Statement};
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
