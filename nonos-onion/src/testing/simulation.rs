use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use nonos_identity::{Epoch, NetworkId, NodeId, Timestamp};
use zeroize::Zeroizing;

use crate::cell::CELL_BYTES;
use crate::circuit::{LocalCircuitId, StreamId};
use crate::config::Config;
use crate::descriptor::RelayDescriptor;
use crate::epoch::EpochKeys;
use crate::machine::{Input, LinkId, Machine, Output};

/// What a link does to the bytes of one direction. Links are reliable, as those of a mesh are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkShape {
    /// Time from one end to the other.
    pub latency: Duration,
    /// Bytes that leave per second.
    pub bytes_per_second: u64,
}

/// What a relay, or whoever holds a link inside its encryption, does to one cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It never arrives.
    Drop,
    /// A bit of the byte at this offset is flipped.
    Flip(usize),
    /// It arrives twice.
    Repeat,
    /// It arrives after the one that follows.
    Swap,
    /// One of the circuit's earlier cells arrives in its place.
    Replay,
}

/// Machines joined by links of a given latency and rate, under a time of its own: the same calls give the
/// same cells at the same instants, however slow the computer is.
///
/// Nodes are numbered from 0. Streams are accepted, and read at once unless [`Self::stall`] or [`Self::lend`]
/// says otherwise.
#[derive(Debug)]
pub struct Simulation {
    nodes: Vec<Node>,
    shape: LinkShape,
    shapes: BTreeMap<(usize, usize), LinkShape>,
    faults: BTreeMap<(usize, usize), Meddler>,
    /// When a direction of a link has sent what it was given.
    free_at: BTreeMap<(usize, usize), Duration>,
    now: Duration,
    events: BTreeMap<(Duration, u64), Event>,
    next_event: u64,
}

#[derive(Debug)]
struct Node {
    machine: Machine,
    /// What is not about links and streams, in order.
    outputs: Vec<Output>,
    /// Streams that send without end.
    sources: BTreeSet<StreamId>,
    stalled: bool,
    /// Its streams are the caller's.
    is_lent: bool,
    is_dead: bool,
    /// Streams offered to it, by the order of their coming.
    offered: Vec<StreamId>,
    /// Bytes read of each stream, and the first of them.
    received: BTreeMap<StreamId, (u64, Vec<u8>)>,
}

/// What is done to the cells of one direction of a link.
#[derive(Debug)]
struct Meddler {
    fault: Fault,
    /// Cells that still pass.
    after: u32,
    first: Option<Vec<u8>>,
    /// One that waits for the next.
    held: Option<Vec<u8>>,
    is_done: bool,
}

impl Meddler {
    fn pass(&mut self, cell: &[u8], out: &mut Vec<u8>) {
        let first = self.first.get_or_insert_with(|| cell.to_vec());
        if self.after > 0 || self.is_done {
            self.after = self.after.saturating_sub(1);
            out.extend_from_slice(cell);
            self.held.take().into_iter().for_each(|held| out.extend(held));
            return;
        }
        self.is_done = true;
        match self.fault {
            Fault::Drop => {}
            Fault::Flip(offset) => {
                let mut cell = cell.to_vec();
                cell.get_mut(offset).into_iter().for_each(|byte| *byte ^= 1);
                out.extend(cell);
            }
            Fault::Repeat => out.extend([cell, cell].concat()),
            Fault::Swap => self.held = Some(cell.to_vec()),
            Fault::Replay => out.extend_from_slice(first),
        }
    }
}

#[derive(Debug)]
enum Event {
    Up { near: usize, far: usize },
    Cells { from: usize, to: usize, bytes: Vec<u8> },
    Sent { from: usize, to: usize, buffer: Vec<u8> },
}

/// Bytes of a stream that are kept.
const KEPT_BYTES: usize = 64 * 1024;

/// Bytes given to a machine at a time.
const CHUNK: [u8; 16 * 1024] = [7; 16 * 1024];

impl Simulation {
    /// So many nodes, all of whose links have one shape.
    ///
    /// # Panics
    /// If the configuration that `adjust` leaves is refused, or with more than 255 nodes.
    #[must_use]
    pub fn new(nodes: usize, shape: LinkShape, adjust: impl Fn(usize, &mut Config)) -> Self {
        let now = Duration::from_secs(Epoch::from_number(1000).start().as_secs());
        let node = |number| {
            let byte = u8::try_from(number).expect("a byte names a node");
            let mut config = Config::new(NetworkId::from_name("simulation"), Self::id_of(number));
            adjust(number, &mut config);
            let keys = EpochKeys::new(Zeroizing::new([byte; 32]), Timestamp::from_secs(now.as_secs()));
            let machine = Machine::new(config, keys, now, [byte; 32]).expect("the limits work together");
            Node {
                machine,
                outputs: Vec::new(),
                sources: BTreeSet::new(),
                stalled: false,
                is_lent: false,
                is_dead: false,
                offered: Vec::new(),
                received: BTreeMap::new(),
            }
        };
        Self {
            nodes: (0..nodes).map(node).collect(),
            shape,
            shapes: BTreeMap::new(),
            faults: BTreeMap::new(),
            free_at: BTreeMap::new(),
            now,
            events: BTreeMap::new(),
            next_event: 0,
        }
    }

    /// Gives one direction of a link a shape of its own.
    pub fn shape(&mut self, from: usize, to: usize, shape: LinkShape) {
        self.shapes.insert((from, to), shape);
    }

    /// Meddles with one cell of a direction of a link, after so many have passed from now on.
    pub fn meddle(&mut self, from: usize, to: usize, fault: Fault, after: u32) {
        let meddler = Meddler { fault, after, first: None, held: None, is_done: false };
        self.faults.insert((from, to), meddler);
    }

    /// A node stops reading its streams.
    pub fn stall(&mut self, node: usize) {
        self.node(node).stalled = true;
    }

    /// The caller reads and writes the streams of a node from now on: [`Self::take_outputs`] tells when.
    pub fn lend(&mut self, node: usize) {
        self.node(node).is_lent = true;
    }

    /// A node is gone, and all its links with it.
    pub fn kill(&mut self, node: usize) {
        self.node(node).is_dead = true;
        let now = self.now;
        for other in (0..self.nodes.len()).filter(|&other| other != node) {
            self.node(other).machine.handle(now, Input::LinkDown { link: link(other, node) });
            self.settle(other);
        }
    }

    /// What a node's machine told since the last time: with [`Self::lend`] about its streams too.
    pub fn take_outputs(&mut self, node: usize) -> Vec<Output> {
        core::mem::take(&mut self.node(node).outputs)
    }

    /// Starts to build a circuit for an epoch, whose [`Output::Built`] or [`Output::Closed`] follows; `None` if
    /// a node has no key of that epoch.
    pub fn start_build(&mut self, path: &[usize], epoch: Epoch) -> Option<LocalCircuitId> {
        let (&client, hops) = path.split_first()?;
        let hops: Option<Vec<_>> = hops.iter().map(|&hop| self.descriptor_of(hop, epoch)).collect();
        let now = self.now;
        let circuit = self.node(client).machine.build(now, &hops?).ok();
        self.settle(client);
        circuit
    }

    /// Starts to open a stream of a node's own circuit, whose [`Output::Opened`] or [`Output::Refused`]
    /// follows; `None` if there is no such circuit.
    pub fn start_open(&mut self, client: usize, circuit: LocalCircuitId) -> Option<StreamId> {
        let now = self.now;
        let stream = self.node(client).machine.open(now, circuit, 80).ok();
        self.settle(client);
        stream
    }

    /// Bytes that a stream takes now; if none, [`Output::Writable`] follows.
    pub fn sendable_bytes(&mut self, node: usize, stream: StreamId) -> usize {
        self.node(node).machine.sendable_bytes(stream)
    }

    /// Moves what a lent node has received of a stream to the end of `out`; yields whether that is all.
    pub fn take(&mut self, node: usize, stream: StreamId, out: &mut Vec<u8>) -> bool {
        let now = self.now;
        let read = self.node(node).machine.read(now, stream, usize::MAX, out);
        self.settle(node);
        read.end
    }

    /// Ends a node's half of a stream.
    pub fn finish(&mut self, node: usize, stream: StreamId) {
        let now = self.now;
        self.node(node).machine.finish(now, stream);
        self.settle(node);
    }

    /// The time of the simulation.
    #[must_use]
    pub const fn now(&self) -> Duration {
        self.now
    }

    /// Builds a circuit from the first of the nodes through the others, and yields it once it is there.
    ///
    /// # Panics
    /// If it is not built within a minute.
    pub fn build(&mut self, path: &[usize]) -> LocalCircuitId {
        let circuit = self.start(path);
        let client = path.first().copied().unwrap_or_default();
        self.run_until(client, |output| *output == Output::Built { circuit });
        circuit
    }

    /// Starts to build a circuit, and does not wait for it.
    ///
    /// # Panics
    /// If it is no path.
    pub fn start(&mut self, path: &[usize]) -> LocalCircuitId {
        let (&client, hops) = path.split_first().expect("a client");
        let hops: Vec<_> = hops.iter().map(|&hop| self.descriptor(hop)).collect();
        let now = self.now;
        let circuit = self.node(client).machine.build(now, &hops).expect("a path");
        self.settle(client);
        circuit
    }

    /// A node's public onion key of this epoch.
    ///
    /// # Panics
    /// If there is no such node.
    #[must_use]
    pub fn onion_key(&self, node: usize) -> [u8; 32] {
        let epoch = Epoch::at(Timestamp::from_secs(self.now.as_secs()));
        let node = self.nodes.get(node).expect("a node of this simulation");
        node.machine.onion_key(epoch).expect("a key of this epoch")
    }

    /// Opens a stream of a node's own circuit.
    ///
    /// # Panics
    /// If it is not open within a minute.
    pub fn open(&mut self, client: usize, circuit: LocalCircuitId) -> StreamId {
        let now = self.now;
        let stream = self.node(client).machine.open(now, circuit, 80).expect("a stream");
        self.settle(client);
        self.run_until(client, |output| *output == Output::Opened { stream });
        stream
    }

    /// Sends on a stream without end, as fast as it takes.
    pub fn send_all(&mut self, node: usize, stream: StreamId) {
        self.node(node).sources.insert(stream);
        self.pump(node, stream);
        self.settle(node);
    }

    /// Sends some bytes, as many as the stream takes now; yields how many.
    pub fn send(&mut self, node: usize, stream: StreamId, bytes: &[u8]) -> usize {
        let now = self.now;
        let sent = self.node(node).machine.write(now, stream, bytes);
        self.settle(node);
        sent
    }

    /// Closes a node's own circuit.
    pub fn close(&mut self, client: usize, circuit: LocalCircuitId) {
        let now = self.now;
        self.node(client).machine.close(now, circuit);
        self.settle(client);
    }

    /// The streams offered to a node so far.
    #[must_use]
    pub fn offered(&self, node: usize) -> &[StreamId] {
        self.nodes.get(node).map_or(&[], |node| &node.offered)
    }

    /// Bytes that a node has read of a stream.
    #[must_use]
    pub fn received(&self, node: usize, stream: StreamId) -> u64 {
        self.nodes.get(node).and_then(|node| node.received.get(&stream)).map_or(0, |(count, _)| *count)
    }

    /// The first 64 KiB that a node has read of a stream.
    #[must_use]
    pub fn received_bytes(&self, node: usize, stream: StreamId) -> &[u8] {
        self.nodes.get(node).and_then(|node| node.received.get(&stream)).map_or(&[], |(_, bytes)| bytes)
    }

    /// Bytes that a node holds for all its circuits: cells that wait for links, and streams not read.
    #[must_use]
    pub fn held_bytes(&self, node: usize) -> usize {
        self.nodes.get(node).map_or(0, |node| node.machine.held_bytes())
    }

    /// What a node's machine told, but for what is about links and streams.
    #[must_use]
    pub fn outputs(&self, node: usize) -> &[Output] {
        self.nodes.get(node).map_or(&[], |node| &node.outputs)
    }

    /// Puts cells on a link as if a node had sent them.
    pub fn inject(&mut self, from: usize, to: usize, cells: &[u8]) {
        self.transmit(from, to, cells);
    }

    /// Asks for a stream of a node's own circuit, and does not wait for an answer.
    pub fn begin(&mut self, client: usize, circuit: LocalCircuitId) {
        let now = self.now;
        let _ = self.node(client).machine.open(now, circuit, 80);
        self.settle(client);
    }

    /// Circuits that a node has, own and of others.
    #[must_use]
    pub fn circuits(&self, node: usize) -> usize {
        self.nodes.get(node).map_or(0, |node| node.machine.circuits())
    }

    /// Streams of all circuits of a node.
    #[must_use]
    pub fn streams(&self, node: usize) -> usize {
        self.nodes.get(node).map_or(0, |node| node.machine.streams())
    }

    /// Cells and DROPs that a node sent, and received, of each of its padded circuits.
    #[must_use]
    pub fn padding(&mut self, node: usize) -> Vec<[(u64, u64); 2]> {
        self.node(node).machine.padding_counts()
    }

    /// Handshakes that a node has begun as a hop.
    #[must_use]
    pub fn handshakes(&self, node: usize) -> u64 {
        self.nodes.get(node).map_or(0, |node| node.machine.handshakes())
    }

    /// Lets time pass.
    pub fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(next) = self.next_time().filter(|&at| at <= end) {
            self.step(next);
        }
        self.now = end;
    }

    /// Lets one thing happen, if it does until `end`; else it is `end`.
    pub fn run_once(&mut self, end: Duration) {
        match self.next_time().filter(|&at| at <= end) {
            Some(next) => self.step(next),
            None => self.now = self.now.max(end),
        }
    }

    fn run_until(&mut self, node: usize, is_done: impl Fn(&Output) -> bool) {
        let end = self.now + Duration::from_mins(1);
        loop {
            let outputs = &mut self.node(node).outputs;
            if let Some(at) = outputs.iter().position(&is_done) {
                outputs.remove(at);
                return;
            }
            let next = self.next_time().filter(|&at| at <= end).expect("it happens within a minute");
            self.step(next);
        }
    }

    fn next_time(&self) -> Option<Duration> {
        let event = self.events.keys().next().map(|&(at, _)| at);
        let timer = self.nodes.iter().filter_map(|node| node.machine.deadline()).min();
        event.into_iter().chain(timer).min().map(|at| at.max(self.now))
    }

    fn step(&mut self, at: Duration) {
        self.now = at;
        match self.events.first_key_value() {
            Some((&(due, _), _)) if due <= at => {
                if let Some((_, event)) = self.events.pop_first() {
                    self.happen(event);
                }
            }
            _ => {
                for node in 0..self.nodes.len() {
                    self.node(node).machine.handle(at, Input::Tick);
                    self.settle(node);
                }
            }
        }
    }

    fn happen(&mut self, event: Event) {
        let now = self.now;
        match event {
            Event::Up { near, far } if self.node(far).is_dead => {
                self.node(near).machine.handle(now, Input::LinkFailed { peer: Self::id_of(far) });
                self.settle(near);
            }
            Event::Cells { from, to, .. } | Event::Sent { from, to, .. }
                if self.node(from).is_dead || self.node(to).is_dead => {}
            Event::Up { near, far } => {
                for (node, peer, opened) in [(far, near, false), (near, far, true)] {
                    let input = Input::LinkUp { link: link(node, peer), peer: Self::id_of(peer), opened };
                    self.node(node).machine.handle(now, input);
                    self.settle(node);
                }
            }
            Event::Cells { from, to, bytes } => {
                self.node(to).machine.handle(now, Input::Cells { link: link(to, from), bytes });
                self.settle(to);
            }
            Event::Sent { from, to, buffer } => {
                self.node(from).machine.handle(now, Input::Sent { link: link(from, to), buffer });
                self.settle(from);
            }
        }
    }

    /// Does what a node's machine wants.
    fn settle(&mut self, node: usize) {
        let is_lent = self.node(node).is_lent;
        while let Some(output) = self.node(node).machine.poll() {
            match output {
                Output::OpenLink { relay } => {
                    let far = usize::from(relay.as_bytes()[0]) - 1;
                    self.schedule(
                        self.now + 2 * self.shape_of(node, far).latency,
                        Event::Up { near: node, far },
                    );
                }
                Output::Cells { link, bytes } => self.carry(node, peer(link), bytes),
                Output::Offered { stream, .. } => {
                    let now = self.now;
                    self.node(node).offered.push(stream);
                    self.node(node).machine.accept(now, stream);
                    if is_lent {
                        self.node(node).outputs.push(output);
                    }
                }
                Output::Readable { stream } if !is_lent => self.read(node, stream),
                Output::Writable { stream } if !is_lent => self.pump(node, stream),
                other => self.node(node).outputs.push(other),
            }
        }
    }

    fn carry(&mut self, from: usize, to: usize, buffer: Vec<u8>) {
        let end = self.transmit(from, to, &buffer);
        self.schedule(end, Event::Sent { from, to, buffer });
    }

    /// Puts bytes on a link; yields when they have left.
    fn transmit(&mut self, from: usize, to: usize, buffer: &[u8]) -> Duration {
        let mut bytes = Vec::with_capacity(buffer.len());
        match self.faults.get_mut(&(from, to)) {
            Some(meddler) => buffer.chunks(CELL_BYTES).for_each(|cell| meddler.pass(cell, &mut bytes)),
            None => bytes.extend_from_slice(buffer),
        }
        let LinkShape { latency, bytes_per_second } = self.shape_of(from, to);
        let nanos = buffer.len() as u64 * 1_000_000_000 / bytes_per_second;
        let start = self.free_at.get(&(from, to)).copied().unwrap_or_default().max(self.now);
        let end = start + Duration::from_nanos(nanos);
        self.free_at.insert((from, to), end);
        if !bytes.is_empty() {
            self.schedule(end + latency, Event::Cells { from, to, bytes });
        }
        end
    }

    fn read(&mut self, node: usize, stream: StreamId) {
        let now = self.now;
        let node = self.node(node);
        if !node.stalled {
            let mut bytes = Vec::new();
            node.machine.read(now, stream, usize::MAX, &mut bytes);
            let (count, kept) = node.received.entry(stream).or_default();
            *count += bytes.len() as u64;
            kept.extend(bytes.iter().take(KEPT_BYTES - kept.len()));
        }
    }

    fn pump(&mut self, node: usize, stream: StreamId) {
        let now = self.now;
        let node = self.node(node);
        if node.sources.contains(&stream) {
            while node.machine.write(now, stream, &CHUNK) == CHUNK.len() {}
        }
    }

    fn schedule(&mut self, at: Duration, event: Event) {
        self.events.insert((at, self.next_event), event);
        self.next_event += 1;
    }

    fn shape_of(&self, from: usize, to: usize) -> LinkShape {
        self.shapes.get(&(from, to)).copied().unwrap_or(self.shape)
    }

    fn node(&mut self, number: usize) -> &mut Node {
        self.nodes.get_mut(number).expect("a node of this simulation")
    }

    fn descriptor(&mut self, number: usize) -> RelayDescriptor {
        let epoch = Epoch::at(Timestamp::from_secs(self.now.as_secs()));
        self.descriptor_of(number, epoch).expect("a key of this epoch")
    }

    fn descriptor_of(&mut self, number: usize, epoch: Epoch) -> Option<RelayDescriptor> {
        let onion_key = self.node(number).machine.onion_key(epoch)?;
        Some(super::descriptor(
            Self::id_of(number),
            u8::try_from(number).unwrap_or(u8::MAX),
            onion_key,
            epoch,
        ))
    }

    fn id_of(number: usize) -> NodeId {
        NodeId::from_bytes([u8::try_from(number + 1).unwrap_or(u8::MAX); 32])
    }
}

/// The number of the link from a node to its peer.
const fn link(node: usize, peer: usize) -> LinkId {
    LinkId(((node as u64) << 32) | peer as u64)
}

fn peer(link: LinkId) -> usize {
    usize::try_from(link.0 & u64::from(u32::MAX)).unwrap_or(usize::MAX)
}
