use core::time::Duration;

use nonos_identity::Epoch;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

use crate::path::HopClass;

/// The fewest and the most relays that a user accepts. By default three and three: no adaptation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HopBounds {
    min: HopClass,
    max: HopClass,
}

/// The fewest relays of some bounds are more than the most. The caller's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("bounds of at least {} and at most {} relays", .min.relays(), .max.relays())]
pub struct BoundsError {
    min: HopClass,
    max: HopClass,
}

impl HopBounds {
    /// From the fewest and the most relays.
    ///
    /// # Errors
    /// [`BoundsError`] if they are the wrong way round.
    pub fn new(min: HopClass, max: HopClass) -> Result<Self, BoundsError> {
        if min > max { Err(BoundsError { min, max }) } else { Ok(Self { min, max }) }
    }

    /// The fewest relays.
    #[must_use]
    pub const fn min(&self) -> HopClass {
        self.min
    }

    /// The most relays.
    #[must_use]
    pub const fn max(&self) -> HopClass {
        self.max
    }
}

/// What this client measured itself on its circuits over one epoch. Nothing that others report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measured {
    /// Payload delivered, in bytes per second of the time in which some was waiting.
    pub goodput_bytes: u64,
    /// Median round trip to the end of a circuit.
    pub rtt: Duration,
}

/// What a user needs: an epoch that misses either is slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needs {
    /// Least goodput, in bytes per second.
    pub min_goodput_bytes: u64,
    /// Longest round trip.
    pub max_rtt: Duration,
}

impl Needs {
    fn are_missed(&self, by: Measured) -> bool {
        by.goodput_bytes < self.min_goodput_bytes || by.rtt > self.max_rtt
    }

    /// Met twice over: there is room for another relay.
    fn are_exceeded(&self, by: Measured) -> bool {
        by.goodput_bytes / 2 >= self.min_goodput_bytes && by.rtt <= self.max_rtt / 2
    }
}

/// What to do at the edge of an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Advice {
    /// Nothing.
    Keep,
    /// Take other relays behind the guard, of the same hop class.
    Reselect,
    /// Build the new epoch's circuits with this class.
    Class(HopClass),
}

/// Adapts the hop class to load, within the user's bounds.
///
/// An adversary who congests relays must not thereby get shorter paths. So: it begins with the
/// most relays; slow epochs take other relays first, and one relay less only after
/// [`Self::SHORTEN_AFTER`] of them in a row, each with other relays; the class changes at the edge
/// of an epoch alone, by one, and never leaves the bounds. The input is what this client measured;
/// no remote signal exists. Whoever slows down *all* circuits of a client for hours does get it to
/// the lower bound, which is why the default bounds are equal.
///
/// Lengthening takes longer than shortening and needs twice what is needed, and how long exactly is
/// random, so load that comes and goes changes nothing and clients do not change in step.
#[derive(Clone, Copy, Debug)]
pub struct Adaptation {
    bounds: HopBounds,
    needs: Needs,
    class: HopClass,
    /// The last epoch judged.
    epoch: Epoch,
    /// Measured epochs in a row that were slow, and that were ample.
    slow: u32,
    ample: u32,
    /// Epochs added to what a change takes.
    patience: u32,
}

impl Adaptation {
    /// Least number of slow epochs in a row before a path gets shorter (1 h).
    pub const SHORTEN_AFTER: u32 = 6;
    /// Least number of ample epochs in a row before a path gets longer (2 h).
    pub const LENGTHEN_AFTER: u32 = 12;
    /// Most epochs added to both at random, anew for each change.
    pub const MAX_PATIENCE: u32 = 6;

    /// Starts in `epoch` with the most relays.
    #[must_use]
    pub fn new(bounds: HopBounds, needs: Needs, epoch: Epoch, seed: [u8; 32]) -> Self {
        let patience = draw_patience(seed);
        Self { bounds, needs, class: bounds.max, epoch, slow: 0, ample: 0, patience }
    }

    /// The class of new circuits.
    #[must_use]
    pub const fn class(&self) -> HopClass {
        self.class
    }

    /// Judges the epoch that has ended at the start of `epoch`; `None` if nothing was measured.
    /// Within one epoch, or after a clock went back, nothing changes.
    pub fn advance(&mut self, epoch: Epoch, measured: Option<Measured>, seed: [u8; 32]) -> Advice {
        let Some(measured) = measured.filter(|_| epoch > self.epoch) else { return Advice::Keep };
        self.epoch = epoch;
        let slow = self.needs.are_missed(measured);
        let ample = self.needs.are_exceeded(measured);
        self.slow = if slow { self.slow.saturating_add(1) } else { 0 };
        self.ample = if ample { self.ample.saturating_add(1) } else { 0 };
        if self.slow > Self::SHORTEN_AFTER + self.patience && self.class > self.bounds.min {
            self.change(shorter(self.class), seed)
        } else if self.ample > Self::LENGTHEN_AFTER + self.patience && self.class < self.bounds.max {
            self.change(longer(self.class), seed)
        } else if slow {
            Advice::Reselect
        } else {
            Advice::Keep
        }
    }

    fn change(&mut self, class: HopClass, seed: [u8; 32]) -> Advice {
        (self.class, self.slow, self.ample, self.patience) = (class, 0, 0, draw_patience(seed));
        Advice::Class(class)
    }
}

fn draw_patience(seed: [u8; 32]) -> u32 {
    ChaCha20Rng::from_seed(seed).next_u32() % (Adaptation::MAX_PATIENCE + 1)
}

const fn shorter(class: HopClass) -> HopClass {
    match class {
        HopClass::Five => HopClass::Four,
        HopClass::Four => HopClass::Three,
        HopClass::Three | HopClass::Two => HopClass::Two,
    }
}

const fn longer(class: HopClass) -> HopClass {
    match class {
        HopClass::Two => HopClass::Three,
        HopClass::Three => HopClass::Four,
        HopClass::Four | HopClass::Five => HopClass::Five,
    }
}
