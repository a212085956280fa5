//! Tampered witnesses at the level of the constraint system, below the native gate check.

use ark_relations::gr1cs::ConstraintSystem;

use super::*;
use crate::TREE_DEPTH;
use crate::gadgets::testing::assert_no_wire_is_free;
use crate::testing::{Run, unsatisfied};

mod curves;

fn honest() -> (Statement, Witness) {
    let run = Run::honest(11, 3, 6);
    (run.statement, run.witness)
}

fn system(profile: Profile, assignment: Assignment<Fr>) -> ConstraintSystemRef<Fr> {
    let cs = ConstraintSystem::new_ref();
    let circuit = ReceiptCircuit { profile, assignment: Some(assignment) };
    circuit.generate_constraints(cs.clone()).unwrap();
    cs
}

fn honest_holds(profile: Profile, statement: &Statement, witness: &Witness) -> bool {
    system(profile, Assignment::honest(profile, statement, witness)).is_satisfied().unwrap()
}

/// Whether an honest assignment of `Lite` still holds with some values overridden. What its gates do,
/// the same gates do in `Full`.
fn holds_with(edit: impl FnOnce(&mut Assignment<Fr>)) -> bool {
    holds_in(Profile::Lite, edit)
}

fn holds_in(profile: Profile, edit: impl FnOnce(&mut Assignment<Fr>)) -> bool {
    let (statement, witness) = honest();
    let mut assignment = Assignment::honest(profile, &statement, &witness);
    edit(&mut assignment);
    system(profile, assignment).is_satisfied().unwrap()
}

#[test]
fn honest_witness_satisfies() {
    for profile in Profile::RECEIPTS {
        assert!(holds_in(profile, |_| {}), "{profile}");
    }
}

#[test]
fn limits_themselves_are_allowed() {
    let Run { mut statement, mut witness, .. } = Run::honest(12, 1, crate::SLOTS_PER_EPOCH - 1);
    witness.trace.gas_used = statement.policy.gas_limit;
    witness.trace.peak_pages = statement.policy.pages_max;
    witness.trace.host_calls = statement.policy.host_calls_allowed;
    witness.trace.cpu_features = statement.policy.cpu_features_allowed;
    witness.trace.isolation = u16::MAX;
    witness.trace.checkpoints.clear();
    statement.exec_commit = witness.trace.commit(&statement.exec_hash);
    assert_eq!(witness.check(&statement), Ok(()));
    assert!(honest_holds(Profile::Lite, &statement, &witness));

    statement.policy = crate::PolicyLimits {
        gas_limit: u64::MAX,
        pages_max: u32::MAX,
        host_calls_allowed: u64::MAX,
        cpu_features_allowed: u32::MAX,
        isolation_required: u16::MAX,
    };
    assert!(honest_holds(Profile::Lite, &statement, &witness));
}

/// Everything but one gate is consistent: commitment, nullifier, link and root are made for the bad
/// values, so that only the constraints of this gate can refuse.
#[test]
fn every_gate_refuses_alone() {
    for (gate, statement, witness) in unsatisfied(&Run::honest(11, 3, 6)) {
        assert_eq!(witness.check(&statement), Err(gate));
        let holds = honest_holds(Profile::Lite, &statement, &witness);
        assert_eq!(holds, !gate.is_in(Profile::Lite), "{gate:?}");
    }
}

/// The same in the large circuit, where a system takes half a second: one witness for each gate.
#[test]
fn every_gate_of_full_refuses_alone() {
    let mut seen = Vec::new();
    for (gate, statement, witness) in unsatisfied(&Run::honest(11, 3, 6)) {
        if !seen.contains(&gate) {
            seen.push(gate);
            assert!(gate.is_in(Profile::Full));
            assert!(!honest_holds(Profile::Full, &statement, &witness), "{gate:?}");
        }
    }
    assert_eq!(seen.len(), 11);
}

#[test]
fn state_gate_takes_no_other_slack() {
    assert!(!holds_with(|a| a.gas_left += 1));
    assert!(!holds_with(|a| a.gas_left = 0));
    assert!(!holds_with(|a| a.pages_left += 1));
    assert!(!holds_with(|a| a.pages_left = 0));

    // Over the limit, with the slack that would balance the sum modulo 2^64 or 2^32.
    let (mut statement, mut witness) = honest();
    witness.trace.gas_used = statement.policy.gas_limit + 1;
    statement.exec_commit = witness.trace.commit(&statement.exec_hash);
    let assignment = Assignment::honest(Profile::Lite, &statement, &witness);
    assert_eq!(assignment.gas_left, u64::MAX);
    assert!(!system(Profile::Lite, assignment).is_satisfied().unwrap());
}

#[test]
fn policy_opens_to_one_set_of_limits() {
    // Each limit raised in the witness alone: more left than there is.
    assert!(!holds_with(|a| a.gas_left += 5));
    assert!(!holds_with(|a| a.pages_left += 5));
    assert!(!holds_with(|a| a.host_calls_allowed |= 1 << 40));
    assert!(!holds_with(|a| a.host_calls_allowed &= !(1 << 3)));
    assert!(!holds_with(|a| a.cpu_features_allowed |= 1 << 20));
    assert!(!holds_with(|a| a.isolation_required = 0));
    // What one field loses the next one up gains: the places of the packed element do not overlap.
    assert!(!holds_with(|a| (a.pages_left, a.host_calls_allowed) = (0, a.host_calls_allowed + 64)));
    assert!(!holds_with(|a| (a.gas_left, a.pages_left) = (a.gas_left - 4, a.pages_left + 1)));
}

#[test]
fn execution_opens_to_one_trace() {
    assert!(!holds_with(|a| a.chain += Fr::from(1)));
    assert!(!holds_with(|a| a.blind += Fr::from(1)));
    // Less gas, fewer pages and calls than committed, with the slack to match.
    assert!(!holds_with(|a| {
        a.gas_used -= 1;
        a.gas_left += 1;
    }));
    assert!(!holds_with(|a| {
        a.peak_pages -= 1;
        a.pages_left += 1;
    }));
    assert!(!holds_with(|a| a.host_calls = 0));
    assert!(!holds_with(|a| a.cpu_features = 0));
    assert!(!holds_with(|a| a.isolation |= 1 << 9));
    assert!(!holds_with(|a| a.payload_digest += Fr::from(1)));
}

#[test]
fn membership_takes_no_other_path_or_secret() {
    assert!(!holds_with(|a| a.identity.secret[0] += Fr::from(1)));
    assert!(!holds_with(|a| a.identity.secret[1] += Fr::from(1)));
    assert!(!holds_with(|a| a.identity.key_digest += Fr::from(1)));
    for height in [0, 1, TREE_DEPTH - 1] {
        assert!(!holds_with(|a| a.identity.path[height].0 ^= true), "side at {height}");
        assert!(!holds_with(|a| a.identity.path[height].1 += Fr::from(1)), "sibling at {height}");
    }
}

/// Another member's secret and path with our nullifier and link, and the other way round.
#[test]
fn one_secret_is_member_and_makes_nullifier_and_link() {
    for profile in Profile::RECEIPTS {
        let (statement, witness) = honest();
        let other = crate::IdentitySecret::from_seed(&[9; 32]);
        let mut tree = crate::IdentityTree::new();
        tree.insert(witness.secret.commitment()).unwrap();
        let index = tree.insert(other.commitment()).unwrap();
        let mut statement = Statement { id_root: tree.root(), ..statement };
        let mut witness = Witness { path: tree.path(index).unwrap(), secret: other.clone(), ..witness };
        let holds = |statement: &Statement, witness: &Witness| honest_holds(profile, statement, witness);
        assert!(!holds(&statement, &witness), "nullifier and link of the first, leaf of the second");

        statement.nullifier = other.nullifier(statement.epoch, witness.slot);
        assert!(!holds(&statement, &witness), "link of the first, leaf and nullifier of the second");
        statement.key_link = other.key_link(&statement.exec_key);
        assert!(holds(&statement, &witness));
        witness.path = tree.path(0).unwrap();
        assert!(!holds(&statement, &witness), "path of the first, secret of the second");
    }
}

/// Whoever enrols a key that is not of its secret can prove `Lite`, and never `Full`.
#[test]
fn full_takes_the_scalar_of_the_enrolled_key_alone() {
    let (mut statement, mut witness) = honest();
    let victim = crate::IdentitySecret::from_seed(&[9; 32]);
    let enrolled = crate::OperatorKey { key: *victim.key(), secret: witness.secret.operator_key().secret };
    let mut tree = crate::IdentityTree::new();
    let index = tree.insert(enrolled.commitment()).unwrap();
    (statement.id_root, witness.path) = (tree.root(), tree.path(index).unwrap());
    let holds = |profile| {
        let mut assignment = Assignment::honest(profile, &statement, &witness);
        assignment.identity.key_digest = crate::identity::key_digest(victim.key());
        system(profile, assignment).is_satisfied().unwrap()
    };
    assert!(holds(Profile::Lite));
    assert!(!holds(Profile::Full));
}

#[test]
fn the_hash_gate_takes_no_other_payload() {
    let payloads: [fn(&mut [u8; 64]); 8] = [
        |payload| payload[0] ^= 1,
        |payload| payload[63] ^= 0x80,
        |payload| *payload = [0; 64],
        |payload| *payload = [0xff; 64],
        |payload| payload.reverse(),
        |payload| payload.rotate_left(1),
        |payload| payload[32..].fill(0),
        |payload| payload.swap(0, 32),
    ];
    for (kind, edit) in payloads.into_iter().enumerate() {
        assert!(!holds_in(Profile::Full, |a| edit(&mut a.payload)), "payload {kind}");
    }
    // The digest itself for its hash, and the commitment of another capsule.
    let other = Run::honest(12, 3, 6).statement.inputs(Profile::Full)[8];
    assert!(!holds_in(Profile::Full, |a| a.public[8] = a.payload_digest));
    assert!(!holds_in(Profile::Full, |a| a.public[8] = other));
    assert!(!holds_in(Profile::Full, |a| a.public[8] = Fr::from(0)));
    // `Full` computes the digest from the bits; `Lite` is where it is a wire.
    assert!(holds_in(Profile::Full, |a| a.payload_digest += Fr::from(1)));
}

/// What `Lite` has as wires, `Full` computes from the scalar, and no other scalar is taken.
#[test]
fn the_identity_gate_of_full_takes_no_other_scalar() {
    assert!(holds_in(Profile::Full, |a| {
        (a.identity.secret, a.identity.key_digest) = Default::default();
    }));
    // The bits that clamping fixes are constants of the circuit, whatever is put in.
    assert!(holds_in(Profile::Full, |a| a.identity.scalar[0] ^= 7));
    assert!(holds_in(Profile::Full, |a| a.identity.scalar[31] ^= 0xc0));
    let scalars: [fn(&mut [u8; 32]); 6] = [
        |scalar| scalar[0] ^= 8,
        |scalar| scalar[31] ^= 0x20,
        |scalar| scalar[15] ^= 1,
        |scalar| scalar.rotate_left(16),
        |scalar| *scalar = [0; 32],
        |scalar| *scalar = [0xff; 32],
    ];
    for (kind, edit) in scalars.into_iter().enumerate() {
        assert!(!holds_in(Profile::Full, |a| edit(&mut a.identity.scalar)), "scalar {kind}");
    }
    assert!(!holds_in(Profile::Full, |a| a.identity.slot ^= 1));
    assert!(!holds_in(Profile::Full, |a| a.identity.path[0].1 += Fr::from(1)));
    assert!(!holds_in(Profile::Full, |a| a.identity.path[0].0 ^= true));
    assert!(!holds_in(Profile::Full, |a| a.identity.exec_key += Fr::from(1)));
}

#[test]
fn the_context_takes_no_other_job_or_execution_key() {
    assert!(!holds_with(|a| a.identity.job += Fr::from(1)));
    assert!(!holds_with(|a| a.identity.exec_key += Fr::from(1)));
}

#[test]
fn nullifier_takes_no_other_slot() {
    assert!(!holds_with(|a| a.identity.slot ^= 1));
    // The same slot modulo 2^10 is the same assignment of bits.
    assert!(holds_with(|a| a.identity.slot += crate::SLOTS_PER_EPOCH));
}

#[test]
fn every_public_input_is_opened() {
    for profile in Profile::RECEIPTS {
        for position in 0..profile.public_inputs() {
            assert!(!holds_in(profile, |a| a.public[position] += Fr::from(1)), "{profile} {position}");
        }
    }
}

#[test]
fn no_variable_is_free() {
    let (statement, witness) = honest();
    for profile in Profile::RECEIPTS {
        let cs = system(profile, Assignment::honest(profile, &statement, &witness));
        assert_eq!(cs.num_instance_variables(), profile.public_inputs() + 1);
        assert_no_wire_is_free(&cs);
    }
}
