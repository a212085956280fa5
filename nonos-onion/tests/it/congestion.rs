//! Windows, turns and memory, under virtual time.

use core::time::Duration;

use nonos_onion::testing::{LinkShape, Simulation};
use nonos_onion::{DestroyReason, Output, StreamId};

const MB: u64 = 1_000_000;

const fn link(latency_ms: u64, megabytes_per_second: u64) -> LinkShape {
    LinkShape { latency: Duration::from_millis(latency_ms), bytes_per_second: megabytes_per_second * MB }
}

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// A client, three relays and a destination, with an upload that begins now. The stream at both ends.
fn upload(shape: LinkShape, narrow: Option<(usize, usize, LinkShape)>) -> (Simulation, StreamId, StreamId) {
    let mut sim = Simulation::new(5, shape, |_, _| {});
    if let Some((from, to, shape)) = narrow {
        sim.shape(from, to, shape);
    }
    let circuit = sim.build(&[0, 1, 2, 3, 4]);
    let stream = sim.open(0, circuit);
    let far = sim.offered(4)[0];
    sim.send_all(0, stream);
    (sim, stream, far)
}

/// Bytes that arrive in the next so many milliseconds, per second.
fn rate(sim: &mut Simulation, far: StreamId, milliseconds: u64) -> u64 {
    let before = sim.received(4, far);
    sim.run_for(ms(milliseconds));
    (sim.received(4, far) - before) * 1000 / milliseconds
}

/// Four links of 19 ms, 150 ms there and back, 25 MB/s. The rate is that of a round trip, so no burst counts as one;
/// a transfer that has to be asked for begins half a round trip later.
#[test]
fn half_of_the_plateau_is_reached_in_half_a_second() {
    let (mut sim, _, far) = upload(link(19, 25), None);
    sim.run_for(ms(225));
    let rising = rate(&mut sim, far, 150);
    sim.run_for(ms(1025));
    let plateau = rate(&mut sim, far, 500);
    println!("{rising} B/s in the second round trip, {plateau} B/s at the plateau");
    assert!(plateau >= 23 * MB, "{plateau}");
    assert!(rising * 2 >= plateau, "{rising} of {plateau}");
}

/// What waits at the narrow link stays near what a path alone has waiting, far below the largest window.
#[test]
fn a_narrow_link_makes_no_long_queue() {
    let (mut sim, _, far) = upload(link(10, 100), Some((2, 3, link(10, 5))));
    sim.run_for(ms(2000));
    let mut longest = 0;
    let before = sim.received(4, far);
    for _ in 0..200 {
        sim.run_for(ms(10));
        longest = longest.max(sim.held_bytes(2));
    }
    let rate = (sim.received(4, far) - before) / 2;
    println!("{rate} B/s through 5 MB/s, {longest} B at most in its queue");
    assert!(rate > 4 * MB + MB / 2, "{rate}");
    assert!(longest < 400 * 1024, "{longest}");
}

/// Two clients through one narrow link.
#[test]
fn circuits_share_a_narrow_link() {
    let mut sim = Simulation::new(6, link(10, 100), |_, _| {});
    sim.shape(2, 3, link(10, 5));
    let mut streams = Vec::new();
    for client in [0, 5] {
        let circuit = sim.build(&[client, 1, 2, 3, 4]);
        let stream = sim.open(client, circuit);
        streams.push((client, stream));
    }
    let (first, second) = (sim.offered(4)[0], sim.offered(4)[1]);
    sim.send_all(streams[0].0, streams[0].1);
    sim.run_for(ms(2000));
    sim.send_all(streams[1].0, streams[1].1);
    sim.run_for(ms(3000));
    let before = [first, second].map(|stream| sim.received(4, stream));
    sim.run_for(ms(4000));
    let [a, b] =
        [(first, before[0]), (second, before[1])].map(|(stream, before)| sim.received(4, stream) - before);
    println!("{a} B and {b} B in four seconds");
    assert!(a.min(b) * 2 > a.max(b), "{a} {b}");
    assert!((a + b) / 4 > 4 * MB, "{a} {b}");
}

/// A circuit with little to send does not wait behind those with much.
#[test]
fn a_keystroke_does_not_wait_for_a_bulk_transfer() {
    let mut sim = Simulation::new(5, link(10, 100), |_, _| {});
    sim.shape(2, 3, link(10, 5));
    for _ in 0..8 {
        let bulk = sim.build(&[0, 1, 2, 3, 4]);
        let bulk = sim.open(0, bulk);
        sim.send_all(0, bulk);
    }
    let quiet = sim.build(&[0, 1, 2, 3, 4]);
    let quiet = sim.open(0, quiet);
    let far = sim.offered(4)[8];
    sim.run_for(ms(2000));
    let mut slowest = Duration::ZERO;
    for key in 1..=20 {
        let sent = sim.now();
        sim.send(0, quiet, b"k");
        while sim.received(4, far) < key {
            sim.run_for(ms(1));
        }
        slowest = slowest.max(sim.now() - sent);
        sim.run_for(ms(37));
    }
    println!("{slowest:?} at most, 40 ms on an idle path");
    // Two buffers of 32 KiB are with the link already: 13 ms.
    assert!(slowest < ms(65), "{slowest:?}");
}

/// What waits when a circuit is closed is still carried, however slow the path is. What comes in one piece
/// with the end of the circuit is lost, as its stream goes with it.
#[test]
fn a_closed_circuit_sends_what_waits() {
    let mut sim = Simulation::new(5, link(10, 100), |_, _| {});
    sim.shape(1, 2, link(10, 1));
    let circuit = sim.build(&[0, 1, 2, 3, 4]);
    let stream = sim.open(0, circuit);
    let far = sim.offered(4)[0];
    sim.send(0, stream, &[5; 300_000]);
    sim.close(0, circuit);
    sim.run_for(ms(2000));
    assert!(sim.received(4, far) > 300_000 - 32 * 996, "{}", sim.received(4, far));
    assert!((0..5).all(|node| sim.held_bytes(node) == 0));
}

#[test]
fn a_reader_that_stops_bounds_its_memory_and_holds_up_nobody_else() {
    let mut sim = Simulation::new(5, link(5, 50), |_, _| {});
    let circuit = sim.build(&[0, 1, 2, 3, 4]);
    let stream = sim.open(0, circuit);
    sim.stall(4);
    sim.send_all(0, stream);
    sim.run_for(ms(3000));
    // The window that a stream starts with, and no cell in a queue.
    let held = sim.held_bytes(4);
    assert!((400 * 1024..=512 * 1024).contains(&held), "{held}");
    assert!((1..4).all(|relay| sim.held_bytes(relay) == 0));
}

/// Streams whose reader stops after it kept up hold what they were given, until the quota ends those that
/// hold most.
#[test]
fn the_quota_ends_the_circuits_that_hold_most() {
    const QUOTA: usize = 2 << 20;
    let mut sim = Simulation::new(5, link(5, 50), |node, config| {
        if node == 4 {
            config.limits.memory_bytes = QUOTA;
        }
    });
    let greedy = sim.build(&[0, 1, 2, 3, 4]);
    let stream = sim.open(0, greedy);
    let modest = sim.build(&[0, 1, 2, 3, 4]);
    let other = sim.open(0, modest);
    sim.send_all(0, stream);
    sim.run_for(ms(2000));
    sim.stall(4);
    sim.send(0, other, &[1; 5000]);
    for _ in 0..300 {
        sim.run_for(ms(10));
        assert!(sim.held_bytes(4) <= QUOTA, "{}", sim.held_bytes(4));
    }
    let closed: Vec<_> = sim
        .outputs(0)
        .iter()
        .filter_map(|output| match output {
            Output::Closed { circuit, closed, .. } => Some((*circuit, closed.reason)),
            _ => None,
        })
        .collect();
    assert_eq!(closed.iter().map(|&(circuit, _)| circuit).collect::<Vec<_>>(), [greedy]);
    assert!(closed.iter().all(|&(_, reason)| reason == DestroyReason::Busy), "{closed:?}");
    assert_eq!(sim.held_bytes(4), 5000);
}
