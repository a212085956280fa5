//! The async driver: runs the [`Machine`] in a task of its own over byte links.
//!
//! With the drivers of [`conflux`](crate::conflux), [`multipath`](crate::multipath) and [`rendezvous`](crate::rendezvous),
//! which stand on its streams, it is all of the crate that knows tokio, tasks and a clock. Handles talk to the task over
//! channels; the locks of stream buffers are held to copy bytes, never across cryptography.
//!
//! [`Machine`]: crate::Machine

mod handle;
mod stream;
mod task;
mod wire;

use core::future::Future;
use core::pin::Pin;
use std::sync::Arc;

use nonos_identity::{NodeId, Timestamp};
use tokio::io::{AsyncRead, AsyncWrite};

pub use crate::circuit::{
    BuildError, Closed, LocalCircuitId, MAX_PAYMENT_BYTES, OpenError, PayError, Payment,
};
use crate::config::{Config, ConfigError};
use crate::epoch::EpochKeys;
pub use crate::link::handle::{CircuitHandle, Incoming, IncomingStream, Onion, Payments, Transit, Transits};
pub use crate::link::stream::OnionStream;

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
/// it. The other end hands the same connection to [`Onion::accept_link`]. The driver opens one
/// link per relay at a time and drops the future after [`Limits::hop_timeout`].
///
/// [`Limits::hop_timeout`]: crate::Limits::hop_timeout
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

/// Starts the machine.
#[derive(Debug)]
pub struct OnionDriver;

impl OnionDriver {
    /// Spawns the machine on the current tokio runtime. It stops when every [`Onion`],
    /// [`CircuitHandle`] and [`OnionStream`] is dropped; a node that only relays keeps its
    /// [`Onion`].
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
        task::spawn(config, keys, links, clock, seed)
    }
}
