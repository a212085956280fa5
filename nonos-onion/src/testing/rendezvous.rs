use core::pin::Pin;
use core::task::{Context, Poll};
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use nonos_identity::{Epoch, NodeId, Timestamp};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::JoinSet;

use crate::descriptor::RelayDescriptor;
use crate::guard::GuardSet;
use crate::link::{Onion, OnionStream};
use crate::path::{HopClass, PathSelector};
use crate::rendezvous::{Environment, Hub, HubLimits, HubLoad, RelayCircuits};
use crate::service::{MemoryDirectory, MemoryLimits, SharedRandom, TimePeriod};
use crate::testing::network::{Network, Node};
use crate::vanguard::Vanguards;

const RANDOM: SharedRandom = SharedRandom::from_bytes([0x5a; 32]);

/// The streams of all hubs, by relay.
type Record = Arc<Mutex<BTreeMap<NodeId, Vec<HubStream>>>>;

/// What a hub saw of one stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HubStream {
    /// The port.
    pub port: u16,
    /// All bytes that it read.
    pub read: Vec<u8>,
    /// All bytes that it wrote.
    pub written: Vec<u8>,
}

impl HubStream {
    /// Whether the bytes appear in either direction.
    #[must_use]
    pub fn contains(&self, needle: &[u8]) -> bool {
        let within = |bytes: &[u8]| bytes.windows(needle.len()).any(|window| window == needle);
        within(&self.read) || within(&self.written)
    }
}

/// A mesh in memory for onion services: relays that all serve a [`Hub`], and one honest directory.
pub struct HubNetwork {
    network: Arc<Network>,
    directory: Arc<MemoryDirectory>,
    relays: Vec<Relay>,
    seen: Record,
    circuits: Mutex<Vec<Arc<RelayCircuits>>>,
}

struct Relay {
    number: u8,
    id: NodeId,
    onion: Onion,
    hub: Hub,
    /// The streams of its hub end with it.
    _task: JoinSet<()>,
}

impl HubNetwork {
    /// With relays of the numbers from 1 to `relays`; ten are enough for every path. On a tokio runtime.
    pub async fn new(relays: u8, limits: HubLimits) -> Self {
        Self::with_latency(relays, limits, Duration::ZERO).await
    }

    /// With links that take so long.
    pub async fn with_latency(relays: u8, limits: HubLimits, latency: Duration) -> Self {
        let network = Network::new();
        network.set_latency(latency);
        let mut new = Self {
            directory: Arc::new(MemoryDirectory::new(network.id(), MemoryLimits::default())),
            network,
            relays: Vec::new(),
            seen: Record::default(),
            circuits: Mutex::default(),
        };
        for number in 1..=relays {
            new.add_relay(number, limits.clone()).await;
        }
        new.set_now(new.network.now()).await;
        new
    }

    async fn add_relay(&mut self, number: u8, limits: HubLimits) {
        let Node { id, onion, mut incoming, .. } = self.network.add(number, |_| {}).await;
        let hub = Hub::new(self.network.id(), id, limits, &[number; 32]);
        let (relay_hub, seen) = (hub.clone(), Arc::clone(&self.seen));
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut streams = JoinSet::new();
            while let Some(incoming) = incoming.recv().await {
                let (hub, seen) = (hub.clone(), Arc::clone(&seen));
                let stream = Recorded::new(incoming.stream, id, incoming.port, seen);
                streams.spawn(async move { hub.serve(incoming.circuit, incoming.port, stream).await });
            }
        });
        self.relays.push(Relay { number, id, onion, hub: relay_hub, _task: task });
    }

    /// The network under it.
    #[must_use]
    pub const fn network(&self) -> &Arc<Network> {
        &self.network
    }

    /// The directory.
    #[must_use]
    pub fn directory(&self) -> Arc<MemoryDirectory> {
        Arc::clone(&self.directory)
    }

    /// The relays.
    pub fn relays(&self) -> impl Iterator<Item = NodeId> {
        self.relays.iter().map(|relay| relay.id)
    }

    /// Adds a node that relays nothing, and what a client or service on it needs. Circuits have two relays and
    /// the hub.
    pub async fn add(&self, number: u8) -> (Node, Environment) {
        let node = self.network.add(number, |config| config.relaying = false).await;
        let circuits = Arc::new(RelayCircuits::new(
            node.onion.clone(),
            (GuardSet::new(node.id), Vanguards::default()),
            (PathSelector::default(), HopClass::Two),
            self.network.clock(),
            Arc::new(|_, _| {}),
            &[number; 32],
        ));
        circuits.learn(self.descriptors(self.network.now()).await, self.relays().collect());
        self.circuits.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&circuits));
        let environment = Environment {
            network: self.network.id(),
            circuits,
            directory: self.directory(),
            randoms: Arc::new(|_| Some(RANDOM)),
            clock: self.network.clock(),
        };
        (node, environment)
    }

    /// Moves the time of all, and spreads the relays' descriptors of that time.
    pub async fn set_now(&self, now: Timestamp) {
        self.network.set_now(now);
        let periods = TimePeriod::published_at(now).into_iter().chain([TimePeriod::at(now).next()]);
        self.directory.advance(now, periods.map(|period| (period, RANDOM)));
        let relays = self.descriptors(now).await;
        let hubs: BTreeSet<NodeId> = self.relays().collect();
        for circuits in self.circuits.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            circuits.learn(relays.clone(), hubs.clone());
        }
    }

    /// What the hub of a relay holds at the moment.
    #[must_use]
    pub fn load(&self, relay: NodeId) -> HubLoad {
        self.relays.iter().find(|other| other.id == relay).map(|relay| relay.hub.load()).unwrap_or_default()
    }

    /// What a relay's hub saw so far, in the order in which streams came.
    #[must_use]
    pub fn seen(&self, relay: NodeId) -> Vec<HubStream> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.get(&relay).cloned().unwrap_or_default()
    }

    /// Stops a relay for good and tells everybody.
    pub async fn stop(&mut self, relay: NodeId) {
        self.relays.retain(|other| other.id != relay);
        self.network.remove(relay);
        self.set_now(self.network.now()).await;
    }

    async fn descriptors(&self, now: Timestamp) -> Vec<RelayDescriptor> {
        let epoch = Epoch::at(now);
        let mut descriptors = Vec::new();
        for Relay { number, id, onion, .. } in &self.relays {
            // A node looks at the clock every second; until then it has no key of a distant epoch.
            if let Some(key) = onion.onion_key(epoch).await {
                descriptors.push(super::descriptor(*id, *number, key, epoch));
            }
        }
        descriptors
    }
}

impl core::fmt::Debug for HubNetwork {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("HubNetwork").field("relays", &self.relays.len()).finish_non_exhaustive()
    }
}

/// A stream of a hub that keeps what passes.
struct Recorded {
    stream: OnionStream,
    relay: NodeId,
    /// Its place in the record.
    at: usize,
    seen: Record,
}

impl Recorded {
    fn new(stream: OnionStream, relay: NodeId, port: u16, seen: Record) -> Self {
        let at = {
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            let streams = seen.entry(relay).or_default();
            streams.push(HubStream { port, ..HubStream::default() });
            streams.len() - 1
        };
        Self { stream, relay, at, seen }
    }

    fn record(&self, add: impl FnOnce(&mut HubStream)) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(stream) = seen.get_mut(&self.relay).and_then(|streams| streams.get_mut(self.at)) {
            add(stream);
        }
    }
}

impl AsyncRead for Recorded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        let new = buf.filled().get(before..).unwrap_or_default();
        self.record(|stream| stream.read.extend_from_slice(new));
        read
    }
}

impl AsyncWrite for Recorded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if let Poll::Ready(Ok(count)) = written {
            let new = bytes.get(..count).unwrap_or_default();
            self.record(|stream| stream.written.extend_from_slice(new));
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
