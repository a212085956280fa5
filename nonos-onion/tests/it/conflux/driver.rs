//! Streams over the circuits of a network of drivers.

use std::io::ErrorKind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nonos_identity::{Epoch, NodeId};
use nonos_onion::conflux::{
    Accepted, BuiltLeg, Config, Conflux, ConfluxServer, ConfluxStream, Fault, LegError, LegFuture, Legs,
    Refusal,
};
use nonos_onion::link::ByteLink;
use nonos_onion::link::{CircuitHandle, Onion};
use nonos_onion::testing::{Network, Node, check_legs};
use nonos_onion::{Limits, RelayDescriptor};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep, timeout};

use crate::multipath::noise;

const PORT: u16 = 7;

/// Builds circuits of two relays to a destination.
struct Paths {
    onion: Onion,
    relays: Vec<(RelayDescriptor, Onion)>,
    destination: (RelayDescriptor, Onion),
    circuits: Mutex<Vec<CircuitHandle>>,
    built: AtomicUsize,
    epochs: Mutex<Vec<Epoch>>,
}

async fn of_epoch(
    (descriptor, onion): &(RelayDescriptor, Onion),
    epoch: Epoch,
) -> Result<RelayDescriptor, LegError> {
    let onion_key = onion.onion_key(epoch).await.ok_or(LegError::Unknown)?;
    Ok(RelayDescriptor { onion_key, epoch, ..descriptor.clone() })
}

struct Shared(Arc<Paths>);

impl Legs for Shared {
    fn build(&self, epoch: Epoch, avoid: Vec<NodeId>) -> LegFuture {
        let paths = Arc::clone(&self.0);
        Box::pin(async move {
            let fits = |relay: &&(RelayDescriptor, Onion)| !avoid.contains(&relay.0.relay);
            let mut path = Vec::new();
            for relay in paths.relays.iter().filter(fits).take(2).chain([&paths.destination]) {
                path.push(of_epoch(relay, epoch).await?);
            }
            let circuit = paths.onion.build(path.clone()).await?;
            let stream = circuit.open(PORT).await?;
            paths.built.fetch_add(1, Ordering::Relaxed);
            paths.epochs.lock().unwrap().push(epoch);
            paths.circuits.lock().unwrap().push(circuit);
            path.pop();
            let relays = path.iter().map(|relay| relay.relay).collect();
            Ok(BuiltLeg { stream: Box::new(stream), epoch, relays })
        })
    }
}

struct World {
    network: Arc<Network>,
    /// The client and six relays; the server takes the streams of the destination.
    nodes: Vec<Node>,
    paths: Arc<Paths>,
    accepted: Accepted,
}

/// The client, six relays and the destination, and the paths between them.
async fn nodes() -> (Arc<Network>, Vec<Node>, Arc<Paths>) {
    let network = Network::new();
    let mut nodes = Vec::new();
    for number in 0..8 {
        nodes.push(network.add(number, |_| {}).await);
    }
    let with_onion = |node: &Node| (node.descriptor.clone(), node.onion.clone());
    let paths = Paths {
        onion: nodes[0].onion.clone(),
        relays: nodes[1..7].iter().map(with_onion).collect(),
        destination: with_onion(&nodes[7]),
        circuits: Mutex::default(),
        built: AtomicUsize::new(0),
        epochs: Mutex::default(),
    };
    (network, nodes, Arc::new(paths))
}

impl World {
    async fn new(config: Config) -> Self {
        let (network, mut nodes, paths) = nodes().await;
        let mut destination = nodes.pop().unwrap();
        let (server, accepted) = ConfluxServer::new(config).unwrap();
        tokio::spawn(async move {
            while let Some(incoming) = destination.incoming.recv().await {
                assert_eq!(incoming.port, PORT);
                server.take(incoming);
            }
        });
        Self { network, nodes, paths, accepted }
    }

    fn open(&self, seed: u8) -> ConfluxStream {
        let legs = Arc::new(Shared(Arc::clone(&self.paths)));
        Conflux::open(legs, &Config::client(), self.network.clock(), [seed; 32]).unwrap()
    }

    fn built(&self) -> usize {
        self.paths.built.load(Ordering::Relaxed)
    }

    /// Closes the oldest circuit that the client has.
    fn close_one(&self) {
        self.paths.circuits.lock().unwrap().remove(0).close();
    }

    /// As the circuits of the streams would, if the test did not hold them.
    fn forget_circuits(&self) {
        self.paths.circuits.lock().unwrap().clear();
    }

    async fn wait_for(&self, what: &str, is_there: impl Fn(&Self) -> bool) {
        let begin = Instant::now();
        while !is_there(self) {
            assert!(begin.elapsed() < Duration::from_secs(20), "{what}");
            sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Sends back what comes.
fn echo(stream: ConfluxStream) {
    tokio::spawn(async move {
        let (mut read, mut write) = tokio::io::split(stream);
        if tokio::io::copy(&mut read, &mut write).await.is_ok() {
            let _ = write.shutdown().await;
        }
    });
}

#[tokio::test]
async fn paths_of_a_network_keep_the_contract() {
    let (network, mut nodes, paths) = nodes().await;
    let mut destination = nodes.pop().unwrap();
    // Only the leg holds its circuit.
    let accept = async || {
        let far = destination.incoming.recv().await.unwrap().stream;
        paths.circuits.lock().unwrap().clear();
        Box::new(far) as Box<dyn ByteLink>
    };
    check_legs(&Shared(Arc::clone(&paths)), Epoch::at(network.now()), accept).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_circuit_that_closes_midway_is_no_loss() {
    const HALF: usize = 4 << 20;
    let mut world = World::new(Config::default()).await;
    let stream = world.open(1);
    stream.linked().await.unwrap();
    let far = world.accepted.recv().await.unwrap();
    assert!(far.legs() >= 1);
    world.wait_for("a second leg", |world| world.built() == 2).await;
    echo(far);
    let bytes = noise(2 * HALF, 3);
    let (mut read, mut write) = tokio::io::split(stream);
    let sent = bytes.clone();
    let writer = tokio::spawn(async move {
        write.write_all(&sent).await.unwrap();
        write.shutdown().await.unwrap();
    });
    let mut received = vec![0; HALF];
    read.read_exact(&mut received).await.unwrap();
    world.close_one();
    world.wait_for("another leg", |world| world.built() == 3).await;
    read.read_to_end(&mut received).await.unwrap();
    writer.await.unwrap();
    assert!(received == bytes, "{} of {}", received.len(), bytes.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_circuits_may_go_at_once() {
    let mut world = World::new(Config::default()).await;
    let mut near = world.open(1);
    near.write_all(b"before").await.unwrap();
    let mut far = world.accepted.recv().await.unwrap();
    let mut bytes = [0; 6];
    far.read_exact(&mut bytes).await.unwrap();
    world.wait_for("a second leg", |world| world.built() == 2).await;
    world.close_one();
    world.close_one();
    near.write_all(b"after").await.unwrap();
    far.write_all(b"wards").await.unwrap();
    far.read_exact(&mut bytes[..5]).await.unwrap();
    assert_eq!(&bytes[..5], b"after");
    near.read_exact(&mut bytes[..5]).await.unwrap();
    assert_eq!(&bytes[..5], b"wards");
    let (one, two) = tokio::join!(near.shutdown(), far.shutdown());
    assert!(one.is_ok() && two.is_ok(), "{one:?} {two:?}");
    assert_eq!((near.read(&mut bytes).await.unwrap(), far.read(&mut bytes).await.unwrap()), (0, 0));
    assert_eq!(near.write(b"x").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_moves_to_the_next_epoch() {
    let mut world = World::new(Config::default()).await;
    let mut near = world.open(1);
    near.linked().await.unwrap();
    echo(world.accepted.recv().await.unwrap());
    world.wait_for("two legs", |world| world.built() == 2).await;
    let epoch = Epoch::at(world.network.now());
    for at in [epoch, epoch.next()] {
        // All have moved after 90 %.
        world.network.set_now(at.start().saturating_add(Duration::from_secs(541)));
        let built = world.built();
        world.wait_for("successors", |world| world.built() == built + 2).await;
        world.forget_circuits();
        world.wait_for("elders to retire", |_| near.legs() == 2).await;
        world.network.set_now(at.end().saturating_add(Limits::default().epoch_grace));
        sleep(Duration::from_millis(1500)).await;
        near.write_all(b"still").await.unwrap();
        let mut still = [0; 5];
        timeout(Duration::from_millis(500), near.read_exact(&mut still)).await.unwrap().unwrap();
        assert_eq!((&still, near.legs(), world.built()), (b"still", 2, built + 2));
    }
    let epochs = world.paths.epochs.lock().unwrap().clone();
    let (next, last) = (epoch.next(), epoch.next().next());
    assert_eq!(epochs, [epoch, epoch, next, next, last, last]);
}

/// What a client that speaks the protocol by hand hears first.
async fn hear(world: &World, kind: u8, nonce: u8) -> Vec<u8> {
    let mut path: Vec<_> = world.nodes[1..3].iter().map(|node| node.descriptor.clone()).collect();
    path.push(world.paths.destination.0.clone());
    let circuit = world.nodes[0].onion.build(path).await.unwrap();
    let mut stream = circuit.open(PORT).await.unwrap();
    let hello = [&[kind][..], &[nonce; 32], &[0; 8], &(1_u64 << 16).to_be_bytes()].concat();
    stream.write_all(&hello).await.unwrap();
    let mut heard = vec![0; 17];
    let count = timeout(Duration::from_secs(15), stream.read(&mut heard)).await.unwrap().unwrap();
    heard.truncate(count);
    heard
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_nonce_joins() {
    let mut world = World::new(Config::default()).await;
    let mut near = world.open(1);
    near.write_all(b"mine").await.unwrap();
    let mut far = world.accepted.recv().await.unwrap();
    assert_eq!(hear(&world, 2, 99).await, [4, 1], "no session has this nonce");
    let linked = [&[3][..], &[0; 8], &(512_u64 << 10).to_be_bytes()].concat();
    assert_eq!(hear(&world, 1, 99).await, linked, "another session");
    assert_eq!(hear(&world, 2, 99).await[0], 3, "which its own nonce joins");
    // Not even a second session of the same kind has anything of the first.
    let _other = world.accepted.recv().await.unwrap();
    let mut mine = [0; 4];
    far.read_exact(&mut mine).await.unwrap();
    assert_eq!(&mine, b"mine");
    assert!(timeout(Duration::from_millis(100), far.read_u8()).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_says_that_it_is_full() {
    let mut world = World::new(Config { sessions: 1, ..Config::default() }).await;
    let first = world.open(1);
    first.linked().await.unwrap();
    let mut far = world.accepted.recv().await.unwrap();
    let mut second = world.open(2);
    assert_eq!(second.linked().await, Err(Fault::Refused(Refusal::Sessions)));
    let error = second.write(b"x").await.unwrap_err();
    let fault = error.get_ref().and_then(|fault| fault.downcast_ref());
    assert_eq!(
        (error.kind(), fault),
        (ErrorKind::ConnectionRefused, Some(&Fault::Refused(Refusal::Sessions)))
    );
    // A stream that is dropped is reset, and makes room.
    drop(first);
    assert_eq!(far.read_u8().await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    let begin = Instant::now();
    loop {
        let third = world.open(3);
        if third.linked().await.is_ok() {
            break;
        }
        assert!(begin.elapsed() < Duration::from_secs(5));
    }
}

/// Two clients send to an application that reads nothing; there is room for one and a half of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_ends_the_stream_that_holds_most() {
    let config = Config { memory_bytes: 700 << 10, ..Config::default() };
    let mut world = World::new(config).await;
    let mut small = world.open(1);
    small.write_all(&[1; 100_000]).await.unwrap();
    let mut small_far = world.accepted.recv().await.unwrap();
    let mut one = world.open(2);
    one.write_all(&[2; 600_000]).await.unwrap();
    let one_far = world.accepted.recv().await.unwrap();
    sleep(Duration::from_millis(300)).await;
    let mut two = world.open(3);
    two.write_all(&[3; 600_000]).await.unwrap();
    let two_far = world.accepted.recv().await.unwrap();
    let ended = async {
        tokio::select! {
            end = one.read_u8() => (end, one_far),
            end = two.read_u8() => (end, two_far),
        }
    };
    let (end, mut far) = timeout(Duration::from_secs(20), ended).await.unwrap();
    assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(far.read_u8().await.unwrap_err().kind(), ErrorKind::OutOfMemory);
    small_far.read_exact(&mut vec![0; 100_000]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_after_the_end_of_the_request_is_whole() {
    let mut world = World::new(Config::default()).await;
    for seed in 1..=8 {
        let mut near = world.open(seed);
        near.write_all(b"question").await.unwrap();
        let mut far = world.accepted.recv().await.unwrap();
        let answer = noise(300_000, seed);
        let expected = answer.clone();
        let server = tokio::spawn(async move {
            let mut question = String::new();
            far.read_to_string(&mut question).await.unwrap();
            assert_eq!(question, "question");
            far.write_all(&answer).await.unwrap();
            far.shutdown().await.unwrap();
        });
        near.shutdown().await.unwrap();
        let mut received = Vec::new();
        near.read_to_end(&mut received).await.unwrap();
        assert!(received == expected);
        server.await.unwrap();
    }
}
