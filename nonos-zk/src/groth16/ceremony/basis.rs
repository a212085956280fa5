//! Powers of tau in the Lagrange basis of a circuit's domain.

use ark_bn254::{Fr, G1Affine, G1Projective, G2Projective};
use ark_ec::CurveGroup;
use ark_poly::{EvaluationDomain as _, GeneralEvaluationDomain};
use nonos_identity::Digest;

use super::points::{Weights, weighted};
use super::ptau::{Basis, Powers, PtauError, section};
use super::{Progress, Step};
use crate::domains;

impl Powers {
    /// The basis for `domain`: the file's own if it has one and that holds, otherwise computed.
    pub(super) fn basis(
        &mut self,
        domain: &GeneralEvaluationDomain<Fr>,
        progress: &mut Progress<'_>,
    ) -> Result<Basis, PtauError> {
        if let Some(basis) = self.basis.take() {
            progress(Step::CheckBasis);
            self.check_basis(&basis, domain)?;
            return Ok(basis);
        }
        progress(Step::Basis);
        let powers = self.tau_g1.get(..domain.size()).ok_or(PtauError::Truncated)?;
        Ok(Basis {
            tau_g1: to_basis::<G1Projective>(powers, domain),
            tau_g2: to_basis::<G2Projective>(&self.tau_g2, domain),
            alpha: to_basis::<G1Projective>(&self.alpha, domain),
            beta: to_basis::<G1Projective>(&self.beta, domain),
        })
    }

    /// A random combination of Lagrange polynomials is the polynomial that has the weights as its
    /// values; its coefficients are one inverse transform of numbers away, so that two sums of points
    /// take the place of a transform of points.
    fn check_basis(&self, basis: &Basis, domain: &GeneralEvaluationDomain<Fr>) -> Result<(), PtauError> {
        let seed = Digest::of(domains::CEREMONY_WEIGHTS, &[b"basis", self.digest.as_bytes()]);
        let weights = Weights::new(&seed).take(domain.size());
        let coefficients = domain.ifft(&weights);
        let powers: &[G1Affine] = self.tau_g1.get(..domain.size()).ok_or(PtauError::Truncated)?;
        let lists = [
            (section::LAGRANGE_TAU_G1, &basis.tau_g1[..], powers),
            (section::LAGRANGE_ALPHA, &basis.alpha, &self.alpha),
            (section::LAGRANGE_BETA, &basis.beta, &self.beta),
        ];
        for (section, basis, powers) in lists {
            if weighted::<G1Projective>(basis, &weights) != weighted::<G1Projective>(powers, &coefficients) {
                return Err(PtauError::Inconsistent { section });
            }
        }
        if weighted::<G2Projective>(&basis.tau_g2, &weights)
            != weighted::<G2Projective>(&self.tau_g2, &coefficients)
        {
            return Err(PtauError::Inconsistent { section: section::LAGRANGE_TAU_G2 });
        }
        Ok(())
    }
}

/// The inverse Fourier transform, of points.
fn to_basis<C: CurveGroup<ScalarField = Fr>>(
    powers: &[C::Affine],
    domain: &GeneralEvaluationDomain<Fr>,
) -> Vec<C::Affine> {
    let mut points: Vec<C> = powers.iter().map(|point| (*point).into()).collect();
    domain.ifft_in_place(&mut points);
    C::normalize_batch(&points)
}
