use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use sha3::{Digest as _, Sha3_256};

use super::{SlotError, SlotLog};
use crate::disk::{Access, DiskFile, Place, StorageError, read};
use crate::domains::SLOT_LOG;
use crate::time::Epoch;

const MAGIC: &[u8; 5] = b"NNSL\x01";

/// The first bytes of a SHA3-256 over the record and the check before it: against failing media,
/// records that are missing from the middle, and bytes of an older log after the end.
const CHECK_BYTES: usize = 8;

/// Magic, horizon, check.
const HEADER_BYTES: usize = MAGIC.len() + 8 + CHECK_BYTES;

/// Epoch, slot, check.
const RECORD_BYTES: usize = 8 + 4 + CHECK_BYTES;

type Check = [u8; CHECK_BYTES];

/// A slot log in one append-only file, mode 0600, locked against a second process.
///
/// ```text
/// "NNSL" 0x01 horizon:u64 check:8   { epoch:u64 slot:u32 check:8 }
/// ```
///
/// Integers are big-endian. Each record is synced before `take` returns. What a power cut leaves
/// of a call that never returned, at most one record, is cut off; any other damage is an error,
/// but for damage to the last record, which cannot be told from a torn one. Forgetting writes a
/// new file in the place of the old one. `<path>.lock` and `<path>.tmp` belong to the log.
#[derive(Debug)]
pub struct FileSlotLog {
    place: Place,
    log: Mutex<Log>,
    /// Held as long as the log is open.
    _lock: Mutex<Box<dyn DiskFile>>,
}

#[derive(Debug)]
struct Log {
    file: Box<dyn DiskFile>,
    records: Records,
    /// Set by a failed write: what is on the disk is unknown until the log is opened again.
    is_broken: bool,
}

/// The content of a log.
#[derive(Debug)]
pub(crate) struct Records {
    horizon: Epoch,
    used: BTreeSet<(Epoch, u32)>,
    /// The check of the last record, to which the next one is chained.
    check: Check,
    /// Where the last whole record ends.
    end: usize,
}

impl FileSlotLog {
    /// Most records of a log: 20 MiB, and what a planted file can make us read.
    pub const MAX_RECORDS: usize = 1 << 20;

    const MAX_BYTES: usize = HEADER_BYTES + RECORD_BYTES * (Self::MAX_RECORDS + 1);

    /// Creates the log of a new node: slots of epochs before `horizon` are refused for ever. The
    /// directory must exist.
    ///
    /// Where a log was lost, the horizon is the epoch after the present one.
    ///
    /// # Errors
    /// [`StorageError::Exists`] in [`SlotError::Storage`]: an existing file is never replaced.
    pub fn create(path: impl Into<PathBuf>, horizon: Epoch) -> Result<Self, SlotError> {
        Self::create_at(Place::new(path.into()), horizon)
    }

    /// Opens a log.
    ///
    /// # Errors
    /// [`StorageError::Missing`] in [`SlotError::Storage`] if there is none: a node that had one
    /// lost it, see [`Self::create`]; [`SlotError::Damaged`]; [`StorageError::Locked`].
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, SlotError> {
        Self::open_at(Place::new(path.into()))
    }

    pub(crate) fn create_at(place: Place, horizon: Epoch) -> Result<Self, SlotError> {
        let lock = place.lock()?;
        place.create(&Records::new(horizon).header())?;
        Self::locked(place, lock)
    }

    pub(crate) fn open_at(place: Place) -> Result<Self, SlotError> {
        let lock = place.lock()?;
        Self::locked(place, lock)
    }

    fn locked(place: Place, lock: Box<dyn DiskFile>) -> Result<Self, SlotError> {
        let mut file = place.open(Access::Write)?.ok_or(StorageError::Missing)?;
        let bytes = read(&mut *file, Self::MAX_BYTES)?;
        let records = Records::parse(&bytes)?;
        if records.end < bytes.len() {
            file.set_len(records.end as u64)?;
        }
        // A torn record that was cut off must not come back, nor a name that is there by luck go.
        file.sync()?;
        place.sync_directory()?;
        let log = Mutex::new(Log { file, records, is_broken: false });
        Ok(Self { place, log, _lock: Mutex::new(lock) })
    }

    /// Writes must not be tried after a failed one.
    fn log(&self) -> Result<MutexGuard<'_, Log>, SlotError> {
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        if log.is_broken { Err(SlotError::Broken) } else { Ok(log) }
    }
}

impl SlotLog for FileSlotLog {
    fn take(&self, epoch: Epoch, slot: u32) -> Result<(), SlotError> {
        let mut log = self.log()?;
        if epoch < log.records.horizon {
            return Err(SlotError::Forgotten(log.records.horizon));
        }
        if log.records.used.contains(&(epoch, slot)) {
            return Err(SlotError::Used);
        }
        if log.records.used.len() >= Self::MAX_RECORDS {
            return Err(SlotError::Full(log.records.used.len()));
        }
        let record = log.records.push(epoch, slot);
        log.is_broken = true;
        log.file.append(&record)?;
        log.file.sync()?;
        log.is_broken = false;
        Ok(())
    }

    fn is_used(&self, epoch: Epoch, slot: u32) -> Result<bool, SlotError> {
        let log = self.log()?;
        Ok(epoch < log.records.horizon || log.records.used.contains(&(epoch, slot)))
    }

    fn horizon(&self) -> Result<Epoch, SlotError> {
        Ok(self.log()?.records.horizon)
    }

    fn forget_before(&self, horizon: Epoch) -> Result<(), SlotError> {
        let mut log = self.log()?;
        if horizon <= log.records.horizon {
            return Ok(());
        }
        let mut records = Records::new(horizon);
        let mut bytes = records.header();
        for (epoch, slot) in log.records.used.iter().filter(|(epoch, _)| *epoch >= horizon) {
            bytes.extend(records.push(*epoch, *slot));
        }
        log.is_broken = true;
        self.place.replace(&bytes)?;
        log.file = self.place.open(Access::Write)?.ok_or(StorageError::Missing)?;
        log.records = records;
        log.is_broken = false;
        Ok(())
    }
}

impl Records {
    fn new(horizon: Epoch) -> Self {
        let check = check(&[0; CHECK_BYTES], &horizon.number().to_be_bytes());
        Self { horizon, used: BTreeSet::new(), check, end: HEADER_BYTES }
    }

    fn header(&self) -> Vec<u8> {
        let horizon = self.horizon.number().to_be_bytes();
        [&MAGIC[..], &horizon, &check(&[0; CHECK_BYTES], &horizon)].concat()
    }

    /// Adds a slot and returns its record.
    fn push(&mut self, epoch: Epoch, slot: u32) -> Vec<u8> {
        let content = [&epoch.number().to_be_bytes()[..], &slot.to_be_bytes()].concat();
        self.check = check(&self.check, &content);
        self.used.insert((epoch, slot));
        self.end = self.end.saturating_add(RECORD_BYTES);
        [&content[..], &self.check].concat()
    }

    /// The records, up to one that a power cut tore.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, SlotError> {
        // The file is put in its place whole: a header is never torn.
        let horizon = bytes.get(MAGIC.len()..).and_then(<[u8]>::first_chunk);
        let horizon = Epoch::from_number(u64::from_be_bytes(*horizon.ok_or(SlotError::Damaged(0))?));
        let mut records = Self::new(horizon);
        let rest = bytes.strip_prefix(&records.header()[..]).ok_or(SlotError::Damaged(0))?;
        for record in rest.chunks_exact(RECORD_BYTES) {
            if !records.accept(record) {
                break;
            }
        }
        let torn = bytes.len().saturating_sub(records.end);
        // One call writes at a time, so no more than its record can be torn.
        if torn > RECORD_BYTES { Err(SlotError::Damaged(records.end)) } else { Ok(records) }
    }

    fn accept(&mut self, record: &[u8]) -> bool {
        let Some((content, found)) = record.split_last_chunk::<CHECK_BYTES>() else { return false };
        let Some((epoch, slot)) = content.split_first_chunk() else { return false };
        let Ok(slot) = slot.try_into().map(u32::from_be_bytes) else { return false };
        let epoch = Epoch::from_number(u64::from_be_bytes(*epoch));
        let is_ours = *found == check(&self.check, content)
            && epoch >= self.horizon
            && !self.used.contains(&(epoch, slot))
            && self.used.len() < FileSlotLog::MAX_RECORDS;
        if is_ours {
            self.push(epoch, slot);
        }
        is_ours
    }

    /// The bytes that were read, for the fuzz target.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) const fn end(&self) -> usize {
        self.end
    }

    /// How many there are.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn len(&self) -> usize {
        self.used.len()
    }
}

fn check(before: &Check, content: &[u8]) -> Check {
    let mut hash = Sha3_256::new();
    for part in [SLOT_LOG.as_bytes(), before, content] {
        hash.update(part);
    }
    let mut check = [0; CHECK_BYTES];
    check.iter_mut().zip(hash.finalize()).for_each(|(to, from)| *to = from);
    check
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(slots: u32) -> Vec<u8> {
        let mut records = Records::new(Epoch::from_number(5));
        let mut bytes = records.header();
        for slot in 0..slots {
            bytes.extend(records.push(Epoch::from_number(5 + u64::from(slot % 2)), slot));
        }
        bytes
    }

    #[test]
    fn a_torn_record_is_cut_and_other_damage_is_named() {
        let bytes = log(4);
        let last = bytes.len() - RECORD_BYTES;
        for len in 0..bytes.len() {
            let parsed = Records::parse(&bytes[..len]);
            match len.checked_sub(HEADER_BYTES) {
                None => assert!(matches!(parsed, Err(SlotError::Damaged(0))), "{len} bytes"),
                Some(rest) => assert_eq!(parsed.expect("whole records").len(), rest / RECORD_BYTES),
            }
        }
        for at in 0..bytes.len() {
            let mut altered = bytes.clone();
            altered[at] ^= 1;
            let parsed = Records::parse(&altered);
            if at >= last {
                assert_eq!(parsed.expect("taken for torn").len(), 3, "byte {at}");
            } else {
                assert!(matches!(parsed, Err(SlotError::Damaged(_))), "byte {at}");
            }
        }
    }

    #[test]
    fn records_from_the_middle_are_missed() {
        let mut bytes = log(4);
        bytes.drain(HEADER_BYTES..HEADER_BYTES + RECORD_BYTES);
        assert!(matches!(Records::parse(&bytes), Err(SlotError::Damaged(HEADER_BYTES))));
        let mut swapped = log(4);
        swapped[HEADER_BYTES..HEADER_BYTES + 2 * RECORD_BYTES].rotate_left(RECORD_BYTES);
        assert!(matches!(Records::parse(&swapped), Err(SlotError::Damaged(HEADER_BYTES))));
    }
}
