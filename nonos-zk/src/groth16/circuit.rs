use std::sync::OnceLock;

use ark_bn254::Fr;
use ark_r1cs_std::fields::fp::FpVar;
use ark_r1cs_std::prelude::*;
use ark_relations::gr1cs::{
    ConstraintSynthesizer, ConstraintSystem, ConstraintSystemRef, OptimizationGoal, SynthesisError,
    SynthesisMode,
};
use nonos_identity::Digest;

use crate::domains;
use crate::identity::SLOT_BITS;
use crate::poseidon::{Tag, hash_var};
use crate::proof::Profile;
use crate::statement::{PUBLIC_INPUTS, Statement, Witness};
use crate::tree::TREE_DEPTH;

const GAS_BITS: usize = 64;
const PAGE_BITS: usize = 32;
const HOST_CALL_BITS: usize = 64;

/// The circuit `receipt-v1`, profile `Lite`. Without an assignment it only describes itself.
#[derive(Clone)]
pub(crate) struct LiteCircuit {
    assignment: Option<Assignment>,
}

/// One value for every wire that is not computed from another one.
#[derive(Clone)]
pub(crate) struct Assignment {
    pub(crate) public: [Fr; PUBLIC_INPUTS],
    pub(crate) gas_limit: Fr,
    pub(crate) pages_max: Fr,
    pub(crate) gas_used: u64,
    /// `gas_limit - gas_used`, which has to fit 64 bits.
    pub(crate) gas_left: u64,
    pub(crate) peak_pages: u32,
    pub(crate) pages_left: u32,
    pub(crate) host_calls_allowed: u64,
    pub(crate) host_calls: u64,
    pub(crate) chain: Fr,
    pub(crate) blind: Fr,
    pub(crate) secret: Fr,
    pub(crate) slot: u32,
    pub(crate) path: [(bool, Fr); TREE_DEPTH],
}

impl LiteCircuit {
    /// The circuit without values, for the setup.
    pub(crate) const fn blank() -> Self {
        Self { assignment: None }
    }

    /// The circuit with the values of a statement and its witness.
    pub(crate) fn assigned(statement: &Statement, witness: &Witness) -> Self {
        Self { assignment: Some(Assignment::honest(statement, witness)) }
    }
}

impl Assignment {
    /// The values an honest prover puts in; wrong ones, not refused, if the witness is.
    pub(crate) fn honest(statement: &Statement, witness: &Witness) -> Self {
        let (policy, trace) = (&statement.policy, &witness.trace);
        let mut steps = witness.path.steps();
        Self {
            public: statement.inputs().to_array(),
            gas_limit: Fr::from(policy.gas_limit),
            pages_max: Fr::from(policy.pages_max),
            gas_used: trace.gas_used,
            gas_left: policy.gas_limit.wrapping_sub(trace.gas_used),
            peak_pages: trace.peak_pages,
            pages_left: policy.pages_max.wrapping_sub(trace.peak_pages),
            host_calls_allowed: policy.host_calls_allowed,
            host_calls: trace.host_calls,
            chain: trace.chain(),
            blind: trace.blind(),
            secret: witness.secret.element(),
            slot: witness.slot,
            path: core::array::from_fn(|_| steps.next().unwrap_or_default()),
        }
    }
}

impl ConstraintSynthesizer<Fr> for LiteCircuit {
    fn generate_constraints(self, cs: ConstraintSystemRef<Fr>) -> Result<(), SynthesisError> {
        let wires = Wires { cs: &cs, assignment: self.assignment.as_ref() };
        let [policy_commit, exec_digest, exec_commit, id_root, nullifier, epoch, context] = wires.public()?;

        // State gate: used + left = limit, all of them below 2^bits, says used <= limit.
        let gas_limit = wires.witness(|a| a.gas_limit)?;
        let (_, gas_used) = wires.number::<GAS_BITS>(|a| a.gas_used)?;
        let (_, gas_left) = wires.number::<GAS_BITS>(|a| a.gas_left)?;
        (&gas_used + gas_left).enforce_equal(&gas_limit)?;

        let pages_max = wires.witness(|a| a.pages_max)?;
        let (_, peak_pages) = wires.number::<PAGE_BITS>(|a| a.peak_pages.into())?;
        let (_, pages_left) = wires.number::<PAGE_BITS>(|a| a.pages_left.into())?;
        (&peak_pages + pages_left).enforce_equal(&pages_max)?;

        let (allowed_bits, allowed) = wires.number::<HOST_CALL_BITS>(|a| a.host_calls_allowed)?;
        let (call_bits, host_calls) = wires.number::<HOST_CALL_BITS>(|a| a.host_calls)?;
        for (call, allowed) in call_bits.into_iter().zip(allowed_bits) {
            // call * (1 - allowed) = 0
            let forbidden = FpVar::one() - FpVar::from(allowed);
            FpVar::from(call).mul_equals(&forbidden, &FpVar::zero())?;
        }

        // Policy opening: those limits are the ones the verifier knows.
        hash_var(&cs, Tag::Policy, &[gas_limit, pages_max, allowed])?.enforce_equal(&policy_commit)?;

        // Execution opening: those values, and these checkpoints, are of this `exec_hash`.
        let chain = wires.witness(|a| a.chain)?;
        let blind = wires.witness(|a| a.blind)?;
        let trace = [exec_digest, chain, gas_used, peak_pages, host_calls, blind];
        hash_var(&cs, Tag::Execution, &trace)?.enforce_equal(&exec_commit)?;

        // Identity gate: one secret is under the root and makes the nullifier.
        let secret = wires.witness(|a| a.secret)?;
        let mut node = hash_var(&cs, Tag::Leaf, core::slice::from_ref(&secret))?;
        for height in 0..TREE_DEPTH {
            let step = move |a: &Assignment| a.path.get(height).copied().unwrap_or_default();
            let is_right = Boolean::new_witness(cs.clone(), || wires.value(|a| step(a).0))?;
            let sibling = wires.witness(|a| step(a).1)?;
            let left = is_right.select(&sibling, &node)?;
            let right = node + sibling - &left;
            node = hash_var(&cs, Tag::Node, &[left, right])?;
        }
        node.enforce_equal(&id_root)?;

        let (_, slot) = wires.number::<SLOT_BITS>(|a| a.slot.into())?;
        hash_var(&cs, Tag::Nullifier, &[secret, epoch, slot])?.enforce_equal(&nullifier)?;

        // Nothing opens the context; without a constraint of its own it would not be bound.
        let _square = context.square()?;
        Ok(())
    }
}

/// Allocates wires, with values where there is an assignment.
struct Wires<'a> {
    cs: &'a ConstraintSystemRef<Fr>,
    assignment: Option<&'a Assignment>,
}

impl Wires<'_> {
    fn value<T>(&self, read: impl FnOnce(&Assignment) -> T) -> Result<T, SynthesisError> {
        self.assignment.map(read).ok_or(SynthesisError::AssignmentMissing)
    }

    fn public<const N: usize>(&self) -> Result<[FpVar<Fr>; N], SynthesisError> {
        let mut inputs: [FpVar<Fr>; N] = core::array::from_fn(|_| FpVar::zero());
        for (position, input) in inputs.iter_mut().enumerate() {
            let read = |a: &Assignment| a.public.get(position).copied().unwrap_or_default();
            *input = FpVar::new_input(self.cs.clone(), || self.value(read))?;
        }
        Ok(inputs)
    }

    fn witness(&self, read: impl FnOnce(&Assignment) -> Fr) -> Result<FpVar<Fr>, SynthesisError> {
        FpVar::new_witness(self.cs.clone(), || self.value(read))
    }

    /// A number made of `BITS` witnessed bits, which is what keeps it below 2^BITS.
    fn number<const BITS: usize>(
        &self,
        read: impl Fn(&Assignment) -> u64,
    ) -> Result<(Vec<Boolean<Fr>>, FpVar<Fr>), SynthesisError> {
        let bit = |position| {
            Boolean::new_witness(self.cs.clone(), || self.value(|a| (read(a) >> position) & 1 == 1))
        };
        let bits = (0..BITS).map(bit).collect::<Result<Vec<_>, _>>()?;
        let number = Boolean::le_bits_to_fp(&bits)?;
        Ok((bits, number))
    }
}

/// Digest of the constraint matrices: two builds that agree on it agree on the circuit.
pub(crate) fn circuit_digest(profile: Profile) -> Digest {
    static LITE: OnceLock<Digest> = OnceLock::new();
    match profile {
        Profile::Lite => *LITE.get_or_init(|| digest_of(LiteCircuit::blank())),
    }
}

fn digest_of(circuit: LiteCircuit) -> Digest {
    let cs = ConstraintSystem::<Fr>::new_ref();
    cs.set_optimization_goal(OptimizationGoal::Constraints);
    cs.set_mode(SynthesisMode::Setup);
    circuit.generate_constraints(cs.clone()).expect("the blank circuit needs no values");
    cs.finalize();
    let matrices = cs.to_matrices().expect("the system was just built");
    let mut bytes = Vec::new();
    for (label, matrices) in matrices {
        bytes.extend_from_slice(label.as_bytes());
        for matrix in matrices {
            bytes.extend_from_slice(&(matrix.len() as u64).to_le_bytes());
            for row in matrix {
                bytes.extend_from_slice(&(row.len() as u64).to_le_bytes());
                for (coefficient, column) in row {
                    bytes.extend_from_slice(&(column as u64).to_le_bytes());
                    bytes.extend_from_slice(&crate::element::print(&coefficient));
                }
            }
        }
    }
    let shape = [cs.num_instance_variables(), cs.num_witness_variables()].map(|n| (n as u64).to_le_bytes());
    Digest::of(domains::CIRCUIT, &[&shape.concat(), &bytes])
}

#[cfg(test)]
mod tests;
