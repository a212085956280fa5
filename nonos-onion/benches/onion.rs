//! Costs of a cell, of a handshake, of a circuit and of a stripe. Names are `module::operation/key=value`.
#![expect(clippy::indexing_slicing, reason = "the machines of a bench are numbered by it")]

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use nonos_identity::{Epoch, NetworkId, NodeId, Timestamp, WideDigest};
use nonos_onion::cgo::{ClientLayer, LAYER_SEED_BYTES, RelayLayer};
use nonos_onion::conflux;
use nonos_onion::multipath::{Code, Encoder, Object, Rebuild, STRIPE_BYTES, Shard, ShardId};
use nonos_onion::{
    BandwidthClass, Config, EpochKeys, FamilyTag, Input, LinkId, Machine, Output, RelayDescriptor, SubnetTag,
};
use zeroize::Zeroizing;

const BODY: usize = 1018;
const RELAY: u8 = 1;

fn seed(hop: u8) -> [u8; LAYER_SEED_BYTES] {
    [hop; LAYER_SEED_BYTES]
}

fn cells(c: &mut Criterion) {
    let mut group = c.benchmark_group("cgo");
    group.throughput(Throughput::Elements(1));
    let mut body = [7; BODY];
    let mut layer = RelayLayer::<BODY>::new(&seed(1));
    group.bench_function("relay_outward/body=1018", |b| {
        b.iter(|| black_box(layer.outward(RELAY, black_box(&mut body))));
    });
    group.bench_function("relay_inward/body=1018", |b| {
        b.iter(|| layer.inward(RELAY, black_box(&mut body)));
    });
    group.bench_function("relay_originate/body=1018", |b| {
        b.iter(|| black_box(layer.originate(RELAY, black_box(&mut body))));
    });
    let mut tor = [7; 509];
    let mut tor_layer = RelayLayer::<509>::new(&seed(1));
    group.bench_function("relay_outward/body=509", |b| {
        b.iter(|| black_box(tor_layer.outward(RELAY, black_box(&mut tor))));
    });
    let mut client: Vec<ClientLayer<BODY>> = (1..=4).map(|hop| ClientLayer::new(&seed(hop))).collect();
    group.bench_function("client_originate/hops=4", |b| {
        b.iter(|| {
            if let Some((last, before)) = client.split_last_mut() {
                last.originate(RELAY, black_box(&mut body));
                before.iter_mut().rev().for_each(|layer| layer.outward(RELAY, &mut body));
            }
        });
    });
    group.finish();
}

const NOW: Duration = Duration::from_secs(600_000);

fn machine(number: u8) -> Machine {
    let keys = EpochKeys::new(Zeroizing::new([number; 32]), Timestamp::from_secs(NOW.as_secs()));
    let mut config = Config::new(NetworkId::from_name("bench"), NodeId::from_bytes([number; 32]));
    config.limits.create_burst = u32::MAX;
    config.limits.circuits = usize::MAX;
    config.limits.circuits_per_link = usize::MAX;
    config.limits.creates_per_epoch = usize::MAX;
    Machine::new(config, keys, NOW, [number; 32]).expect("limits work together")
}

fn descriptor(number: u8, machine: &Machine) -> RelayDescriptor {
    let epoch = Epoch::at(Timestamp::from_secs(NOW.as_secs()));
    RelayDescriptor {
        relay: NodeId::from_bytes([number; 32]),
        onion_key: machine.onion_key(epoch).expect("the current epoch"),
        epoch,
        family: FamilyTag::from_bytes([number; 16]),
        subnet: SubnetTag::from_bytes([number; 16]),
        bandwidth: BandwidthClass::default(),
        expiry: epoch.end(),
    }
}

/// Takes the cells a machine wants to send, and gives the buffers back.
fn cells_of(machine: &mut Machine) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(output) = machine.poll() {
        if let Output::Cells { link, bytes } = output {
            all.extend_from_slice(&bytes);
            machine.handle(NOW, Input::Sent { link, buffer: bytes });
        }
    }
    all
}

fn handshakes(c: &mut Criterion) {
    let mut group = c.benchmark_group("handshake");
    let link = LinkId(1);
    let mut relay = machine(2);
    relay.handle(NOW, Input::LinkUp { link, peer: NodeId::from_bytes([1; 32]), opened: false });
    let mut client = machine(1);
    client.handle(NOW, Input::LinkUp { link, peer: NodeId::from_bytes([2; 32]), opened: true });
    let path = [descriptor(2, &relay)];
    group.bench_function("client_create/suite=hybrid", |b| {
        b.iter(|| {
            let circuit = client.build(NOW, &path).expect("a path of one hop");
            let cells = cells_of(&mut client);
            client.close(NOW, circuit);
            cells_of(&mut client);
            cells
        });
    });
    group.bench_function("relay_created/suite=hybrid", |b| {
        b.iter_batched(
            || {
                client.build(NOW, &path).expect("a path of one hop");
                cells_of(&mut client)
            },
            |bytes| {
                relay.handle(NOW, Input::Cells { link, bytes });
                cells_of(&mut relay)
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

/// Builds a circuit through all machines but the first, and closes it; yields the cells that moved.
fn build(machines: &mut [Machine], path: &[RelayDescriptor]) -> usize {
    let circuit = machines[0].build(NOW, path).expect("the path is sound");
    let (mut built, mut moved) = (false, 0);
    for closing in [false, true] {
        if closing {
            machines[0].close(NOW, circuit);
        }
        while let Some((from, output)) =
            (0..machines.len()).find_map(|from| machines[from].poll().map(|output| (from, output)))
        {
            match output {
                Output::Cells { link, bytes } => {
                    moved += bytes.len() / 1024;
                    // Machine `n` has the link to the one before it and the link to the one behind.
                    let (to, back) =
                        if link == LinkId(1) { (from + 1, LinkId(0)) } else { (from - 1, LinkId(1)) };
                    machines[to].handle(NOW, Input::Cells { link: back, bytes: bytes.clone() });
                    machines[from].handle(NOW, Input::Sent { link, buffer: bytes });
                }
                Output::Built { .. } => built = true,
                _ => {}
            }
        }
    }
    assert!(built, "the circuit is built");
    moved
}

fn circuits(c: &mut Criterion) {
    let mut group = c.benchmark_group("circuit");
    for hops in [3_u8, 4, 6] {
        let mut machines: Vec<Machine> = (1..=hops + 1).map(machine).collect();
        for near in 0..=hops {
            let machine = &mut machines[usize::from(near)];
            let peer = |number: u8| NodeId::from_bytes([number; 32]);
            if near > 0 {
                machine.handle(NOW, Input::LinkUp { link: LinkId(0), peer: peer(near), opened: false });
            }
            if near < hops {
                machine.handle(NOW, Input::LinkUp { link: LinkId(1), peer: peer(near + 2), opened: true });
            }
        }
        let path: Vec<_> = (2..=hops + 1).map(|n| descriptor(n, &machines[usize::from(n) - 1])).collect();
        group.bench_function(format!("build/hops={hops}"), |b| b.iter(|| build(&mut machines, &path)));
    }
    group.finish();
}

/// The shards of one stripe with one data shard missing, checked.
fn shards(object: &Object) -> Vec<Shard> {
    let code = object.manifest().code();
    let shard = |number: usize| {
        let id = ShardId { stripe: 0, shard: u8::try_from(number).expect("few shards") };
        let bytes = object.shard(id).expect("memory").expect("the stripe is there");
        object.manifest().check(0, id, bytes).expect("unchanged")
    };
    (1..=code.data()).map(shard).collect()
}

fn stripes(c: &mut Criterion) {
    let mut group = c.benchmark_group("multipath");
    group.throughput(Throughput::Bytes(STRIPE_BYTES as u64));
    let stripe: Vec<u8> = (0_u32..1 << 20).map(|i| i.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    let context = WideDigest::from_bytes([7; 64]);
    for (name, code) in [("2+1", Code::Xor2of3), ("4+2", Code::ReedSolomon4of6)] {
        group.bench_function(format!("encode_and_hash/code={name}"), |b| {
            b.iter(|| Encoder::new(context, code).stripe(&mut &stripe[..]).expect("memory"));
        });
        let object = Object::from_bytes(context, code, stripe.clone()).expect("one stripe");
        let parity = ShardId { stripe: 0, shard: u8::try_from(code.data()).expect("few shards") };
        group.bench_function(format!("encode/code={name}"), |b| {
            b.iter(|| object.shard(parity).expect("memory"))
        });
        let manifest = std::sync::Arc::new(object.manifest().clone());
        let have = std::collections::BTreeSet::new();
        group.bench_function(format!("rebuild/code={name} missing=1"), |b| {
            b.iter_batched(
                || (Rebuild::new(manifest.clone(), &have), shards(&object)),
                |(mut rebuild, shards)| {
                    shards.into_iter().map(|shard| rebuild.add(shard).expect("of this object")).last()
                },
                BatchSize::LargeInput,
            );
        });
    }
    group.finish();
}

/// Both ends of a stream over two legs in memory.
fn conflux_pair() -> [conflux::Session; 2] {
    let config = conflux::Config::default();
    let nonce = conflux::Nonce::from_bytes([7; 32]);
    let mut client = conflux::Session::connect(&config, NOW, nonce).expect("default limits");
    let mut server = conflux::Session::accept(&config, NOW).expect("default limits");
    for leg in [conflux::LegId(1), conflux::LegId(2)] {
        let mut hello = Vec::new();
        client.handle(NOW, conflux::Input::LegUp { leg, hello: None });
        client.transmit(NOW, leg, conflux::Hello::BYTES, &mut hello);
        let hello = hello.first_chunk().and_then(|hello| conflux::Hello::read(hello).ok());
        server.handle(NOW, conflux::Input::LegUp { leg, hello: hello.as_ref() });
    }
    [client, server]
}

fn streams(c: &mut Criterion) {
    const BYTES: usize = 1 << 20;
    let mut group = c.benchmark_group("conflux");
    group.throughput(Throughput::Bytes(BYTES as u64));
    let bytes = vec![7; BYTES];
    let [mut client, mut server] = conflux_pair();
    let (mut now, mut carried, mut out) = (NOW, Vec::new(), Vec::new());
    group.bench_function("transfer/bytes=1048576 legs=2", |b| {
        b.iter(|| {
            let (mut written, mut read) = (0, 0);
            while read < BYTES {
                written += client.write(&bytes[written..]).expect("it lives");
                now += Duration::from_millis(1);
                for leg in [conflux::LegId(1), conflux::LegId(2)] {
                    carried.clear();
                    client.transmit(now, leg, usize::MAX, &mut carried);
                    server.handle(now, conflux::Input::Received { leg, bytes: &carried });
                    carried.clear();
                    server.transmit(now, leg, usize::MAX, &mut carried);
                    client.handle(now, conflux::Input::Received { leg, bytes: &carried });
                }
                while client.poll().is_some() || server.poll().is_some() {}
                out.clear();
                server.read(usize::MAX, &mut out).expect("it lives");
                read += out.len();
            }
        });
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(30).measurement_time(Duration::from_secs(2)).warm_up_time(Duration::from_millis(500));
    targets = cells, handshakes, circuits, stripes, streams
}
criterion_main!(benches);
