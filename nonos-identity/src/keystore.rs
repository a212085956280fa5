//! The encrypted keystore, format NNKS version 1, in one file on Unix.
//!
//! ```text
//! "NNKS" 0x01 CBOR([header, ciphertext])
//! header     = CBOR([root_key, created, nonce, [slot, ...], ?generation])
//! slot       = [kind, params, nonce, wrapped_key, ?label, ?created]
//! ```
//!
//! A random data key encrypts the seed with XChaCha20-Poly1305; everything before the ciphertext
//! is its associated data. Each slot holds the data key, wrapped by a key of its own, as in LUKS;
//! `params` says where that key comes from, and a [`KekSource`] finds it:
//!
//! | kind | opens with | params |
//! |---|---|---|
//! | 0 | [`Passphrase`]: Argon2id (RFC 9106) | cost, salt |
//! | 1 | [`RecoveryPhrase`]: 24 words (BIP39), HKDF-SHA512 | salt |
//! | 2 | [`RecoveryKey`]: X25519 with an ephemeral key, HKDF-SHA512 | both public keys |
//! | 3 | a secret in a PKCS#11 token: HMAC-SHA512 inside it (feature `pkcs11`) | its label, salt |
//! | 4 | the TPM 2.0 of one machine under a PCR policy (feature `tpm2`) | the sealed key |
//!
//! Slots of other kinds are kept. The generation counts changes of the store, so that a
//! [`RollbackAnchor`] can tell an older copy; without one an older copy opens.
//!
//! It protects a copy of the file against whoever has no slot's key. It does not protect the
//! memory of the process that opened it.

mod anchor;
mod error;
mod file;
mod format;
mod kek;
mod open;
mod passphrase;
mod phrase;
mod recovery;
mod slot;

use core::fmt;
use std::path::Path;

use zeroize::Zeroizing;

pub use self::anchor::{AnchorError, FileAnchor, RollbackAnchor};
pub use self::error::{ChangeError, CreateError, OpenError};
pub use self::file::FileKeyStore;
pub(crate) use self::format::Sealed;
pub use self::kek::{Kek, KekError, KekSource, NewKek, SlotKind};
pub use self::open::{NewSlot, OpenKeystore};
pub use self::passphrase::{Argon2Cost, Passphrase};
pub use self::phrase::{PhraseError, RecoveryPhrase};
pub use self::recovery::{RecoveryKey, RecoveryPublic};
pub use self::slot::{Label, LabelError, SlotId, SlotInfo};
pub use crate::disk::StorageError;
use crate::identity::Identity;
use crate::seed::Seed;
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

    /// Replaces the bytes stored before, if they are `old`.
    ///
    /// # Errors
    /// [`StorageError::Missing`] if nothing was stored; [`StorageError::Changed`] if something
    /// else was, which is left as it was.
    fn replace(&self, old: &[u8], new: &[u8]) -> Result<(), StorageError>;
}

/// Random bytes for one write of a keystore: data key 32, salt 16, slot nonce 24, payload
/// nonce 24, and 16 more for sources of keys that need more than a salt. Fresh from the operating
/// system each time, never reused.
pub type Entropy = Zeroizing<[u8; Keystore::ENTROPY_BYTES]>;

/// What goes into a new keystore.
pub struct CreateParams {
    /// The seed of the identity.
    pub seed: Seed,
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
    pub const ENTROPY_BYTES: usize = 32 + 16 + 24 + 24 + 16;

    /// Longest keystore, in bytes; a file can make us read no more.
    pub const MAX_BYTES: usize = 16 * 1024;

    /// Most slots: a file can make us run Argon2id no more often than that.
    pub const MAX_SLOTS: usize = 8;

    /// Longest parameters of a slot, in bytes; a TPM's sealed key has about 400.
    pub const MAX_PARAMS_BYTES: usize = 1024;

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
        let source = Passphrase::with_cost(passphrase, params.cost);
        OpenKeystore::create(store, &source, &params.seed, &params.entropy, params.created)
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
        Ok(OpenKeystore::open(store, &Passphrase::new(passphrase))?.into_identity())
    }

    /// The slots of a keystore, listed without opening it: nothing about them is authenticated.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn slots(store: &dyn KeyStore) -> Result<Vec<SlotInfo>, OpenError> {
        let bytes = store.load()?.ok_or(StorageError::Missing)?;
        Ok(Sealed::parse(&bytes)?.slots().iter().map(format::Slot::info).collect())
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
        let mut open = OpenKeystore::open(store, &Passphrase::new(old))?;
        let source = &Passphrase::with_cost(new, cost);
        open.rewrap(open.slot(), &NewSlot { source, label: None, created: None, entropy })?;
        Ok(())
    }
}

/// Decodes bytes as the parameters of each kind of slot.
#[cfg(feature = "testing")]
pub(crate) fn fuzz_params(bytes: &[u8]) {
    use crate::wire::{self, Wire};
    fn one<T: Wire>(bytes: &[u8]) {
        if let Ok(params) = wire::from_bytes::<T>(bytes) {
            assert_eq!(wire::to_bytes(&params), bytes);
        }
    }
    one::<passphrase::PassphraseParams>(bytes);
    one::<recovery::RecoveryParams>(bytes);
    #[cfg(feature = "pkcs11")]
    one::<crate::pkcs11::TokenParams>(bytes);
    #[cfg(feature = "tpm2")]
    one::<crate::tpm2::TpmParams>(bytes);
}
