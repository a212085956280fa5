use core::fmt;
use core::time::Duration;
use std::io;

use nonos_identity::{OnionAddress, StaticSecret};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use crate::circuit::OpenError;
use crate::handshake::HandshakeError;
use crate::link::{CircuitHandle, OnionStream};
use crate::rendezvous::ahead::Ahead;
use crate::rendezvous::circuits::{CircuitError, Purpose};
use crate::rendezvous::draw::Draw;
use crate::rendezvous::fetch::Fetched;
use crate::rendezvous::frame::{ANSWER_BYTES, Answer, FrameError, Introduce};
use crate::rendezvous::handshake::{
    COOKIE_BYTES, Context, Initiator, Introduction, REPLY_BYTES, RelayHint, Sealed,
};
use crate::rendezvous::puzzle::{self, Effort};
use crate::rendezvous::stream::ServiceStream;
use crate::rendezvous::{Environment, ports};
use crate::service::{DescriptorError, DirectoryError, IntroductionPoint, Opened, TimePeriod, WrongNetwork};

/// Time for one introduction point, from the first circuit to the service's answer. The work for the
/// highest effort is in it.
pub const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(40);
/// Introduction points that a client tries of one descriptor. Against a service that sends it around.
pub const MAX_ATTEMPTS: usize = 3;
/// Times that a client works on one introduction.
const MAX_BIDS: usize = 3;

/// What a client does beyond the visits it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DialerConfig {
    /// Whether a visit has the first circuit of the next one to the same service built meanwhile: the next then takes
    /// three round trips over a path instead of four. The price is one circuit more for each service that is visited,
    /// of at most eight, the oldest of which goes.
    pub ahead: bool,
    /// How long such a circuit waits for its visit. Against circuits held at relays for visits that never come.
    pub idle: Duration,
}

impl Default for DialerConfig {
    /// One ahead, for two minutes.
    fn default() -> Self {
        Self { ahead: true, idle: Duration::from_secs(120) }
    }
}

/// Why a client has no stream to a service.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// The address is not one of this mesh; the caller's fault.
    #[error(transparent)]
    Network(#[from] WrongNetwork),
    /// This node knows no random value of the period; nobody's fault.
    #[error("no shared random value is known for time period {0}")]
    NoRandom(TimePeriod),
    /// No directory answers.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// No descriptor opens.
    #[error(transparent)]
    Descriptor(#[from] DescriptorError),
    /// This node knows no relay at which to wait for the service.
    #[error("no rendezvous relay is known")]
    NoRelay,
    /// A circuit does not stand.
    #[error(transparent)]
    Circuit(#[from] CircuitError),
    /// A circuit stands and takes no stream.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A stream to a hub broke: the hub's fault, its bounds or the circuit's end.
    #[error("hub's stream ended: {0}")]
    Stream(io::ErrorKind),
    /// The hub does not keep the protocol.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The hub does not know the service; it may have moved.
    #[error("service is not at its introduction point")]
    Moved,
    /// The service has more visitors than it bears and others do more work.
    #[error("service is busy; others offer more than {0}")]
    Busy(Effort),
    /// The hub says that the introduction came before; its fault.
    #[error("hub refuses a fresh introduction as a repeated one")]
    Repeated,
    /// Whoever answered does not hold the service's key, or something was changed on the way.
    #[error("answer is not the service's")]
    Answer,
    /// No answer in [`ATTEMPT_TIMEOUT`]: the service refuses, or somebody in between is slow or drops.
    #[error("service does not answer")]
    Timeout,
}

impl From<HandshakeError> for DialError {
    fn from(_: HandshakeError) -> Self {
        Self::Answer
    }
}

impl From<io::Error> for DialError {
    fn from(error: io::Error) -> Self {
        Self::Stream(error.kind())
    }
}

/// Opens streams to onion services.
///
/// It keeps the newest descriptors that it has seen, to ask less and to notice older ones, and a circuit ahead of the
/// next visit to each service of late, to be there sooner.
pub struct Dialer {
    environment: Environment,
    config: DialerConfig,
    draw: Draw,
    fetched: Fetched,
    ahead: Ahead,
}

impl Dialer {
    /// `seed` is fresh randomness.
    #[must_use]
    pub fn new(environment: Environment, config: DialerConfig, seed: &[u8; 32]) -> Self {
        let ahead = Ahead::new(config.idle);
        Self { environment, config, draw: Draw::new(seed), fetched: Fetched::default(), ahead }
    }

    /// Opens a stream to a port of a service; `client_key` is the secret by which the service authorised this
    /// client, if it did. Dropping the future leaves nothing behind but a circuit ahead.
    ///
    /// With a descriptor and a circuit at hand it takes three round trips over a path: the introduction goes while the
    /// circuit to the rendezvous is built, and nothing waits for a stream to be opened. Both are at hand after the
    /// first dial, unless [`DialerConfig::ahead`] is off or the last one is long ago, and after [`Self::prepare`].
    /// Without the circuit it takes four.
    ///
    /// # Errors
    /// [`DialError`], of the last introduction point that was tried.
    pub async fn dial(
        &self,
        address: &OnionAddress,
        port: u16,
        client_key: Option<&StaticSecret>,
    ) -> Result<ServiceStream, DialError> {
        let found = self.fetched.descriptor(&self.environment, address, client_key, false).await?;
        match self.visit(&found.opened, port).await {
            Err(error) if found.kept => {
                let anew = self.fetched.descriptor(&self.environment, address, client_key, true).await?;
                if anew.opened == found.opened { Err(error) } else { self.visit(&anew.opened, port).await }
            }
            result => result,
        }
    }

    /// Fetches a service's descriptor, if none is at hand, and builds the first circuit of the next
    /// [`Self::dial`] to it, if none stands. The circuit carries that one dial, and lives for
    /// [`DialerConfig::idle`] and no longer than the epoch.
    ///
    /// # Errors
    /// [`DialError`].
    pub async fn prepare(
        &self,
        address: &OnionAddress,
        client_key: Option<&StaticSecret>,
    ) -> Result<(), DialError> {
        let found = self.fetched.descriptor(&self.environment, address, client_key, false).await?;
        let points = found.opened.descriptor.points();
        if points.iter().any(|point| self.ahead.stands(point)) {
            return Ok(());
        }
        let Some(point) = points.get(self.draw.below(points.len())) else { return Ok(()) };
        let circuit = self.environment.circuits.build(point.into(), Purpose::Introduce).await?;
        self.ahead.keep(&point.auth_key, circuit);
        Ok(())
    }

    /// Has the circuit of the next visit built, unless there is one or soon will be.
    fn look_ahead(&self, opened: &Opened) {
        let points = opened.descriptor.points();
        if !self.config.ahead || points.iter().any(|point| self.ahead.is_coming(point)) {
            return;
        }
        let Some(point) = points.get(self.draw.below(points.len())) else { return };
        self.ahead.start(&point.auth_key, self.environment.circuits.build(point.into(), Purpose::Introduce));
    }

    async fn visit(&self, opened: &Opened, port: u16) -> Result<ServiceStream, DialError> {
        let mut points: Vec<_> = opened.descriptor.points().iter().collect();
        self.draw.shuffle(&mut points);
        points.sort_by_key(|point| !self.ahead.stands(point));
        let mut last = DialError::Timeout;
        for point in points.into_iter().take(MAX_ATTEMPTS) {
            match timeout(ATTEMPT_TIMEOUT, self.attempt(opened, point, port)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => last = error,
                Err(_) => last = DialError::Timeout,
            }
        }
        Err(last)
    }

    async fn attempt(
        &self,
        opened: &Opened,
        point: &IntroductionPoint,
        port: u16,
    ) -> Result<ServiceStream, DialError> {
        let rendezvous = self.environment.circuits.pick(&[point.relay]).ok_or(DialError::NoRelay)?;
        let cookie: [u8; COOKIE_BYTES] = *self.draw.seed();
        let context = Context {
            network: &self.environment.network,
            relay: point.relay,
            auth_key: &point.auth_key,
            keys: &opened.keys,
        };
        let introduction = Introduction { rendezvous, cookie, port };
        let (initiator, sealed) =
            Initiator::start(&context, &point.encryption_key, &introduction, &self.draw.seed())?;
        let introduce = self.introduce(point, sealed);
        let answer = self.wait(rendezvous, &cookie, initiator);
        tokio::pin!(introduce, answer);
        tokio::select! {
            stream = &mut answer => {
                if stream.is_ok() {
                    self.look_ahead(opened);
                }
                stream
            }
            passed = &mut introduce => {
                passed?;
                // Built while the service comes, it stands by the time at which the stream does.
                self.look_ahead(opened);
                answer.await
            }
        }
    }

    /// Waits at the rendezvous for the service's answer.
    async fn wait(
        &self,
        rendezvous: RelayHint,
        cookie: &[u8; COOKIE_BYTES],
        initiator: Initiator,
    ) -> Result<ServiceStream, DialError> {
        let mut stream = self.open(rendezvous, Purpose::Wait, ports::RENDEZVOUS).await?;
        stream.write_all(cookie).await?;
        let mut answer = Box::new([0; REPLY_BYTES]);
        stream.read_exact(&mut *answer).await?;
        let noise = initiator.finish(&answer)?;
        Ok(ServiceStream::new(Box::new(stream), noise))
    }

    /// Has the introduction passed on, by work if others offer some.
    async fn introduce(&self, point: &IntroductionPoint, sealed: Sealed) -> Result<(), DialError> {
        let mut stream = match self.ahead.take(&point.auth_key) {
            // One that has ended meanwhile takes no stream.
            Some(circuit) => circuit.open_early(ports::INTRODUCE).await.ok(),
            None => None,
        };
        let mut stream = match stream.take() {
            Some(stream) => stream,
            None => self.open(point.into(), Purpose::Introduce, ports::INTRODUCE).await?,
        };
        let name = puzzle::name(&point.auth_key, &sealed[..]);
        let auth_key = *point.auth_key.as_bytes();
        let mut request = Introduce { auth_key, effort: Effort::NONE, nonce: 0, sealed };
        for bid in 0..=MAX_BIDS {
            stream.write_all(&request.write()).await?;
            let mut answer = [0; ANSWER_BYTES];
            stream.read_exact(&mut answer).await?;
            match Answer::read(&answer)? {
                Answer::Passed => return Ok(()),
                Answer::Unknown => return Err(DialError::Moved),
                Answer::Repeated => return Err(DialError::Repeated),
                Answer::Busy(effort) if effort <= request.effort || bid == MAX_BIDS => break,
                Answer::Busy(effort) => {
                    request.effort = effort;
                    let work = tokio::task::spawn_blocking(move || puzzle::solve(&name, effort));
                    request.nonce = work.await.map_err(io::Error::from)?;
                }
            }
        }
        Err(DialError::Busy(request.effort))
    }

    async fn open(&self, relay: RelayHint, purpose: Purpose, port: u16) -> Result<OnionStream, DialError> {
        let circuit: CircuitHandle = self.environment.circuits.build(relay, purpose).await?;
        Ok(circuit.open_early(port).await?)
    }
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Dialer");
        debug.field("fetched", &self.fetched).field("ahead", &self.ahead).finish_non_exhaustive()
    }
}
