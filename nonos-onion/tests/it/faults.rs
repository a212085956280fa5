use std::time::Duration;

use nonos_identity::{Epoch, NetworkId};
use nonos_onion::link::{BuildError, OpenError};
use nonos_onion::testing::{Network, Node};
use nonos_onion::{Closed, Config, DestroyReason, Limits};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::circuits::{echo, five, path, pattern};

fn blamed(hop: usize, reason: DestroyReason) -> BuildError {
    BuildError::Hop { hop: Some(hop), reason }
}

#[tokio::test]
async fn a_relay_that_vanishes_mid_stream_is_blamed() {
    for victim in 1..=4 {
        let (network, mut nodes) = five().await;
        let circuit = nodes[0].onion.build(path(&nodes)).await.unwrap();
        let mut stream = circuit.open(1).await.unwrap();
        stream.write_all(&pattern(10_000, 0)).await.unwrap();
        let victim_node = nodes.remove(victim);
        network.remove(victim_node.id);
        drop(victim_node);
        let closed = circuit.closed().await;
        let expected = Closed { reason: DestroyReason::LinkLost, blamed: Some(victim - 1) };
        assert_eq!(closed, expected, "victim {victim}");
        let error = stream.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }
}

#[tokio::test]
async fn a_relay_that_cannot_be_reached_is_blamed() {
    for victim in 1..=4 {
        let (network, mut nodes) = five().await;
        let path = path(&nodes);
        network.remove(nodes[victim].id);
        nodes.remove(victim);
        let error = nodes[0].onion.build(path).await.unwrap_err();
        assert_eq!(error, blamed(victim - 1, DestroyReason::Unreachable));
    }
}

#[tokio::test]
async fn a_wrong_onion_key_fails_at_its_hop() {
    for victim in 0..4 {
        let (_network, nodes) = five().await;
        let mut path = path(&nodes);
        path[victim].onion_key[3] ^= 1;
        let error = nodes[0].onion.build(path).await.unwrap_err();
        assert_eq!(error, blamed(victim, DestroyReason::Handshake));
    }
}

#[tokio::test]
async fn nodes_of_two_networks_do_not_meet() {
    let network = Network::new();
    let client = network.add(0, |_| {}).await;
    let stranger = network.add(1, |config| config.network = NetworkId::from_name("another")).await;
    let error = client.onion.build(vec![stranger.descriptor.clone()]).await.unwrap_err();
    assert_eq!(error, blamed(0, DestroyReason::Handshake));
}

#[tokio::test]
async fn a_key_of_a_past_epoch_is_refused() {
    let (network, nodes) = five().await;
    let descriptor = nodes[1].descriptor.clone();
    let end = descriptor.epoch.end();
    network.set_now(end.saturating_add(Duration::from_secs(59)));
    assert!(nodes[0].onion.build(vec![descriptor.clone()]).await.is_ok(), "within the grace");
    network.set_now(end.saturating_add(Duration::from_secs(60)));
    assert_eq!(nodes[0].onion.build(vec![descriptor.clone()]).await.unwrap_err(), BuildError::Path);

    // A client with another idea of the time: the relay has wiped the key.
    let mut wrong = descriptor;
    wrong.epoch = Epoch::at(network.now()).next();
    let error = nodes[0].onion.build(vec![wrong]).await.unwrap_err();
    assert_eq!(error, blamed(0, DestroyReason::Handshake));
}

#[tokio::test]
async fn a_circuit_dies_with_its_epoch_and_the_next_key_is_ready_before() {
    let (network, nodes) = five().await;
    let circuit = nodes[0].onion.build(path(&nodes)).await.unwrap();
    let epoch = nodes[1].descriptor.epoch;

    let mut next = nodes[1].descriptor.clone();
    next.epoch = epoch.next();
    next.onion_key = nodes[1].onion.onion_key(epoch.next()).await.unwrap();
    let ahead = nodes[0].onion.build(vec![next]).await.unwrap();

    network.set_now(epoch.end().saturating_add(Limits::default().epoch_grace));
    let closed = tokio::time::timeout(Duration::from_secs(5), circuit.closed()).await.unwrap();
    assert_eq!(closed.reason, DestroyReason::Expired);
    assert_eq!(circuit.open(1).await.unwrap_err(), OpenError::Closed(closed));
    assert!(ahead.open(1).await.is_ok(), "made before the old one broke");
    assert_eq!(nodes[1].onion.onion_key(epoch).await, None);
}

#[tokio::test]
async fn a_changed_bit_between_any_two_nodes_ends_the_circuit() {
    for hop in 0..4 {
        for back in [false, true] {
            for offset in [6, 21, 22, 300, 1023] {
                let (network, mut nodes) = five().await;
                let ids: Vec<_> = nodes.iter().map(|node| node.id).collect();
                let circuit = nodes[0].onion.build(path(&nodes)).await.unwrap();
                echo(nodes.pop().unwrap());
                let mut stream = circuit.open(1).await.unwrap();
                let (from, to) = if back { (hop + 1, hop) } else { (hop, hop + 1) };
                network.observer().tamper(ids[from], ids[to], 3, offset);
                let bytes = pattern(20_000, 9);
                stream.write_all(&bytes).await.unwrap();
                let mut received = Vec::new();
                let end = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut received));
                assert!(end.await.unwrap().is_err(), "hop {hop}, back {back}, offset {offset}");
                assert!(bytes.starts_with(&received), "changed bytes were delivered");
                assert_eq!(circuit.closed().await.reason, DestroyReason::Integrity);
            }
        }
    }
}

#[tokio::test]
async fn a_cell_with_a_bad_header_ends_the_link() {
    for offset in [4, 5] {
        let (network, nodes) = five().await;
        let circuit = nodes[0].onion.build(path(&nodes)).await.unwrap();
        network.observer().tamper(nodes[1].id, nodes[2].id, 0, offset);
        let _ = circuit.open(1).await;
        let closed = tokio::time::timeout(Duration::from_secs(20), circuit.closed()).await.unwrap();
        // Command 1 ^ 1 = 0 and reserved 1: no such cells. Hop 0's link to hop 1 is gone.
        assert_eq!(closed, Closed { reason: DestroyReason::LinkLost, blamed: Some(1) });
    }
}

#[tokio::test]
async fn a_node_that_does_not_relay_still_answers() {
    let network = Network::new();
    let client = network.add(0, |_| {}).await;
    let leaf: Node = network.add(1, |config| config.relaying = false).await;
    let other = network.add(2, |_| {}).await;
    assert!(client.onion.build(vec![other.descriptor.clone(), leaf.descriptor.clone()]).await.is_ok());
    let through = vec![leaf.descriptor.clone(), other.descriptor.clone()];
    assert_eq!(client.onion.build(through).await.unwrap_err(), blamed(1, DestroyReason::Busy));
}

#[tokio::test]
async fn creates_are_limited_by_rate_and_by_number() {
    let network = Network::new();
    let client = network.add(0, |_| {}).await;
    let few = |config: &mut Config| (config.limits.create_burst, config.limits.puzzle_bits) = (3, 0);
    let relay = network.add(1, few).await;
    for _ in 0..3 {
        drop(client.onion.build(vec![relay.descriptor.clone()]).await.unwrap());
    }
    let error = client.onion.build(vec![relay.descriptor.clone()]).await.unwrap_err();
    assert_eq!(error, blamed(0, DestroyReason::Busy));
    network.set_now(network.now().saturating_add(Duration::from_secs(1)));
    assert!(client.onion.build(vec![relay.descriptor.clone()]).await.is_ok());

    let relay = network.add(2, |config| config.limits.circuits = 2).await;
    let first = client.onion.build(vec![relay.descriptor.clone()]).await.unwrap();
    let _second = client.onion.build(vec![relay.descriptor.clone()]).await.unwrap();
    let error = client.onion.build(vec![relay.descriptor.clone()]).await.unwrap_err();
    assert_eq!(error, blamed(0, DestroyReason::Busy));
    first.close();
    first.closed().await;
    assert!(client.onion.build(vec![relay.descriptor.clone()]).await.is_ok());
}

#[tokio::test]
async fn a_busy_relay_takes_who_solves_its_puzzle() {
    let network = Network::new();
    let client = network.add(0, |_| {}).await;
    let relay = network.add(1, |config| config.limits.create_burst = 1).await;
    let destination = network.add(2, |_| {}).await;
    let path = vec![relay.descriptor.clone(), destination.descriptor.clone()];
    for _ in 0..3 {
        drop(client.onion.build(path.clone()).await.unwrap());
    }
}

#[tokio::test]
async fn streams_are_capped_at_both_ends() {
    let network = Network::new();
    let client = network.add(0, |config| config.limits.streams_per_circuit = 3).await;
    let mut small = network.add(1, |config| config.limits.streams_per_circuit = 2).await;
    let circuit = client.onion.build(vec![small.descriptor.clone()]).await.unwrap();
    let _a = circuit.open(1).await.unwrap();
    let _b = circuit.open(1).await.unwrap();
    let held = (small.incoming.recv().await, small.incoming.recv().await);
    assert_eq!(circuit.open(1).await.unwrap_err(), OpenError::Refused);
    drop(held);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_nobody_takes_are_refused() {
    let network = Network::new();
    let client = network.add(0, |config| config.limits.streams_per_circuit = 100).await;
    let _deaf = network.add(1, |config| config.limits.streams_per_circuit = 100).await;
    let circuit = client.onion.build(vec![_deaf.descriptor.clone()]).await.unwrap();
    let mut open = Vec::new();
    for _ in 0..nonos_onion::link::Incoming::MAX_WAITING {
        open.push(circuit.open(1).await.unwrap());
    }
    assert_eq!(circuit.open(1).await.unwrap_err(), OpenError::Refused);
}
