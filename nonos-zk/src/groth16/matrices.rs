use ark_ff::PrimeField;
use ark_relations::gr1cs::{
    ConstraintSynthesizer, ConstraintSystem, OptimizationGoal, R1CS_PREDICATE_LABEL, SynthesisError,
    SynthesisMode,
};
use ark_relations::utils::matrix::Matrix;

/// The constraints of a circuit, one row of each matrix for each, as the setup of `ark_groth16` builds
/// them. They are the same for every proof, so a prover builds them once: half a second for `Full`.
pub(super) struct Matrices<F: PrimeField> {
    /// A, B and C. Rows name the public inputs first, led by the constant one, then the witness.
    pub(super) rows: [Matrix<F>; 3],
    /// Public inputs and the constant.
    pub(super) instance: usize,
    /// Wires of the witness.
    pub(super) witness: usize,
}

impl<F: PrimeField> Matrices<F> {
    /// Those of a circuit, which needs no assignment.
    pub(super) fn of(circuit: impl ConstraintSynthesizer<F>) -> Result<Self, SynthesisError> {
        let cs = ConstraintSystem::new_ref();
        cs.set_optimization_goal(OptimizationGoal::Constraints);
        cs.set_mode(SynthesisMode::Setup);
        circuit.generate_constraints(cs.clone())?;
        cs.finalize();
        let rows = cs.to_matrices()?.remove(R1CS_PREDICATE_LABEL).and_then(|rows| rows.try_into().ok());
        let rows: [Matrix<F>; 3] = rows.ok_or(SynthesisError::PredicateNotFound)?;
        // Keys cover the form a * b = c alone: a circuit with any other constraint has none.
        let [a, ..] = &rows;
        if a.len() != cs.num_constraints() {
            return Err(SynthesisError::PredicateNotFound);
        }
        Ok(Self { rows, instance: cs.num_instance_variables(), witness: cs.num_witness_variables() })
    }

    pub(super) fn constraints(&self) -> usize {
        let [a, ..] = &self.rows;
        a.len()
    }

    /// The values of all wires, in the order of the columns, without the constraints.
    pub(super) fn assign(&self, circuit: impl ConstraintSynthesizer<F>) -> Result<Vec<F>, SynthesisError> {
        let cs = ConstraintSystem::new_ref();
        cs.set_mode(SynthesisMode::Prove { construct_matrices: false, generate_lc_assignments: false });
        circuit.generate_constraints(cs.clone())?;
        let assignments = cs.into_inner().ok_or(SynthesisError::MissingCS)?.assignments;
        if (assignments.instance_assignment.len(), assignments.witness_assignment.len())
            != (self.instance, self.witness)
        {
            return Err(SynthesisError::ArityMismatch);
        }
        let mut values = assignments.instance_assignment;
        values.extend(assignments.witness_assignment);
        Ok(values)
    }
}
