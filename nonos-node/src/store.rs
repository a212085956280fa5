//! The mesh's items on disk.

use std::path::Path;

use minicbor::{Decode, Encode};
use nonos_identity::Verified;
use nonos_identity::wire::{self, Wire};
use nonos_mesh::{Collection, Item, ItemId, ItemKind, Store, StoreError};
use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition};

const ITEMS: TableDefinition<'_, &[u8; 32], &[u8]> = TableDefinition::new("items");

/// Keeps checked items in a redb file; durable when `put` returns.
#[derive(Debug)]
pub struct ItemFile {
    database: Database,
}

#[derive(Encode, Decode)]
struct Row {
    #[n(0)]
    kind: ItemKind,
    #[cbor(n(1), with = "minicbor::bytes")]
    bytes: Vec<u8>,
}

impl Wire for Row {
    const MAX_BYTES: usize = Item::MAX_BYTES + 64;
}

impl ItemFile {
    /// Opens or creates the file.
    ///
    /// # Errors
    /// [`StoreError::Medium`] if the file cannot be opened, or is open elsewhere.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let database = open_whole(path, |database| {
            let write = database.begin_write()?;
            write.open_table(ITEMS)?;
            Ok(write.commit()?)
        });
        Ok(Self { database: database.map_err(medium)? })
    }

    /// Every stored item, for a node that starts.
    ///
    /// # Errors
    /// [`StoreError::Medium`] if the file cannot be read.
    pub fn all(&self) -> Result<Vec<Item>, StoreError> {
        let read = self.database.begin_read().map_err(medium)?;
        let table = read.open_table(ITEMS).map_err(medium)?;
        table.iter().map_err(medium)?.map(|row| item(row.map_err(medium)?.1.value())).collect()
    }
}

impl ItemFile {
    /// The ids of the stored items for which `pick` holds; one item is in memory at a time.
    ///
    /// # Errors
    /// [`StoreError::Medium`] if the file cannot be read.
    pub fn select(&self, pick: impl Fn(&Item) -> bool) -> Result<Vec<ItemId>, StoreError> {
        let read = self.database.begin_read().map_err(medium)?;
        let table = read.open_table(ITEMS).map_err(medium)?;
        let mut ids = Vec::new();
        for row in table.iter().map_err(medium)? {
            let item = item(row.map_err(medium)?.1.value())?;
            if pick(&item) {
                ids.push(item.id());
            }
        }
        Ok(ids)
    }
}

/// Opens or creates a database with the tables that `lay_out` makes.
pub(crate) fn open_whole(
    path: &Path,
    lay_out: impl Fn(&Database) -> Result<(), redb::Error>,
) -> Result<Database, redb::Error> {
    let open = |path: &Path| {
        let database = Database::create(path)?;
        lay_out(&database)?;
        Ok::<_, redb::Error>(database)
    };
    if !path.exists() {
        // A power cut while redb lays out a file leaves one that it refuses for ever, so the
        // file gets its name only when it is whole.
        let fresh = path.with_extension("new");
        match std::fs::remove_file(&fresh) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(redb::Error::Io(error)),
            _ => drop(open(&fresh)?),
        }
        std::fs::rename(&fresh, path).map_err(redb::Error::Io)?;
    }
    open(path)
}

impl Store for ItemFile {
    fn put(&self, item: &Verified<Item>) -> Result<(), StoreError> {
        let row = wire::to_bytes(&Row { kind: item.kind(), bytes: item.bytes().to_vec() });
        let write = self.database.begin_write().map_err(medium)?;
        write
            .open_table(ITEMS)
            .map_err(medium)?
            .insert(item.id().as_bytes(), row.as_slice())
            .map_err(medium)?;
        write.commit().map_err(medium)
    }

    fn get(&self, id: &ItemId) -> Result<Option<Item>, StoreError> {
        let read = self.database.begin_read().map_err(medium)?;
        let table = read.open_table(ITEMS).map_err(medium)?;
        let row = table.get(id.as_bytes()).map_err(medium)?;
        row.map(|row| item(row.value())).transpose()
    }

    fn has(&self, id: &ItemId) -> Result<bool, StoreError> {
        let read = self.database.begin_read().map_err(medium)?;
        Ok(read.open_table(ITEMS).map_err(medium)?.get(id.as_bytes()).map_err(medium)?.is_some())
    }

    fn ids(&self, collection: Collection) -> Result<Vec<ItemId>, StoreError> {
        self.select(|item| item.kind().collection() == Some(collection))
    }

    fn remove(&self, id: &ItemId) -> Result<bool, StoreError> {
        let write = self.database.begin_write().map_err(medium)?;
        let held = write.open_table(ITEMS).map_err(medium)?.remove(id.as_bytes()).map_err(medium)?.is_some();
        write.commit().map_err(medium)?;
        Ok(held)
    }
}

fn item(row: &[u8]) -> Result<Item, StoreError> {
    let row: Row = wire::from_bytes(row).map_err(medium)?;
    Item::new(row.kind, row.bytes).map_err(medium)
}

fn medium(error: impl std::fmt::Display) -> StoreError {
    StoreError::Medium(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_contract_of_a_store() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = ItemFile::open(&dir.path().join("items.redb")).expect("a fresh file");
        nonos_mesh::testing::check_store(&store);
    }

    #[test]
    fn a_creation_that_was_cut_is_no_obstacle() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("items.redb");
        std::fs::write(path.with_extension("new"), b"half a file").expect("written");
        let store = ItemFile::open(&path).expect("laid out anew");
        assert_eq!(store.all(), Ok(Vec::new()));
    }

    #[test]
    fn items_outlive_the_process_and_a_second_one_is_kept_out() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("items.redb");
        let item = Item::new(ItemKind::Receipt, vec![7; 9]).expect("short");
        let store = ItemFile::open(&path).expect("a fresh file");
        let checked =
            nonos_identity::Unverified::new(item.clone()).check(|_| Ok::<_, ()>(())).expect("passes");
        store.put(&checked).expect("written");
        assert!(ItemFile::open(&path).is_err());
        drop(store);
        let store = ItemFile::open(&path).expect("the same file");
        assert_eq!(store.get(&item.id()), Ok(Some(item.clone())));
        assert_eq!(store.all(), Ok(vec![item]));
    }
}
