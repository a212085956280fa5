use std::collections::{BTreeMap, BTreeSet};
use std::fs::TryLockError;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::disk::{Access, Disk, DiskFile, Place, Stat};
use crate::keystore::{FileAnchor, FileKeyStore};
use crate::slot_log::{FileSlotLog, SlotError};
use crate::time::Epoch;

/// A disk in memory that loses power.
///
/// A power cut may come at any operation, before or after its effect. What was synced survives.
/// Of what was not, a random part does: of unsynced writes to a file each is lost, whole, torn,
/// or there in length only, with zeros or noise for content, independently of the others; of
/// unsynced changes of names any subset, in disregard of their order. A rename is one change.
/// The same seed cuts the same way.
#[derive(Clone, Debug)]
pub struct SimulatedDisk(Arc<Mutex<State>>);

/// What befalls an operation of a [`SimulatedDisk`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The power goes, and with it whatever was not synced; see [`SimulatedDisk::restart`].
    PowerCut,
    /// The operation fails without effect, and later ones work again.
    Error,
}

#[derive(Debug)]
struct State {
    random: u64,
    files: Vec<Content>,
    /// Names that survive a power cut.
    durable: BTreeMap<PathBuf, usize>,
    /// Names that programs see.
    live: BTreeMap<PathBuf, usize>,
    unsynced: Vec<NameChange>,
    locked: BTreeSet<usize>,
    operations: u64,
    fault: Option<(u64, Fault)>,
    is_off: bool,
    /// Open files belong to one boot.
    boot: u64,
}

#[derive(Debug, Default)]
struct Content {
    durable: Vec<u8>,
    live: Vec<u8>,
    unsynced: Vec<Change>,
}

#[derive(Debug)]
enum Change {
    Write(usize, Vec<u8>),
    SetLen(usize),
}

#[derive(Debug)]
enum NameChange {
    Set(PathBuf, usize),
    Unset(PathBuf),
    Rename(PathBuf, PathBuf, usize),
}

/// Whether an operation happens, and what its caller is told.
struct Step {
    happens: bool,
    outcome: io::Result<()>,
}

impl SimulatedDisk {
    /// An empty disk.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            random: seed,
            files: Vec::new(),
            durable: BTreeMap::new(),
            live: BTreeMap::new(),
            unsynced: Vec::new(),
            locked: BTreeSet::new(),
            operations: 0,
            fault: None,
            is_off: false,
            boot: 0,
        })))
    }

    /// A keystore on this disk.
    #[must_use]
    pub fn key_store(&self, path: impl Into<PathBuf>) -> FileKeyStore {
        FileKeyStore::at(self.place(path))
    }

    /// A rollback anchor on this disk.
    #[must_use]
    pub fn anchor(&self, path: impl Into<PathBuf>) -> FileAnchor {
        FileAnchor::at(self.place(path))
    }

    /// Creates a slot log on this disk, as [`FileSlotLog::create`] does.
    ///
    /// # Errors
    /// [`SlotError`].
    pub fn create_slot_log(
        &self,
        path: impl Into<PathBuf>,
        horizon: Epoch,
    ) -> Result<FileSlotLog, SlotError> {
        FileSlotLog::create_at(self.place(path), horizon)
    }

    /// Opens a slot log on this disk, as [`FileSlotLog::open`] does.
    ///
    /// # Errors
    /// [`SlotError`].
    pub fn open_slot_log(&self, path: impl Into<PathBuf>) -> Result<FileSlotLog, SlotError> {
        FileSlotLog::open_at(self.place(path))
    }

    /// Operations so far.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// Lets a fault befall the operation that is `after` operations away.
    pub fn inject(&self, after: u64, fault: Fault) {
        let mut state = self.state();
        state.fault = Some((state.operations.saturating_add(after), fault));
    }

    /// Whether an injected fault is still to come.
    #[must_use]
    pub fn is_armed(&self) -> bool {
        self.state().fault.is_some()
    }

    /// Whether the power went.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.state().is_off
    }

    /// Cuts the power if that has not happened, decides what survived, and starts again. Files
    /// that were open stay dead, and their locks are gone.
    pub fn restart(&self) {
        self.state().restart();
    }

    /// The bytes under a name.
    #[must_use]
    pub fn content(&self, path: impl AsRef<Path>) -> Option<Vec<u8>> {
        let state = self.state();
        let file = state.live.get(path.as_ref())?;
        Some(state.files.get(*file)?.live.clone())
    }

    /// Puts bytes under a name, durably: an older copy, say.
    pub fn plant(&self, path: impl Into<PathBuf>, bytes: &[u8]) {
        let (mut state, path) = (self.state(), path.into());
        state.files.push(Content { durable: bytes.into(), live: bytes.into(), unsynced: Vec::new() });
        let file = state.files.len().saturating_sub(1);
        state.durable.insert(path.clone(), file);
        state.live.insert(path, file);
    }

    fn place(&self, path: impl Into<PathBuf>) -> Place {
        Place::on(Arc::new(self.clone()), path.into())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// SplitMix64: reproducible, and nobody's secret.
    fn draw(&mut self, below: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % below.max(1)
    }

    fn step(&mut self) -> io::Result<Step> {
        if self.is_off {
            return Err(no_power());
        }
        let now = self.operations;
        self.operations = now.saturating_add(1);
        match self.fault {
            Some((at, fault)) if at == now => {
                self.fault = None;
                match fault {
                    Fault::PowerCut => {
                        self.is_off = true;
                        Ok(Step { happens: self.draw(2) == 0, outcome: Err(no_power()) })
                    }
                    Fault::Error => {
                        Ok(Step { happens: false, outcome: Err(io::Error::other("injected fault")) })
                    }
                }
            }
            _ => Ok(Step { happens: true, outcome: Ok(()) }),
        }
    }

    fn change_name(&mut self, change: NameChange) {
        change.apply(&mut self.live);
        self.unsynced.push(change);
    }

    fn restart(&mut self) {
        for change in core::mem::take(&mut self.unsynced) {
            if self.draw(2) == 0 {
                change.apply(&mut self.durable);
            }
        }
        for at in 0..self.files.len() {
            let Some(mut content) = self.files.get_mut(at).map(core::mem::take) else { continue };
            for change in core::mem::take(&mut content.unsynced) {
                self.survive(&mut content.durable, change);
            }
            content.live.clone_from(&content.durable);
            if let Some(file) = self.files.get_mut(at) {
                *file = content;
            }
        }
        self.live = self.durable.clone();
        self.locked.clear();
        self.fault = None;
        self.is_off = false;
        self.boot = self.boot.wrapping_add(1);
    }

    /// What a power cut leaves of one unsynced change of content.
    fn survive(&mut self, content: &mut Vec<u8>, change: Change) {
        let fate = self.draw(5);
        match change {
            Change::Write(at, mut bytes) => {
                let kept = usize::try_from(self.draw(bytes.len() as u64 + 1)).unwrap_or(0);
                match fate {
                    0 => return,
                    1 => {}
                    2 => bytes.truncate(kept),
                    3 => bytes.iter_mut().skip(kept).for_each(|byte| *byte = 0),
                    _ => {
                        for byte in bytes.iter_mut().skip(kept) {
                            *byte = self.draw(256).to_le_bytes()[0];
                        }
                    }
                }
                Change::Write(at, bytes).apply(content);
            }
            Change::SetLen(_) if fate < 2 => {}
            Change::SetLen(_) => change.apply(content),
        }
    }
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<PathBuf, usize>) {
        match self {
            Self::Set(path, file) => {
                names.insert(path.clone(), *file);
            }
            Self::Unset(path) => {
                names.remove(path);
            }
            Self::Rename(from, to, file) => {
                names.remove(from);
                names.insert(to.clone(), *file);
            }
        }
    }

    fn directory(&self) -> Option<&Path> {
        let (Self::Set(path, _) | Self::Unset(path) | Self::Rename(_, path, _)) = self;
        path.parent()
    }
}

impl Change {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Write(at, bytes) => {
                let end = at.saturating_add(bytes.len());
                if content.len() < end {
                    content.resize(end, 0);
                }
                content.iter_mut().skip(*at).zip(bytes).for_each(|(to, from)| *to = *from);
            }
            Self::SetLen(len) => content.resize(*len, 0),
        }
    }
}

fn no_power() -> io::Error {
    io::Error::other("the power is off")
}

impl Disk for SimulatedDisk {
    fn stat(&self, path: &Path) -> io::Result<Option<Stat>> {
        let mut state = self.state();
        state.step()?.outcome?;
        Ok(state.live.get(path).and_then(|file| state.stat(*file)))
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.state();
        let step = state.step()?;
        let named = state.live.get(path).copied();
        let file = match (named, access) {
            (Some(_), Access::CreateNew) => {
                step.outcome?;
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            (None, Access::Read | Access::Write) => {
                step.outcome?;
                return Err(io::ErrorKind::NotFound.into());
            }
            (Some(file), _) => file,
            (None, Access::CreateNew | Access::OpenOrCreate) => {
                let file = state.files.len();
                if step.happens {
                    state.files.push(Content::default());
                    state.change_name(NameChange::Set(path.into(), file));
                }
                file
            }
        };
        step.outcome?;
        let holds_lock = AtomicBool::new(false);
        Ok(Box::new(SimulatedFile { disk: self.clone(), file, boot: state.boot, holds_lock }))
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        let step = state.step()?;
        let file = *state.live.get(from).ok_or(io::ErrorKind::NotFound)?;
        if state.live.contains_key(to) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if step.happens {
            state.change_name(NameChange::Set(to.into(), file));
        }
        step.outcome
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        let step = state.step()?;
        let file = *state.live.get(from).ok_or(io::ErrorKind::NotFound)?;
        if step.happens {
            state.change_name(NameChange::Rename(from.into(), to.into(), file));
        }
        step.outcome
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        let step = state.step()?;
        if !state.live.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        if step.happens {
            state.change_name(NameChange::Unset(path.into()));
        }
        step.outcome
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        let mut state = self.state();
        let step = state.step()?;
        if step.happens {
            let (synced, rest): (Vec<_>, _) = core::mem::take(&mut state.unsynced)
                .into_iter()
                .partition(|change| change.directory() == Some(directory));
            for change in synced {
                change.apply(&mut state.durable);
            }
            state.unsynced = rest;
        }
        step.outcome
    }
}

impl State {
    fn stat(&self, file: usize) -> Option<Stat> {
        let len = self.files.get(file)?.live.len() as u64;
        Some(Stat { is_file: true, mode: 0o600, id: (0, file as u64), len })
    }
}

#[derive(Debug)]
struct SimulatedFile {
    disk: SimulatedDisk,
    file: usize,
    boot: u64,
    holds_lock: AtomicBool,
}

impl SimulatedFile {
    /// Does something to the content, if there is power and the file is of this boot.
    fn with<T>(&self, change: impl FnOnce(&mut Content, bool) -> T) -> io::Result<T> {
        let mut state = self.disk.state();
        if self.boot != state.boot {
            return Err(no_power());
        }
        let step = state.step()?;
        let content = state.files.get_mut(self.file).ok_or(io::ErrorKind::NotFound)?;
        let value = change(content, step.happens);
        step.outcome.map(|()| value)
    }

    fn change(&self, change: impl FnOnce(&Content) -> Change) -> io::Result<()> {
        self.with(|content, happens| {
            if happens {
                let change = change(content);
                change.apply(&mut content.live);
                content.unsynced.push(change);
            }
        })
    }
}

impl DiskFile for SimulatedFile {
    fn stat(&self) -> io::Result<Stat> {
        self.with(|_, _| ())?;
        self.disk.state().stat(self.file).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn read(&mut self, limit: u64) -> io::Result<Vec<u8>> {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        self.with(|content, _| content.live.iter().take(limit).copied().collect())
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.change(|content| Change::Write(content.live.len(), bytes.into()))
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        let len = usize::try_from(len).map_err(io::Error::other)?;
        self.change(|_| Change::SetLen(len))
    }

    fn sync(&mut self) -> io::Result<()> {
        self.with(|content, happens| {
            if happens {
                content.durable.clone_from(&content.live);
                content.unsynced.clear();
            }
        })
    }

    fn try_lock(&self) -> Result<(), TryLockError> {
        self.with(|_, _| ()).map_err(TryLockError::Error)?;
        if !self.disk.state().locked.insert(self.file) {
            return Err(TryLockError::WouldBlock);
        }
        self.holds_lock.store(true, Ordering::Relaxed);
        Ok(())
    }
}

impl Drop for SimulatedFile {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        if state.boot == self.boot && self.holds_lock.load(Ordering::Relaxed) {
            state.locked.remove(&self.file);
        }
    }
}
