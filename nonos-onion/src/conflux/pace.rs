use core::time::Duration;

use crate::conflux::frame::SEGMENT_BYTES;

/// In flight on a leg of which nothing is known.
const FIRST_BYTES: u64 = 16 * SEGMENT_BYTES as u64;
/// In flight on the slowest leg.
const LEAST_BYTES: u64 = 4 * SEGMENT_BYTES as u64;
/// How long bytes may wait on the way beyond the round trip.
const SLACK: Duration = Duration::from_millis(50);

/// What is known when a segment leaves, and makes a sample of the rate once it is acknowledged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Departure {
    at: Duration,
    delivered: u64,
    delivered_at: Duration,
    /// The window held back more.
    is_full: bool,
}

/// How fast a leg delivers, and so how much of it may be in flight.
///
/// The leg's circuit has a window of its own, which fills the path. This one keeps the queue of a slow leg
/// short, so that what it carries is not missing for long at the other end: twice the round trip and
/// [`SLACK`], at the rate at which bytes were delivered (delivery rate: Cardwell et al.,
/// draft-ietf-ccwg-bbr, section 4.5.2).
#[derive(Debug, Default)]
pub(crate) struct Pace {
    shortest: Option<Duration>,
    smoothed: Duration,
    /// Bytes per second.
    rate: u64,
    /// A full window did not make it faster.
    is_settled: bool,
    in_flight: u64,
    delivered: u64,
    delivered_at: Duration,
}

impl Pace {
    /// The smoothed round trip; `None` before the first sample.
    pub(crate) fn round_trip(&self) -> Option<Duration> {
        self.shortest.map(|_| self.smoothed)
    }

    /// How long a leg takes to deliver so many bytes more, from now on; the least that it may be while it grows.
    pub(crate) fn time_for(&self, bytes: u64) -> Duration {
        if !self.is_settled {
            return self.smoothed;
        }
        let micros = u128::from(bytes) * 1_000_000 / u128::from(self.rate.max(1));
        self.smoothed.saturating_add(Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX)))
    }

    pub(crate) fn is_full(&self) -> bool {
        self.in_flight >= self.window()
    }

    /// Whether another leg's bytes may be sent here too.
    pub(crate) fn is_idle(&self) -> bool {
        self.in_flight < self.window() / 2
    }

    fn window(&self) -> u64 {
        let Some(shortest) = self.shortest else { return FIRST_BYTES };
        per(self.rate, 2 * shortest + SLACK).max(LEAST_BYTES)
    }

    pub(crate) fn sent(&mut self, now: Duration, bytes: usize) -> Departure {
        if self.in_flight == 0 {
            self.delivered_at = now;
        }
        self.in_flight += bytes as u64;
        let is_full = self.in_flight + LEAST_BYTES / 2 >= self.window();
        Departure { at: now, delivered: self.delivered, delivered_at: self.delivered_at, is_full }
    }

    /// The first round trip, of frames that carry nothing.
    pub(crate) fn answered(&mut self, round_trip: Duration) {
        if self.shortest.is_none() {
            self.smoothed = round_trip;
            self.shortest = Some(round_trip);
            // The window stays what it is.
            self.rate = rate(FIRST_BYTES, 2 * round_trip + SLACK);
        }
    }

    /// Bytes were delivered, the last of which left as `departure`.
    pub(crate) fn delivered(&mut self, now: Duration, bytes: u64, departure: &Departure) {
        self.in_flight = self.in_flight.saturating_sub(bytes);
        self.delivered += bytes;
        self.delivered_at = now;
        let round_trip = now.saturating_sub(departure.at);
        self.answered(round_trip);
        self.smoothed = (7 * self.smoothed + round_trip) / 8;
        self.shortest = self.shortest.map(|shortest| shortest.min(round_trip));
        let took = now.saturating_sub(departure.delivered_at);
        let sample = rate(self.delivered - departure.delivered, took);
        if sample > self.rate {
            self.rate = sample;
        } else if departure.is_full {
            // One that had less to send says nothing.
            self.is_settled = true;
            self.rate -= (self.rate - sample) / 8;
        }
    }
}

fn per(rate: u64, time: Duration) -> u64 {
    let bytes = u128::from(rate) * time.as_micros() / 1_000_000;
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

fn rate(bytes: u64, time: Duration) -> u64 {
    let per_second = u128::from(bytes) * 1_000_000 / time.as_micros().max(1);
    u64::try_from(per_second).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUND_TRIP: Duration = Duration::from_millis(100);

    /// Bytes in flight after a while on a path of this rate, with always more to send.
    fn settles_at(bytes_per_second: u64) -> u64 {
        let mut pace = Pace::default();
        let (mut now, mut free_at) = (Duration::ZERO, Duration::ZERO);
        let mut flight = std::collections::VecDeque::new();
        for _ in 0..20_000 {
            while !pace.is_full() {
                free_at = free_at.max(now)
                    + Duration::from_secs(SEGMENT_BYTES as u64) / u32::try_from(bytes_per_second).unwrap();
                flight.push_back((free_at + ROUND_TRIP, pace.sent(now, SEGMENT_BYTES)));
            }
            let (at, departure) = flight.pop_front().unwrap();
            now = at;
            pace.delivered(now, SEGMENT_BYTES as u64, &departure);
        }
        pace.in_flight
    }

    #[test]
    fn a_path_is_filled_and_not_flooded() {
        for rate in [100_000, 1_000_000, 10_000_000] {
            let holds = rate / 10;
            let flight = settles_at(rate);
            assert!(flight >= holds.max(LEAST_BYTES) - SEGMENT_BYTES as u64, "{flight} at {rate} B/s");
            assert!(flight <= (3 * holds).max(LEAST_BYTES) + SEGMENT_BYTES as u64, "{flight} at {rate} B/s");
        }
    }
}
