use core::fmt;
use core::future::{Future, Ready, ready};
use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use libp2p_core::Multiaddr;
use libp2p_core::multiaddr::Protocol;
use libp2p_core::transport::{DialOpts, ListenerId, Transport, TransportError, TransportEvent};
use nonos_identity::{OnionAddress, OnionNetwork, StaticSecret};
use tokio::io::AsyncWriteExt as _;
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt as _};

use crate::rendezvous::Environment;
use crate::rendezvous::dial::{DialError, Dialer, DialerConfig};
use crate::rendezvous::draw::Draw;
use crate::rendezvous::host::{Host, HostConfig, HostError, Visit, Visitors};
use crate::rendezvous::stream::ServiceStream;
use crate::service::Service;

/// Time to tell a client that nobody listens on its port.
const REFUSE_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a swarm has no stream, or no listener.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OnionTransportError {
    /// The service was not reached.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The service cannot be offered; the caller's fault.
    #[error(transparent)]
    Host(#[from] HostError),
    /// There is a listener on this port; the caller's fault.
    #[error("port {0} has a listener already")]
    Port(u16),
    /// The host has stopped.
    #[error("the host has stopped")]
    Stopped,
}

/// A transport for a libp2p swarm that reaches nodes, and is reached, at `/onion3/<address>:<port>` alone.
///
/// Its streams are encrypted and reach the holder of the address, but libp2p wants to know a peer id too:
/// `.upgrade(..).authenticate(noise).multiplex(yamux)` comes on top. The swarm has to be one of its own, with a
/// key pair that is used nowhere else, no other transport, and no behaviour that tells or shares addresses
/// (identify with listen addresses, mDNS, AutoNAT, DCUtR, a routing table that other swarms fill).
///
/// It never dials what is not an onion address of the mesh: not another network's, not one whose
/// checksum or key is wrong, which a multiaddr does not check, and not one through somebody else's relay.
pub struct OnionTransport {
    environment: Environment,
    dialer: Arc<Dialer>,
    draw: Draw,
    client_keys: BTreeMap<OnionAddress, Arc<StaticSecret>>,
    offered: Option<(Arc<Service>, HostConfig)>,
    hosting: Option<Hosting>,
    listeners: BTreeMap<u16, Listener>,
    events: VecDeque<Event>,
    waker: Option<Waker>,
}

type Output = Compat<ServiceStream>;
type Upgrade = Ready<Result<Output, OnionTransportError>>;
type Event = TransportEvent<Upgrade, OnionTransportError>;
type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

struct Hosting {
    /// Until the service has been published.
    publishing: Option<Boxed<bool>>,
    visitors: Visitors,
}

struct Listener {
    id: ListenerId,
    address: Multiaddr,
    announced: bool,
}

impl OnionTransport {
    /// A transport that only dials. `seed` is fresh randomness.
    #[must_use]
    pub fn new(environment: Environment, seed: &[u8; 32]) -> Self {
        let draw = Draw::new(seed);
        Self {
            dialer: Arc::new(Dialer::new(environment.clone(), DialerConfig::default(), &draw.seed())),
            environment,
            draw,
            client_keys: BTreeMap::new(),
            offered: None,
            hosting: None,
            listeners: BTreeMap::new(),
            events: VecDeque::new(),
            waker: None,
        }
    }

    /// Can listen too, at the address of this service and no other. The host starts with the first listener
    /// and stops with the last.
    #[must_use]
    pub fn with_service(mut self, service: Arc<Service>, config: HostConfig) -> Self {
        self.offered = Some((service, config));
        self
    }

    /// Uses this secret with a service that authorised it.
    #[must_use]
    pub fn with_client_key(mut self, address: OnionAddress, key: StaticSecret) -> Self {
        self.client_keys.insert(address, Arc::new(key));
        self
    }

    /// The multiaddress of a port of a service.
    #[must_use]
    pub fn multiaddr(address: &OnionAddress, port: u16) -> Multiaddr {
        Multiaddr::empty().with(Protocol::Onion3((address.to_bytes(), port).into()))
    }

    fn start_host(&mut self) -> Result<(), HostError> {
        if let (None, Some((service, config))) = (&self.hosting, &self.offered) {
            let (host, visitors) = Host::spawn(
                self.environment.clone(),
                Arc::clone(service),
                config.clone(),
                &self.draw.seed(),
            )?;
            let publishing: Boxed<bool> = Box::pin(async move { host.published().await });
            self.hosting = Some(Hosting { publishing: Some(publishing), visitors });
        }
        Ok(())
    }

    fn announce(&mut self) {
        for listener in self.listeners.values_mut().filter(|listener| !listener.announced) {
            listener.announced = true;
            let (listener_id, listen_addr) = (listener.id, listener.address.clone());
            self.events.push_back(TransportEvent::NewAddress { listener_id, listen_addr });
        }
    }

    fn visited(&mut self, mut visit: Visit) {
        let Some(listener) = self.listeners.get(&visit.port) else {
            // Nobody listens there: the client gets an end, where dropping the stream would leave it waiting.
            tokio::spawn(async move {
                let _ = tokio::time::timeout(REFUSE_TIMEOUT, visit.stream.shutdown()).await;
            });
            return;
        };
        self.events.push_back(TransportEvent::Incoming {
            listener_id: listener.id,
            upgrade: ready(Ok(visit.stream.compat())),
            local_addr: listener.address.clone(),
            // Nobody knows.
            send_back_addr: Multiaddr::empty(),
        });
    }

    fn stopped(&mut self) {
        self.hosting = None;
        for (_, listener) in core::mem::take(&mut self.listeners) {
            let reason = Err(OnionTransportError::Stopped);
            self.events.push_back(TransportEvent::ListenerClosed { listener_id: listener.id, reason });
        }
    }

    /// Moves the host on until it has nothing to say.
    fn poll_host(&mut self, cx: &mut Context<'_>) {
        let Some(hosting) = &mut self.hosting else { return };
        match hosting.publishing.as_mut().map(|publishing| publishing.as_mut().poll(cx)) {
            Some(Poll::Ready(true)) => hosting.publishing = None,
            Some(Poll::Ready(false)) => return self.stopped(),
            Some(Poll::Pending) | None => {}
        }
        if hosting.publishing.is_none() {
            self.announce();
        }
        while let Some(hosting) = self.hosting.as_mut().filter(|_| self.events.is_empty()) {
            match hosting.visitors.poll_recv(cx) {
                Poll::Ready(Some(visit)) => self.visited(visit),
                Poll::Ready(None) => self.stopped(),
                Poll::Pending => return,
            }
        }
    }
}

/// The onion address of the mesh that a multiaddress is, with nothing but the peer id behind it.
fn parse(addr: &Multiaddr) -> Option<(OnionAddress, u16)> {
    let mut protocols = addr.iter();
    let Some(Protocol::Onion3(onion)) = protocols.next() else { return None };
    match (protocols.next(), protocols.next()) {
        (None | Some(Protocol::P2p(_)), None) => {}
        _ => return None,
    }
    let address = OnionAddress::from_bytes(onion.hash()).ok()?;
    (address.network() == OnionNetwork::Mesh).then_some((address, onion.port()))
}

impl Transport for OnionTransport {
    type Output = Output;
    type Error = OnionTransportError;
    type ListenerUpgrade = Upgrade;
    type Dial = Boxed<Result<Output, OnionTransportError>>;

    fn listen_on(
        &mut self,
        id: ListenerId,
        addr: Multiaddr,
    ) -> Result<(), TransportError<OnionTransportError>> {
        let own = self.offered.as_ref().map(|(service, _)| service.address());
        let Some((_, port)) = parse(&addr).filter(|(address, _)| Some(*address) == own) else {
            return Err(TransportError::MultiaddrNotSupported(addr));
        };
        if self.listeners.contains_key(&port) {
            return Err(TransportError::Other(OnionTransportError::Port(port)));
        }
        self.start_host().map_err(|error| TransportError::Other(error.into()))?;
        self.listeners.insert(port, Listener { id, address: addr, announced: false });
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
        Ok(())
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        let Some(port) = self.listeners.iter().find(|(_, listener)| listener.id == id).map(|(port, _)| *port)
        else {
            return false;
        };
        self.listeners.remove(&port);
        if self.listeners.is_empty() {
            self.hosting = None;
        }
        self.events.push_back(TransportEvent::ListenerClosed { listener_id: id, reason: Ok(()) });
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
        true
    }

    fn dial(
        &mut self,
        addr: Multiaddr,
        _: DialOpts,
    ) -> Result<Self::Dial, TransportError<OnionTransportError>> {
        let Some((address, port)) = parse(&addr) else {
            return Err(TransportError::MultiaddrNotSupported(addr));
        };
        let (dialer, client_key) = (Arc::clone(&self.dialer), self.client_keys.get(&address).cloned());
        Ok(Box::pin(async move {
            Ok(dialer.dial(&address, port, client_key.as_deref()).await.map(ServiceStream::compat)?)
        }))
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Event> {
        let this = &mut *self;
        if this.events.is_empty() {
            this.poll_host(cx);
        }
        match this.events.pop_front() {
            Some(event) => Poll::Ready(event),
            None => {
                this.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl fmt::Debug for OnionTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnionTransport").field("listeners", &self.listeners.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nonos_identity::SigningKey;

    fn address(network: OnionNetwork) -> OnionAddress {
        OnionAddress::new(network, SigningKey::from_seed(&[1; 32]).public())
    }

    #[test]
    fn only_whole_onion_addresses_of_the_mesh_are_dialled() {
        let mesh = address(OnionNetwork::Mesh);
        let ours = OnionTransport::multiaddr(&mesh, 80);
        assert_eq!(parse(&ours), Some((mesh, 80)));
        assert_eq!(parse(&ours.to_string().parse().unwrap()), Some((mesh, 80)));
        let peer: Multiaddr =
            format!("{ours}/p2p/12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA").parse().unwrap();
        assert_eq!(parse(&peer), Some((mesh, 80)));
        for wrong in [
            OnionTransport::multiaddr(&address(OnionNetwork::Tor), 80),
            "/ip4/127.0.0.1/tcp/80".parse().unwrap(),
            "/dns4/example.org/tcp/80".parse().unwrap(),
            "/memory/1".parse().unwrap(),
            Multiaddr::empty(),
            format!("{ours}/tcp/80").parse().unwrap(),
            format!("{peer}/p2p-circuit").parse().unwrap(),
            format!("/ip4/127.0.0.1/tcp/80{ours}").parse().unwrap(),
        ] {
            assert_eq!(parse(&wrong), None, "{wrong}");
        }
        for at in 0..OnionAddress::LEN {
            let mut bytes = mesh.to_bytes();
            bytes[at] ^= 1;
            let altered = Multiaddr::empty().with(Protocol::Onion3((bytes, 80).into()));
            assert_eq!(parse(&altered), None, "byte {at}");
        }
    }
}
