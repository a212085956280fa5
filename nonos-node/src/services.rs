//! Onion services that this node offers, and those that it visits.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use nonos_identity::{Digest, NodeId, OnionAddress, SigningKey, StaticSecret};
use nonos_onion::link::system_clock;
use nonos_onion::rendezvous::{
    CircuitError, CircuitFuture, Circuits, DialError, Dialer, DialerConfig, Environment, Host, HostConfig,
    HostError, Purpose, RelayHint, ServiceStream, Visitors,
};
use nonos_onion::service::Service;
use nonos_onion::{BuildError, GuardError, HopClass};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

use crate::circuits::RouteError;
use crate::config::{Config, ConfigError, parse_key};
use crate::directory::{Directories, shared_random};
use crate::event::Event;
use crate::node::Shared;
use crate::{clock, domains};

/// Services of one node.
const SERVICES_MAX: usize = 8;
/// Visits to one service, and connections through one forward, at a time; more wait.
const VISITS_MAX: usize = 64;
/// Local listeners that forward to services.
const FORWARDS_MAX: usize = 16;
/// Pause after a connection that could not be taken.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long a target on this machine may take to answer.
const TARGET_PATIENCE: Duration = Duration::from_secs(10);

/// An onion service of a node, one of `[[onion_services]]` in its settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OnionService {
    /// Names it among the node's services; its key, and so its address, follows from the name and the node's
    /// seed.
    pub name: String,
    /// X25519 keys of those who may visit it, as `nonos onion key` prints them; whoever knows the
    /// address if there are none.
    #[serde(default)]
    pub clients: Vec<String>,
    /// Its ports.
    pub forward: Vec<Forward>,
}

/// Where the visitors of one port of a service go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Forward {
    /// The port they ask for.
    pub port: u16,
    /// The TCP server that they get.
    pub to: SocketAddr,
}

/// Why a node does not reach or offer a service.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceError {
    /// Too many services in the settings; the operator's to mend.
    #[error("onion_services: {0} are more than {SERVICES_MAX}")]
    Count(usize),
    /// Two services with one name would have one key; the operator's to mend.
    #[error("onion_services: {0:?} is there twice")]
    Name(String),
    /// A key of a client.
    #[error("onion_services: {0}")]
    Client(#[from] ConfigError),
    /// The settings of a service.
    #[error("onion_services: {0}")]
    Host(#[from] HostError),
    /// Not an onion address of the mesh.
    #[error("{0:?} is not an onion address with a port, as in ADDRESS:80")]
    Address(String),
    /// The service was not reached.
    #[error("service not reached")]
    Dial(#[from] DialError),
    /// Others on the network could use the node's circuits.
    #[error("{0} is not a loopback address: whoever reaches it would speak through this node")]
    NotLocal(SocketAddr),
    /// Too many listeners.
    #[error("{FORWARDS_MAX} listeners forward already")]
    Forwards,
    /// The listener cannot be opened.
    #[error("cannot listen on {0}")]
    Listen(SocketAddr, #[source] std::io::Error),
}

/// Services of this node and how it reaches others.
pub(crate) struct Services {
    dialer: Dialer,
    hosts: Vec<(String, Host)>,
    forwards: Arc<Semaphore>,
}

impl Services {
    /// Offers the services of the settings.
    pub(crate) fn start(shared: &Arc<Shared>) -> Result<Self, ServiceError> {
        let network = shared.network;
        let environment = Environment {
            network,
            circuits: Arc::new(NodeCircuits(Arc::downgrade(shared))),
            directory: Arc::new(Directories(Arc::downgrade(shared))),
            randoms: Arc::new(move |period| Some(shared_random(&network, period))),
            clock: system_clock(),
        };
        let mut hosts = Vec::new();
        for settings in &shared.config.onion_services {
            let key = shared.service_key(&settings.name);
            let clients = settings.client_keys()?;
            let config =
                HostConfig { clients: (!clients.is_empty()).then_some(clients), ..HostConfig::default() };
            // A key from a digest is a key like any other: it has no small order.
            let Ok(service) = Service::new(network, &key) else { continue };
            let (host, visitors) =
                Host::spawn(environment.clone(), Arc::new(service), config, &clock::random())?;
            let (forward, stopping) = (settings.forward.clone(), shared.stopping.subscribe());
            tokio::spawn(until_stopped(stopping, receive(visitors, forward)));
            hosts.push((settings.name.clone(), host));
        }
        let dialer = Dialer::new(environment, DialerConfig::default(), &clock::random());
        Ok(Self { dialer, hosts, forwards: Arc::new(Semaphore::new(FORWARDS_MAX)) })
    }

    /// The node's services: name, address, how often it was published, introduction points.
    pub(crate) fn hosts(&self) -> impl Iterator<Item = (&str, OnionAddress, u64, usize)> {
        self.hosts
            .iter()
            .map(|(name, host)| (name.as_str(), host.address(), host.publications(), host.relays().len()))
    }
}

impl fmt::Debug for Services {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Services").field("hosts", &self.hosts.len()).finish_non_exhaustive()
    }
}

impl OnionService {
    fn client_keys(&self) -> Result<Vec<[u8; 32]>, ConfigError> {
        self.clients.iter().map(|text| parse_key(text)).collect()
    }
}

impl Config {
    /// Checks the onion services of the settings.
    ///
    /// # Errors
    /// [`ServiceError`] names the first that does not do.
    pub fn check_services(&self) -> Result<(), ServiceError> {
        let services = &self.onion_services;
        if services.len() > SERVICES_MAX {
            return Err(ServiceError::Count(services.len()));
        }
        for (at, service) in services.iter().enumerate() {
            if services.iter().take(at).any(|other| other.name == service.name) {
                return Err(ServiceError::Name(service.name.clone()));
            }
            service.client_keys()?;
        }
        Ok(())
    }
}

/// A port of a service, as text `ADDRESS:PORT`.
pub(crate) fn parse_target(text: &str) -> Result<(OnionAddress, u16), ServiceError> {
    let wrong = || ServiceError::Address(text.into());
    let (address, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    Ok((address.parse().map_err(|_| wrong())?, port.parse().map_err(|_| wrong())?))
}

impl Shared {
    /// The key of one of this node's services. Nothing links it to the node's other keys.
    fn service_key(&self, name: &str) -> SigningKey {
        let secret = self.identity.zk_secret(0);
        SigningKey::from_seed(Digest::of(domains::ONION_SERVICE, &[&secret[..], name.as_bytes()]).as_bytes())
    }

    /// The key by which a service may know this node: another one for each.
    pub(crate) fn client_key(&self, address: &OnionAddress) -> StaticSecret {
        let secret = self.identity.zk_secret(0);
        let address = address.to_bytes();
        StaticSecret::from_bytes(Digest::of(domains::ONION_CLIENT, &[&secret[..], &address]).as_bytes())
    }

    async fn visit(&self, address: &OnionAddress, port: u16) -> Result<ServiceStream, DialError> {
        let key = self.client_key(address);
        self.services().dialer.dial(address, port, Some(&key)).await
    }

    /// Builds the first circuit of the first visit, which saves it a round trip; each visit does so for the next.
    async fn prepare(&self, address: &OnionAddress) {
        let key = self.client_key(address);
        if let Err(error) = self.services().dialer.prepare(address, Some(&key)).await {
            tracing::debug!(%error, "no circuit ahead of a visit");
        }
    }

    /// Opens a stream to a service, drops it, and says how long that took.
    pub(crate) async fn reach(&self, target: &str) -> Result<Duration, ServiceError> {
        let (address, port) = parse_target(target)?;
        let begin = Instant::now();
        drop(self.visit(&address, port).await?);
        Ok(begin.elapsed())
    }

    /// Listens on a local port, whose connections go to a port of a service; says where it listens.
    pub(crate) async fn forward(
        self: &Arc<Self>,
        target: &str,
        listen: SocketAddr,
    ) -> Result<SocketAddr, ServiceError> {
        let (address, port) = parse_target(target)?;
        if !listen.ip().is_loopback() {
            return Err(ServiceError::NotLocal(listen));
        }
        let place =
            self.services().forwards.clone().try_acquire_owned().map_err(|_| ServiceError::Forwards)?;
        let failed = |error| ServiceError::Listen(listen, error);
        let listener = TcpListener::bind(listen).await.map_err(failed)?;
        let bound = listener.local_addr().map_err(failed)?;
        let (stopping, shared) = (self.stopping.subscribe(), self.clone());
        tokio::spawn(async move {
            until_stopped(stopping, accept(shared, listener, address, port)).await;
            drop(place);
        });
        Ok(bound)
    }
}

async fn until_stopped(mut stopping: watch::Receiver<bool>, work: impl Future<Output = ()>) {
    tokio::select! {
        () = work => {}
        // A node that is gone has stopped.
        _ = stopping.wait_for(|stopping| *stopping) => {}
    }
}

/// Takes local connections to a service.
async fn accept(shared: Arc<Shared>, listener: TcpListener, address: OnionAddress, port: u16) {
    let places = Arc::new(Semaphore::new(VISITS_MAX));
    shared.prepare(&address).await;
    while let Ok(place) = places.clone().acquire_owned().await {
        let Ok((mut local, _)) = listener.accept().await else {
            // Out of descriptors, as a rule: some come back.
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let shared = shared.clone();
        tokio::spawn(async move {
            match shared.visit(&address, port).await {
                Ok(mut stream) => {
                    // Either end may break the connection; there is nobody to tell.
                    drop(copy_bidirectional(&mut local, &mut stream).await);
                }
                Err(error) => shared.fail("visit an onion service", &error),
            }
            drop(place);
        });
    }
}

/// Takes visitors to the servers on this machine.
async fn receive(mut visitors: Visitors, forward: Vec<Forward>) {
    let places = Arc::new(Semaphore::new(VISITS_MAX));
    while let Ok(place) = places.clone().acquire_owned().await {
        let Some(mut visit) = visitors.recv().await else { return };
        let target = forward.iter().find(|forward| forward.port == visit.port).map(|forward| forward.to);
        tokio::spawn(async move {
            // Either end may break the connection; there is nobody to tell.
            match connect(target).await {
                Some(mut server) => drop(copy_bidirectional(&mut visit.stream, &mut server).await),
                // A stream that is dropped leaves its visitor waiting; one that ends does not.
                None => drop(visit.stream.shutdown().await),
            }
            drop(place);
        });
    }
}

/// A connection to the server behind a port, if it has one and that answers.
async fn connect(target: Option<SocketAddr>) -> Option<TcpStream> {
    let to = target?;
    match tokio::time::timeout(TARGET_PATIENCE, TcpStream::connect(to)).await {
        Ok(Ok(server)) => Some(server),
        _ => {
            tracing::warn!(%to, "the server behind an onion service does not answer");
            None
        }
    }
}

/// Circuits of services and visits: pinned first and second hops, and never another way to a relay.
struct NodeCircuits(Weak<Shared>);

impl Circuits for NodeCircuits {
    fn build(&self, relay: RelayHint, purpose: Purpose) -> CircuitFuture {
        let shared = self.0.clone();
        Box::pin(async move {
            let shared = shared.upgrade().ok_or(BuildError::Stopped)?;
            let purpose = match purpose {
                Purpose::Introduce => "introduce",
                Purpose::Wait => "wait for a service",
                Purpose::Establish => "introduction point",
                Purpose::Meet => "meet a visitor",
                _ => "onion service",
            };
            let route = shared.provoked_route(purpose, relay.relay).await.map_err(circuit_error)?;
            Ok(route.circuit)
        })
    }

    fn pick(&self, exclude: &[NodeId]) -> Option<RelayHint> {
        let shared = self.0.upgrade()?;
        let now = clock::now();
        let relays = shared.board().relays(now);
        let exclude: Vec<NodeId> = exclude.iter().copied().chain([shared.me]).collect();
        // The first of two by weight is one by weight.
        let selection = shared.path_selector().select(&relays, &exclude, HopClass::Two, now, clock::random());
        selection.ok()?.relays.first().map(Into::into)
    }
}

fn circuit_error(error: RouteError) -> CircuitError {
    match error {
        RouteError::Path(error) => GuardError::from(error).into(),
        RouteError::Guard(error) => error.into(),
        RouteError::Destination(_) => CircuitError::UnknownRelay,
        RouteError::Build(error) => error.into(),
        RouteError::Open(_) => BuildError::Stopped.into(),
    }
}

/// Tells the addresses of the services, once each is published.
pub(crate) async fn announce(shared: Arc<Shared>) {
    let hosts: Vec<_> = shared.services().hosts.clone();
    for (name, host) in hosts {
        if host.published().await {
            shared.tell(Event::ServicePublished { name, address: host.address().to_string() });
        }
    }
}
