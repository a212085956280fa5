//! DROPs that are borne, and those that are not.

use super::*;
use crate::padding::FREE_CELLS;

const PERCENT: u8 = 15;

fn padded(_: u8, limits: &mut Limits) {
    limits.padding_percent = PERCENT;
}

const DROP: Message<'_> = Message { stream: 0, kind: Kind::Drop, more: false, data: &[] };

/// A relay's or the client's cells and DROPs, sent and received.
fn counts(mesh: &mut Mesh, number: usize) -> [(u64, u64); 2] {
    let counts = mesh.machines[number].padding_counts();
    assert_eq!(counts.len(), 1);
    counts[0]
}

fn build(adjust: impl Fn(u8, &mut Limits)) -> (Mesh, LocalCircuitId) {
    let mut mesh = Mesh::new(4, adjust);
    let path = mesh.path();
    let circuit = mesh.machines[0].build(NOW, &path).unwrap();
    mesh.run();
    assert_eq!(mesh.events[0], [Output::Built { circuit }]);
    mesh.events[0].clear();
    (mesh, circuit)
}

/// The circuit of somebody else's that a node has.
fn circuit_of(mesh: &Mesh, number: usize) -> LocalCircuitId {
    *mesh.machines[number].circuits.keys().next().unwrap()
}

#[test]
fn drops_are_dropped_at_the_first_hop_and_at_the_client() {
    let (mut mesh, circuit) = build(padded);
    let (near, far) = mesh.open(circuit);
    let onward = mesh.trace.iter().filter(|(from, to, _)| (*from, *to) == (1, 2)).count();
    let relayed = circuit_of(&mesh, 1);
    for _ in 0..5 {
        mesh.machines[0].originate(circuit, 0, DROP).unwrap();
        mesh.machines[1].originate(relayed, 0, DROP).unwrap();
    }
    mesh.run();
    assert_eq!(mesh.trace.iter().filter(|(from, to, _)| (*from, *to) == (1, 2)).count(), onward);
    assert_eq!((counts(&mut mesh, 1)[1].1, counts(&mut mesh, 0)[1].1), (5, 5));
    assert!(mesh.events.iter().all(Vec::is_empty));
    // Streams go on.
    mesh.machines[0].write(NOW, near, b"there");
    mesh.run();
    let mut out = Vec::new();
    mesh.machines[3].read(NOW, far, usize::MAX, &mut out);
    assert_eq!(out, b"there");
}

#[test]
fn both_ends_count_the_same() {
    let (mut mesh, circuit) = build(padded);
    let (near, far) = mesh.open(circuit);
    for _ in 0..100 {
        mesh.machines[0].write(NOW, near, &[1; 3 * DATA_BYTES]);
        mesh.machines[3].write(NOW, far, &[2; 2 * DATA_BYTES]);
        mesh.run();
        mesh.machines[3].read(NOW, far, usize::MAX, &mut Vec::new());
        mesh.machines[0].read(NOW, near, usize::MAX, &mut Vec::new());
    }
    mesh.run();
    let ([sent, received], [by_hop, of_hop]) = (counts(&mut mesh, 0), counts(&mut mesh, 1));
    assert!(sent.0 > 300 && received.0 > 200);
    assert_eq!((sent, by_hop), (of_hop, received));
}

/// So many DROPs from one end beyond the budget; yields why the circuit ended, if it did.
fn flood(from: usize, cells: usize, drops: u64) -> Option<Closed> {
    let (mut mesh, circuit) = build(padded);
    let (near, far) = mesh.open(circuit);
    for _ in 0..cells {
        // Acknowledgements are cells as well; the DROPs come at once after these.
        mesh.machines[0].write(NOW, near, &[1; DATA_BYTES]);
        mesh.machines[3].write(NOW, far, &[1; DATA_BYTES]);
        mesh.run();
    }
    let sender = if from == 0 { circuit } else { circuit_of(&mesh, from) };
    let [(sent, _), _] = counts(&mut mesh, from);
    for _ in 0..FREE_CELLS + sent * u64::from(PERCENT) / 100 + drops {
        mesh.machines[from].originate(sender, 0, DROP);
    }
    mesh.run();
    mesh.events[0].iter().find_map(|event| match event {
        Output::Closed { closed, .. } => Some(*closed),
        _ => None,
    })
}

#[test]
fn who_floods_with_drops_loses_the_circuit() {
    for cells in [0, 50] {
        for (from, blamed) in [(0, Some(0)), (1, Some(0))] {
            assert_eq!(flood(from, cells, 0), None, "all of the budget, from node {from}");
            let closed = flood(from, cells, 1).expect("beyond the budget");
            assert_eq!(closed, Closed { reason: DestroyReason::Protocol, blamed }, "from node {from}");
        }
    }
}

#[test]
fn nobody_pads_who_was_not_asked() {
    for (number, adjust) in [(0, default as fn(u8, &mut Limits)), (1, default)] {
        let (mut mesh, circuit) = build(adjust);
        let sender = if number == 0 { circuit } else { circuit_of(&mesh, number) };
        mesh.machines[number].originate(sender, 0, DROP);
        mesh.run();
        assert_eq!(mesh.closed(circuit).reason, DestroyReason::Protocol);
    }
    // A hop behind the first is asked by nobody, and its DROPs would show the first hop nothing.
    let (mut mesh, circuit) = build(padded);
    let relayed = circuit_of(&mesh, 2);
    mesh.machines[2].originate(relayed, 0, DROP);
    mesh.run();
    assert_eq!(mesh.closed(circuit), Closed { reason: DestroyReason::Protocol, blamed: Some(1) });
}

#[test]
fn a_client_asks_once_and_for_what_there_is() {
    for data in [&[1, PERCENT][..], &[2, PERCENT], &[1, 101], &[1, 0], &[]] {
        let first = |number: u8, limits: &mut Limits| {
            if data == [1, PERCENT] {
                padded(number, limits);
            }
        };
        let (mut mesh, circuit) = build(first);
        mesh.machines[0].originate(circuit, 0, Message { stream: 0, kind: Kind::Padding, more: false, data });
        mesh.run();
        assert_eq!(mesh.closed(circuit).reason, DestroyReason::Protocol, "{data:?}");
    }
    let limits = Limits { padding_percent: 101, ..Limits::default() };
    assert!(limits.check().is_err());
}

/// From outside a DROP is a cell of the circuit like the others.
#[test]
fn a_drop_looks_like_data() {
    let (mut mesh, circuit) = build(padded);
    let before = mesh.trace.len();
    mesh.machines[0].originate(circuit, 0, DROP).unwrap();
    mesh.machines[0].pay(NOW, circuit, 0, b"x").unwrap();
    mesh.run();
    let cells: Vec<_> =
        mesh.trace[before..].iter().flat_map(|(_, _, bytes)| bytes.chunks(CELL_BYTES)).collect();
    assert_eq!(cells.len(), 2);
    assert_eq!(cells[0][..6], cells[1][..6], "circuit, command, reserved");
    let zeros = cells[0][6..].iter().filter(|&&byte| byte == 0).count();
    assert!(zeros < 30, "{zeros} bytes of a body of noise");
}
