//! The durable store of the reference node: one `redb` file.
//!
//! This module opens a file; the rest of the crate does not. Every commit is synced and uses two
//! phases, so that the checksums of a torn page never decide which commit counts.

use core::fmt;
use std::fs::{self, OpenOptions};
use std::io;
use std::path::Path;

use ::redb::{Database, DatabaseError, Durability, ReadableDatabase as _, TableDefinition, TableError};

use crate::store::{LedgerStore, Row, StoreError, Table, Write};

type Definition = TableDefinition<'static, &'static [u8], &'static [u8]>;

/// A [`LedgerStore`] in one file, which it locks.
pub struct RedbStore {
    database: Database,
}

impl fmt::Debug for RedbStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RedbStore(..)")
    }
}

const fn definition(table: Table) -> Definition {
    TableDefinition::new(match table {
        Table::Journal => "journal",
        Table::Transfers => "transfers",
        Table::Pending => "pending",
        Table::Accounts => "accounts",
        Table::Meta => "meta",
    })
}

fn medium(error: impl Into<::redb::Error>) -> StoreError {
    match error.into() {
        ::redb::Error::DatabaseAlreadyOpen => StoreError::InUse,
        error @ ::redb::Error::Corrupted(_) => StoreError::Damaged(Box::new(error)),
        error => StoreError::Medium(Box::new(error)),
    }
}

fn io_error(error: io::Error) -> StoreError {
    StoreError::Medium(Box::new(error))
}

/// Makes an empty database at `path`. Whoever comes second finds the file of the first.
fn create(path: &Path) -> io::Result<()> {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".new");
    match fs::remove_file(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(&unfinished)?;
    drop(Database::builder().create_file(file.try_clone()?).map_err(io::Error::other)?);
    file.sync_all()?;
    // Unlike a rename, a link never replaces a ledger that appeared meanwhile.
    match fs::hard_link(&unfinished, path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    fs::remove_file(&unfinished)?;
    sync_folder(path)
}

#[cfg(unix)]
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    fs::File::open(folder.unwrap_or_else(|| Path::new(".")))?.sync_all()
}

/// Only Unix lets a folder be synced.
#[cfg(not(unix))]
fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}

impl RedbStore {
    /// Opens the file, or creates it, readable by its owner alone.
    ///
    /// A new file is made complete under the name `<path>.new` and then linked to its own name, so
    /// that a power cut at first start leaves no half-made ledger behind. The folder must be on a
    /// file system with hard links.
    ///
    /// # Errors
    /// [`StoreError::InUse`] if another process has it open, otherwise the medium's fault.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        if !path.try_exists().map_err(io_error)? {
            create(path).map_err(io_error)?;
        }
        let file = OpenOptions::new().read(true).write(true).open(path).map_err(io_error)?;
        Self::new(Database::builder().create_file(file))
    }

    fn new(database: Result<Database, DatabaseError>) -> Result<Self, StoreError> {
        Ok(Self { database: database.map_err(medium)? })
    }
}

impl LedgerStore for RedbStore {
    fn read(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let transaction = self.database.begin_read().map_err(medium)?;
        match transaction.open_table(definition(table)) {
            Ok(table) => Ok(table.get(key).map_err(medium)?.map(|value| value.value().to_vec())),
            Err(TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(medium(error)),
        }
    }

    fn scan(&self, table: Table, from: &[u8], max_rows: usize) -> Result<Vec<Row>, StoreError> {
        let transaction = self.database.begin_read().map_err(medium)?;
        let table = match transaction.open_table(definition(table)) {
            Ok(table) => table,
            Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
            Err(error) => return Err(medium(error)),
        };
        let rows = table.range(from..).map_err(medium)?.take(max_rows);
        rows.map(|row| {
            let (key, value) = row.map_err(medium)?;
            Ok(Row { key: key.value().to_vec(), value: value.value().to_vec() })
        })
        .collect()
    }

    fn commit(&mut self, writes: &[Write]) -> Result<(), StoreError> {
        let mut transaction = self.database.begin_write().map_err(medium)?;
        transaction.set_durability(Durability::Immediate).map_err(medium)?;
        transaction.set_two_phase_commit(true);
        for table in Table::ALL {
            let mut open = transaction.open_table(definition(table)).map_err(medium)?;
            for write in writes.iter().filter(|write| write.table == table) {
                let key = write.key.as_slice();
                match &write.value {
                    Some(value) => drop(open.insert(key, value.as_slice()).map_err(medium)?),
                    None => drop(open.remove(key).map_err(medium)?),
                }
            }
        }
        transaction.commit().map_err(medium)
    }
}

#[cfg(test)]
mod power_cut;
