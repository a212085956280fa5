use core::fmt;
use core::future::poll_fn;
use core::pin::Pin;
use core::task::{Context, Poll};
use core::time::Duration;
use std::sync::Arc;

use nonos_identity::{Epoch, NodeId};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, timeout};

use crate::circuit::{BuildError, OpenError};
use crate::conflux::config::{Config, ConfigError};
use crate::conflux::drive::{Drive, Event};
use crate::conflux::frame::Nonce;
use crate::conflux::session::Session;
use crate::conflux::stream::{ConfluxStream, Shared};
use crate::conflux::upkeep::{Step, Upkeep};
use crate::link::{ByteLink, Clock};
use crate::path::PathError;

/// How often the wall clock is looked at: circuits live by it.
const TICK: Duration = Duration::from_secs(1);
/// A circuit and its stream that take longer are given up.
const BUILD_TIMEOUT: Duration = Duration::from_secs(60);

/// A stream of a new circuit to the destination.
pub struct BuiltLeg {
    /// The stream. The circuit must end with it.
    pub stream: Box<dyn ByteLink>,
    /// The epoch of the circuit.
    pub epoch: Epoch,
    /// Its relays, without the destination; later legs are asked to avoid them.
    pub relays: Vec<NodeId>,
}

impl fmt::Debug for BuiltLeg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BuiltLeg").field("epoch", &self.epoch).finish_non_exhaustive()
    }
}

/// Why there is no new leg. It is tried again, later each time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LegError {
    /// No path.
    #[error(transparent)]
    Path(#[from] PathError),
    /// No circuit.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// No stream.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The destination, or its key of the epoch, is not known.
    #[error("destination is not known")]
    Unknown,
}

/// What [`Legs::build`] returns.
pub type LegFuture = Pin<Box<dyn Future<Output = Result<BuiltLeg, LegError>> + Send>>;

/// Builds circuits to one destination.
pub trait Legs: Send + Sync {
    /// Builds a circuit of an epoch, which may be the next one, and opens a stream to the server's port.
    ///
    /// The relays in `avoid` carry other legs, or failed: a path through them is worse, not wrong, and where
    /// guards are pinned the first hop is not to be avoided. A circuit of an older epoch is taken too, and
    /// replaced soon. One call at a time; dropping the future gives the circuit up.
    fn build(&self, epoch: Epoch, avoid: Vec<NodeId>) -> LegFuture;
}

/// The client's end.
#[derive(Debug)]
pub struct Conflux;

impl Conflux {
    /// Opens a stream, on the current tokio runtime. It is there at once; bytes leave as soon as there is a
    /// circuit. [`ConfluxStream::linked`] waits for the server.
    ///
    /// `clock` is the one that epochs go by, `seed` is fresh randomness.
    ///
    /// # Errors
    /// [`ConfigError`] if the limits do not work together.
    pub fn open(
        legs: Arc<dyn Legs>,
        config: &Config,
        clock: Clock,
        seed: [u8; 32],
    ) -> Result<ConfluxStream, ConfigError> {
        let mut rng = ChaCha20Rng::from_seed(seed);
        let mut nonce = [0; 32];
        rng.fill_bytes(&mut nonce);
        let session = Session::connect(config, Duration::ZERO, Nonce::from_bytes(nonce))?;
        let shared = Shared::new(session, Instant::now(), false);
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut client = Client {
            drive: Drive::new(Arc::clone(&shared)),
            upkeep: Upkeep::new(rng.next_u64()),
            legs,
            clock,
            building: None,
            tick,
        };
        tokio::spawn(async move { poll_fn(|cx| client.poll(cx)).await });
        Ok(ConfluxStream::new(shared))
    }
}

/// What the task of a stream holds.
struct Client {
    drive: Drive,
    upkeep: Upkeep,
    legs: Arc<dyn Legs>,
    clock: Clock,
    building: Option<LegFuture>,
    tick: Interval,
}

impl Client {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.drive.poll(cx).is_ready() {
                return Poll::Ready(());
            }
            let mut changed = self.poll_building(cx);
            changed |= self.tick.poll_tick(cx).is_ready();
            changed |= self.keep_up();
            if !changed {
                return Poll::Pending;
            }
        }
    }

    fn poll_building(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(building) = &mut self.building else { return false };
        let Poll::Ready(built) = building.as_mut().poll(cx) else { return false };
        self.building = None;
        let now = self.drive.shared().now();
        match built {
            Ok(BuiltLeg { stream, epoch, relays }) => {
                let leg = self.drive.add(stream, None);
                self.upkeep.built((self.clock)(), now, leg, epoch, relays);
            }
            Err(error) => {
                tracing::debug!("no circuit for a leg: {error}");
                self.upkeep.failed(now);
            }
        }
        true
    }

    /// Yields whether there is something to do at once.
    fn keep_up(&mut self) -> bool {
        let now = self.drive.shared().now();
        for event in self.drive.events.drain(..) {
            match event {
                Event::Linked(leg) => self.upkeep.linked(now, leg),
                Event::Gone(leg) => self.upkeep.gone(now, leg),
            }
        }
        let state = self.drive.shared().lock();
        let (is_over, is_complete) = (state.session.ended().is_some(), state.session.is_complete());
        drop(state);
        if is_over {
            self.building = None;
            return false;
        }
        if is_complete {
            self.upkeep.wind_down();
        }
        let mut changed = false;
        while let Some(step) = self.upkeep.step((self.clock)(), now) {
            changed = true;
            match step {
                Step::Retire { leg } => self.drive.retire(leg),
                Step::Build { epoch, avoid } => {
                    let build = self.legs.build(epoch, avoid);
                    let within =
                        async { timeout(BUILD_TIMEOUT, build).await.unwrap_or(Err(LegError::Unknown)) };
                    self.building = Some(Box::pin(within));
                }
            }
        }
        changed
    }
}
