use core::time::Duration;
use std::collections::BTreeMap;

use minicbor::{Decode, Encode};
use nonos_identity::{Epoch, Timestamp};

use crate::config::Config;
use crate::evidence::Evidence;
use crate::fixed::Fixed;

/// Window in which offence points suspend.
pub(crate) const SUSPENSION: Duration = Duration::from_secs(7 * 86_400);
/// Window in which an offence keeps a peer on probation.
pub(crate) const PROBATION: Duration = Duration::from_secs(30 * 86_400);
/// Offences remembered of a peer, the latest ones; two decide, the rest is for `explain`.
const MAX_OFFENCES: usize = 16;

/// The decayed mass of one kind of evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Tally {
    /// As of `at`.
    #[n(0)]
    mass: Fixed,
    #[n(1)]
    at: Timestamp,
    /// Times it was seen, never decayed.
    #[n(2)]
    pub(crate) count: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Offence {
    #[n(0)]
    pub(crate) at: Timestamp,
    #[n(1)]
    pub(crate) points: u32,
}

/// What this node saw of one peer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Peer {
    #[n(0)]
    pub(crate) tallies: BTreeMap<Evidence, Tally>,
    #[n(1)]
    pub(crate) offences: Vec<Offence>,
    /// The epoch the next four belong to.
    #[n(2)]
    epoch: Epoch,
    #[n(3)]
    earned: Fixed,
    #[n(4)]
    lost: Fixed,
    #[n(5)]
    good: u32,
    #[n(6)]
    bad: u32,
}

impl Peer {
    pub(crate) fn observe(&mut self, evidence: Evidence, now: Timestamp, config: &Config) {
        let epoch = Epoch::at(now);
        if epoch > self.epoch {
            (self.epoch, self.earned, self.lost, self.good, self.bad) =
                (epoch, Fixed::ZERO, Fixed::ZERO, 0, 0);
        }
        let (spent, count) = if evidence.is_positive() {
            (&mut self.earned, &mut self.good)
        } else {
            (&mut self.lost, &mut self.bad)
        };
        let weight = evidence.weight().min(config.max_epoch_mass.minus(*spent));
        *spent = spent.plus(weight);
        *count = count.saturating_add(1);

        let tally = self.tallies.entry(evidence).or_insert(Tally { mass: Fixed::ZERO, at: now, count: 0 });
        // A clock that went back must not make old evidence young.
        let at = now.max(tally.at);
        tally.mass = tally.mass_at(evidence, at, config).plus(weight);
        tally.at = at;
        tally.count = tally.count.saturating_add(1);
        if evidence.offence_points() > 0 {
            self.offend(Offence { at: now, points: evidence.offence_points() });
        }
    }

    pub(crate) fn offend(&mut self, offence: Offence) {
        if self.offences.len() >= MAX_OFFENCES {
            self.offences.remove(0);
        }
        self.offences.push(offence);
    }

    /// Offence points within `window` before `now`.
    pub(crate) fn points(&self, now: Timestamp, window: Duration) -> u32 {
        let recent = self.offences.iter().filter(|offence| now.saturating_since(offence.at) < window);
        recent.fold(0, |sum, offence| sum.saturating_add(offence.points))
    }

    /// Good and bad mass at `now`, each capped.
    pub(crate) fn mass(&self, now: Timestamp, config: &Config) -> (Fixed, Fixed) {
        let (mut good, mut bad) = (Fixed::ZERO, Fixed::ZERO);
        for (evidence, tally) in &self.tallies {
            let side = if evidence.is_positive() { &mut good } else { &mut bad };
            *side = side.plus(tally.mass_at(*evidence, now, config));
        }
        (good.min(config.max_mass), bad.min(config.max_mass))
    }

    /// How little is lost by forgetting the peer: offenders last, then by mass ever entered.
    pub(crate) fn worth(&self) -> (bool, Fixed) {
        let mass = self.tallies.values().fold(Fixed::ZERO, |sum, tally| sum.plus(tally.mass));
        (!self.offences.is_empty(), mass)
    }

    /// Good and bad dealings in an epoch, if it is the last one with any.
    pub(crate) fn dealings(&self, epoch: Epoch) -> Option<(u32, u32)> {
        (self.epoch == epoch && (self.good, self.bad) != (0, 0)).then_some((self.good, self.bad))
    }
}

impl Tally {
    pub(crate) fn mass_at(&self, evidence: Evidence, now: Timestamp, config: &Config) -> Fixed {
        self.mass.decayed(now.saturating_since(self.at), evidence.memory().half_life(config))
    }
}
