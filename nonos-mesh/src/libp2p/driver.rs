use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use futures::StreamExt as _;
use libp2p::core::ConnectedPoint;
use libp2p::identity::{Keypair, PeerId};
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::swarm::{ConnectionId, Stream, StreamProtocol, Swarm, SwarmEvent};
use libp2p::{Multiaddr, tcp};
use nonos_identity::{NodeId, SigningKey, Timestamp};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::compat::FuturesAsyncReadCompatExt as _;

use super::behaviour::{Behaviour, Happened, Names, Open, OpenError};
use super::control::{Control, FromLink};
use super::handle::{
    Ask, ByteStream, CONTROL_PROTOCOL, DriverConfig, DriverError, EventReceiver, Handle, StreamError,
    StreamReceiver,
};
use super::transport;
use super::work::{Checks, Done, StoreJobs};
use crate::check::Check;
use crate::config::Config;
use crate::contact::{Contact, TransportId};
use crate::io::{Command, Event, Input, LinkId, Now, Output};
use crate::item::Collection;
use crate::mesh::Mesh;
use crate::store::Store;

/// Time for the system to bind a listener.
const BIND: Duration = Duration::from_secs(10);
/// Time for the control stream after a connection is made; stops idle connections.
const CONTROL: Duration = Duration::from_secs(10);
/// Frames and reports of all links that wait for the driver.
const FROM_LINKS: usize = 128;
/// Questions of handles that wait for the driver.
const ASKS: usize = 64;

/// Starts mesh nodes on libp2p.
#[derive(Debug)]
#[non_exhaustive]
pub struct Driver {}

impl Driver {
    /// Starts a node over TCP on the current tokio runtime; returns once it listens. Sets the
    /// transport id of `mesh` from the transport key and adds the listeners to its addresses.
    ///
    /// The application must drain the [`EventReceiver`] (or drop it): while
    /// [`DriverConfig::event_capacity`] events wait, no further frames are taken in.
    ///
    /// # Errors
    /// [`DriverError`] if the configuration, the listeners or the store do not work.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn spawn(
        config: DriverConfig,
        mut mesh: Config,
        store: Arc<dyn Store>,
        check: Arc<dyn Check>,
    ) -> Result<(Handle, EventReceiver), DriverError> {
        let identity = SigningKey::from_seed(&config.transport_seed);
        let mut seed = *config.transport_seed;
        let key =
            Keypair::ed25519_from_bytes(&mut seed).map_err(|e| DriverError::Transport(e.to_string()))?;
        let network = mesh.network;
        let raw = tcp::tokio::Transport::new(tcp::Config::default().nodelay(true));
        let transport = transport::secure(raw, &key, &identity, &network)?;
        let peer = key.public().to_peer_id();
        mesh.transport =
            TransportId::new(peer.to_bytes()).map_err(|e| DriverError::Transport(e.to_string()))?;
        let names = Names::new(StreamProtocol::new(CONTROL_PROTOCOL));
        let behaviour = Behaviour::new(names.clone(), config.max_pending_inbound);
        let swarm = libp2p::swarm::Config::with_tokio_executor();
        let mut swarm = Swarm::new(transport, behaviour, peer, swarm);
        mesh.addresses.extend(listen(&mut swarm, &config.listen).await?);
        mesh.addresses.truncate(Contact::MAX_ADDRESSES);

        let start = start();
        let mut mesh = Mesh::new(mesh, now(start), config.seed)?;
        for collection in Collection::ALL {
            let store = store.clone();
            let ids = tokio::task::spawn_blocking(move || store.ids(collection)).await;
            let ids = ids.map_err(|e| DriverError::Transport(e.to_string()))??;
            mesh.handle(now(start), Input::Held { collection, ids });
        }
        let (asks_tx, asks) = mpsc::channel(ASKS);
        let (events, events_rx) = mpsc::channel(config.event_capacity.max(1));
        let (from_links_tx, from_links) = mpsc::channel(FROM_LINKS);
        let (done_tx, done) = mpsc::unbounded_channel();
        let (contact, contact_rx) = watch::channel(mesh.contact());
        let task = Task {
            start,
            swarm,
            mesh,
            names,
            links: BTreeMap::new(),
            connections: BTreeMap::new(),
            next_number: 0,
            opening: BTreeMap::new(),
            acceptors: BTreeMap::new(),
            max_waiting_streams: config.max_waiting_streams.max(1),
            checks: Checks::new(check, config.check_workers, done_tx.clone()),
            store: StoreJobs::spawn(store, done_tx),
            backlog: VecDeque::new(),
            backlog_limit: config.event_capacity,
            from_links_tx,
            contact,
        };
        let handle = Handle::new(asks_tx, network, contact_rx);
        tokio::spawn(task.run(asks, events, from_links, done));
        Ok((handle, EventReceiver(events_rx)))
    }
}

#[expect(clippy::disallowed_methods, reason = "the driver is where the mesh meets the clock")]
fn start() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "the driver is where the mesh meets the clock")]
fn now(start: Instant) -> Now {
    let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Now { mono: start.elapsed(), wall: Timestamp::from_secs(wall.as_secs()) }
}

/// Binds the listeners and collects the addresses the system gave them, loopback last.
async fn listen(swarm: &mut Swarm<Behaviour>, wanted: &[String]) -> Result<Vec<String>, DriverError> {
    let mut bound = Vec::new();
    for address in wanted {
        let failed = |cause: String| DriverError::Listen { address: address.clone(), cause };
        let multiaddr: Multiaddr =
            address.parse().map_err(|e: libp2p::multiaddr::Error| failed(e.to_string()))?;
        let listener = swarm.listen_on(multiaddr).map_err(|e| failed(e.to_string()))?;
        let first = async {
            loop {
                match swarm.select_next_some().await {
                    SwarmEvent::NewListenAddr { listener_id, address } => {
                        bound.push(address);
                        if listener_id == listener {
                            return Ok(());
                        }
                    }
                    SwarmEvent::ListenerClosed { listener_id, reason, .. } if listener_id == listener => {
                        return Err(reason.err().map_or_else(|| "closed".into(), |e| e.to_string()));
                    }
                    _ => {}
                }
            }
        };
        match tokio::time::timeout(BIND, first).await {
            Ok(outcome) => outcome.map_err(failed)?,
            Err(_) => return Err(failed("not bound in time".into())),
        }
    }
    bound.sort_by_key(is_loopback);
    Ok(bound.iter().map(ToString::to_string).collect())
}

fn is_loopback(address: &Multiaddr) -> bool {
    address.iter().any(|part| match part {
        libp2p::multiaddr::Protocol::Ip4(ip) => ip.is_loopback(),
        libp2p::multiaddr::Protocol::Ip6(ip) => ip.is_loopback(),
        _ => false,
    })
}

/// One connection of the swarm.
#[derive(Debug)]
struct Connection {
    peer: PeerId,
    outbound: bool,
    made: Duration,
    link: Option<LinkId>,
}

#[derive(Debug)]
struct Link {
    connection: ConnectionId,
    control: Control,
}

#[derive(Debug)]
enum Opening {
    Control,
    Stream(oneshot::Sender<Result<ByteStream, StreamError>>),
}

struct Task {
    start: Instant,
    swarm: Swarm<Behaviour>,
    mesh: Mesh,
    names: Names,
    links: BTreeMap<LinkId, Link>,
    connections: BTreeMap<ConnectionId, Connection>,
    /// Numbers of links and of streams being opened.
    next_number: u64,
    opening: BTreeMap<u64, (ConnectionId, Opening)>,
    acceptors: BTreeMap<String, mpsc::Sender<(NodeId, ByteStream)>>,
    max_waiting_streams: usize,
    checks: Checks,
    store: StoreJobs,
    backlog: VecDeque<Event>,
    backlog_limit: usize,
    from_links_tx: mpsc::Sender<FromLink>,
    contact: watch::Sender<Contact>,
}

impl Task {
    async fn run(
        mut self,
        mut asks: mpsc::Receiver<Ask>,
        events: mpsc::Sender<Event>,
        mut from_links: mpsc::Receiver<FromLink>,
        mut done: mpsc::UnboundedReceiver<Done>,
    ) {
        let mut sweep = tokio::time::interval(Duration::from_secs(1));
        loop {
            self.drain();
            let deadline = self.mesh.deadline().unwrap_or(Duration::MAX / 4);
            let wait = deadline.saturating_sub(self.start.elapsed());
            tokio::select! {
                ask = asks.recv() => match ask {
                    None => return,
                    Some(Ask::Shutdown(reply)) => {
                        drop(self);
                        // The answer is only awaited by whoever wants to know.
                        let _ = reply.send(());
                        return;
                    }
                    Some(ask) => self.answer(ask),
                },
                event = self.swarm.select_next_some() => self.swarm_event(event),
                Some(event) = from_links.recv(), if self.backlog.len() < self.backlog_limit => {
                    self.link_event(event);
                }
                Some(done) = done.recv() => {
                    if matches!(done, Done::Checked { .. }) {
                        self.checks.finished();
                    }
                    self.input(done.into());
                }
                permit = events.reserve(), if !self.backlog.is_empty() => match permit {
                    Ok(permit) => if let Some(event) = self.backlog.pop_front() {
                        permit.send(event);
                    },
                    // Nobody listens any more.
                    Err(_) => self.backlog.clear(),
                },
                () = tokio::time::sleep(wait) => self.input(Input::Tick),
                _ = sweep.tick() => self.sweep(),
            }
        }
    }

    fn input(&mut self, input: Input) {
        self.mesh.handle(now(self.start), input);
    }

    fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    fn drain(&mut self) {
        while let Some(output) = self.mesh.poll() {
            match output {
                Output::Send { link, frame } => {
                    if let Some(link) = self.links.get(&link) {
                        link.control.send(frame);
                    }
                }
                Output::Close { link, reason } => {
                    tracing::debug!(?link, ?reason, "closing link");
                    if let Some(link) = self.links.get(&link) {
                        self.swarm.close_connection(link.connection);
                    }
                }
                Output::Dial(contact) => self.dial(&contact),
                Output::Check { ticket, kind, bytes, from, cost, .. } => {
                    let wall = now(self.start).wall;
                    self.checks.push(cost, ticket, kind, bytes, from, wall);
                }
                Output::Store(item) => self.store.put(item),
                Output::Load { request, id } => self.store.load(request, id),
                Output::Remove(id) => self.store.remove(id),
                Output::Event(event) => self.backlog.push_back(event),
            }
        }
    }

    fn answer(&mut self, ask: Ask) {
        // Whoever asked may have stopped waiting: a failed reply is not an error.
        match ask {
            Ask::Command(command) => {
                self.input(Input::Command(command));
                self.publish_contact();
            }
            Ask::Links(reply) => drop(reply.send(self.mesh.links())),
            Ask::Peers(reply) => drop(reply.send(self.mesh.peers())),
            Ask::Digests(reply) => drop(reply.send(self.mesh.digests())),
            Ask::Contacts(reply) => drop(reply.send(self.mesh.contacts())),
            Ask::Stats(reply) => drop(reply.send(self.mesh.stats())),
            Ask::Open { node, protocol, reply } => self.open_stream(node, protocol, reply),
            Ask::Accept { protocol, reply } => {
                let (streams, receiver) = mpsc::channel(self.max_waiting_streams);
                if let Ok(name) = StreamProtocol::try_from_owned(protocol.clone()) {
                    self.names.add(name);
                    self.acceptors.insert(protocol, streams);
                }
                drop(reply.send(StreamReceiver(receiver)));
            }
            Ask::Shutdown(_) => {}
        }
    }

    fn publish_contact(&self) {
        let contact = self.mesh.contact();
        self.contact.send_if_modified(|old| {
            let changed = *old != contact;
            *old = contact;
            changed
        });
    }

    fn dial(&mut self, contact: &Contact) {
        let transport = contact.transport.clone();
        let addresses: Vec<Multiaddr> = contact.addresses.iter().filter_map(|a| a.parse().ok()).collect();
        let peer = PeerId::from_bytes(transport.as_bytes()).ok().filter(|_| !addresses.is_empty());
        let dialled = peer.is_some_and(|peer| {
            self.swarm.dial(DialOpts::peer_id(peer).addresses(addresses).build()).is_ok()
        });
        if !dialled {
            self.input(Input::DialFailed { transport });
        }
    }

    fn dial_failed(&mut self, peer: &PeerId) {
        if let Ok(transport) = TransportId::new(peer.to_bytes()) {
            self.input(Input::DialFailed { transport });
        }
    }

    fn swarm_event(&mut self, event: SwarmEvent<(ConnectionId, Happened)>) {
        match event {
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                let outbound = matches!(endpoint, ConnectedPoint::Dialer { .. });
                let connection =
                    Connection { peer: peer_id, outbound, made: self.start.elapsed(), link: None };
                self.connections.insert(connection_id, connection);
                if outbound {
                    let name = StreamProtocol::new(CONTROL_PROTOCOL);
                    self.open(connection_id, name, Opening::Control);
                }
            }
            SwarmEvent::ConnectionClosed { connection_id, .. } => self.connection_closed(connection_id),
            SwarmEvent::OutgoingConnectionError { peer_id: Some(peer), error, .. } => {
                tracing::debug!(%error, "dialling failed");
                self.dial_failed(&peer);
            }
            SwarmEvent::IncomingConnectionError { error, .. } => {
                tracing::debug!(%error, "inbound handshake failed");
            }
            SwarmEvent::NewListenAddr { address, .. } => {
                let mut contact = self.mesh.contact();
                let address = address.to_string();
                if contact.addresses.len() < Contact::MAX_ADDRESSES && !contact.addresses.contains(&address) {
                    contact.addresses.push(address);
                    self.input(Input::Command(Command::SetAddresses(contact.addresses)));
                    self.publish_contact();
                }
            }
            SwarmEvent::Behaviour((connection, happened)) => self.happened(connection, happened),
            _ => {}
        }
    }

    fn connection_closed(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.remove(&id) else { return };
        let gone: Vec<u64> = self.opening.iter().filter(|(_, (c, _))| *c == id).map(|(t, _)| *t).collect();
        for ticket in gone {
            if let Some((_, Opening::Stream(reply))) = self.opening.remove(&ticket) {
                drop(reply.send(Err(StreamError::Link("connection closed".into()))));
            }
        }
        match connection.link {
            Some(link) => {
                self.links.remove(&link);
                self.input(Input::LinkDown { link });
            }
            None if connection.outbound => self.dial_failed(&connection.peer),
            None => {}
        }
    }

    fn open(&mut self, connection: ConnectionId, name: StreamProtocol, opening: Opening) {
        let Some(Connection { peer, .. }) = self.connections.get(&connection) else { return };
        let peer = *peer;
        let ticket = self.number();
        self.opening.insert(ticket, (connection, opening));
        self.swarm.behaviour_mut().open(peer, connection, Open { ticket, name });
    }

    fn open_stream(
        &mut self,
        node: NodeId,
        protocol: String,
        reply: oneshot::Sender<Result<ByteStream, StreamError>>,
    ) {
        let link = self.mesh.links().into_iter().find(|(_, n)| *n == node);
        let connection = link.and_then(|(id, _)| self.links.get(&id)).map(|l| l.connection);
        match (connection, StreamProtocol::try_from_owned(protocol)) {
            (Some(connection), Ok(name)) => self.open(connection, name, Opening::Stream(reply)),
            (None, _) => drop(reply.send(Err(StreamError::NoLink(node)))),
            (_, Err(_)) => drop(reply.send(Err(StreamError::Name))),
        }
    }

    fn happened(&mut self, connection: ConnectionId, happened: Happened) {
        match happened {
            Happened::Opened { ticket, stream } => match self.opening.remove(&ticket) {
                Some((_, Opening::Control)) => self.control(connection, stream),
                Some((_, Opening::Stream(reply))) => drop(reply.send(Ok(ByteStream::new(stream.compat())))),
                None => {}
            },
            Happened::Failed { ticket, error } => match self.opening.remove(&ticket) {
                Some((_, Opening::Control)) => {
                    self.swarm.close_connection(connection);
                }
                Some((_, Opening::Stream(reply))) => {
                    let error = match error {
                        OpenError::Unsupported => StreamError::Unsupported,
                        OpenError::Link(cause) => StreamError::Link(cause),
                    };
                    drop(reply.send(Err(error)));
                }
                None => {}
            },
            Happened::Incoming { name, stream } if name.as_ref() == CONTROL_PROTOCOL => {
                // Only the dialler opens the control stream, and only one.
                let fits = |c: &Connection| !c.outbound && c.link.is_none();
                if self.connections.get(&connection).is_some_and(fits) {
                    self.control(connection, stream);
                }
            }
            Happened::Incoming { name, stream } => self.incoming(connection, name.as_ref(), stream),
        }
    }

    fn control(&mut self, id: ConnectionId, stream: Stream) {
        let link = LinkId(self.number());
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let Ok(remote) = TransportId::new(connection.peer.to_bytes()) else { return };
        connection.link = Some(link);
        let outbound = connection.outbound;
        let control = Control::spawn(link, stream, &self.from_links_tx);
        self.links.insert(link, Link { connection: id, control });
        self.input(Input::LinkUp { link, remote, outbound });
    }

    /// A stream of the application's: only for neighbours whose hello was accepted.
    fn incoming(&mut self, connection: ConnectionId, name: &str, stream: Stream) {
        let link = self.connections.get(&connection).and_then(|c| c.link);
        let up = self.mesh.links().into_iter().find(|(id, _)| Some(*id) == link);
        let (Some((_, node)), Some(acceptor)) = (up, self.acceptors.get(name)) else { return };
        // A full queue resets the stream: the peer opens streams faster than they are taken.
        if acceptor.try_send((node, ByteStream::new(stream.compat()))).is_err() {
            tracing::debug!(protocol = name, "stream refused");
        }
    }

    fn link_event(&mut self, event: FromLink) {
        match event {
            FromLink::Frame { link, bytes } => self.input(Input::Frame { link, bytes }),
            FromLink::Sent { link, bytes } => self.input(Input::Sent { link, bytes }),
            FromLink::Ended { link } => {
                if let Some(link) = self.links.get(&link) {
                    self.swarm.close_connection(link.connection);
                }
            }
        }
    }

    /// Closes connections without a control stream and forgets acceptors that are gone.
    fn sweep(&mut self) {
        let elapsed = self.start.elapsed();
        let idle = |c: &Connection| c.link.is_none() && elapsed.saturating_sub(c.made) > CONTROL;
        let idle: Vec<_> = self.connections.iter().filter(|(_, c)| idle(c)).map(|(id, _)| *id).collect();
        for connection in idle {
            self.swarm.close_connection(connection);
        }
        self.acceptors.retain(|_, acceptor| !acceptor.is_closed());
    }
}
