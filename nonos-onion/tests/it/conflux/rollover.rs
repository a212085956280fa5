//! Streams that outlive epochs and relays, on circuits under virtual time.

use std::time::Duration;

use nonos_onion::conflux::{Config, Fault};
use nonos_onion::testing::{LinkShape, Simulation};

use crate::conflux::simulated::Both;

const MB: u64 = 1_000_000;

const fn link(latency_ms: u64, kilobytes_per_second: u64) -> LinkShape {
    LinkShape { latency: Duration::from_millis(latency_ms), bytes_per_second: kilobytes_per_second * 1000 }
}

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

const SECOND: Duration = Duration::from_secs(1);

/// A client (0), relays (1 to 6) and a destination (7).
fn both(shape: LinkShape, paths: &[&[usize]]) -> Both {
    Both::new(Simulation::new(8, shape, |_, _| {}), 7, paths, &Config::client())
}

const PATHS: &[&[usize]] = &[&[1, 2], &[3, 4], &[5, 6]];

/// Both ends write so much more, and it arrives; how long that took.
fn exchange(both: &mut Both, bytes: u64) -> Duration {
    let begin = both.sim.now();
    both.client.application.goal += bytes;
    both.server.application.goal += bytes;
    let (up, down) = (both.client.application.goal, both.server.application.goal);
    let arrived = both.run_while(60 * SECOND, |both| {
        both.server.application.received < up || both.client.application.received < down
    });
    assert!(arrived, "{:?} {:?}", both.client.application, both.server.application);
    both.sim.now() - begin
}

fn finish(both: &mut Both) {
    both.client.session.finish();
    both.server.session.finish();
    assert!(both.run_while(30 * SECOND, |both| !both.is_over()), "{both:?}");
    assert_eq!((both.client.ended, both.server.ended), (Some(None), Some(None)));
    for end in [&both.client, &both.server] {
        assert!(end.application.at_end && end.session.held_bytes() == 0, "{end:?}");
    }
    assert_eq!(both.client.application.received, both.server.application.written);
    assert_eq!(both.server.application.received, both.client.application.written);
}

#[test]
fn a_stream_outlives_a_hundred_epochs() {
    let mut both = both(link(10, 10_000), PATHS);
    let begin = both.sim.now();
    let mut slowest = Duration::ZERO;
    for epoch in 1..=100 {
        let end = begin + epoch * 600 * SECOND;
        slowest = slowest.max(exchange(&mut both, 200_000));
        while both.sim.now() < end + 70 * SECOND {
            let left = end.saturating_sub(both.sim.now());
            // More often while circuits come and go.
            let pause = if left < 125 * SECOND { ms(1700) } else { 20 * SECOND };
            slowest = slowest.max(exchange(&mut both, 3000));
            both.run_for(pause);
        }
    }
    println!(
        "{} circuits, {} retired at the client, {} lost, {} bytes each way, the slowest exchange {slowest:?}",
        both.built,
        both.client.retired,
        both.client.lost.len(),
        both.client.application.received
    );
    assert!(both.built >= 200 && both.failed == 0, "{} {}", both.built, both.failed);
    assert!(both.client.lost.is_empty() && both.server.lost.is_empty(), "{:?}", both.client.lost);
    // No leg broke: all but the last two were retired.
    assert_eq!(both.client.retired + both.relays_of_legs(), both.built);
    assert!(slowest < SECOND, "{slowest:?}");
    finish(&mut both);
}

/// Without successors the circuits die with their epoch, and so does the stream after its patience.
#[test]
fn without_upkeep_it_does_not() {
    let mut both = both(link(10, 10_000), PATHS);
    both.run_for(5 * SECOND);
    assert_eq!(both.relays_of_legs(), 2);
    both.keeps_up = false;
    exchange(&mut both, 3000);
    both.run_for(800 * SECOND);
    assert_eq!(both.client.ended, Some(Some(Fault::Abandoned)));
    assert_eq!(both.server.ended, Some(Some(Fault::Abandoned)));
}

#[test]
fn a_relay_that_dies_loses_nothing() {
    for victim in 1..=4 {
        let mut both = both(link(10, 2_000), PATHS);
        both.run_for(2 * SECOND);
        both.client.application.goal = 10 * MB;
        both.server.application.goal = 10 * MB;
        both.run_for(SECOND);
        both.sim.kill(victim);
        assert!(both.server.application.received < 8 * MB);
        let begin = both.sim.now();
        let arrived = both.run_while(20 * SECOND, |both| {
            both.server.application.received < 10 * MB || both.client.application.received < 10 * MB
        });
        assert!(arrived, "victim {victim}: {:?} {:?}", both.client.application, both.server.application);
        println!("relay {victim} died, the rest took {:?}", both.sim.now() - begin);
        finish(&mut both);
    }
}

/// Megabytes in so much time by these paths.
fn goodput(both: &mut Both, seconds: u32) -> u64 {
    both.run_for(3 * SECOND);
    both.client.application.goal = u64::MAX;
    both.run_for(2 * SECOND);
    let before = both.server.application.received;
    both.run_for(seconds * SECOND);
    (both.server.application.received - before) / u64::from(seconds)
}

#[test]
fn two_legs_carry_more_than_one_and_a_slow_one_is_no_harm() {
    let slow_second = |slow: Option<LinkShape>| {
        let mut both = both(link(15, 4_000), &[&[1, 2], &[3, 4]]);
        if let Some(shape) = slow {
            both.sim.shape(3, 4, shape);
        }
        both
    };
    let mut one = both(link(15, 4_000), &[&[1, 2]]);
    one.run_for(SECOND);
    one.keeps_up = false;
    let one = goodput(&mut one, 5);
    let two = goodput(&mut slow_second(None), 5);
    let slow = goodput(&mut slow_second(Some(link(15, 400))), 5);
    let far = goodput(&mut slow_second(Some(link(150, 400))), 5);
    println!("one leg {one} B/s, two {two} B/s, a second of a tenth {slow} B/s, and far away {far} B/s");
    assert!(one > 3 * MB, "{one}");
    assert!(two * 10 > one * 18, "{two} {one}");
    assert!(slow * 10 > one * 10, "{slow} {one}");
    assert!(far * 10 > one * 9, "{far} {one}");
}

/// The last bytes do not wait for the slow leg that carries them.
#[test]
fn the_end_of_a_transfer_does_not_wait_for_a_slow_leg() {
    let took = |both: &mut Both| {
        both.run_for(3 * SECOND);
        (0..5).map(|_| exchange(both, MB)).max().unwrap()
    };
    let mut one = both(link(15, 4_000), &[&[1, 2]]);
    one.run_for(SECOND);
    one.keeps_up = false;
    let one = took(&mut one);
    let mut slow = both(link(15, 4_000), &[&[1, 2], &[3, 4]]);
    for (from, to) in [(3, 4), (4, 3)] {
        slow.sim.shape(from, to, link(250, 200));
    }
    let slow = took(&mut slow);
    println!("a megabyte each way by one leg {one:?}, with a slow second {slow:?}");
    assert!(slow < one * 5 / 4, "{slow:?} {one:?}");
}

/// A message now and then goes by the nearer leg.
#[test]
fn a_little_goes_by_the_nearest_leg() {
    let mut both = both(link(10, 4_000), &[&[1, 2], &[3, 4]]);
    both.sim.shape(3, 4, link(300, 4_000));
    both.sim.shape(4, 3, link(300, 4_000));
    both.run_for(5 * SECOND);
    let mut slowest = Duration::ZERO;
    for _ in 0..20 {
        slowest = slowest.max(exchange(&mut both, 2000));
        both.run_for(ms(200));
    }
    println!("{slowest:?} at most, 30 ms on an idle path");
    assert!(slowest < ms(60), "{slowest:?}");
}

/// A relay that keeps its circuit and forwards nothing.
#[test]
fn a_leg_that_swallows_everything_is_given_up() {
    let mut both = both(link(10, 4_000), PATHS);
    both.run_for(2 * SECOND);
    both.client.application.goal = 4 * MB;
    both.run_for(ms(500));
    // Nothing leaves any more within the hour.
    both.sim.shape(1, 2, LinkShape { latency: Duration::from_secs(3600), bytes_per_second: 4 * MB });
    let begin = both.sim.now();
    assert!(both.run_while(60 * SECOND, |both| both.server.application.received < 4 * MB));
    println!("a silent relay cost {:?}", both.sim.now() - begin);
    assert!(both.sim.now() - begin < 4 * SECOND, "{:?}", both.sim.now() - begin);
    both.run_for(20 * SECOND);
    assert_eq!(both.client.lost, [nonos_onion::conflux::LegFault::Stalled]);
    finish(&mut both);
}
