use std::path::PathBuf;

use minicbor::{Decode, Encode};
use sha3::{Digest as _, Sha3_256};

use crate::disk::{Place, StorageError};
use crate::key::NodeId;
use crate::wire::{self, Wire};

/// A memory of the newest generation of a keystore, out of reach of whoever could put back an
/// older copy of the file: another disk, a TPM, a person.
///
/// `raise` is durable when it returns. Calls may block.
pub trait RollbackAnchor: Send + Sync {
    /// The highest generation ever raised to, `None` if it was never raised.
    ///
    /// # Errors
    /// [`AnchorError`].
    fn read(&self, root: NodeId) -> Result<Option<u64>, AnchorError>;

    /// Remembers a generation; a lower one than it remembers changes nothing.
    ///
    /// # Errors
    /// [`AnchorError`].
    fn raise(&self, root: NodeId, generation: u64) -> Result<(), AnchorError>;
}

/// Why an anchor could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AnchorError {
    /// It never heard of this keystore; see
    /// [`OpenKeystore::anchor_to`](super::OpenKeystore::anchor_to).
    #[error("the anchor remembers nothing")]
    Missing,
    /// It is the anchor of another node. The caller's fault.
    #[error("the anchor belongs to another node")]
    Foreign,
    /// Not what an anchor wrote.
    #[error("the anchor is damaged")]
    Damaged,
    /// The medium failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

const MAGIC: &[u8; 5] = b"NNKA\x01";

/// Bytes of SHA3-256 at the end of the file: against a failing medium, not against an adversary,
/// who must not reach the file at all.
const CHECK_BYTES: usize = 8;

#[derive(Encode, Decode)]
struct Record {
    #[n(0)]
    root: NodeId,
    #[n(1)]
    generation: u64,
}

impl Wire for Record {
    const MAX_BYTES: usize = 48;
}

/// An anchor in a file. It is of use where the file is out of reach of whoever can put back a
/// copy of the keystore: a disk that no backup covers, a medium that is taken out.
#[derive(Clone, Debug)]
pub struct FileAnchor(Place);

impl FileAnchor {
    /// The anchor at a path; its directory must exist.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self::at(Place::new(path.into()))
    }

    pub(crate) const fn at(place: Place) -> Self {
        Self(place)
    }

    fn load(&self) -> Result<Option<Record>, AnchorError> {
        const MAX_BYTES: usize = MAGIC.len() + Record::MAX_BYTES + CHECK_BYTES;
        self.0.load(MAX_BYTES)?.map(|bytes| decode(&bytes).ok_or(AnchorError::Damaged)).transpose()
    }
}

fn encode(record: &Record) -> Vec<u8> {
    let mut bytes = [&MAGIC[..], &wire::to_bytes(record)].concat();
    bytes.extend(Sha3_256::digest(&bytes).iter().take(CHECK_BYTES));
    bytes
}

fn decode(bytes: &[u8]) -> Option<Record> {
    let (record, _) = bytes.strip_prefix(MAGIC)?.split_last_chunk::<CHECK_BYTES>()?;
    let record = wire::from_bytes(record).ok()?;
    (encode(&record) == bytes).then_some(record)
}

impl RollbackAnchor for FileAnchor {
    fn read(&self, root: NodeId) -> Result<Option<u64>, AnchorError> {
        match self.load()? {
            Some(record) if record.root != root => Err(AnchorError::Foreign),
            record => Ok(record.map(|record| record.generation)),
        }
    }

    fn raise(&self, root: NodeId, generation: u64) -> Result<(), AnchorError> {
        let _lock = self.0.lock()?;
        let bytes = encode(&Record { root, generation });
        match self.read(root)? {
            None => Ok(self.0.create(&bytes)?),
            Some(known) if known >= generation => Ok(()),
            Some(_) => Ok(self.0.replace(&bytes)?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_altered_byte_is_noticed() {
        let bytes = encode(&Record { root: NodeId::from_bytes([255; 32]), generation: u64::MAX });
        assert!(decode(&bytes).is_some());
        for at in 0..bytes.len() {
            let mut altered = bytes.clone();
            altered[at] ^= 1;
            assert!(decode(&altered).is_none(), "byte {at}");
            assert!(decode(&bytes[..at]).is_none(), "{at} bytes");
        }
    }
}
