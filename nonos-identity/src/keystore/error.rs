use super::anchor::AnchorError;
use super::kek::{KekError, SlotKind};
use crate::disk::StorageError;

/// Why no keystore or slot was made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CreateError {
    /// The passphrase is empty. The caller's fault.
    #[error("the passphrase is empty")]
    EmptyPassphrase,
    /// Opening refuses a store of this cost. The caller's fault.
    #[error("argon2 cost is out of bounds")]
    Cost,
    /// Seed or entropy are all zero: a random generator that was never read. The caller's fault.
    #[error("seed or entropy is all zero")]
    NoEntropy,
    /// The entropy was used for this store before. The caller's fault.
    #[error("entropy was used before")]
    ReusedEntropy,
    /// Argon2id could not get its memory.
    #[error("not enough memory for argon2")]
    Memory,
    /// The source wants to store more than a slot holds. The source's fault.
    #[error("the parameters of the slot have {0} bytes")]
    Params(usize),
    /// The source of the slot's key gave none.
    #[error(transparent)]
    Source(KekError),
    /// The store could not be written.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl From<KekError> for CreateError {
    fn from(error: KekError) -> Self {
        match error {
            KekError::EmptyPassphrase => Self::EmptyPassphrase,
            KekError::Cost => Self::Cost,
            KekError::Memory => Self::Memory,
            other => Self::Source(other),
        }
    }
}

/// Why a keystore does not open. The store itself is never changed by that.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Not a keystore, damaged, or truncated.
    #[error("malformed keystore")]
    Malformed,
    /// Written by a later version.
    #[error("keystore version {0} is not known")]
    Version(u8),
    /// The cost in the file is too low to be ours or too high to be honest.
    #[error("argon2 cost in the keystore is out of bounds")]
    Cost,
    /// It opens by other means than a passphrase.
    #[error("the keystore has no passphrase slot")]
    NoPassphraseSlot,
    /// It opens by other means than this.
    #[error("the keystore has no {0} slot")]
    NoSlot(SlotKind),
    /// The passphrase is wrong or the slot was altered; the two cannot be told apart.
    #[error("wrong passphrase")]
    Passphrase,
    /// The key is wrong or the slot was altered; the two cannot be told apart.
    #[error("no {0} slot opens with this key")]
    WrongKey(SlotKind),
    /// The source of the key gave none.
    #[error(transparent)]
    Source(KekError),
    /// The key is right and the rest of the file is not what was written.
    #[error("the keystore was altered")]
    Altered,
    /// An older copy: the anchor remembers a later generation.
    #[error("the keystore is an older copy: generation {found}, the anchor remembers {expected}")]
    RolledBack {
        /// What the keystore says.
        found: u64,
        /// What the anchor says.
        expected: u64,
    },
    /// The anchor could not be asked.
    #[error("the rollback anchor cannot be used")]
    Anchor(#[from] AnchorError),
    /// Argon2id could not get its memory.
    #[error("not enough memory for argon2")]
    Memory,
    /// The store could not be read.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl OpenError {
    pub(super) const fn no_slot(kind: SlotKind) -> Self {
        match kind {
            SlotKind::Passphrase => Self::NoPassphraseSlot,
            kind => Self::NoSlot(kind),
        }
    }

    pub(super) const fn wrong_key(kind: SlotKind) -> Self {
        match kind {
            SlotKind::Passphrase => Self::Passphrase,
            kind => Self::WrongKey(kind),
        }
    }
}

impl From<KekError> for OpenError {
    fn from(error: KekError) -> Self {
        match error {
            KekError::Malformed => Self::Malformed,
            KekError::Cost => Self::Cost,
            KekError::Memory => Self::Memory,
            other => Self::Source(other),
        }
    }
}

/// Why the slots of a keystore were not changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// The store does not open.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The new slot could not be made, or the store not be written.
    #[error(transparent)]
    Create(#[from] CreateError),
    /// No slot has this id. The caller's fault.
    #[error("the keystore has no such slot")]
    NoSuchSlot,
    /// Nothing would open the store any more. The caller's fault.
    #[error("the last slot that this version can open is not removed: the keys would be lost")]
    LastSlot,
    /// The store has as many slots as fit. The caller's fault.
    #[error("a keystore has at most {} slots", super::Keystore::MAX_SLOTS)]
    TooManySlots,
    /// The slots together would be larger than a keystore. The caller's fault.
    #[error("a keystore has at most {} bytes", super::Keystore::MAX_BYTES)]
    TooLong,
    /// The change is stored, but the anchor does not know of it: until the store is opened with
    /// the anchor again, the copy before it is not noticed.
    #[error("the change is stored, but the rollback anchor was not raised")]
    Anchor(#[from] AnchorError),
}
