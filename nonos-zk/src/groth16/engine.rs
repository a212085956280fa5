use ark_bn254::{Bn254, Fr};
use ark_ec::AffineRepr as _;
use ark_ec::pairing::Pairing;
use ark_ff::UniformRand as _;
use ark_groth16::{Groth16, PreparedVerifyingKey, ProvingKey};
use ark_relations::gr1cs::{ConstraintSynthesizer, SynthesisError};
use ark_serialize::{CanonicalDeserialize, CanonicalSerialize};
use core::fmt;
use nonos_identity::{Digest, wire};
use zeroize::Zeroizing;

use super::circuit::ReceiptCircuit;
use super::keys::{KeyError, KeySet, VerifyingKey};
use super::matrices::Matrices;
use super::stream::Stream;
use crate::domains;
use crate::proof::{Profile, Proof, VerifyingKeyId};
use crate::prover::{ProveError, Prover, Verifier, VerifyError};
use crate::statement::{Statement, Witness};

/// Proves with Groth16 over BN254.
#[derive(Clone)]
pub struct Groth16Prover {
    keys: KeySet,
    verifier: Groth16Verifier,
}

/// Verifies Groth16 proofs over BN254.
#[derive(Clone)]
pub struct Groth16Verifier(Engine);

/// A verifying key and what can be computed from it alone.
#[derive(Clone)]
pub(super) struct Engine {
    pub(super) key: VerifyingKey,
    pub(super) prepared: PreparedVerifyingKey<Bn254>,
}

impl Engine {
    pub(super) fn new(key: VerifyingKey) -> Result<Self, KeyError> {
        key.check_allowed()?;
        let prepared = ark_groth16::prepare_verifying_key(key.key());
        Ok(Self { key, prepared })
    }
}

impl Groth16Prover {
    /// A prover with these keys.
    ///
    /// # Errors
    /// [`KeyError::InsecureDev`] for development keys without [`KeySet::allow_insecure_dev`].
    pub fn new(keys: KeySet) -> Result<Self, KeyError> {
        let verifier = Groth16Verifier::new(keys.verifying_key().clone())?;
        Ok(Self { keys, verifier })
    }
}

impl Groth16Verifier {
    /// A verifier with this key.
    ///
    /// # Errors
    /// [`KeyError::InsecureDev`] for a development key without
    /// [`VerifyingKey::allow_insecure_dev`].
    pub fn new(key: VerifyingKey) -> Result<Self, KeyError> {
        key.check_kind(false)?;
        Ok(Self(Engine::new(key)?))
    }
}

impl Prover for Groth16Prover {
    fn profile(&self) -> Profile {
        self.keys.profile()
    }

    fn verifying_key_id(&self) -> VerifyingKeyId {
        self.verifier.verifying_key_id()
    }

    fn prove(&self, statement: &Statement, witness: &Witness, seed: [u8; 32]) -> Result<Proof, ProveError> {
        witness.check(statement)?;
        let circuit = ReceiptCircuit::assigned(self.profile(), statement, witness);
        let proof = prove(&self.keys, circuit, *blinding(statement, witness, &Zeroizing::new(seed)))?;
        // Costs a five-hundredth of the proof and finds a damaged key or a faulty machine.
        self.verifier.verify(statement, &proof).map_err(|error| ProveError::Engine(error.to_string()))?;
        Ok(proof)
    }
}

impl Verifier for Groth16Verifier {
    fn profile(&self) -> Profile {
        self.0.key.profile()
    }

    fn verifying_key_id(&self) -> VerifyingKeyId {
        self.0.key.id()
    }

    fn verify(&self, statement: &Statement, proof: &Proof) -> Result<(), VerifyError> {
        if proof.profile() != self.profile() {
            return Err(VerifyError::Profile);
        }
        verify_inputs(&self.0.prepared, proof.as_bytes(), &statement.inputs(self.profile()))
    }

    /// One equation for all of them; if it does not hold, the bad ones are found by halves. Of 64
    /// good proofs each costs a third of one alone; of 64 bad ones 2.3 times as much as alone, so
    /// batch the proofs of those who are known to send good ones.
    fn verify_batch(&self, batch: &[(&Statement, &Proof)]) -> Vec<Result<(), VerifyError>> {
        let ours: Vec<_> =
            batch.iter().copied().filter(|(_, proof)| proof.profile() == self.profile()).collect();
        let mut verdicts = super::batch::verify(&self.0.prepared, self.0.key.id(), &ours).into_iter();
        let verdict = |(_, proof): &(&Statement, &Proof)| match proof.profile() == self.profile() {
            true => verdicts.next().unwrap_or(Err(VerifyError::Malformed)),
            false => Err(VerifyError::Profile),
        };
        batch.iter().map(verdict).collect()
    }
}

/// Proves a circuit that has an assignment. Of a seed follow the blinding factors.
pub(super) fn prove(
    keys: &KeySet,
    circuit: impl ConstraintSynthesizer<Fr>,
    seed: [u8; 32],
) -> Result<Proof, ProveError> {
    let failed = |error: SynthesisError| ProveError::Engine(error.to_string());
    let matrices = keys.matrices().map_err(failed)?;
    let bytes = prove_with(keys.proving(), matrices, circuit, seed).map_err(failed)?;
    Ok(Proof::new(keys.profile(), bytes)?)
}

/// The same over any curve: the bytes of the proof.
pub(super) fn prove_with<E: Pairing>(
    key: &ProvingKey<E>,
    matrices: &Matrices<E::ScalarField>,
    circuit: impl ConstraintSynthesizer<E::ScalarField>,
    seed: [u8; 32],
) -> Result<Vec<u8>, SynthesisError> {
    let values = matrices.assign(circuit)?;
    let mut rng = Stream::from_seed(seed);
    let [r, s] = [(); 2].map(|()| E::ScalarField::rand(&mut rng));
    let proof = Groth16::<E>::create_proof_with_reduction_and_matrices(
        key,
        r,
        s,
        &matrices.rows,
        matrices.instance,
        matrices.constraints(),
        &values,
    )?;
    Ok(print(&proof))
}

/// Whether a proof convinces for these inputs.
pub(super) fn verify_inputs<E: Pairing>(
    key: &PreparedVerifyingKey<E>,
    proof: &[u8],
    inputs: &[E::ScalarField],
) -> Result<(), VerifyError> {
    let points = parse(proof).ok_or(VerifyError::Malformed)?;
    match Groth16::<E>::verify_proof(key, &points, inputs) {
        Ok(true) => Ok(()),
        _ => Err(VerifyError::Refused),
    }
}

/// Reads a proof: points on the curve, in their subgroups, not the identity, in the one encoding
/// that we write.
pub(super) fn parse<E: Pairing>(bytes: &[u8]) -> Option<ark_groth16::Proof<E>> {
    let proof = ark_groth16::Proof::<E>::deserialize_compressed(bytes).ok()?;
    let identity = proof.a.is_zero() || proof.b.is_zero() || proof.c.is_zero();
    (!identity && print(&proof) == bytes).then_some(proof)
}

/// Two points of G1 and one of G2, compressed: 128 bytes over BN254.
fn print<E: Pairing>(proof: &ark_groth16::Proof<E>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(proof.compressed_size());
    proof.serialize_compressed(&mut bytes).expect("a vector takes every write");
    bytes
}

/// The seed of the blinding factors. Hashing the secret and the statement in makes a seed that
/// was used twice, or that somebody guessed, harmless.
fn blinding(statement: &Statement, witness: &Witness, seed: &[u8; 32]) -> Zeroizing<[u8; 32]> {
    let secret = witness.secret.scalar();
    let fields: [&[u8]; 4] = [seed, &secret[..], &witness.trace.blind, &wire::to_bytes(statement)];
    Zeroizing::new(*Digest::of(domains::BLINDING, &fields).as_bytes())
}

impl fmt::Debug for Groth16Prover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Groth16Prover").field(&self.keys).finish()
    }
}

impl fmt::Debug for Groth16Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Groth16Verifier").field(&self.0.key).finish()
    }
}
