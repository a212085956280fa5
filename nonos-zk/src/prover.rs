use crate::gates::Gate;
use crate::proof::{Profile, Proof, ProofTooLong, VerifyingKeyId};
use crate::statement::{Statement, Witness};
use crate::transit::TransitFault;

/// Makes proofs.
///
/// Contract: `prove` blocks the calling thread for as long as it takes, is safe to call from many
/// threads, and never returns a proof that its own verifying key refuses. It checks the witness
/// first ([`Witness::check`]) and names the gate that fails. Errors are the caller's fault, except
/// [`ProveError::Engine`].
pub trait Prover: Send + Sync {
    /// The circuit it proves.
    fn profile(&self) -> Profile;

    /// The key its proofs verify with.
    fn verifying_key_id(&self) -> VerifyingKeyId;

    /// Proves a statement. `seed` is 32 fresh random bytes for the blinding.
    ///
    /// # Errors
    /// [`ProveError`] if the witness does not satisfy the statement or the engine fails.
    fn prove(&self, statement: &Statement, witness: &Witness, seed: [u8; 32]) -> Result<Proof, ProveError>;
}

/// Checks proofs.
///
/// Contract: `verify` accepts only if the proof convinces for exactly this statement; any bytes
/// are safe to pass. It says nothing about freshness, roots or signatures:
/// [`UnverifiedReceipt::check`](crate::UnverifiedReceipt::check) does.
pub trait Verifier: Send + Sync {
    /// The circuit it verifies.
    fn profile(&self) -> Profile;

    /// The key it verifies with.
    fn verifying_key_id(&self) -> VerifyingKeyId;

    /// Verifies a proof of a statement.
    ///
    /// # Errors
    /// [`VerifyError`] if the proof does not convince; its sender's fault.
    fn verify(&self, statement: &Statement, proof: &Proof) -> Result<(), VerifyError>;

    /// Verifies many proofs: the verdict on each, in their order, is that of [`Self::verify`]. An
    /// engine that has a cheaper way for many takes it.
    fn verify_batch(&self, batch: &[(&Statement, &Proof)]) -> Vec<Result<(), VerifyError>> {
        batch.iter().map(|(statement, proof)| self.verify(statement, proof)).collect()
    }
}

/// Why there is no proof.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProveError {
    /// The witness does not satisfy the statement; the caller's fault.
    #[error("witness does not satisfy the statement: {0}")]
    Unsatisfied(#[from] Gate),
    /// The same of a transit proof.
    #[error("witness does not satisfy the statement: {0}")]
    Transit(#[from] TransitFault),
    /// The engine made a proof beyond the limit.
    #[error(transparent)]
    TooLong(#[from] ProofTooLong),
    /// The engine failed; a fault of the prover itself.
    #[error("prover failed: {0}")]
    Engine(String),
}

/// Why a proof does not count. Its sender's fault, but for [`Self::Busy`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// A proof for another circuit.
    #[error("proof of another profile")]
    Profile,
    /// Not the canonical bytes of a proof, or points outside their groups.
    #[error("malformed proof")]
    Malformed,
    /// Well formed, but it does not convince for this statement and key.
    #[error("proof does not verify")]
    Refused,
    /// Too many proofs wait already: nobody's fault, and no verdict. Ask again later.
    #[error("too many proofs wait to be verified")]
    Busy,
}
