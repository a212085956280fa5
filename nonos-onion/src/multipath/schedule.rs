use core::time::Duration;
use std::collections::{BTreeSet, VecDeque};

use crate::multipath::manifest::ShardId;
use crate::multipath::path::MAX_OUTSTANDING;
use crate::multipath::rebuild::{MAX_OPEN_STRIPES, Rebuild};

/// Requests on a path of which nothing is known yet.
const FIRST_OUTSTANDING: usize = 2;
/// Other requests beside which a path may be asked for what another one was asked for before.
const MAX_BESIDE_SPARE: usize = 1;

/// How long a shard took, by the path's clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing {
    /// From the request to the first byte of the reply.
    pub(crate) wait: Duration,
    /// From the first byte to the last.
    pub(crate) transfer: Duration,
}

/// What one path was asked for.
#[derive(Debug)]
struct Lane {
    /// In the order in which the answers come.
    asked: VecDeque<ShardId>,
    /// Most requests at once.
    limit: usize,
    /// The shortest wait: about a round trip.
    wait: Duration,
}

/// Decides which path to ask for which shard.
///
/// A stripe is asked for `k` shards and no more while other stripes need some, so that every path
/// carries bytes that count. A path with nothing left to ask for is asked for a spare shard of a
/// stripe that waits for others.
#[derive(Debug)]
pub(crate) struct Schedule {
    lanes: Vec<Option<Lane>>,
    /// Stripes that were asked for and are not finished; at most [`MAX_OPEN_STRIPES`].
    active: BTreeSet<u32>,
    /// The first stripe that was never asked for.
    next: u32,
}

impl Schedule {
    pub(crate) fn new(paths: usize) -> Self {
        let lane = || Lane { asked: VecDeque::new(), limit: FIRST_OUTSTANDING, wait: Duration::MAX };
        Self { lanes: (0..paths).map(|_| Some(lane())).collect(), active: BTreeSet::new(), next: 0 }
    }

    /// Whether any path is left.
    pub(crate) fn is_alive(&self) -> bool {
        self.lanes.iter().any(Option::is_some)
    }

    /// Whether a path was asked for a shard and has not answered.
    fn is_asked(&self, path: usize, id: ShardId) -> bool {
        self.lane(path).is_some_and(|lane| lane.asked.contains(&id))
    }

    /// Takes note that a path answered its oldest request.
    pub(crate) fn answered(&mut self, path: usize, timing: Timing) {
        let Some(lane) = self.lanes.get_mut(path).and_then(Option::as_mut) else { return };
        lane.asked.pop_front();
        lane.wait = lane.wait.min(timing.wait);
        // As many as fit into a round trip, and one that is being answered meanwhile.
        let fit = lane.wait.as_nanos().div_ceil(timing.transfer.as_nanos().max(1));
        let fit = usize::try_from(fit).unwrap_or(MAX_OUTSTANDING);
        lane.limit = fit.saturating_add(1).clamp(FIRST_OUTSTANDING, MAX_OUTSTANDING);
    }

    /// Takes note that a stripe needs nothing more.
    pub(crate) fn finished(&mut self, stripe: u32) {
        self.active.remove(&stripe);
    }

    /// Forgets a path. What it was asked for is free for others.
    pub(crate) fn lost(&mut self, path: usize) {
        if let Some(lane) = self.lanes.get_mut(path) {
            *lane = None;
        }
    }

    /// The next shard to ask a path for, of which note is taken.
    pub(crate) fn ask(&mut self, path: usize, rebuild: &Rebuild) -> Option<ShardId> {
        let lane = self.lane(path)?;
        if lane.asked.len() >= lane.limit {
            return None;
        }
        let may_spare = lane.asked.len() <= MAX_BESIDE_SPARE;
        let wanted = self.wanted(path, rebuild);
        let id = wanted.or_else(|| self.spare(path, rebuild).filter(|_| may_spare))?;
        self.lanes.get_mut(path)?.as_mut()?.asked.push_back(id);
        Some(id)
    }

    /// A shard of a stripe that was not asked for enough of them.
    fn wanted(&mut self, path: usize, rebuild: &Rebuild) -> Option<ShardId> {
        let short = |stripe: &&u32| self.coming(**stripe, rebuild) < rebuild.needs(**stripe);
        if let Some(stripe) = self.active.iter().find(short) {
            return self.pick(*stripe, path, rebuild);
        }
        if self.active.len() >= MAX_OPEN_STRIPES {
            return None;
        }
        let stripe = (self.next..rebuild.manifest().stripes()).find(|stripe| rebuild.needs(*stripe) > 0)?;
        self.next = stripe + 1;
        self.active.insert(stripe);
        self.pick(stripe, path, rebuild)
    }

    /// One shard more of a stripe that others were asked for, the least asked for first. Not of
    /// one that needs no more than what this very path is about to send.
    fn spare(&self, path: usize, rebuild: &Rebuild) -> Option<ShardId> {
        let own = |stripe| self.lane(path).map_or(0, |lane| of(lane.asked.iter().copied(), stripe).count());
        let waiting = self.active.iter().filter(|stripe| own(**stripe) < rebuild.needs(**stripe));
        let excess =
            |stripe: &&u32| of(self.asked(), **stripe).count().saturating_sub(rebuild.needs(**stripe));
        self.pick(*waiting.min_by_key(excess)?, path, rebuild)
    }

    /// A shard of a stripe for a path: one that nobody was asked for if there is one, and of those
    /// one whose number is the path's, modulo the number of paths.
    fn pick(&self, stripe: u32, path: usize, rebuild: &Rebuild) -> Option<ShardId> {
        let shards = u8::try_from(rebuild.manifest().code().shards()).ok()?;
        let ids = (0..shards).map(|shard| ShardId { stripe, shard });
        ids.filter(|id| !rebuild.holds(*id) && !self.is_asked(path, *id)).min_by_key(|id| {
            let foreign = usize::from(id.shard) % self.lanes.len().max(1) != path;
            (self.asked().filter(|asked| *asked == *id).count(), foreign)
        })
    }

    /// Different shards of a stripe that are on their way.
    fn coming(&self, stripe: u32, rebuild: &Rebuild) -> usize {
        of(self.asked(), stripe).filter(|id| !rebuild.holds(*id)).collect::<BTreeSet<_>>().len()
    }

    fn asked(&self) -> impl Iterator<Item = ShardId> {
        self.lanes.iter().flatten().flat_map(|lane| lane.asked.iter().copied())
    }

    fn lane(&self, path: usize) -> Option<&Lane> {
        self.lanes.get(path)?.as_ref()
    }
}

/// The shards of one stripe among `ids`.
fn of(ids: impl Iterator<Item = ShardId>, stripe: u32) -> impl Iterator<Item = ShardId> {
    ids.filter(move |id| id.stripe == stripe)
}
