//! Stores in files: a directory of capsules, an append-only log of nonces.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use nonos_identity::{Digest, Unverified, Verified};

use crate::capsule::{Capsule, CapsuleId};
use crate::store::{CapsuleStore, NonceError, NonceStore, StoreError};

const EXTENSION: &str = "mod";

/// Capsules as files `<id>.mod` in one directory.
///
/// A capsule is written beside its place, synced, renamed over it, and the directory is synced:
/// after a crash the place holds the old capsule, the new one or nothing.
#[derive(Debug)]
pub struct FileCapsuleStore {
    directory: PathBuf,
    /// One writer at a time, so that the name of the unfinished file is free.
    writing: Mutex<()>,
}

impl FileCapsuleStore {
    /// Opens a directory, creating it where it is missing.
    ///
    /// # Errors
    /// [`StoreError::Io`] if it cannot be created or read.
    pub fn open(directory: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let directory = directory.into();
        fs::create_dir_all(&directory)?;
        fs::read_dir(&directory)?;
        Ok(Self { directory, writing: Mutex::new(()) })
    }

    fn path(&self, id: &CapsuleId) -> PathBuf {
        self.directory.join(id.to_string()).with_extension(EXTENSION)
    }

    fn sync_directory(&self) -> io::Result<()> {
        sync_directory(&self.directory)
    }
}

impl CapsuleStore for FileCapsuleStore {
    fn put(&self, capsule: &Verified<Capsule>) -> Result<(), StoreError> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let path = self.path(&capsule.id());
        let unfinished = path.with_extension("part");
        let mut file = File::create(&unfinished)?;
        file.write_all(&capsule.to_bytes())?;
        file.sync_all()?;
        fs::rename(&unfinished, &path)?;
        Ok(self.sync_directory()?)
    }

    fn read(&self, id: &CapsuleId) -> Result<Option<Unverified<Capsule>>, StoreError> {
        let file = match File::open(self.path(id)) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let mut bytes = Vec::new();
        file.take(Capsule::MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
        let (found, capsule) = Capsule::parse_with_id(&bytes)
            .map_err(|error| StoreError::Damaged(format!("capsule {id}: {error}")))?;
        if found != *id {
            return Err(StoreError::Damaged(format!("file of capsule {id} holds capsule {found}")));
        }
        Ok(Some(capsule))
    }

    fn contains(&self, id: &CapsuleId) -> Result<bool, StoreError> {
        Ok(self.path(id).try_exists()?)
    }

    fn ids(&self) -> Result<Vec<CapsuleId>, StoreError> {
        let mut ids = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let path = entry?.path();
            let is_capsule = path.extension().is_some_and(|extension| extension == EXTENSION);
            let stem = path.file_stem().and_then(|stem| stem.to_str());
            if let (true, Some(Ok(id))) = (is_capsule, stem.map(str::parse)) {
                ids.push(id);
            }
        }
        ids.sort_unstable();
        Ok(ids)
    }

    fn remove(&self, id: &CapsuleId) -> Result<(), StoreError> {
        match fs::remove_file(self.path(id)) {
            Ok(()) => Ok(self.sync_directory()?),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// A record of the log: the key and the first bytes of its own SHA3-256 as a check.
const RECORD_BYTES: usize = Digest::LEN + CHECK_BYTES;
const CHECK_BYTES: usize = 8;

/// Spent nonces in one append-only log, locked against a second process.
///
/// Every record is synced before `consume` returns. A torn record at the end is what a crash
/// leaves of a call that never returned; it is cut off. Damage before the end is an error.
#[derive(Debug)]
pub struct FileNonceStore {
    log: Mutex<Log>,
}

#[derive(Debug)]
struct Log {
    file: File,
    used: BTreeSet<Digest>,
    /// Set by a failed write: what is on the disk is unknown until the log is opened again.
    is_broken: bool,
}

impl FileNonceStore {
    /// Opens a log, creating it where it is missing.
    ///
    /// # Errors
    /// [`StoreError::Io`] if it cannot be opened or is in use; [`StoreError::Damaged`] if a
    /// record before the last is.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        let path = path.as_ref();
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        file.try_lock().map_err(|error| match error {
            TryLockError::Error(error) => error,
            TryLockError::WouldBlock => io::Error::new(ErrorKind::WouldBlock, "nonce log is in use"),
        })?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let (used, end) = read_log(&bytes)?;
        file.set_len(end)?;
        file.seek(SeekFrom::Start(end))?;
        file.sync_all()?;
        sync_directory(path.parent().unwrap_or(Path::new(".")))?;
        Ok(Self { log: Mutex::new(Log { file, used, is_broken: false }) })
    }
}

fn check_bytes(key: &Digest) -> [u8; CHECK_BYTES] {
    let mut check = [0; CHECK_BYTES];
    for (byte, source) in check.iter_mut().zip(Digest::of_bytes(key.as_bytes()).as_bytes()) {
        *byte = *source;
    }
    check
}

/// The keys, and where the last whole record ends.
fn read_log(bytes: &[u8]) -> Result<(BTreeSet<Digest>, u64), StoreError> {
    let mut used = BTreeSet::new();
    let mut end = 0;
    let mut records = bytes.chunks_exact(RECORD_BYTES).peekable();
    while let Some(record) = records.next() {
        let key = record.first_chunk().map(|key| Digest::from_bytes(*key));
        match key {
            Some(key) if record.ends_with(&check_bytes(&key)) => used.insert(key),
            // Only the last record, or one followed by a shorter rest, can be torn.
            _ if records.peek().is_none() => break,
            _ => return Err(StoreError::Damaged(format!("nonce record at byte {end}"))),
        };
        end += RECORD_BYTES as u64;
    }
    Ok((used, end))
}

impl NonceStore for FileNonceStore {
    fn consume(&self, key: &Digest) -> Result<(), NonceError> {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        if log.is_broken {
            let error = io::Error::other("an earlier write failed; open the nonce log again");
            return Err(StoreError::Io(error).into());
        }
        if !log.used.insert(*key) {
            return Err(NonceError::Used);
        }
        let mut record = [0; RECORD_BYTES];
        for (byte, source) in record.iter_mut().zip(key.as_bytes().iter().chain(&check_bytes(key))) {
            *byte = *source;
        }
        let written = log.file.write_all(&record).and_then(|()| log.file.sync_data());
        log.is_broken = written.is_err();
        written.map_err(|error| StoreError::Io(error).into())
    }

    fn is_used(&self, key: &Digest) -> Result<bool, StoreError> {
        Ok(self.log.lock().unwrap_or_else(PoisonError::into_inner).used.contains(key))
    }
}

fn sync_directory(directory: &Path) -> io::Result<()> {
    let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    File::open(directory)?.sync_all()
}
