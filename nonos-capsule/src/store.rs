//! What an embedder keeps for a runtime: capsules and spent nonces.

use nonos_identity::{Digest, Unverified, Verified};

use crate::capsule::{Capsule, CapsuleId};

/// A medium that failed: the disk, its permissions, its space. Never a peer's fault.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The operating system said no.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// What was stored is damaged.
    #[error("stored data is damaged: {0}")]
    Damaged(String),
}

/// Keeps capsules.
///
/// `put` returns after the capsule is durable; a crash before that leaves either nothing or the
/// whole capsule. Reading gives an unverified capsule: a disk is not trusted more than a peer,
/// and signatures expire while stored. Calls may come from several threads.
pub trait CapsuleStore: Send + Sync {
    /// Stores a capsule; storing it again replaces its signatures.
    ///
    /// # Errors
    /// [`StoreError`] if it may not be durable.
    fn put(&self, capsule: &Verified<Capsule>) -> Result<(), StoreError>;

    /// Reads a capsule.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read or is damaged.
    fn read(&self, id: &CapsuleId) -> Result<Option<Unverified<Capsule>>, StoreError>;

    /// Whether it is there.
    ///
    /// # Errors
    /// [`StoreError`] if the medium fails.
    fn contains(&self, id: &CapsuleId) -> Result<bool, StoreError>;

    /// The ids of all, ascending.
    ///
    /// # Errors
    /// [`StoreError`] if the medium fails.
    fn ids(&self) -> Result<Vec<CapsuleId>, StoreError>;

    /// Removes a capsule; one that is not there is no error.
    ///
    /// # Errors
    /// [`StoreError`] if the medium fails.
    fn remove(&self, id: &CapsuleId) -> Result<(), StoreError>;
}

/// Why a nonce was not consumed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NonceError {
    /// It was consumed before. The caller's fault.
    #[error("nonce was used before")]
    Used,
    /// The medium failed; the nonce may or may not be consumed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Remembers spent nonces, for ever.
///
/// For one key `consume` returns `Ok` at most once over the whole life of the store, across
/// threads, restarts and crashes: it returns only after the mark is durable. A failure may
/// consume the nonce, but never hands it out twice.
pub trait NonceStore: Send + Sync {
    /// Consumes a nonce by its key ([`Invocation::nonce_key`](crate::Invocation::nonce_key)).
    ///
    /// # Errors
    /// [`NonceError::Used`] on replay, [`NonceError::Store`] if the mark may not be durable.
    fn consume(&self, key: &Digest) -> Result<(), NonceError>;

    /// Whether a nonce was consumed.
    ///
    /// # Errors
    /// [`StoreError`] if the medium fails.
    fn is_used(&self, key: &Digest) -> Result<bool, StoreError>;
}
