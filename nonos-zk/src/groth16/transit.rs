use core::fmt;

use nonos_identity::{Digest, wire};
use zeroize::Zeroizing;

use super::circuit::transit::TransitCircuit;
use super::engine::{Engine, verify_inputs};
use super::keys::{KeyError, KeySet, VerifyingKey};
use crate::domains;
use crate::proof::{Profile, Proof, VerifyingKeyId};
use crate::prover::{ProveError, VerifyError};
use crate::transit::{TransitStatement, TransitWitness};

/// Proves transit with Groth16 over BN254.
#[derive(Clone)]
pub struct TransitProver {
    keys: KeySet,
    verifier: TransitVerifier,
}

/// Verifies proofs of transit.
#[derive(Clone)]
pub struct TransitVerifier {
    engine: Engine,
}

impl TransitProver {
    /// A prover with keys of [`Profile::Transit`].
    ///
    /// # Errors
    /// [`KeyError::Kind`] for other keys, [`KeyError::InsecureDev`] for development keys that were not
    /// allowed.
    pub fn new(keys: KeySet) -> Result<Self, KeyError> {
        let verifier = TransitVerifier::new(keys.verifying_key().clone())?;
        Ok(Self { keys, verifier })
    }

    /// Proves a statement. `seed` is 32 fresh random bytes for the blinding.
    ///
    /// # Errors
    /// [`ProveError::Transit`] if the witness does not satisfy the statement, [`ProveError::Engine`] if the
    /// engine fails.
    pub fn prove(
        &self,
        statement: &TransitStatement,
        witness: &TransitWitness,
        seed: [u8; 32],
    ) -> Result<Proof, ProveError> {
        witness.check(statement)?;
        let seed = Zeroizing::new(seed);
        let fields: [&[u8]; 4] =
            [&*seed, &witness.secret.scalar()[..], &witness.blind, &wire::to_bytes(statement)];
        let blinding = Zeroizing::new(*Digest::of(domains::BLINDING, &fields).as_bytes());
        let proof =
            super::engine::prove(&self.keys, TransitCircuit::assigned(statement, witness), *blinding)?;
        self.verifier.verify(statement, &proof).map_err(|error| ProveError::Engine(error.to_string()))?;
        Ok(proof)
    }
}

impl TransitVerifier {
    /// A verifier with a key of [`Profile::Transit`].
    ///
    /// # Errors
    /// As [`TransitProver::new`].
    pub fn new(key: VerifyingKey) -> Result<Self, KeyError> {
        key.check_kind(true)?;
        Ok(Self { engine: Engine::new(key)? })
    }

    /// The key it verifies with.
    #[must_use]
    pub const fn verifying_key_id(&self) -> VerifyingKeyId {
        self.engine.key.id()
    }

    /// Verifies a proof. Left to the caller: that the nullifier is new, the root accepted, the epoch recent,
    /// and that `batch` is what the clients gave.
    ///
    /// # Errors
    /// [`VerifyError`] if the proof does not convince for exactly this statement.
    pub fn verify(&self, statement: &TransitStatement, proof: &Proof) -> Result<(), VerifyError> {
        if !(1..=TransitStatement::HOP_MAX).contains(&statement.hop) {
            return Err(VerifyError::Refused);
        }
        match proof.profile() {
            Profile::Transit => verify_inputs(&self.engine.prepared, proof.as_bytes(), &statement.inputs()),
            _ => Err(VerifyError::Profile),
        }
    }
}

impl fmt::Debug for TransitProver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TransitProver").field(&self.keys).finish()
    }
}

impl fmt::Debug for TransitVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TransitVerifier").field(&self.engine.key).finish()
    }
}
