//! What waits for a link: a queue for each circuit, and whose turn it is.
//!
//! The circuit that sent least of late goes first (EWMA: "An improved algorithm for Tor circuit
//! scheduling", Tang and Goldberg, CCS 2010), so a bulk transfer does not hold up a keystroke.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::cell::{self, Body, CELL_BYTES, Command, DestroyReason};
use crate::circuit::LocalCircuitId;

/// Cells coalesced into one write: 32 KiB, beyond which syscalls no longer count.
pub(super) const BUFFER_BYTES: usize = 32 * CELL_BYTES;
/// Seconds after which a sent cell counts half.
const HALF_LIFE_SECS: f64 = 30.0;
/// Half-lives after which counts are made small again; far from where an exponent ends.
const RESCALE_HALF_LIVES: f64 = 64.0;
/// Answers to refused CREATEs that wait; against a neighbour that asks and never reads.
const REFUSAL_CELLS: usize = 2048;
/// Spare buffers kept for reuse.
const SPARE_BUFFERS: usize = 64;

/// Buffers of [`BUFFER_BYTES`] to use again.
#[derive(Debug, Default)]
pub(super) struct Buffers(Vec<Vec<u8>>);

impl Buffers {
    fn take(&mut self) -> Vec<u8> {
        self.0.pop().unwrap_or_else(|| Vec::with_capacity(BUFFER_BYTES))
    }

    pub(super) fn give_back(&mut self, mut buffer: Vec<u8>) {
        if self.0.len() < SPARE_BUFFERS && buffer.capacity() >= BUFFER_BYTES {
            buffer.clear();
            self.0.push(buffer);
        }
    }
}

/// Which neighbour of a circuit a link leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// Towards the client.
    Prev,
    /// Away from it.
    Next,
}

/// What a circuit id of a link stands for, and its cells that wait.
#[derive(Debug)]
pub(super) struct Route {
    /// The circuit and where the link leads; `None` once the circuit is over and its last cells leave.
    pub(super) end: Option<(LocalCircuitId, Side)>,
    /// Whole cells; all but the last are full.
    buffers: VecDeque<Vec<u8>>,
    /// Bytes of the first that left already.
    head: usize,
    /// Cells sent, each worth more the later it was.
    activity: f64,
}

impl Route {
    fn queued(&self) -> usize {
        let last = self.buffers.back().map_or(0, Vec::len);
        (self.buffers.len().saturating_sub(1) * BUFFER_BYTES + last - self.head) / CELL_BYTES
    }

    fn push(&mut self, id: u32, command: Command, body: &Body, spare: &mut Buffers) {
        if self.buffers.back().is_none_or(|last| last.len() >= BUFFER_BYTES) {
            self.buffers.push_back(spare.take());
        }
        if let Some(last) = self.buffers.back_mut() {
            last.extend_from_slice(&cell::header(id, command));
            last.extend_from_slice(body);
        }
    }

    /// The first buffer, if none of it left already.
    fn take_buffer(&mut self) -> Option<Vec<u8>> {
        if self.head == 0 { self.buffers.pop_front() } else { None }
    }

    fn move_cell(&mut self, to: &mut Vec<u8>, spare: &mut Buffers) {
        let Some(first) = self.buffers.front() else { return };
        to.extend_from_slice(first.get(self.head..self.head + CELL_BYTES).unwrap_or_default());
        self.head += CELL_BYTES;
        if self.head >= first.len() {
            self.head = 0;
            self.buffers.pop_front().into_iter().for_each(|buffer| spare.give_back(buffer));
        }
    }

    fn held_bytes(&self) -> usize {
        self.buffers.len() * BUFFER_BYTES
    }

    fn clear(&mut self, spare: &mut Buffers) {
        self.head = 0;
        self.buffers.drain(..).for_each(|buffer| spare.give_back(buffer));
    }

    /// By this, turns are ordered: activities are not negative, so their bits order as they do.
    fn turn(&self, id: u32) -> (u64, u32) {
        (self.activity.to_bits(), id)
    }
}

/// The routes of a link and what waits on them.
#[derive(Debug)]
pub(super) struct Routes {
    routes: BTreeMap<u32, Route>,
    /// Routes with cells, in the order of their turns.
    turns: BTreeSet<(u64, u32)>,
    refusals: VecDeque<u32>,
    /// When a cell's worth was one.
    origin: Duration,
}

impl Routes {
    pub(super) fn new(now: Duration) -> Self {
        Self { routes: BTreeMap::new(), turns: BTreeSet::new(), refusals: VecDeque::new(), origin: now }
    }

    /// Whether an id is taken, be it by a circuit whose last cells leave.
    pub(super) fn contains(&self, id: u32) -> bool {
        self.routes.contains_key(&id)
    }

    /// The circuit of an id and where the link leads.
    pub(super) fn end(&self, id: u32) -> Option<(LocalCircuitId, Side)> {
        self.routes.get(&id)?.end
    }

    /// Cells of an id that wait.
    #[cfg(feature = "padding")]
    pub(super) fn waiting(&self, id: u32) -> usize {
        self.routes.get(&id).map_or(0, Route::queued)
    }

    pub(super) fn ends(&self) -> impl Iterator<Item = (LocalCircuitId, Side)> {
        self.routes.values().filter_map(|route| route.end)
    }

    /// The buffers of each circuit, in bytes.
    pub(super) fn loads(&self) -> impl Iterator<Item = (LocalCircuitId, usize)> {
        self.routes.values().filter_map(|route| Some((route.end?.0, route.held_bytes())))
    }

    /// The buffers of all, in bytes.
    pub(super) fn held_bytes(&self) -> usize {
        self.routes.values().map(Route::held_bytes).sum()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.turns.is_empty() && self.refusals.is_empty()
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }

    pub(super) fn insert(&mut self, id: u32, circuit: LocalCircuitId, side: Side) {
        let route = Route { end: Some((circuit, side)), buffers: VecDeque::new(), head: 0, activity: 0.0 };
        self.routes.insert(id, route);
    }

    /// Queues a cell and yields by how many bytes the buffers grew.
    pub(super) fn push(
        &mut self,
        id: u32,
        command: Command,
        body: &Body,
        limit: usize,
        spare: &mut Buffers,
    ) -> Result<usize, Unqueued> {
        let route = self.routes.get_mut(&id).filter(|route| route.end.is_some()).ok_or(Unqueued::NoRoute)?;
        if route.queued() >= limit {
            return Err(Unqueued::Full);
        }
        let held = route.held_bytes();
        route.push(id, command, body, spare);
        self.turns.insert(route.turn(id));
        Ok(route.held_bytes() - held)
    }

    /// Takes a circuit off its id. What waits still goes out before a DESTROY that says it is finished;
    /// before any other it is dropped, and so it is without one. Yields what the buffers then grew by, and
    /// shrank, if there was a circuit.
    pub(super) fn end_route(
        &mut self,
        id: u32,
        tell: Option<DestroyReason>,
        spare: &mut Buffers,
    ) -> Option<(usize, usize)> {
        let route = self.routes.get_mut(&id).filter(|route| route.end.is_some())?;
        route.end = None;
        let (turn, before) = (route.turn(id), route.held_bytes());
        if tell != Some(DestroyReason::Finished) {
            route.clear(spare);
        }
        let Some(reason) = tell else {
            self.turns.remove(&turn);
            self.routes.remove(&id);
            return Some((0, before));
        };
        let mut body = [0; cell::BODY_BYTES];
        cell::write_reason(&mut body, reason);
        route.push(id, Command::Destroy, &body, spare);
        self.turns.insert(turn);
        Some((route.held_bytes(), before))
    }

    /// Answers a CREATE that gets no circuit, unless too many such answers wait.
    pub(super) fn refuse(&mut self, id: u32) {
        if self.refusals.len() < REFUSAL_CELLS {
            self.refusals.push_back(id);
        }
    }

    /// A buffer with the cells whose turn it is, and by how many bytes those that wait then shrank.
    pub(super) fn fill(&mut self, now: Duration, spare: &mut Buffers) -> Option<(Vec<u8>, usize)> {
        if self.is_idle() {
            return None;
        }
        let worth = self.worth(now);
        let mut freed = 0;
        let mut buffer = self.take_refusals(spare);
        while buffer.len() < BUFFER_BYTES
            && let Some((_, id)) = self.turns.pop_first()
        {
            let next = self.turns.first().copied();
            let Some(route) = self.routes.get_mut(&id) else { continue };
            let before = route.held_bytes();
            // Nobody else has cells: a whole buffer goes as it is.
            if buffer.is_empty()
                && next.is_none()
                && let Some(whole) = route.take_buffer()
            {
                spare.give_back(core::mem::replace(&mut buffer, whole));
                route.activity += worth * f64::from(u32::try_from(buffer.len() / CELL_BYTES).unwrap_or(0));
                freed += before - route.held_bytes();
                self.after_turn(id);
                break;
            }
            while buffer.len() < BUFFER_BYTES
                && !route.buffers.is_empty()
                && next.is_none_or(|next| route.turn(id) <= next)
            {
                route.move_cell(&mut buffer, spare);
                route.activity += worth;
            }
            freed += before - route.held_bytes();
            self.after_turn(id);
        }
        Some((buffer, freed))
    }

    /// A route whose turn is over waits for the next, or is forgotten after its last cell.
    fn after_turn(&mut self, id: u32) {
        let Some(route) = self.routes.get(&id) else { return };
        if !route.buffers.is_empty() {
            self.turns.insert(route.turn(id));
        } else if route.end.is_none() {
            self.routes.remove(&id);
        }
    }

    fn take_refusals(&mut self, spare: &mut Buffers) -> Vec<u8> {
        let mut buffer = spare.take();
        let mut body = [0; cell::BODY_BYTES];
        cell::write_reason(&mut body, DestroyReason::Busy);
        while buffer.len() < BUFFER_BYTES
            && let Some(id) = self.refusals.pop_front()
        {
            buffer.extend_from_slice(&cell::header(id, Command::Destroy));
            buffer.extend_from_slice(&body);
        }
        buffer
    }

    /// What a cell counts that is sent now.
    fn worth(&mut self, now: Duration) -> f64 {
        let half_lives = now.saturating_sub(self.origin).as_secs_f64() / HALF_LIFE_SECS;
        if half_lives <= RESCALE_HALF_LIVES {
            return half_lives.exp2();
        }
        self.origin = now;
        let scale = (-half_lives).exp2();
        self.turns.clear();
        for (&id, route) in &mut self.routes {
            route.activity *= scale;
            if !route.buffers.is_empty() {
                self.turns.insert(route.turn(id));
            }
        }
        1.0
    }
}

/// Why a cell was not queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unqueued {
    /// The circuit is gone from the link.
    NoRoute,
    /// As many cells wait as any honest window allows.
    Full,
}

/// The circuits that hold most memory, the greatest first.
pub(super) fn greatest_first(
    loads: impl Iterator<Item = (LocalCircuitId, usize)>,
) -> Vec<(LocalCircuitId, usize)> {
    let mut sums: BTreeMap<LocalCircuitId, usize> = BTreeMap::new();
    for (circuit, bytes) in loads {
        *sums.entry(circuit).or_default() += bytes;
    }
    let mut sums: Vec<_> = sums.into_iter().collect();
    sums.sort_by_key(|&(_, bytes)| core::cmp::Reverse(bytes));
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 1000;

    fn routes(ids: &[u32]) -> Routes {
        let mut routes = Routes::new(Duration::ZERO);
        ids.iter().for_each(|&id| routes.insert(id, LocalCircuitId(id.into()), Side::Next));
        routes
    }

    fn cell(routes: &mut Routes, id: u32) -> Result<usize, Unqueued> {
        let body = &[1; cell::BODY_BYTES];
        routes.push(id, Command::Relay, body, LIMIT, &mut Buffers::default())
    }

    fn push(routes: &mut Routes, id: u32, cells: usize) {
        for _ in 0..cells {
            cell(routes, id).unwrap();
        }
    }

    /// The circuits of the cells of one buffer, in order.
    fn filled(routes: &mut Routes, now: Duration) -> Vec<u32> {
        let held = routes.held_bytes();
        let (buffer, freed) = routes.fill(now, &mut Buffers::default()).unwrap();
        assert_eq!(routes.held_bytes(), held - freed);
        let (cells, rest) = buffer.as_chunks::<CELL_BYTES>();
        assert!(rest.is_empty() && cells.len() <= 32);
        cells.iter().map(|cell| u32::from_be_bytes(*cell.first_chunk().unwrap())).collect()
    }

    #[test]
    fn who_sent_least_of_late_goes_first() {
        let mut routes = routes(&[1, 9]);
        push(&mut routes, 1, 40);
        assert_eq!(filled(&mut routes, Duration::ZERO), [1; 32]);
        push(&mut routes, 9, 2);
        assert_eq!(filled(&mut routes, Duration::ZERO), [9, 9, 1, 1, 1, 1, 1, 1, 1, 1]);
        assert!(routes.fill(Duration::ZERO, &mut Buffers::default()).is_none());
        // Half an hour later the past is forgotten, and what is sent now counts.
        let later = Duration::from_mins(30);
        push(&mut routes, 9, 3);
        assert_eq!(filled(&mut routes, later), [9; 3]);
        push(&mut routes, 9, 1);
        push(&mut routes, 1, 1);
        assert_eq!(filled(&mut routes, later), [1, 9]);
    }

    #[test]
    fn equals_take_turns() {
        let mut routes = routes(&[1, 2]);
        push(&mut routes, 1, 40);
        push(&mut routes, 2, 40);
        let first = filled(&mut routes, Duration::ZERO);
        assert!([1, 2].iter().all(|id| first.iter().filter(|&sent| sent == id).count() == 16), "{first:?}");
    }

    #[test]
    fn counts_survive_any_time() {
        let mut routes = routes(&[1, 2]);
        for hour in 0..200 {
            push(&mut routes, 1, 3);
            push(&mut routes, 2, 1);
            assert_eq!(filled(&mut routes, Duration::from_hours(hour)).len(), 4);
        }
        assert!(routes.routes.values().all(|route| route.activity.is_finite()));
        assert_eq!((routes.held_bytes(), routes.is_idle()), (0, true));
    }

    #[test]
    fn queues_and_refusals_are_bounded() {
        let mut routes = routes(&[1]);
        push(&mut routes, 1, LIMIT);
        assert_eq!(cell(&mut routes, 1), Err(Unqueued::Full));
        assert_eq!(cell(&mut routes, 2), Err(Unqueued::NoRoute));
        (0..2 * REFUSAL_CELLS).for_each(|_| routes.refuse(7));
        assert_eq!((routes.held_bytes(), routes.refusals.len()), (32 * BUFFER_BYTES, REFUSAL_CELLS));
        assert_eq!(filled(&mut routes, Duration::ZERO), [7; 32], "answers go first");
        let spare = &mut Buffers::default();
        let ended = routes.end_route(1, Some(DestroyReason::Queue), spare);
        assert_eq!(ended, Some((BUFFER_BYTES, 32 * BUFFER_BYTES)));
        assert_eq!((routes.end(1), routes.contains(1)), (None, true));
        assert_eq!(routes.end_route(1, None, spare), None);
        while !routes.is_idle() {
            filled(&mut routes, Duration::ZERO);
        }
        assert!(!routes.contains(1));
    }

    #[test]
    fn a_finished_circuit_leaves_after_its_cells() {
        let mut routes = routes(&[1]);
        push(&mut routes, 1, 40);
        routes.end_route(1, Some(DestroyReason::Finished), &mut Buffers::default());
        assert_eq!(cell(&mut routes, 1), Err(Unqueued::NoRoute));
        assert_eq!(filled(&mut routes, Duration::ZERO).len(), 32);
        let (last, _) = routes.fill(Duration::ZERO, &mut Buffers::default()).unwrap();
        let commands: Vec<u8> = last.as_chunks::<CELL_BYTES>().0.iter().map(|cell| cell[4]).collect();
        assert_eq!(commands, [1, 1, 1, 1, 1, 1, 1, 1, Command::Destroy as u8]);
        assert!(!routes.contains(1));
    }
}
