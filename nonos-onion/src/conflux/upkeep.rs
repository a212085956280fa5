use core::time::Duration;
use std::collections::BTreeMap;

use nonos_identity::{Epoch, NodeId, Timestamp};

use crate::conflux::config::Config;
use crate::conflux::session::LegId;

/// Legs that a stream keeps: it uses both, and outlives one.
const LEGS: usize = 2;
/// How long into an epoch the next one's circuits are made: 80 %, and at most 10 % more by chance, so that a
/// relay does not see all streams move at one instant.
const LEAD: Duration = Duration::from_secs(480);
const LEAD_SPREAD_SECS: u64 = 60;
/// Before a circuit is tried again; doubles to the longest.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// How long a leg must have been good for its loss to be bad luck, and failures must be apart to be forgotten.
/// Against relays that break circuits until they are on both ends of one.
const STEADY: Duration = Duration::from_secs(60);

/// What to do about the legs of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Build a circuit; answer with [`Upkeep::built`] or [`Upkeep::failed`].
    Build {
        /// The epoch whose keys it is to use.
        epoch: Epoch,
        /// Relays of the other legs, or of one that was lost.
        avoid: Vec<NodeId>,
    },
    /// Retire a leg.
    Retire {
        /// The leg.
        leg: LegId,
    },
}

#[derive(Debug)]
struct Kept {
    epoch: Epoch,
    relays: Vec<NodeId>,
    linked_at: Option<Duration>,
    is_retiring: bool,
}

/// Decides at the client when to build circuits and when to retire legs: two legs, those of the next epoch made
/// before those of this one break.
///
/// Ask for steps until there is none, after each event and at least once a second.
#[derive(Debug)]
pub struct Upkeep {
    legs: BTreeMap<LegId, Kept>,
    lead: Duration,
    is_building: bool,
    failures: u32,
    failed_at: Duration,
    retry_at: Duration,
    /// Of the leg that was lost last, until another one is linked.
    suspects: Vec<NodeId>,
    is_winding_down: bool,
}

impl Upkeep {
    /// One without legs; `chance` is any random number.
    #[must_use]
    pub const fn new(chance: u64) -> Self {
        Self {
            legs: BTreeMap::new(),
            lead: Duration::from_secs(LEAD.as_secs() + chance % LEAD_SPREAD_SECS),
            is_building: false,
            failures: 0,
            failed_at: Duration::ZERO,
            retry_at: Duration::ZERO,
            suspects: Vec::new(),
            is_winding_down: false,
        }
    }

    /// The next step, by the wall clock and by one that never jumps.
    pub fn step(&mut self, wall: Timestamp, now: Duration) -> Option<Step> {
        let epoch = self.epoch_at(wall);
        let active = || self.legs.iter().filter(|(_, leg)| !leg.is_retiring);
        let linked = active().filter(|(_, leg)| leg.linked_at.is_some()).count();
        let fresh = active().filter(|(_, leg)| leg.epoch >= epoch).count();
        let wanted = if self.is_winding_down { 1 } else { LEGS };
        if linked > wanted && !self.is_winding_down {
            // The oldest one has the least time left.
            let (&leg, _) = active().min_by_key(|(id, leg)| (leg.epoch, **id))?;
            self.legs.get_mut(&leg)?.is_retiring = true;
            return Some(Step::Retire { leg });
        }
        let is_due = !self.is_building && now >= self.retry_at && self.legs.len() < Config::MAX_LEGS;
        let is_needed = if self.is_winding_down { self.legs.is_empty() } else { fresh < wanted };
        if !is_due || !is_needed {
            return None;
        }
        let others = active().filter(|(_, leg)| leg.epoch >= epoch).flat_map(|(_, leg)| leg.relays.clone());
        let avoid = others.chain(self.suspects.iter().copied()).collect();
        self.is_building = true;
        Some(Step::Build { epoch, avoid })
    }

    /// The circuit that was asked for is there, of an epoch and through relays, and is a leg now.
    pub fn built(&mut self, wall: Timestamp, now: Duration, leg: LegId, epoch: Epoch, relays: Vec<NodeId>) {
        self.is_building = false;
        if epoch < self.epoch_at(wall) {
            // Better than nothing, and to be replaced, but not at once.
            self.pause(now);
        }
        self.legs.insert(leg, Kept { epoch, relays, linked_at: None, is_retiring: false });
    }

    /// It cannot be had.
    pub fn failed(&mut self, now: Duration) {
        self.is_building = false;
        self.pause(now);
    }

    /// The server answered on a leg.
    pub fn linked(&mut self, now: Duration, leg: LegId) {
        if let Some(leg) = self.legs.get_mut(&leg) {
            leg.linked_at = Some(now);
            self.suspects.clear();
        }
    }

    /// A leg is gone.
    pub fn gone(&mut self, now: Duration, leg: LegId) {
        let Some(leg) = self.legs.remove(&leg) else { return };
        if !leg.is_retiring {
            self.suspects = leg.relays;
            if leg.linked_at.is_none_or(|at| now.saturating_sub(at) < STEADY) {
                self.pause(now);
            }
        }
    }

    /// Both ends have everything: one leg to say so is enough.
    pub const fn wind_down(&mut self) {
        self.is_winding_down = true;
    }

    /// The epoch whose circuits are wanted.
    fn epoch_at(&self, wall: Timestamp) -> Epoch {
        let epoch = Epoch::at(wall);
        if wall >= epoch.start().saturating_add(self.lead) { epoch.next() } else { epoch }
    }

    fn pause(&mut self, now: Duration) {
        if now.saturating_sub(self.failed_at) >= STEADY {
            self.failures = 0;
        }
        let pause = SHORTEST_PAUSE.saturating_mul(1 << self.failures.min(16)).min(LONGEST_PAUSE);
        self.failures = self.failures.saturating_add(1);
        self.failed_at = now;
        self.retry_at = now + pause;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1);

    fn relays(number: u8) -> Vec<NodeId> {
        vec![NodeId::from_bytes([number; 32])]
    }

    #[test]
    fn successors_are_linked_before_their_elders_retire() {
        let mut upkeep = Upkeep::new(0);
        let epoch = Epoch::from_number(9);
        let mut wall = epoch.start();
        let build = |epoch, avoid| Some(Step::Build { epoch, avoid });
        assert_eq!(upkeep.step(wall, NOW), build(epoch, vec![]));
        assert_eq!(upkeep.step(wall, NOW), None, "one at a time");
        upkeep.built(wall, NOW, LegId(1), epoch, relays(1));
        assert_eq!(upkeep.step(wall, NOW), build(epoch, relays(1)));
        upkeep.built(wall, NOW, LegId(2), epoch, relays(2));
        upkeep.linked(NOW, LegId(1));
        upkeep.linked(NOW, LegId(2));
        assert_eq!(upkeep.step(wall, NOW), None);

        wall = epoch.start().saturating_add(LEAD);
        assert_eq!(upkeep.step(wall, NOW), build(epoch.next(), vec![]));
        upkeep.built(wall, NOW, LegId(3), epoch.next(), relays(3));
        assert_eq!(upkeep.step(wall, NOW), build(epoch.next(), relays(3)));
        upkeep.linked(NOW, LegId(3));
        assert_eq!(upkeep.step(wall, NOW), Some(Step::Retire { leg: LegId(1) }));
        assert_eq!(upkeep.step(wall, NOW), None);
        upkeep.gone(NOW, LegId(1));
        upkeep.built(wall, NOW, LegId(4), epoch.next(), relays(4));
        assert_eq!(upkeep.step(wall, NOW), None, "it has not answered");
        upkeep.linked(NOW, LegId(4));
        assert_eq!(upkeep.step(wall, NOW), Some(Step::Retire { leg: LegId(2) }));
        upkeep.gone(NOW, LegId(2));
        assert_eq!(upkeep.step(epoch.next().start(), NOW), None);
    }

    #[test]
    fn failures_wait_longer_each_time_and_a_lost_leg_is_avoided() {
        let mut upkeep = Upkeep::new(7);
        let epoch = Epoch::from_number(9);
        let (wall, mut now) = (epoch.start(), NOW);
        for pause in [1, 2, 4, 8, 16, 30, 30] {
            assert!(upkeep.step(wall, now).is_some());
            upkeep.failed(now);
            assert_eq!(upkeep.step(wall, now + Duration::from_secs(pause) - Duration::from_millis(1)), None);
            now += Duration::from_secs(pause);
        }
        assert!(upkeep.step(wall, now).is_some());
        upkeep.built(wall, now, LegId(1), epoch, relays(1));
        upkeep.linked(NOW, LegId(1));
        assert!(upkeep.step(wall, now).is_some());
        upkeep.built(wall, now, LegId(2), epoch, relays(2));
        upkeep.linked(now, LegId(2));
        now += STEADY;
        upkeep.gone(now, LegId(2));
        let avoid = [relays(1), relays(2)].concat();
        assert_eq!(upkeep.step(wall, now), Some(Step::Build { epoch, avoid }));
    }

    #[test]
    fn circuits_of_an_old_epoch_do_not_make_others_without_end() {
        let mut upkeep = Upkeep::new(0);
        let epoch = Epoch::from_number(9);
        let wall = epoch.start().saturating_add(LEAD);
        let mut built = 0;
        for seconds in 0..100 {
            let now = Duration::from_secs(seconds);
            while let Some(step) = upkeep.step(wall, now) {
                match step {
                    Step::Build { .. } => {
                        built += 1;
                        upkeep.built(wall, now, LegId(built), epoch, vec![]);
                        upkeep.linked(now, LegId(built));
                    }
                    Step::Retire { leg } => upkeep.gone(now, leg),
                }
            }
            assert!(upkeep.legs.len() <= LEGS);
        }
        assert!(built < 12, "{built}");
    }

    /// Whoever breaks each circuit as soon as it is used meets few of them.
    #[test]
    fn circuits_that_break_at_once_are_not_replaced_at_once() {
        let mut upkeep = Upkeep::new(0);
        let epoch = Epoch::from_number(9);
        let (wall, mut built) = (epoch.start(), 0);
        for tenths in 0..6000 {
            let now = Duration::from_millis(100 * tenths);
            if let Some(Step::Build { .. }) = upkeep.step(wall, now) {
                built += 1;
                upkeep.built(wall, now, LegId(built), epoch, vec![]);
                upkeep.linked(now, LegId(built));
                upkeep.gone(now, LegId(built));
            }
        }
        assert!((20..30).contains(&built), "{built} in ten minutes");
    }
}
