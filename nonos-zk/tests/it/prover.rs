use ark_bn254::{Bn254, Fr, G1Affine, G2Affine};
use ark_ec::AffineRepr;
use ark_ff::PrimeField;
use ark_groth16::{Groth16, Proof as ArkProof};
use ark_serialize::{CanonicalDeserialize, CanonicalSerialize};
use nonos_zk::testing::{Run, altered, check_prover, fuzz_verify};
use nonos_zk::{
    Profile, Proof, ProveError, Prover, Statement, Verifier, VerifyError, VerifyingKeyId, Witness,
};

use crate::{dev_keys, full_prover, full_verifier, prover, verifier};

fn proven() -> (Run, Proof) {
    let run = Run::honest(21, 4, 3);
    let proof = prover().prove(&run.statement, &run.witness, [3; 32]).unwrap();
    (run, proof)
}

fn inputs(statement: &Statement) -> Vec<[u8; 32]> {
    statement.public_inputs(Profile::Lite)
}

fn points(proof: &Proof) -> ArkProof<Bn254> {
    ArkProof::deserialize_compressed(proof.as_bytes()).unwrap()
}

fn wrap(points: &ArkProof<Bn254>) -> Proof {
    let mut bytes = Vec::new();
    points.serialize_compressed(&mut bytes).unwrap();
    Proof::new(Profile::Lite, bytes).unwrap()
}

/// The engine's own keys: what follows magic, digest and label.
fn proving_key() -> ark_groth16::ProvingKey<Bn254> {
    let bytes = dev_keys().to_bytes();
    ark_groth16::ProvingKey::deserialize_uncompressed_unchecked(&bytes[8 + 32 + 66..]).unwrap()
}

#[test]
fn keeps_the_contract() {
    check_prover(prover(), verifier());
}

#[test]
fn full_keeps_the_contract() {
    check_prover(full_prover(), full_verifier());
}

/// A proof of one profile is none of the other, under its own name and under the other's.
#[test]
fn profiles_do_not_mix() {
    let (run, proof) = proven();
    let full = full_prover().prove(&run.statement, &run.witness, [3; 32]).unwrap();
    assert_eq!(full_verifier().verify(&run.statement, &full), Ok(()));
    assert_eq!(full_verifier().verify(&run.statement, &proof), Err(VerifyError::Profile));
    assert_eq!(verifier().verify(&run.statement, &full), Err(VerifyError::Profile));
    let renamed = |proof: &Proof, profile| Proof::new(profile, proof.as_bytes().to_vec()).unwrap();
    let as_full = renamed(&proof, Profile::Full);
    assert_eq!(full_verifier().verify(&run.statement, &as_full), Err(VerifyError::Refused));
    let as_lite = renamed(&full, Profile::Lite);
    assert_eq!(verifier().verify(&run.statement, &as_lite), Err(VerifyError::Refused));
}

#[test]
fn proof_is_128_bytes_and_deterministic_in_its_seed() {
    let (run, proof) = proven();
    assert_eq!(proof.as_bytes().len(), 128);
    let prover = prover();
    assert_eq!(prover.prove(&run.statement, &run.witness, [3; 32]).unwrap(), proof);
    assert_ne!(prover.prove(&run.statement, &run.witness, [4; 32]).unwrap(), proof);
}

/// Every field of the statement moves a public input, and each moved input is refused.
#[test]
fn every_public_input_is_bound() {
    let (run, proof) = proven();
    let verifier = verifier();
    let mut moved = [false; 8];
    for (name, statement) in altered(&run.statement) {
        assert_eq!(verifier.verify(&statement, &proof), Err(VerifyError::Refused), "{name}");
        let pairs = inputs(&statement).into_iter().zip(inputs(&run.statement));
        for (moved, (now, before)) in moved.iter_mut().zip(pairs) {
            *moved |= now != before;
        }
    }
    assert_eq!(moved, [true; 8]);

    // The same below the statement: each input alone, straight against the equation.
    let key = ark_groth16::prepare_verifying_key(&proving_key().vk);
    let inputs: Vec<Fr> =
        inputs(&run.statement).iter().map(|bytes| Fr::from_le_bytes_mod_order(bytes)).collect();
    let points = points(&proof);
    assert!(Groth16::<Bn254>::verify_proof(&key, &points, &inputs).unwrap());
    for position in 0..inputs.len() {
        let mut inputs = inputs.clone();
        inputs[position] += Fr::from(1);
        assert!(!Groth16::<Bn254>::verify_proof(&key, &points, &inputs).unwrap(), "input {position}");
    }
}

#[test]
fn flipped_cut_and_grown_proofs_are_refused() {
    let (run, proof) = proven();
    let verifier = verifier();
    let refused = |bytes: Vec<u8>| {
        verifier.verify(&run.statement, &Proof::new(Profile::Lite, bytes).unwrap()).unwrap_err()
    };
    for at in 0..proof.as_bytes().len() {
        let mut bytes = proof.as_bytes().to_vec();
        bytes[at] ^= 1 << (at % 8);
        refused(bytes);
    }
    for len in [0, 1, 64, 127] {
        assert_eq!(refused(proof.as_bytes()[..len].to_vec()), VerifyError::Malformed);
    }
    let mut grown = proof.as_bytes().to_vec();
    grown.push(0);
    assert_eq!(refused(grown), VerifyError::Malformed);
}

#[test]
fn other_points_and_the_identity_are_refused() {
    let (run, proof) = proven();
    let (verifier, honest) = (verifier(), points(&proof));
    let (g1, g2) = (G1Affine::generator(), G2Affine::generator());
    let verify = |points: ArkProof<Bn254>| verifier.verify(&run.statement, &wrap(&points));
    assert_eq!(verify(honest.clone()), Ok(()));
    assert_eq!(verify(ArkProof { a: g1, ..honest.clone() }), Err(VerifyError::Refused));
    assert_eq!(verify(ArkProof { b: g2, ..honest.clone() }), Err(VerifyError::Refused));
    assert_eq!(verify(ArkProof { c: g1, ..honest.clone() }), Err(VerifyError::Refused));
    assert_eq!(verify(ArkProof { a: honest.c, c: honest.a, ..honest.clone() }), Err(VerifyError::Refused));
    for identity in [
        ArkProof { a: G1Affine::zero(), ..honest.clone() },
        ArkProof { b: G2Affine::zero(), ..honest.clone() },
        ArkProof { c: G1Affine::zero(), ..honest.clone() },
        ArkProof::default(),
    ] {
        assert_eq!(verify(identity), Err(VerifyError::Malformed));
    }
}

/// A point of the twist outside the subgroup of prime order, which the pairing must never see.
#[test]
fn points_outside_the_subgroup_are_refused() {
    let (run, proof) = proven();
    let outside = (1..100_u64)
        .filter_map(|x| G2Affine::get_point_from_x_unchecked(ark_bn254::Fq2::from(x), true))
        .find(|point| !point.is_in_correct_subgroup_assuming_on_curve())
        .unwrap();
    assert!(outside.is_on_curve());
    let forged = wrap(&ArkProof { b: outside, ..points(&proof) });
    assert_eq!(verifier().verify(&run.statement, &forged), Err(VerifyError::Malformed));
}

#[test]
fn noise_is_no_proof() {
    let verifier = verifier();
    fuzz_verify(verifier, &[]);
    fuzz_verify(verifier, &[0; 128]);
    fuzz_verify(verifier, &[0xff; 128]);
}

#[test]
fn another_witness_and_another_statement_never_mix() {
    let (run, proof) = proven();
    let other = Run::honest(22, 4, 3);
    assert_eq!(verifier().verify(&other.statement, &proof), Err(VerifyError::Refused));
    assert!(matches!(
        prover().prove(&run.statement, &other.witness, [0; 32]),
        Err(ProveError::Unsatisfied(_))
    ));
}

/// Anybody can make another proof out of a proof; it stays a proof of the same nullifier.
#[test]
fn a_rerandomised_proof_is_no_second_receipt() {
    let (run, proof) = proven();
    let mut rng = ark_std::test_rng();
    let again = Groth16::<Bn254>::rerandomize_proof(&proving_key().vk, &points(&proof), &mut rng);
    let again = wrap(&again);
    assert_ne!(again, proof);
    assert_eq!(verifier().verify(&run.statement, &again), Ok(()));

    let mut seen = nonos_zk::NullifierSet::default();
    assert_eq!(seen.insert(run.statement.nullifier, run.statement.epoch), Ok(()));
    assert_eq!(seen.insert(run.statement.nullifier, run.statement.epoch), Err(nonos_zk::Reused::Seen));
}

/// A prover written against the public API alone: it signs nothing and proves nothing, but it
/// keeps the contract as far as its verifier can tell.
#[test]
fn a_prover_can_be_written_outside() {
    struct Outside(VerifyingKeyId);

    impl Outside {
        fn tag(statement: &Statement) -> Vec<u8> {
            let inputs = inputs(statement).concat();
            nonos_identity::Digest::of_bytes(&inputs).as_bytes().to_vec()
        }
    }

    impl Prover for Outside {
        fn profile(&self) -> Profile {
            Profile::Lite
        }

        fn verifying_key_id(&self) -> VerifyingKeyId {
            self.0
        }

        fn prove(&self, statement: &Statement, witness: &Witness, _: [u8; 32]) -> Result<Proof, ProveError> {
            witness.check(statement)?;
            Ok(Proof::new(Profile::Lite, Self::tag(statement))?)
        }
    }

    impl Verifier for Outside {
        fn profile(&self) -> Profile {
            Profile::Lite
        }

        fn verifying_key_id(&self) -> VerifyingKeyId {
            self.0
        }

        fn verify(&self, statement: &Statement, proof: &Proof) -> Result<(), VerifyError> {
            if proof.as_bytes() == Self::tag(statement) { Ok(()) } else { Err(VerifyError::Refused) }
        }
    }

    let id = VerifyingKeyId::from_digest(nonos_identity::Digest::from_bytes([1; 32]));
    check_prover(&Outside(id), &Outside(id));
}

/// Every pattern of good and bad proofs is told apart, wherever they are.
#[test]
fn a_batch_names_its_bad_proofs() {
    let (run, proof) = proven();
    let other = Run::honest(22, 4, 3);
    let swapped = prover().prove(&other.statement, &other.witness, [3; 32]).unwrap();
    let garbled = Proof::new(Profile::Lite, vec![7; 128]).unwrap();
    let good = [(&run.statement, &proof), (&other.statement, &swapped)];
    let bad = [(&run.statement, &swapped), (&other.statement, &proof), (&run.statement, &garbled)];
    let verifier = verifier();
    for bads in [&[][..], &[0], &[8], &[3, 4], &[0, 1, 2, 3, 4, 5, 6, 7, 8]] {
        let batch: Vec<_> = (0..9)
            .map(|place| if bads.contains(&place) { bad[place % 3] } else { good[place % 2] })
            .collect();
        let expected: Vec<_> =
            batch.iter().map(|(statement, proof)| verifier.verify(statement, proof)).collect();
        assert_eq!(expected.iter().filter(|verdict| verdict.is_err()).count(), bads.len());
        assert_eq!(verifier.verify_batch(&batch), expected, "{bads:?}");
    }
}

/// Errors that cancel each other in a plain sum of the equations do not in a batch.
#[test]
fn errors_do_not_cancel_in_a_batch() {
    let (run, proof) = proven();
    let moved = |by: G1Affine| {
        let mut points = points(&proof);
        points.c = (points.c + by).into();
        wrap(&points)
    };
    let (up, down) = (moved(G1Affine::generator()), moved(-G1Affine::generator()));
    let batch = [(&run.statement, &up), (&run.statement, &down)];
    assert_eq!(verifier().verify_batch(&batch), [Err(VerifyError::Refused); 2]);
}
