use core::time::Duration;

use nonos_identity::NodeId;
use rand_chacha::rand_core::Rng as _;

use super::queue::{BUFFER_BYTES, Routes, Side, Unqueued, greatest_first};
use super::{Circuit, Input, LinkId, Machine, Output};
use crate::cell::{BODY_BYTES, Body, Command, DestroyReason, Fragment};
use crate::circuit::{Closed, LocalCircuitId};

/// Buffers a driver may hold per link: one in the socket, one behind it.
const BUFFERS_IN_FLIGHT: u32 = 2;
/// The high bit of a circuit id: made by the end that opened the link.
const OPENER_BIT: u32 = 1 << 31;

pub(super) struct Link {
    pub(super) peer: NodeId,
    opened: bool,
    pub(super) routes: Routes,
    /// Circuits that the peer created over it.
    pub(super) created: usize,
    in_flight: u32,
    scheduled: bool,
    /// What CREATEs take, and those that solve a puzzle.
    pub(super) creates: Bucket,
    pub(super) puzzled: Bucket,
}

impl Link {
    /// Whether the id is one that the peer may choose.
    pub(super) const fn is_peers(&self, id: u32) -> bool {
        (id & OPENER_BIT != 0) != self.opened
    }
}

/// Tokens that come at a rate.
pub(super) struct Bucket {
    /// In billionths.
    tokens: u128,
    /// When they were counted.
    counted: Duration,
}

impl Bucket {
    const TOKEN: u128 = 1_000_000_000;

    pub(super) fn full(burst: u32, now: Duration) -> Self {
        Self { tokens: u128::from(burst) * Self::TOKEN, counted: now }
    }

    /// Takes a token.
    pub(super) fn take(&mut self, now: Duration, per_second: u32, burst: u32) -> bool {
        let since = now.saturating_sub(self.counted);
        self.counted = now;
        let most = u128::from(burst) * Self::TOKEN;
        self.tokens = (self.tokens + since.as_nanos() * u128::from(per_second)).min(most);
        match self.tokens.checked_sub(Self::TOKEN) {
            Some(rest) => {
                self.tokens = rest;
                true
            }
            None => false,
        }
    }
}

impl Machine {
    pub(super) fn link_up(&mut self, id: LinkId, peer: NodeId, opened: bool) {
        if self.links.len() >= self.config.limits.links || self.links.contains_key(&id) {
            self.outputs.push_back(Output::CloseLink { link: id });
            if opened {
                self.link_failed(peer);
            }
            return;
        }
        let link = Link {
            peer,
            opened,
            routes: Routes::new(self.monotonic),
            created: 0,
            in_flight: 0,
            scheduled: false,
            creates: Bucket::full(self.config.limits.create_burst, self.now),
            puzzled: Bucket::full(self.config.limits.puzzled_create_burst, self.now),
        };
        self.links.insert(id, link);
        self.peers.insert(peer, id);
        for circuit in self.opening.remove(&peer).unwrap_or_default() {
            match self.circuits.get(&circuit) {
                Some(Circuit::Client(_)) => self.next_create(circuit),
                Some(Circuit::Relay(_)) => self.relay_next_hop(circuit, id),
                Some(Circuit::Ended(_)) | None => {}
            }
        }
    }

    pub(super) fn link_failed(&mut self, peer: NodeId) {
        let reason = DestroyReason::Unreachable;
        for circuit in self.opening.remove(&peer).unwrap_or_default() {
            match self.circuits.get(&circuit) {
                Some(Circuit::Client(_)) => {
                    self.close_client(circuit, Closed { reason, blamed: Some(0) }, false);
                }
                Some(Circuit::Relay(_)) => self.truncate(circuit, reason),
                Some(Circuit::Ended(_)) | None => {}
            }
        }
    }

    pub(super) fn link_down(&mut self, id: LinkId) {
        let Some(link) = self.links.remove(&id) else { return };
        if self.peers.get(&link.peer) == Some(&id) {
            let other = self.links.iter().find(|(_, other)| other.peer == link.peer).map(|(&id, _)| id);
            match other {
                Some(other) => self.peers.insert(link.peer, other),
                None => self.peers.remove(&link.peer),
            };
        }
        self.queued -= link.routes.held_bytes();
        for (circuit, side) in link.routes.ends() {
            self.side_lost(circuit, side, DestroyReason::LinkLost);
        }
    }

    pub(super) fn sent(&mut self, id: LinkId, buffer: Vec<u8>) {
        self.spare.give_back(buffer);
        if let Some(link) = self.links.get_mut(&id) {
            link.in_flight = link.in_flight.saturating_sub(1);
        }
        self.schedule(id);
    }

    /// The next buffer of the next link that can take one.
    pub(super) fn next_cells(&mut self) -> Option<Output> {
        while let Some(id) = self.ready.pop_front() {
            let Some(link) = self.links.get_mut(&id) else { continue };
            link.scheduled = false;
            let Some((bytes, freed)) = link.routes.fill(self.monotonic, &mut self.spare) else { continue };
            self.queued -= freed;
            link.in_flight += 1;
            self.schedule(id);
            return Some(Output::Cells { link: id, bytes });
        }
        None
    }

    /// A link to a peer, or `None` after asking for one on behalf of the circuit.
    pub(super) fn link_to(&mut self, peer: NodeId, circuit: LocalCircuitId) -> Option<LinkId> {
        if let Some(&link) = self.peers.get(&peer) {
            return Some(link);
        }
        let waiting = self.opening.entry(peer).or_default();
        if waiting.is_empty() {
            self.outputs.push_back(Output::OpenLink { relay: peer });
        }
        waiting.push(circuit);
        None
    }

    /// Sends a CREATE under a fresh circuit id; yields the id, or `None` if the link is gone.
    pub(super) fn send_create(
        &mut self,
        circuit: LocalCircuitId,
        link: LinkId,
        side: Side,
        message: &[u8],
    ) -> Option<u32> {
        let entry = self.links.get_mut(&link)?;
        let bit = if entry.opened { OPENER_BIT } else { 0 };
        let id = loop {
            let id = (self.rng.next_u32() & !OPENER_BIT) | bit;
            if id != 0 && !entry.routes.contains(id) {
                break id;
            }
        };
        entry.routes.insert(id, circuit, side);
        self.send_fragments(circuit, link, id, Command::Create, message);
        Some(id)
    }

    pub(super) fn send_fragments(
        &mut self,
        circuit: LocalCircuitId,
        link: LinkId,
        id: u32,
        command: Command,
        message: &[u8],
    ) {
        let mut body = [0; BODY_BYTES];
        for fragment in Fragment::of(message) {
            fragment.write(&mut body);
            self.push(circuit, link, id, command, &body);
        }
    }

    /// Queues a cell. A circuit with more cells than any honest window allows ends instead, and
    /// this yields `false`.
    pub(super) fn push(
        &mut self,
        circuit: LocalCircuitId,
        link: LinkId,
        id: u32,
        command: Command,
        body: &Body,
    ) -> bool {
        let limit = self.config.limits.circuit_queue_cells as usize;
        let Some(entry) = self.links.get_mut(&link) else { return false };
        match entry.routes.push(id, command, body, limit, &mut self.spare) {
            Ok(grown) => {
                self.queued += grown;
                self.schedule(link);
                // The circuit itself may be among those that ended.
                !self.keep_quota() || self.circuits.contains_key(&circuit)
            }
            Err(Unqueued::Full) => {
                self.fail(circuit, DestroyReason::Queue, None);
                false
            }
            Err(Unqueued::NoRoute) => false,
        }
    }

    /// Ends circuits, those that hold most first, until an eighth of the quota is free again. Peers can
    /// fill it only by circuits that send faster than somebody takes, or are not read. Yields whether any had to.
    pub(super) fn keep_quota(&mut self) -> bool {
        let quota = self.config.limits.memory_bytes;
        let held = self.held_bytes();
        if held <= quota {
            return false;
        }
        let queued = self.links.values().flat_map(|link| link.routes.loads());
        let unread = self.circuits.iter().map(|(&id, circuit)| (id, circuit.mux().buffered()));
        let mut excess = held - (quota - quota / 8);
        for (circuit, bytes) in greatest_first(queued.chain(unread)) {
            self.fail(circuit, DestroyReason::Busy, None);
            excess = excess.saturating_sub(bytes);
            if excess == 0 {
                break;
            }
        }
        true
    }

    /// Ends a circuit id of a link: tells the peer if `tell`, and forgets the route.
    pub(super) fn drop_route(&mut self, link: LinkId, id: u32, reason: DestroyReason, tell: bool) {
        let Some(entry) = self.links.get_mut(&link) else { return };
        let theirs = entry.is_peers(id);
        let Some((held, before)) = entry.routes.end_route(id, tell.then_some(reason), &mut self.spare) else {
            return;
        };
        if theirs {
            entry.created = entry.created.saturating_sub(1);
        }
        self.queued = self.queued + held - before;
        self.schedule(link);
    }

    /// Answers a CREATE that gets no circuit.
    pub(super) fn refuse_create(&mut self, link: LinkId, id: u32) {
        if let Some(entry) = self.links.get_mut(&link) {
            entry.routes.refuse(id);
        }
        self.schedule(link);
    }

    fn schedule(&mut self, id: LinkId) {
        let Some(link) = self.links.get_mut(&id) else { return };
        if !link.scheduled && link.in_flight < BUFFERS_IN_FLIGHT && !link.routes.is_idle() {
            link.scheduled = true;
            self.ready.push_back(id);
        }
    }
}

impl Input {
    /// The size of a link's buffers, in bytes; a reader that uses it lets them be reused.
    pub const BUFFER_BYTES: usize = BUFFER_BYTES;
}
