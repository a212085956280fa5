#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod domains;
mod element;
mod enrolment;
pub mod gadgets;
mod gates;
pub mod groth16;
mod identity;
mod nullifier;
mod poseidon;
mod proof;
mod prover;
mod receipt;
mod request;
mod roots;
mod sealed_receipt;
#[cfg(feature = "stark")]
pub mod stark;
mod statement;
#[cfg(feature = "testing")]
pub mod testing;
mod trace;
mod transit;
mod tree;

pub use crate::element::NotCanonical;
pub use crate::enrolment::{Enrolment, EnrolmentError};
pub use crate::gates::Gate;
pub use crate::identity::{
    IdentityCommitment, IdentityRoot, IdentitySecret, KeyLink, Nullifier, OperatorKey, SLOTS_PER_EPOCH,
    SecretDigest,
};
pub use crate::nullifier::{NullifierSet, Reused};
pub use crate::proof::{Profile, Proof, ProofTooLong, UnknownProfile, VerifyingKeyId};
pub use crate::prover::{ProveError, Prover, Verifier, VerifyError};
pub use crate::receipt::{Receipt, ReceiptBody, ReceiptError, SignReceiptError, UnverifiedReceipt};
pub use crate::request::ProveRequest;
pub use crate::roots::AcceptedRoots;
pub use crate::sealed_receipt::{OpenReceiptError, SealReceiptError, SealedReceipt};
pub use crate::statement::{Statement, Witness};
pub use crate::trace::{ExecCommit, PolicyCommit, PolicyLimits, Trace};
pub use crate::transit::{CarryCommit, TransitFault, TransitStatement, TransitWitness};
pub use crate::tree::{IdentityTree, TREE_DEPTH, TreeError, TreePath};
