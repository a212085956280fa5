//! The durable record of used execution slots.
//!
//! A slot of [`RoleKeys::execution_key`](crate::RoleKeys::execution_key) signs one receipt: two
//! signatures of one slot link two runs to each other, and two runs of one slot are a fault that
//! others can prove. So a slot is taken here, durably, before it signs.

mod file;

pub use self::file::FileSlotLog;
#[cfg(feature = "testing")]
pub(crate) use self::file::Records;
use crate::disk::StorageError;
use crate::time::Epoch;

/// Where used slots are remembered.
///
/// [`take`](Self::take) returns `Ok` at most once for each epoch and slot, for ever: across
/// threads, restarts and power cuts. It is durable when it returns; a call that failed or never
/// returned may have used the slot up. Slots of epochs before the [`horizon`](Self::horizon) are
/// refused, used or not, so that their record can be forgotten. Calls block. Implementations
/// check themselves with `testing::check_slot_log`.
///
/// What a log cannot notice is an older copy of itself that was put back. A caller who suspects
/// that (a restored backup, a cloned disk) skips ahead: it raises the horizon beyond every epoch
/// in which the lost log could have been used, which is [`Epoch::next`] of the present one.
pub trait SlotLog: Send + Sync {
    /// Uses up a slot.
    ///
    /// # Errors
    /// [`SlotError::Used`] or [`SlotError::Forgotten`] if it must not be used; other errors if it
    /// is not known to be recorded, and must not be used either.
    fn take(&self, epoch: Epoch, slot: u32) -> Result<(), SlotError>;

    /// Whether [`take`](Self::take) would refuse the slot.
    ///
    /// # Errors
    /// [`SlotError`] of the medium.
    fn is_used(&self, epoch: Epoch, slot: u32) -> Result<bool, SlotError>;

    /// The first epoch whose slots are not all refused.
    ///
    /// # Errors
    /// [`SlotError`] of the medium.
    fn horizon(&self) -> Result<Epoch, SlotError>;

    /// Refuses the slots of all epochs before `horizon` from now on and forgets which were used.
    /// A horizon is never lowered.
    ///
    /// # Errors
    /// [`SlotError`] of the medium; the horizon is then the old one or the new one.
    fn forget_before(&self, horizon: Epoch) -> Result<(), SlotError>;
}

/// Why a slot was not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SlotError {
    /// It was taken before. The caller takes another.
    #[error("the slot is used")]
    Used,
    /// Its epoch is before the horizon, and nobody knows any more whether it is used.
    #[error("the epoch is before the horizon {0}")]
    Forgotten(Epoch),
    /// The log is as long as it may get: the caller forgets old epochs.
    #[error("the slot log has {0} records; forget old epochs")]
    Full(usize),
    /// The log is not what was written, and a used slot may be missing from it.
    #[error("the slot log is damaged at byte {0}")]
    Damaged(usize),
    /// An earlier write failed, so what the medium holds is unknown until the log is opened anew.
    #[error("an earlier write failed; open the slot log again")]
    Broken,
    /// The medium failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl From<std::io::Error> for SlotError {
    fn from(error: std::io::Error) -> Self {
        Self::Storage(error.into())
    }
}
