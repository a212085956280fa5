//! A node as a process of its own, with the links that `nonos-node` has: onion cells in streams of
//! the mesh, over TCP, Noise and Yamux. It does what the lines on its standard input ask.

use std::collections::BTreeSet;
use std::io::{self, BufRead, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use data_encoding::HEXLOWER;
use nonos_identity::{Epoch, NetworkId, NodeId, Timestamp, WideDigest, wire};
use nonos_mesh::libp2p::{Driver, DriverConfig, Handle};
use nonos_mesh::testing::identity;
use nonos_mesh::{Check, ItemKind, MemoryStore, Ticket, Verdict};
use nonos_onion::link::{
    ByteLink, CircuitHandle, Incoming, LinkError, LinkFuture, Links, Onion, OnionDriver, system_clock,
};
use nonos_onion::multipath::{Code, Object, Sink, fetch, serve};
use nonos_onion::rendezvous::{Hub, HubLimits, ports};
use nonos_onion::{BandwidthClass, Config, EpochKeys, FamilyTag, RelayDescriptor, SubnetTag};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use zeroize::Zeroizing;

use super::services::Services;
use crate::Failure;
use crate::report::now;

/// What the parent wants of a node. One line of JSON each, answered by one line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Ask {
    /// Links to a node.
    Dial { node: NodeId, ticket: String },
    /// Its relay descriptor of this epoch.
    Describe,
    /// Builds a circuit, which takes the place of the one before.
    Build { path: Vec<String> },
    /// Fetches so many bytes over a new stream of that circuit.
    Fetch { bytes: usize },
    /// Learns the relays, where descriptors are kept, and how many relays its circuits have before their end.
    Learn { relays: Vec<String>, directory: PathBuf, hops: u8 },
    /// Offers an onion service that serves as many bytes as it is asked for.
    Offer,
    /// Fetches so many bytes from an onion service.
    Visit { address: String, bytes: usize },
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
    Fetched(Fetched),
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
    /// Bytes that came in each tenth of a second since they were asked for on the open stream.
    pub(super) tenths: Vec<usize>,
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

struct MeshLinks(Handle);

impl Links for MeshLinks {
    fn open(&self, relay: NodeId) -> LinkFuture {
        let mesh = self.0.clone();
        Box::pin(async move {
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
}

impl Node {
    async fn start(options: &Options) -> Result<Self, Failure> {
        let number = options.number;
        let network = NetworkId::from_name("versus");
        let now = system_clock()();
        let (signer, certificate) = identity(&network, number.into(), now);
        let id = certificate.node();
        let mut mesh = nonos_mesh::Config::new(network, signer, certificate);
        // Links are those that the parent asks for.
        mesh.links.exchange_interval = Duration::from_secs(3600);
        let mut driver = DriverConfig::new([number; 32], [number; 32]);
        driver.listen = vec![options.listen.clone()];
        let (mesh, mut events) =
            Driver::spawn(driver, mesh, Arc::new(MemoryStore::new()), Arc::new(Nothing)).await?;
        tokio::spawn(async move { while events.recv().await.is_some() {} });

        let mut config = Config::new(network, id);
        // The parent builds as many circuits as it measures.
        config.limits.create_burst = u32::MAX;
        config.limits.creates_per_epoch = usize::MAX;
        let keys = EpochKeys::new(Zeroizing::new([number; 32]), now);
        let links = Arc::new(MeshLinks(mesh.clone()));
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
        tokio::spawn(serve_streams(incoming, object.map(Arc::new), hub));
        Ok(Self { number, id, mesh, onion, circuit: None, services: None })
    }

    async fn answer(&mut self, ask: Ask) -> Result<Answer, Failure> {
        match ask {
            Ask::Dial { node, ticket } => self.dial(node, &ticket.parse()?).await,
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
            Ask::Learn { relays, directory, hops } => {
                let relays = descriptors(&relays)?;
                let seed = [self.number; 32];
                self.services =
                    Some(Services::new(self.onion.clone(), self.id, relays, directory, hops, seed)?);
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
            Ask::FetchObject { bytes, paths } => self.fetch_object(bytes, &paths).await,
        }
    }

    async fn dial(&self, node: NodeId, ticket: &Ticket) -> Result<Answer, Failure> {
        let contact = ticket.contacts.first().ok_or("a ticket names a contact")?;
        self.mesh.dial(contact.clone()).await?;
        let linked = async {
            loop {
                if self.mesh.links().await?.iter().any(|(_, peer)| *peer == node) {
                    return Ok(Answer::Done);
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(DIAL, linked).await?
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
    let (mut left, mut first_byte, mut tenths) = (bytes, None, Vec::new());
    let mut buffer = vec![0; CHUNK_BYTES];
    while left > 0 {
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        first_byte.get_or_insert(started.elapsed().as_secs_f64());
        let tenth = usize::try_from(asked.elapsed().as_millis() / 100).unwrap_or(usize::MAX);
        tenths.resize(tenths.len().max(tenth + 1), 0);
        if let Some(sum) = tenths.last_mut() {
            *sum += count;
        }
        left = left.saturating_sub(count);
    }
    let seconds = started.elapsed().as_secs_f64();
    Ok(Fetched { first_byte: first_byte.unwrap_or(seconds), seconds, tenths })
}

async fn serve_streams(mut incoming: Incoming, object: Option<Arc<Object>>, hub: Hub) {
    while let Some(stream) = incoming.recv().await {
        let object = object.clone().filter(|_| stream.port == OBJECT_PORT);
        let hub = hub.clone();
        // A client that goes ends its own stream.
        tokio::spawn(async move {
            match object {
                _ if ports::ALL.contains(&stream.port) => {
                    drop(hub.serve(stream.circuit, stream.port, stream.stream).await);
                }
                Some(object) => drop(serve(stream.stream, &object).await),
                None => drop(serve_bytes(stream.stream).await),
            }
        });
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
