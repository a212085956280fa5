//! The domain strings of this crate.

use nonos_identity::Domain;

/// Root signature over the enrolment of an identity commitment.
pub const ENROLMENT: Domain = Domain::new("nonos/zk/enrolment/v1");
/// Signature of the one-run execution key over a receipt.
pub const RECEIPT: Domain = Domain::new("nonos/zk/receipt/v1");
/// Hash of everything a proof is about into its context input.
pub const CONTEXT: Domain = Domain::new("nonos/zk/context/v1");
/// Hash of the constraint matrices of a circuit.
pub const CIRCUIT: Domain = Domain::new("nonos/zk/circuit/v1");
/// Id of a verifying key.
pub const VERIFYING_KEY: Domain = Domain::new("nonos/zk/verifying-key/v1");
/// Integrity digest over a serialised key set.
pub const KEY_SET: Domain = Domain::new("nonos/zk/key-set/v1");
/// The published seed of the insecure development setup.
pub const DEV_SETUP: Domain = Domain::new("nonos/zk/dev-setup/v1");
/// Derivation of the prover's blinding factors.
pub const BLINDING: Domain = Domain::new("nonos/zk/blinding/v1");
/// Hash of everything a transit proof is about into its context input.
pub const TRANSIT: Domain = Domain::new("nonos/zk/transit/v1");
/// Sealing of a receipt to its verifiers.
pub const SEALED_RECEIPT: Domain = Domain::new("nonos/zk/sealed-receipt/v1");
/// Powers of a batch of proofs.
pub const BATCH: Domain = Domain::new("nonos/zk/batch/v1");
/// Everything that a STARK is about, at the start of its transcript.
pub const STARK_TRANSCRIPT: Domain = Domain::new("nonos/zk/stark-transcript/v1");
/// Derivation of the masks and salts of a hiding STARK.
pub const STARK_BLINDING: Domain = Domain::new("nonos/zk/stark-blinding/v1");

/// Digest of the powers of tau that were read, which the weights of their check come from.
pub const CEREMONY_POWERS: Domain = Domain::new("nonos/zk/ceremony-powers/v1");
/// Digest of the key a setup ceremony starts from.
pub const CEREMONY_KEY: Domain = Domain::new("nonos/zk/ceremony-key/v1");
/// Digest of the parameters a setup ceremony has come to.
pub const CEREMONY_PARAMETERS: Domain = Domain::new("nonos/zk/ceremony-parameters/v1");
/// The transcript of a ceremony: each contribution hashed onto what came before it.
pub const CEREMONY_CHAIN: Domain = Domain::new("nonos/zk/ceremony-chain/v1");
/// Challenge of the proof of knowledge in a contribution.
pub const CEREMONY_CHALLENGE: Domain = Domain::new("nonos/zk/ceremony-challenge/v1");
/// The secret factor of a contribution, from its entropy.
pub const CEREMONY_FACTOR: Domain = Domain::new("nonos/zk/ceremony-factor/v1");
/// The nonce of the proof of knowledge in a contribution.
pub const CEREMONY_NONCE: Domain = Domain::new("nonos/zk/ceremony-nonce/v1");
/// The start of the beacon's hash chain.
pub const CEREMONY_BEACON: Domain = Domain::new("nonos/zk/ceremony-beacon/v1");
/// Weights of the linear combinations that check many points at once.
pub const CEREMONY_WEIGHTS: Domain = Domain::new("nonos/zk/ceremony-weights/v1");
/// Integrity digest over the file of a ceremony.
pub const CEREMONY_FILE: Domain = Domain::new("nonos/zk/ceremony-file/v1");

/// Every domain above, for the workspace-wide uniqueness test.
pub const ALL: &[Domain] = &[
    ENROLMENT,
    RECEIPT,
    CONTEXT,
    CIRCUIT,
    VERIFYING_KEY,
    KEY_SET,
    DEV_SETUP,
    BLINDING,
    TRANSIT,
    SEALED_RECEIPT,
    BATCH,
    STARK_TRANSCRIPT,
    STARK_BLINDING,
    CEREMONY_POWERS,
    CEREMONY_KEY,
    CEREMONY_PARAMETERS,
    CEREMONY_CHAIN,
    CEREMONY_CHALLENGE,
    CEREMONY_FACTOR,
    CEREMONY_NONCE,
    CEREMONY_BEACON,
    CEREMONY_WEIGHTS,
    CEREMONY_FILE,
];
