//! The protocol machine: circuits of this node and of others, without I/O.

mod client;
mod event;
mod links;
mod padding;
mod queue;
mod relay;
mod streams;
mod transit;

use core::fmt;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use nonos_identity::{Epoch, NodeId, Timestamp};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

use crate::cell::{BODY_BYTES, Body, CELL_BYTES, Cell, CellError, Command, DestroyReason};
use crate::circuit::{Closed, LocalCircuitId, StreamId};
use crate::config::{Config, ConfigError};
use crate::epoch::EpochKeys;
use crate::machine::client::Client;
use crate::machine::links::{Bucket, Link};
use crate::machine::padding::Passed;
use crate::machine::queue::{Buffers, Side};
use crate::machine::relay::Relay;
use crate::message::{Kind, Message};
use crate::mux::Mux;

pub use crate::machine::event::{Input, LinkId, Now, Output};
pub use crate::machine::streams::StreamRead;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// Keys come and go.
    Keys,
    /// The circuit's epoch and grace are over.
    Expiry(LocalCircuitId),
    /// A handshake takes too long.
    Hop(LocalCircuitId),
    /// A stream is not answered.
    Stream(StreamId),
}

enum Circuit {
    Client(Box<Client>),
    Relay(Box<Relay>),
    /// It is gone, but of some streams all bytes had come and are still to be read.
    Ended(Box<Mux>),
}

impl Circuit {
    const fn mux(&self) -> &Mux {
        match self {
            Self::Client(client) => &client.mux,
            Self::Relay(relay) => &relay.mux,
            Self::Ended(mux) => mux,
        }
    }

    const fn mux_mut(&mut self) -> &mut Mux {
        match self {
            Self::Client(client) => &mut client.mux,
            Self::Relay(relay) => &mut relay.mux,
            Self::Ended(mux) => mux,
        }
    }
}

/// The circuits of a node: as client, as relay and as destination.
///
/// After each call, take outputs until [`Self::poll`] has none; calling
/// again before that is safe. Streams move bytes through [`Self::write`] and [`Self::read`] rather
/// than through inputs and outputs, so that a byte is copied once and the window is visible to
/// the caller.
pub struct Machine {
    config: Config,
    keys: EpochKeys,
    rng: ChaCha20Rng,
    now: Duration,
    monotonic: Duration,
    links: BTreeMap<LinkId, Link>,
    peers: BTreeMap<NodeId, LinkId>,
    opening: BTreeMap<NodeId, Vec<LocalCircuitId>>,
    circuits: BTreeMap<LocalCircuitId, Circuit>,
    next_circuit: u64,
    timers: BTreeSet<(Duration, Timer)>,
    /// Circuits that may be due a DROP, by the monotonic clock.
    paddings: BTreeSet<(Duration, LocalCircuitId)>,
    /// Bytes of buffers with cells that wait for links.
    queued: usize,
    /// Bytes of streams received and not read.
    buffered: usize,
    /// Links with queued cells and a free buffer.
    ready: VecDeque<LinkId>,
    outputs: VecDeque<Output>,
    spare: Buffers,
    writable: Vec<u16>,
    /// What the CREATEs of all links take.
    creates: Bucket,
    /// Own circuits that seek what solves the puzzles of their next message, in turn.
    solving: VecDeque<LocalCircuitId>,
    #[cfg(any(test, feature = "testing"))]
    opened_messages: Vec<Vec<u8>>,
    #[cfg(any(test, feature = "testing"))]
    handshakes: u64,
}

impl Machine {
    /// A machine with its keys; `seed` is fresh randomness.
    ///
    /// # Errors
    /// [`ConfigError`] if the limits do not work together.
    pub fn new(
        config: Config,
        keys: EpochKeys,
        now: impl Into<Now>,
        seed: [u8; 32],
    ) -> Result<Self, ConfigError> {
        config.limits.check()?;
        let all_creates = config.limits.all_creates_per_second;
        let Now { wall, monotonic } = now.into();
        let mut machine = Self {
            config,
            keys,
            rng: ChaCha20Rng::from_seed(seed),
            now: wall,
            monotonic,
            links: BTreeMap::new(),
            peers: BTreeMap::new(),
            opening: BTreeMap::new(),
            circuits: BTreeMap::new(),
            next_circuit: 1,
            timers: BTreeSet::new(),
            paddings: BTreeSet::new(),
            queued: 0,
            buffered: 0,
            ready: VecDeque::new(),
            outputs: VecDeque::new(),
            spare: Buffers::default(),
            writable: Vec::new(),
            creates: Bucket::full(all_creates, wall),
            solving: VecDeque::new(),
            #[cfg(any(test, feature = "testing"))]
            opened_messages: Vec::new(),
            #[cfg(any(test, feature = "testing"))]
            handshakes: 0,
        };
        machine.renew_keys();
        Ok(machine)
    }

    /// Takes an input.
    pub fn handle(&mut self, now: impl Into<Now>, input: Input) {
        self.set_time(now);
        match input {
            Input::LinkUp { link, peer, opened } => self.link_up(link, peer, opened),
            Input::LinkFailed { peer } => self.link_failed(peer),
            Input::LinkDown { link } => self.link_down(link),
            Input::Cells { link, bytes } => self.cells(link, bytes),
            Input::Sent { link, buffer } => self.sent(link, buffer),
            Input::Tick => self.solve(),
        }
    }

    /// The next output.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front().or_else(|| self.next_cells())
    }

    /// When [`Input::Tick`] is due.
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        if !self.solving.is_empty() {
            return Some(self.now);
        }
        let padding = self.paddings.first().map(|&(at, _)| self.now + at.saturating_sub(self.monotonic));
        self.timers.first().map(|&(at, _)| at).into_iter().chain(padding).min()
    }

    /// This node's public onion key of an epoch, if it holds the secret.
    #[must_use]
    pub fn onion_key(&self, epoch: Epoch) -> Option<[u8; 32]> {
        self.keys.onion_key(epoch)
    }

    /// A counter of the cells of an own circuit, both directions; it goes on counting by itself.
    #[must_use]
    pub fn cell_counter(&self, circuit: LocalCircuitId) -> Option<Arc<AtomicU64>> {
        match self.circuits.get(&circuit) {
            Some(Circuit::Client(client)) => Some(Arc::clone(&client.cells)),
            _ => None,
        }
    }

    /// Bytes held for all circuits: buffers of cells that wait for links, and streams that are not read. What
    /// [`Limits::memory_bytes`](crate::Limits::memory_bytes) bounds.
    #[must_use]
    pub const fn held_bytes(&self) -> usize {
        self.queued + self.buffered
    }

    /// Every message this node has opened as a hop: all that it read beyond headers.
    #[cfg(any(test, feature = "testing"))]
    #[must_use]
    pub fn opened_messages(&self) -> &[Vec<u8>] {
        &self.opened_messages
    }

    /// Handshakes this node has begun as a hop: X25519 twice, and ML-KEM if it goes on.
    #[cfg(any(test, feature = "testing"))]
    #[must_use]
    pub const fn handshakes(&self) -> u64 {
        self.handshakes
    }

    /// Circuits, own and of others.
    #[cfg(any(test, feature = "testing"))]
    #[must_use]
    pub fn circuits(&self) -> usize {
        self.circuits.len()
    }

    /// Streams of all circuits.
    #[cfg(any(test, feature = "testing"))]
    #[must_use]
    pub fn streams(&self) -> usize {
        self.circuits.values().map(|circuit| circuit.mux().len()).sum()
    }

    fn set_time(&mut self, now: impl Into<Now>) {
        let Now { wall, monotonic } = now.into();
        self.now = self.now.max(wall);
        self.monotonic = self.monotonic.max(monotonic);
        while let Some(&(at, timer)) = self.timers.first() {
            if at > self.now {
                break;
            }
            self.timers.pop_first();
            match timer {
                Timer::Keys => self.renew_keys(),
                Timer::Expiry(circuit) => self.expire(circuit),
                Timer::Hop(circuit) => self.hop_timed_out(circuit),
                Timer::Stream(stream) => self.stream_timed_out(stream),
            }
        }
        self.pad();
    }

    fn wall(&self) -> Timestamp {
        Timestamp::from_secs(self.now.as_secs())
    }

    fn renew_keys(&mut self) {
        let (wall, grace) = (self.wall(), self.config.limits.epoch_grace);
        self.keys.advance(wall, grace);
        let epoch = Epoch::at(wall);
        // The end of the previous epoch's grace, or the next epoch.
        let wipe = epoch.start().saturating_add(grace);
        let at = if wall < wipe { wipe.min(epoch.end()) } else { epoch.end() };
        self.timers.insert((Duration::from_secs(at.as_secs()), Timer::Keys));
    }

    /// When circuits of an epoch die.
    fn expiry_of(&self, epoch: Epoch) -> Duration {
        Duration::from_secs(epoch.end().saturating_add(self.config.limits.epoch_grace).as_secs())
    }

    fn draw_seed(&mut self) -> [u8; 32] {
        let mut seed = [0; 32];
        self.rng.fill_bytes(&mut seed);
        seed
    }

    fn new_circuit_id(&mut self) -> LocalCircuitId {
        let id = LocalCircuitId(self.next_circuit);
        self.next_circuit += 1;
        id
    }

    fn cells(&mut self, link: LinkId, mut bytes: Vec<u8>) {
        let (cells, rest) = bytes.as_chunks_mut::<CELL_BYTES>();
        let mut fault = !rest.is_empty();
        for cell in cells {
            if self.cell(link, cell).is_err() {
                fault = true;
                break;
            }
        }
        if fault && self.links.contains_key(&link) {
            self.link_down(link);
            self.outputs.push_back(Output::CloseLink { link });
        }
        self.spare.give_back(bytes);
    }

    fn cell(&mut self, link: LinkId, bytes: &mut [u8; CELL_BYTES]) -> Result<(), CellError> {
        let cell = Cell::parse(bytes)?;
        let Some(entry) = self.links.get(&link) else { return Ok(()) };
        let route = entry.routes.end(cell.circuit);
        match (cell.command, route) {
            (Command::Create, _) => self.on_create(link, cell.circuit, route, cell.body),
            // What arrives for a circuit that is gone was on its way when it went.
            (_, None) => Ok(()),
            (Command::Relay, Some((circuit, side))) => {
                self.on_relay(circuit, side, cell.body);
                Ok(())
            }
            (Command::Created, Some((circuit, side))) => self.on_created(circuit, side, cell.body),
            (Command::Destroy, Some((circuit, side))) => self.on_destroy(circuit, side, cell.body),
            (Command::Ack, Some((circuit, side))) => self.on_ack(circuit, side, cell.body),
        }
    }

    fn on_relay(&mut self, circuit: LocalCircuitId, side: Side, body: &mut Body) {
        let Some(entry) = self.circuits.get_mut(&circuit) else { return };
        let is_counted = entry.is_counted();
        match entry {
            Circuit::Relay(_) => self.relay_cell(circuit, side, body, is_counted),
            Circuit::Client(_) => self.client_cell(circuit, body),
            Circuit::Ended(_) => {}
        }
        if is_counted {
            self.release_acks(circuit);
        }
    }

    fn on_created(&mut self, circuit: LocalCircuitId, side: Side, body: &Body) -> Result<(), CellError> {
        match self.circuits.get_mut(&circuit) {
            Some(Circuit::Relay(_)) if side == Side::Next => self.relay_created(circuit, body),
            Some(Circuit::Client(_)) => self.client_created(circuit, body),
            _ => Err(CellError),
        }
    }

    fn on_destroy(&mut self, circuit: LocalCircuitId, side: Side, body: &Body) -> Result<(), CellError> {
        let reason = crate::cell::read_reason(body)?;
        match self.circuits.get(&circuit) {
            // The first hop passes on what any hop has said.
            Some(Circuit::Client(client)) if !client.is_built() => self.build_failed(circuit, reason),
            _ => self.side_lost(circuit, side, reason),
        }
        Ok(())
    }

    /// A circuit cannot go on to one side: a DESTROY came from there, or the link is gone.
    fn side_lost(&mut self, circuit: LocalCircuitId, side: Side, reason: DestroyReason) {
        match (self.circuits.get(&circuit), side) {
            (Some(Circuit::Relay(_)), Side::Prev) => self.close_relay(circuit, reason, false, true),
            (Some(Circuit::Relay(_)), Side::Next) => self.truncate(circuit, reason),
            (Some(Circuit::Client(_)), _) => {
                self.close_client(circuit, Closed { reason, blamed: Some(0) }, false);
            }
            (Some(Circuit::Ended(_)) | None, _) => {}
        }
    }

    fn expire(&mut self, circuit: LocalCircuitId) {
        let reason = DestroyReason::Expired;
        match self.circuits.get(&circuit) {
            Some(Circuit::Relay(_)) => self.close_relay(circuit, reason, true, true),
            Some(Circuit::Client(_)) => self.close_client(circuit, Closed { reason, blamed: None }, true),
            Some(Circuit::Ended(_)) | None => {}
        }
    }

    fn hop_timed_out(&mut self, circuit: LocalCircuitId) {
        let reason = DestroyReason::Timeout;
        match self.circuits.get(&circuit) {
            Some(Circuit::Relay(relay)) if relay.layer.is_some() => self.truncate(circuit, reason),
            Some(Circuit::Relay(_)) => self.close_relay(circuit, reason, true, true),
            Some(Circuit::Client(client)) if client.awaits_all() => self.rebuild(circuit),
            Some(Circuit::Client(client)) => {
                // Nobody but this node is slow at a puzzle.
                let blamed = (!client.is_solving()).then_some(client.layers.len());
                self.close_client(circuit, Closed { reason, blamed }, true);
            }
            Some(Circuit::Ended(_)) | None => {}
        }
    }

    /// Ends a circuit because of what came over it, towards both sides.
    fn fail(&mut self, circuit: LocalCircuitId, reason: DestroyReason, blamed: Option<usize>) {
        match self.circuits.get(&circuit) {
            Some(Circuit::Relay(_)) => self.close_relay(circuit, reason, true, true),
            Some(Circuit::Client(_)) => self.close_client(circuit, Closed { reason, blamed }, true),
            Some(Circuit::Ended(_)) => self.forget_ended(circuit),
            None => {}
        }
    }

    /// Drops what is left to read of a circuit that is gone: the quota is used up.
    fn forget_ended(&mut self, circuit: LocalCircuitId) {
        let Some(Circuit::Ended(mux)) = self.circuits.remove(&circuit) else { return };
        self.buffered -= mux.buffered();
        let reset = mux.streams().map(|number| Output::Reset { stream: StreamId { circuit, number } });
        self.outputs.extend(reset);
    }

    /// Makes a cell of this node's own: as a client for hop `hop`, else for the client. Yields the
    /// tag that the other end will echo, or `None` if the circuit is gone.
    fn originate(&mut self, circuit: LocalCircuitId, hop: usize, message: Message<'_>) -> Option<[u8; 16]> {
        let mut body = [0; BODY_BYTES];
        message.write(&mut body);
        let entry = self.circuits.get_mut(&circuit)?;
        let is_counted = entry.is_counted();
        let (tag, link, id) = match entry {
            Circuit::Client(client) => client.originate(hop, &mut body)?,
            Circuit::Relay(relay) => relay.originate(&mut body)?,
            Circuit::Ended(_) => return None,
        };
        let sent = self.push(circuit, link, id, Command::Relay, &body).then_some(tag);
        if is_counted {
            if message.kind != Kind::Drop {
                self.padded_cell(circuit, Passed::Sent);
            }
            self.release_acks(circuit);
        }
        sent
    }

    /// Does something to the streams of a circuit and books what they then hold.
    fn with_mux<T>(&mut self, circuit: LocalCircuitId, work: impl FnOnce(&mut Mux) -> T) -> Option<T> {
        let mux = self.circuits.get_mut(&circuit)?.mux_mut();
        let before = mux.buffered();
        let result = work(mux);
        self.buffered = self.buffered + mux.buffered() - before;
        if matches!(self.circuits.get(&circuit), Some(Circuit::Ended(mux)) if mux.is_empty()) {
            self.circuits.remove(&circuit);
        }
        Some(result)
    }

    /// Keeps the streams of a circuit that is gone, as far as they had come to their end.
    fn keep_ended(&mut self, circuit: LocalCircuitId, mut mux: Mux, reason: DestroyReason) {
        let before = mux.buffered();
        mux.keep_ended();
        // What is closed to free memory frees it.
        if mux.is_empty() || reason == DestroyReason::Busy {
            self.buffered -= before;
            return;
        }
        self.buffered = self.buffered + mux.buffered() - before;
        let stopped = mux.streams().map(|number| Output::Stopped { stream: StreamId { circuit, number } });
        self.outputs.extend(stopped);
        self.circuits.insert(circuit, Circuit::Ended(Box::new(mux)));
    }

    /// The hop that streams end at, as this node originates for it.
    fn last_hop(&self, circuit: LocalCircuitId) -> usize {
        match self.circuits.get(&circuit) {
            Some(Circuit::Client(client)) => client.layers.len().saturating_sub(1),
            _ => 0,
        }
    }

    /// Sends a message longer than a cell in fragments.
    fn originate_all(&mut self, circuit: LocalCircuitId, hop: usize, kind: Kind, data: &[u8]) {
        let chunks = data.chunks(crate::message::DATA_BYTES);
        let count = chunks.len();
        for (i, data) in chunks.enumerate() {
            self.originate(circuit, hop, Message { stream: 0, kind, more: i + 1 < count, data });
        }
    }
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Machine")
            .field("links", &self.links.len())
            .field("circuits", &self.circuits.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
