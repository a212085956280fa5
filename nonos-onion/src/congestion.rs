//! Congestion control of a circuit, at the end that sends: Vegas as in Tor proposal 324, section 3.3.
//!
//! The window is what may be in flight. A round trip longer than the shortest one seen means that cells
//! wait in queues; their number is estimated as `window - window * shortest / shortest of this round`, and
//! the window keeps it between two bounds. At the start it doubles, in bursts that queue behind themselves; so the
//! start looks at the first cells of each burst alone (HyStart: Ha and Rhee, "Taming the elephants", 2011). A start that
//! a queue of the moment ended goes on, by a quarter each round trip, once nothing waits (HyStart++: RFC 9406).
//! Acknowledgements echo the tag of a cell that only its receiver knows,
//! so no receiver can claim more than it got.

use core::time::Duration;

use crate::config::Limits;

/// Cells acknowledged together.
const STEP: u32 = Limits::SENDME_STEP_CELLS;
/// A window before anything is known. Half a megabyte: where that is too much it waits behind everybody who sends less.
const INITIAL: u32 = 16 * STEP;
/// So many first windows a path holds that passes one within that part of its round trip: the start then goes there in
/// one round trip instead of two. A path of 150 ms carries 13 MB/s in the second, and no narrow one is flooded, as by a
/// larger first window, which asks neither path nor reader.
pub(crate) const LEAP: u32 = 4;
/// What a window never falls below.
const MINIMUM: u32 = 2 * STEP;
/// Cells of one write of a link: what waits on a path that nobody else uses.
const WRITE: u32 = 32;
/// Fewer cells in queues than this: the window grows.
const ALPHA: u32 = 3 * WRITE;
/// More: it shrinks.
const BETA: u32 = 4 * WRITE;
/// More, at the start: the start is over; that many or a [`SHARE`] of what the path holds, whichever is more.
const GAMMA: u32 = 3 * WRITE;
/// Round trips vary by their length, not by a number of cells (HyStart's eighth, halved).
const SHARE: u32 = 16;
/// Fewer than this, after the start: nothing waits, and the start goes on.
const EPSILON: u32 = WRITE;
/// A start that goes on grows by such a part in a round trip (RFC 9406, `CSS_GROWTH_DIVISOR`).
const CALM: u32 = 4;
/// More: it falls to what the path holds and this.
const DELTA: u32 = 5 * WRITE;
/// A window above which the start doubles it no more.
const START_CAP: u32 = 4096;
/// Acknowledgements at the head of a round whose shortest tells whether the start is over.
const HEAD: u32 = 4;
/// A sample so many times longer, or shorter, than the smoothed one tells of a clock, not of a path.
const JUMP: u32 = 5000;

/// What makes a window grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Growth {
    /// Acknowledgements, doubling it each round trip.
    Start,
    /// The same by a quarter, as the start ended too early or the path became wider.
    Resumed,
    /// Round trips in which too little waits.
    Vegas,
}

/// The window of a circuit.
#[derive(Debug)]
pub(crate) struct Vegas {
    window: u32,
    limit: u32,
    /// Cells sent and acknowledged.
    sent: u64,
    acknowledged: u64,
    shortest: Duration,
    /// The shortest of this round: what waits all the time, and not for a moment behind a burst.
    shortest_of_round: Duration,
    /// Zero before the first sample.
    smoothed: Duration,
    growth: Growth,
    /// Most in flight in this round: acknowledgements come in bunches, with nothing sent between them.
    peak: u32,
    /// Acknowledgements of this round trip so far; it ends with that of the last cell sent when it began.
    seen: u32,
    until: u64,
}

impl Vegas {
    /// A window that never exceeds so many cells.
    pub(crate) fn new(limit: u32) -> Self {
        Self {
            window: INITIAL.min(limit),
            limit,
            sent: 0,
            acknowledged: 0,
            shortest: Duration::MAX,
            smoothed: Duration::ZERO,
            shortest_of_round: Duration::MAX,
            growth: Growth::Start,
            peak: 0,
            seen: 0,
            until: 0,
        }
    }

    /// One that follows nothing.
    #[cfg(test)]
    pub(crate) fn greedy() -> Self {
        Self { window: u32::MAX, ..Self::new(u32::MAX) }
    }

    /// Cells that may be sent now.
    pub(crate) fn credit(&self) -> u32 {
        self.window.saturating_sub(self.in_flight())
    }

    fn in_flight(&self) -> u32 {
        u32::try_from(self.sent - self.acknowledged).unwrap_or(u32::MAX)
    }

    /// Books a cell that was sent.
    pub(crate) fn sent(&mut self) {
        self.sent += 1;
        self.peak = self.peak.max(self.in_flight());
    }

    /// Books the acknowledgement of a step of cells, the last of which was handed over `round_trip` ago: what
    /// waited for this node's own link counts like any other queue.
    pub(crate) fn acknowledged(&mut self, round_trip: Duration) {
        self.acknowledged = (self.acknowledged + u64::from(STEP)).min(self.sent);
        if !self.sample(round_trip) {
            return;
        }
        self.seen += 1;
        self.shortest_of_round = self.shortest_of_round.min(round_trip);
        let is_over = self.acknowledged >= self.until;
        if self.growth != Growth::Vegas {
            self.start(round_trip);
        } else if is_over {
            self.follow();
        }
        if is_over {
            // What this acknowledgement lets go is the tail of a burst that waits for itself, not the next one's head.
            let tail = if self.fills(2) { self.credit() } else { 0 };
            (self.seen, self.until, self.shortest_of_round) = (0, self.sent + u64::from(tail), Duration::MAX);
            self.peak = self.in_flight();
        }
    }

    /// Whether the window is less than so many times what was in flight of late: an application that sends less says
    /// nothing about a larger one.
    fn fills(&self, times: u32) -> bool {
        self.window < self.peak.saturating_mul(times)
    }

    /// Lets the window grow with each acknowledgement, until the head of one waits.
    fn start(&mut self, round_trip: Duration) {
        if self.seen == HEAD {
            let holds = self.path_holds();
            let gamma = GAMMA.max(holds / SHARE);
            if self.window - holds >= gamma {
                self.growth = Growth::Vegas;
                // What is in flight still tells of the larger window.
                self.until = self.sent;
                return self.set(holds + gamma);
            }
        }
        let is_quick = round_trip <= self.shortest + self.shortest / LEAP;
        let step = match self.window {
            _ if self.growth == Growth::Resumed => STEP / CALM,
            // Beyond the cap by half of that in a round trip (RFC 3742).
            window if window > START_CAP => (STEP * START_CAP / 2).div_ceil(window),
            window if window < LEAP * INITIAL && is_quick && self.fills(LEAP) => (LEAP - 1) * STEP,
            _ => STEP,
        };
        if step > STEP || self.fills(2) {
            self.set(self.window + step);
        }
    }

    /// Keeps what waits between two bounds.
    fn follow(&mut self) {
        let holds = self.path_holds();
        let is_full = self.peak + STEP >= self.window;
        match self.window - holds {
            queued if queued > DELTA => self.set(holds + DELTA - STEP),
            queued if queued > BETA => self.set(self.window - STEP),
            queued if queued < ALPHA && is_full => {
                if queued < EPSILON {
                    self.growth = Growth::Resumed;
                }
                self.set(self.window + STEP);
            }
            _ => {}
        }
    }

    fn set(&mut self, window: u32) {
        self.window = window.clamp(MINIMUM, self.limit);
    }

    /// Takes a round trip into account, if it can be one.
    fn sample(&mut self, round_trip: Duration) -> bool {
        if round_trip.is_zero() {
            return false;
        }
        if self.smoothed.is_zero() {
            self.smoothed = round_trip;
        } else if round_trip > self.smoothed.saturating_mul(JUMP)
            || self.smoothed > round_trip.saturating_mul(JUMP)
        {
            return false;
        }
        self.smoothed = (self.smoothed + round_trip) / 2;
        if self.growth == Growth::Vegas && self.window == MINIMUM {
            // The path may have become longer for good; a window at its floor would never find out.
            self.shortest = self.smoothed;
        }
        self.shortest = self.shortest.min(round_trip);
        true
    }

    /// Cells that travel when none wait: the window's share of the time on the path.
    fn path_holds(&self) -> u32 {
        let (shortest, round_trip) = (self.shortest.as_nanos(), self.shortest_of_round.as_nanos().max(1));
        u32::try_from(u128::from(self.window) * shortest / round_trip).unwrap_or(u32::MAX).min(self.window)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    const LIMIT: u32 = 8192;
    const PATH: Duration = Duration::from_millis(100);

    /// A path whose narrowest link takes `holds` cells in the time of the path, and queues the rest.
    struct Network {
        now: Duration,
        free_at: Duration,
        sent: u32,
        /// When acknowledgements arrive, and when their cells were sent.
        acknowledgements: VecDeque<(Duration, Duration)>,
    }

    impl Network {
        fn new() -> Self {
            Self {
                now: Duration::from_secs(5),
                free_at: Duration::ZERO,
                sent: 0,
                acknowledgements: VecDeque::new(),
            }
        }

        /// Sends all that the window allows for a time, and yields the window then.
        fn run(&mut self, vegas: &mut Vegas, holds: u32, time: Duration) -> u32 {
            let end = self.now + time;
            while self.now < end {
                for _ in 0..vegas.credit() {
                    vegas.sent();
                    self.sent += 1;
                    self.free_at = self.free_at.max(self.now) + PATH / holds;
                    if self.sent.is_multiple_of(STEP) {
                        self.acknowledgements.push_back((self.free_at + PATH, self.now));
                    }
                }
                let (at, sent) = self.acknowledgements.pop_front().unwrap();
                self.now = at;
                vegas.acknowledged(at - sent);
            }
            vegas.window
        }
    }

    fn after(seconds: u64, holds: u32, limit: u32) -> u32 {
        Network::new().run(&mut Vegas::new(limit), holds, Duration::from_secs(seconds))
    }

    #[test]
    fn the_window_finds_what_the_path_holds() {
        for holds in [300, 1000, 3000] {
            let window = after(20, holds, LIMIT);
            assert!((holds..=holds + DELTA + STEP).contains(&window), "{window} over {holds}");
        }
    }

    /// A first window of which the last cell arrives so much later than the path takes.
    fn after_the_first_window(train: Duration) -> u32 {
        let (mut vegas, steps) = (Vegas::new(LIMIT), INITIAL / STEP);
        for step in 1..=steps {
            (0..vegas.credit()).for_each(|_| vegas.sent());
            vegas.acknowledged(PATH + train * step / steps);
        }
        vegas.window
    }

    #[test]
    fn only_a_path_that_holds_as_much_is_given_four_times_the_first_window() {
        assert_eq!(after_the_first_window(PATH / LEAP), LEAP * INITIAL);
        let narrow = after_the_first_window(PATH);
        assert!(narrow < 3 * INITIAL, "{narrow}");
    }

    #[test]
    fn a_start_leaps_once() {
        let (mut network, mut vegas) = (Network::new(), Vegas::new(LIMIT));
        // Each ends with the first acknowledgement of the round trip after it.
        let mut round_trip = || network.run(&mut vegas, 1 << 20, PATH / 2) / INITIAL;
        assert_eq!([(); 3].map(|()| round_trip()), [1, LEAP, 2 * LEAP]);
    }

    #[test]
    fn acknowledgements_in_a_bunch_open_as_much() {
        let mut vegas = Vegas::new(LIMIT);
        (0..INITIAL).for_each(|_| vegas.sent());
        (0..INITIAL / STEP).for_each(|_| vegas.acknowledged(PATH));
        assert!(vegas.window > 3 * INITIAL, "{}", vegas.window);
    }

    #[test]
    fn a_start_that_a_delay_of_the_moment_ended_goes_on() {
        let mut vegas = Vegas::new(LIMIT);
        // A round trip of whatever is in flight, with nothing queued.
        let round_trip = |vegas: &mut Vegas, time| {
            (0..vegas.credit()).for_each(|_| vegas.sent());
            (0..vegas.in_flight() / STEP).for_each(|_| vegas.acknowledged(time));
        };
        round_trip(&mut vegas, PATH);
        round_trip(&mut vegas, PATH * 2);
        assert_eq!(vegas.growth, Growth::Vegas);
        // The round trip that the end had begun still counts its cells; nothing waits in the next.
        (0..2).for_each(|_| round_trip(&mut vegas, PATH));
        assert_eq!(vegas.growth, Growth::Resumed);
        let before = vegas.window;
        round_trip(&mut vegas, PATH);
        let quarter = before / CALM;
        assert!(
            (quarter / 2..=quarter).contains(&(vegas.window - before)),
            "{} after {before}",
            vegas.window
        );
        (0..8).for_each(|_| round_trip(&mut vegas, PATH));
        assert!(vegas.window > 4 * before, "{} after {before}", vegas.window);
    }

    #[test]
    fn a_round_lasts_until_what_its_end_lets_go_is_acknowledged() {
        let until = |cells: u32| {
            let mut vegas = Vegas::new(LIMIT);
            (0..cells).for_each(|_| vegas.sent());
            vegas.acknowledged(PATH);
            (vegas.until, vegas.credit())
        };
        let (full, credit) = until(INITIAL);
        assert_eq!(full, u64::from(INITIAL + credit));
        // One that sends little does not use its credit, and would never be done.
        assert_eq!(until(2 * STEP).0, u64::from(2 * STEP));
    }

    #[test]
    fn a_start_bears_delays_in_proportion_to_the_path() {
        // A window that would be over its bound in cells by what a twentieth of the path is to it.
        let after = |delay: Duration| {
            let mut vegas = Vegas::new(LIMIT);
            while vegas.window < 3000 {
                (0..vegas.credit()).for_each(|_| vegas.sent());
                vegas.acknowledged(PATH);
            }
            (0..2 * vegas.window / STEP).for_each(|_| {
                (0..vegas.credit()).for_each(|_| vegas.sent());
                vegas.acknowledged(PATH + delay);
            });
            vegas.growth
        };
        assert_eq!(after(PATH / 20), Growth::Start);
        assert_eq!(after(PATH / 10), Growth::Vegas);
    }

    #[test]
    fn the_window_follows_a_path_that_gets_narrow_or_wide() {
        let (mut network, mut vegas) = (Network::new(), Vegas::new(LIMIT));
        network.run(&mut vegas, 2000, Duration::from_secs(5));
        let narrow = network.run(&mut vegas, 300, Duration::from_secs(10));
        assert!(narrow <= 300 + DELTA + STEP, "{narrow}");
        let wide = network.run(&mut vegas, 1000, Duration::from_secs(10));
        assert!(wide >= 900, "{wide}");
    }

    #[test]
    fn the_window_keeps_its_bounds() {
        assert_eq!(after(5, 1 << 20, LIMIT), LIMIT);
        assert_eq!(after(5, 1 << 20, 4 * STEP), 4 * STEP);
        let window = after(60, 20, LIMIT);
        assert!((MINIMUM..=20 + DELTA + STEP).contains(&window), "{window}");
    }

    #[test]
    fn who_sends_little_gets_no_larger_window() {
        let mut vegas = Vegas::new(LIMIT);
        for _ in 0..500 {
            (0..STEP).for_each(|_| vegas.sent());
            vegas.acknowledged(PATH);
        }
        assert_eq!(vegas.window, INITIAL);
    }

    #[test]
    fn times_of_a_clock_that_jumps_do_not_count() {
        let mut vegas = Vegas::new(LIMIT);
        Network::new().run(&mut vegas, 1000, Duration::from_secs(5));
        let (window, shortest) = (vegas.window, vegas.shortest);
        for round_trip in [Duration::ZERO, Duration::from_nanos(1), Duration::from_hours(1)] {
            (0..vegas.credit()).for_each(|_| vegas.sent());
            vegas.acknowledged(round_trip);
            assert_eq!((vegas.window, vegas.shortest), (window, shortest), "{round_trip:?}");
        }
    }

    #[test]
    fn more_acknowledgements_than_cells_open_nothing() {
        let mut vegas = Vegas::new(LIMIT);
        (0..STEP).for_each(|_| vegas.sent());
        (0..10).for_each(|_| vegas.acknowledged(PATH));
        assert!(vegas.credit() <= vegas.window);
    }
}
