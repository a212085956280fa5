use std::path::PathBuf;

use super::{KeyStore, Keystore, StorageError};
use crate::disk::Place;

/// A keystore in one file of a Unix file system that knows hard links.
///
/// Writers serialise on `<path>.lock` and prepare `<path>.tmp`; both names belong to the store.
#[derive(Clone, Debug)]
pub struct FileKeyStore(Place);

impl FileKeyStore {
    /// The store at a path; its directory must exist.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self::at(Place::new(path.into()))
    }

    pub(crate) const fn at(place: Place) -> Self {
        Self(place)
    }
}

impl KeyStore for FileKeyStore {
    fn load(&self) -> Result<Option<Vec<u8>>, StorageError> {
        self.0.load(Keystore::MAX_BYTES)
    }

    fn create(&self, bytes: &[u8]) -> Result<(), StorageError> {
        let _lock = self.0.lock()?;
        self.0.create(bytes)
    }

    fn replace(&self, old: &[u8], new: &[u8]) -> Result<(), StorageError> {
        let _lock = self.0.lock()?;
        match self.load()? {
            None => Err(StorageError::Missing),
            Some(stored) if stored != old => Err(StorageError::Changed),
            Some(_) => self.0.replace(new),
        }
    }
}
