//! What the records of pinned relays share.

use minicbor::{Decode, Decoder, Encode, decode};
use nonos_identity::Timestamp;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::Rng as _;

use crate::pool::Place;

/// The version this crate writes and the only one it reads.
pub(crate) const VERSION: u8 = 1;

/// Days since 1970: all that a record tells of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(transparent)]
pub(crate) struct Day(#[n(0)] u32);

impl Day {
    pub(crate) const SECS: u64 = 24 * 3600;

    pub(crate) fn of(now: Timestamp) -> Self {
        Self(u32::try_from(now.as_secs() / Self::SECS).unwrap_or(u32::MAX))
    }

    /// Its first second.
    pub(crate) fn start(self) -> Timestamp {
        Timestamp::from_secs(u64::from(self.0) * Self::SECS)
    }

    pub(crate) const fn plus(self, days: u32) -> Self {
        Self(self.0.saturating_add(days))
    }
}

/// Distinct days on which something was missed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Missed {
    #[n(0)]
    days: u8,
    #[n(1)]
    last: Day,
}

impl Missed {
    /// Counts a day once. A clock that goes back counts nothing.
    pub(crate) fn mark(&mut self, day: Day) {
        if day > self.last {
            *self = Self { days: self.days.saturating_add(1), last: day };
        }
    }

    pub(crate) const fn days(self) -> u8 {
        self.days
    }
}

/// A number of days between the bounds, all equally likely (bias below 2^-55).
pub(crate) fn uniform_days(rng: &mut ChaCha20Rng, low: u8, high: u8) -> u8 {
    let width = u64::from(high.saturating_sub(low)) + 1;
    low.saturating_add(u8::try_from(rng.next_u64() % width).unwrap_or(0))
}

pub(crate) fn decode_version<C>(d: &mut Decoder<'_>, _: &mut C) -> Result<u8, decode::Error> {
    match d.u8()? {
        VERSION => Ok(VERSION),
        _ => Err(decode::Error::message("unknown version")),
    }
}

/// Anything that is pinned.
pub(crate) trait Pinned {
    fn place(&self) -> &Place;
}

/// At most `MAX` pinned relays, none of them twice.
pub(crate) fn decode_pinned<T, C, const MAX: usize>(
    d: &mut Decoder<'_>,
    c: &mut C,
) -> Result<Vec<T>, decode::Error>
where
    T: Pinned + for<'b> Decode<'b, C>,
{
    let pinned: Vec<T> = d.decode_with(c)?;
    let mut before = pinned.iter().map(|entry| entry.place().relay).collect::<Vec<_>>();
    before.sort_unstable();
    before.dedup();
    if pinned.len() > MAX || before.len() != pinned.len() {
        return Err(decode::Error::message("too many pinned relays, or one twice"));
    }
    Ok(pinned)
}
