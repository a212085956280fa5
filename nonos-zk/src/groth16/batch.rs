//! Many proofs by one equation: each pairing equation is raised to a random power of 128 bits and all
//! are multiplied, so that the final exponentiation, and three of four pairings, are paid once.
//!
//! The powers come from a hash over everything that is checked. A batch with a false equation passes
//! for one of `2^128` hashes, and whoever makes the proofs can only try.

use ark_bn254::Bn254;
use ark_ec::pairing::Pairing;
use ark_ec::{AffineRepr as _, CurveGroup as _, VariableBaseMSM as _};
use ark_ff::AdditiveGroup as _;
use ark_groth16::PreparedVerifyingKey;
use ark_std::rand::RngCore as _;
use nonos_identity::{RunningDigest, wire};

use super::engine::parse;
use super::stream::Stream;
use crate::domains;
use crate::proof::{Proof, VerifyingKeyId};
use crate::prover::VerifyError;
use crate::statement::Statement;

/// Below this, one by one is not dearer than halves of a batch that holds a bad proof.
const HALVES_MIN: usize = 4;

/// A well-formed proof, its equation raised to its power.
struct Term<E: Pairing> {
    /// Where it is in the batch.
    place: usize,
    power: E::ScalarField,
    a: E::G1Affine,
    b: E::G2Prepared,
    c: E::G1Affine,
    inputs: Vec<E::ScalarField>,
}

impl<E: Pairing> Term<E> {
    /// `power` is a number of 128 bits, its low word first.
    fn new(
        place: usize,
        power: [u64; 2],
        points: ark_groth16::Proof<E>,
        inputs: Vec<E::ScalarField>,
    ) -> Self {
        let a = points.a.mul_bigint(power).into_affine();
        let [low, high] = power.map(u128::from);
        let power = E::ScalarField::from(high << 64 | low);
        Self { place, power, a, b: points.b.into(), c: points.c, inputs }
    }
}

/// The verdict on each proof, in their order.
pub(super) fn verify(
    key: &PreparedVerifyingKey<Bn254>,
    id: VerifyingKeyId,
    batch: &[(&Statement, &Proof)],
) -> Vec<Result<(), VerifyError>> {
    let mut powers = Stream::from_seed(transcript(id, batch));
    let mut verdicts = vec![Err(VerifyError::Malformed); batch.len()];
    let mut terms = Vec::with_capacity(batch.len());
    for (place, (statement, proof)) in batch.iter().enumerate() {
        let Some(points) = parse::<Bn254>(proof.as_bytes()) else { continue };
        let power = [powers.next_u64(), powers.next_u64()];
        terms.push(Term::new(place, power, points, statement.inputs(proof.profile())));
    }
    settle(key, &terms, &mut verdicts);
    verdicts
}

/// Everything that the equations are made of.
fn transcript(id: VerifyingKeyId, batch: &[(&Statement, &Proof)]) -> [u8; 32] {
    let mut transcript = RunningDigest::new(domains::BATCH);
    transcript.field(id.digest().as_bytes());
    for (statement, proof) in batch {
        transcript.field(&wire::to_bytes(*statement));
        transcript.field(proof.as_bytes());
    }
    *transcript.digest().as_bytes()
}

/// Halves a batch that does not hold until every bad proof is found.
fn settle<E: Pairing>(
    key: &PreparedVerifyingKey<E>,
    terms: &[Term<E>],
    verdicts: &mut [Result<(), VerifyError>],
) {
    if terms.is_empty() {
        return;
    }
    let verdict = holds(key, terms);
    if verdict || terms.len() == 1 {
        for term in terms {
            if let Some(place) = verdicts.get_mut(term.place) {
                *place = if verdict { Ok(()) } else { Err(VerifyError::Refused) };
            }
        }
        return;
    }
    let part = if terms.len() <= HALVES_MIN { 1 } else { terms.len().div_ceil(2) };
    terms.chunks(part).for_each(|part| settle(key, part, verdicts));
}

/// `sum e(r A, B) + e(sum r IC, -gamma) + e(sum r C, -delta) = e(sum r alpha, beta)`
fn holds<E: Pairing>(key: &PreparedVerifyingKey<E>, terms: &[Term<E>]) -> bool {
    let total: E::ScalarField = terms.iter().map(|term| term.power).sum();
    let (powers, points): (Vec<_>, Vec<_>) = terms.iter().map(|term| (term.power, term.c)).unzip();
    let Ok(c) = E::G1::msm(&points, &powers) else { return false };
    let mut inputs = vec![total];
    inputs.resize(key.vk.gamma_abc_g1.len(), E::ScalarField::ZERO);
    for term in terms {
        let sums = inputs.iter_mut().skip(1);
        sums.zip(&term.inputs).for_each(|(sum, input)| *sum += term.power * *input);
    }
    let Ok(ic) = E::G1::msm(&key.vk.gamma_abc_g1, &inputs) else { return false };
    let alpha = -(key.vk.alpha_g1.into_group() * total);
    let common = E::G1::normalize_batch(&[ic, c, alpha]);
    let left = terms.iter().map(|term| term.a).chain(common);
    let fixed = [key.gamma_g2_neg_pc.clone(), key.delta_g2_neg_pc.clone(), key.vk.beta_g2.into()];
    let right = terms.iter().map(|term| term.b.clone()).chain(fixed);
    E::multi_pairing(left, right) == ark_ec::pairing::PairingOutput::ZERO
}
