//! Handshakes, circuits and streams of machines in one process, without links: what they cost by
//! themselves. All figures are processor time.

use std::time::Duration;

use nonos_identity::{Epoch, NetworkId, NodeId, Timestamp};
use nonos_onion::{
    BandwidthClass, Config, EpochKeys, FamilyTag, Input, LinkId, LocalCircuitId, Machine, Output,
    RelayDescriptor, StreamId, SubnetTag,
};
use zeroize::Zeroizing;

use super::cells::HOPS;
use crate::Failure;
use crate::report::{Better, Of, Row, count, cpu_seconds};

const HANDSHAKES: usize = 40;
const BUILDS: usize = 20;
/// Bytes sent over a circuit in a round.
const STREAM_BYTES: usize = 16 << 20;
const MEGABYTE: f64 = 1e6;

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
pub(super) fn handshakes(rounds: usize) -> Result<Vec<Row>, Failure> {
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
pub(super) fn circuits(rounds: usize) -> Result<Vec<Row>, Failure> {
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
