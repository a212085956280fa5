//! Power cuts under a real `redb`, replayed from a seed.
//!
//! The disk is simulated below `redb`: until it is synced, a write may be lost, torn at a sector
//! border or kept, each write for itself. The power goes at a random operation. Afterwards the
//! ledger must hold every acknowledged transfer, nothing that was never posted, and be sound.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use ::redb::{Database, StorageBackend};
use nonos_identity::{Digest, NodeId, Timestamp};

use super::RedbStore;
use crate::{Amount, Code, Kind, Ledger, SystemAccount, Transfer};

/// A disk writes a sector wholly or not at all.
const SECTOR_BYTES: usize = 512;
const CUTS_PER_SEED: u64 = 3;
const SEEDS: u64 = 300;

/// SplitMix64: a few good bits from a seed.
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

#[derive(Debug)]
enum Pending {
    Write { at: usize, data: Vec<u8> },
    Length(usize),
}

#[derive(Debug)]
struct DiskState {
    /// What survives.
    durable: Vec<u8>,
    /// What a running process sees.
    seen: Vec<u8>,
    unsynced: Vec<Pending>,
    random: Random,
    /// Operations until the power goes; none once it is off.
    left: Option<u64>,
    /// Whether `sync_data` does its duty.
    honest: bool,
}

#[derive(Clone, Debug)]
struct Disk(Arc<Mutex<DiskState>>);

fn resized(bytes: &mut Vec<u8>, len: usize) {
    bytes.resize(len, 0);
}

fn written(bytes: &mut Vec<u8>, at: usize, data: &[u8]) {
    let end = at + data.len();
    if bytes.len() < end {
        resized(bytes, end);
    }
    bytes[at..end].copy_from_slice(data);
}

fn off() -> io::Error {
    io::Error::other("the power is off")
}

impl DiskState {
    fn apply(bytes: &mut Vec<u8>, change: &Pending) {
        match change {
            Pending::Write { at, data } => written(bytes, *at, data),
            Pending::Length(len) => resized(bytes, *len),
        }
    }

    /// Counts an operation; the last one cuts the power.
    fn tick(&mut self) -> io::Result<()> {
        match self.left {
            None => Err(off()),
            Some(0) => {
                self.left = None;
                self.cut();
                Err(off())
            }
            Some(left) => {
                self.left = Some(left - 1);
                Ok(())
            }
        }
    }

    /// Decides for every unsynced change whether it reached the platter, wholly or in part.
    fn cut(&mut self) {
        for change in std::mem::take(&mut self.unsynced) {
            match (self.random.below(3), &change) {
                (0, _) => {}
                (1, Pending::Write { at, data }) => {
                    for (number, sector) in data.chunks(SECTOR_BYTES).enumerate() {
                        if self.random.below(2) == 0 {
                            written(&mut self.durable, at + number * SECTOR_BYTES, sector);
                        }
                    }
                }
                _ => Self::apply(&mut self.durable, &change),
            }
        }
    }
}

impl Disk {
    fn new(seed: u64, honest: bool) -> Self {
        Self(Arc::new(Mutex::new(DiskState {
            durable: Vec::new(),
            seen: Vec::new(),
            unsynced: Vec::new(),
            random: Random(seed),
            left: None,
            honest,
        })))
    }

    fn with<T>(&self, act: impl FnOnce(&mut DiskState) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Turns the power on for a number of operations.
    fn boot(&self, operations: u64) {
        self.with(|disk| {
            disk.unsynced.clear();
            disk.seen = disk.durable.clone();
            disk.left = Some(operations);
        });
    }

    fn open(&self) -> Result<Ledger, String> {
        let database = Database::builder().set_cache_size(1 << 20).create_with_backend(self.clone());
        let store = RedbStore::new(database).map_err(|error| format!("{error:?}"))?;
        Ledger::open(Box::new(store)).map_err(|error| format!("{error:?}"))
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        self.with(|disk| if disk.left.is_some() { Ok(disk.seen.len() as u64) } else { Err(off()) })
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.with(|disk| {
            if disk.left.is_none() {
                return Err(off());
            }
            let start = usize::try_from(offset).map_err(io::Error::other)?;
            let bytes = disk.seen.get(start..start + out.len());
            out.copy_from_slice(bytes.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?);
            Ok(())
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.with(|disk| {
            disk.tick()?;
            let change = Pending::Length(usize::try_from(len).map_err(io::Error::other)?);
            DiskState::apply(&mut disk.seen, &change);
            disk.unsynced.push(change);
            Ok(())
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.with(|disk| {
            disk.tick()?;
            if disk.honest {
                for change in std::mem::take(&mut disk.unsynced) {
                    DiskState::apply(&mut disk.durable, &change);
                }
            }
            Ok(())
        })
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.with(|disk| {
            let at = usize::try_from(offset).map_err(io::Error::other)?;
            let change = Pending::Write { at, data: data.to_vec() };
            // The write under way when the power goes may still reach the platter.
            disk.unsynced.push(change);
            disk.tick()?;
            written(&mut disk.seen, at, data);
            Ok(())
        })
    }
}

fn transfer(number: u64) -> Transfer {
    Transfer {
        debit: SystemAccount::Opening.into(),
        credit: NodeId::from_bytes([(number % 5) as u8; 32]).into(),
        amount: Amount::from_nano(number + 1),
        code: Code::Relay,
        receipt: Digest::of_bytes(&number.to_le_bytes()),
        leg: 0,
        price_table: Digest::of_bytes(b"prices"),
        timestamp: Timestamp::from_secs(number),
        kind: if number % 7 == 3 { Kind::Pending } else { Kind::Posted },
    }
}

/// Posts batches until the power goes, several times over; says what went wrong.
fn survive(seed: u64, honest: bool) -> Result<u64, String> {
    let disk = Disk::new(seed, honest);
    let mut random = Random(!seed);
    // `RedbStore::open` gives a new file its name only once it is complete and synced.
    disk.boot(u64::MAX);
    drop(disk.open()?);
    disk.with(|disk| disk.durable = disk.seen.clone());
    let (mut acknowledged, mut posted) = (0, 0);
    for cut in 0..CUTS_PER_SEED {
        // Some cuts fall into the opening and its repair, most into posting.
        disk.boot(1 + random.below(400));
        if let Ok(mut ledger) = disk.open() {
            loop {
                let len = 1 + random.below(6);
                let batch: Vec<_> = (acknowledged..acknowledged + len).map(transfer).collect();
                posted = posted.max(acknowledged + len);
                if ledger.post(&batch).is_err() {
                    break;
                }
                acknowledged += len;
            }
        }
        disk.boot(u64::MAX);
        let ledger = disk.open().map_err(|error| format!("cut {cut}: does not open: {error}"))?;
        let summary = ledger.verify_chain().map_err(|error| format!("cut {cut}: {error:?}"))?;
        let length = summary.head.length;
        if length < acknowledged || length > posted {
            return Err(format!("cut {cut}: {length} entries, {acknowledged} acknowledged, {posted} posted"));
        }
        let entries = ledger.transfers(0, usize::MAX).map_err(|error| format!("{error:?}"))?;
        for (number, entry) in (0..).zip(&entries) {
            if entry.transfer != transfer(number) {
                return Err(format!("cut {cut}: entry {number} is not what was posted"));
            }
        }
        // What was in flight either counts as a whole or not at all; go on from there.
        acknowledged = length;
    }
    Ok(acknowledged)
}

#[test]
fn nothing_acknowledged_is_lost() {
    let mut entries = 0;
    for seed in 0..SEEDS {
        match survive(seed, true) {
            Ok(length) => entries += length,
            Err(error) => panic!("seed {seed}: {error}"),
        }
    }
    // The cuts must not all fall before the first commit.
    assert!(entries > 10 * SEEDS, "{entries} entries over {SEEDS} seeds");
}

#[test]
fn a_disk_that_lies_about_syncing_is_found_out() {
    // `redb` panics on some of the damage, which counts as noticed.
    let noticed = |seed: &u64| !matches!(std::panic::catch_unwind(|| survive(*seed, false)), Ok(Ok(_)));
    let broken = (0..20).filter(noticed).count();
    assert!(broken >= 15, "only {broken} of 20 lying disks were noticed");
}

#[test]
fn the_same_seed_gives_the_same_run() {
    assert_eq!(survive(7, true), survive(7, true));
}
