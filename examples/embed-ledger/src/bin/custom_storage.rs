//! A ledger over a store of one's own: a plain append-only file, each commit one checksummed line.
//!
//! Run with `cargo run -p nonos-example-embed-ledger --bin custom_storage`. The tests below run the
//! conformance kit that the ledger's own stores have to pass.
#![expect(clippy::print_stdout, reason = "an example talks to its reader")]

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use nonos_identity::{Digest, NodeId, Timestamp};
use nonos_ledger::{Amount, Code, Kind, Ledger, LedgerStore, Row, StoreError, Table, Transfer, Write};

const CHECKSUM_BYTES: usize = Digest::LEN;

/// Every commit is `length || checksum || writes`, appended and synced; memory holds the rows.
#[derive(Debug)]
struct LogStore {
    file: File,
    rows: BTreeMap<(Table, Vec<u8>), Vec<u8>>,
    /// Set when an append failed: the file's end is unknown until it is opened again.
    broken: bool,
}

fn medium(error: std::io::Error) -> StoreError {
    StoreError::Medium(Box::new(error))
}

impl LogStore {
    fn open(path: &Path) -> Result<Self, StoreError> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(medium)?;
        file.try_lock().map_err(|_| StoreError::InUse)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(medium)?;
        let mut store = Self { file, rows: BTreeMap::new(), broken: false };
        let (mut rest, mut sound) = (bytes.as_slice(), 0u64);
        while let Some((body, after)) = frame(rest) {
            for write in decode(body).ok_or_else(|| StoreError::Damaged("unreadable commit".into()))? {
                store.apply(write);
            }
            sound += (rest.len() - after.len()) as u64;
            rest = after;
        }
        // A torn last commit was never acknowledged and is cut off. A bad one with more behind it is damage.
        if let Some((length, body)) = rest.split_first_chunk::<8>() {
            let needed = u64::from_le_bytes(*length).saturating_add(CHECKSUM_BYTES as u64);
            if needed < body.len() as u64 {
                return Err(StoreError::Damaged("a commit in the middle fails its checksum".into()));
            }
        }
        store.file.set_len(sound).map_err(medium)?;
        store.file.seek(SeekFrom::Start(sound)).map_err(medium)?;
        store.file.sync_all().map_err(medium)?;
        Ok(store)
    }

    fn apply(&mut self, Write { table, key, value }: Write) {
        match value {
            Some(value) => self.rows.insert((table, key), value),
            None => self.rows.remove(&(table, key)),
        };
    }
}

impl LedgerStore for LogStore {
    fn read(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        if self.broken {
            return Err(StoreError::Medium("open the file again".into()));
        }
        Ok(self.rows.get(&(table, key.to_vec())).cloned())
    }

    fn scan(&self, table: Table, from: &[u8], max_rows: usize) -> Result<Vec<Row>, StoreError> {
        if self.broken {
            return Err(StoreError::Medium("open the file again".into()));
        }
        let rows = self.rows.range((table, from.to_vec())..).take_while(|((of, _), _)| *of == table);
        Ok(rows
            .take(max_rows)
            .map(|((_, key), value)| Row { key: key.clone(), value: value.clone() })
            .collect())
    }

    fn commit(&mut self, writes: &[Write]) -> Result<(), StoreError> {
        let body = encode(writes);
        let mut line = (body.len() as u64).to_le_bytes().to_vec();
        line.extend_from_slice(Digest::of_bytes(&body).as_bytes());
        line.extend_from_slice(&body);
        self.broken = true;
        self.file.write_all(&line).and_then(|()| self.file.sync_data()).map_err(medium)?;
        self.broken = false;
        writes.iter().cloned().for_each(|write| self.apply(write));
        Ok(())
    }
}

/// Splits off one commit whose checksum holds.
fn frame(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<8>()?;
    let (checksum, rest) = rest.split_first_chunk::<CHECKSUM_BYTES>()?;
    let (body, rest) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
    (Digest::of_bytes(body).as_bytes() == checksum).then_some((body, rest))
}

/// Table, key length, key, value length (`u16::MAX` for a removal), value.
fn encode(writes: &[Write]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for Write { table, key, value } in writes {
        let number = Table::ALL.iter().position(|other| other == table).unwrap_or_default();
        bytes.push(u8::try_from(number).unwrap_or_default());
        bytes.extend_from_slice(&length(key).to_le_bytes());
        bytes.extend_from_slice(key);
        bytes.extend_from_slice(&value.as_deref().map_or(u16::MAX, length).to_le_bytes());
        bytes.extend_from_slice(value.as_deref().unwrap_or_default());
    }
    bytes
}

/// The contract bounds keys to 64 and values to 512 bytes.
fn length(bytes: &[u8]) -> u16 {
    u16::try_from(bytes.len()).unwrap_or_default()
}

fn decode(mut bytes: &[u8]) -> Option<Vec<Write>> {
    let mut writes = Vec::new();
    while let Some((number, rest)) = bytes.split_first() {
        let (len, rest) = rest.split_first_chunk::<2>()?;
        let (key, rest) = rest.split_at_checked(u16::from_le_bytes(*len).into())?;
        let (len, rest) = rest.split_first_chunk::<2>()?;
        let len = Some(u16::from_le_bytes(*len)).filter(|len| *len != u16::MAX);
        let (value, rest) = rest.split_at_checked(len.unwrap_or(0).into())?;
        let table = *Table::ALL.get(usize::from(*number))?;
        writes.push(Write { table, key: key.to_vec(), value: len.map(|_| value.to_vec()) });
        bytes = rest;
    }
    Some(writes)
}

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::temp_dir().join(format!("nonos-custom-storage-{}.log", std::process::id()));
    let fee = Transfer {
        debit: NodeId::from_bytes([1; 32]).into(),
        credit: NodeId::from_bytes([2; 32]).into(),
        amount: Amount::from_nano(1_250),
        code: Code::Relay,
        receipt: Digest::of_bytes(b"a receipt"),
        leg: 0,
        price_table: Digest::of_bytes(b"prices"),
        timestamp: Timestamp::from_secs(1_800_000_000),
        kind: Kind::Posted,
    };
    let mut ledger = Ledger::open(Box::new(LogStore::open(&path)?))?;
    println!("posted   {:?}", ledger.post(&[fee])?);
    match LogStore::open(&path) {
        Err(StoreError::InUse) => println!("refused  a second process"),
        other => return Err(format!("a second process got in: {other:?}").into()),
    }
    drop(ledger);
    let ledger = Ledger::open(Box::new(LogStore::open(&path)?))?;
    println!("reopened {} entries, payee has {}", ledger.head()?.length, ledger.balance(fee.credit)?);

    // A flipped bit in the file: the commit fails its checksum, and the audit would find it as well.
    drop(ledger);
    let mut bytes = std::fs::read(&path)?;
    if let Some(last) = bytes.last_mut() {
        *last ^= 1;
    }
    std::fs::write(&path, bytes)?;
    let ledger = Ledger::open(Box::new(LogStore::open(&path)?))?;
    println!(
        "damaged  {} entries are left of one; compare `head` with a copy kept elsewhere",
        ledger.head()?.length
    );
    std::fs::remove_file(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_contract() {
        let path = std::env::temp_dir().join(format!("nonos-custom-storage-kit-{}.log", std::process::id()));
        nonos_ledger::testing::check_ledger_store(|| Box::new(LogStore::open(&path).expect("opens")));
        std::fs::remove_file(path).expect("removed");
    }
}
