use core::fmt;
use core::time::Duration;

use minicbor::{Decode, Encode};
use nonos_identity::{Epoch, Timestamp};

/// The number of a time period: for this long a service has one blinded key (rend-spec-v3, section 2.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct TimePeriod(#[n(0)] u64);

impl TimePeriod {
    /// Length of a period, in epochs: one day.
    pub const LENGTH_EPOCHS: u64 = 144;

    /// Length of a period.
    pub const LENGTH: Duration = Duration::from_secs(Self::LENGTH_EPOCHS * Epoch::LENGTH.as_secs());

    /// Periods begin this many epochs after midnight UTC: at noon, half a period after the day's shared
    /// random value is drawn, so that all know it before they need it.
    pub const OFFSET_EPOCHS: u64 = 72;

    /// From its number.
    #[must_use]
    pub const fn from_number(number: u64) -> Self {
        Self(number)
    }

    /// The period of `now`.
    #[must_use]
    pub const fn at(now: Timestamp) -> Self {
        Self(Epoch::at(now).number().saturating_sub(Self::OFFSET_EPOCHS) / Self::LENGTH_EPOCHS)
    }

    /// Its number.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }

    /// Its first epoch.
    #[must_use]
    pub const fn start(self) -> Epoch {
        Epoch::from_number(self.0.saturating_mul(Self::LENGTH_EPOCHS).saturating_add(Self::OFFSET_EPOCHS))
    }

    /// The period after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The two periods for which a service keeps a descriptor published at `now`: the current one, and the
    /// one before it in its first half, the one after it in its second. A client whose clock is off by up to
    /// half a period still finds one.
    #[must_use]
    pub const fn published_at(now: Timestamp) -> [Self; 2] {
        let current = Self::at(now);
        let elapsed = Epoch::at(now).number().saturating_sub(current.start().number());
        if elapsed < Self::LENGTH_EPOCHS / 2 {
            [Self(current.0.saturating_sub(1)), current]
        } else {
            [current, current.next()]
        }
    }

    /// Whether a descriptor of this period may be in use at `now`, on a clock that differs by up to
    /// [`Timestamp::MAX_SKEW`].
    #[must_use]
    pub fn is_live(self, now: Timestamp) -> bool {
        let skew = Timestamp::MAX_SKEW;
        let slow = Timestamp::from_secs(now.as_secs().saturating_sub(skew.as_secs()));
        [slow, now.saturating_add(skew)].into_iter().any(|now| Self::published_at(now).contains(&self))
    }
}

impl fmt::Display for TimePeriod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400;

    fn at(day: u64, hour: u64) -> Timestamp {
        Timestamp::from_secs(day * DAY + hour * 3600)
    }

    #[test]
    fn a_period_is_a_day_from_noon() {
        assert_eq!(TimePeriod::LENGTH.as_secs(), DAY);
        assert_eq!(TimePeriod::at(at(100, 12)), TimePeriod::from_number(100));
        assert_eq!(
            TimePeriod::at(Timestamp::from_secs(at(100, 12).as_secs() - 1)),
            TimePeriod::from_number(99)
        );
        assert_eq!(TimePeriod::from_number(100).start().start(), at(100, 12));
        assert_eq!(TimePeriod::from_number(u64::MAX).next().start().number(), u64::MAX);
    }

    #[test]
    fn a_service_is_published_for_the_nearer_neighbour_too() {
        let published = |day, hour| TimePeriod::published_at(at(day, hour)).map(TimePeriod::number);
        assert_eq!(published(100, 12), [99, 100]);
        assert_eq!(published(100, 23), [99, 100]);
        assert_eq!(published(101, 0), [100, 101]);
        assert_eq!(published(101, 11), [100, 101]);
        assert_eq!(TimePeriod::published_at(Timestamp::from_secs(0)).map(TimePeriod::number), [0, 0]);
    }

    #[test]
    fn a_period_is_live_while_published_give_or_take_the_skew() {
        let (period, skew) = (TimePeriod::from_number(100), Timestamp::MAX_SKEW.as_secs());
        let (from, until) = (at(100, 0).as_secs(), at(102, 0).as_secs());
        let live = |secs| period.is_live(Timestamp::from_secs(secs));
        assert!(live(from - skew) && live(until + skew - 1));
        assert!(!live(from - skew - 1) && !live(until + skew));
    }
}
