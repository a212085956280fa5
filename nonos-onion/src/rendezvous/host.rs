mod point;
mod publish;

use core::fmt;
use core::task::{Context, Poll};
use core::time::Duration;
use std::collections::BTreeSet;
use std::sync::Arc;

use nonos_identity::{NodeId, OnionAddress, PublicKey, SigningKey, StaticSecret, Timestamp};
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use crate::rendezvous::Environment;
use crate::rendezvous::draw::Draw;
use crate::rendezvous::handshake::RelayHint;
use crate::rendezvous::host::point::Point;
use crate::rendezvous::host::publish::Publisher;
use crate::rendezvous::stream::ServiceStream;
use crate::service::{IntroductionPoint, MAX_CLIENTS, Service, ServiceDescriptor};

/// How often the host looks at the clock.
const CLOCK_CHECK: Duration = Duration::from_secs(1);
/// How long the host waits for the rest of its introduction points before it publishes some.
const SETTLE: Duration = Duration::from_secs(20);
/// Shortest life of an introduction point; the longest is twice that, at random, so that they do not all
/// change at once (rend-spec-v3, section 4.1.1, has 18 to 24 hours).
const MIN_POINT_LIFE: Duration = Duration::from_secs(12 * 3600);
/// Events that wait for the host; more make the introduction points wait.
const EVENTS: usize = 32;

/// How a service is offered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostConfig {
    /// Introduction points at a time, at most [`ServiceDescriptor::MAX_POINTS`].
    pub points: usize,
    /// Who can visit: whoever knows the address, or of those the holders of these X25519 keys. Who is to be
    /// shut out needs a new host: the introduction points stay known to those that have seen them.
    pub clients: Option<Vec<[u8; 32]>>,
}

impl Default for HostConfig {
    /// Three introduction points, for everybody.
    fn default() -> Self {
        Self { points: 3, clients: None }
    }
}

/// Why a service is not offered. The caller's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// No introduction point, or more than [`ServiceDescriptor::MAX_POINTS`].
    #[error("{0} introduction points are not within 1 and {max}", max = ServiceDescriptor::MAX_POINTS)]
    Points(usize),
    /// More than [`MAX_CLIENTS`].
    #[error("{0} authorised clients exceed the limit of {MAX_CLIENTS}")]
    Clients(usize),
    /// A client's key has a small order: everybody could read its entry.
    #[error("key of an authorised client has a small order")]
    ClientKey,
}

/// A stream that some client opened to the service; nothing tells who.
///
/// One that is dropped at once may leave its client waiting until it times out; one that is shut down tells it.
#[derive(Debug)]
pub struct Visit {
    /// The port the client asked for.
    pub port: u16,
    /// The stream.
    pub stream: ServiceStream,
}

/// The visits to a service. The service is offered as long as it is there.
#[derive(Debug)]
pub struct Visitors(Receiver<Visit>);

impl Visitors {
    /// Visits that wait to be taken. Beyond, the host asks its introduction points for no more.
    pub const MAX_WAITING: usize = 16;

    /// Waits for the next visit; `None` once the host has stopped.
    pub async fn recv(&mut self) -> Option<Visit> {
        self.0.recv().await
    }

    /// Polls for the next visit.
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Visit>> {
        self.0.poll_recv(cx)
    }
}

/// Offers an onion service: keeps introduction points established, publishes them, and answers clients.
///
/// A point that is lost is established again with the same keys, and another relay takes its place if that
/// fails. Every epoch each point gets a new circuit before the old one ends. Descriptors are published for
/// both periods of [`TimePeriod::published_at`](crate::service::TimePeriod::published_at), again
/// when the points change, and every hour.
///
/// A node that is a relay itself had better not be a host: clients choose the rendezvous, and the one relay at
/// which the service never comes is its own. Whoever runs both gives the host a node of its own
/// that relays nothing.
#[derive(Clone)]
pub struct Host {
    address: OnionAddress,
    published: watch::Receiver<Published>,
}

#[derive(Clone, Debug, Default)]
struct Published {
    count: u64,
    relays: Vec<NodeId>,
}

impl Host {
    /// Spawns the host on the current tokio runtime. It stops when the [`Visitors`] are dropped. `seed` is
    /// fresh randomness.
    ///
    /// # Errors
    /// [`HostError`] if the configuration is not accepted.
    pub fn spawn(
        environment: Environment,
        service: Arc<Service>,
        config: HostConfig,
        seed: &[u8; 32],
    ) -> Result<(Self, Visitors), HostError> {
        if config.points == 0 || config.points > ServiceDescriptor::MAX_POINTS {
            return Err(HostError::Points(config.points));
        }
        let clients = config.clients.as_deref().unwrap_or_default();
        if clients.len() > MAX_CLIENTS {
            return Err(HostError::Clients(clients.len()));
        }
        let probe = StaticSecret::from_bytes(&[1; 32]);
        if clients.iter().any(|client| probe.diffie_hellman(client).is_err()) {
            return Err(HostError::ClientKey);
        }
        let address = service.address();
        let (visits, visitors) = mpsc::channel(Visitors::MAX_WAITING);
        let (events, inbox) = mpsc::channel(EVENTS);
        let (publications, published) = watch::channel(Published::default());
        let shared =
            Arc::new(Shared { environment, identity: address.key(), draw: Draw::new(seed), visits, events });
        let task = Task {
            publisher: Publisher::new(service, config.clients),
            target: config.points,
            shared,
            places: Vec::new(),
            tasks: JoinSet::new(),
            next: 0,
            settled: None,
            shown: BTreeSet::new(),
            publications,
        };
        tokio::spawn(task.run(inbox));
        Ok((Self { address, published }, Visitors(visitors)))
    }

    /// The address of the service.
    #[must_use]
    pub const fn address(&self) -> OnionAddress {
        self.address
    }

    /// Waits until the service has been published; `false` if the host stopped first.
    pub async fn published(&self) -> bool {
        let mut published = self.published.clone();
        published.wait_for(|published| published.count > 0).await.is_ok()
    }

    /// How often it has been published so far.
    #[must_use]
    pub fn publications(&self) -> u64 {
        self.published.borrow().count
    }

    /// The relays of the introduction points that were published last.
    #[must_use]
    pub fn relays(&self) -> Vec<NodeId> {
        self.published.borrow().relays.clone()
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").field("publications", &self.publications()).finish_non_exhaustive()
    }
}

/// What the host and its introduction points have in common.
struct Shared {
    environment: Environment,
    identity: PublicKey,
    draw: Draw,
    visits: Sender<Visit>,
    events: Sender<Event>,
}

impl Shared {
    fn now(&self) -> Timestamp {
        (self.environment.clock)()
    }
}

/// What an introduction point says of itself, by number.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// It is established.
    Up(u64),
    /// It is not, and tries again.
    Down(u64),
    /// It is not any more, and its task has ended.
    Gone(u64),
}

/// An introduction point as the host sees it.
struct Place {
    number: u64,
    listed: IntroductionPoint,
    up: bool,
    until: Timestamp,
    task: AbortHandle,
}

struct Task {
    publisher: Publisher,
    target: usize,
    shared: Arc<Shared>,
    places: Vec<Place>,
    /// Ends with this task.
    tasks: JoinSet<()>,
    next: u64,
    /// When what is up last changed.
    settled: Option<tokio::time::Instant>,
    /// The keys of the points that were published last.
    shown: BTreeSet<[u8; 32]>,
    publications: watch::Sender<Published>,
}

impl Task {
    async fn run(mut self, mut inbox: Receiver<Event>) {
        let visits = self.shared.visits.clone();
        loop {
            self.retire();
            self.fill();
            if self.is_due() {
                self.publish().await;
            }
            tokio::select! {
                () = visits.closed() => break,
                Some(event) = inbox.recv() => self.event(event),
                Some(_) = self.tasks.join_next() => {}
                () = tokio::time::sleep(CLOCK_CHECK) => {}
            }
        }
    }

    fn event(&mut self, event: Event) {
        self.settled = Some(tokio::time::Instant::now());
        match event {
            Event::Up(number) => self.set_up(number, true),
            Event::Down(number) => self.set_up(number, false),
            Event::Gone(number) => self.places.retain(|place| place.number != number),
        }
    }

    fn set_up(&mut self, number: u64, up: bool) {
        if let Some(place) = self.places.iter_mut().find(|place| place.number == number) {
            place.up = up;
        }
    }

    /// Lets points go whose time is over.
    fn retire(&mut self) {
        let now = self.shared.now();
        self.places.retain(|place| {
            let stays = now < place.until;
            if !stays {
                place.task.abort();
            }
            stays
        });
    }

    /// Draws introduction points while some lack and relays are known.
    fn fill(&mut self) {
        while self.places.len() < self.target {
            let taken: Vec<NodeId> = self.places.iter().map(|place| place.listed.relay).collect();
            let Some(relay) = self.shared.environment.circuits.pick(&taken) else { return };
            self.start(relay);
        }
    }

    fn start(&mut self, relay: RelayHint) {
        let (shared, number) = (&self.shared, self.next);
        self.next += 1;
        let auth = SigningKey::from_seed(&shared.draw.seed());
        let encryption = StaticSecret::from_bytes(&shared.draw.seed());
        let listed = IntroductionPoint {
            relay: relay.relay,
            onion_key: relay.onion_key,
            epoch: relay.epoch,
            auth_key: auth.public(),
            encryption_key: encryption.public(),
        };
        let extra = shared.draw.below(usize::try_from(MIN_POINT_LIFE.as_secs()).unwrap_or(usize::MAX));
        let life = MIN_POINT_LIFE + Duration::from_secs(extra as u64);
        let until = shared.now().saturating_add(life);
        let point = Point::new(Arc::clone(shared), number, relay, auth, encryption);
        let task = self.tasks.spawn(point.run());
        self.places.push(Place { number, listed, up: false, until, task });
    }

    fn up(&self) -> impl Iterator<Item = &IntroductionPoint> {
        self.places.iter().filter(|place| place.up).map(|place| &place.listed)
    }

    fn is_due(&self) -> bool {
        let up: BTreeSet<[u8; 32]> = self.up().map(|point| *point.auth_key.as_bytes()).collect();
        if up.is_empty() || !self.publisher.may_try() {
            return false;
        }
        let settled = up.len() == self.target || self.settled.is_none_or(|at| at.elapsed() >= SETTLE);
        (up != self.shown && settled) || self.publisher.is_due(self.shared.now())
    }

    async fn publish(&mut self) {
        let listed: Vec<IntroductionPoint> = self.up().cloned().collect();
        let keys: BTreeSet<[u8; 32]> = listed.iter().map(|point| *point.auth_key.as_bytes()).collect();
        let relays: Vec<NodeId> = listed.iter().map(|point| point.relay).collect();
        let Ok(content) = ServiceDescriptor::new(listed) else { return };
        let changed = self.shown != keys;
        if self.publisher.publish(&self.shared, &content, changed).await {
            self.shown = keys;
            self.publications.send_modify(|published| {
                published.count += 1;
                published.relays = relays;
            });
        }
    }
}
