use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use nonos_identity::{Certificate, NetworkId, NodeId, SigningKey};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{mpsc, oneshot, watch};
use zeroize::Zeroizing;

use crate::beacon::BeaconBody;
use crate::config::ConfigError;
use crate::contact::Contact;
use crate::digest::StateDigest;
use crate::io::{Command, Event, LinkId, Peer, Stats};
use crate::item::{Item, ItemError, ItemId, ItemKind};
use crate::store::StoreError;
use crate::ticket::Ticket;

/// The protocol of the one control stream per link.
pub(crate) const CONTROL_PROTOCOL: &str = "/nonos/mesh/1";

/// How the driver runs.
#[derive(Debug)]
pub struct DriverConfig {
    /// Ed25519 seed of the transport key (RFC 8032); one per network context, never the root's.
    pub transport_seed: Zeroizing<[u8; 32]>,
    /// Multiaddr texts to listen on, such as `/ip4/0.0.0.0/tcp/0`; none for dialling only.
    pub listen: Vec<String>,
    /// Seed of the node's random choices; fresh for each start.
    pub seed: [u8; 32],
    /// Checks that run at once on the blocking pool.
    pub check_workers: usize,
    /// Inbound connections that may be in their handshake at once; stops connection floods.
    pub max_pending_inbound: usize,
    /// Streams of one protocol that wait for the application to take them; stops
    /// stream floods.
    pub max_waiting_streams: usize,
    /// Events that may wait for the application before the driver stops taking in frames.
    pub event_capacity: usize,
}

impl DriverConfig {
    /// The defaults around a transport key.
    #[must_use]
    pub fn new(transport_seed: [u8; 32], seed: [u8; 32]) -> Self {
        Self {
            transport_seed: Zeroizing::new(transport_seed),
            listen: Vec::new(),
            seed,
            check_workers: 2,
            max_pending_inbound: 32,
            max_waiting_streams: 16,
            event_capacity: 1024,
        }
    }
}

/// Why a driver did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DriverError {
    /// The mesh configuration cannot work.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A listen address is not a multiaddr this driver can bind.
    #[error("listen address {address}: {cause}")]
    Listen {
        /// The address.
        address: String,
        /// What the system said.
        cause: String,
    },
    /// The transport could not be set up.
    #[error("transport: {0}")]
    Transport(String),
    /// The store could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The driver has shut down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("mesh driver has shut down")]
pub struct Closed;

/// Why an item could not be published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The item is too long.
    #[error(transparent)]
    Item(#[from] ItemError),
    /// The driver has shut down.
    #[error(transparent)]
    Closed(#[from] Closed),
}

/// Why a stream could not be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// No link to this node.
    #[error("no link to node {0}")]
    NoLink(NodeId),
    /// The peer does not speak the protocol.
    #[error("peer does not speak the protocol")]
    Unsupported,
    /// A protocol name starts with a slash and has at most 128 printable characters.
    #[error("invalid protocol name")]
    Name,
    /// The link broke.
    #[error("link broke: {0}")]
    Link(String),
    /// The driver has shut down.
    #[error(transparent)]
    Closed(#[from] Closed),
}

trait Io: AsyncRead + AsyncWrite + Send {}
impl<T: AsyncRead + AsyncWrite + Send> Io for T {}

/// A byte stream to a neighbour.
pub struct ByteStream(Pin<Box<dyn Io>>);

impl core::fmt::Debug for ByteStream {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("ByteStream(..)")
    }
}

impl ByteStream {
    pub(crate) fn new(io: impl AsyncRead + AsyncWrite + Send + 'static) -> Self {
        Self(Box::pin(io))
    }
}

impl AsyncRead for ByteStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        self.0.as_mut().poll_read(cx, buf)
    }
}

impl AsyncWrite for ByteStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.0.as_mut().poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.0.as_mut().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.0.as_mut().poll_shutdown(cx)
    }
}

/// What happened, in order.
#[derive(Debug)]
pub struct EventReceiver(pub(crate) mpsc::Receiver<Event>);

impl EventReceiver {
    /// The next event, `None` once the driver has shut down. Cancel safe.
    pub async fn recv(&mut self) -> Option<Event> {
        self.0.recv().await
    }
}

/// Streams that neighbours opened, in order.
#[derive(Debug)]
pub struct StreamReceiver(pub(crate) mpsc::Receiver<(NodeId, ByteStream)>);

impl StreamReceiver {
    /// The next stream, `None` once the driver has shut down. Cancel safe.
    pub async fn recv(&mut self) -> Option<(NodeId, ByteStream)> {
        self.0.recv().await
    }
}

/// What a [`Handle`] asks of the driver's task.
#[derive(Debug)]
pub(crate) enum Ask {
    Command(Command),
    Links(oneshot::Sender<Vec<(LinkId, NodeId)>>),
    Peers(oneshot::Sender<Vec<Peer>>),
    Digests(oneshot::Sender<Vec<StateDigest>>),
    Contacts(oneshot::Sender<Vec<Contact>>),
    Stats(oneshot::Sender<Stats>),
    Open { node: NodeId, protocol: String, reply: oneshot::Sender<Result<ByteStream, StreamError>> },
    Accept { protocol: String, reply: oneshot::Sender<StreamReceiver> },
    Shutdown(oneshot::Sender<()>),
}

/// Talks to a running driver; cheap to clone. When the last clone is gone the driver stops.
#[derive(Clone, Debug)]
pub struct Handle {
    asks: mpsc::Sender<Ask>,
    network: NetworkId,
    contact: watch::Receiver<Contact>,
}

impl Handle {
    pub(crate) const fn new(
        asks: mpsc::Sender<Ask>,
        network: NetworkId,
        contact: watch::Receiver<Contact>,
    ) -> Self {
        Self { asks, network, contact }
    }

    async fn send(&self, ask: Ask) -> Result<(), Closed> {
        self.asks.send(ask).await.map_err(|_| Closed)
    }

    async fn ask<T>(&self, make: impl FnOnce(oneshot::Sender<T>) -> Ask) -> Result<T, Closed> {
        let (reply, answer) = oneshot::channel();
        self.send(make(reply)).await?;
        answer.await.map_err(|_| Closed)
    }

    /// Checks, stores and spreads an own item. The outcome is an [`Event::Accepted`] or
    /// [`Event::Rejected`] with this node as its source.
    ///
    /// # Errors
    /// [`PublishError`] if it is too long or the driver has shut down.
    pub async fn publish(&self, kind: ItemKind, bytes: impl Into<Arc<[u8]>>) -> Result<ItemId, PublishError> {
        let item = Item::new(kind, bytes)?;
        let id = item.id();
        self.send(Ask::Command(Command::Publish(item))).await?;
        Ok(id)
    }

    /// Remembers a contact and dials it now, and again with growing waits while links are missing.
    ///
    /// # Errors
    /// [`Closed`].
    pub async fn dial(&self, contact: Contact) -> Result<(), Closed> {
        self.send(Ask::Command(Command::Dial(contact))).await
    }

    /// Remembers contacts, of a ticket or a file; they are dialled while links are missing.
    ///
    /// # Errors
    /// [`Closed`].
    pub async fn learn(&self, contacts: Vec<Contact>) -> Result<(), Closed> {
        self.send(Ask::Command(Command::Learn(contacts))).await
    }

    /// Sets what the node's beacons say.
    ///
    /// # Errors
    /// [`Closed`].
    pub async fn set_beacon(&self, body: BeaconBody) -> Result<(), Closed> {
        self.send(Ask::Command(Command::SetBeacon(body))).await
    }

    /// Removes an item and does not take it again.
    ///
    /// # Errors
    /// [`Closed`].
    pub async fn forget(&self, id: ItemId) -> Result<(), Closed> {
        self.send(Ask::Command(Command::Forget(id))).await
    }

    /// Closes the links to a node and refuses it for the configured ban time.
    ///
    /// # Errors
    /// [`Closed`].
    pub async fn ban(&self, node: NodeId) -> Result<(), Closed> {
        self.send(Ask::Command(Command::Ban(node))).await
    }

    /// Replaces the signing key and its certificate before the old one expires.
    ///
    /// # Errors
    /// [`Closed`].
    pub async fn rotate(&self, signer: SigningKey, certificate: Certificate) -> Result<(), Closed> {
        self.send(Ask::Command(Command::Rotate { signer, certificate: Box::new(certificate) })).await
    }

    /// Where this node can be dialled, with the ports the system assigned.
    #[must_use]
    pub fn contact(&self) -> Contact {
        self.contact.borrow().clone()
    }

    /// An invitation to this node; `None` if it does not listen.
    #[must_use]
    pub fn ticket(&self) -> Option<Ticket> {
        let contact = self.contact();
        let listens = !contact.addresses.is_empty();
        listens.then(|| Ticket { network: self.network, contacts: vec![contact] })
    }

    /// The neighbours: links whose hello was accepted.
    ///
    /// # Errors
    /// [`Closed`].
    pub async fn links(&self) -> Result<Vec<(LinkId, NodeId)>, Closed> {
        self.ask(Ask::Links).await
    }

    /// Every node known by link or by beacon.
    ///
    /// # Errors
    /// [`Closed`].
    pub async fn peers(&self) -> Result<Vec<Peer>, Closed> {
        self.ask(Ask::Peers).await
    }

    /// What this node holds, one digest per collection.
    ///
    /// # Errors
    /// [`Closed`].
    pub async fn digests(&self) -> Result<Vec<StateDigest>, Closed> {
        self.ask(Ask::Digests).await
    }

    /// Contacts known, for a contact file.
    ///
    /// # Errors
    /// [`Closed`].
    pub async fn contacts(&self) -> Result<Vec<Contact>, Closed> {
        self.ask(Ask::Contacts).await
    }

    /// Counters since the start.
    ///
    /// # Errors
    /// [`Closed`].
    pub async fn stats(&self) -> Result<Stats, Closed> {
        self.ask(Ask::Stats).await
    }

    /// Opens a byte stream to a neighbour under a protocol name such as `/nonos/link/1`.
    ///
    /// # Errors
    /// [`StreamError`] says whether the name, the link or the peer is the reason.
    pub async fn open_stream(&self, node: NodeId, protocol: &str) -> Result<ByteStream, StreamError> {
        check_name(protocol)?;
        let protocol = protocol.to_owned();
        self.ask(|reply| Ask::Open { node, protocol, reply }).await?
    }

    /// Takes the streams that neighbours open under a protocol name, from now on. A second call
    /// for the same name replaces the first; dropping the receiver ends it.
    ///
    /// # Errors
    /// [`StreamError::Name`] or [`StreamError::Closed`].
    pub async fn incoming_streams(&self, protocol: &str) -> Result<StreamReceiver, StreamError> {
        check_name(protocol)?;
        let protocol = protocol.to_owned();
        Ok(self.ask(|reply| Ask::Accept { protocol, reply }).await?)
    }

    /// Closes every link and stops the driver; returns when it has stopped.
    pub async fn shutdown(&self) {
        // A driver that is already gone has nothing left to stop.
        let _ = self.ask(Ask::Shutdown).await;
    }
}

/// Longest protocol name, in bytes; multistream-select itself allows 140.
const MAX_NAME_BYTES: usize = 128;

fn check_name(protocol: &str) -> Result<(), StreamError> {
    let fine = protocol.starts_with('/')
        && protocol.len() <= MAX_NAME_BYTES
        && protocol.bytes().all(|b| b.is_ascii_graphic())
        && protocol != CONTROL_PROTOCOL;
    if fine { Ok(()) } else { Err(StreamError::Name) }
}
