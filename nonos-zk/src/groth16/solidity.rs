use core::fmt::Write as _;

use ark_bn254::{Bn254, Fq2, G1Affine, G2Affine};
use ark_ec::AffineRepr as _;
use nonos_identity::Digest;

use super::engine::parse;
use super::keys::{Provenance, VerifyingKey};
use crate::element::print;
use crate::proof::Proof;
use crate::prover::VerifyError;
use crate::statement::Statement;

/// A word of the EVM, big-endian.
type Word = [u8; 32];

impl VerifyingKey {
    /// A contract that verifies proofs for this key, in Solidity: one function,
    /// `verifyProof(uint256[2],uint256[2][2],uint256[2],uint256[n])`.
    #[must_use]
    pub fn to_solidity(&self) -> String {
        let key = self.key();
        let mut ic = key.gamma_abc_g1.iter();
        let first = ic.next().map(g1).unwrap_or_default();
        let mut sum = String::new();
        for (position, point) in ic.enumerate() {
            let [x, y] = g1(point);
            let _ = writeln!(sum, "        if (!add(sum, {x}, {y}, inputs[{position}])) return false;");
        }
        let provenance = match self.provenance() {
            Provenance::InsecureDev { .. } => {
                "This one is PUBLISHED: a development key, for tests alone.".to_owned()
            }
            Provenance::Ceremony { transcript } => {
                format!(
                    "This one comes from the ceremony with transcript {}.",
                    Digest::from_bytes(transcript)
                )
            }
        };
        let [ic_x, ic_y] = first;
        include_str!("verifier.sol.in")
            .replace("@ID@", &self.id().to_string())
            .replace("@PROVENANCE@", &provenance)
            .replace("@COUNT@", &key.gamma_abc_g1.len().saturating_sub(1).to_string())
            .replace("@IC0_X@", &ic_x)
            .replace("@IC0_Y@", &ic_y)
            .replace("@SUM@\n", &sum)
            .replace("@ALPHA@", &g1(&key.alpha_g1).join(", "))
            .replace("@BETA@", &g2(&key.beta_g2).join(", "))
            .replace("@GAMMA@", &g2(&key.gamma_g2).join(", "))
            .replace("@DELTA@", &g2(&key.delta_g2).join(", "))
    }
}

/// The arguments of the contract's `verifyProof` after its selector: eight words for the proof, then one
/// for each input.
///
/// # Errors
/// [`VerifyError::Malformed`] if the proof is not three points in their groups.
pub fn solidity_arguments(statement: &Statement, proof: &Proof) -> Result<Vec<Word>, VerifyError> {
    let points = parse::<Bn254>(proof.as_bytes()).ok_or(VerifyError::Malformed)?;
    let mut words = Vec::new();
    let mut push = |little_endian: [u8; 32]| {
        let mut word = little_endian;
        word.reverse();
        words.push(word);
    };
    let (a, b, c) = (points.a, points.b, points.c);
    for number in [a.x, a.y, b.x.c1, b.x.c0, b.y.c1, b.y.c0, c.x, c.y] {
        push(print(&number));
    }
    statement.public_inputs(proof.profile()).into_iter().for_each(push);
    Ok(words)
}

fn g1(point: &G1Affine) -> [String; 2] {
    let (x, y) = point.xy().unwrap_or_default();
    [x, y].map(|number| number.to_string())
}

fn g2(point: &G2Affine) -> [String; 4] {
    let (x, y) = point.xy().unwrap_or_default();
    let [x, y] = [x, y].map(|Fq2 { c0, c1, .. }| [c1, c0].map(|number| number.to_string()));
    let ([a, b], [c, d]) = (x, y);
    [a, b, c, d]
}
