use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use tokio::sync::mpsc::{Sender, channel};
use tokio::task::JoinSet;

use crate::link::ByteLink;
use crate::multipath::frame::FrameError;
use crate::multipath::manifest::{Manifest, ShardError, ShardFault, ShardId};
use crate::multipath::path::{Event, MAX_OUTSTANDING, Transfer, drive};
use crate::multipath::rebuild::{Rebuild, RebuildError, Stripe};
use crate::multipath::schedule::Schedule;

/// Most paths of one transfer: bounds the shards in memory, and each path more is one more chance
/// to meet a bad relay.
pub const MAX_PATHS: usize = 8;

/// Where the stripes of an object go.
///
/// Calls come one after another from the task of the transfer and hold it up while they last.
pub trait Sink: Send {
    /// Keeps a stripe. Stripes come in any order, each once, and touch without overlapping.
    ///
    /// # Errors
    /// Any error ends the transfer.
    fn keep(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Hears how far the transfer is, after each shard.
    fn progress(&mut self, _progress: Progress) {}
}

/// An object in memory; it grows as stripes come.
impl Sink for Vec<u8> {
    fn keep(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let start = usize::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let end = start.checked_add(bytes.len()).ok_or(io::ErrorKind::FileTooLarge)?;
        if self.len() < end {
            self.resize(end, 0);
        }
        let place = self.get_mut(start..end).ok_or(io::ErrorKind::FileTooLarge)?;
        place.copy_from_slice(bytes);
        Ok(())
    }
}

/// How far a transfer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Stripes that are written, those there at the start among them.
    pub done: u32,
    /// Stripes of the object.
    pub stripes: u32,
    /// Paths that still carry.
    pub paths: usize,
}

/// Why a path carries no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathFault {
    /// The stream ended or broke: the medium's fault, or a relay's.
    #[error("stream ended: {0}")]
    Closed(io::ErrorKind),
    /// A request took longer than [`REQUEST_TIMEOUT`](crate::multipath::REQUEST_TIMEOUT).
    #[error("request timed out")]
    Timeout,
    /// Not the protocol: the fault of the other end, as are all that follow.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A shard that was not the one due.
    #[error("shard {} of stripe {} was not the one due", .0.shard, .0.stripe)]
    Unasked(ShardId),
    /// The other end does not have it.
    #[error("shard {} of stripe {} was refused", .0.shard, .0.stripe)]
    Refused(ShardId),
    /// A bad shard.
    #[error("bad shard {} of stripe {}: {fault}", id.shard, id.stripe)]
    Shard {
        /// Which shard it was to be.
        id: ShardId,
        /// What is wrong with it.
        fault: ShardFault,
    },
}

impl From<ShardError> for PathFault {
    fn from(error: ShardError) -> Self {
        Self::Shard { id: error.id, fault: error.fault }
    }
}

/// What became of one path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PathReport {
    /// Good shards that came by it, in time or not.
    pub shards: u64,
    /// Why it ended before the transfer did.
    pub fault: Option<PathFault>,
}

/// A finished transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The paths, as they were passed.
    pub paths: Vec<PathReport>,
    /// Data shards that were made from parity.
    pub rebuilt: u64,
}

/// Why a transfer ended early. What was written stays good: pass [`Self::got`] to the next one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// No path is left.
    #[error("all {} paths are lost", paths.len())]
    PathsLost {
        /// The stripes that are written.
        got: BTreeSet<u32>,
        /// Why each path was lost.
        paths: Vec<PathReport>,
    },
    /// More paths than [`MAX_PATHS`]. The caller's fault.
    #[error("{0} paths exceed the limit of {MAX_PATHS}")]
    TooManyPaths(usize),
    /// The sink failed.
    #[error("stripe cannot be kept: {source}")]
    Sink {
        /// Its error.
        source: io::Error,
        /// The stripes that are written.
        got: BTreeSet<u32>,
    },
    /// The manifest contradicts itself. The fault of whoever made it.
    #[error("{source}")]
    Manifest {
        /// How.
        source: RebuildError,
        /// The stripes that are written.
        got: BTreeSet<u32>,
    },
}

impl FetchError {
    /// The stripes that are written.
    #[must_use]
    pub fn got(&self) -> BTreeSet<u32> {
        match self {
            Self::PathsLost { got, .. } | Self::Sink { got, .. } | Self::Manifest { got, .. } => got.clone(),
            Self::TooManyPaths(_) => BTreeSet::new(),
        }
    }
}

/// Fetches an object over several paths, one stream for each, all of which lead to somebody who
/// [serves](crate::multipath::serve) it. Stripes in `have` are there already.
///
/// It ends as soon as the last stripe is written; answers still on their way are dropped with the
/// streams. Dropping the future ends all of it. Beside the open stripes
/// ([`MAX_OPEN_STRIPES`](crate::multipath::MAX_OPEN_STRIPES)) it holds one shard for each path and
/// [`MAX_PATHS`] more.
///
/// # Errors
/// [`FetchError`].
pub async fn fetch(
    paths: Vec<Box<dyn ByteLink>>,
    manifest: Arc<Manifest>,
    have: &BTreeSet<u32>,
    sink: &mut dyn Sink,
) -> Result<Report, FetchError> {
    if paths.len() > MAX_PATHS {
        return Err(FetchError::TooManyPaths(paths.len()));
    }
    let (events, mut inbox) = channel(MAX_PATHS);
    let transfer = Transfer { digest: manifest.digest(), manifest: manifest.clone(), events };
    let mut tasks = JoinSet::new();
    let mut fetch = Fetch::new(paths.len(), Rebuild::new(manifest, have), sink);
    for (path, stream) in paths.into_iter().enumerate() {
        let (asks, asked) = channel(MAX_OUTSTANDING);
        fetch.asks.push(asks);
        tasks.spawn(drive(transfer.clone(), path, stream, asked));
    }
    loop {
        fetch.fill();
        if fetch.rebuild.is_done() {
            return Ok(Report { paths: fetch.reports, rebuilt: fetch.rebuilt });
        }
        let event = if fetch.schedule.is_alive() { inbox.recv().await } else { None };
        let Some((path, event)) = event else {
            return Err(FetchError::PathsLost { got: fetch.rebuild.done().clone(), paths: fetch.reports });
        };
        fetch.handle(path, event)?;
    }
}

struct Fetch<'a> {
    schedule: Schedule,
    rebuild: Rebuild,
    sink: &'a mut dyn Sink,
    asks: Vec<Sender<ShardId>>,
    reports: Vec<PathReport>,
    rebuilt: u64,
}

impl<'a> Fetch<'a> {
    fn new(paths: usize, rebuild: Rebuild, sink: &'a mut dyn Sink) -> Self {
        let reports = vec![PathReport::default(); paths];
        Self { schedule: Schedule::new(paths), rebuild, sink, asks: Vec::new(), reports, rebuilt: 0 }
    }

    /// Asks the paths in turn until none takes more.
    fn fill(&mut self) {
        loop {
            let mut idle = true;
            for (path, asks) in self.asks.iter().enumerate() {
                if let Some(id) = self.schedule.ask(path, &self.rebuild) {
                    // A path that is gone says so by itself; the queue has room for all it owes.
                    let _ = asks.try_send(id);
                    idle = false;
                }
            }
            if idle {
                return;
            }
        }
    }

    fn handle(&mut self, path: usize, event: Event) -> Result<(), FetchError> {
        let Some(report) = self.reports.get_mut(path) else { return Ok(()) };
        match event {
            Event::Lost(fault) => {
                report.fault = Some(fault);
                self.schedule.lost(path);
            }
            Event::Shard { shard, timing } => {
                report.shards += 1;
                self.schedule.answered(path, timing);
                let added = self.rebuild.add(shard);
                let got = || self.rebuild.done().clone();
                if let Some(stripe) = added.map_err(|source| FetchError::Manifest { source, got: got() })? {
                    self.write(&stripe)?;
                }
            }
        }
        self.sink.progress(Progress {
            done: u32::try_from(self.rebuild.done().len()).unwrap_or(u32::MAX),
            stripes: self.rebuild.manifest().stripes(),
            paths: self.reports.iter().filter(|report| report.fault.is_none()).count(),
        });
        Ok(())
    }

    fn write(&mut self, stripe: &Stripe) -> Result<(), FetchError> {
        self.schedule.finished(stripe.number);
        self.rebuilt += stripe.rebuilt as u64;
        self.sink.keep(stripe.offset, &stripe.bytes).map_err(|source| {
            let mut got = self.rebuild.done().clone();
            got.remove(&stripe.number);
            FetchError::Sink { source, got }
        })
    }
}
