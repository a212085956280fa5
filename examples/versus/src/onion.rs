//! Cell cryptography beside tor-proto's Counter Galois Onion, and what a circuit costs to build
//! and to use. All figures are processor time.

use std::hint::black_box;
use std::time::Duration;

use aes::{Aes128Dec, Aes128Enc};
use nonos_identity::{Epoch, NetworkId, NodeId, Timestamp};
use nonos_onion::cgo::{ClientLayer, LAYER_SEED_BYTES, RelayLayer};
use nonos_onion::{
    BandwidthClass, Config, EpochKeys, FamilyTag, Input, LinkId, LocalCircuitId, Machine, Output,
    RelayDescriptor, StreamId, SubnetTag,
};
use tor_proto::bench_utils::{
    BENCH_CHAN_CMD, CryptInit, InboundRelayLayer as _, OutboundClientCrypt, OutboundRelayLayer as _,
    RelayCellBody, RelayLayer as _, cgo,
};
use zeroize::Zeroizing;

use crate::Failure;
use crate::report::{Better, Of, Paired, Report, Row, Unmeasured, count, cpu_seconds};

/// Body of our cells, in bytes.
const BODY: usize = 1018;
/// Body of Tor's cells, in bytes.
const TOR_BODY: usize = 509;
/// The command byte that both bind: RELAY of Tor.
const RELAY: u8 = 3;
/// Relays and destination of a circuit here, as many as Tor's circuits have.
const HOPS: u8 = 3;
/// Cells that one side handles in a round.
const CELLS: usize = 40_000;
/// Cells that both implementations must agree on; below the first ratchet, which Tor has not.
const AGREED_CELLS: usize = 500;
const HANDSHAKES: usize = 40;
const BUILDS: usize = 20;
/// Bytes sent over a circuit in a round.
const STREAM_BYTES: usize = 16 << 20;
const MEGABYTE: f64 = 1e6;

const TOR: &str = "tor-proto 0.47 CGO, 509-byte bodies";

type TorRelay = cgo::CryptStatePair<Aes128Enc, Aes128Enc>;
type TorClient = cgo::CryptStatePair<Aes128Dec, Aes128Enc>;

const UNMEASURED: &[Unmeasured] = &[
    Unmeasured {
        target: "3-hop loopback, CPU per MB: >= 2x better than tor and anon",
        reason: "needs their daemons on this machine; the row `stream` is our machines without links",
    },
    Unmeasured {
        target: "onion service: >= 10x goodput, <= 1/4 CPU per MB of anon",
        reason: "the SDK has no onion services of its own yet, and anon needs its daemon",
    },
];

pub(crate) fn compare(rounds: usize) -> Result<Report, Failure> {
    agree()?;
    let mut rows = cells(rounds)?;
    rows.extend(handshakes(rounds)?);
    rows.extend(circuits(rounds)?);
    Ok(Report::new(rows, UNMEASURED))
}

fn seed(hop: u8) -> [u8; LAYER_SEED_BYTES] {
    core::array::from_fn(|i| hop.wrapping_mul(31).wrapping_add(i.to_le_bytes().first().copied().unwrap_or(0)))
}

/// Tor's state of the same layer; its seed ends with a binding that no cell depends on.
fn tor<T: CryptInit>(hop: u8) -> Result<T, Failure> {
    let mut bytes = seed(hop).to_vec();
    bytes.resize(T::seed_len(), 0);
    Ok(T::initialize(&bytes)?)
}

fn tor_client() -> Result<OutboundClientCrypt, Failure> {
    let mut client = OutboundClientCrypt::new();
    for hop in 0..HOPS {
        client.add_layer_from_pair(tor::<TorClient>(hop)?);
    }
    Ok(client)
}

fn client<const N: usize>() -> Vec<ClientLayer<N>> {
    (0..HOPS).map(|hop| ClientLayer::new(&seed(hop))).collect()
}

fn originate<const N: usize>(layers: &mut [ClientLayer<N>], body: &mut [u8; N]) {
    if let Some((last, before)) = layers.split_last_mut() {
        last.originate(RELAY, body);
        before.iter_mut().rev().for_each(|layer| layer.outward(RELAY, body));
    }
}

/// With the same keys and Tor's body length both make the same cells: what is compared is the
/// same work.
fn agree() -> Result<(), Failure> {
    let (mut ours, mut theirs) = (client::<TOR_BODY>(), tor_client()?);
    let mut our_relay = RelayLayer::<TOR_BODY>::new(&seed(0));
    let (mut their_outward, mut their_inward, _) = tor::<TorRelay>(0)?.split_relay_layer();
    let mut body = [7; TOR_BODY];
    for cell in 0..AGREED_CELLS {
        let mut their_body = RelayCellBody::from(Box::new(body));
        let check = |place: &str, ours: &[u8], theirs: &RelayCellBody| {
            let same = ours == theirs.as_ref();
            same.then_some(()).ok_or_else(|| format!("cell {cell} differs from tor-proto's: {place}"))
        };
        originate(&mut ours, &mut body);
        theirs.encrypt(BENCH_CHAN_CMD, &mut their_body, (HOPS - 1).into())?;
        check("client", &body, &their_body)?;
        our_relay.outward(RELAY, &mut body);
        their_outward.decrypt_outbound(BENCH_CHAN_CMD, &mut their_body);
        check("relay, outward", &body, &their_body)?;
        our_relay.inward(RELAY, &mut body);
        their_inward.encrypt_inbound(BENCH_CHAN_CMD, &mut their_body);
        check("relay, inward", &body, &their_body)?;
    }
    Ok(())
}

/// Cells per second of one side.
fn rate(mut cell: impl FnMut()) -> f64 {
    count(CELLS) / cpu_seconds(|| (0..CELLS).for_each(|_| cell())).1
}

fn cells(rounds: usize) -> Result<Vec<Row>, Failure> {
    let mut relay = RelayLayer::<BODY>::new(&seed(0));
    let mut same = RelayLayer::<TOR_BODY>::new(&seed(0));
    let (mut tor_outward, mut tor_inward, _) = tor::<TorRelay>(0)?.split_relay_layer();
    let (mut layers, mut tor_layers) = (client::<BODY>(), tor_client()?);
    let (mut body, mut small) = ([7; BODY], [7; TOR_BODY]);
    let mut tor_body = RelayCellBody::from(Box::new([7; TOR_BODY]));

    let (mut outward, mut inward, mut equal, mut origin) =
        (Paired::default(), Paired::default(), Paired::default(), Paired::default());
    let mut failed = None;
    for _ in 0..rounds {
        let ours = rate(|| {
            black_box(relay.outward(RELAY, black_box(&mut body)));
        });
        let theirs = rate(|| {
            black_box(tor_outward.decrypt_outbound(BENCH_CHAN_CMD, black_box(&mut tor_body)));
        });
        let ours_small = rate(|| {
            black_box(same.outward(RELAY, black_box(&mut small)));
        });
        outward.push(ours, theirs);
        equal.push(ours_small, theirs);
        let ours = rate(|| relay.inward(RELAY, black_box(&mut body)));
        inward.push(ours, rate(|| tor_inward.encrypt_inbound(BENCH_CHAN_CMD, black_box(&mut tor_body))));
        let ours = rate(|| originate(&mut layers, black_box(&mut body)));
        let theirs = rate(|| {
            let made = tor_layers.encrypt(BENCH_CHAN_CMD, black_box(&mut tor_body), (HOPS - 1).into());
            failed = failed.take().or(made.err());
        });
        origin.push(ours, theirs);
    }
    if let Some(error) = failed {
        return Err(error.into());
    }
    let cells = |pair: &Paired, name: &str| pair.row(name, "cells/s", Better::Higher, TOR);
    let bytes = |pair: &Paired, name: &str| {
        let scale = |rates: &[f64], body| rates.iter().map(|rate| rate * count(body) / MEGABYTE).collect();
        let pair = Paired { ours: scale(&pair.ours, BODY), anchor: scale(&pair.anchor, TOR_BODY) };
        pair.row(name, "MB/s", Better::Higher, TOR)
    };
    Ok(vec![
        cells(&outward, "relay, outward, 1018-byte bodies").target(Of::Ours, 1.2e6),
        cells(&inward, "relay, inward, 1018-byte bodies").target(Of::Ours, 1.2e6),
        bytes(&outward, "relay, outward, bytes"),
        bytes(&inward, "relay, inward, bytes"),
        cells(&equal, "relay, outward, 509-byte bodies on both sides"),
        cells(&origin, "client originates over 3 hops, 1018-byte bodies"),
        bytes(&origin, "client originates over 3 hops, bytes"),
    ])
}

const NOW: Duration = Duration::from_secs(600_000);

/// Machines joined by links without cost or delay; cells move one link per step.
struct Net {
    machines: Vec<Machine>,
    flying: Vec<(usize, Input)>,
    built: usize,
    offered: Vec<StreamId>,
    opened: usize,
}

/// Number of the link to a node.
fn link(peer: usize) -> LinkId {
    LinkId(peer as u64)
}

fn node(index: usize) -> NodeId {
    NodeId::from_bytes([u8::try_from(index).unwrap_or(u8::MAX); 32])
}

impl Net {
    fn new(nodes: usize) -> Result<Self, Failure> {
        let machine = |index: usize| {
            let seed = *node(index).as_bytes();
            let keys = EpochKeys::new(Zeroizing::new(seed), Timestamp::from_secs(NOW.as_secs()));
            let mut config = Config::new(NetworkId::from_name("versus"), node(index));
            config.limits.create_burst = u32::MAX;
            config.limits.creates_per_epoch = usize::MAX;
            Machine::new(config, keys, NOW, seed)
        };
        let machines = (0..nodes).map(machine).collect::<Result<_, _>>()?;
        Ok(Self { machines, flying: Vec::new(), built: 0, offered: Vec::new(), opened: 0 })
    }

    fn machine(&mut self, index: usize) -> Result<&mut Machine, Failure> {
        Ok(self.machines.get_mut(index).ok_or("no such node")?)
    }

    /// The path through all nodes but the client, which is node 0.
    fn path(&self) -> Result<Vec<RelayDescriptor>, Failure> {
        let epoch = Epoch::at(Timestamp::from_secs(NOW.as_secs()));
        let descriptor = |(index, machine): (usize, &Machine)| {
            let id = node(index);
            let tag = *id.as_bytes().first_chunk().ok_or("ids are longer than tags")?;
            Ok(RelayDescriptor {
                relay: id,
                onion_key: machine.onion_key(epoch).ok_or("no onion key")?,
                epoch,
                family: FamilyTag::from_bytes(tag),
                subnet: SubnetTag::from_bytes(tag),
                bandwidth: BandwidthClass::default(),
                expiry: epoch.end(),
            })
        };
        self.machines.iter().enumerate().skip(1).map(descriptor).collect()
    }

    /// Takes what a node wants to say; links open at once.
    fn poll(&mut self, index: usize) -> Result<(), Failure> {
        while let Some(output) = self.machine(index)?.poll() {
            match output {
                Output::Cells { link: to, bytes } => {
                    let peer = usize::try_from(to.0)?;
                    self.flying.push((peer, Input::Cells { link: link(index), bytes: bytes.clone() }));
                    self.machine(index)?.handle(NOW, Input::Sent { link: to, buffer: bytes });
                }
                Output::OpenLink { relay } => {
                    let peer = usize::from(relay.as_bytes().first().copied().unwrap_or(0));
                    let up = |to, opened| Input::LinkUp { link: link(to), peer: node(to), opened };
                    self.machine(peer)?.handle(NOW, up(index, false));
                    self.machine(index)?.handle(NOW, up(peer, true));
                }
                Output::Built { .. } => self.built += 1,
                Output::Offered { stream, .. } => self.offered.push(stream),
                Output::Opened { .. } => self.opened += 1,
                _ => {}
            }
        }
        Ok(())
    }

    /// Everything in flight arrives. Yields whether anything was.
    fn step(&mut self) -> Result<bool, Failure> {
        let arriving = core::mem::take(&mut self.flying);
        let any = !arriving.is_empty();
        for (to, input) in arriving {
            self.machine(to)?.handle(NOW, input);
            self.poll(to)?;
        }
        Ok(any)
    }

    fn start(&mut self, path: &[RelayDescriptor]) -> Result<LocalCircuitId, Failure> {
        let circuit = self.machine(0)?.build(NOW, path)?;
        self.poll(0)?;
        Ok(circuit)
    }

    /// Builds a circuit; yields it and the steps that took.
    fn build(&mut self, path: &[RelayDescriptor]) -> Result<(LocalCircuitId, usize), Failure> {
        let wanted = self.built + 1;
        let circuit = self.start(path)?;
        let mut steps = 0;
        while self.built < wanted {
            if !self.step()? {
                return Err("the circuit was not built".into());
            }
            steps += 1;
        }
        Ok((circuit, steps))
    }

    fn close(&mut self, circuit: LocalCircuitId) -> Result<(), Failure> {
        self.machine(0)?.close(NOW, circuit);
        self.poll(0)?;
        while self.step()? {}
        Ok(())
    }
}

/// Processor time of the two sides of one handshake, in microseconds.
fn handshakes(rounds: usize) -> Result<Vec<Row>, Failure> {
    let mut net = Net::new(2)?;
    let path = net.path()?;
    let (mut client, mut relay) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let (mut at_client, mut at_relay) = (0.0, 0.0);
        for _ in 0..HANDSHAKES {
            let (circuit, began) = cpu_seconds(|| net.start(&path));
            let (answered, relayed) = cpu_seconds(|| net.step());
            let (finished, ended) = cpu_seconds(|| net.step());
            answered?;
            finished?;
            at_client += began + ended;
            at_relay += relayed;
            net.close(circuit?)?;
        }
        client.push(at_client / count(HANDSHAKES) * 1e6);
        relay.push(at_relay / count(HANDSHAKES) * 1e6);
    }
    if net.built != rounds * HANDSHAKES {
        return Err("a handshake failed".into());
    }
    Ok(vec![
        Row::alone("handshake, client (X25519 + ML-KEM-768)", "us CPU", Better::Lower, &client),
        Row::alone("handshake, relay (X25519 + ML-KEM-768)", "us CPU", Better::Lower, &relay),
    ])
}

/// What circuits of three hops cost, over all four machines.
fn circuits(rounds: usize) -> Result<Vec<Row>, Failure> {
    let mut net = Net::new(usize::from(HOPS) + 1)?;
    let path = net.path()?;
    let (mut cpu, mut round_trips) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let mut taken = 0.0;
        for _ in 0..BUILDS {
            let (built, seconds) = cpu_seconds(|| net.build(&path));
            let (circuit, steps) = built?;
            taken += seconds;
            // Along the path and back is a step for each link, twice.
            round_trips.push(count(steps) / count(2 * usize::from(HOPS)));
            net.close(circuit)?;
        }
        cpu.push(taken / count(BUILDS) * 1e3);
    }
    Ok(vec![
        Row::alone("3-hop circuit build, all four machines", "ms CPU", Better::Lower, &cpu)
            .target(Of::Ours, 4.0),
        Row::alone("3-hop circuit build, path round trips", "RTT", Better::Lower, &round_trips)
            .target(Of::Ours, 1.0),
        stream(rounds, &mut net, &path)?,
    ])
}

/// Bytes over a stream of one circuit, through all four machines and no link.
fn stream(rounds: usize, net: &mut Net, path: &[RelayDescriptor]) -> Result<Row, Failure> {
    let last = usize::from(HOPS);
    let (circuit, _) = net.build(path)?;
    let near = net.machine(0)?.open(NOW, circuit, 80)?;
    net.poll(0)?;
    while net.step()? {}
    let far = net.offered.pop().ok_or("no stream was offered")?;
    net.machine(last)?.accept(NOW, far);
    net.poll(last)?;
    while net.step()? {}
    if net.opened == 0 {
        return Err("the stream was not opened".into());
    }
    let block = vec![0x5a; 1 << 16];
    let mut costs = Vec::new();
    for _ in 0..rounds {
        let (result, seconds) = cpu_seconds(|| transfer(net, near, far, &block));
        result?;
        costs.push(seconds * 1e3 / (count(STREAM_BYTES) / MEGABYTE));
    }
    Ok(Row::alone("stream, 3 hops, all four machines, no links", "ms CPU/MB", Better::Lower, &costs))
}

fn transfer(net: &mut Net, near: StreamId, far: StreamId, block: &[u8]) -> Result<(), Failure> {
    let last = usize::from(HOPS);
    let (mut sent, mut received) = (0, 0);
    let mut buffer = Vec::with_capacity(block.len());
    while received < STREAM_BYTES {
        let left = block.len().min(STREAM_BYTES - sent);
        let taken = net.machine(0)?.write(NOW, near, block.get(..left).unwrap_or(block));
        sent += taken;
        net.poll(0)?;
        let moved = net.step()?;
        buffer.clear();
        net.machine(last)?.read(NOW, far, usize::MAX, &mut buffer);
        let read = buffer.len();
        received += read;
        net.poll(last)?;
        if !moved && read == 0 && taken == 0 {
            return Err("the stream stalled".into());
        }
    }
    Ok(())
}
