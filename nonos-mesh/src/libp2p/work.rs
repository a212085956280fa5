//! Blocking work off the driver's task: checks in parallel, store calls in order.

use std::collections::BTreeMap;
use std::sync::Arc;

use nonos_identity::{NodeId, Timestamp, Verified};
use tokio::sync::mpsc;

use crate::check::{Check, Verdict};
use crate::io::Input;
use crate::item::{Item, ItemId, ItemKind};
use crate::store::Store;

/// What came of it.
#[derive(Debug)]
pub(super) enum Done {
    Checked { ticket: u64, verdict: Verdict },
    Loaded { request: u64, item: Option<Item> },
    StoreFailed { id: ItemId },
}

impl From<Done> for Input {
    fn from(done: Done) -> Self {
        match done {
            Done::Checked { ticket, verdict } => Self::Checked { ticket, verdict },
            Done::Loaded { request, item } => Self::Loaded { request, item },
            Done::StoreFailed { id } => Self::StoreFailed { id },
        }
    }
}

struct Waiting {
    kind: ItemKind,
    bytes: Arc<[u8]>,
    from: NodeId,
    wall: Timestamp,
}

/// A bounded number of checks at once, the cheap ones first; the core bounds how many wait.
pub(super) struct Checks {
    check: Arc<dyn Check>,
    free: usize,
    waiting: BTreeMap<(u32, u64), Waiting>,
    done: mpsc::UnboundedSender<Done>,
}

impl Checks {
    pub(super) fn new(check: Arc<dyn Check>, workers: usize, done: mpsc::UnboundedSender<Done>) -> Self {
        Self { check, free: workers.max(1), waiting: BTreeMap::new(), done }
    }

    pub(super) fn push(
        &mut self,
        cost: u32,
        ticket: u64,
        kind: ItemKind,
        bytes: Arc<[u8]>,
        from: NodeId,
        wall: Timestamp,
    ) {
        self.waiting.insert((cost, ticket), Waiting { kind, bytes, from, wall });
        self.start();
    }

    pub(super) fn finished(&mut self) {
        self.free += 1;
        self.start();
    }

    fn start(&mut self) {
        while self.free > 0
            && let Some(((_, ticket), work)) = self.waiting.pop_first()
        {
            self.free -= 1;
            let (check, done) = (self.check.clone(), self.done.clone());
            let Waiting { kind, bytes, from, wall } = work;
            let run = tokio::task::spawn_blocking(move || check.check(kind, &bytes, from, wall));
            tokio::spawn(async move {
                // A check that panics judged nothing.
                let verdict = run.await.unwrap_or(Verdict::Defer);
                let _ = done.send(Done::Checked { ticket, verdict });
            });
        }
    }
}

enum Job {
    Put(Verified<Item>),
    Load { request: u64, id: ItemId },
    Remove(ItemId),
}

/// Store calls, one after the other on a thread of the blocking pool.
pub(super) struct StoreJobs(mpsc::UnboundedSender<Job>);

impl StoreJobs {
    pub(super) fn spawn(store: Arc<dyn Store>, done: mpsc::UnboundedSender<Done>) -> Self {
        // Puts are bounded by the rate of checks and loads by the core.
        let (jobs, mut queue) = mpsc::unbounded_channel();
        tokio::task::spawn_blocking(move || {
            while let Some(job) = queue.blocking_recv() {
                let outcome = match job {
                    Job::Put(item) => store.put(&item).err().map(|error| {
                        tracing::warn!(%error, "item not stored");
                        Done::StoreFailed { id: item.id() }
                    }),
                    Job::Load { request, id } => {
                        let item = store.get(&id).unwrap_or_else(|error| {
                            tracing::warn!(%error, "item not read");
                            None
                        });
                        Some(Done::Loaded { request, item })
                    }
                    Job::Remove(id) => {
                        if let Err(error) = store.remove(&id) {
                            tracing::warn!(%error, "item not removed");
                        }
                        None
                    }
                };
                if let Some(outcome) = outcome
                    && done.send(outcome).is_err()
                {
                    return;
                }
            }
        });
        Self(jobs)
    }

    fn send(&self, job: Job) {
        // The worker ends only with the driver.
        let _ = self.0.send(job);
    }

    pub(super) fn put(&self, item: Verified<Item>) {
        self.send(Job::Put(item));
    }

    pub(super) fn load(&self, request: u64, id: ItemId) {
        self.send(Job::Load { request, id });
    }

    pub(super) fn remove(&self, id: ItemId) {
        self.send(Job::Remove(id));
    }
}
