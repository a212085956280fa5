use std::collections::{BTreeMap, BTreeSet};

use minicbor::{Decode, Encode};
use nonos_identity::{NodeId, Timestamp};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::Rng as _;

use crate::descriptor::{FamilyTag, RelayDescriptor, SubnetTag};
use crate::path::{PathError, PathRules};

/// What diversity asks of a relay: who it is, who runs it and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Place {
    #[n(0)]
    pub(crate) relay: NodeId,
    #[n(1)]
    pub(crate) family: FamilyTag,
    #[n(2)]
    pub(crate) subnet: SubnetTag,
}

impl From<&RelayDescriptor> for Place {
    fn from(relay: &RelayDescriptor) -> Self {
        Self { relay: relay.relay, family: relay.family, subnet: relay.subnet }
    }
}

/// Live relays to draw from, by bandwidth weight capped per operator. Leaving some out keeps the
/// weights of the others.
#[derive(Clone, Debug)]
pub(crate) struct Pool<'a> {
    rules: PathRules,
    relays: Vec<(&'a RelayDescriptor, u64)>,
}

impl<'a> Pool<'a> {
    /// Of several descriptors of one relay the last one counts.
    pub(crate) fn new(
        rules: PathRules,
        candidates: impl Iterator<Item = &'a RelayDescriptor>,
        exclude: &[NodeId],
        now: Timestamp,
    ) -> Self {
        let live: BTreeMap<NodeId, &RelayDescriptor> = candidates
            .filter(|relay| relay.is_live(now) && !exclude.contains(&relay.relay))
            .map(|relay| (relay.relay, relay))
            .collect();
        let mut families: BTreeMap<FamilyTag, u64> = BTreeMap::new();
        for relay in live.values() {
            *families.entry(relay.family).or_default() += relay.bandwidth.weight();
        }
        let cap = operator_cap(&families, rules.max_operator_share_permille);
        let weigh = |relay: &RelayDescriptor| {
            let family = families.get(&relay.family).copied().unwrap_or(1);
            // In 1/2^20ths, so that a capped share never rounds to nothing.
            let weight = u128::from(relay.bandwidth.weight()) * u128::from(family.min(cap));
            u64::try_from((weight << 20) / u128::from(family)).unwrap_or(u64::MAX).max(1)
        };
        Self { rules, relays: live.values().map(|&relay| (relay, weigh(relay))).collect() }
    }

    pub(crate) fn len(&self) -> usize {
        self.relays.len()
    }

    pub(crate) fn subnets(&self) -> usize {
        self.relays.iter().map(|(relay, _)| relay.subnet).collect::<BTreeSet<_>>().len()
    }

    /// Whether a path of `needed` relays can be hoped for.
    pub(crate) fn check(&self, needed: usize) -> Result<(), PathError> {
        let live = self.len();
        if live < needed {
            return Err(PathError::Relays { live, needed });
        }
        let operators = self.relays.iter().map(|(relay, _)| relay.family).collect::<BTreeSet<_>>().len();
        if self.rules.distinct_families && operators < needed {
            return Err(PathError::Operators { operators, needed });
        }
        let subnets = self.subnets();
        if self.rules.distinct_subnets && subnets < needed {
            return Err(PathError::Subnets { subnets, needed });
        }
        Ok(())
    }

    /// The relay, if it is here.
    pub(crate) fn get(&self, relay: &NodeId) -> Option<&'a RelayDescriptor> {
        self.relays.iter().map(|&(other, _)| other).find(|other| other.relay == *relay)
    }

    /// The relay at that place, if it is here and its operator and subnet are the same.
    pub(crate) fn find(&self, place: &Place) -> Option<&'a RelayDescriptor> {
        self.get(&place.relay).filter(|&relay| Place::from(relay) == *place)
    }

    /// Leaves out all relays but these.
    pub(crate) fn retain(&mut self, relays: &[NodeId]) {
        self.relays.retain(|(relay, _)| relays.contains(&relay.relay));
    }

    /// Leaves out all relays that must not share a path with this one, and itself.
    pub(crate) fn leave_out(&mut self, place: &Place) {
        let rules = self.rules;
        self.relays.retain(|&(relay, _)| !rules.conflict(&relay.into(), place));
    }

    /// Draws one relay with a probability proportional to its weight.
    pub(crate) fn draw(&self, rng: &mut ChaCha20Rng) -> Option<&'a RelayDescriptor> {
        let total: u128 = self.relays.iter().map(|&(_, weight)| u128::from(weight)).sum();
        if total == 0 {
            return None;
        }
        let wide = (u128::from(rng.next_u64()) << 64) | u128::from(rng.next_u64());
        // 128 random bits against a total below 2^80: the bias is below 2^-48.
        let mut at = wide % total;
        for &(relay, weight) in &self.relays {
            match at.checked_sub(u128::from(weight)) {
                Some(rest) => at = rest,
                None => return Some(relay),
            }
        }
        None
    }
}

/// The largest `L` such that no operator has more than its share once each weighs at most `L`.
fn operator_cap(families: &BTreeMap<FamilyTag, u64>, max_share_permille: u16) -> u64 {
    let count = families.len().max(1) as u128;
    let share = u128::from(max_share_permille).max(1000_u128.div_ceil(count));
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
