use core::fmt;
use core::time::Duration;

use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};

/// A signed wall-clock time: whole seconds since 1970-01-01T00:00:00Z.
///
/// Nothing in the SDK below the node reads a clock; the caller passes the time in.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize, Deserialize,
)]
#[cbor(transparent)]
#[serde(transparent)]
pub struct Timestamp(#[n(0)] u64);

impl Timestamp {
    /// The largest clock difference between honest nodes, in seconds; a record may claim to
    /// be made at most this far in the future.
    pub const MAX_SKEW: Duration = Duration::from_secs(120);

    /// From seconds since 1970.
    #[must_use]
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs)
    }

    /// Seconds since 1970.
    #[must_use]
    pub const fn as_secs(self) -> u64 {
        self.0
    }

    /// This time moved later; stops at the end of time instead of wrapping.
    #[must_use]
    pub const fn saturating_add(self, by: Duration) -> Self {
        Self(self.0.saturating_add(by.as_secs()))
    }

    /// The time elapsed since `earlier`, zero if `earlier` is later.
    #[must_use]
    pub const fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_secs(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The number of a proof cycle: ten-minute slots since 1970. Circuits, execution slots and
/// nullifiers belong to one epoch.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize, Deserialize,
)]
#[cbor(transparent)]
#[serde(transparent)]
pub struct Epoch(#[n(0)] u64);

impl Epoch {
    /// Length of an epoch.
    pub const LENGTH: Duration = Duration::from_secs(600);

    /// From its number.
    #[must_use]
    pub const fn from_number(number: u64) -> Self {
        Self(number)
    }

    /// The epoch that contains `now`.
    #[must_use]
    pub const fn at(now: Timestamp) -> Self {
        Self(now.0 / Self::LENGTH.as_secs())
    }

    /// Its number.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }

    /// Its first second.
    #[must_use]
    pub const fn start(self) -> Timestamp {
        Timestamp(self.0.saturating_mul(Self::LENGTH.as_secs()))
    }

    /// The first second after it.
    #[must_use]
    pub const fn end(self) -> Timestamp {
        self.next().start()
    }

    /// The epoch after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_tile_time() {
        let epoch = Epoch::at(Timestamp::from_secs(1_200));
        assert_eq!(epoch, Epoch::from_number(2));
        assert_eq!(Epoch::at(epoch.start()), epoch);
        assert_eq!(Epoch::at(epoch.end()), epoch.next());
    }
}
