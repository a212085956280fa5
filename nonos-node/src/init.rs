//! Setting up and opening a data directory.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use nonos_identity::keystore::{Argon2Cost, CreateError, CreateParams, Keystore, OpenError};
use nonos_identity::{Identity, Seed};
use zeroize::Zeroizing;

use crate::clock;
use crate::config::{Config, ConfigError};

/// Name of the keystore in a data directory.
pub const KEYSTORE: &str = "identity.nnks";

/// Why a data directory could not be set up or opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InitError {
    /// The directory cannot be made.
    #[error("cannot make the data directory {path}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// The keystore cannot be created; an existing one is never replaced.
    #[error("cannot create the keystore {path}")]
    Create {
        /// The keystore.
        path: PathBuf,
        /// Why.
        #[source]
        source: CreateError,
    },
    /// The keystore does not open.
    #[error("cannot open the keystore {path}")]
    Open {
        /// The keystore.
        path: PathBuf,
        /// Why.
        #[source]
        source: OpenError,
    },
    /// The settings cannot be written.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

/// Whether a data directory has a keystore, of whatever content.
#[must_use]
pub fn exists(data_dir: &Path) -> bool {
    std::fs::symlink_metadata(data_dir.join(KEYSTORE)).is_ok()
}

/// Creates a data directory (mode 0700) with a new identity and its settings.
///
/// # Errors
/// [`InitError`]; nothing that exists is replaced.
pub fn create(data_dir: &Path, passphrase: &str, config: &Config) -> Result<Identity, InitError> {
    let identity = create_keystore(data_dir, passphrase)?;
    config.save(data_dir)?;
    Ok(identity)
}

/// Creates a data directory (mode 0700) with a new identity and nothing else.
///
/// # Errors
/// [`InitError`]; nothing that exists is replaced.
pub fn create_keystore(data_dir: &Path, passphrase: &str) -> Result<Identity, InitError> {
    directory(data_dir)?;
    let path = data_dir.join(KEYSTORE);
    let params = CreateParams {
        seed: Seed::from_bytes(&Zeroizing::new(clock::random())),
        entropy: Zeroizing::new(clock::random()),
        cost: Argon2Cost::default(),
        created: clock::now(),
    };
    Keystore::create(&path, passphrase.as_bytes(), &params)
        .map_err(|source| InitError::Create { path, source })
}

/// Makes a data directory (mode 0700) where there is none.
///
/// # Errors
/// [`InitError::Directory`].
pub fn directory(data_dir: &Path) -> Result<(), InitError> {
    let mut builder = std::fs::DirBuilder::new();
    builder
        .recursive(true)
        .mode(0o700)
        .create(data_dir)
        .map_err(|source| InitError::Directory { path: data_dir.into(), source })
}

/// Opens the identity of a data directory.
///
/// # Errors
/// [`InitError::Open`] says why it does not open.
pub fn identity(data_dir: &Path, passphrase: &str) -> Result<Identity, InitError> {
    let path = data_dir.join(KEYSTORE);
    Keystore::open(&path, passphrase.as_bytes()).map_err(|source| InitError::Open { path, source })
}
