use core::fmt;
use core::time::Duration;

use crate::time::Timestamp;

/// How close something that was signed for weeks is to its end. Whoever keeps the root key
/// offline needs days to renew, so the warning comes early.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Expiry {
    /// More than [`Expiry::RENEW_BEFORE`] left.
    Fine,
    /// Renew now: at most [`Expiry::RENEW_BEFORE`] left.
    Renew,
    /// At most [`Expiry::CRITICAL_BEFORE`] left: nothing new may start to depend on it.
    Critical,
    /// No longer valid.
    Expired,
}

impl Expiry {
    /// From here on, a node warns.
    pub const RENEW_BEFORE: Duration = Duration::from_secs(7 * 24 * 60 * 60);

    /// From here on, a node that cannot renew by itself refuses to start.
    pub const CRITICAL_BEFORE: Duration = Duration::from_secs(72 * 60 * 60);

    /// The state at `now` of what ends at `not_after`, the first second of no validity.
    #[must_use]
    pub fn of(not_after: Timestamp, now: Timestamp) -> Self {
        match not_after.saturating_since(now) {
            Duration::ZERO => Self::Expired,
            left if left <= Self::CRITICAL_BEFORE => Self::Critical,
            left if left <= Self::RENEW_BEFORE => Self::Renew,
            _ => Self::Fine,
        }
    }
}

impl fmt::Display for Expiry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Fine => "fine",
            Self::Renew => "renew",
            Self::Critical => "critical",
            Self::Expired => "expired",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_state_begins_at_its_second() {
        let end = Timestamp::from_secs(10_000_000);
        let left = |left: Duration| Expiry::of(end, Timestamp::from_secs(end.as_secs() - left.as_secs()));
        let second = Duration::from_secs(1);
        assert_eq!(left(Expiry::RENEW_BEFORE + second), Expiry::Fine);
        assert_eq!(left(Expiry::RENEW_BEFORE), Expiry::Renew);
        assert_eq!(left(Expiry::CRITICAL_BEFORE + second), Expiry::Renew);
        assert_eq!(left(Expiry::CRITICAL_BEFORE), Expiry::Critical);
        assert_eq!(left(second), Expiry::Critical);
        assert_eq!(left(Duration::ZERO), Expiry::Expired);
        assert_eq!(Expiry::of(end, end.saturating_add(second)), Expiry::Expired);
        assert!(Expiry::Fine < Expiry::Renew && Expiry::Critical < Expiry::Expired);
    }
}
