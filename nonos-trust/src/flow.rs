use std::collections::{BTreeMap, BTreeSet};

use nonos_identity::NodeId;

use crate::config::Config;
use crate::fixed::Fixed;

/// Shares below this end their path: they no longer move a score, and a fan-out of Sybils would
/// otherwise multiply the work.
const DUST: Fixed = Fixed::ratio(1, 1024);

/// Hearsay about one subject that came by way of one direct peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Referral {
    pub(crate) good: Fixed,
    pub(crate) bad: Fixed,
}

/// The hearsay that counts: by subject, then by the direct peer through whom it came.
///
/// Each direct peer has a budget: the mass it earned with the observer, times the referral share.
/// The budget is *divided* among those it attests to, in proportion to its counts, and what they
/// receive is divided on, hop by hop. However many identities and attestations an attacker makes,
/// they divide what its direct peers earned; the sum over all subjects stays below
/// `earned * share / (1 - share)`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flow {
    subjects: BTreeMap<NodeId, BTreeMap<NodeId, Referral>>,
}

type Counts = BTreeMap<NodeId, BTreeMap<NodeId, (u64, u64)>>;

impl Flow {
    /// Computes the flow from the direct peers and their earned masses.
    ///
    /// `muted` issuers pass nothing on.
    pub(crate) fn compute(
        config: &Config,
        observer: NodeId,
        mut endorsers: Vec<(NodeId, Fixed)>,
        counts: &Counts,
        muted: &BTreeSet<NodeId>,
    ) -> Self {
        endorsers.retain(|(id, mass)| *mass > DUST && counts.contains_key(id) && !muted.contains(id));
        endorsers.sort_by_key(|(id, mass)| (core::cmp::Reverse(*mass), *id));
        endorsers.truncate(config.max_endorsers);
        let mut flow = Self::default();
        for (endorser, earned) in endorsers {
            let received = spread(config, observer, endorser, earned, counts, muted);
            for (subject, Referral { good, bad }) in received {
                // Capped after all paths are summed, so that Sybils in between cannot multiply the cap.
                let limit = config.max_referral_mass;
                let referral = Referral { good: good.min(limit), bad: bad.min(limit) };
                flow.subjects.entry(subject).or_default().insert(endorser, referral);
            }
        }
        for referrals in flow.subjects.values_mut() {
            discount_lone(referrals, config.lone_referral_share);
        }
        flow
    }

    /// Hearsay about a subject, by direct peer.
    pub(crate) fn about(&self, subject: &NodeId) -> impl Iterator<Item = (NodeId, Referral)> {
        self.subjects.get(subject).into_iter().flatten().map(|(endorser, referral)| (*endorser, *referral))
    }

    /// Hearsay about a subject, summed.
    pub(crate) fn total(&self, subject: &NodeId) -> Referral {
        self.about(subject).fold(Referral::default(), |sum, (_, referral)| Referral {
            good: sum.good.plus(referral.good),
            bad: sum.bad.plus(referral.bad),
        })
    }
}

/// Leaves `share` of the hearsay if nine tenths of it came through one direct peer.
fn discount_lone(referrals: &mut BTreeMap<NodeId, Referral>, share: Fixed) {
    let masses = referrals.values().map(|referral| referral.good.plus(referral.bad));
    let (sum, most) =
        masses.fold((Fixed::ZERO, Fixed::ZERO), |(sum, most), mass| (sum.plus(mass), most.max(mass)));
    if most < sum.times(Fixed::ratio(9, 10)) {
        return;
    }
    for referral in referrals.values_mut() {
        *referral = Referral { good: referral.good.times(share), bad: referral.bad.times(share) };
    }
}

/// Divides one direct peer's budget over at most the configured hops.
fn spread(
    config: &Config,
    observer: NodeId,
    endorser: NodeId,
    earned: Fixed,
    counts: &Counts,
    muted: &BTreeSet<NodeId>,
) -> BTreeMap<NodeId, Referral> {
    let mut received: BTreeMap<NodeId, Referral> = BTreeMap::new();
    let mut frontier = BTreeMap::from([(endorser, earned)]);
    for _ in 0..config.max_referral_hops {
        let mut next: BTreeMap<NodeId, Fixed> = BTreeMap::new();
        for (issuer, mass) in frontier {
            let Some(row) = counts.get(&issuer).filter(|_| !muted.contains(&issuer)) else { continue };
            let budget = mass.times(config.referral_share);
            let total = row.values().fold(0u128, |sum, (pos, neg)| sum + u128::from(*pos) + u128::from(*neg));
            for (subject, (pos, neg)) in row {
                // What would flow back is spent, not redistributed.
                if *subject == observer || *subject == endorser {
                    continue;
                }
                let good = share(budget, *pos, total);
                let bad = share(budget, *neg, total);
                if good.plus(bad) < DUST {
                    continue;
                }
                let referral = received.entry(*subject).or_default();
                referral.good = referral.good.plus(good);
                referral.bad = referral.bad.plus(bad);
                let onward = next.entry(*subject).or_default();
                *onward = onward.plus(good);
            }
        }
        frontier = next;
    }
    received
}

/// `budget * part / total`, rounded down; `part` is at most `total`.
fn share(budget: Fixed, part: u64, total: u128) -> Fixed {
    let product = u128::from(budget.to_bits()) * u128::from(part);
    Fixed::from_bits(u64::try_from(product.checked_div(total).unwrap_or(0)).unwrap_or(u64::MAX))
}
