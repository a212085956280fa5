use std::sync::Arc;
use std::time::Duration;

use nonos_identity::{NetworkId, NodeId, Timestamp};
use nonos_mesh::libp2p::{Driver, DriverConfig, EventReceiver, Handle, StreamError};
use nonos_mesh::testing::identity;
use nonos_mesh::{Check, Config, Event, ItemId, ItemKind, MemoryStore, Store, Verdict};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::{Always, Honest};

struct Node {
    id: NodeId,
    handle: Handle,
    events: EventReceiver,
    store: Arc<MemoryStore>,
}

fn wall() -> Timestamp {
    let since = std::time::UNIX_EPOCH.elapsed().expect("after 1970");
    Timestamp::from_secs(since.as_secs())
}

async fn node(network: &str, number: u8, check: Arc<dyn Check>) -> Node {
    let network = NetworkId::from_name(network);
    let (signer, certificate) = identity(&network, u64::from(number), wall());
    let id = certificate.node();
    let mut config = Config::new(network, signer, certificate);
    config.links.exchange_interval = Duration::from_millis(300);
    config.links.redial_min = Duration::from_millis(100);
    config.sync.interval = Duration::from_millis(400);
    let mut driver = DriverConfig::new([number + 100; 32], [number; 32]);
    driver.listen = vec!["/ip4/127.0.0.1/tcp/0".into()];
    let store = Arc::new(MemoryStore::new());
    let (handle, events) = Driver::spawn(driver, config, store.clone(), check).await.expect("loopback");
    Node { id, handle, events, store }
}

async fn until<F: AsyncFnMut() -> bool>(what: &str, mut holds: F) {
    for _ in 0..400 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("not within 20 s: {what}");
}

async fn links(node: &Node, count: usize) {
    until("links", async || node.handle.links().await.expect("running").len() == count).await;
}

async fn has(node: &Node, id: ItemId) {
    until("item", async || node.store.has(&id) == Ok(true)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_find_each_other_and_items_spread_checked() {
    let mut nodes = Vec::new();
    for number in 1..=4 {
        nodes.push(node("driver", number, Arc::new(Honest)).await);
    }
    // Everybody knows only the first; the exchange makes it a full mesh.
    let ticket = nodes[0].handle.ticket().expect("it listens");
    for node in &nodes[1..] {
        node.handle.learn(ticket.contacts.clone()).await.expect("running");
        node.handle.dial(ticket.contacts[0].clone()).await.expect("running");
    }
    for node in &nodes {
        links(node, 3).await;
    }
    let id = nodes[1].handle.publish(ItemKind::Receipt, &b"receipt"[..]).await.expect("running");
    for node in &nodes {
        has(node, id).await;
    }
    let first = nodes[0].handle.digests().await.expect("running");
    for node in &nodes {
        assert_eq!(node.handle.digests().await.expect("running"), first);
    }
    let publisher = nodes[1].id;
    let accepted = async {
        loop {
            match nodes[0].events.recv().await.expect("running") {
                Event::Accepted { item, .. } => return item,
                _ => continue,
            }
        }
    };
    let item = tokio::time::timeout(Duration::from_secs(5), accepted).await.expect("the event came");
    assert_eq!((item.id(), &item.bytes()[..]), (id, &b"receipt"[..]));

    // A node that comes later gets old items by anti-entropy.
    let late = node("driver", 5, Arc::new(Honest)).await;
    late.handle.dial(nodes[2].handle.contact()).await.expect("running");
    has(&late, id).await;

    // Streams by protocol name.
    let mut incoming = nodes[0].handle.incoming_streams("/nonos/link/1").await.expect("running");
    let mut stream = nodes[1].handle.open_stream(nodes[0].id, "/nonos/link/1").await.expect("a neighbour");
    let (from, mut accepted) = {
        stream.write_all(b"ping").await.expect("open");
        stream.flush().await.expect("open");
        incoming.recv().await.expect("running")
    };
    assert_eq!(from, publisher);
    let mut four = [0; 4];
    accepted.read_exact(&mut four).await.expect("open");
    assert_eq!(&four, b"ping");
    // More than a stream's window: both sides must move at once.
    let write = async {
        accepted.write_all(&vec![7; 300_000]).await.expect("open");
        accepted.shutdown().await.expect("open");
    };
    let mut back = Vec::new();
    let ((), read) = tokio::join!(write, stream.read_to_end(&mut back));
    assert_eq!(read.ok(), Some(300_000));
    assert_eq!(back, vec![7; 300_000]);
    let unknown = nodes[1].handle.open_stream(nodes[0].id, "/nonos/unknown/1").await;
    match unknown {
        Err(StreamError::Unsupported) => {}
        // Negotiation is lazy: the refusal shows at the first read.
        Ok(mut stream) => assert!(stream.read_exact(&mut four).await.is_err()),
        Err(error) => panic!("{error}"),
    }
    let nobody = nodes[1].handle.open_stream(NodeId::from_bytes([0; 32]), "/nonos/link/1").await;
    assert!(matches!(nobody, Err(StreamError::NoLink(_))));

    // A node that goes is noticed, and its handle says so.
    nodes[3].handle.shutdown().await;
    assert!(nodes[3].handle.links().await.is_err());
    let gone = nodes[3].id;
    until("noticed", async || {
        let links = nodes[0].handle.links().await.expect("running");
        links.iter().all(|(_, node)| *node != gone)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_item_is_not_passed_on() {
    // A line: liar - honest - witness.
    let liar = node("bad", 11, Arc::new(Always(Verdict::Accept))).await;
    let mut honest = node("bad", 12, Arc::new(Honest)).await;
    let witness = node("bad", 13, Arc::new(Honest)).await;
    honest.handle.dial(liar.handle.contact()).await.expect("running");
    links(&honest, 1).await;
    let bad = liar.handle.publish(ItemKind::App(1), &b"bad"[..]).await.expect("running");
    let rejected = async {
        loop {
            if let Event::Rejected { id, from, reason, .. } = honest.events.recv().await.expect("running") {
                return (id, from, reason);
            }
        }
    };
    let rejected = tokio::time::timeout(Duration::from_secs(10), rejected).await.expect("the event came");
    assert_eq!(rejected, (bad, liar.id, "content"));
    witness.handle.dial(honest.handle.contact()).await.expect("running");
    let good = honest.handle.publish(ItemKind::App(1), &b"good"[..]).await.expect("running");
    has(&witness, good).await;
    assert_eq!(honest.store.has(&bad), Ok(false));
    // The witness may meanwhile be linked to the liar as well, and refuses the item itself.
    assert_eq!(witness.store.has(&bad), Ok(false));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_network_is_refused() {
    let home = node("home", 21, Arc::new(Honest)).await;
    let away = node("away", 22, Arc::new(Honest)).await;
    let friend = node("home", 23, Arc::new(Honest)).await;
    away.handle.dial(home.handle.contact()).await.expect("running");
    friend.handle.dial(home.handle.contact()).await.expect("running");
    links(&friend, 1).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(away.handle.links().await.expect("running").is_empty());
    let linked = home.handle.links().await.expect("running");
    assert_eq!(linked.iter().map(|(_, node)| *node).collect::<Vec<_>>(), [friend.id]);
}
