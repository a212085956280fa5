use core::fmt;
use std::io::{Read, Seek};

use ark_bn254::{Bn254, Fr, G1Projective, G2Projective};
use ark_ec::CurveGroup as _;
use ark_ff::Field as _;
use ark_groth16::{ProvingKey, VerifyingKey};
use ark_poly::{EvaluationDomain as _, GeneralEvaluationDomain};
use ark_relations::gr1cs::{ConstraintSynthesizer, SynthesisError};
use nonos_identity::{Digest, RunningDigest};

use super::super::circuit::{Blank, circuit_digest};
use super::super::matrices::Matrices;
use super::points::{Column, absorb, combine, generators};
use super::ptau::{Basis, POWER_MAX, Powers, PtauError};
use super::{Progress, Step};
use crate::domains;
use crate::proof::Profile;

/// The key a ceremony begins with: made from the powers of tau and the circuit alone, the same for
/// everybody, with gamma and delta 1. Nobody can use it: whoever knows delta forges proofs.
#[derive(Clone)]
pub struct InitialKey {
    pub(super) profile: Profile,
    pub(super) circuit: Digest,
    pub(super) key: ProvingKey<Bn254>,
    pub(super) digest: Digest,
}

impl InitialKey {
    /// Makes it from a `.ptau` file of snarkjs, prepared for phase 2 or not; preparation saves time.
    ///
    /// Checked are that each point is in its group and that all are powers of one tau, alpha and beta,
    /// by pairings. Who contributed to them is not: `snarkjs powersoftau verify` tells. Of the file only
    /// what the circuit needs is read, and held in memory.
    ///
    /// # Errors
    /// [`PtauError`] if the file cannot be read or must not be used; [`PtauError::Power`] says which
    /// power is needed.
    pub fn from_ptau(
        profile: Profile,
        ptau: &mut (impl Read + Seek),
        mut progress: impl FnMut(Step),
    ) -> Result<Self, PtauError> {
        let circuit = Blank::of(profile);
        Self::of(circuit, profile, circuit_digest(profile), ptau, &mut progress)
    }

    /// The power of tau that a circuit needs: its domain has `2^power` points.
    ///
    /// # Errors
    /// [`PtauError::Circuit`] if no setup fits it.
    pub fn power_needed(profile: Profile) -> Result<u32, PtauError> {
        let shape = Shape::of(Blank::of(profile))?;
        shape.domain.log_size_of_group().try_into().map_err(|_| PtauError::Circuit)
    }

    /// The same for any circuit.
    pub(super) fn of(
        circuit: impl ConstraintSynthesizer<Fr>,
        profile: Profile,
        circuit_digest: Digest,
        ptau: &mut (impl Read + Seek),
        progress: &mut Progress<'_>,
    ) -> Result<Self, PtauError> {
        let shape = Shape::of(circuit)?;
        let log2 = u32::try_from(shape.domain.log_size_of_group()).map_err(|_| PtauError::Circuit)?;
        let mut powers = Powers::read(ptau, log2, progress)?;
        let basis = powers.basis(&shape.domain, progress)?;
        progress(Step::Queries);
        let key = shape.key(&powers, &basis)?;
        let digest = digest(&circuit_digest, &key);
        Ok(Self { profile, circuit: circuit_digest, key, digest })
    }

    /// Digest of circuit and key: what the transcript begins with.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.digest
    }
}

pub(super) fn digest(circuit: &Digest, key: &ProvingKey<Bn254>) -> Digest {
    let mut digest = RunningDigest::new(domains::CEREMONY_KEY);
    digest.field(circuit.as_bytes());
    absorb(&mut digest, &[key.vk.alpha_g1, key.beta_g1, key.delta_g1]);
    absorb(&mut digest, &[key.vk.beta_g2, key.vk.gamma_g2, key.vk.delta_g2]);
    for list in [&key.vk.gamma_abc_g1, &key.a_query, &key.b_g1_query, &key.h_query, &key.l_query] {
        absorb(&mut digest, list);
    }
    absorb(&mut digest, &key.b_g2_query);
    digest.digest()
}

/// A circuit as the quadratic arithmetic program of `ark_groth16`'s `LibsnarkReduction`: the domain has a
/// point for each constraint, then one for each public input, which only stands in A there.
struct Shape {
    domain: GeneralEvaluationDomain<Fr>,
    instance: usize,
    a: Vec<Column>,
    b: Vec<Column>,
    c: Vec<Column>,
}

impl Shape {
    fn of(circuit: impl ConstraintSynthesizer<Fr>) -> Result<Self, PtauError> {
        Self::build(circuit).ok().flatten().ok_or(PtauError::Circuit)
    }

    fn build(circuit: impl ConstraintSynthesizer<Fr>) -> Result<Option<Self>, SynthesisError> {
        let matrices = Matrices::of(circuit)?;
        let (constraints, instance) = (matrices.constraints(), matrices.instance);
        let variables = instance + matrices.witness;
        let [a, b, c] = &matrices.rows;
        let Some(domain) = GeneralEvaluationDomain::new(constraints + instance) else { return Ok(None) };
        if domain.log_size_of_group() > u64::from(POWER_MAX) {
            return Ok(None);
        }
        let columns = |rows: &[Vec<(Fr, usize)>]| {
            let mut columns = vec![Column::new(); variables];
            for (row, terms) in rows.iter().enumerate() {
                for (coefficient, variable) in terms {
                    columns.get_mut(*variable)?.push((*coefficient, row));
                }
            }
            Some(columns)
        };
        let (Some(mut a), Some(b), Some(c)) = (columns(a), columns(b), columns(c)) else { return Ok(None) };
        for (input, column) in a.iter_mut().take(instance).enumerate() {
            column.push((Fr::ONE, constraints + input));
        }
        Ok(Some(Self { domain, instance, a, b, c }))
    }

    fn key(&self, powers: &Powers, basis: &Basis) -> Result<ProvingKey<Bn254>, PtauError> {
        let (g1, g2) = generators();
        let n = self.domain.size();
        let in_g1 = |columns: &[Column]| combine::<G1Projective>(columns, &basis.tau_g1);
        let [a, b, c] = [&self.a, &self.b, &self.c].map(|columns| in_g1(columns));
        let b_g2 = combine::<G2Projective>(&self.b, &basis.tau_g2);
        let mut outer = c;
        for part in [combine(&self.a, &basis.beta), combine(&self.b, &basis.alpha)] {
            outer.iter_mut().zip(&part).for_each(|(sum, part): (_, &G1Projective)| *sum += part);
        }
        let mut gamma_abc_g1 = G1Projective::normalize_batch(&outer);
        let l_query = gamma_abc_g1.split_off(self.instance);
        // tau^i (tau^n - 1): the powers of tau times the vanishing polynomial at tau.
        let (low, high) = (powers.tau_g1.get(..n - 1), powers.tau_g1.get(n..));
        let (low, high) = low.zip(high).ok_or(PtauError::Truncated)?;
        let h: Vec<G1Projective> = high.iter().zip(low).map(|(high, low)| *high - *low).collect();
        let [alpha_g1, beta_g1] = [&powers.alpha, &powers.beta].map(|list| list.first().copied());
        let (alpha_g1, beta_g1) = alpha_g1.zip(beta_g1).ok_or(PtauError::Truncated)?;
        Ok(ProvingKey {
            vk: VerifyingKey { alpha_g1, beta_g2: powers.beta_g2, gamma_g2: g2, delta_g2: g2, gamma_abc_g1 },
            beta_g1,
            delta_g1: g1,
            a_query: G1Projective::normalize_batch(&a),
            b_g1_query: G1Projective::normalize_batch(&b),
            b_g2_query: G2Projective::normalize_batch(&b_g2),
            h_query: G1Projective::normalize_batch(&h),
            l_query,
        })
    }
}

impl fmt::Debug for InitialKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InitialKey")
            .field("profile", &self.profile)
            .field("circuit", &self.circuit)
            .field("digest", &self.digest)
            .finish_non_exhaustive()
    }
}
