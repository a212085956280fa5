//! A node as a process of its own, with the links that `nonos-node` has: onion cells in streams of
//! the mesh, over TCP, Noise and Yamux. It does what the lines on its standard input ask.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use data_encoding::HEXLOWER;
use nonos_identity::{Epoch, NetworkId, NodeId, OnionAddress, Timestamp, WideDigest, wire};
use nonos_mesh::libp2p::{Driver, DriverConfig, Handle};
use nonos_mesh::testing::identity;
use nonos_mesh::{Check, ItemKind, MemoryStore, Ticket, Verdict};
use nonos_onion::link::{
    ByteLink, CircuitHandle, Incoming, IncomingStream, LinkError, LinkFuture, Links, Onion, OnionDriver,
    system_clock,
};
use nonos_onion::multipath::{Code, Object, Sink, fetch, serve};
use nonos_onion::rendezvous::{DialError, Dialer, DialerConfig, Hub, HubLimits, ports};
use nonos_onion::service::MemoryDirectory;
use nonos_onion::{BandwidthClass, Config, EpochKeys, FamilyTag, RelayDescriptor, SubnetTag};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use zeroize::Zeroizing;

use super::directory;
use super::services::Services;
use crate::Failure;
use crate::report::now;

/// What the parent wants of a node. One line of JSON each, answered by one line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Ask {
    /// Links to a node.
    Dial { node: NodeId, ticket: String },
    /// A round trip of TCP to an address where nobody listens.
    RoundTrip { address: String },
    /// Its relay descriptor of this epoch.
    Describe,
    /// Builds a circuit, which takes the place of the one before.
    Build { path: Vec<String> },
    /// Fetches so many bytes over a new stream of that circuit.
    Fetch { bytes: usize },
    /// From now on links to any of these nodes when a circuit wants to.
    Know { nodes: Vec<(NodeId, String)> },
    /// Learns the relays, and how many of them its circuits have before their end.
    Learn { relays: Vec<String>, hops: u8 },
    /// Offers an onion service that serves as many bytes as it is asked for.
    Offer,
    /// Fetches so many bytes from an onion service.
    Visit { address: String, bytes: usize },
    /// Reaches an onion service in four ways, each as far as a stream to it.
    Reach { address: String },
    /// The relays at which its circuits begin.
    Guards,
    /// The ports at which streams came to it.
    Ports,
    /// Fetches the object, of so many bytes, over a circuit for each path.
    FetchObject { bytes: usize, paths: Vec<Vec<String>> },
}

/// What a node answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Answer {
    /// Unasked, as the first line.
    Ready {
        node: NodeId,
        ticket: String,
    },
    Done,
    Descriptor(String),
    Offered(String),
    Built {
        seconds: f64,
    },
    RoundTrip {
        seconds: f64,
    },
    Fetched(Fetched),
    Reached(Reached),
    Guards(Vec<NodeId>),
    Ports(BTreeSet<u16>),
    FetchedObject {
        seconds: f64,
        shards: Vec<u64>,
    },
    Failed(String),
}

/// A transfer, in seconds since its stream was asked for.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Fetched {
    pub(super) first_byte: f64,
    pub(super) seconds: f64,
    /// Bytes that came in each hundredth of a second since they were asked for on the open stream.
    pub(super) hundredths: Vec<usize>,
}

/// How long it took to have a stream to an onion service, in seconds.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Reached {
    /// With its descriptor still to be fetched.
    pub(super) cold: f64,
    /// With its descriptor, and no circuit ahead.
    pub(super) without: f64,
    /// With both, as the dialer was told to prepare.
    pub(super) prepared: f64,
    /// With both, as they are after another visit.
    pub(super) warm: f64,
}

/// Runs as a node until standard input ends.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Names the node and its keys, which are worth nothing.
    #[arg(long)]
    number: u8,
    /// Where to listen.
    #[arg(long, default_value = "/ip4/127.0.0.1/tcp/0")]
    listen: String,
    /// Bytes of the object that it serves.
    #[arg(long, default_value = "0")]
    object_bytes: usize,
}

/// The protocol name of onion links.
const LINK_PROTOCOL: &str = "/nonos/onion/1";
/// Serves as many bytes as eight bytes ask for.
const BYTES_PORT: u16 = 1;
/// Serves the object.
const OBJECT_PORT: u16 = 2;
/// Where nobody listens (RFC 863): a connection is refused after one round trip.
const DISCARD: u16 = 9;
/// Longest wait for a link.
const DIAL: Duration = Duration::from_secs(10);
const CHUNK_BYTES: usize = 1 << 16;

/// Takes nothing: these nodes spread no items.
struct Nothing;

impl Check for Nothing {
    fn check(&self, _: ItemKind, _: &[u8], _: NodeId, _: Timestamp) -> Verdict {
        Verdict::Ignore
    }
}

/// Nodes that may be dialled when a circuit wants to.
type Known = Arc<Mutex<BTreeMap<NodeId, Ticket>>>;

struct MeshLinks(Handle, Known);

impl Links for MeshLinks {
    fn open(&self, relay: NodeId) -> LinkFuture {
        let mesh = self.0.clone();
        let ticket = self.1.lock().unwrap_or_else(PoisonError::into_inner).get(&relay).cloned();
        Box::pin(async move {
            if let Some(ticket) = ticket {
                dial(&mesh, relay, &ticket).await.map_err(|_| LinkError)?;
            }
            let stream = mesh.open_stream(relay, LINK_PROTOCOL).await.map_err(|_| LinkError)?;
            Ok(Box::new(stream) as Box<dyn ByteLink>)
        })
    }
}

pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    // One thread each: the nodes of a comparison share the cores, and a daemon of tor's has one too.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(async {
        let mut node = Node::start(options).await?;
        let (node_id, ticket) = (node.id, node.mesh.ticket().ok_or("the node listens")?.to_string());
        tell(&Answer::Ready { node: node_id, ticket })?;
        for line in io::stdin().lock().lines() {
            let answer = node.answer(serde_json::from_str(&line?)?).await;
            tell(&answer.unwrap_or_else(|error| Answer::Failed(error.to_string())))?;
        }
        Ok(())
    })
}

fn tell(answer: &Answer) -> io::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, answer)?;
    writeln!(out)?;
    out.flush()
}

/// A body without zeros in a row; both ends make the same.
fn object(bytes: usize) -> Result<Object, Failure> {
    let content = (0..bytes).map(|i| (i.wrapping_mul(0x9e37_79b9) >> 16).to_le_bytes()[0]).collect();
    Ok(Object::from_bytes(WideDigest::from_bytes([7; 64]), Code::Xor2of3, content)?)
}

struct Node {
    number: u8,
    id: NodeId,
    mesh: Handle,
    onion: Onion,
    circuit: Option<CircuitHandle>,
    services: Option<Services>,
    known: Known,
    ports: Ports,
}

/// Links to a node, unless there is a link.
async fn dial(mesh: &Handle, node: NodeId, ticket: &Ticket) -> io::Result<()> {
    let is_linked = async || {
        let links = mesh.links().await.map_err(io::Error::other)?;
        Ok::<_, io::Error>(links.iter().any(|(_, peer)| *peer == node))
    };
    if is_linked().await? {
        return Ok(());
    }
    let contact = ticket.contacts.first().ok_or(io::ErrorKind::InvalidInput)?;
    mesh.dial(contact.clone()).await.map_err(io::Error::other)?;
    let linked = async {
        while !is_linked().await? {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    };
    tokio::time::timeout(DIAL, linked).await?
}

impl Node {
    async fn start(options: &Options) -> Result<Self, Failure> {
        let number = options.number;
        let network = NetworkId::from_name("versus");
        let now = system_clock()();
        let (signer, certificate) = identity(&network, number.into(), now);
        let id = certificate.node();
        let mut mesh = nonos_mesh::Config::new(network, signer, certificate);
        // Links are those that the parent asks for, or a circuit.
        mesh.links.target_links = 0;
        mesh.links.exchange_interval = Duration::from_secs(3600);
        let mut driver = DriverConfig::new([number; 32], [number; 32]);
        driver.listen = vec![options.listen.clone()];
        let (mesh, mut events) =
            Driver::spawn(driver, mesh, Arc::new(MemoryStore::new()), Arc::new(Nothing)).await?;
        tokio::spawn(async move { while events.recv().await.is_some() {} });

        let (known, ports) = (Known::default(), Ports::default());
        let mut config = Config::new(network, id);
        // The parent builds as many circuits as it measures.
        config.limits.create_burst = u32::MAX;
        config.limits.creates_per_epoch = usize::MAX;
        let keys = EpochKeys::new(Zeroizing::new([number; 32]), now);
        let links = Arc::new(MeshLinks(mesh.clone(), Arc::clone(&known)));
        let (onion, incoming, _) = OnionDriver::spawn(config, keys, links, system_clock(), [number; 32])?;
        let (mut streams, acceptor) = (mesh.incoming_streams(LINK_PROTOCOL).await?, onion.clone());
        tokio::spawn(async move {
            while let Some((peer, stream)) = streams.recv().await {
                acceptor.accept_link(peer, Box::new(stream)).await;
            }
        });
        let object = if options.object_bytes > 0 { Some(object(options.object_bytes)?) } else { None };
        let limits = HubLimits { splice_bytes: u64::MAX, ..HubLimits::default() };
        let hub = Hub::new(network, id, limits, &[number; 32]);
        let server =
            Server { object: object.map(Arc::new), hub, directory: Arc::new(directory::kept(network)) };
        tokio::spawn(serve_streams(incoming, server, Arc::clone(&ports)));
        Ok(Self { number, id, mesh, onion, circuit: None, services: None, known, ports })
    }

    async fn answer(&mut self, ask: Ask) -> Result<Answer, Failure> {
        match ask {
            Ask::Dial { node, ticket } => {
                dial(&self.mesh, node, &ticket.parse()?).await?;
                Ok(Answer::Done)
            }
            Ask::Know { nodes } => {
                let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
                for (node, ticket) in nodes {
                    known.insert(node, ticket.parse()?);
                }
                Ok(Answer::Done)
            }
            Ask::RoundTrip { address } => {
                let started = now();
                match TcpStream::connect((address, DISCARD)).await {
                    Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                        Ok(Answer::RoundTrip { seconds: started.elapsed().as_secs_f64() })
                    }
                    other => Err(format!("a port where nobody listens answers {other:?}").into()),
                }
            }
            Ask::Describe => self.describe().await,
            Ask::Build { path } => {
                let started = now();
                self.circuit = Some(self.build(&path).await?);
                Ok(Answer::Built { seconds: started.elapsed().as_secs_f64() })
            }
            Ask::Fetch { bytes } => {
                let circuit = self.circuit.clone().ok_or("no circuit stands")?;
                // This thread is not the one that carries the circuit.
                Ok(Answer::Fetched(tokio::spawn(fetch_bytes(circuit, bytes)).await??))
            }
            Ask::Learn { relays, hops } => {
                let relays = descriptors(&relays)?;
                let seed = [self.number; 32];
                self.services = Some(Services::new(self.onion.clone(), self.id, relays, hops, seed)?);
                Ok(Answer::Done)
            }
            Ask::Offer => {
                let services = self.services.as_mut().ok_or("no relay is known")?;
                Ok(Answer::Offered(services.offer().await?))
            }
            Ask::Visit { address, bytes } => {
                let services = self.services.as_ref().ok_or("no relay is known")?;
                let (dialer, address) = (services.dialer(), address.parse()?);
                let visit = async move {
                    let started = now();
                    let stream = dialer.dial(&address, BYTES_PORT, None).await.map_err(io::Error::other)?;
                    receive(stream, started, bytes).await
                };
                Ok(Answer::Fetched(tokio::spawn(visit).await??))
            }
            Ask::Reach { address } => {
                let services = self.services.as_mut().ok_or("no relay is known")?;
                let plain = services.fresh_dialer(DialerConfig { ahead: false, ..DialerConfig::default() });
                let ahead = services.fresh_dialer(DialerConfig::default());
                Ok(Answer::Reached(tokio::spawn(reach(plain, ahead, address.parse()?)).await??))
            }
            Ask::Guards => Ok(Answer::Guards(self.services.as_ref().ok_or("no relay is known")?.guards())),
            Ask::Ports => {
                Ok(Answer::Ports(self.ports.lock().unwrap_or_else(PoisonError::into_inner).clone()))
            }
            Ask::FetchObject { bytes, paths } => self.fetch_object(bytes, &paths).await,
        }
    }

    async fn describe(&self) -> Result<Answer, Failure> {
        let epoch = Epoch::at(system_clock()());
        let descriptor = RelayDescriptor {
            relay: self.id,
            onion_key: self.onion.onion_key(epoch).await.ok_or("the driver runs")?,
            epoch,
            family: FamilyTag::from_bytes([self.number; 16]),
            subnet: SubnetTag::from_bytes([self.number; 16]),
            bandwidth: BandwidthClass::default(),
            expiry: epoch.end(),
        };
        Ok(Answer::Descriptor(HEXLOWER.encode(&wire::to_bytes(&descriptor))))
    }

    async fn build(&self, path: &[String]) -> Result<CircuitHandle, Failure> {
        Ok(self.onion.build(descriptors(path)?).await?)
    }

    async fn fetch_object(&self, bytes: usize, paths: &[Vec<String>]) -> Result<Answer, Failure> {
        let manifest = Arc::new(object(bytes)?.manifest().clone());
        let mut streams: Vec<Box<dyn ByteLink>> = Vec::new();
        for path in paths {
            streams.push(Box::new(self.build(path).await?.open(OBJECT_PORT).await?));
        }
        let started = now();
        let report = fetch(streams, manifest, &BTreeSet::new(), &mut Discard).await?;
        let shards = report.paths.iter().map(|path| path.shards).collect();
        Ok(Answer::FetchedObject { seconds: started.elapsed().as_secs_f64(), shards })
    }
}

fn descriptors(hops: &[String]) -> Result<Vec<RelayDescriptor>, Failure> {
    hops.iter().map(|hop| Ok(wire::from_bytes(&HEXLOWER.decode(hop.as_bytes())?)?)).collect()
}

/// Stripes are checked by then; nothing else is wanted of them.
struct Discard;

impl Sink for Discard {
    fn keep(&mut self, _: u64, _: &[u8]) -> io::Result<()> {
        Ok(())
    }
}

async fn reach(plain: Dialer, ahead: Dialer, address: OnionAddress) -> Result<Reached, DialError> {
    let dial = async |dialer: &Dialer| {
        let started = now();
        drop(dialer.dial(&address, BYTES_PORT, None).await?);
        Ok::<_, DialError>(started.elapsed().as_secs_f64())
    };
    let (cold, without) = (dial(&plain).await?, dial(&plain).await?);
    plain.prepare(&address, None).await?;
    let prepared = dial(&plain).await?;
    dial(&ahead).await?;
    Ok(Reached { cold, without, prepared, warm: dial(&ahead).await? })
}

async fn fetch_bytes(circuit: CircuitHandle, bytes: usize) -> io::Result<Fetched> {
    let started = now();
    let stream = circuit.open(BYTES_PORT).await.map_err(io::Error::other)?;
    receive(stream, started, bytes).await
}

/// Asks for bytes on a stream that was asked for at `started`, and throws them away.
async fn receive(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    started: Instant,
    bytes: usize,
) -> io::Result<Fetched> {
    stream.write_all(&(bytes as u64).to_be_bytes()).await?;
    stream.flush().await?;
    let asked = now();
    let (mut left, mut first_byte, mut hundredths) = (bytes, None, Vec::new());
    let mut buffer = vec![0; CHUNK_BYTES];
    while left > 0 {
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        first_byte.get_or_insert(started.elapsed().as_secs_f64());
        let at = usize::try_from(asked.elapsed().as_millis() / 10).unwrap_or(usize::MAX);
        hundredths.resize(hundredths.len().max(at.saturating_add(1)), 0);
        if let Some(sum) = hundredths.last_mut() {
            *sum += count;
        }
        left = left.saturating_sub(count);
    }
    let seconds = started.elapsed().as_secs_f64();
    Ok(Fetched { first_byte: first_byte.unwrap_or(seconds), seconds, hundredths })
}

/// The ports at which streams came so far.
type Ports = Arc<Mutex<BTreeSet<u16>>>;

/// What serves streams.
#[derive(Clone)]
struct Server {
    object: Option<Arc<Object>>,
    hub: Hub,
    directory: Arc<MemoryDirectory>,
}

async fn serve_streams(mut incoming: Incoming, server: Server, ports: Ports) {
    while let Some(stream) = incoming.recv().await {
        ports.lock().unwrap_or_else(PoisonError::into_inner).insert(stream.port);
        let server = server.clone();
        // A client that goes ends its own stream.
        tokio::spawn(server.serve(stream));
    }
}

impl Server {
    async fn serve(self, IncomingStream { port, stream, circuit, .. }: IncomingStream) {
        match (port, self.object) {
            (OBJECT_PORT, Some(object)) => drop(serve(stream, &object).await),
            (directory::PORT, _) => drop(directory::serve(&self.directory, stream).await),
            _ if ports::ALL.contains(&port) => drop(self.hub.serve(circuit, port, stream).await),
            _ => drop(serve_bytes(stream).await),
        }
    }
}

pub(super) async fn serve_bytes(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    let mut left = usize::try_from(stream.read_u64().await?).unwrap_or(usize::MAX);
    let chunk = vec![0x5a; CHUNK_BYTES];
    while left > 0 {
        let bytes = chunk.get(..left.min(CHUNK_BYTES)).unwrap_or(&chunk);
        stream.write_all(bytes).await?;
        left -= bytes.len();
    }
    stream.shutdown().await
}
