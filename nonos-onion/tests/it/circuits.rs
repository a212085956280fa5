use std::time::Duration;

use nonos_onion::link::{BuildError, OpenError, PayError};
use nonos_onion::testing::{MemoryLinks, Network, Node, check_links};
use nonos_onion::{DestroyReason, LinkId, RelayDescriptor};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A client (node 0), three relays (1 to 3) and a destination (4).
pub(crate) async fn five() -> (std::sync::Arc<Network>, Vec<Node>) {
    let network = Network::new();
    let mut nodes = Vec::new();
    for number in 0..5 {
        nodes.push(network.add(number, |_| {}).await);
    }
    (network, nodes)
}

pub(crate) fn path(nodes: &[Node]) -> Vec<RelayDescriptor> {
    nodes[1..].iter().map(|node| node.descriptor.clone()).collect()
}

/// Serves every stream of a node by sending back what comes.
pub(crate) fn echo(mut node: Node) {
    tokio::spawn(async move {
        while let Some(incoming) = node.incoming.recv().await {
            tokio::spawn(async move {
                let (mut read, mut write) = tokio::io::split(incoming.stream);
                if tokio::io::copy(&mut read, &mut write).await.is_ok() {
                    let _ = write.shutdown().await;
                }
            });
        }
    });
}

pub(crate) fn pattern(len: usize, salt: u8) -> Vec<u8> {
    (0..len).map(|i| (i.wrapping_mul(31) >> 3).to_le_bytes()[0] ^ salt).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn megabytes_go_both_ways_through_three_relays() {
    let (_network, mut nodes) = five().await;
    let circuit = nodes[0].onion.build(path(&nodes)).await.unwrap();
    echo(nodes.pop().unwrap());
    let stream = circuit.open(80).await.unwrap();
    let sent = pattern(4 << 20, 1);
    let (mut read, mut write) = tokio::io::split(stream);
    let expected = sent.clone();
    let writer = tokio::spawn(async move {
        write.write_all(&sent).await.unwrap();
        write.shutdown().await.unwrap();
    });
    let mut received = Vec::new();
    read.read_to_end(&mut received).await.unwrap();
    writer.await.unwrap();
    assert!(received == expected, "{} of {} bytes", received.len(), expected.len());
    assert!(circuit.cells() > 2 * (4 << 20) / 996);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_streams_share_a_circuit() {
    let (_network, mut nodes) = five().await;
    let circuit = nodes[0].onion.build(path(&nodes)).await.unwrap();
    echo(nodes.pop().unwrap());
    let mut tasks = Vec::new();
    for salt in 0..40 {
        let circuit = circuit.clone();
        tasks.push(tokio::spawn(async move {
            let stream = circuit.open(u16::from(salt)).await.unwrap();
            let (mut read, mut write) = tokio::io::split(stream);
            let sent = pattern(100_000 + usize::from(salt), salt);
            let expected = sent.clone();
            let writer = tokio::spawn(async move {
                write.write_all(&sent).await.unwrap();
                write.shutdown().await.unwrap();
            });
            let mut received = Vec::new();
            read.read_to_end(&mut received).await.unwrap();
            writer.await.unwrap();
            assert!(received == expected, "stream {salt}");
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_stops_its_writer_and_nobody_else() {
    let (_network, mut nodes) = five().await;
    let circuit = nodes[0].onion.build(path(&nodes)).await.unwrap();
    let mut destination = nodes.pop().unwrap();
    let mut slow = circuit.open(1).await.unwrap();
    let accepted = destination.incoming.recv().await.unwrap();
    assert_eq!(accepted.port, 1);
    let mut held = accepted.stream;

    let bytes = pattern(16 << 20, 3);
    let mut written = 0;
    while let Ok(result) =
        tokio::time::timeout(Duration::from_millis(500), slow.write(&bytes[written..])).await
    {
        written += result.unwrap();
    }
    // Two pipes of 64 KiB and one stream window of 512 cells, which grew by three times what went into the pipe.
    assert!(written >= 512 * 996, "{written}");
    assert!(written <= 2 * 64 * 1024 + 512 * 996 + 4 * 64 * 1024, "{written} bytes are buffered somewhere");

    // Another stream of the circuit goes on.
    echo(destination);
    let mut other = circuit.open(2).await.unwrap();
    other.write_all(b"hello").await.unwrap();
    let mut hello = [0; 5];
    other.read_exact(&mut hello).await.unwrap();
    assert_eq!(&hello, b"hello");

    // The slow one too, once it is read.
    let mut received = vec![0; written];
    held.read_exact(&mut received).await.unwrap();
    assert!(received == bytes[..written]);
}

#[tokio::test]
async fn paths_of_every_length_work_and_bad_ones_do_not() {
    let (_network, mut nodes) = five().await;
    let all = path(&nodes);
    let client = nodes.remove(0);
    echo(nodes.pop().unwrap());
    for skip in 0..4 {
        let circuit = client.onion.build(all[skip..].to_vec()).await.unwrap();
        let mut stream = circuit.open(7).await.unwrap();
        stream.write_all(b"x").await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), b'x');
    }
    assert_eq!(client.onion.build(vec![]).await.unwrap_err(), BuildError::Path);
    let twice = vec![all[0].clone(), all[1].clone(), all[0].clone()];
    assert_eq!(client.onion.build(twice).await.unwrap_err(), BuildError::Path);
    let own = vec![all[0].clone(), client.descriptor.clone()];
    assert_eq!(client.onion.build(own).await.unwrap_err(), BuildError::Path);
    let mut mixed = all.clone();
    mixed[1].epoch = mixed[1].epoch.next();
    assert_eq!(client.onion.build(mixed).await.unwrap_err(), BuildError::Path);
}

#[tokio::test]
async fn halves_of_a_stream_end_alone() {
    let (_network, mut nodes) = five().await;
    let circuit = nodes[0].onion.build(path(&nodes)).await.unwrap();
    let mut destination = nodes.pop().unwrap();
    let mut near = circuit.open(1).await.unwrap();
    let mut far = destination.incoming.recv().await.unwrap().stream;
    near.write_all(b"question").await.unwrap();
    near.shutdown().await.unwrap();
    let mut question = String::new();
    far.read_to_string(&mut question).await.unwrap();
    assert_eq!(question, "question");
    // Answer, end and drop: nothing of the answer may be lost.
    let answer = pattern(100_000, 5);
    far.write_all(&answer).await.unwrap();
    far.shutdown().await.unwrap();
    drop(far);
    let mut received = Vec::new();
    near.read_to_end(&mut received).await.unwrap();
    assert!(received == answer);
    assert!(near.write_all(b"more").await.is_err());

    // A server that never read the client's end.
    let mut near = circuit.open(2).await.unwrap();
    let mut far = destination.incoming.recv().await.unwrap().stream;
    far.write_all(&answer).await.unwrap();
    far.shutdown().await.unwrap();
    drop(far);
    let mut received = Vec::new();
    near.read_to_end(&mut received).await.unwrap();
    assert!(received == answer);

    // Dropped without an end: the other side sees an error, not an end.
    let mut near = circuit.open(3).await.unwrap();
    let far = destination.incoming.recv().await.unwrap().stream;
    drop(far);
    assert!(near.read_to_end(&mut received).await.is_err());
}

#[tokio::test]
async fn every_hop_can_be_paid_and_counts_the_cells_it_carried() {
    let (_network, mut nodes) = five().await;
    let circuit = nodes[0].onion.build(path(&nodes)).await.unwrap();
    let destination = nodes.pop().unwrap();
    echo(destination);
    let mut stream = circuit.open(1).await.unwrap();
    stream.write_all(&pattern(50_000, 0)).await.unwrap();
    stream.read_exact(&mut vec![0; 50_000]).await.unwrap();
    for (hop, byte) in (0..3).zip(1_u8..) {
        circuit.pay(hop, vec![byte; 256]).await.unwrap();
        let payment = nodes[hop + 1].payments.recv().await.unwrap();
        assert_eq!(payment.bytes, vec![byte; 256]);
        assert!(payment.cells >= 2 * 50_000 / 996 && payment.cells <= circuit.cells(), "{payment:?}");
    }
    assert_eq!(circuit.pay(0, vec![0; 257]).await, Err(PayError::TooLong(257)));
    assert_eq!(circuit.pay(4, vec![]).await, Err(PayError::NoSuchHop(4)));
}

#[tokio::test]
async fn closing_tells_everybody() {
    let (_network, mut nodes) = five().await;
    let circuit = nodes[0].onion.build(path(&nodes)).await.unwrap();
    let mut near = circuit.open(1).await.unwrap();
    let mut far = nodes[4].incoming.recv().await.unwrap().stream;
    circuit.close();
    let closed = circuit.closed().await;
    assert_eq!((closed.reason, closed.blamed), (DestroyReason::Finished, None));
    assert!(near.read_u8().await.is_err() && far.read_u8().await.is_err());
    assert_eq!(circuit.open(1).await.unwrap_err(), OpenError::Closed(closed));
    assert_eq!(circuit.pay(0, vec![]).await, Err(PayError::Closed(closed)));

    // Dropping the last handle and stream closes too.
    let circuit = nodes[0].onion.build(path(&nodes)).await.unwrap();
    let stream = circuit.open(1).await.unwrap();
    let mut far = nodes[4].incoming.recv().await.unwrap().stream;
    drop((circuit, stream));
    assert!(far.read_u8().await.is_err());
}

#[tokio::test]
async fn memory_links_keep_the_contract() {
    let network = Network::new();
    let (near, far) = (Network::id_of(0), Network::id_of(1));
    struct Pairs(
        std::sync::Arc<Network>,
        tokio::sync::mpsc::UnboundedSender<Box<dyn nonos_onion::link::ByteLink>>,
    );
    impl nonos_onion::link::Links for Pairs {
        fn open(&self, relay: nonos_identity::NodeId) -> nonos_onion::link::LinkFuture {
            let (a, b) = MemoryLinks::pair(&self.0, Network::id_of(0), relay);
            self.1.send(b).unwrap();
            Box::pin(async { Ok(a) })
        }
    }
    let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
    let _ = (near, LinkId(0));
    check_links(&Pairs(network, sender), far, async || receiver.recv().await.unwrap()).await;
}

/// Whoever closes a circuit after a stream has ended takes nothing of the stream along, even if it is not read yet.
#[tokio::test]
async fn what_a_stream_sent_before_its_circuit_closed_arrives() {
    let (_network, mut nodes) = five().await;
    for len in [1, 5_000, 300_000] {
        let circuit = nodes[0].onion.build(path(&nodes)).await.unwrap();
        let mut stream = circuit.open_early(80).await.unwrap();
        let sent = pattern(len, 3);
        stream.write_all(&sent).await.unwrap();
        stream.shutdown().await.unwrap();
        drop((stream, circuit));
        let mut far = nodes[4].incoming.recv().await.unwrap();
        // Everything has come by now, in one batch with the end of the circuit.
        tokio::time::sleep(Duration::from_millis(200)).await;
        let mut received = Vec::new();
        far.stream.read_to_end(&mut received).await.unwrap();
        assert!(received == sent, "{} of {len} bytes", received.len());
    }
}

#[tokio::test]
async fn an_early_stream_carries_bytes_at_once_and_breaks_if_it_is_refused() {
    let (_network, mut nodes) = five().await;
    let circuit = nodes[0].onion.build(path(&nodes)).await.unwrap();
    let mut early = circuit.open_early(80).await.unwrap();
    early.write_all(b"early").await.unwrap();
    let mut far = nodes[4].incoming.recv().await.unwrap();
    let mut bytes = [0; 5];
    far.stream.read_exact(&mut bytes).await.unwrap();
    far.stream.write_all(&bytes).await.unwrap();
    early.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"early");
    drop(nodes.pop().unwrap().incoming);
    let mut refused = circuit.open_early(81).await.unwrap();
    // The refusal may come first.
    let _ = refused.write_all(b"early").await;
    let error = refused.read_exact(&mut bytes).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
}
