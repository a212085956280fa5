use core::future::ready;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use nonos_identity::{Epoch, NetworkId, Timestamp};

use crate::service::directory::{
    Directory, DirectoryFuture, DirectoryIndex, SharedRandom, StoreError, validate_for_store,
};
use crate::service::period::TimePeriod;

/// The bounds of a [`MemoryDirectory`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryLimits {
    /// Records at a time.
    pub entries: usize,
    /// Bytes of all records.
    pub bytes: usize,
}

impl Default for MemoryLimits {
    /// 4096 records, 64 MiB. Anybody can make keys, and with them records that are valid: these bounds keep a
    /// flood from memory, and only a limit on who may publish keeps it from filling them.
    fn default() -> Self {
        Self { entries: 4096, bytes: 64 << 20 }
    }
}

/// An honest directory in memory: the part of one node.
///
/// It has no clock: [`Self::advance`] tells it the time.
#[derive(Debug)]
pub struct MemoryDirectory(Mutex<State>);

#[derive(Debug)]
struct State {
    network: NetworkId,
    limits: MemoryLimits,
    now: Timestamp,
    randoms: BTreeMap<TimePeriod, SharedRandom>,
    stored: BTreeMap<DirectoryIndex, Stored>,
    bytes: usize,
}

#[derive(Debug)]
struct Stored {
    revision: u64,
    expiry: Epoch,
    bytes: Vec<u8>,
}

impl MemoryDirectory {
    /// Empty, at the beginning of time.
    #[must_use]
    pub const fn new(network: NetworkId, limits: MemoryLimits) -> Self {
        Self(Mutex::new(State {
            network,
            limits,
            now: Timestamp::from_secs(0),
            randoms: BTreeMap::new(),
            stored: BTreeMap::new(),
            bytes: 0,
        }))
    }

    /// Moves to `now`, forgets what has expired, and learns the random values of periods that are in use.
    pub fn advance(&self, now: Timestamp, randoms: impl IntoIterator<Item = (TimePeriod, SharedRandom)>) {
        let mut state = self.state();
        state.now = now;
        state.randoms.extend(randoms);
        state.randoms.retain(|period, _| period.is_live(now));
        state.stored.retain(|_, stored| now < stored.expiry.start());
        state.bytes = state.stored.values().map(|stored| stored.bytes.len()).sum();
    }

    /// Keeps a record that holds, belongs at the index and is newer than what is there.
    ///
    /// # Errors
    /// [`StoreError`] if it does not; what is stored stays.
    pub fn put(&self, index: DirectoryIndex, bytes: Vec<u8>) -> Result<(), StoreError> {
        self.state().put(index, bytes)
    }

    /// The record at an index that has not expired.
    #[must_use]
    pub fn find(&self, index: DirectoryIndex) -> Option<Vec<u8>> {
        self.state().stored.get(&index).map(|stored| stored.bytes.clone())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn put(&mut self, index: DirectoryIndex, bytes: Vec<u8>) -> Result<(), StoreError> {
        let random = |period| self.randoms.get(&period).copied();
        let record = validate_for_store(&self.network, self.now, &random, index, &bytes)?;
        let (revision, expiry) = (record.revision(), record.expiry());
        let mut freed = (0, 0);
        if let Some(stored) = self.stored.get(&index) {
            if stored.bytes == bytes {
                return Ok(());
            }
            if stored.revision >= revision {
                return Err(StoreError::Revision { offered: revision, stored: stored.revision });
            }
            freed = (1, stored.bytes.len());
        }
        let total = self.bytes - freed.1 + bytes.len();
        if self.stored.len() - freed.0 >= self.limits.entries || total > self.limits.bytes {
            return Err(StoreError::Full);
        }
        self.bytes = total;
        self.stored.insert(index, Stored { revision, expiry, bytes });
        Ok(())
    }
}

impl Directory for MemoryDirectory {
    fn publish(&self, index: DirectoryIndex, bytes: Vec<u8>) -> DirectoryFuture<()> {
        Box::pin(ready(self.put(index, bytes).map_err(Into::into)))
    }

    fn fetch(&self, index: DirectoryIndex) -> DirectoryFuture<Vec<Vec<u8>>> {
        Box::pin(ready(Ok(self.find(index).into_iter().collect())))
    }
}
