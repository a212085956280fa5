//! In-memory stores and conformance kits for integrators.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use nonos_identity::{Digest, Unverified, Verified};

use crate::{Capsule, CapsuleId, CapsuleStore, NonceError, NonceStore, StoreError};

/// Capsules in memory.
#[derive(Debug, Default)]
pub struct MemoryCapsuleStore(Mutex<BTreeMap<CapsuleId, Capsule>>);

impl CapsuleStore for MemoryCapsuleStore {
    fn put(&self, capsule: &Verified<Capsule>) -> Result<(), StoreError> {
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        map.insert(capsule.id(), Capsule::clone(capsule));
        Ok(())
    }

    fn read(&self, id: &CapsuleId) -> Result<Option<Unverified<Capsule>>, StoreError> {
        let map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(map.get(id).cloned().map(Unverified::new))
    }

    fn contains(&self, id: &CapsuleId) -> Result<bool, StoreError> {
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).contains_key(id))
    }

    fn ids(&self) -> Result<Vec<CapsuleId>, StoreError> {
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).keys().copied().collect())
    }

    fn remove(&self, id: &CapsuleId) -> Result<(), StoreError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
        Ok(())
    }
}

/// Nonces in memory: forgets them with the process, so only for tests.
#[derive(Debug, Default)]
pub struct MemoryNonceStore(Mutex<BTreeSet<Digest>>);

impl NonceStore for MemoryNonceStore {
    fn consume(&self, key: &Digest) -> Result<(), NonceError> {
        let mut set = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if set.insert(*key) { Ok(()) } else { Err(NonceError::Used) }
    }

    fn is_used(&self, key: &Digest) -> Result<bool, StoreError> {
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(key))
    }
}
