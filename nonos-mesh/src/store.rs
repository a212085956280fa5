use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use nonos_identity::Verified;

use crate::item::{Collection, Item, ItemId};

/// Why a store did not do its work: the fault of the medium, never of a peer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The medium failed.
    #[error("storage failed: {0}")]
    Medium(String),
    /// The store's own quota is used up.
    #[error("store is full")]
    Full,
}

/// Keeps checked items.
///
/// Contract: `put` is durable when it returns and idempotent; `ids` lists each stored item once,
/// in any order; items of kinds without a collection are never put. Calls may block and come from
/// several threads; each one is atomic.
pub trait Store: Send + Sync {
    /// Stores an item.
    ///
    /// # Errors
    /// [`StoreError`]; the item then counts as not held.
    fn put(&self, item: &Verified<Item>) -> Result<(), StoreError>;

    /// Reads an item.
    ///
    /// # Errors
    /// [`StoreError`] of the medium.
    fn get(&self, id: &ItemId) -> Result<Option<Item>, StoreError>;

    /// Whether an item is held.
    ///
    /// # Errors
    /// [`StoreError`] of the medium.
    fn has(&self, id: &ItemId) -> Result<bool, StoreError>;

    /// The ids of a collection.
    ///
    /// # Errors
    /// [`StoreError`] of the medium.
    fn ids(&self, collection: Collection) -> Result<Vec<ItemId>, StoreError>;

    /// Removes an item; says whether it was there.
    ///
    /// # Errors
    /// [`StoreError`] of the medium.
    fn remove(&self, id: &ItemId) -> Result<bool, StoreError>;
}

/// A store in memory, gone with the process.
#[derive(Debug, Default)]
pub struct MemoryStore {
    items: Mutex<BTreeMap<ItemId, Item>>,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    // A panic elsewhere cannot leave the map half changed: every call is one map operation.
    fn items(&self) -> MutexGuard<'_, BTreeMap<ItemId, Item>> {
        self.items.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for MemoryStore {
    fn put(&self, item: &Verified<Item>) -> Result<(), StoreError> {
        self.items().entry(item.id()).or_insert_with(|| Item::clone(item));
        Ok(())
    }

    fn get(&self, id: &ItemId) -> Result<Option<Item>, StoreError> {
        Ok(self.items().get(id).cloned())
    }

    fn has(&self, id: &ItemId) -> Result<bool, StoreError> {
        Ok(self.items().contains_key(id))
    }

    fn ids(&self, collection: Collection) -> Result<Vec<ItemId>, StoreError> {
        let items = self.items();
        Ok(items.values().filter(|i| i.kind().collection() == Some(collection)).map(Item::id).collect())
    }

    fn remove(&self, id: &ItemId) -> Result<bool, StoreError> {
        Ok(self.items().remove(id).is_some())
    }
}
