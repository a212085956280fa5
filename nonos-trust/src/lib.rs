#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod attestation;
mod attestations;
mod config;
pub mod domains;
mod engine;
mod evidence;
mod explain;
mod fault;
mod fixed;
mod flow;
mod peer;
mod score;
mod snapshot;
#[cfg(feature = "testing")]
pub mod testing;

pub use crate::attestation::{Attestation, AttestationError, SignedAttestation};
pub use crate::attestations::{Attestations, Merge};
pub use crate::config::{Config, ConfigError};
pub use crate::engine::{MergeError, TrustEngine};
pub use crate::evidence::{Evidence, Memory};
pub use crate::explain::{Contribution, Source};
pub use crate::fault::{Conviction, Fault, FaultError, Judge, JudgeError};
pub use crate::fixed::Fixed;
pub use crate::score::{Score, State};
pub use crate::snapshot::RestoreError;
