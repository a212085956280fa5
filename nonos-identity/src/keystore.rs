//! The encrypted keystore, format NNKS version 1: the only module that touches files.
//!
//! ```text
//! "NNKS" 0x01 CBOR([header, ciphertext])
//! header     = CBOR([root_key, created, nonce, [slot, ...]])
//! slot       = [kind, params, nonce, wrapped_key]
//! ```
//!
//! A random data key encrypts the seed with XChaCha20-Poly1305; everything before the ciphertext
//! is its associated data. Each slot holds the data key, wrapped in a way of its own, as in
//! LUKS: kind 0 by a passphrase through Argon2id (RFC 9106). Slots of other kinds are kept.
//!
//! It protects a copy of the file against whoever does not know the passphrase. It does not
//! protect the memory of the process that opened it, nor against putting back an older copy.

mod file;
mod format;

use core::fmt;
use std::io;
use std::path::Path;

use zeroize::Zeroizing;

pub use self::file::FileKeyStore;
pub use self::format::Argon2Cost;
pub(crate) use self::format::Sealed;
use crate::identity::Identity;
use crate::time::Timestamp;

/// A place that holds one keystore's bytes.
///
/// `create` and `replace` are durable when they return, and a crash at any moment leaves the old
/// state or the new one, whole. Calls block. Implementations check themselves with
/// `testing::check_key_store`.
pub trait KeyStore: Send + Sync {
    /// The stored bytes, `None` if nothing was ever stored.
    ///
    /// # Errors
    /// [`StorageError`] if something is there and cannot be read or must not be trusted.
    fn load(&self) -> Result<Option<Vec<u8>>, StorageError>;

    /// Stores the first bytes.
    ///
    /// # Errors
    /// [`StorageError::Exists`] if anything is there already, which is left as it was.
    fn create(&self, bytes: &[u8]) -> Result<(), StorageError>;

    /// Replaces the bytes stored before.
    ///
    /// # Errors
    /// [`StorageError::Missing`] if nothing was stored.
    fn replace(&self, bytes: &[u8]) -> Result<(), StorageError>;
}

/// Why a store could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// Nothing is stored. The caller's fault.
    #[error("no keystore here")]
    Missing,
    /// Something is stored and is never overwritten by a new store. The caller's fault.
    #[error("a keystore exists here already")]
    Exists,
    /// Another process is writing the store.
    #[error("the keystore is locked by another process")]
    Locked,
    /// A symbolic link, directory, device or pipe stands in the place of the file.
    #[error("the keystore is not a regular file")]
    NotRegular,
    /// Others than the owner have access to the file.
    #[error("the keystore's mode is {0:o}; only the owner may have access")]
    Permissions(u32),
    /// Longer than any keystore.
    #[error("the keystore has {0} bytes")]
    TooLong(u64),
    /// The medium failed.
    #[error("keystore storage failed")]
    Io(#[from] io::Error),
}

/// Why no keystore was created.
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
    /// Argon2id could not get its memory.
    #[error("not enough memory for argon2")]
    Memory,
    /// The store could not be written.
    #[error(transparent)]
    Storage(#[from] StorageError),
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
    /// The passphrase is wrong or the slot was altered; the two cannot be told apart.
    #[error("wrong passphrase")]
    Passphrase,
    /// The passphrase is right and the rest of the file is not what was written.
    #[error("the keystore was altered")]
    Altered,
    /// Argon2id could not get its memory.
    #[error("not enough memory for argon2")]
    Memory,
    /// The store could not be read.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Why a passphrase was not changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// The store does not open with the old passphrase.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The store could not be written with the new one.
    #[error(transparent)]
    Create(#[from] CreateError),
}

/// Random bytes for one write of a keystore: data key 32, salt 16, slot nonce 24, payload
/// nonce 24. Fresh from the operating system each time, never reused.
pub type Entropy = Zeroizing<[u8; Keystore::ENTROPY_BYTES]>;

/// What goes into a new keystore.
pub struct CreateParams {
    /// The seed of the identity.
    pub seed: Zeroizing<[u8; Identity::SEED_BYTES]>,
    /// Fresh random bytes, independent of the seed.
    pub entropy: Entropy,
    /// How much a guess of the passphrase costs.
    pub cost: Argon2Cost,
    /// When it is created; informative.
    pub created: Timestamp,
}

impl fmt::Debug for CreateParams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CreateParams")
            .field("cost", &self.cost)
            .field("created", &self.created)
            .finish_non_exhaustive()
    }
}

/// Operations on encrypted keystores. They block for the time of Argon2id.
#[derive(Debug)]
pub struct Keystore;

impl Keystore {
    /// Bytes of [`Entropy`].
    pub const ENTROPY_BYTES: usize = 32 + 16 + 24 + 24;

    /// Longest keystore, in bytes; a file can make us read no more.
    pub const MAX_BYTES: usize = 16 * 1024;

    /// Creates a keystore file, mode 0600, that opens with a passphrase.
    ///
    /// # Errors
    /// [`CreateError`]; in particular, an existing file of any content is never replaced.
    pub fn create(
        path: impl AsRef<Path>,
        passphrase: &[u8],
        params: &CreateParams,
    ) -> Result<Identity, CreateError> {
        Self::create_in(&FileKeyStore::new(path.as_ref()), passphrase, params)
    }

    /// As [`Self::create`], in any storage.
    ///
    /// # Errors
    /// [`CreateError`].
    pub fn create_in(
        store: &dyn KeyStore,
        passphrase: &[u8],
        params: &CreateParams,
    ) -> Result<Identity, CreateError> {
        // Before the expensive part; `create` below decides.
        if store.load()?.is_some() {
            return Err(StorageError::Exists.into());
        }
        let identity = Identity::from_seed(&params.seed);
        let sealed = Sealed::seal(identity.node_id(), passphrase, params)?;
        store.create(&sealed.to_bytes())?;
        Ok(identity)
    }

    /// Opens a keystore file with a passphrase.
    ///
    /// # Errors
    /// [`OpenError`]; [`StorageError::Missing`] in it is the only one after which a caller may
    /// create a keystore.
    pub fn open(path: impl AsRef<Path>, passphrase: &[u8]) -> Result<Identity, OpenError> {
        Self::open_in(&FileKeyStore::new(path.as_ref()), passphrase)
    }

    /// As [`Self::open`], in any storage.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open_in(store: &dyn KeyStore, passphrase: &[u8]) -> Result<Identity, OpenError> {
        Ok(Self::load(store)?.open(passphrase)?.identity)
    }

    /// Gives a keystore file another passphrase and cost. Older copies of the file keep opening
    /// with the old passphrase. The data-key part of `entropy` is not used.
    ///
    /// # Errors
    /// [`ChangeError`]; the file is then as it was.
    pub fn change_passphrase(
        path: impl AsRef<Path>,
        old: &[u8],
        new: &[u8],
        entropy: &Entropy,
        cost: Argon2Cost,
    ) -> Result<(), ChangeError> {
        Self::change_passphrase_in(&FileKeyStore::new(path.as_ref()), old, new, entropy, cost)
    }

    /// As [`Self::change_passphrase`], in any storage.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub fn change_passphrase_in(
        store: &dyn KeyStore,
        old: &[u8],
        new: &[u8],
        entropy: &Entropy,
        cost: Argon2Cost,
    ) -> Result<(), ChangeError> {
        let sealed = Self::load(store)?;
        let opened = sealed.open(old)?;
        let changed = sealed.rewrap(&opened, new, entropy, cost)?;
        store.replace(&changed.to_bytes()).map_err(CreateError::from)?;
        Ok(())
    }

    fn load(store: &dyn KeyStore) -> Result<Sealed, OpenError> {
        let bytes = store.load()?.ok_or(StorageError::Missing)?;
        Sealed::parse(&bytes)
    }
}
