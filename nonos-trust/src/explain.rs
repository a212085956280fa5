use core::fmt;

use nonos_identity::NodeId;

use crate::evidence::Evidence;
use crate::fixed::Fixed;
use crate::score::State;

/// Where a part of a score comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// What every stranger starts with.
    Prior,
    /// What this node saw itself.
    #[non_exhaustive]
    Direct {
        /// What it saw.
        evidence: Evidence,
        /// How often, ever.
        count: u64,
    },
    /// Hearsay that came by way of a direct peer.
    #[non_exhaustive]
    Referral {
        /// The direct peer.
        endorser: NodeId,
    },
    /// Self-proving faults that are not pardoned.
    #[non_exhaustive]
    Faults {
        /// How many.
        count: usize,
    },
    /// A state other than good holds the score down.
    #[non_exhaustive]
    Cap {
        /// The state.
        state: State,
    },
}

/// One part of a score: mass for and mass against.
///
/// The score is the good mass over all mass, then held down by state. Direct mass beyond
/// [`Config::max_mass`](crate::Config::max_mass) is listed and does not count; hearsay against a
/// peer counts only as far as it cancels hearsay for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Contribution {
    /// Where it comes from.
    pub source: Source,
    /// Mass for the peer.
    pub good: Fixed,
    /// Mass against the peer.
    pub bad: Fixed,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prior => f.write_str("prior"),
            Self::Direct { evidence, count } => write!(f, "seen here: {evidence} x{count}"),
            Self::Referral { endorser } => write!(f, "heard through {}", endorser.short()),
            Self::Faults { count } => write!(f, "proven faults x{count}"),
            Self::Cap { state } => write!(f, "held down: {state}"),
        }
    }
}

impl fmt::Display for Contribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "+{} -{}  {}", self.good, self.bad, self.source)
    }
}
