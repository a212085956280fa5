use core::time::Duration;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;

use nonos_identity::{Digest, NetworkId, Timestamp};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use sha3::{Digest as _, Sha3_256};

use super::identity::config;
use crate::check::Check;
use crate::config::Config;
use crate::contact::{Contact, TransportId};
use crate::io::{Command, Event, Input, LinkId, Now, Output};
use crate::item::{Item, ItemId, ItemKind};
use crate::mesh::Mesh;

/// Bytes that a length, Noise and TCP add to a frame.
const OVERHEAD_BYTES: usize = 40;
/// The wall clock of a simulation starts here, in seconds since 1970.
const START_SECS: u64 = 1_700_000_000;
/// A dial that reaches nobody fails after this.
const DIAL_TIMEOUT: Duration = Duration::from_secs(1);

/// A simulated network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SimConfig {
    /// Number of nodes.
    pub nodes: usize,
    /// Links that each node dials to random others at the start.
    pub dials_per_node: usize,
    /// Shortest one-way latency of a link; each link draws its own.
    pub latency_min: Duration,
    /// Longest one-way latency of a link.
    pub latency_max: Duration,
    /// Uplink of a node in bytes per second, shared by its links.
    pub uplink_bytes_per_sec: u64,
    /// Frames lost per million after the hello: harsher than TCP, which loses none.
    pub loss_per_million: u32,
    /// Seed of everything.
    pub seed: u64,
}

impl Default for SimConfig {
    fn default() -> Self {
        Self {
            nodes: 100,
            dials_per_node: 10,
            latency_min: Duration::from_millis(10),
            latency_max: Duration::from_millis(100),
            uplink_bytes_per_sec: 1_250_000,
            loss_per_million: 0,
            seed: 1,
        }
    }
}

/// What a simulation measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Simulated time.
    pub elapsed: Duration,
    /// Events processed.
    pub events: u64,
    /// Bytes sent by all nodes, with framing.
    pub sent_bytes: u64,
    /// Payload bytes that arrived first at a node, published ones not counted.
    pub delivered_bytes: u64,
    /// First arrivals of items at nodes.
    pub deliveries: u64,
    /// Median time from publication to arrival.
    pub p50: Duration,
    /// 99th percentile of the same.
    pub p99: Duration,
    /// Hash over every event in order: equal for equal runs.
    pub trace: Digest,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Tick { node: usize },
    Connect { from: usize, to: usize },
    DialFailed { from: usize, to: usize },
    Deliver { to: usize, link: LinkId, frame: Arc<[u8]> },
    Sent { node: usize, link: LinkId, bytes: usize },
    Down { node: usize, link: LinkId },
}

struct Node {
    mesh: Mesh,
    check: Arc<dyn Check>,
    store: BTreeMap<ItemId, Item>,
    events: Vec<Event>,
    uplink_free: Duration,
    tick: Option<Duration>,
    alive: bool,
    side: u32,
}

struct Wire {
    ends: [usize; 2],
    latency: Duration,
    greeted: [bool; 2],
}

/// Many mesh nodes on one event queue, in simulated time; same seed, same run.
pub struct Simulator {
    config: SimConfig,
    rng: ChaCha8Rng,
    now: Duration,
    nodes: Vec<Node>,
    wires: BTreeMap<LinkId, Wire>,
    queue: BinaryHeap<Reverse<(Duration, u64, What)>>,
    sequence: u64,
    next_link: u64,
    published: BTreeMap<ItemId, Duration>,
    latencies: Vec<Duration>,
    sent_bytes: u64,
    delivered_bytes: u64,
    events: u64,
    trace: Sha3_256,
}

impl core::fmt::Debug for Simulator {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Simulator")
            .field("config", &self.config)
            .field("now", &self.now)
            .finish_non_exhaustive()
    }
}

impl Simulator {
    /// Nodes that begin to dial within the first second. `adjust` may change each node's
    /// configuration; nodes check items with `check`.
    ///
    /// # Panics
    /// If `adjust` makes a configuration that cannot work.
    #[must_use]
    pub fn new(config: SimConfig, check: &Arc<dyn Check>, adjust: impl Fn(usize, &mut Config)) -> Self {
        let rng = ChaCha8Rng::seed_from_u64(config.seed);
        let mut sim = Self {
            rng,
            now: Duration::ZERO,
            nodes: Vec::new(),
            wires: BTreeMap::new(),
            queue: BinaryHeap::new(),
            sequence: 0,
            next_link: 0,
            published: BTreeMap::new(),
            latencies: Vec::new(),
            sent_bytes: 0,
            delivered_bytes: 0,
            events: 0,
            trace: Sha3_256::new(),
            config,
        };
        let network = NetworkId::from_name("simulation");
        for number in 0..sim.config.nodes {
            let mut config = self::config(&network, number as u64, Timestamp::from_secs(START_SECS));
            config.addresses = vec![format!("/sim/{number}")];
            // The random graph below is the topology, unless `adjust` wants the nodes to dial.
            config.links.target_links = 0;
            adjust(number, &mut config);
            let mut seed = [0; 32];
            sim.rng.fill_bytes(&mut seed);
            let mesh = Mesh::new(config, sim.clock(), seed).expect("a valid configuration");
            sim.nodes.push(Node {
                mesh,
                check: check.clone(),
                store: BTreeMap::new(),
                events: Vec::new(),
                uplink_free: Duration::ZERO,
                tick: None,
                alive: true,
                side: 0,
            });
        }
        for from in 0..sim.nodes.len() {
            sim.retick(from);
            for _ in 0..sim.config.dials_per_node {
                let to = usize::try_from(sim.below(sim.nodes.len() as u64)).unwrap_or_default();
                if to != from {
                    let at = Duration::from_micros(sim.below(1_000_000));
                    sim.at(at, What::Connect { from, to });
                }
            }
        }
        sim
    }

    /// Simulated time since the start.
    #[must_use]
    pub const fn now(&self) -> Duration {
        self.now
    }

    /// The machine of a node.
    ///
    /// # Panics
    /// If there is no such node, as all calls that take one.
    pub fn mesh(&mut self, node: usize) -> &mut Mesh {
        &mut self.node(node).mesh
    }

    /// The events of a node since the last call.
    pub fn take_events(&mut self, node: usize) -> Vec<Event> {
        core::mem::take(&mut self.node(node).events)
    }

    /// Whether a node has stored an item.
    #[must_use]
    pub fn has(&self, node: usize, id: &ItemId) -> bool {
        self.nodes.get(node).is_some_and(|n| n.store.contains_key(id))
    }

    /// Gives a node a check of its own: a black hole ignores everything, a liar accepts it.
    pub fn set_check(&mut self, node: usize, check: Arc<dyn Check>) {
        self.node(node).check = check;
    }

    /// Publishes an item at a node.
    ///
    /// # Panics
    /// If the item is too long.
    pub fn publish(&mut self, node: usize, kind: ItemKind, bytes: Vec<u8>) -> ItemId {
        let item = Item::new(kind, bytes).expect("an item that can travel");
        let id = item.id();
        self.published.insert(id, self.now);
        self.command(node, Command::Publish(item));
        id
    }

    /// Gives a node a command.
    pub fn command(&mut self, node: usize, command: Command) {
        self.input(node, Input::Command(command));
    }

    /// Connects two nodes now.
    pub fn connect(&mut self, from: usize, to: usize) {
        self.at(self.now, What::Connect { from, to });
    }

    /// Stops frames between nodes of different sides, without telling anybody.
    pub fn partition(&mut self, side: impl Fn(usize) -> u32) {
        for (number, node) in self.nodes.iter_mut().enumerate() {
            node.side = side(number);
        }
    }

    /// Ends a partition.
    pub fn heal(&mut self) {
        self.partition(|_| 0);
    }

    /// Stops a node for good; its neighbours notice by silence.
    pub fn crash(&mut self, node: usize) {
        self.node(node).alive = false;
    }

    /// Runs for a time.
    pub fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(Reverse((at, ..))) = self.queue.peek()
            && *at <= end
            && let Some(Reverse((at, _, what))) = self.queue.pop()
        {
            self.now = at;
            self.step(what);
        }
        self.now = end;
    }

    /// What was measured so far.
    #[must_use]
    pub fn report(&self) -> Report {
        let mut sorted = self.latencies.clone();
        sorted.sort_unstable();
        let part = |percent: usize| {
            let at = sorted.len().saturating_sub(1) * percent / 100;
            sorted.get(at).copied().unwrap_or_default()
        };
        Report {
            elapsed: self.now,
            events: self.events,
            sent_bytes: self.sent_bytes,
            delivered_bytes: self.delivered_bytes,
            deliveries: self.latencies.len() as u64,
            p50: part(50),
            p99: part(99),
            trace: Digest::from_bytes(self.trace.clone().finalize().into()),
        }
    }

    #[expect(clippy::indexing_slicing, reason = "test code names nodes that exist")]
    fn node(&mut self, node: usize) -> &mut Node {
        &mut self.nodes[node]
    }

    const fn clock(&self) -> Now {
        Now { mono: self.now, wall: Timestamp::from_secs(START_SECS + self.now.as_secs()) }
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.rng.next_u64() % bound.max(1)
    }

    fn at(&mut self, at: Duration, what: What) {
        self.sequence += 1;
        self.queue.push(Reverse((at, self.sequence, what)));
    }

    fn note(&mut self, code: u8, node: usize, link: u64, len: usize) {
        self.events += 1;
        self.trace.update([code]);
        self.trace.update(self.now.as_nanos().to_le_bytes());
        self.trace.update((node as u64).to_le_bytes());
        self.trace.update(link.to_le_bytes());
        self.trace.update((len as u64).to_le_bytes());
    }

    fn step(&mut self, what: What) {
        match what {
            What::Tick { node } => {
                let now = self.now;
                if self.node(node).tick != Some(now) {
                    return;
                }
                self.node(node).tick = None;
                self.note(0, node, 0, 0);
                self.input(node, Input::Tick);
            }
            What::Connect { from, to } => self.connected(from, to),
            What::DialFailed { from, to } => {
                self.note(1, from, to as u64, 0);
                self.input(from, Input::DialFailed { transport: transport(to) });
            }
            What::Deliver { to, link, frame } => {
                if self.wires.contains_key(&link) {
                    self.note(2, to, link.0, frame.len());
                    self.trace.update(frame.get(..8).unwrap_or_default());
                    self.input(to, Input::Frame { link, bytes: frame.to_vec() });
                }
            }
            What::Sent { node, link, bytes } => {
                self.note(3, node, link.0, bytes);
                self.input(node, Input::Sent { link, bytes });
            }
            What::Down { node, link } => {
                self.note(4, node, link.0, 0);
                self.input(node, Input::LinkDown { link });
            }
        }
    }

    fn reachable(&self, a: usize, b: usize) -> bool {
        match (self.nodes.get(a), self.nodes.get(b)) {
            (Some(a), Some(b)) => a.alive && b.alive && a.side == b.side,
            _ => false,
        }
    }

    fn connected(&mut self, from: usize, to: usize) {
        if !self.reachable(from, to) {
            return self.at(self.now + DIAL_TIMEOUT, What::DialFailed { from, to });
        }
        self.next_link += 1;
        let link = LinkId(self.next_link);
        let range = self.config.latency_max.saturating_sub(self.config.latency_min).as_micros();
        let range = u64::try_from(range).unwrap_or(u64::MAX - 1);
        let latency = self.config.latency_min + Duration::from_micros(self.below(range + 1));
        self.wires.insert(link, Wire { ends: [from, to], latency, greeted: [false; 2] });
        self.note(5, from, link.0, to);
        self.input(from, Input::LinkUp { link, remote: transport(to), outbound: true });
        self.input(to, Input::LinkUp { link, remote: transport(from), outbound: false });
    }

    fn input(&mut self, node: usize, input: Input) {
        if !self.node(node).alive {
            return;
        }
        let clock = self.clock();
        self.node(node).mesh.handle(clock, input);
        while let Some(output) = self.node(node).mesh.poll() {
            self.output(node, output);
        }
        self.retick(node);
    }

    fn retick(&mut self, node: usize) {
        let deadline = self.node(node).mesh.deadline().map(|at| at.max(self.now));
        if let Some(at) = deadline
            && self.node(node).tick.is_none_or(|tick| at < tick)
        {
            self.node(node).tick = Some(at);
            self.at(at, What::Tick { node });
        }
    }

    fn output(&mut self, node: usize, output: Output) {
        let clock = self.clock();
        match output {
            Output::Send { link, frame } => self.send(node, link, frame),
            Output::Close { link, .. } => {
                if let Some(wire) = self.wires.remove(&link) {
                    for end in wire.ends {
                        let wait = if end == node { Duration::ZERO } else { wire.latency };
                        self.at(self.now + wait, What::Down { node: end, link });
                    }
                }
            }
            Output::Dial(contact) => self.dial(node, &contact),
            Output::Check { ticket, kind, bytes, from, .. } => {
                let verdict = self.node(node).check.check(kind, &bytes, from, clock.wall);
                self.node(node).mesh.handle(clock, Input::Checked { ticket, verdict });
            }
            Output::Store(item) => {
                let item = item.into_inner();
                self.node(node).store.insert(item.id(), item);
            }
            Output::Load { request, id } => {
                let item = self.node(node).store.get(&id).cloned();
                self.node(node).mesh.handle(clock, Input::Loaded { request, item });
            }
            Output::Remove(id) => {
                self.node(node).store.remove(&id);
            }
            Output::Event(event) => {
                if let Event::Accepted { item, from } = &event
                    && let Some(at) = self.published.get(&item.id())
                    && *from != self.nodes.get(node).map_or(*from, |n| n.mesh.node())
                {
                    self.latencies.push(self.now.saturating_sub(*at));
                    self.delivered_bytes += item.bytes().len() as u64;
                }
                self.node(node).events.push(event);
            }
        }
    }

    fn send(&mut self, node: usize, link: LinkId, frame: Arc<[u8]>) {
        let bytes = frame.len();
        let cost = (bytes + OVERHEAD_BYTES) as u64;
        let rate = self.config.uplink_bytes_per_sec.max(1);
        let took = Duration::from_nanos(cost.saturating_mul(1_000_000_000) / rate);
        let left = self.node(node).uplink_free.max(self.now) + took;
        self.node(node).uplink_free = left;
        self.sent_bytes += cost;
        self.at(left, What::Sent { node, link, bytes });
        let lost = self.below(1_000_000) < u64::from(self.config.loss_per_million);
        let Some(wire) = self.wires.get_mut(&link) else { return };
        let [a, b] = wire.ends;
        let (to, side) = if node == a { (b, 0) } else { (a, 1) };
        let first = wire.greeted.get_mut(side).is_some_and(|g| !core::mem::replace(g, true));
        let arrival = left + wire.latency;
        if self.reachable(node, to) && (first || !lost) {
            self.at(arrival, What::Deliver { to, link, frame });
        }
    }

    fn dial(&mut self, node: usize, contact: &Contact) {
        let number = contact.addresses.iter().find_map(|a| a.strip_prefix("/sim/")?.parse::<usize>().ok());
        let to = number.filter(|n| *n < self.nodes.len() && transport(*n) == contact.transport);
        match to {
            Some(to) => self.at(self.now + self.config.latency_max * 2, What::Connect { from: node, to }),
            None => self.at(self.now + DIAL_TIMEOUT, What::DialFailed { from: node, to: usize::MAX }),
        }
    }
}

fn transport(number: usize) -> TransportId {
    TransportId::new((number as u64).to_be_bytes()).expect("eight bytes")
}
