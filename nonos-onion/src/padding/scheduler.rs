use core::time::Duration;

use maybenot::action::Action;
use maybenot::dist::{Dist, DistType};
use maybenot::event::Event;
use maybenot::state::{State, Trans};
use maybenot::{Framework, Machine, MachineId, TriggerAction, TriggerEvent};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

/// Microseconds after which a gap in the traffic is filled, at least and at most.
const GAP_MICROS: (f64, f64) = (1_000.0, 50_000.0);
/// Microseconds between signs of life of a circuit at rest.
const REST_MICROS: (f64, f64) = (1_500_000.0, 9_500_000.0);
/// Signs of life of a circuit at rest.
const REST_CELLS: f64 = 8.0;

/// Tells when to send a DROP: a maybenot machine with gaps and bursts of its own for each circuit.
///
/// A gap in the traffic is filled by a few cells, so that where a burst ends is not to be seen, and then a
/// circuit at rest shows a few signs of life. While traffic flows nothing is added.
pub(crate) struct Scheduler {
    framework: Framework<[Machine; 1], Random, Instant>,
    due: Option<Duration>,
}

impl Scheduler {
    /// Of a circuit from `now` on; all its randomness is from the seed.
    pub(crate) fn new(percent: u8, now: Duration, seed: [u8; 32]) -> Option<Self> {
        let mut random = Random(ChaCha20Rng::from_seed(seed));
        // Its own bound, in shares of all cells; the budget is another one.
        let share = f64::from(percent) / f64::from(100 + u32::from(percent));
        let machine = machine(&mut random, share)?;
        let framework = Framework::new([machine], share, 0.0, Instant(now), random).ok()?;
        Some(Self { framework, due: None })
    }

    /// When the next DROP is due.
    pub(crate) const fn due(&self) -> Option<Duration> {
        self.due
    }

    /// Another cell than a DROP was sent, or came.
    pub(crate) fn cell(&mut self, is_sent: bool, now: Duration) {
        self.trigger(&if is_sent { TriggerEvent::NormalSent } else { TriggerEvent::NormalRecv }, now);
    }

    /// A DROP came.
    pub(crate) fn dropped(&mut self, now: Duration) {
        self.trigger(&TriggerEvent::PaddingRecv, now);
    }

    /// The DROP that was due was sent, or something else waits that hides as well.
    pub(crate) fn sent(&mut self, now: Duration) {
        self.due = None;
        self.trigger(&TriggerEvent::PaddingSent { machine: MachineId::from_raw(0) }, now);
    }

    /// The DROP that was due cannot be sent; another cell may make the next one due.
    pub(crate) const fn skip(&mut self) {
        self.due = None;
    }

    fn trigger(&mut self, event: &TriggerEvent, now: Duration) {
        for action in self.framework.trigger_events(core::slice::from_ref(event), Instant(now)) {
            match action {
                TriggerAction::SendPadding { timeout, .. } => self.due = Some(now.saturating_add(*timeout)),
                TriggerAction::Cancel { .. } => self.due = None,
                // Our machine neither holds back cells nor has a second timer.
                TriggerAction::BlockOutgoing { .. } | TriggerAction::UpdateTimer { .. } => {}
            }
        }
    }
}

impl core::fmt::Debug for Scheduler {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Scheduler").field("due", &self.due).finish_non_exhaustive()
    }
}

/// Waits for traffic (state 0), fills gaps (1), shows life at rest (2).
fn machine(random: &mut Random, share: f64) -> Option<Machine> {
    // Between a fiftieth and all of the longest gap, and between two and ten cells to fill it, on average.
    let longest = GAP_MICROS.0 + random.share() * (GAP_MICROS.1 - GAP_MICROS.0);
    #[expect(clippy::cast_possible_truncation, reason = "a probability")]
    let again = (0.5 + random.share() * 0.4) as f32;
    let pad = |low, high, limit: Option<Dist>| {
        let timeout = Dist::new(DistType::Uniform { low, high }, 0.0, 0.0);
        Some(Action::SendPadding { bypass: false, replace: true, timeout, limit })
    };
    let state = |on_padding: &[Trans], action| {
        let mut transitions = State::new(Default::default()).get_transitions();
        transitions[Event::NormalSent] = vec![Trans(1, 1.0)];
        transitions[Event::NormalRecv] = vec![Trans(1, 1.0)];
        transitions[Event::PaddingSent] = on_padding.to_vec();
        let mut state = State::new(transitions);
        state.action = action;
        state
    };
    let rest = Dist::new(DistType::Uniform { low: REST_CELLS, high: REST_CELLS }, 0.0, 0.0);
    let states = vec![
        state(&[], None),
        state(&[Trans(1, again), Trans(2, 1.0 - again)], pad(GAP_MICROS.0.min(longest), longest, None)),
        state(&[Trans(2, 1.0)], pad(REST_MICROS.0, REST_MICROS.1, Some(rest))),
    ];
    Machine::new(super::FREE_CELLS, share, 0, 0.0, states).ok()
}

/// A time of the monotonic clock.
#[derive(Clone, Copy)]
struct Instant(Duration);

impl maybenot::time::Instant for Instant {
    type Duration = Duration;

    fn saturating_duration_since(&self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// The generator that everything here draws from, in the words of the older generation of traits.
struct Random(ChaCha20Rng);

impl Random {
    /// From 0 to 1.
    fn share(&mut self) -> f64 {
        f64::from(self.0.next_u32()) / f64::from(u32::MAX)
    }
}

impl rand_core::RngCore for Random {
    fn next_u32(&mut self) -> u32 {
        self.0.next_u32()
    }

    fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        self.0.fill_bytes(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// The DROPs of a circuit that sends a cell each millisecond for so long and then rests for a minute.
    fn drops(seed: u8, percent: u8, busy: u32) -> Vec<Duration> {
        let (mut now, mut drops) = (Duration::from_secs(5), Vec::new());
        let mut scheduler = Scheduler::new(percent, now, [seed; 32]).unwrap();
        assert_eq!(scheduler.due(), None, "nothing before there is traffic");
        for millisecond in 0..60_000 {
            if millisecond < busy {
                scheduler.cell(true, now);
            }
            now += MS;
            while scheduler.due().is_some_and(|due| due <= now) {
                drops.push(now);
                scheduler.sent(now);
            }
        }
        drops
    }

    #[test]
    fn gaps_are_filled_and_traffic_is_not() {
        for seed in 0..20 {
            let drops = drops(seed, 100, 1000);
            let rest = Duration::from_secs(5) + 1000 * MS;
            let within = drops.iter().filter(|&&at| at < rest).count();
            let after = drops.iter().filter(|&&at| at >= rest).count();
            assert!(within < 100, "seed {seed}: {within} while cells were sent");
            assert!((8..200).contains(&after), "seed {seed}: {after}");
        }
    }

    #[test]
    fn the_seed_decides() {
        assert_eq!(drops(1, 15, 500), drops(1, 15, 500));
        assert_ne!(drops(1, 15, 500), drops(2, 15, 500));
    }
}
