use std::collections::BTreeSet;

use nonos_identity::{NodeId, Timestamp};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng as _;

use crate::descriptor::RelayDescriptor;
use crate::pool::{Place, Pool};

/// How many relays stand between the client and the destination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HopClass {
    /// Two relays: fast, and not anonymous against one relay that also watches the other end.
    Two,
    /// Three relays.
    #[default]
    Three,
    /// Four relays.
    Four,
    /// Five relays.
    Five,
}

impl HopClass {
    /// The number of relays.
    #[must_use]
    pub const fn relays(self) -> usize {
        match self {
            Self::Two => 2,
            Self::Three => 3,
            Self::Four => 4,
            Self::Five => 5,
        }
    }
}

/// Fewest independent operators among which a path hides anybody.
pub const MIN_OPERATORS: usize = 50;

/// Whether the candidates are enough to be anonymous among.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnonymitySet {
    /// At least [`MIN_OPERATORS`] operators.
    Sufficient,
    /// Too few: the path hides content, and hides the client from each relay, but whoever watches
    /// a few nodes can guess who talks to whom.
    Insufficient {
        /// Independent operators among the candidates.
        operators: usize,
    },
}

/// Which relays may share a path. Distinctness is no rule: it always holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathRules {
    /// No two relays of one operator. Against one operator who sees both ends.
    pub distinct_families: bool,
    /// No two relays in one subnet. Against one observer who sees both ends; a mesh on one
    /// loopback interface must relax it.
    pub distinct_subnets: bool,
    /// Largest share of the selection weight of one operator, in thousandths; never below an
    /// equal share. Against buying most paths with one fast relay.
    pub max_operator_share_permille: u16,
}

impl Default for PathRules {
    fn default() -> Self {
        Self { distinct_families: true, distinct_subnets: true, max_operator_share_permille: 10 }
    }
}

impl PathRules {
    /// Whether two relays must not share a path.
    pub(crate) fn conflict(&self, one: &Place, other: &Place) -> bool {
        one.relay == other.relay
            || (self.distinct_families && one.family == other.family)
            || (self.distinct_subnets && one.subnet == other.subnet)
    }
}

/// What a circuit asks of its path.
#[derive(Clone, Copy, Debug)]
pub struct PathRequest<'a> {
    /// The relays this client knows; itself and the destination may be among them.
    pub candidates: &'a [RelayDescriptor],
    /// The end of the circuit.
    pub destination: &'a RelayDescriptor,
    /// Relays that must not carry it: suspects, or those of the other legs of a multipath.
    pub exclude: &'a [NodeId],
    /// How many relays.
    pub hops: HopClass,
    /// Which relays may be drawn as guards: those that this client reaches, if it reaches neighbours alone;
    /// any if `None`.
    pub reachable: Option<&'a [NodeId]>,
}

/// A path and how well it hides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    /// The relays, the client's neighbour first; the destination is for the caller to append.
    pub relays: Vec<RelayDescriptor>,
    /// Whether the candidates are enough to be anonymous among.
    pub anonymity: AnonymitySet,
}

/// What lacks for a path. Nobody's fault: the mesh is too small or too uniform.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathError {
    /// Too few live relays.
    #[error("{live} live relays where {needed} are needed")]
    Relays {
        /// Live, distinct relays not excluded.
        live: usize,
        /// Relays of the hop class.
        needed: usize,
    },
    /// Too few operators.
    #[error("{operators} operators where {needed} are needed")]
    Operators {
        /// Operators among the live relays.
        operators: usize,
        /// Relays of the hop class.
        needed: usize,
    },
    /// Too few subnets, or no set that is diverse in operators and subnets at once.
    #[error("{subnets} subnets leave no diverse path of {needed}")]
    Subnets {
        /// Subnets among the live relays.
        subnets: usize,
        /// Relays of the hop class.
        needed: usize,
    },
    /// The first hops given are more than the class has, not live, excluded, or not diverse.
    #[error("the first hops given cannot begin this path")]
    Start,
}

/// Chooses the relays of a circuit.
#[derive(Clone, Copy, Debug, Default)]
pub struct PathSelector {
    rules: PathRules,
}

impl PathSelector {
    /// A selector with the given rules.
    #[must_use]
    pub const fn new(rules: PathRules) -> Self {
        Self { rules }
    }

    pub(crate) const fn rules(&self) -> PathRules {
        self.rules
    }

    /// Chooses distinct live relays at random, by bandwidth weight capped per operator.
    ///
    /// `exclude` holds at least the client and the destination. The same arguments always choose
    /// the same path.
    ///
    /// # Errors
    /// [`PathError`] names what lacks.
    pub fn select(
        &self,
        candidates: &[RelayDescriptor],
        exclude: &[NodeId],
        hops: HopClass,
        now: Timestamp,
        seed: [u8; 32],
    ) -> Result<Selection, PathError> {
        self.select_after(&[], candidates, exclude, hops, now, seed)
    }

    /// Like [`Self::select`], with the first hops given, which are among the candidates: the rest is
    /// diverse against them.
    ///
    /// # Errors
    /// [`PathError`] names what lacks; [`PathError::Start`] if the given hops break a rule.
    pub fn select_after(
        &self,
        start: &[RelayDescriptor],
        candidates: &[RelayDescriptor],
        exclude: &[NodeId],
        hops: HopClass,
        now: Timestamp,
        seed: [u8; 32],
    ) -> Result<Selection, PathError> {
        let needed = hops.relays();
        let mut pool = Pool::new(self.rules, candidates.iter(), exclude, now);
        pool.check(needed)?;
        let subnets = pool.subnets();
        let mut first = Vec::with_capacity(needed);
        for relay in start.iter().map(Place::from) {
            // What is not live, excluded, or in conflict with a hop before it is not in the pool.
            first.push(pool.find(&relay).ok_or(PathError::Start)?.clone());
            pool.leave_out(&relay);
        }
        if first.len() > needed {
            return Err(PathError::Start);
        }
        let mut rng = ChaCha20Rng::from_seed(seed);
        for _ in 0..Self::MAX_TRIES {
            let mut pool = pool.clone();
            let mut relays = first.clone();
            while relays.len() < needed {
                let Some(chosen) = pool.draw(&mut rng) else { break };
                pool.leave_out(&chosen.into());
                relays.push(chosen.clone());
            }
            if relays.len() == needed {
                return Ok(Selection { relays, anonymity: anonymity_set(candidates, now) });
            }
        }
        Err(PathError::Subnets { subnets, needed })
    }

    /// Random tries before a mesh counts as too uniform. A greedy draw may block itself where a
    /// relay shares its operator with one and its subnet with another.
    const MAX_TRIES: usize = 64;
}

/// Counts the independent operators among the live candidates.
#[must_use]
pub fn anonymity_set(candidates: &[RelayDescriptor], now: Timestamp) -> AnonymitySet {
    let operators = candidates
        .iter()
        .filter(|relay| relay.is_live(now))
        .map(|relay| relay.family)
        .collect::<BTreeSet<_>>()
        .len();
    if operators >= MIN_OPERATORS {
        AnonymitySet::Sufficient
    } else {
        AnonymitySet::Insufficient { operators }
    }
}
