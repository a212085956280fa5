//! What padding costs and where its bounds are, under virtual time.

use core::time::Duration;

use nonos_onion::testing::{LinkShape, Simulation};
use nonos_onion::{Limits, Output, StreamId};
use proptest::prelude::*;

const SHAPE: LinkShape = LinkShape { latency: Duration::from_millis(10), bytes_per_second: 20_000_000 };

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// A circuit of four hops whose nodes pad so much, with a stream.
fn padded(percent: u8) -> (Simulation, StreamId, StreamId) {
    let mut sim = Simulation::new(5, SHAPE, |_, config| config.limits.padding_percent = percent);
    let circuit = sim.build(&[0, 1, 2, 3, 4]);
    let near = sim.open(0, circuit);
    let far = sim.offered(4)[0];
    (sim, near, far)
}

/// The most DROPs to so many other cells: sixteen, and the share.
fn most(cells: u64, percent: u8) -> u64 {
    16 + cells * u64::from(percent) / 100
}

/// Requests of a web page now and then, answered.
fn browse(sim: &mut Simulation, near: StreamId, far: StreamId, gaps: &[u16]) {
    for &gap in gaps {
        sim.send(0, near, &[1; 700]);
        sim.run_for(ms(100));
        sim.send(4, far, &[2; 40_000]);
        sim.run_for(ms(u64::from(gap)));
    }
}

#[test]
fn padding_fills_gaps_both_ways_and_disturbs_no_stream() {
    for percent in [Limits::PADDING_PERCENT_LOW, Limits::PADDING_PERCENT_HARDENED] {
        let (mut sim, near, far) = padded(percent);
        browse(&mut sim, near, far, &[400; 20]);
        let [(sent, drops), (received, dropped)] = sim.padding(0)[0];
        println!("{percent} %: sent {sent} cells and {drops} DROPs, received {received} and {dropped}");
        assert!(drops >= 10 && dropped >= 20, "{drops} {dropped}");
        assert_eq!((sim.received(4, far), sim.received(0, near)), (20 * 700, 20 * 40_000));
        // Only the first hop is asked, and sees them.
        assert!((2..5).all(|node| sim.padding(node).is_empty()));
        assert!(sim.outputs(0).iter().all(|output| !matches!(output, Output::Closed { .. })));
    }
}

#[test]
fn nothing_is_padded_by_default() {
    let mut sim = Simulation::new(3, SHAPE, |_, _| {});
    let circuit = sim.build(&[0, 1, 2]);
    let near = sim.open(0, circuit);
    let far = sim.offered(2)[0];
    sim.send(0, near, &[1; 5000]);
    sim.run_for(ms(20_000));
    assert_eq!(sim.received(2, far), 5000);
    assert!((0..3).all(|node| sim.padding(node).is_empty()));
}

/// A relay that pads nobody bears a client that pads, and sends nothing back.
#[test]
fn each_end_has_its_own_limit() {
    let mut sim = Simulation::new(5, SHAPE, |node, config| {
        config.limits.padding_percent = if node == 0 { 15 } else { 0 };
    });
    let circuit = sim.build(&[0, 1, 2, 3, 4]);
    let near = sim.open(0, circuit);
    let far = sim.offered(4)[0];
    browse(&mut sim, near, far, &[300; 20]);
    let [(_, drops), (_, dropped)] = sim.padding(0)[0];
    assert!(drops > 0 && dropped == 0, "{drops} {dropped}");
}

#[test]
fn the_same_seeds_pad_the_same() {
    let run = || {
        let (mut sim, near, far) = padded(15);
        browse(&mut sim, near, far, &[100, 700, 30, 2000]);
        (sim.padding(0), sim.padding(1), sim.received(0, near))
    };
    assert_eq!(run(), run());
}

/// A bulk transfer has no gaps to fill.
#[test]
fn goodput_pays_little_for_padding() {
    let goodput = |percent| {
        let (mut sim, near, far) = padded(percent);
        sim.send_all(0, near);
        sim.run_for(ms(500));
        let before = sim.received(4, far);
        sim.run_for(ms(1000));
        let drops = sim.padding(0).first().map_or(0, |[sent, _]| sent.1);
        (sim.received(4, far) - before, drops)
    };
    let (none, low, hardened) = (goodput(0), goodput(15), goodput(100));
    println!("bytes in 1 s and DROPs: {none:?} without, {low:?} at 15, {hardened:?} at 100 per cent");
    assert!(low.0 * 100 >= none.0 * 85, "{low:?} of {none:?}");
    assert!(hardened.0 * 2 >= none.0, "{hardened:?} of {none:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn no_end_ever_exceeds_its_budget(percent in 1..=100_u8, gaps in proptest::collection::vec(0..3000_u16, 1..12)) {
        let (mut sim, near, far) = padded(percent);
        for gap in gaps {
            browse(&mut sim, near, far, &[gap]);
            for node in [0, 1] {
                for (cells, drops) in sim.padding(node)[0] {
                    prop_assert!(drops <= most(cells, percent), "{} to {} at {}", drops, cells, percent);
                }
            }
        }
        let is_closed = sim.outputs(0).iter().any(|output| matches!(output, Output::Closed { .. }));
        prop_assert!(!is_closed);
    }
}
