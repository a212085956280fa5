//! Onion services from end to end: a client, a service, relays with hubs and a directory.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use nonos_identity::{NodeId, OnionAddress, OnionNetwork, SigningKey, StaticSecret};
use nonos_onion::rendezvous::{
    CircuitError, DialError, Dialer, DialerConfig, Environment, Host, HostConfig, HostError, HubLimits,
    Purpose, RelayHint, Visitors, ports,
};
use nonos_onion::service::{DescriptorError, MAX_CLIENTS, Service, WrongNetwork};
use nonos_onion::testing::{HubNetwork, HubStream, Node};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout};

mod observations;
mod swarm;

const MARKER: &[u8] = b"what only the two ends may read";
const SERVICE: u8 = 40;
const CLIENT: u8 = 50;

/// A mesh with a service that is published, and a client. The nodes are kept: they stop with the last handle.
pub(crate) struct Mesh {
    pub(crate) hubs: HubNetwork,
    pub(crate) host: Host,
    visitors: Option<Visitors>,
    pub(crate) client: (Node, Environment),
    pub(crate) server: (Node, Environment),
}

pub(crate) fn service(environment: &Environment) -> Arc<Service> {
    Arc::new(Service::new(environment.network, &SigningKey::from_seed(&[SERVICE; 32])).unwrap())
}

impl Mesh {
    async fn new(limits: HubLimits, config: HostConfig) -> Self {
        Self::over(HubNetwork::new(10, limits).await, config).await
    }

    async fn over(hubs: HubNetwork, config: HostConfig) -> Self {
        let (client, server) = (hubs.add(CLIENT).await, hubs.add(SERVICE).await);
        let (host, visitors) =
            Host::spawn(server.1.clone(), service(&server.1), config, &[SERVICE; 32]).unwrap();
        assert!(timeout(Duration::from_secs(60), host.published()).await.unwrap());
        Self { hubs, host, visitors: Some(visitors), client, server }
    }

    async fn public() -> Self {
        Self::new(HubLimits::default(), HostConfig::default()).await
    }

    fn dialer(&self) -> Dialer {
        Dialer::new(self.client.1.clone(), DialerConfig::default(), &[CLIENT; 32])
    }

    fn address(&self) -> OnionAddress {
        self.host.address()
    }

    /// Sends back what comes, on every port.
    fn echo(&mut self) {
        let mut visitors = self.visitors.take().unwrap();
        tokio::spawn(async move {
            while let Some(visit) = visitors.recv().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = tokio::io::split(visit.stream);
                    if tokio::io::copy(&mut read, &mut write).await.is_ok() {
                        let _ = write.shutdown().await;
                    }
                });
            }
        });
    }

    fn streams(&self, port: u16) -> Vec<(NodeId, HubStream)> {
        let of = |relay| self.hubs.seen(relay).into_iter().map(move |stream| (relay, stream));
        self.hubs.relays().flat_map(of).filter(|(_, stream)| stream.port == port).collect()
    }

    /// Sends bytes to a hub as a client of it, and yields its answer.
    async fn ask(&self, relay: NodeId, request: &[u8]) -> io::Result<[u8; 2]> {
        let mut stream = self.client_stream(relay, ports::INTRODUCE).await;
        stream.write_all(request).await?;
        let mut answer = [0; 2];
        stream.read_exact(&mut answer).await?;
        Ok(answer)
    }

    async fn client_stream(&self, relay: NodeId, port: u16) -> nonos_onion::link::OnionStream {
        // This node has the relay's descriptor; the rest of the hint is not used.
        let hint = RelayHint { relay, onion_key: [0; 32], epoch: nonos_identity::Epoch::from_number(0) };
        let circuit = self.client.1.circuits.build(hint, Purpose::Introduce).await.unwrap();
        circuit.open(port).await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_and_a_service_talk_both_ways() {
    let mut mesh = Mesh::public().await;
    let (dialer, address) = (mesh.dialer(), mesh.address());
    let mut visitors = mesh.visitors.take().unwrap();
    let mut near = dialer.dial(&address, 80, None).await.unwrap();
    let mut far = visitors.recv().await.unwrap();
    assert_eq!(far.port, 80);
    // The service may speak first.
    far.stream.write_all(b"hello").await.unwrap();
    let mut hello = [0; 5];
    near.read_exact(&mut hello).await.unwrap();
    assert_eq!(&hello, b"hello");

    let sent = crate::circuits::pattern(3 << 20, 1);
    let expected = sent.clone();
    let upload = tokio::spawn(async move {
        near.write_all(&sent).await.unwrap();
        near.shutdown().await.unwrap();
        let mut rest = Vec::new();
        near.read_to_end(&mut rest).await.unwrap();
        rest
    });
    let mut received = Vec::new();
    far.stream.read_to_end(&mut received).await.unwrap();
    assert!(received == expected, "{} of {} bytes", received.len(), expected.len());
    // This half is still open.
    far.stream.write_all(b"thanks").await.unwrap();
    far.stream.shutdown().await.unwrap();
    assert_eq!(upload.await.unwrap(), b"thanks");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_visits_at_once_are_answered() {
    let mut mesh = Mesh::public().await;
    let (dialer, address) = (Arc::new(mesh.dialer()), mesh.address());
    mesh.echo();
    let visit = |number: u8| {
        let dialer = Arc::clone(&dialer);
        tokio::spawn(async move {
            let mut stream = dialer.dial(&address, u16::from(number), None).await.unwrap();
            stream.write_all(&[number; 10_000]).await.unwrap();
            stream.shutdown().await.unwrap();
            let mut back = Vec::new();
            stream.read_to_end(&mut back).await.unwrap();
            assert!(back == [number; 10_000]);
        })
    };
    for visit in (0..20).map(visit).collect::<Vec<_>>() {
        visit.await.unwrap();
    }
    assert_eq!(mesh.streams(ports::INTRODUCE).len(), 20);
}

/// What hubs and links carry names neither end, and hubs cannot read what the two ends say.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_in_between_sees_who_talks_or_what() {
    let hubs = HubNetwork::new(10, HubLimits::default()).await;
    hubs.network().observer().record();
    let mut mesh = Mesh::over(hubs, HostConfig::default()).await;
    mesh.echo();
    let (dialer, address) = (mesh.dialer(), mesh.address());
    let mut stream = dialer.dial(&address, 80, None).await.unwrap();
    stream.write_all(MARKER).await.unwrap();
    stream.read_exact(&mut [0; MARKER.len()]).await.unwrap();

    let (client, server) = (mesh.client.0.id, mesh.server.0.id);
    let (key, bytes, text) = (address.key(), address.to_bytes(), address.to_string());
    let secrets: [(&str, &[u8]); 6] = [
        ("the client", client.as_bytes()),
        ("the service's node", server.as_bytes()),
        ("the service's key", key.as_bytes()),
        ("the address", &bytes),
        ("its text", text.as_bytes()),
        ("the content", MARKER),
    ];
    let mut used = BTreeSet::new();
    for relay in mesh.hubs.relays() {
        for stream in mesh.hubs.seen(relay) {
            used.insert(stream.port);
            for (what, secret) in secrets {
                assert!(!stream.contains(&secret[..16.min(secret.len())]), "{what} at port {}", stream.port);
            }
        }
        let view = mesh.hubs.network().observer().view(relay);
        for (what, secret) in secrets {
            assert!(!view.contains(&secret[..16]), "{what} on a link");
        }
    }
    assert_eq!(used, BTreeSet::from(ports::ALL));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_authorised_clients_are_introduced() {
    let friend = StaticSecret::from_bytes(&[5; 32]);
    let config = HostConfig { clients: Some(vec![friend.public()]), ..HostConfig::default() };
    let mut mesh = Mesh::new(HubLimits::default(), config).await;
    mesh.echo();
    let (dialer, address) = (mesh.dialer(), mesh.address());
    let stranger = StaticSecret::from_bytes(&[6; 32]);
    let refused = DialError::Descriptor(DescriptorError::NotAuthorised);
    assert_eq!(dialer.dial(&address, 80, None).await.unwrap_err(), refused);
    assert!(dialer.dial(&address, 80, Some(&friend)).await.is_ok());
    // What the friend's descriptor taught this dialer is of no use to others.
    assert_eq!(dialer.dial(&address, 80, None).await.unwrap_err(), refused);
    assert_eq!(dialer.dial(&address, 80, Some(&stranger)).await.unwrap_err(), refused);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn addresses_that_lead_nowhere_are_told_apart() {
    let mesh = Mesh::public().await;
    let dialer = mesh.dialer();
    let foreign = OnionAddress::new(OnionNetwork::Tor, mesh.address().key());
    assert_eq!(dialer.dial(&foreign, 80, None).await.unwrap_err(), DialError::Network(WrongNetwork));
    let nobody = OnionAddress::new(OnionNetwork::Mesh, SigningKey::from_seed(&[1; 32]).public());
    let missing = DialError::Descriptor(DescriptorError::NotFound);
    assert_eq!(dialer.dial(&nobody, 80, None).await.unwrap_err(), missing);
}

/// A hub that keeps no names passes a replay on, and the service refuses it: no second visit, and nobody
/// comes to the rendezvous again. A changed introduction fares no better, wherever the bit is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replayed_and_changed_introductions_come_to_nothing() {
    let mut mesh = Mesh::new(HubLimits { known: 0, ..HubLimits::default() }, HostConfig::default()).await;
    let mut visitors = mesh.visitors.take().unwrap();
    let dialer = mesh.dialer();
    let stream = dialer.dial(&mesh.address(), 80, None).await.unwrap();
    visitors.recv().await.unwrap();
    let introduced = mesh.streams(ports::INTRODUCE);
    let [(relay, introduction)] = &introduced[..] else { panic!("{} introductions", introduced.len()) };
    let request = &introduction.read;
    assert_eq!(request.len(), 32 + 1 + 8 + 1488);
    let rendezvous = || mesh.streams(ports::RENDEZVOUS).len();
    assert_eq!(rendezvous(), 2);
    assert_eq!(mesh.ask(*relay, request).await.unwrap(), [1, 0], "the hub passes it on");
    for at in [41, 41 + 32, 41 + 32 + 1184, 41 + 1487] {
        let mut changed = request.clone();
        changed[at] ^= 1;
        assert_eq!(mesh.ask(*relay, &changed).await.unwrap(), [1, 0], "the hub passes byte {at} on");
    }
    assert!(timeout(Duration::from_secs(2), visitors.recv()).await.is_err(), "a second visit");
    assert_eq!(rendezvous(), 2, "the service went to meet a replay");
    drop(stream);
    // The point still works, with all its credit.
    for _ in 0..10 {
        dialer.dial(&mesh.address(), 80, None).await.unwrap();
        visitors.recv().await.unwrap();
    }
}

/// Who reads the introduction point of another address, but does not know that address, has the wrong
/// subcredential: the same introduction to another service's point is worth nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_introduction_is_for_one_service() {
    let mut mesh = Mesh::public().await;
    let mut visitors = mesh.visitors.take().unwrap();
    let other = Service::new(mesh.server.1.network, &SigningKey::from_seed(&[41; 32])).unwrap();
    let (other_host, mut other_visitors) =
        Host::spawn(mesh.server.1.clone(), Arc::new(other), HostConfig::default(), &[41; 32]).unwrap();
    assert!(other_host.published().await);
    let _stream = mesh.dialer().dial(&mesh.address(), 80, None).await.unwrap();
    visitors.recv().await.unwrap();
    let introduction = mesh.streams(ports::INTRODUCE).remove(0).1;
    // The keys of the other service, as its hubs see them.
    let established = mesh.streams(ports::ESTABLISH).split_off(3);
    assert_eq!(established.len(), 3);
    for (relay, stream) in mesh.streams(ports::ESTABLISH) {
        let key = &stream.read[..32];
        if key == &introduction.read[..32] {
            continue;
        }
        let moved = [key, &introduction.read[32..]].concat();
        assert_eq!(mesh.ask(relay, &moved).await.unwrap(), [1, 0]);
    }
    assert!(timeout(Duration::from_secs(2), other_visitors.recv()).await.is_err());
    assert!(timeout(Duration::from_millis(10), visitors.recv()).await.is_err());
}

/// A rendezvous that ends a stream, however politely, does not make it look finished.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_cut_off_does_not_end_well() {
    let mut mesh = Mesh::public().await;
    let mut visitors = mesh.visitors.take().unwrap();
    let mut near = mesh.dialer().dial(&mesh.address(), 80, None).await.unwrap();
    let mut far = visitors.recv().await.unwrap();
    far.stream.write_all(b"half of it").await.unwrap();
    let mut half = [0; 10];
    near.read_exact(&mut half).await.unwrap();
    let (relay, _) = mesh.streams(ports::RENDEZVOUS).remove(0);
    mesh.hubs.stop(relay).await;
    let ended = timeout(Duration::from_secs(30), near.read_to_end(&mut Vec::new())).await.unwrap();
    assert!(ended.is_err(), "a cut stream ended well");
}

/// Another relay takes the place of one that is gone, and clients with the old descriptor find it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_introduction_points_are_replaced() {
    let mut mesh = Mesh::new(HubLimits::default(), HostConfig { points: 1, clients: None }).await;
    mesh.echo();
    let (dialer, address) = (mesh.dialer(), mesh.address());
    drop(dialer.dial(&address, 80, None).await.unwrap());
    let before = mesh.host.relays();
    let publications = mesh.host.publications();
    mesh.hubs.stop(before[0]).await;
    let replaced = async {
        while mesh.host.publications() == publications || mesh.host.relays() == before {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(Duration::from_secs(60), replaced).await.unwrap();
    assert!(!mesh.host.relays().contains(&before[0]));
    dialer.dial(&address, 80, None).await.unwrap();
}

/// The points of a service outlive the epoch of their circuits; nothing has to be published for that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn points_stay_from_epoch_to_epoch() {
    let mut mesh = Mesh::public().await;
    mesh.echo();
    let (dialer, address) = (mesh.dialer(), mesh.address());
    drop(dialer.dial(&address, 80, None).await.unwrap());
    // A service is published with its first point; the others are published as they come.
    let all = async {
        while mesh.host.relays().len() < 3 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    };
    timeout(Duration::from_secs(60), all).await.unwrap();
    let (before, publications) = (mesh.host.relays(), mesh.host.publications());
    let established = mesh.streams(ports::ESTABLISH).len();
    let next = nonos_identity::Epoch::at(mesh.hubs.network().now()).next();
    // Within the grace of the old circuits, when all points have come anew.
    mesh.hubs.set_now(next.start().saturating_add(Duration::from_secs(40))).await;
    let renewed = async {
        while mesh.streams(ports::ESTABLISH).len() < established + 3 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(Duration::from_secs(60), renewed).await.unwrap();
    // The last of them has come and not been answered: its point still stands on the old circuit.
    tokio::time::sleep(Duration::from_secs(1)).await;
    mesh.hubs.set_now(next.start().saturating_add(Duration::from_secs(90))).await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    dialer.dial(&address, 80, None).await.unwrap();
    assert_eq!((mesh.host.relays(), mesh.host.publications()), (before, publications));
}

/// A service that takes no visits leaves introductions at the hub; clients then work to be heard, and are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_outbid_each_other_when_a_service_is_busy() {
    let config = HostConfig { points: 1, clients: None };
    let mut mesh = Mesh::new(HubLimits { queue: 4, ..HubLimits::default() }, config).await;
    let (dialer, address) = (Arc::new(mesh.dialer()), mesh.address());
    let mut visitors = mesh.visitors.take().unwrap();
    let dials: Vec<_> = (0..Visitors::MAX_WAITING + 8 + 4)
        .map(|_| {
            let dialer = Arc::clone(&dialer);
            tokio::spawn(async move { dialer.dial(&address, 80, None).await })
        })
        .collect();
    let worked = || {
        let requests = mesh.streams(ports::INTRODUCE).into_iter();
        let efforts = |(_, stream): (_, HubStream)| {
            let last = stream.read.len().checked_sub(32 + 1 + 8 + 1488)?;
            (stream.written.ends_with(&[1, 0])).then(|| stream.read[last + 32])
        };
        requests.filter_map(efforts).max().unwrap_or(0)
    };
    tokio::time::sleep(Duration::from_secs(3)).await;
    // A visit that is dropped at once may never have been announced.
    tokio::spawn(async move {
        let mut visits = Vec::new();
        while let Some(visit) = visitors.recv().await {
            visits.push(visit);
        }
    });
    let mut met = 0;
    for dial in dials {
        match dial.await.unwrap() {
            Ok(_) => met += 1,
            Err(error) => assert!(matches!(error, DialError::Busy(_)), "{error}"),
        }
    }
    assert!(met > Visitors::MAX_WAITING, "{met} were heard");
    assert!(worked() >= 8, "nobody was heard for work");
}

/// A hint leads nowhere but to relays that the node knows, by their own keys.
#[tokio::test]
async fn a_hint_sends_nobody_to_an_unknown_relay() {
    let hubs = HubNetwork::new(10, HubLimits::default()).await;
    let (_node, Environment { circuits, .. }) = hubs.add(CLIENT).await;
    let known: Vec<NodeId> = hubs.relays().collect();
    let picked = circuits.pick(&known[1..]).unwrap();
    assert_eq!(picked.relay, known[0]);
    assert_eq!(circuits.pick(&known), None);
    let wrong_key = RelayHint { onion_key: [9; 32], ..picked };
    assert!(circuits.build(wrong_key, Purpose::Meet).await.is_ok(), "the relay's own descriptor counts");
    let unknown = RelayHint { relay: NodeId::from_bytes([3; 32]), ..picked };
    let refused = circuits.build(unknown, Purpose::Meet).await.map(|_| ());
    assert_eq!(refused, Err(CircuitError::UnknownRelay));
}

/// Links of the mesh in the tests of time, one way.
const LINK: Duration = Duration::from_millis(50);
/// Over a path, which is three of them.
const ROUND_TRIP: Duration = Duration::from_millis(6 * 50);

/// A published service over links that take time, which sends back what comes.
async fn distant() -> Mesh {
    let mut mesh =
        Mesh::over(HubNetwork::with_latency(10, HubLimits::default(), LINK).await, HostConfig::default())
            .await;
    mesh.echo();
    mesh
}

/// Dials, sees that the stream carries, and yields the round trips that dialling took.
async fn round_trips(dialer: &Dialer, address: &OnionAddress) -> u32 {
    let started = Instant::now();
    let mut stream = dialer.dial(address, 80, None).await.unwrap();
    let took = started.elapsed();
    stream.write_all(b"x").await.unwrap();
    stream.read_exact(&mut [0; 1]).await.unwrap();
    assert!((ROUND_TRIP..2 * ROUND_TRIP + LINK).contains(&(started.elapsed() - took)));
    let whole = u32::try_from(took.as_millis() / ROUND_TRIP.as_millis()).unwrap();
    // Nothing but the path takes time, so it is a whole number of them.
    assert!(took - whole * ROUND_TRIP < LINK / 2, "{took:?}");
    whole
}

/// Every dial but the first finds a circuit that stands, even one at the first one's heels.
#[tokio::test(start_paused = true)]
async fn a_warm_dial_takes_three_round_trips() {
    let mesh = distant().await;
    let (dialer, address) = (mesh.dialer(), mesh.address());
    assert_eq!(round_trips(&dialer, &address).await, 4);
    for _ in 0..3 {
        drop(dialer.dial(&address, 80, None).await.unwrap());
        assert_eq!(round_trips(&dialer, &address).await, 3);
    }
}

#[tokio::test(start_paused = true)]
async fn a_circuit_ahead_goes_when_nobody_comes() {
    let mesh = distant().await;
    let (dialer, address) = (mesh.dialer(), mesh.address());
    let idle = DialerConfig::default().idle;
    round_trips(&dialer, &address).await;
    tokio::time::sleep(idle - 4 * ROUND_TRIP).await;
    assert_eq!(round_trips(&dialer, &address).await, 3);
    tokio::time::sleep(idle + ROUND_TRIP).await;
    assert_eq!(round_trips(&dialer, &address).await, 4);
}

#[tokio::test(start_paused = true)]
async fn who_wants_no_circuit_ahead_prepares_or_takes_four_round_trips() {
    let mesh = distant().await;
    let config = DialerConfig { ahead: false, ..DialerConfig::default() };
    let (dialer, address) = (Dialer::new(mesh.client.1.clone(), config, &[CLIENT; 32]), mesh.address());
    for (prepared, expected) in [(false, 4), (false, 4), (true, 3), (false, 4)] {
        if prepared {
            dialer.prepare(&address, None).await.unwrap();
            // There is one already.
            dialer.prepare(&address, None).await.unwrap();
        }
        assert_eq!(round_trips(&dialer, &address).await, expected, "prepared: {prepared}");
    }
}

#[tokio::test]
async fn configurations_that_cannot_work_are_refused() {
    let hubs = HubNetwork::new(1, HubLimits::default()).await;
    let (_node, environment) = hubs.add(SERVICE).await;
    let spawn =
        |config| Host::spawn(environment.clone(), service(&environment), config, &[1; 32]).map(|_| ());
    let clients = |clients| HostConfig { clients: Some(clients), ..HostConfig::default() };
    assert_eq!(spawn(HostConfig { points: 0, clients: None }), Err(HostError::Points(0)));
    assert_eq!(spawn(HostConfig { points: 11, clients: None }), Err(HostError::Points(11)));
    let many = vec![[9; 32]; MAX_CLIENTS + 1];
    assert_eq!(spawn(clients(many)), Err(HostError::Clients(MAX_CLIENTS + 1)));
    assert_eq!(spawn(clients(vec![[0; 32]])), Err(HostError::ClientKey));
}
