use core::fmt;

use zeroize::Zeroizing;

use crate::key::NodeId;

/// What a slot opens with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum SlotKind {
    /// A passphrase, through Argon2id.
    Passphrase,
    /// 24 words on paper (BIP39).
    RecoveryPhrase,
    /// An X25519 key whose secret half is kept elsewhere.
    RecoveryKey,
    /// A secret inside a PKCS#11 token.
    Token,
    /// The TPM of one machine in one state.
    Tpm,
    /// Written by a later version; it is kept, and does not open here.
    Unknown(u8),
}

impl SlotKind {
    /// Its number in the file.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Passphrase => 0,
            Self::RecoveryPhrase => 1,
            Self::RecoveryKey => 2,
            Self::Token => 3,
            Self::Tpm => 4,
            Self::Unknown(number) => number,
        }
    }

    /// The kind of a number.
    #[must_use]
    pub const fn from_number(number: u8) -> Self {
        match number {
            0 => Self::Passphrase,
            1 => Self::RecoveryPhrase,
            2 => Self::RecoveryKey,
            3 => Self::Token,
            4 => Self::Tpm,
            number => Self::Unknown(number),
        }
    }
}

impl fmt::Display for SlotKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passphrase => f.pad("passphrase"),
            Self::RecoveryPhrase => f.pad("recovery-phrase"),
            Self::RecoveryKey => f.pad("recovery-key"),
            Self::Token => f.pad("token"),
            Self::Tpm => f.pad("tpm"),
            Self::Unknown(number) => f.pad(&format!("unknown-{number}")),
        }
    }
}

/// A key-encryption key: 32 secret bytes that wrap the data key. Wiped on drop; boxed, so that
/// moving it leaves no copies behind.
#[derive(Clone)]
pub struct Kek(Box<Zeroizing<[u8; 32]>>);

impl Kek {
    /// From its bytes, which must be indistinguishable from random.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        Self(Box::new(Zeroizing::new(*bytes)))
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for Kek {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Kek(..)")
    }
}

/// A key-encryption key that wraps a data key for the first time.
#[derive(Clone, Debug)]
pub struct NewKek {
    /// The key.
    pub key: Kek,
    /// What [`KekSource::recover`] needs to find it again, at most
    /// [`Keystore::MAX_PARAMS_BYTES`](super::Keystore::MAX_PARAMS_BYTES); public, stored in the
    /// slot, and authenticated with it.
    pub params: Vec<u8>,
}

/// One way to open a keystore: something a person knows, or a device that one holds.
///
/// The keystore itself does all encryption; a source only produces 32 bytes, so whatever library
/// it needs stays behind this trait. `recover` of the params that `fresh` gave, for the same
/// root, returns the same key for ever. Calls may block. A source must not try its device more
/// often than it is called: tokens lock up after a few wrong PINs.
pub trait KekSource: Send + Sync {
    /// The kind of its slots.
    fn kind(&self) -> SlotKind;

    /// A key that was never used before, for a slot of the keystore of `root`; `random` is fresh
    /// and belongs to this call.
    ///
    /// # Errors
    /// [`KekError`].
    fn fresh(&self, root: NodeId, random: &[u8; 32]) -> Result<NewKek, KekError>;

    /// The key behind a slot of this kind. Whether it is the right one shows when it is used.
    ///
    /// # Errors
    /// [`KekError`]; [`KekError::Foreign`] for a slot that belongs to another source of this kind.
    fn recover(&self, root: NodeId, params: &[u8]) -> Result<Kek, KekError>;
}

/// Why a source gave no key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KekError {
    /// The params are not of this kind of slot. The file's fault.
    #[error("malformed slot")]
    Malformed,
    /// The slot was made for another key or device of this kind.
    #[error("the slot belongs to another key")]
    Foreign,
    /// It is half a key, which makes slots and opens none. The caller's fault.
    #[error("a public key opens nothing; its secret half does")]
    PublicOnly,
    /// The passphrase is empty. The caller's fault.
    #[error("the passphrase is empty")]
    EmptyPassphrase,
    /// The key is one that anybody can guess. The caller's fault.
    #[error("the key is weak: {0}")]
    Weak(&'static str),
    /// A cost out of bounds: too low to be ours or too high to be honest.
    #[error("argon2 cost is out of bounds")]
    Cost,
    /// Argon2id could not get its memory.
    #[error("not enough memory for argon2")]
    Memory,
    /// The device cannot be reached. Trying again may help.
    #[error("the device cannot be reached: {0}")]
    Unavailable(String),
    /// The device was reached and said no: a wrong PIN, another state of the machine.
    #[error("the device refused: {0}")]
    Refused(String),
}
