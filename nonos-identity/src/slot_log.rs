//! The durable record of used execution slots.

use crate::time::Epoch;

/// Where used slots are remembered.
///
/// [`take`](Self::take) returns `Ok` at most once for each epoch and slot, for ever: across
/// threads, restarts and power cuts. It is durable when it returns; a call that failed or never
/// returned may have used the slot up. Calls block.
pub trait SlotLog: Send + Sync {
    /// Uses up a slot.
    ///
    /// # Errors
    /// [`SlotError::Used`] if it must not be used; other errors if it is not known to be
    /// recorded, and must not be used either.
    fn take(&self, epoch: Epoch, slot: u32) -> Result<(), SlotError>;

    /// Whether [`take`](Self::take) would refuse the slot.
    ///
    /// # Errors
    /// [`SlotError`] of the medium.
    fn is_used(&self, epoch: Epoch, slot: u32) -> Result<bool, SlotError>;
}

/// Why a slot was not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SlotError {
    /// It was taken before. The caller takes another.
    #[error("the slot is used")]
    Used,
    /// An earlier write failed, so what the medium holds is unknown until the log is opened anew.
    #[error("an earlier write failed; open the slot log again")]
    Broken,
}
