mod desk;
mod meeting;
mod splice;

use core::fmt;
use core::future::Future;
use core::time::Duration;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nonos_identity::{NetworkId, NodeId, SignatureError};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

use crate::circuit::LocalCircuitId;
use crate::link::ByteLink;
use crate::rendezvous::draw::Draw;
use crate::rendezvous::frame::FrameError;
use crate::rendezvous::hub::desk::Desk;
use crate::rendezvous::hub::meeting::Waiting;
use crate::rendezvous::ports;

/// The bounds of a [`Hub`]. Everything that strangers can fill or hold is here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubLimits {
    /// Streams at a time, of all kinds. Against exhaustion of memory: one holds up to 2 kB, two that are
    /// spliced 64 kB.
    pub streams: usize,
    /// Streams of one circuit. Against one client that fills the hub.
    pub streams_per_circuit: usize,
    /// Services that are established at a time. With the queues this bounds the introductions that wait,
    /// 1.6 kB each.
    pub services: usize,
    /// Introductions that wait for one service; the one with the least effort goes first.
    pub queue: usize,
    /// Introductions that are known again, 16 bytes each, for one service. Beyond, all are forgotten and the
    /// service itself refuses them. Against work that is done once and used again and again.
    pub known: usize,
    /// Cookies for which somebody waits.
    pub cookies: usize,
    /// Time for a message to come or go. Against streams that are opened for nothing.
    pub message_timeout: Duration,
    /// How long an introduction waits for its service, and somebody with a cookie for the other one.
    pub wait: Duration,
    /// How long two spliced streams may carry nothing in either direction.
    pub idle: Duration,
    /// Bytes that two spliced streams may carry, both directions together. Against a relay used up by few.
    pub splice_bytes: u64,
}

impl Default for HubLimits {
    fn default() -> Self {
        Self {
            streams: 4096,
            streams_per_circuit: 4,
            services: 512,
            queue: 32,
            known: 4096,
            cookies: 1024,
            message_timeout: Duration::from_secs(20),
            wait: Duration::from_secs(30),
            idle: Duration::from_secs(300),
            // What a circuit of 25 MB/s carries in an epoch.
            splice_bytes: 15 << 30,
        }
    }
}

/// Why a hub gave a stream up. It was reset, and its other end learns no more than that.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// The hub's bounds are reached; nobody's fault.
    #[error("hub has as many {0} as it bears")]
    Full(&'static str),
    /// Not a port of a hub; the caller's fault.
    #[error("port {0} is not of a hub")]
    Port(u16),
    /// The stream broke, or ended in a message.
    #[error("stream ended: {0}")]
    Stream(io::ErrorKind),
    /// The other end is silent or does not read, or nobody came with the same cookie.
    #[error("timed out")]
    Timeout,
    /// Not the protocol; the other end's fault, as are all that follow.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The service does not hold the key that it names, or signed something else.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// The service asks for more introductions than may be on their way at once.
    #[error("service asks for too many introductions")]
    Credit,
}

/// What a relay does for onion services: it passes introductions on to those that have established
/// themselves with it, and splices the streams of a client and a service that come with one cookie.
///
/// A hub learns neither addresses nor who is at the end of a circuit. It can drop, delay and count what it
/// passes on, and a rendezvous sees the times and amounts of the streams.
///
/// Cheap to clone. The embedder passes the streams that arrive at [`ports::ALL`] to [`Self::serve`].
#[derive(Clone)]
pub struct Hub(Arc<Shared>);

struct Shared {
    network: NetworkId,
    relay: NodeId,
    limits: HubLimits,
    draw: Draw,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    streams: usize,
    circuits: BTreeMap<LocalCircuitId, usize>,
    desks: BTreeMap<[u8; 32], Arc<Desk>>,
    waiting: BTreeMap<[u8; 32], Waiting>,
    /// Names the next [`Waiting`].
    next: u64,
}

/// What a hub holds at the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HubLoad {
    /// Streams.
    pub streams: usize,
    /// Established services.
    pub services: usize,
    /// Introductions that wait.
    pub introductions: usize,
    /// Cookies for which somebody waits.
    pub cookies: usize,
}

impl Hub {
    /// The hub of a relay. `seed` is fresh randomness.
    #[must_use]
    pub fn new(network: NetworkId, relay: NodeId, limits: HubLimits, seed: &[u8; 32]) -> Self {
        let (draw, state) = (Draw::new(seed), Mutex::default());
        Self(Arc::new(Shared { network, relay, limits, draw, state }))
    }

    /// Serves a stream until it ends: to be spawned. `circuit` and `port` are those of its
    /// [`IncomingStream`](crate::link::IncomingStream).
    ///
    /// # Errors
    /// [`HubError`] says why it was given up.
    pub async fn serve(
        &self,
        circuit: LocalCircuitId,
        port: u16,
        stream: impl ByteLink + 'static,
    ) -> Result<(), HubError> {
        let place = self.enter(circuit)?;
        match port {
            ports::ESTABLISH => self.establish(stream).await,
            ports::INTRODUCE => self.introduce(stream).await,
            ports::RENDEZVOUS => self.rendezvous(Box::new(stream), place).await,
            _ => Err(HubError::Port(port)),
        }
    }

    /// What it holds at the moment.
    #[must_use]
    pub fn load(&self) -> HubLoad {
        let state = self.state();
        HubLoad {
            streams: state.streams,
            services: state.desks.len(),
            introductions: state.desks.values().map(|desk| desk.waiting()).sum(),
            cookies: state.waiting.len(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic while holding it leaves tables whose entries are all valid.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, circuit: LocalCircuitId) -> Result<Place, HubError> {
        let (limits, mut state) = (&self.0.limits, self.state());
        if state.streams >= limits.streams {
            return Err(HubError::Full("streams"));
        }
        let of_circuit = state.circuits.entry(circuit).or_default();
        if *of_circuit >= limits.streams_per_circuit {
            return Err(HubError::Full("streams of one circuit"));
        }
        *of_circuit += 1;
        state.streams += 1;
        drop(state);
        Ok(Place { hub: self.clone(), circuit })
    }

    /// Waits for something that the other end must do in time.
    async fn in_time<T>(&self, work: impl Future<Output = io::Result<T>>) -> Result<T, HubError> {
        let done = timeout(self.0.limits.message_timeout, work).await.map_err(|_| HubError::Timeout)?;
        done.map_err(|error| HubError::Stream(error.kind()))
    }

    async fn read<const N: usize>(&self, stream: &mut (impl AsyncRead + Unpin)) -> Result<[u8; N], HubError> {
        let mut bytes = [0; N];
        self.in_time(stream.read_exact(&mut bytes)).await?;
        Ok(bytes)
    }

    async fn write(&self, stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> Result<(), HubError> {
        let write = async {
            stream.write_all(bytes).await?;
            stream.flush().await
        };
        self.in_time(write).await
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").field("load", &self.load()).finish_non_exhaustive()
    }
}

/// One stream's share of the bounds, as long as it is there.
struct Place {
    hub: Hub,
    circuit: LocalCircuitId,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.hub.state();
        state.streams = state.streams.saturating_sub(1);
        if let Some(streams) = state.circuits.get_mut(&self.circuit) {
            *streams -= 1;
            if *streams == 0 {
                state.circuits.remove(&self.circuit);
            }
        }
    }
}

#[cfg(test)]
mod tests;
