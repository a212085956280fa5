//! The setup ceremony: phase 2 of Groth16 (eprint 2017/1050, Bowe, Gabizon and Miers; analysed without a
//! beacon in eprint 2021/219), so that no single party can forge proofs.
//!
//! Phase 1, the powers of tau, is the same for all circuits; it is imported from the `.ptau` files of
//! snarkjs. From them and the circuit everybody makes the same [`InitialKey`], with delta = gamma = 1.
//! Then each contributor multiplies delta by a secret number `x`, divides the points of L and H by it,
//! proves to have known `x` (Schnorr, bound to a hash chain over all that came before) and forgets it.
//! Keys are sound if one of them does forget. A beacon, which nobody could foresee and everybody can
//! compute again, closes the ceremony.
//!
//! The file of a [`Ceremony`] holds what contributions change and nothing else: delta, L and H. Gamma,
//! alpha, beta and the queries come from the initial key that each verifier makes anew, so that there is
//! no way to change them.
//!
//! The keys depend on phase 1, too: whoever knows its tau forges proofs whatever phase 2 did.

mod basis;
mod chain;
mod contribution;
mod file;
mod initial;
mod points;
mod ptau;
#[cfg(any(test, feature = "testing"))]
pub(crate) mod testing;

use core::fmt;

pub use self::chain::{Ceremony, CeremonyError, ContributeError};
pub use self::contribution::{Contribution, Fault};
pub use self::initial::InitialKey;
pub use self::ptau::PtauError;

/// What a long computation does now; for those who wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// Reads the powers of tau and checks each point.
    ReadPowers,
    /// Checks that they are powers of one tau.
    CheckPowers,
    /// Checks the Lagrange basis that the file has.
    CheckBasis,
    /// Computes the Lagrange basis, the longest step: prepared files spare it.
    Basis,
    /// Evaluates the circuit's polynomials at tau.
    Queries,
    /// Checks each contribution.
    CheckChain,
    /// Checks L and H.
    CheckParameters,
}

/// Who is told of steps.
type Progress<'a> = dyn FnMut(Step) + 'a;

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ReadPowers => "reading the powers of tau",
            Self::CheckPowers => "checking the powers of tau",
            Self::CheckBasis => "checking the Lagrange basis",
            Self::Basis => "computing the Lagrange basis (spared if the ptau is prepared for phase 2)",
            Self::Queries => "evaluating the circuit at tau",
            Self::CheckChain => "checking each contribution",
            Self::CheckParameters => "checking L and H",
        })
    }
}

#[cfg(test)]
mod tests;
