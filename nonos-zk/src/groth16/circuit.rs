use ark_bn254::Fr;
use ark_r1cs_std::fields::fp::FpVar;
use ark_r1cs_std::prelude::*;
use ark_relations::gr1cs::{ConstraintSynthesizer, ConstraintSystemRef, SynthesisError};
use ark_relations::lc;

use self::assignment::Assignment;
use self::identity::Operator;
use self::transit::TransitCircuit;
use self::wires::Wires;
use crate::gadgets::sha3_512;
use crate::poseidon::{PoseidonField, Tag, hash_var};
use crate::proof::Profile;
use crate::statement::{Statement, Witness};
use crate::trace::{LIMB_BYTES, place, power};

mod assignment;
mod identity;
mod shape;
pub(super) mod transit;
mod wires;

pub(super) use self::shape::circuit_digest;
pub use self::shape::{GateSizes, gate_sizes};

const GAS_BITS: usize = 64;
const PAGE_BITS: usize = 32;
const HOST_CALL_BITS: usize = 64;
const CPU_FEATURE_BITS: usize = 32;
const ISOLATION_BITS: usize = 16;

/// The circuit of a profile without values, for the setup.
#[derive(Clone)]
pub(super) enum Blank<F> {
    Receipt(ReceiptCircuit<F>),
    Transit(TransitCircuit<F>),
}

impl<F: PoseidonField> Blank<F> {
    pub(super) const fn of(profile: Profile) -> Self {
        match profile {
            Profile::Lite | Profile::Full => Self::Receipt(ReceiptCircuit { profile, assignment: None }),
            Profile::Transit => Self::Transit(TransitCircuit::BLANK),
        }
    }

    #[cfg(test)]
    fn synthesize(&self, cs: &ConstraintSystemRef<F>) -> Result<GateSizes, SynthesisError> {
        match self {
            Self::Receipt(circuit) => circuit.synthesize(cs),
            Self::Transit(circuit) => circuit.synthesize(cs),
        }
    }
}

impl<F: PoseidonField> ConstraintSynthesizer<F> for Blank<F> {
    fn generate_constraints(self, cs: ConstraintSystemRef<F>) -> Result<(), SynthesisError> {
        match self {
            Self::Receipt(circuit) => circuit.generate_constraints(cs),
            Self::Transit(circuit) => circuit.generate_constraints(cs),
        }
    }
}

/// The circuit `receipt-v1`. Without an assignment it only describes itself.
#[derive(Clone)]
pub(crate) struct ReceiptCircuit<F> {
    profile: Profile,
    assignment: Option<Assignment<F>>,
}

impl ReceiptCircuit<Fr> {
    /// The circuit with the values of a statement and its witness.
    pub(crate) fn assigned(profile: Profile, statement: &Statement, witness: &Witness) -> Self {
        Self { profile, assignment: Some(Assignment::honest(profile, statement, witness)) }
    }
}

impl<F: PoseidonField> ReceiptCircuit<F> {
    /// Adds all constraints and counts those of each gate.
    fn synthesize(&self, cs: &ConstraintSystemRef<F>) -> Result<GateSizes, SynthesisError> {
        let wires = Wires { cs, assignment: self.assignment.as_ref() };
        let public = wires.public(self.profile.public_inputs(), |a| &a.public)?;
        let [
            policy_commit,
            exec_digest,
            exec_commit,
            id_root,
            nullifier,
            epoch,
            context,
            key_link,
            rest @ ..,
        ] = &public[..]
        else {
            return Err(SynthesisError::Unsatisfiable);
        };
        let start = cs.num_constraints();
        let payload_digest = match rest.first() {
            Some(payload_commit) => hash_gate(&wires, payload_commit)?,
            None => wires.witness(|a| a.payload_digest)?,
        };
        let hash = cs.num_constraints();
        let used = state_gate(&wires, policy_commit)?;
        execution_gate(&wires, [exec_digest, exec_commit], payload_digest, used)?;
        let state = cs.num_constraints();
        let wires = wires.part(|a| &a.identity);
        let operator = match self.profile {
            Profile::Full => Operator::of_scalar(&wires)?,
            _ => Operator::enrolled(&wires)?,
        };
        operator.is_member(&wires, id_root)?;
        let mark = operator.mark(&wires)?;
        mark.makes_nullifier(&wires, Tag::Nullifier, epoch, nullifier)?;
        mark.makes_link(&wires, context, key_link)?;
        let end = cs.num_constraints();
        Ok(GateSizes { hash: hash - start, state: state - hash, identity: end - state })
    }
}

impl<F: PoseidonField> ConstraintSynthesizer<F> for ReceiptCircuit<F> {
    fn generate_constraints(self, cs: ConstraintSystemRef<F>) -> Result<(), SynthesisError> {
        self.synthesize(&cs).map(drop)
    }
}

/// The payload's digest is what the commitment is the SHA3-512 of. Returns it as one element.
fn hash_gate<F: PoseidonField>(
    wires: &Wires<'_, F, Assignment<F>>,
    payload_commit: &FpVar<F>,
) -> Result<FpVar<F>, SynthesisError> {
    let digest = wires.bits(512, |a, position| bit_of(&a.payload, position))?;
    let commit = sha3_512(wires.cs, &digest)?;
    let limbs = wires.pack(&commit, LIMB_BYTES * 8)?;
    hash_var(wires.cs, Tag::PayloadCommit, &limbs)?.enforce_equal(payload_commit)?;
    hash_var(wires.cs, Tag::Payload, &wires.pack(&digest, LIMB_BYTES * 8)?)
}

/// What was used keeps limits that are those of the commitment. Returns what was used, packed.
fn state_gate<F: PoseidonField>(
    wires: &Wires<'_, F, Assignment<F>>,
    policy_commit: &FpVar<F>,
) -> Result<FpVar<F>, SynthesisError> {
    // used + left = limit, both below 2^bits, says used <= limit.
    let (_, gas_used) = wires.number(GAS_BITS, |a| a.gas_used)?;
    let (_, gas_left) = wires.number(GAS_BITS, |a| a.gas_left)?;
    let (_, peak_pages) = wires.number(PAGE_BITS, |a| a.peak_pages.into())?;
    let (_, pages_left) = wires.number(PAGE_BITS, |a| a.pages_left.into())?;

    let (calls, call_set) = wires.number(HOST_CALL_BITS, |a| a.host_calls)?;
    let (calls_allowed, allowed_call_set) = wires.number(HOST_CALL_BITS, |a| a.host_calls_allowed)?;
    let (features, feature_set) = wires.number(CPU_FEATURE_BITS, |a| a.cpu_features.into())?;
    let (features_allowed, allowed_feature_set) =
        wires.number(CPU_FEATURE_BITS, |a| a.cpu_features_allowed.into())?;
    let (walls, wall_set) = wires.number(ISOLATION_BITS, |a| a.isolation.into())?;
    let (walls_required, required_wall_set) =
        wires.number(ISOLATION_BITS, |a| a.isolation_required.into())?;
    // The first of each pair needs the second.
    let pairs = calls.iter().zip(&calls_allowed).chain(features.iter().zip(&features_allowed));
    for (bit, leave) in pairs.chain(walls_required.iter().zip(&walls)) {
        wires.cs.enforce_r1cs_constraint(|| bit.lc(), || leave.not().lc(), || lc!())?;
    }

    let packed = |gas, pages, calls: FpVar<F>, features: FpVar<F>, walls: FpVar<F>| {
        let pages: FpVar<F> = pages;
        let gas: FpVar<F> = gas;
        gas * power::<F>(place::GAS)
            + pages * power::<F>(place::PAGES)
            + calls * power::<F>(place::HOST_CALLS)
            + features * power::<F>(place::CPU_FEATURES)
            + walls * power::<F>(place::ISOLATION)
    };
    let limits = packed(
        &gas_used + gas_left,
        &peak_pages + pages_left,
        allowed_call_set,
        allowed_feature_set,
        required_wall_set,
    );
    hash_var(wires.cs, Tag::Policy, &[limits])?.enforce_equal(policy_commit)?;
    Ok(packed(gas_used, peak_pages, call_set, feature_set, wall_set))
}

/// What was used, this payload and these checkpoints are of this `exec_hash`.
fn execution_gate<F: PoseidonField>(
    wires: &Wires<'_, F, Assignment<F>>,
    [exec_digest, exec_commit]: [&FpVar<F>; 2],
    payload_digest: FpVar<F>,
    used: FpVar<F>,
) -> Result<(), SynthesisError> {
    let chain = wires.witness(|a| a.chain)?;
    let blind = wires.witness(|a| a.blind)?;
    let trace = [exec_digest.clone(), payload_digest, chain, used, blind];
    hash_var(wires.cs, Tag::Execution, &trace)?.enforce_equal(exec_commit)
}

fn bit_of(bytes: &[u8], position: usize) -> bool {
    bytes.get(position / 8).is_some_and(|byte| (byte >> (position % 8)) & 1 == 1)
}

#[cfg(test)]
mod tests;
