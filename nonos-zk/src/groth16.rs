//! Groth16 (eprint 2016/260) over BN254: key sets, their file cache, prover and verifier.
//!
//! BN254 gives about 100 bits of security against forged proofs; that proofs hide the witness does
//! not rest on it. Keys come from a trusted setup: whoever knows its randomness forges any proof. Circuits and
//! engine are generic over the pairing; what the crate offers is BN254, whose elements a statement holds.

mod batch;
mod cache;
pub mod ceremony;
mod circuit;
mod engine;
mod keys;
mod matrices;
mod pool;
mod snarkjs;
mod solidity;
mod stream;
mod transit;

pub use self::cache::{CacheError, KeyCache};
pub use self::circuit::{GateSizes, gate_sizes};
pub use self::engine::{Groth16Prover, Groth16Verifier};
pub use self::keys::{KeyError, KeySet, Provenance, VerifyingKey};
pub use self::pool::{PoolConfig, VerifierPool};
pub use self::snarkjs::{SnarkjsKey, SnarkjsProof};
pub use self::solidity::solidity_arguments;
pub use self::transit::{TransitProver, TransitVerifier};
