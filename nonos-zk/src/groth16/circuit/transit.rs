//! The circuit `transit-v1`: an enrolled relay forwarded the cells it claims, and as many had come in.

use ark_bn254::Fr;
use ark_r1cs_std::prelude::*;
use ark_relations::gr1cs::{ConstraintSynthesizer, ConstraintSystemRef, SynthesisError};

use super::GateSizes;
use super::identity::{Identity, Operator};
use super::wires::Wires;
use crate::poseidon::{PoseidonField, Tag, hash_var};
use crate::proof::Profile;
use crate::trace::power;
use crate::transit::{TransitStatement, TransitWitness};

const CELL_BITS: usize = 64;

/// Without an assignment it only describes itself.
#[derive(Clone)]
pub(in crate::groth16) struct TransitCircuit<F> {
    assignment: Option<Assignment<F>>,
}

#[derive(Clone)]
struct Assignment<F> {
    public: Vec<F>,
    received: u64,
    forwarded: u64,
    /// What was forwarded less what is claimed, which has to fit 64 bits.
    unclaimed: u64,
    lost: u64,
    blind: F,
    identity: Identity<F>,
}

impl TransitCircuit<Fr> {
    /// The circuit with the values of a statement and its witness.
    pub(in crate::groth16) fn assigned(statement: &TransitStatement, witness: &TransitWitness) -> Self {
        Self { assignment: Some(Assignment::honest(statement, witness)) }
    }
}

impl<F: PoseidonField> TransitCircuit<F> {
    pub(super) const BLANK: Self = Self { assignment: None };

    pub(super) fn synthesize(&self, cs: &ConstraintSystemRef<F>) -> Result<GateSizes, SynthesisError> {
        let wires = Wires { cs, assignment: self.assignment.as_ref() };
        let public = wires.public(Profile::Transit.public_inputs(), |a: &Assignment<F>| &a.public)?;
        let [id_root, nullifier, period, cells, carry_commit, context, key_link] = &public[..] else {
            return Err(SynthesisError::Unsatisfiable);
        };
        let start = cs.num_constraints();
        // claimed + unclaimed = forwarded and forwarded + lost = received, all below 2^64.
        let (_, received) = wires.number(CELL_BITS, |a| a.received)?;
        let (_, forwarded) = wires.number(CELL_BITS, |a| a.forwarded)?;
        let (_, unclaimed) = wires.number(CELL_BITS, |a| a.unclaimed)?;
        let (_, lost) = wires.number(CELL_BITS, |a| a.lost)?;
        (cells + unclaimed).enforce_equal(&forwarded)?;
        (&forwarded + lost).enforce_equal(&received)?;
        let blind = wires.witness(|a| a.blind)?;
        let carried = received + forwarded * power::<F>(64);
        hash_var(cs, Tag::Carried, &[carried, blind])?.enforce_equal(carry_commit)?;
        let state = cs.num_constraints();

        let wires = wires.part(|a| &a.identity);
        let operator = Operator::enrolled(&wires)?;
        operator.is_member(&wires, id_root)?;
        let mark = operator.mark(&wires)?;
        mark.makes_nullifier(&wires, Tag::Transit, period, nullifier)?;
        mark.makes_link(&wires, context, key_link)?;
        Ok(GateSizes { hash: 0, state: state - start, identity: cs.num_constraints() - state })
    }
}

impl Assignment<Fr> {
    fn honest(statement: &TransitStatement, witness: &TransitWitness) -> Self {
        let TransitWitness { secret, path, number, received, forwarded, .. } = witness;
        Self {
            public: statement.inputs(),
            received: *received,
            forwarded: *forwarded,
            unclaimed: forwarded.wrapping_sub(statement.cells),
            lost: received.wrapping_sub(*forwarded),
            blind: witness.blind(),
            identity: Identity::of(secret, path.steps(), *number, statement.job(), &statement.claim_key),
        }
    }
}

impl<F: PoseidonField> ConstraintSynthesizer<F> for TransitCircuit<F> {
    fn generate_constraints(self, cs: ConstraintSystemRef<F>) -> Result<(), SynthesisError> {
        self.synthesize(&cs).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use ark_relations::gr1cs::ConstraintSystem;

    use super::*;
    use crate::gadgets::testing::assert_no_wire_is_free;
    use crate::testing::{Transit, unsatisfied_transit};

    fn system(assignment: Assignment<Fr>) -> ConstraintSystemRef<Fr> {
        let cs = ConstraintSystem::new_ref();
        TransitCircuit { assignment: Some(assignment) }.generate_constraints(cs.clone()).unwrap();
        cs
    }

    fn holds_with(edit: impl FnOnce(&mut Assignment<Fr>)) -> bool {
        let Transit { statement, witness } = Transit::honest(7);
        let mut assignment = Assignment::honest(&statement, &witness);
        edit(&mut assignment);
        system(assignment).is_satisfied().unwrap()
    }

    #[test]
    fn every_condition_refuses_alone() {
        assert!(holds_with(|_| {}));
        for (fault, statement, witness) in unsatisfied_transit(&Transit::honest(7)) {
            assert_eq!(witness.check(&statement), Err(fault));
            // The hop's range is for the verifier to look at: it is public.
            let holds = system(Assignment::honest(&statement, &witness)).is_satisfied().unwrap();
            assert_eq!(holds, fault == crate::TransitFault::Hop, "{fault:?}");
        }
    }

    #[test]
    fn numbers_take_no_other_slack() {
        assert!(!holds_with(|a| a.unclaimed += 1));
        assert!(!holds_with(|a| a.lost += 1));
        assert!(!holds_with(|a| a.received += 1));
        assert!(!holds_with(|a| (a.received, a.lost) = (a.received + 1, a.lost + 1)));
        assert!(!holds_with(
            |a| (a.forwarded, a.unclaimed, a.lost) = (a.forwarded + 1, a.unclaimed + 1, a.lost - 1)
        ));
        assert!(!holds_with(|a| a.blind += Fr::from(1)));
        // The least that would balance the sums modulo 2^64.
        let Transit { mut statement, witness } = Transit::honest(7);
        statement.cells = witness.forwarded + 1;
        let assignment = Assignment::honest(&statement, &witness);
        assert_eq!(assignment.unclaimed, u64::MAX);
        assert!(!system(assignment).is_satisfied().unwrap());
    }

    #[test]
    fn identity_and_context_are_opened() {
        assert!(!holds_with(|a| a.identity.secret[0] += Fr::from(1)));
        assert!(!holds_with(|a| a.identity.key_digest += Fr::from(1)));
        assert!(!holds_with(|a| a.identity.path[3].1 += Fr::from(1)));
        assert!(!holds_with(|a| a.identity.slot ^= 1));
        assert!(!holds_with(|a| a.identity.job += Fr::from(1)));
        assert!(!holds_with(|a| a.identity.exec_key += Fr::from(1)));
        for position in 0..Profile::Transit.public_inputs() {
            assert!(!holds_with(|a| a.public[position] += Fr::from(1)), "input {position}");
        }
    }

    #[test]
    fn no_variable_is_free() {
        let Transit { statement, witness } = Transit::honest(7);
        assert_no_wire_is_free(&system(Assignment::honest(&statement, &witness)));
    }
}
