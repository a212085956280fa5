//! Keys, proofs and inputs as snarkjs reads them, so that a stranger checks a receipt with tools that
//! are none of ours: `snarkjs groth16 verify verification_key.json public.json proof.json`.
//!
//! Numbers are decimal text. Points have a third coordinate of 1; an element of the quadratic field is
//! its two coefficients, the one without the root first.

use ark_bn254::{Bn254, Fq, Fq2, Fr, G1Affine, G2Affine};
use ark_ec::AffineRepr as _;
use ark_ff::{AdditiveGroup as _, Field as _};
use serde::Serialize;

use super::engine::parse;
use super::keys::VerifyingKey;
use crate::proof::{Profile, Proof};
use crate::prover::VerifyError;
use crate::statement::Statement;

type G1 = [String; 3];
type G2 = [[String; 2]; 3];

const PROTOCOL: &str = "groth16";
/// BN254, by the name it has there.
const CURVE: &str = "bn128";

/// The content of `verification_key.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SnarkjsKey {
    protocol: &'static str,
    curve: &'static str,
    #[serde(rename = "nPublic")]
    public_count: usize,
    vk_alpha_1: G1,
    vk_beta_2: G2,
    vk_gamma_2: G2,
    vk_delta_2: G2,
    #[serde(rename = "IC")]
    ic: Vec<G1>,
}

/// The content of `proof.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SnarkjsProof {
    pi_a: G1,
    pi_b: G2,
    pi_c: G1,
    protocol: &'static str,
    curve: &'static str,
}

impl VerifyingKey {
    /// As snarkjs reads it. That a key comes from a development setup does not show there.
    #[must_use]
    pub fn to_snarkjs(&self) -> SnarkjsKey {
        let ark_groth16::VerifyingKey::<Bn254> { alpha_g1, beta_g2, gamma_g2, delta_g2, gamma_abc_g1 } =
            self.key();
        SnarkjsKey {
            protocol: PROTOCOL,
            curve: CURVE,
            public_count: gamma_abc_g1.len().saturating_sub(1),
            vk_alpha_1: g1(alpha_g1),
            vk_beta_2: g2(beta_g2),
            vk_gamma_2: g2(gamma_g2),
            vk_delta_2: g2(delta_g2),
            ic: gamma_abc_g1.iter().map(g1).collect(),
        }
    }
}

impl SnarkjsProof {
    /// A Groth16 proof as snarkjs reads it.
    ///
    /// # Errors
    /// [`VerifyError::Malformed`] if the bytes are not three points in their groups.
    pub fn new(proof: &Proof) -> Result<Self, VerifyError> {
        let points = parse::<Bn254>(proof.as_bytes()).ok_or(VerifyError::Malformed)?;
        Ok(Self {
            pi_a: g1(&points.a),
            pi_b: g2(&points.b),
            pi_c: g1(&points.c),
            protocol: PROTOCOL,
            curve: CURVE,
        })
    }
}

impl Statement {
    /// The public inputs of a profile as snarkjs reads them: the content of `public.json`.
    #[must_use]
    pub fn to_snarkjs(&self, profile: Profile) -> Vec<String> {
        self.inputs(profile).iter().map(Fr::to_string).collect()
    }
}

/// The identity has a third coordinate of 0; no key and no proof holds it.
fn g1(point: &G1Affine) -> G1 {
    match point.xy() {
        Some((x, y)) => [x, y, Fq::ONE].map(|number| number.to_string()),
        None => [Fq::ZERO, Fq::ONE, Fq::ZERO].map(|number| number.to_string()),
    }
}

fn g2(point: &G2Affine) -> G2 {
    let numbers = match point.xy() {
        Some((x, y)) => [x, y, Fq2::ONE],
        None => [Fq2::ZERO, Fq2::ONE, Fq2::ZERO],
    };
    numbers.map(|number| [number.c0, number.c1].map(|number| number.to_string()))
}
