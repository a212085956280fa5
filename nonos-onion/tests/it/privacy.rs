use std::collections::BTreeSet;

use nonos_onion::testing::{Network, View};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::circuits::{echo, five, path};

const MARKER: &[u8] = b"the payload that only the ends may read";

/// Builds a circuit through everybody, sends the marker and back, and yields what each node saw.
async fn views() -> Vec<View> {
    let (network, mut nodes) = five().await;
    network.observer().record();
    let ids: Vec<_> = nodes.iter().map(|node| node.id).collect();
    let circuit = nodes[0].onion.build(path(&nodes)).await.unwrap();
    echo(nodes.pop().unwrap());
    let mut stream = circuit.open(443).await.unwrap();
    for _ in 0..50 {
        stream.write_all(MARKER).await.unwrap();
        stream.read_exact(&mut [0; MARKER.len()]).await.unwrap();
    }
    circuit.pay(1, MARKER.to_vec()).await.unwrap();
    nodes[2].payments.recv().await.unwrap();
    ids.iter().map(|&id| network.observer().view(id)).collect()
}

#[tokio::test]
async fn a_node_knows_its_neighbours_and_nobody_else() {
    for (i, view) in views().await.iter().enumerate() {
        let i = u8::try_from(i).unwrap();
        let neighbours: BTreeSet<_> =
            [i.checked_sub(1), (i < 4).then_some(i + 1)].into_iter().flatten().map(Network::id_of).collect();
        assert_eq!(view.neighbours, neighbours, "node {i}");
    }
}

#[tokio::test]
async fn no_link_carries_the_payload_or_the_name_of_any_node() {
    for (i, view) in views().await.iter().enumerate() {
        assert!(!view.cells.is_empty());
        // Cells are seen on both sides of a relay: with and without its own layer.
        assert!(!view.contains(MARKER), "node {i} saw the payload");
        for other in 0..5 {
            let id = Network::id_of(other);
            assert!(!view.contains(&id.as_bytes()[..16]), "node {i} saw the name of {other}");
        }
    }
}

#[tokio::test]
async fn cells_of_one_circuit_share_nothing_from_link_to_link() {
    let views = views().await;
    let relay = &views[2];
    let (from, own, to) = (Network::id_of(1), Network::id_of(2), Network::id_of(3));
    let on = |a, b| relay.cells.iter().filter(move |seen| seen.from == a && seen.to == b);
    let ids = |a, b| on(a, b).map(|seen| seen.circuit()).collect::<BTreeSet<_>>();
    assert!(ids(from, own).is_disjoint(&ids(own, to)), "a circuit id is used on one link only");
    let bodies: BTreeSet<_> = on(from, own).map(|seen| seen.cell[6..].to_vec()).collect();
    assert!(on(own, to).all(|seen| !bodies.contains(&seen.cell[6..])), "a body is seen on one link only");
    // Every cell has the one size and one of four commands, and the reserved byte tells nothing.
    assert!(relay.cells.iter().all(|seen| seen.cell.len() == 1024 && seen.cell[5] == 0));
    assert!(relay.cells.iter().all(|seen| (1..=4).contains(&seen.command())));
}

#[tokio::test]
async fn no_two_bodies_are_ever_equal() {
    for view in views().await {
        let layered = |seen: &&nonos_onion::testing::Seen| seen.command() == 1;
        let all: Vec<_> = view.cells.iter().filter(layered).map(|seen| &seen.cell[6..]).collect();
        let distinct: BTreeSet<_> = all.iter().collect();
        assert_eq!(all.len(), distinct.len());
    }
}

#[tokio::test]
async fn one_message_of_one_size_builds_all_hops() {
    for (i, view) in views().await.iter().enumerate() {
        let own = Network::id_of(u8::try_from(i).unwrap());
        let count = |command, sent: bool| {
            let of =
                |seen: &&nonos_onion::testing::Seen| seen.command() == command && (seen.from == own) == sent;
            view.cells.iter().filter(of).count()
        };
        // Eight cells of CREATE to the next node, eight of CREATED to the one before.
        let (next, prev) = (if i < 4 { 8 } else { 0 }, if i > 0 { 8 } else { 0 });
        assert_eq!((count(2, true), count(3, false)), (next, next), "node {i}");
        assert_eq!((count(2, false), count(3, true)), (prev, prev), "node {i}");
    }
}
