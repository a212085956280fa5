//! The async driver: runs the protocol machine in a task of its own over byte links.
//!
//! This is the only module of the crate that knows tokio, tasks and a clock. Handles talk to the
//! task over bounded channels; no lock is held across cryptography.

use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};
use std::io;
use std::sync::Arc;

use nonos_identity::{Epoch, NodeId, Timestamp};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::cell::DestroyReason;
use crate::config::{Config, ConfigError};
use crate::descriptor::RelayDescriptor;
use crate::epoch::EpochKeys;

/// A reliable, ordered byte stream to a neighbour, already authenticated as that neighbour and
/// encrypted; a mesh stream or a TLS connection.
pub trait ByteLink: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteLink for T {}

/// The relay cannot be reached. It says that, and not why: the reason would travel to a client
/// whom it does not concern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("relay cannot be reached")]
pub struct LinkError;

/// What [`Links::open`] returns.
pub type LinkFuture = Pin<Box<dyn Future<Output = Result<Box<dyn ByteLink>, LinkError>> + Send>>;

/// How to reach a relay.
///
/// The link that the future yields leads to exactly that node: the implementation authenticates
/// it. The other end hands the same connection to [`Onion::accept_link`]. The driver drops the
/// future when nobody waits for it any more, and opens one link per relay at a time.
pub trait Links: Send + Sync {
    /// Opens a link.
    fn open(&self, relay: NodeId) -> LinkFuture;
}

/// Tells the time.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// The clock of the operating system.
#[must_use]
pub fn system_clock() -> Clock {
    Arc::new(|| {
        #[expect(clippy::disallowed_methods, reason = "the driver is where the wall clock enters")]
        let now = std::time::SystemTime::now();
        let since = now.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_secs(since.as_secs())
    })
}

/// This node's number for a circuit; means nothing to any other node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LocalCircuitId(u64);

/// Why a circuit ended, as far as its client can know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed {
    /// What was reported.
    pub reason: DestroyReason,
    /// The hop blamed, counted from 0 at the client's neighbour. It is the claim of the hop before
    /// it, which may be the culprit itself: treat both as suspects. `None` where no hop is to
    /// blame, or where a changed cell does not tell who changed it.
    pub blamed: Option<usize>,
}

/// Why a circuit was not built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The caller's path is empty, too long, or names a node twice or this node.
    #[error("path is empty, too long, or repeats a node")]
    Path,
    /// This node has as many circuits as it bears.
    #[error("too many circuits")]
    Circuits,
    /// A hop failed.
    #[error("hop {hop:?} failed: {reason}")]
    Hop {
        /// The hop blamed; see [`Closed::blamed`].
        hop: Option<usize>,
        /// What was reported.
        reason: DestroyReason,
    },
    /// The driver has stopped.
    #[error("the onion driver has stopped")]
    Stopped,
}

/// Why a stream was not opened, or a payment not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The destination refuses the port.
    #[error("destination refuses the stream")]
    Refused,
    /// The destination did not answer in time.
    #[error("destination does not answer")]
    Timeout,
    /// The circuit has as many streams as it bears.
    #[error("too many streams")]
    Streams,
    /// The circuit is closed.
    #[error("circuit is closed: {}", .0.reason)]
    Closed(Closed),
    /// The driver has stopped.
    #[error("the onion driver has stopped")]
    Stopped,
}

/// Why a payment was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PayError {
    /// Longer than [`MAX_PAYMENT_BYTES`].
    #[error("payment of {0} bytes is too long")]
    TooLong(usize),
    /// The circuit has no such hop.
    #[error("circuit has no hop {0}")]
    NoSuchHop(usize),
    /// The circuit is closed.
    #[error("circuit is closed: {}", .0.reason)]
    Closed(Closed),
    /// The driver has stopped.
    #[error("the onion driver has stopped")]
    Stopped,
}

/// Longest payment, in bytes: it fits one cell and stays cheap to keep.
pub const MAX_PAYMENT_BYTES: usize = 256;

/// Starts the machine.
#[derive(Debug)]
pub struct OnionDriver;

impl OnionDriver {
    /// Spawns the machine on the current tokio runtime. It stops when every [`Onion`],
    /// [`CircuitHandle`] and [`OnionStream`] is dropped.
    ///
    /// `seed` is fresh randomness; everything the machine draws comes from it.
    ///
    /// # Errors
    /// [`ConfigError`] if the limits do not work together.
    pub fn spawn(
        config: Config,
        keys: EpochKeys,
        links: Arc<dyn Links>,
        clock: Clock,
        seed: [u8; 32],
    ) -> Result<(Onion, Incoming, Payments), ConfigError> {
        config.limits.check()?;
        let _ = (keys, links, clock, seed);
        Ok((Onion {}, Incoming {}, Payments {}))
    }
}

/// A handle to the running machine; cheap to clone.
#[derive(Clone, Debug)]
pub struct Onion {}

impl Onion {
    /// Takes a link that a neighbour opened, authenticated as `peer`.
    #[expect(clippy::unused_async, reason = "API first")]
    pub async fn accept_link(&self, peer: NodeId, io: Box<dyn ByteLink>) {
        let _ = (peer, io);
    }

    /// Builds a circuit through `path`: the relays in order and the destination as the last hop.
    ///
    /// # Errors
    /// [`BuildError`]; the hop that failed is blamed.
    #[expect(clippy::unused_async, reason = "API first")]
    pub async fn build(&self, path: Vec<RelayDescriptor>) -> Result<CircuitHandle, BuildError> {
        let _ = path;
        Err(BuildError::Stopped)
    }

    /// This node's public onion key of an epoch (the current or the next), for its descriptor.
    #[expect(clippy::unused_async, reason = "API first")]
    pub async fn onion_key(&self, epoch: Epoch) -> Option<[u8; 32]> {
        let _ = epoch;
        None
    }
}

/// A circuit this node built; cheap to clone. The circuit closes with its last handle and stream.
#[derive(Clone, Debug)]
pub struct CircuitHandle {
    id: LocalCircuitId,
}

impl CircuitHandle {
    /// This node's number for it.
    #[must_use]
    pub const fn id(&self) -> LocalCircuitId {
        self.id
    }

    /// Opens a stream to a port of the destination.
    ///
    /// # Errors
    /// [`OpenError`].
    #[expect(clippy::unused_async, reason = "API first")]
    pub async fn open(&self, port: u16) -> Result<OnionStream, OpenError> {
        let _ = port;
        Err(OpenError::Stopped)
    }

    /// Sends a payment, opaque here, to hop `hop`, counted from 0 at the neighbour.
    ///
    /// # Errors
    /// [`PayError`].
    #[expect(clippy::unused_async, reason = "API first")]
    pub async fn pay(&self, hop: usize, bytes: Vec<u8>) -> Result<(), PayError> {
        let _ = (hop, bytes);
        Err(PayError::Stopped)
    }

    /// Cells the circuit has carried so far, both directions, as every hop counts them.
    #[must_use]
    pub fn cells(&self) -> u64 {
        0
    }

    /// Waits until the circuit is closed and says why.
    #[expect(clippy::unused_async, reason = "API first")]
    pub async fn closed(&self) -> Closed {
        Closed { reason: DestroyReason::Finished, blamed: None }
    }

    /// Closes it now, streams included.
    pub fn close(&self) {}
}

/// A stream inside a circuit. Writing stops when the windows are full and goes on when the reader
/// at the other end reads. `shutdown` ends the writing half; dropping resets what is left.
#[derive(Debug)]
pub struct OnionStream {}

impl AsyncRead for OnionStream {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for OnionStream {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A stream that some client opened to this node; nothing tells who.
#[derive(Debug)]
pub struct IncomingStream {
    /// The port the client asked for.
    pub port: u16,
    /// The stream.
    pub stream: OnionStream,
    /// The circuit it came by.
    pub circuit: LocalCircuitId,
}

/// The streams that clients open to this node.
#[derive(Debug)]
pub struct Incoming {}

impl Incoming {
    /// Waits for the next stream; `None` once the driver has stopped. A stream that nobody takes
    /// in time is refused.
    #[expect(clippy::unused_async, reason = "API first")]
    pub async fn recv(&mut self) -> Option<IncomingStream> {
        None
    }
}

/// A payment that a client sent to this node as a hop of its circuit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payment {
    /// The circuit it came by.
    pub circuit: LocalCircuitId,
    /// Cells this node has carried for the circuit so far, both directions.
    pub cells: u64,
    /// What the client sent, at most [`MAX_PAYMENT_BYTES`]; opaque and unchecked.
    pub bytes: Vec<u8>,
}

/// The payments that clients send to this node.
#[derive(Debug)]
pub struct Payments {}

impl Payments {
    /// Waits for the next payment; `None` once the driver has stopped. Payments that nobody takes
    /// in time are lost: take them.
    #[expect(clippy::unused_async, reason = "API first")]
    pub async fn recv(&mut self) -> Option<Payment> {
        None
    }
}
