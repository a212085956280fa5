//! Powers of tau for tests, made by one who knows tau.
#![expect(clippy::missing_panics_doc, reason = "a kit for tests reports by panicking")]

use std::io::Cursor;

use ark_bn254::{Fq, Fr, G1Projective, G2Projective};
use ark_ec::{AffineRepr as _, PrimeGroup as _, ScalarMul as _};
use ark_ff::{Field as _, PrimeField as _};
use ark_poly::{EvaluationDomain as _, GeneralEvaluationDomain};
use ark_std::UniformRand as _;

use super::super::stream::Stream;
use super::Ceremony;
use super::ptau::{MAGIC, Powers, VERSION, section};

/// A `.ptau` file of a power up to 20 whose secrets come from a seed: **anybody can forge proofs** for
/// what is built on it. `prepared` adds the Lagrange sections, as `snarkjs powersoftau prepare phase2`.
#[must_use]
pub fn insecure_ptau(power: u32, seed: [u8; 32], prepared: bool) -> Vec<u8> {
    let mut rng = Stream::from_seed(seed);
    let [tau, alpha, beta] = [(); 3].map(|()| Fr::rand(&mut rng));
    from_secrets(power, tau, alpha, beta, prepared)
}

pub(super) fn from_secrets(power: u32, tau: Fr, alpha: Fr, beta: Fr, prepared: bool) -> Vec<u8> {
    let n = 1usize << power.min(20);
    let powers: Vec<Fr> =
        core::iter::successors(Some(Fr::ONE), |last| Some(*last * tau)).take(2 * n - 1).collect();
    let times = |list: &[Fr], factor: Fr| -> Vec<Fr> { list.iter().map(|number| *number * factor).collect() };
    let low: Vec<Fr> = powers.iter().copied().take(n).collect();
    let header =
        [&32u32.to_le_bytes()[..], &words(Fq::MODULUS.0), &power.to_le_bytes(), &power.to_le_bytes()]
            .concat();
    let mut sections = vec![
        (section::HEADER, header),
        (section::TAU_G1, in_g1(&powers)),
        (section::TAU_G2, in_g2(&low)),
        (section::ALPHA, in_g1(&times(&low, alpha))),
        (section::BETA, in_g1(&times(&low, beta))),
        (section::BETA_G2, in_g2(&[beta])),
        (section::CONTRIBUTIONS, 0u32.to_le_bytes().to_vec()),
    ];
    if prepared {
        let basis = |level: u32| {
            let domain = GeneralEvaluationDomain::<Fr>::new(1 << level).expect("a small domain");
            domain.evaluate_all_lagrange_coefficients(tau)
        };
        let whole: Vec<Fr> = (0..=power).flat_map(basis).collect();
        sections.extend([
            (section::LAGRANGE_TAU_G1, in_g1(&whole)),
            (section::LAGRANGE_TAU_G2, in_g2(&whole)),
            (section::LAGRANGE_ALPHA, in_g1(&times(&whole, alpha))),
            (section::LAGRANGE_BETA, in_g1(&times(&whole, beta))),
        ]);
    }
    let count = u32::try_from(sections.len()).expect("eleven at most");
    let mut file = [&MAGIC[..], &VERSION.to_le_bytes(), &count.to_le_bytes()].concat();
    for (id, content) in sections {
        file.extend_from_slice(&id.to_le_bytes());
        file.extend_from_slice(&(content.len() as u64).to_le_bytes());
        file.extend_from_slice(&content);
    }
    file
}

/// Reads powers of tau from any bytes.
pub fn fuzz_ptau(bytes: &[u8]) {
    let _ = Powers::read(&mut Cursor::new(bytes), 3, &mut |_| ());
}

/// Reads a ceremony from any bytes.
pub fn fuzz_ceremony(bytes: &[u8]) {
    if let Ok(ceremony) = Ceremony::from_bytes(bytes) {
        assert!(ceremony.to_bytes() == bytes, "a second encoding of a ceremony");
        let _ = ceremony.check_chain();
    }
}

fn in_g1(factors: &[Fr]) -> Vec<u8> {
    let points = G1Projective::generator().batch_mul(factors);
    points
        .iter()
        .filter_map(|point| point.xy())
        .flat_map(|(x, y)| [montgomery(x), montgomery(y)].concat())
        .collect()
}

fn in_g2(factors: &[Fr]) -> Vec<u8> {
    let points = G2Projective::generator().batch_mul(factors);
    let parts = points.iter().filter_map(|point| point.xy()).flat_map(|(x, y)| [x.c0, x.c1, y.c0, y.c1]);
    parts.flat_map(montgomery).collect()
}

/// The words as arkworks holds them.
pub(super) fn montgomery(number: Fq) -> [u8; 32] {
    words(number.0.0)
}

fn words(limbs: [u64; 4]) -> [u8; 32] {
    let mut bytes = [0; 32];
    for (to, limb) in bytes.chunks_exact_mut(8).zip(limbs) {
        to.copy_from_slice(&limb.to_le_bytes());
    }
    bytes
}
