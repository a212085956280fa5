use core::pin::Pin;
use core::task::{Context, Poll, ready};
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nonos_identity::{Epoch, NetworkId, NodeId, Timestamp};
use tokio::io::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, ReadBuf, ReadHalf, WriteHalf,
};
use tokio::sync::mpsc;
use tokio::time::Instant;
use zeroize::Zeroizing;

use crate::cell::CELL_BYTES;
use crate::config::Config;
use crate::descriptor::RelayDescriptor;
use crate::epoch::EpochKeys;
use crate::link::{ByteLink, Clock, Incoming, LinkError, LinkFuture, Links, Onion, OnionDriver, Payments};

/// Bytes in flight on a link of the network.
const LINK_BYTES: usize = 64 * 1024;

/// A cell as whoever watches a link sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The sender.
    pub from: NodeId,
    /// The receiver.
    pub to: NodeId,
    /// The 1024 bytes.
    pub cell: Vec<u8>,
}

impl Seen {
    /// The circuit id.
    #[must_use]
    pub fn circuit(&self) -> u32 {
        self.cell.first_chunk().map_or(0, |id| u32::from_be_bytes(*id))
    }

    /// The command byte.
    #[must_use]
    pub fn command(&self) -> u8 {
        self.cell.get(4).copied().unwrap_or(0)
    }
}

/// What one node sees on its links: every cell as it arrives and, since a relay forwards what it
/// decrypted, as it looks without this node's layer.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// The nodes it exchanged cells with.
    pub neighbours: BTreeSet<NodeId>,
    /// All cells, in the order of their sending.
    pub cells: Vec<Seen>,
}

impl View {
    /// Whether the bytes appear in any cell.
    #[must_use]
    pub fn contains(&self, needle: &[u8]) -> bool {
        self.cells.iter().any(|seen| seen.cell.windows(needle.len()).any(|window| window == needle))
    }
}

/// Records the cells of all links of a network, and changes them on request.
#[derive(Debug, Default)]
pub struct Observer {
    seen: Mutex<Vec<Seen>>,
    recording: AtomicU64,
    /// `(from, to)` to the number of cells that still pass and the offset to flip.
    tamper: Mutex<BTreeMap<(NodeId, NodeId), (u64, usize)>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Observer {
    /// Starts to record cells. Recording is off at first: it keeps every byte.
    pub fn record(&self) {
        self.recording.store(1, Ordering::Relaxed);
    }

    /// What a node saw so far.
    #[must_use]
    pub fn view(&self, node: NodeId) -> View {
        let cells: Vec<Seen> =
            lock(&self.seen).iter().filter(|seen| seen.from == node || seen.to == node).cloned().collect();
        let neighbours =
            cells.iter().map(|seen| if seen.from == node { seen.to } else { seen.from }).collect();
        View { neighbours, cells }
    }

    /// Flips a bit of the byte at `offset` of the cell that follows the next `after` cells from
    /// one node to another.
    pub fn tamper(&self, from: NodeId, to: NodeId, after: u64, offset: usize) {
        lock(&self.tamper).insert((from, to), (after, offset));
    }

    /// Takes note of a cell and changes it if asked to.
    fn pass(&self, from: NodeId, to: NodeId, cell: &mut [u8]) {
        let mut tamper = lock(&self.tamper);
        if let Some((after, offset)) = tamper.get_mut(&(from, to)) {
            if *after > 0 {
                *after -= 1;
            } else {
                if let Some(byte) = cell.get_mut(*offset) {
                    *byte ^= 1;
                }
                tamper.remove(&(from, to));
            }
        }
        drop(tamper);
        if self.recording.load(Ordering::Relaxed) != 0 {
            lock(&self.seen).push(Seen { from, to, cell: cell.to_vec() });
        }
    }
}

/// A mesh of nodes in one process with a clock of its own.
pub struct Network {
    id: NetworkId,
    now: AtomicU64,
    latency_millis: AtomicU64,
    nodes: Mutex<BTreeMap<NodeId, Onion>>,
    observer: Arc<Observer>,
}

/// A node of a [`Network`].
#[derive(Debug)]
pub struct Node {
    /// Its id.
    pub id: NodeId,
    /// Its driver.
    pub onion: Onion,
    /// The streams opened to it.
    pub incoming: Incoming,
    /// The payments sent to it.
    pub payments: Payments,
    /// Its descriptor of the epoch in which it was added.
    pub descriptor: RelayDescriptor,
}

impl Network {
    /// An empty network at the start of an epoch.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            id: NetworkId::from_name("memory"),
            now: AtomicU64::new(Epoch::from_number(1000).start().as_secs()),
            latency_millis: AtomicU64::new(0),
            nodes: Mutex::default(),
            observer: Arc::default(),
        })
    }

    /// The id of the mesh.
    #[must_use]
    pub const fn id(&self) -> NetworkId {
        self.id
    }

    /// The observer of all links.
    #[must_use]
    pub fn observer(&self) -> &Observer {
        &self.observer
    }

    /// The time of the network.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        Timestamp::from_secs(self.now.load(Ordering::Relaxed))
    }

    /// Moves the time of all nodes.
    pub fn set_now(&self, now: Timestamp) {
        self.now.store(now.as_secs(), Ordering::Relaxed);
    }

    /// Has links that are opened from now on take so long, in whole milliseconds.
    pub fn set_latency(&self, latency: Duration) {
        let millis = u64::try_from(latency.as_millis()).unwrap_or(u64::MAX);
        self.latency_millis.store(millis, Ordering::Relaxed);
    }

    /// The clock of all nodes.
    #[must_use]
    pub fn clock(self: &Arc<Self>) -> Clock {
        let network = Arc::clone(self);
        Arc::new(move || network.now())
    }

    /// Adds a node; its number names it, its keys and its randomness. On a tokio runtime.
    ///
    /// # Panics
    /// If the configuration that `adjust` leaves is refused.
    pub async fn add(self: &Arc<Self>, number: u8, adjust: impl FnOnce(&mut Config)) -> Node {
        let id = Self::id_of(number);
        let mut config = Config::new(self.id, id);
        adjust(&mut config);
        let now = self.now();
        let keys = EpochKeys::new(Zeroizing::new([number ^ 0x55; 32]), now);
        let links = Arc::new(MemoryLinks { from: id, network: Arc::clone(self) });
        let (onion, incoming, payments) = OnionDriver::spawn(config, keys, links, self.clock(), [number; 32])
            .expect("the limits work together");
        lock(&self.nodes).insert(id, onion.clone());
        let epoch = Epoch::at(now);
        let onion_key = onion.onion_key(epoch).await.expect("the driver runs");
        let descriptor = super::descriptor(id, number, onion_key, epoch);
        Node { id, onion, incoming, payments, descriptor }
    }

    /// The id of the node with a number.
    #[must_use]
    pub const fn id_of(number: u8) -> NodeId {
        NodeId::from_bytes([number | 0x80; 32])
    }

    /// Forgets a node, so that its driver stops once the caller drops its [`Node`] too.
    pub fn remove(&self, node: NodeId) {
        lock(&self.nodes).remove(&node);
    }
}

impl core::fmt::Debug for Network {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Network").field("id", &self.id).finish_non_exhaustive()
    }
}

/// The links of one node of a [`Network`]: byte pipes in memory.
#[derive(Debug)]
pub struct MemoryLinks {
    from: NodeId,
    network: Arc<Network>,
}

impl MemoryLinks {
    /// Both ends of a link, watched and changed by the network's observer.
    #[must_use]
    pub fn pair(network: &Network, near: NodeId, far: NodeId) -> (Box<dyn ByteLink>, Box<dyn ByteLink>) {
        let latency = Duration::from_millis(network.latency_millis.load(Ordering::Relaxed));
        let (a, b) = if latency.is_zero() { tokio::io::duplex(LINK_BYTES) } else { slow(latency) };
        let tap = |inner, from, to| {
            Box::new(Tap {
                inner,
                from,
                to,
                observer: Arc::clone(&network.observer),
                out: Vec::new(),
                at: 0,
                partial: Vec::new(),
            })
        };
        (tap(a, near, far), tap(b, far, near))
    }
}

/// Both ends of a link that takes that long.
fn slow(latency: Duration) -> (DuplexStream, DuplexStream) {
    let ((a, near), (far, b)) = (tokio::io::duplex(LINK_BYTES), tokio::io::duplex(LINK_BYTES));
    let (near_reader, near_writer) = tokio::io::split(near);
    let (far_reader, far_writer) = tokio::io::split(far);
    tokio::spawn(carry(near_reader, far_writer, latency));
    tokio::spawn(carry(far_reader, near_writer, latency));
    (a, b)
}

async fn carry(mut from: ReadHalf<DuplexStream>, mut to: WriteHalf<DuplexStream>, latency: Duration) {
    let (sender, mut under_way) = mpsc::channel(LINK_BYTES / CELL_BYTES);
    let send = async move {
        loop {
            let mut bytes = Vec::with_capacity(CELL_BYTES);
            if !matches!(from.read_buf(&mut bytes).await, Ok(1..)) {
                return;
            }
            let _ = sender.send((Instant::now() + latency, bytes)).await;
        }
    };
    let receive = async move {
        while let Some((due, bytes)) = under_way.recv().await {
            tokio::time::sleep_until(due).await;
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
        let _ = to.shutdown().await;
    };
    tokio::join!(send, receive);
}

impl Links for MemoryLinks {
    fn open(&self, relay: NodeId) -> LinkFuture {
        let far = lock(&self.network.nodes).get(&relay).cloned();
        let (from, network) = (self.from, Arc::clone(&self.network));
        Box::pin(async move {
            let far = far.ok_or(LinkError)?;
            let (near_end, far_end) = Self::pair(&network, from, relay);
            far.accept_link(from, far_end).await;
            Ok(near_end)
        })
    }
}

/// One end of a link; what is written through it passes the observer cell by cell.
struct Tap {
    inner: DuplexStream,
    from: NodeId,
    to: NodeId,
    observer: Arc<Observer>,
    /// Bytes that passed the observer and are not written yet, from `at`.
    out: Vec<u8>,
    at: usize,
    /// The beginning of a cell.
    partial: Vec<u8>,
}

impl Tap {
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.out.get(self.at..).filter(|rest| !rest.is_empty()) {
            let written = ready!(Pin::new(&mut self.inner).poll_write(cx, rest))?;
            self.at += written;
        }
        self.out.clear();
        self.at = 0;
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Tap {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl AsyncWrite for Tap {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_drain(cx))?;
        let this = &mut *self;
        this.partial.extend_from_slice(bytes);
        let whole = this.partial.len() - this.partial.len() % CELL_BYTES;
        let rest = this.partial.split_off(whole);
        for cell in this.partial.chunks_mut(CELL_BYTES) {
            this.observer.pass(this.from, this.to, cell);
        }
        this.out = core::mem::replace(&mut this.partial, rest);
        // What does not fit goes out with the next write or flush.
        let _ = this.poll_drain(cx)?;
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        // Less than a cell: somebody uses the link for something else.
        self.out = core::mem::take(&mut self.partial);
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        self.out = core::mem::take(&mut self.partial);
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
