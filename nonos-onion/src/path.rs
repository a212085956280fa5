use std::collections::{BTreeMap, BTreeSet};

use nonos_identity::{NodeId, Timestamp};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

use crate::descriptor::{FamilyTag, RelayDescriptor};

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
        let needed = hops.relays();
        let live: BTreeMap<NodeId, &RelayDescriptor> = candidates
            .iter()
            .filter(|relay| relay.is_live(now) && !exclude.contains(&relay.relay))
            .map(|relay| (relay.relay, relay))
            .collect();
        if live.len() < needed {
            return Err(PathError::Relays { live: live.len(), needed });
        }
        let mut families: BTreeMap<FamilyTag, u64> = BTreeMap::new();
        for relay in live.values() {
            *families.entry(relay.family).or_default() += relay.bandwidth.weight();
        }
        let operators = families.len();
        if self.rules.distinct_families && operators < needed {
            return Err(PathError::Operators { operators, needed });
        }
        let subnets = live.values().map(|relay| relay.subnet).collect::<BTreeSet<_>>().len();
        if self.rules.distinct_subnets && subnets < needed {
            return Err(PathError::Subnets { subnets, needed });
        }

        let cap = self.operator_cap(&families);
        let weigh = |relay: &RelayDescriptor| {
            let family = families.get(&relay.family).copied().unwrap_or(1);
            // In 1/2^20ths, so that a capped share never rounds to nothing.
            let weight = u128::from(relay.bandwidth.weight()) * u128::from(family.min(cap));
            u64::try_from((weight << 20) / u128::from(family)).unwrap_or(u64::MAX).max(1)
        };
        let mut rng = ChaCha20Rng::from_seed(seed);
        for _ in 0..Self::MAX_TRIES {
            let mut pool: Vec<(&RelayDescriptor, u64)> =
                live.values().map(|&relay| (relay, weigh(relay))).collect();
            let mut relays: Vec<RelayDescriptor> = Vec::with_capacity(needed);
            while relays.len() < needed {
                let Some(chosen) = draw(&pool, &mut rng) else { break };
                let chosen = chosen.clone();
                pool.retain(|(relay, _)| {
                    relay.relay != chosen.relay
                        && !(self.rules.distinct_families && relay.family == chosen.family)
                        && !(self.rules.distinct_subnets && relay.subnet == chosen.subnet)
                });
                relays.push(chosen);
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

    /// The largest `L` such that no operator has more than its share once each weighs at most `L`.
    fn operator_cap(&self, families: &BTreeMap<FamilyTag, u64>) -> u64 {
        let count = families.len().max(1) as u128;
        let share = u128::from(self.rules.max_operator_share_permille).max(1000_u128.div_ceil(count));
        let holds = |cap: u64| {
            let total: u128 = families.values().map(|&weight| u128::from(weight.min(cap))).sum();
            u128::from(cap) * 1000 <= total * share
        };
        let (mut low, mut high) = (1, families.values().copied().max().unwrap_or(1));
        while low < high {
            let middle = low + (high - low).div_ceil(2);
            if holds(middle) { low = middle } else { high = middle - 1 }
        }
        low
    }
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

/// Draws one relay with a probability proportional to its weight.
fn draw<'a>(pool: &[(&'a RelayDescriptor, u64)], rng: &mut ChaCha20Rng) -> Option<&'a RelayDescriptor> {
    let total: u128 = pool.iter().map(|&(_, weight)| u128::from(weight)).sum();
    if total == 0 {
        return None;
    }
    let wide = (u128::from(rng.next_u64()) << 64) | u128::from(rng.next_u64());
    // 128 random bits against a total below 2^80: the bias is below 2^-48.
    let mut at = wide % total;
    for &(relay, weight) in pool {
        match at.checked_sub(u128::from(weight)) {
            Some(rest) => at = rest,
            None => return Some(relay),
        }
    }
    None
}
