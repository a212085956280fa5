use core::fmt;

use crate::fixed::Fixed;

/// What a peer may do here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Nothing stands against it.
    Good,
    /// An offence within 30 days: its score is capped.
    Probation,
    /// Two offence points within 7 days: no relaying, no new work; what it earned still settles.
    /// Ends by itself.
    Suspended,
    /// Two self-proving faults: ends only by
    /// [`TrustEngine::pardon`](crate::TrustEngine::pardon).
    Blacklisted,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Good => "good",
            Self::Probation => "probation",
            Self::Suspended => "suspended",
            Self::Blacklisted => "blacklisted",
        })
    }
}

/// What this node thinks of a peer at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Score {
    /// From zero, worst, to one.
    pub value: Fixed,
    /// The share of the prior in `value`: one for a stranger, towards zero with evidence.
    pub uncertainty: Fixed,
    /// What the peer may do.
    pub state: State,
}

impl Score {
    /// The value in thousandths, 0 to 1000.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "below 1000")]
    pub const fn permille(&self) -> u16 {
        match self.value.permille() {
            permille @ 0..1_000 => permille as u16,
            _ => 1_000,
        }
    }
}
