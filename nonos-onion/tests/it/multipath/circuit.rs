//! Transfers over three disjoint circuits of a network.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use nonos_onion::link::{ByteLink, CircuitHandle};
use nonos_onion::multipath::{Code, Object, PathFault, Progress, Report, ShardFault, Sink, fetch, serve};
use nonos_onion::testing::{Network, Node};
use tokio::time::Instant;

use crate::multipath::{CODES, context, noise};

/// Ports of the destination.
const HONEST: u16 = 1;
const SILENT: u16 = 2;
const FORGED: u16 = 3;

const OBJECT_BYTES: usize = 6 << 20;

/// A client, two relays for each of three circuits, and a destination.
async fn nodes() -> Vec<Node> {
    let network = Network::new();
    let mut nodes = Vec::new();
    for number in 0..8 {
        nodes.push(network.add(number, |_| {}).await);
    }
    nodes
}

/// Answers by port.
fn answer(mut node: Node, object: Arc<Object>) {
    let other = Object::new(object.manifest().clone(), Box::new(noise(OBJECT_BYTES, 99)));
    let other = Arc::new(other);
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Some(incoming) = node.incoming.recv().await {
            match incoming.port {
                SILENT => held.push(incoming.stream),
                port => {
                    let object = Arc::clone(if port == FORGED { &other } else { &object });
                    tokio::spawn(async move { serve(incoming.stream, &object).await });
                }
            }
        }
    });
}

/// Closes a circuit when half of the object is there.
struct Closing {
    bytes: Vec<u8>,
    circuit: Option<CircuitHandle>,
}

impl Sink for Closing {
    fn keep(&mut self, offset: u64, bytes: &[u8]) -> std::io::Result<()> {
        self.bytes.keep(offset, bytes)
    }

    fn progress(&mut self, progress: Progress) {
        if progress.done * 2 >= progress.stripes
            && let Some(circuit) = self.circuit.take()
        {
            circuit.close();
        }
    }
}

async fn transfer(code: Code, third: u16, close: bool) -> Report {
    let mut nodes = nodes().await;
    let destination = nodes.pop().unwrap();
    let mut circuits = Vec::new();
    for relays in nodes[1..].chunks(2) {
        let path = relays.iter().chain([&destination]).map(|node| node.descriptor.clone()).collect();
        circuits.push(nodes[0].onion.build(path).await.unwrap());
    }
    let bytes = noise(OBJECT_BYTES, 5);
    let object = Arc::new(Object::from_bytes(context(), code, bytes.clone()).unwrap());
    let manifest = Arc::new(object.manifest().clone());
    answer(destination, object);
    let mut paths: Vec<Box<dyn ByteLink>> = Vec::new();
    for (circuit, port) in circuits.iter().zip([HONEST, HONEST, third]) {
        paths.push(Box::new(circuit.open(port).await.unwrap()));
    }
    let mut sink = Closing { bytes: Vec::new(), circuit: close.then(|| circuits[2].clone()) };
    let begin = Instant::now();
    let report = fetch(paths, manifest, &BTreeSet::new(), &mut sink).await.unwrap();
    assert!(sink.bytes == bytes);
    assert!(begin.elapsed() < Duration::from_secs(25), "nobody waited for a timeout");
    assert_eq!(report.paths.iter().take(2).filter(|path| path.fault.is_some()).count(), 0);
    report
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_disjoint_circuits_carry_an_object() {
    for code in CODES {
        let report = transfer(code, HONEST, false).await;
        assert!(report.paths.iter().all(|path| path.shards > 0 && path.fault.is_none()), "{report:?}");
        assert!(report.rebuilt > 0, "{report:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_circuit_that_closes_midway_is_no_loss() {
    let report = transfer(Code::Xor2of3, HONEST, true).await;
    let fault = report.paths[2].fault;
    assert!(matches!(fault, Some(PathFault::Closed(_))), "{fault:?}");
    assert!(report.paths[2].shards > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_circuit_that_stalls_is_no_loss() {
    let report = transfer(Code::ReedSolomon4of6, SILENT, false).await;
    assert_eq!((report.paths[2].shards, report.paths[2].fault), (0, None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_circuit_that_lies_is_dropped_and_named() {
    let report = transfer(Code::ReedSolomon4of6, FORGED, false).await;
    let fault = report.paths[2].fault;
    assert!(matches!(fault, Some(PathFault::Shard { fault: ShardFault::Digest, .. })), "{fault:?}");
}
