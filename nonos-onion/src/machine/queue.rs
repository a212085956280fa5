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
/// An empty queue that had more room than this gives it back.
const KEEP_BYTES: usize = 64 * 1024;

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
    cells: VecDeque<u8>,
    /// Cells sent, each worth more the later it was.
    activity: f64,
}

impl Route {
    pub(super) fn queued(&self) -> usize {
        self.cells.len() / CELL_BYTES
    }

    fn push(&mut self, id: u32, command: Command, body: &Body) {
        self.cells.extend(&cell::header(id, command));
        self.cells.extend(body);
    }

    fn move_cell(&mut self, buffer: &mut Vec<u8>) {
        let (front, back) = self.cells.as_slices();
        let from_front = front.len().min(CELL_BYTES);
        buffer.extend_from_slice(front.get(..from_front).unwrap_or_default());
        buffer.extend_from_slice(back.get(..CELL_BYTES - from_front).unwrap_or_default());
        self.cells.drain(..CELL_BYTES.min(self.cells.len()));
        if self.cells.is_empty() && self.cells.capacity() > KEEP_BYTES {
            self.cells = VecDeque::new();
        }
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
    /// Cells that wait.
    queued: usize,
}

impl Routes {
    pub(super) fn new(now: Duration) -> Self {
        Self {
            routes: BTreeMap::new(),
            turns: BTreeSet::new(),
            refusals: VecDeque::new(),
            origin: now,
            queued: 0,
        }
    }

    /// Whether an id is taken, be it by a circuit whose last cells leave.
    pub(super) fn contains(&self, id: u32) -> bool {
        self.routes.contains_key(&id)
    }

    /// The circuit of an id and where the link leads.
    pub(super) fn end(&self, id: u32) -> Option<(LocalCircuitId, Side)> {
        self.routes.get(&id)?.end
    }

    pub(super) fn ends(&self) -> impl Iterator<Item = (LocalCircuitId, Side)> {
        self.routes.values().filter_map(|route| route.end)
    }

    /// The cells that wait of each circuit.
    pub(super) fn loads(&self) -> impl Iterator<Item = (LocalCircuitId, usize)> {
        self.routes.values().filter_map(|route| Some((route.end?.0, route.queued())))
    }

    pub(super) const fn queued(&self) -> usize {
        self.queued
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.turns.is_empty() && self.refusals.is_empty()
    }

    pub(super) fn insert(&mut self, id: u32, circuit: LocalCircuitId, side: Side) {
        let route = Route { end: Some((circuit, side)), cells: VecDeque::new(), activity: 0.0 };
        self.routes.insert(id, route);
    }

    /// Queues a cell unless so many wait already, or there is no such route.
    pub(super) fn push(&mut self, id: u32, command: Command, body: &Body, limit: usize) -> Option<bool> {
        let route = self.routes.get_mut(&id).filter(|route| route.end.is_some())?;
        if route.queued() >= limit {
            return Some(false);
        }
        route.push(id, command, body);
        self.queued += 1;
        self.turns.insert(route.turn(id));
        Some(true)
    }

    /// Takes a circuit off its id. What waits still goes out before a DESTROY that says it is finished;
    /// before any other it is dropped, and so it is without one. Yields whether there was one.
    pub(super) fn end_route(&mut self, id: u32, tell: Option<DestroyReason>) -> bool {
        let Some(route) = self.routes.get_mut(&id).filter(|route| route.end.is_some()) else { return false };
        route.end = None;
        let turn = route.turn(id);
        if tell != Some(DestroyReason::Finished) {
            self.queued -= route.queued();
            route.cells = VecDeque::new();
        }
        match tell {
            Some(reason) => {
                let mut body = [0; cell::BODY_BYTES];
                cell::write_reason(&mut body, reason);
                route.push(id, Command::Destroy, &body);
                self.queued += 1;
                self.turns.insert(turn);
            }
            None => {
                self.turns.remove(&turn);
                self.routes.remove(&id);
            }
        }
        true
    }

    /// Answers a CREATE that gets no circuit, unless too many such answers wait.
    pub(super) fn refuse(&mut self, id: u32) {
        if self.refusals.len() < REFUSAL_CELLS {
            self.refusals.push_back(id);
        }
    }

    /// Fills a buffer with the cells whose turn it is.
    pub(super) fn fill(&mut self, now: Duration, buffer: &mut Vec<u8>) {
        while buffer.len() < BUFFER_BYTES
            && let Some(id) = self.refusals.pop_front()
        {
            let mut body = [0; cell::BODY_BYTES];
            cell::write_reason(&mut body, DestroyReason::Busy);
            buffer.extend_from_slice(&cell::header(id, Command::Destroy));
            buffer.extend_from_slice(&body);
        }
        let worth = self.worth(now);
        while buffer.len() < BUFFER_BYTES
            && let Some((_, id)) = self.turns.pop_first()
        {
            let next = self.turns.first().copied();
            let Some(route) = self.routes.get_mut(&id) else { continue };
            while buffer.len() < BUFFER_BYTES
                && !route.cells.is_empty()
                && next.is_none_or(|next| route.turn(id) <= next)
            {
                route.move_cell(buffer);
                route.activity += worth;
                self.queued -= 1;
            }
            if !route.cells.is_empty() {
                self.turns.insert(route.turn(id));
            } else if route.end.is_none() {
                self.routes.remove(&id);
            }
        }
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
            if !route.cells.is_empty() {
                self.turns.insert(route.turn(id));
            }
        }
        1.0
    }
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

    fn push(routes: &mut Routes, id: u32, cells: usize) {
        for _ in 0..cells {
            assert_eq!(routes.push(id, Command::Relay, &[1; cell::BODY_BYTES], LIMIT), Some(true));
        }
    }

    /// The circuits of the cells of one buffer, in order.
    fn filled(routes: &mut Routes, now: Duration) -> Vec<u32> {
        let mut buffer = Vec::new();
        routes.fill(now, &mut buffer);
        let (cells, rest) = buffer.as_chunks::<CELL_BYTES>();
        assert!(rest.is_empty());
        cells.iter().map(|cell| u32::from_be_bytes(*cell.first_chunk().unwrap())).collect()
    }

    #[test]
    fn who_sent_least_of_late_goes_first() {
        let mut routes = routes(&[1, 9]);
        push(&mut routes, 1, 40);
        assert_eq!(filled(&mut routes, Duration::ZERO), [1; 32]);
        push(&mut routes, 9, 2);
        assert_eq!(filled(&mut routes, Duration::ZERO), [9, 9, 1, 1, 1, 1, 1, 1, 1, 1]);
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
        assert_eq!((routes.queued(), routes.is_idle()), (0, true));
    }

    #[test]
    fn queues_and_refusals_are_bounded() {
        let mut routes = routes(&[1]);
        push(&mut routes, 1, LIMIT);
        assert_eq!(routes.push(1, Command::Relay, &[1; cell::BODY_BYTES], LIMIT), Some(false));
        assert_eq!(routes.push(2, Command::Relay, &[1; cell::BODY_BYTES], LIMIT), None);
        (0..2 * REFUSAL_CELLS).for_each(|_| routes.refuse(7));
        assert_eq!((routes.queued(), routes.refusals.len()), (LIMIT, REFUSAL_CELLS));
        assert_eq!(filled(&mut routes, Duration::ZERO), [7; 32], "answers go first");
        assert!(routes.end_route(1, Some(DestroyReason::Queue)));
        assert_eq!((routes.queued(), routes.end(1), routes.contains(1)), (1, None, true));
        assert!(!routes.end_route(1, None));
        while !routes.is_idle() {
            filled(&mut routes, Duration::ZERO);
        }
        assert!(!routes.contains(1));
    }
}
