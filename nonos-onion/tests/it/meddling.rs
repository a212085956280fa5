//! Relays that meddle with cells, under virtual time.

use core::time::Duration;

use nonos_onion::testing::{Fault, LinkShape, Simulation};
use nonos_onion::{DestroyReason, Output, StreamId};

const SHAPE: LinkShape = LinkShape { latency: Duration::from_millis(5), bytes_per_second: 50_000_000 };
/// Body bytes at both ends and in between, and none of the header, by which a link is closed.
const FAULTS: [Fault; 7] = [
    Fault::Drop,
    Fault::Repeat,
    Fault::Swap,
    Fault::Replay,
    Fault::Flip(6),
    Fault::Flip(500),
    Fault::Flip(1023),
];

/// Bytes no two cells of which are alike.
fn pattern() -> Vec<u8> {
    (0..12_000_u32).flat_map(u32::to_be_bytes).collect()
}

/// A client, three relays and a destination, and a stream at both of its ends.
fn open() -> (Simulation, StreamId, StreamId) {
    let mut sim = Simulation::new(5, SHAPE, |_, _| {});
    let circuit = sim.build(&[0, 1, 2, 3, 4]);
    let near = sim.open(0, circuit);
    let far = sim.offered(4)[0];
    (sim, near, far)
}

fn closed(sim: &Simulation, node: usize) -> Vec<DestroyReason> {
    let reason = |output: &Output| match output {
        Output::Closed { closed, .. } => Some(closed.reason),
        _ => None,
    };
    sim.outputs(node).iter().filter_map(reason).collect()
}

/// Sends the pattern from `from` to `to` and back, with one cell meddled with between two nodes.
fn meddled(fault: Fault, link: (usize, usize), after: u32) {
    let (mut sim, near, far) = open();
    let pattern = pattern();
    sim.meddle(link.0, link.1, fault, after);
    for _ in 0..4 {
        sim.send(0, near, &pattern);
        sim.send(4, far, &pattern);
        sim.run_for(Duration::from_millis(200));
    }
    for (node, stream) in [(4, far), (0, near)] {
        let got = sim.received_bytes(node, stream);
        let sent = pattern.iter().cycle().take(got.len());
        assert!(got.iter().eq(sent), "{fault:?} at {link:?}: bytes that were never sent");
    }
    let reasons = closed(&sim, 0);
    assert_eq!(reasons.len(), 1, "{fault:?} at {link:?} after {after}: the circuit goes on");
    // Whoever finds it, the client learns; the others learn that the circuit is over.
    assert!((1..5).all(|node| closed(&sim, node).len() == 1), "{fault:?} at {link:?}");
    assert!((0..5).all(|node| sim.held_bytes(node) == 0), "{fault:?} at {link:?}");
}

#[test]
fn whatever_a_relay_does_to_a_cell_ends_the_circuit_and_gives_no_wrong_byte() {
    for fault in FAULTS {
        for link in [(0, 1), (1, 2), (2, 3), (3, 4), (4, 3), (3, 2), (2, 1), (1, 0)] {
            meddled(fault, link, 3);
            meddled(fault, link, 40);
        }
    }
}

/// The same stream when nobody meddles: the test above would pass if nothing ever arrived.
#[test]
fn without_a_fault_all_of_it_arrives() {
    let (mut sim, near, far) = open();
    let pattern = pattern();
    sim.send(0, near, &pattern);
    sim.send(4, far, &pattern);
    sim.run_for(Duration::from_millis(500));
    assert!(sim.received_bytes(4, far) == pattern && sim.received_bytes(0, near) == pattern);
    assert!((0..5).all(|node| closed(&sim, node).is_empty()));
}
