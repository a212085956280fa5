//! The hidden identity behind a one-run execution key.
//!
//! For each epoch a node derives 2^10 keys and blinds from its seed and hides the keys as the
//! leaves of a Merkle tree. Its epoch signer signs the root: an [`EpochHead`], chained to the one
//! before. Each run signs its receipt with the key of one slot, and the slots are used in a secret
//! order, each of them once.
//!
//! A receipt shows a [`PublicRun`]: the execution key and a commitment. Whoever holds all receipts
//! and all heads, but no blind, cannot tell which node ran, nor whether two runs are of one node.
//! An [`Opening`], sealed to an authorised verifier, discloses one run: receipt, execution key,
//! epoch root, epoch signer, root key, checked offline. Two trees for one epoch are a
//! [`HeadEquivocation`], which proves itself.
//!
//! This hides who ran from whoever reads records. It hides nothing from whoever watches the
//! network, and nothing once the seed is known.

mod commitment;
mod head;
mod opening;
mod slots;
mod tree;

pub use self::commitment::{IdCommitment, PublicRun, RunIdentity};
pub use self::head::{EpochHead, HeadEquivocation, HeadEquivocationError, HeadError};
pub use self::opening::{Opening, OpeningError, UnsealError};
pub use self::slots::{ExecutionSlots, Slot, TakeError};
pub use self::tree::{LOG2_SLOTS, SLOTS_PER_EPOCH};
