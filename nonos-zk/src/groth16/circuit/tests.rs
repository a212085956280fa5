//! Tampered witnesses at the level of the constraint system, below the native gate check.

use ark_relations::gr1cs::ConstraintSystem;

use super::*;
use crate::gadgets::testing::assert_no_wire_is_free;
use crate::testing::{Run, unsatisfied};

fn honest() -> (Statement, Witness) {
    let run = Run::honest(11, 3, 6);
    (run.statement, run.witness)
}

fn system(assignment: Assignment) -> ConstraintSystemRef<Fr> {
    let cs = ConstraintSystem::new_ref();
    LiteCircuit { assignment: Some(assignment) }.generate_constraints(cs.clone()).unwrap();
    cs
}

fn holds(assignment: Assignment) -> bool {
    system(assignment).is_satisfied().unwrap()
}

/// Whether an honest assignment still holds with some values overridden.
fn holds_with(edit: impl FnOnce(&mut Assignment)) -> bool {
    let (statement, witness) = honest();
    let mut assignment = Assignment::honest(&statement, &witness);
    edit(&mut assignment);
    holds(assignment)
}

#[test]
fn honest_witness_satisfies() {
    assert!(holds_with(|_| {}));
}

#[test]
fn limits_themselves_are_allowed() {
    let Run { mut statement, mut witness, .. } = Run::honest(12, 1, crate::SLOTS_PER_EPOCH - 1);
    witness.trace.gas_used = statement.policy.gas_limit;
    witness.trace.peak_pages = statement.policy.pages_max;
    witness.trace.host_calls = statement.policy.host_calls_allowed;
    witness.trace.checkpoints.clear();
    statement.exec_commit = witness.trace.commit(&statement.exec_hash);
    assert_eq!(witness.check(&statement), Ok(()));
    assert!(holds(Assignment::honest(&statement, &witness)));

    statement.policy =
        crate::PolicyLimits { gas_limit: u64::MAX, pages_max: u32::MAX, host_calls_allowed: u64::MAX };
    assert!(holds(Assignment::honest(&statement, &witness)));
}

/// Everything but one gate is consistent: commitment, nullifier and root are made for the bad
/// values, so that only the constraints of this gate can refuse.
#[test]
fn every_gate_refuses_alone() {
    for (gate, statement, witness) in unsatisfied(&Run::honest(11, 3, 6)) {
        assert_eq!(witness.check(&statement), Err(gate));
        assert!(!holds(Assignment::honest(&statement, &witness)), "{gate:?}");
    }
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
    let assignment = Assignment::honest(&statement, &witness);
    assert_eq!(assignment.gas_left, u64::MAX);
    assert!(!holds(assignment));
}

#[test]
fn policy_opens_to_one_set_of_limits() {
    // Each limit raised in the witness alone, with the slack to match.
    assert!(!holds_with(|a| {
        a.gas_limit += Fr::from(5);
        a.gas_left += 5;
    }));
    assert!(!holds_with(|a| {
        a.pages_max += Fr::from(5);
        a.pages_left += 5;
    }));
    assert!(!holds_with(|a| a.host_calls_allowed |= 1 << 40));
    assert!(!holds_with(|a| a.host_calls_allowed &= !(1 << 3)));
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
}

#[test]
fn membership_takes_no_other_path_or_secret() {
    assert!(!holds_with(|a| a.secret += Fr::from(1)));
    for height in [0, 1, TREE_DEPTH - 1] {
        assert!(!holds_with(|a| a.path[height].0 ^= true), "side at {height}");
        assert!(!holds_with(|a| a.path[height].1 += Fr::from(1)), "sibling at {height}");
    }
}

/// Another member's secret and path with our nullifier, and the other way round.
#[test]
fn one_secret_is_member_and_makes_the_nullifier() {
    let (statement, witness) = honest();
    let other = crate::IdentitySecret::from_bytes(&[9; 32]);
    let mut tree = crate::IdentityTree::new();
    tree.insert(witness.secret.commitment()).unwrap();
    let index = tree.insert(other.commitment()).unwrap();
    let mut statement = Statement { id_root: tree.root(), ..statement };
    let mut witness = Witness { path: tree.path(index).unwrap(), secret: other.clone(), ..witness };
    assert!(!holds(Assignment::honest(&statement, &witness)), "nullifier of the first, leaf of the second");

    statement.nullifier = other.nullifier(statement.epoch, witness.slot);
    assert!(holds(Assignment::honest(&statement, &witness)));
    witness.path = tree.path(0).unwrap();
    assert!(!holds(Assignment::honest(&statement, &witness)), "path of the first, secret of the second");
}

#[test]
fn nullifier_takes_no_other_slot() {
    assert!(!holds_with(|a| a.slot ^= 1));
    // The same slot modulo 2^10 is the same assignment of bits.
    assert!(holds_with(|a| a.slot += crate::SLOTS_PER_EPOCH));
}

#[test]
fn every_public_input_but_the_context_is_opened() {
    for position in 0..PUBLIC_INPUTS {
        // The context is hashed outside; what binds it is the proof.
        let is_context = position == PUBLIC_INPUTS - 1;
        assert_eq!(holds_with(|a| a.public[position] += Fr::from(1)), is_context, "{position}");
    }
}

#[test]
fn no_variable_is_free() {
    let (statement, witness) = honest();
    assert_no_wire_is_free(&system(Assignment::honest(&statement, &witness)));
}

#[test]
fn size_is_pinned() {
    let (statement, witness) = honest();
    let cs = system(Assignment::honest(&statement, &witness));
    assert_eq!(cs.num_instance_variables(), PUBLIC_INPUTS + 1);
    assert_eq!(cs.num_constraints(), 7170);
}
