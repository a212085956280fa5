//! Who acknowledges what, and what it is worth.

use nonos_identity::SigningKey;

use super::*;
use crate::config::ConfigError;
use crate::transit::{BATCH_CELLS, Commitment, MAX_BATCHES, Opening, Promise, Share, Tally, TransitKey};

const BATCHES: u16 = 8;

fn proving(_: u8, limits: &mut Limits) {
    (limits.transit_batches, limits.transit_batches_kept) = (BATCHES, BATCHES);
}

#[test]
fn more_than_a_message_promises_is_no_limit() {
    let refused = Err(ConfigError::Transit { batches: MAX_BATCHES + 1, max: MAX_BATCHES });
    let limits =
        Limits { transit_batches: MAX_BATCHES, transit_batches_kept: MAX_BATCHES, ..Limits::default() };
    assert_eq!(limits.check(), Ok(()));
    assert_eq!(Limits { transit_batches: MAX_BATCHES + 1, ..limits.clone() }.check(), refused);
    assert_eq!(Limits { transit_batches_kept: MAX_BATCHES + 1, ..limits }.check(), refused);
}

/// The promise and the openings that a node has.
fn proofs(mesh: &Mesh, number: usize) -> (Option<Promise>, Vec<Opening>) {
    let (mut promise, mut openings) = (None, Vec::new());
    for event in &mesh.events[number] {
        match event {
            Output::Promised { promise: got, .. } => promise = Some(got.clone()),
            Output::Carried { opening, .. } => openings.push(*opening),
            _ => {}
        }
    }
    (promise, openings)
}

/// Sends cells from the client to the end of its circuit, or back.
fn transfer(mesh: &mut Mesh, stream: StreamId, from: usize, to: usize, far: StreamId, cells: usize) {
    for _ in 0..cells {
        assert_eq!(mesh.machines[from].write(NOW, stream, &[5; DATA_BYTES]), DATA_BYTES);
        mesh.run();
        mesh.machines[to].read(NOW, far, usize::MAX, &mut Vec::new());
        mesh.run();
    }
}

/// A proving circuit of so many nodes over which so many cells went there and back.
fn carried(nodes: u8, adjust: impl Fn(u8, &mut Limits), cells: usize) -> (Mesh, LocalCircuitId) {
    let mut mesh = Mesh::new(nodes, adjust);
    let path = mesh.path();
    let circuit = mesh.machines[0].build(NOW, &path).unwrap();
    mesh.run();
    assert_eq!(mesh.events[0].remove(0), Output::Built { circuit });
    let (near, far) = mesh.open(circuit);
    let last = usize::from(nodes) - 1;
    transfer(&mut mesh, near, 0, last, far, cells / 2);
    transfer(&mut mesh, far, last, 0, near, cells / 2);
    (mesh, circuit)
}

#[test]
fn every_relay_proves_what_it_handed_on_and_the_last_hop_nothing() {
    let (mesh, circuit) = carried(5, proving, 600);
    let commitments = mesh.machines[0].commitments(circuit);
    assert_eq!(commitments.len(), 3);
    for (relay, commitment) in (1..4).zip(commitments) {
        let (promise, openings) = proofs(&mesh, relay);
        assert_eq!(promise.unwrap().commitment(), *commitment, "relay {relay}");
        // 600 cells and what opens streams and acknowledges.
        assert_eq!(openings.len(), 2, "relay {relay}");
    }
    assert_eq!(proofs(&mesh, 4), (None, vec![]));
    assert!(mesh.events.iter().flatten().all(|event| !matches!(event, Output::Closed { .. })));
}

#[test]
fn what_relays_prove_settles_and_is_checked_with_what_the_client_promised() {
    let (mesh, circuit) = carried(4, proving, 600);
    let network = NetworkId::from_name("mesh");
    for relay in 1..3 {
        let mut tally = Tally::new(Epoch::at(Timestamp::from_secs(NOW.as_secs())));
        for event in &mesh.events[relay] {
            match event {
                Output::Promised { circuit, promise } => tally.promised(*circuit, promise.clone()).unwrap(),
                Output::Carried { circuit, opening } => tally.carried(*circuit, *opening).unwrap(),
                _ => {}
            }
        }
        let (receipt, shares) = tally.settle(&SigningKey::from_seed(&[1; 32]), &network);
        let promised: &Commitment = &mesh.machines[0].commitments(circuit)[relay - 1];
        let share: &Share = &shares[0].2;
        assert_eq!((receipt.receipt().count, share.check(receipt.receipt(), promised)), (2, Ok(())));
        let other = &mesh.machines[0].commitments(circuit)[2 - relay];
        assert!(share.check(receipt.receipt(), other).is_err());
    }
}

#[test]
fn nothing_is_proven_by_default_nor_without_the_relay() {
    let (mesh, circuit) = carried(4, default, 600);
    assert!(mesh.machines[0].commitments(circuit).is_empty());
    assert!((0..4).all(|number| proofs(&mesh, number) == (None, vec![])));
    assert!(mesh.trace.iter().all(|(_, _, bytes)| bytes.chunks(CELL_BYTES).all(|cell| cell[4] != 5)));
    // A relay that keeps fewer hints than the client promises still acknowledges to the one before.
    let few = |number: u8, limits: &mut Limits| {
        limits.transit_batches = BATCHES;
        limits.transit_batches_kept = if number == 2 { BATCHES - 1 } else { BATCHES };
    };
    let (mesh, _) = carried(4, few, 600);
    assert_eq!((proofs(&mesh, 1).1.len(), proofs(&mesh, 2)), (2, (None, vec![])));
}

#[test]
fn no_more_is_proven_than_was_promised() {
    let one = |_: u8, limits: &mut Limits| {
        (limits.transit_batches, limits.transit_batches_kept) = (1, BATCHES);
    };
    let (mesh, _) = carried(4, one, 900);
    assert_eq!((proofs(&mesh, 1).1.len(), proofs(&mesh, 2).1.len()), (1, 1));
}

/// The relay takes cells and hands none on: what it holds opens nothing.
#[test]
fn who_drops_cells_proves_nothing() {
    let (mut mesh, circuit) = carried(4, proving, 200);
    let near = StreamId { circuit, number: 1 };
    let before = proofs(&mesh, 1).1.len();
    mesh.stuck = Some((1, 2));
    for _ in 0..200 {
        mesh.machines[0].write(NOW, near, &[1; DATA_BYTES]);
        mesh.run();
    }
    let (promise, openings) = proofs(&mesh, 1);
    assert_eq!((before, openings.len()), (0, 0));
    // Its own half, its own acks and the hints are all it has.
    let Some(Circuit::Relay(_)) = mesh.machines[1].circuits.values().next() else { panic!("a relay") };
    let mut tally = Tally::new(Epoch::at(Timestamp::from_secs(NOW.as_secs())));
    let id = LocalCircuitId(1);
    tally.promised(id, promise.unwrap()).unwrap();
    let guess = Opening { own: TransitKey::of(&[0; 160]).own(0), ack: TransitKey::of(&[0; 160]).ack(0) };
    assert!(tally.carried(id, guess).is_err());
}

/// An ACK of a batch under a circuit's id on a link, as if the node behind had sent it.
fn forge(mesh: &mut Mesh, link: (u64, u64), body: impl FnOnce(&mut [u8])) {
    let of = mesh.trace.iter().rev().filter(|(from, to, _)| (*from, *to) == link);
    let cell = of.flat_map(|(_, _, bytes)| bytes.chunks(CELL_BYTES)).find(|cell| cell[4] == 1).unwrap();
    let mut forged = cell[..6].to_vec();
    forged[4] = Command::Ack as u8;
    forged.resize(CELL_BYTES, 0);
    body(&mut forged[6..38]);
    let (from, to) = link;
    mesh.machines[to as usize].handle(NOW, Input::Cells { link: LinkId(to * 16 + from), bytes: forged });
    mesh.run();
}

#[test]
fn a_wrong_or_early_acknowledgement_ends_the_circuit() {
    // The acks of a circuit that went through, of batch 0 and 1, on the link from node 2 to node 1.
    let acks = |mesh: &Mesh| -> Vec<Vec<u8>> {
        let cells = mesh.trace.iter().filter(|(from, to, _)| (*from, *to) == (2, 1));
        let cells = cells.flat_map(|(_, _, bytes)| bytes.chunks(CELL_BYTES)).filter(|cell| cell[4] == 5);
        cells.map(|cell| cell[6..38].to_vec()).collect()
    };
    // The same seeds make the same circuits, so these are of this very circuit.
    let known = acks(&carried(4, proving, 600).0);
    assert_eq!(known.len(), 2);
    for (ack, what) in
        [(vec![9; 32], "forged"), (known[1].clone(), "of another batch"), (known[0].clone(), "early")]
    {
        let (mut mesh, circuit) = carried(4, proving, 100);
        forge(&mut mesh, (2, 1), |body| body.copy_from_slice(&ack));
        assert_eq!(proofs(&mesh, 1).1, [], "{what}");
        assert_eq!(mesh.closed(circuit).reason, DestroyReason::Protocol, "{what}");
    }
    // Repeated.
    let (mut mesh, circuit) = carried(4, proving, 300);
    assert_eq!(proofs(&mesh, 1).1.len(), 1);
    forge(&mut mesh, (2, 1), |body| body.copy_from_slice(&known[0]));
    assert_eq!((proofs(&mesh, 1).1.len(), mesh.closed(circuit).reason), (1, DestroyReason::Protocol));
}

/// What the next hop releases when it is due, and is not the ack of that batch.
#[test]
fn an_acknowledgement_that_is_due_and_wrong_ends_the_circuit() {
    let forged: fn(&mut [u8]) = |ack| ack.fill(9);
    let flipped: fn(&mut [u8]) = |ack| ack[31] ^= 1;
    for wrong in [forged, flipped] {
        let mut mesh = Mesh::new(4, proving);
        mesh.change = Box::new(move |from, to, cell| {
            if (from, to, cell[4]) == (2, 1, Command::Ack as u8) {
                wrong(&mut cell[6..38]);
            }
        });
        let path = mesh.path();
        let circuit = mesh.machines[0].build(NOW, &path).unwrap();
        mesh.run();
        mesh.events[0].clear();
        let (near, far) = mesh.open(circuit);
        for _ in 0..300 {
            mesh.machines[0].write(NOW, near, &[5; DATA_BYTES]);
            mesh.run();
            mesh.machines[3].read(NOW, far, usize::MAX, &mut Vec::new());
            mesh.run();
        }
        assert_eq!(proofs(&mesh, 1).1, []);
        assert_eq!(mesh.closed(circuit).reason, DestroyReason::Protocol);
    }
}

#[test]
fn the_client_checks_its_first_hop() {
    for adjust in [proving as fn(u8, &mut Limits), default] {
        let (mut mesh, circuit) = carried(4, adjust, 20);
        forge(&mut mesh, (1, 0), |body| body.fill(9));
        let expected = Closed { reason: DestroyReason::Protocol, blamed: Some(0) };
        assert_eq!(mesh.closed(circuit), expected);
    }
}

/// An acknowledgement only goes towards the client: the other way it is no cell of the protocol.
#[test]
fn an_acknowledgement_from_the_wrong_side_costs_the_link() {
    let (mut mesh, _) = carried(4, proving, 20);
    forge(&mut mesh, (0, 1), |body| body.fill(9));
    assert!(mesh.machines[1].circuits.is_empty());
}

#[test]
fn hints_come_once_and_well_formed() {
    for bytes in [vec![], vec![0; 2], vec![0, 2, 9], [vec![0, 1], vec![0; 32]].concat()] {
        let (mut mesh, circuit) = carried(4, proving, 20);
        mesh.machines[0].originate_all(circuit, 1, Kind::Transit, &bytes);
        let empty = Message { stream: 0, kind: Kind::Transit, more: false, data: &[] };
        mesh.machines[0].originate(circuit, 1, empty);
        mesh.run();
        assert_eq!(mesh.closed(circuit).reason, DestroyReason::Protocol, "{} bytes", bytes.len());
    }
}

#[test]
fn a_circuit_of_any_length_acknowledges_from_the_second_link_on() {
    for nodes in 2..=7 {
        let (mesh, _) = carried(nodes, proving, 2 * BATCH_CELLS as usize);
        for relay in 1..usize::from(nodes) - 1 {
            assert_eq!(proofs(&mesh, relay).1.len(), 2, "relay {relay} of {nodes}");
        }
        assert!(mesh.events.iter().flatten().all(|event| !matches!(event, Output::Closed { .. })));
    }
}
