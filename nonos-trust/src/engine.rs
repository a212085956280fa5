use std::collections::{BTreeMap, BTreeSet};

use nonos_identity::{Digest, Epoch, NodeId, Timestamp, Verified};

use crate::attestation::{Attestation, SignedAttestation};
use crate::attestations::{Attestations, Merge};
use crate::config::{Config, ConfigError};
use crate::domains;
use crate::evidence::Evidence;
use crate::explain::{Contribution, Source};
use crate::fault::{Fault, FaultKey};
use crate::fixed::Fixed;
use crate::flow::Flow;
use crate::peer::{Offence, PROBATION, Peer, SUSPENSION};
use crate::score::{Score, State};

/// Offence points of a self-proving fault: one suspends.
const FAULT_POINTS: u32 = 2;
/// Offence points that suspend.
const SUSPENSION_POINTS: u32 = 2;
/// Self-proving faults that blacklist.
const BLACKLIST_FAULTS: usize = 2;

/// Why an attestation was not merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MergeError {
    /// From an epoch that no longer counts; nobody's fault.
    #[error("epoch {0} no longer counts")]
    TooOld(Epoch),
    /// The store has no room for another unknown issuer; nobody's fault.
    #[error("no room for another issuer")]
    Full,
}

/// A fault that was shown to this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FaultRecord {
    pub(crate) fault: Verified<Fault>,
    pub(crate) at: Timestamp,
    pub(crate) pardoned: bool,
}

/// One node's view of its peers.
///
/// There is no global score: everything starts from what `observer` saw itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustEngine {
    pub(crate) config: Config,
    pub(crate) observer: NodeId,
    pub(crate) peers: BTreeMap<NodeId, Peer>,
    pub(crate) attestations: Attestations,
    pub(crate) faults: BTreeMap<FaultKey, FaultRecord>,
    flow: Flow,
}

impl TrustEngine {
    /// An engine without memories.
    ///
    /// # Errors
    /// [`ConfigError`] if the configuration makes no sense.
    pub fn new(config: Config, observer: NodeId) -> Result<Self, ConfigError> {
        config.check()?;
        let attestations = Attestations::new(config.max_issuers, config.max_attestations_per_issuer);
        let (peers, faults, flow) = (BTreeMap::new(), BTreeMap::new(), Flow::default());
        Ok(Self { config, observer, peers, attestations, faults, flow })
    }

    /// Takes note of something this node saw a peer do. What it sees itself do is ignored.
    pub fn observe(&mut self, peer: NodeId, evidence: Evidence, now: Timestamp) {
        if peer == self.observer {
            return;
        }
        self.make_room(&peer);
        self.peers.entry(peer).or_default().observe(evidence, now, &self.config);
    }

    /// Merges a checked attestation. Contradictions count at once; [`Merge::Equivocation`] carries
    /// the evidence for the others. Its weight enters scores at the next [`Self::refresh`].
    ///
    /// # Errors
    /// [`MergeError`] if it cannot count.
    pub fn merge(
        &mut self,
        signed: Verified<SignedAttestation>,
        now: Timestamp,
    ) -> Result<Merge, MergeError> {
        let Attestation { issuer, epoch, .. } = *signed.attestation();
        if epoch < self.oldest(now) {
            return Err(MergeError::TooOld(epoch));
        }
        if self.attestations.is_full() && !self.attestations.contains_issuer(&issuer) {
            // Strangers make room for those this node dealt with, never the other way round.
            let made_room =
                self.peers.contains_key(&issuer) && self.attestations.evict(|id| self.peers.contains_key(id));
            if !made_room {
                return Err(MergeError::Full);
            }
        }
        let merge = self.attestations.merge(signed);
        if let Merge::Equivocation(fault) = &merge {
            self.submit_fault((**fault).clone(), now);
        }
        Ok(merge)
    }

    /// Takes note of a self-proving fault; returns whether it is a new one, to be forwarded.
    pub fn submit_fault(&mut self, fault: Verified<Fault>, now: Timestamp) -> bool {
        let key = fault.key();
        let culprit = key.culprit;
        if self.faults.contains_key(&key) || culprit == self.observer {
            return false;
        }
        // Two decide about a culprit. Keeping no more leaves room for the faults of others.
        if self.fault_count(&culprit) >= BLACKLIST_FAULTS || self.faults.len() >= self.config.max_faults {
            return false;
        }
        self.make_room(&culprit);
        self.peers.entry(culprit).or_default().offend(Offence { at: now, points: FAULT_POINTS });
        self.faults.insert(key, FaultRecord { fault, at: now, pardoned: false });
        true
    }

    /// Lifts every state of a peer; by decision of the operator alone. Its evidence stays.
    pub fn pardon(&mut self, peer: &NodeId) {
        if let Some(peer) = self.peers.get_mut(peer) {
            peer.offences.clear();
        }
        for record in self.faults.values_mut().filter(|record| record.fault.culprit() == *peer) {
            record.pardoned = true;
        }
    }

    /// Recomputes the weight of hearsay and forgets attestations that no longer count.
    ///
    /// Costs time in proportion to endorsers, hops and attestations: call it once an epoch.
    pub fn refresh(&mut self, now: Timestamp) {
        self.attestations.prune(self.oldest(now));
        let muted: BTreeSet<NodeId> =
            self.culprits().filter(|id| self.state(id, now) >= State::Suspended).collect();
        let endorsers = self.peers.iter().map(|(id, peer)| {
            let (good, bad) = peer.mass(now, &self.config);
            let posterior = self.ratio(good, bad);
            (*id, good.min(self.config.max_epoch_mass).times(posterior))
        });
        let counts = self.attestations.sums();
        self.flow = Flow::compute(&self.config, self.observer, endorsers.collect(), &counts, &muted);
    }

    /// What this node thinks of a peer.
    #[must_use]
    pub fn score(&self, peer: &NodeId, now: Timestamp) -> Score {
        let (good, bad) = self.direct(peer, now);
        let hearsay = self.flow.total(peer);
        // Hearsay against a peer cancels hearsay for it and nothing else: it makes nobody worse than
        // what this node saw itself, and a stranger no worse than a stranger.
        let good = good.plus(hearsay.good.minus(hearsay.bad));
        let value = self.ratio(good, bad);
        let state = self.state(peer, now);
        let value = match state {
            State::Good => value,
            State::Probation => value.min(self.config.probation_cap),
            State::Suspended | State::Blacklisted => Fixed::ZERO,
        };
        let prior_mass = self.config.prior_mass;
        let all = prior_mass.plus(good).plus(bad);
        Score { value: value.min(Fixed::ONE), uncertainty: prior_mass.scaled(Fixed::ONE, all), state }
    }

    /// What a peer may do.
    #[must_use]
    pub fn state(&self, peer: &NodeId, now: Timestamp) -> State {
        if self.fault_count(peer) >= BLACKLIST_FAULTS {
            return State::Blacklisted;
        }
        let Some(peer) = self.peers.get(peer) else { return State::Good };
        if peer.points(now, SUSPENSION) >= SUSPENSION_POINTS {
            State::Suspended
        } else if peer.points(now, PROBATION) > 0 {
            State::Probation
        } else {
            State::Good
        }
    }

    /// The parts of a peer's score, the prior first.
    #[must_use]
    pub fn explain(&self, peer: &NodeId, now: Timestamp) -> Vec<Contribution> {
        let part = |source, good, bad| Contribution { source, good, bad };
        let (prior, mass) = (self.config.prior, self.config.prior_mass);
        let mut parts = vec![part(Source::Prior, mass.times(prior), mass.times(Fixed::ONE.minus(prior)))];
        for (evidence, tally) in self.peers.get(peer).into_iter().flat_map(|peer| &peer.tallies) {
            let mass = tally.mass_at(*evidence, now, &self.config);
            let (good, bad) = if evidence.is_positive() { (mass, Fixed::ZERO) } else { (Fixed::ZERO, mass) };
            parts.push(part(Source::Direct { evidence: *evidence, count: tally.count }, good, bad));
        }
        for (endorser, referral) in self.flow.about(peer) {
            parts.push(part(Source::Referral { endorser }, referral.good, referral.bad));
        }
        let faults = self.fault_count(peer);
        if faults > 0 {
            parts.push(part(Source::Faults { count: faults }, Fixed::ZERO, Fixed::ZERO));
        }
        let state = self.state(peer, now);
        if state != State::Good {
            parts.push(part(Source::Cap { state }, Fixed::ZERO, Fixed::ZERO));
        }
        parts
    }

    /// The attestation this node can make about a peer for an epoch: `None` unless the epoch is the
    /// last one in which they dealt. The caller keeps `seq` growing and never signs two bodies under one.
    #[must_use]
    pub fn attest(
        &self,
        subject: NodeId,
        epoch: Epoch,
        seq: u64,
        receipts_root: Digest,
    ) -> Option<Attestation> {
        let (pos, neg) = self.peers.get(&subject)?.dealings(epoch)?;
        Some(Attestation { issuer: self.observer, subject, epoch, seq, pos, neg, receipts_root })
    }

    /// The peers with direct evidence or a proven fault, in the order of their ids.
    pub fn peers(&self) -> impl Iterator<Item = NodeId> {
        self.peers.keys().copied()
    }

    /// The attestations held.
    #[must_use]
    pub const fn attestations(&self) -> &Attestations {
        &self.attestations
    }

    /// The faults held, pardoned ones included.
    pub fn faults(&self) -> impl Iterator<Item = &Verified<Fault>> {
        self.faults.values().map(|record| &record.fault)
    }

    /// A hash (SHA3-256) over what replicas share: attestations and faults, no private evidence.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let culprits: BTreeSet<NodeId> = self.faults.keys().map(|key| key.culprit).collect();
        let culprits: Vec<u8> = culprits.iter().flat_map(|id| *id.as_bytes()).collect();
        Digest::of(domains::STATE_DIGEST, &[self.attestations.digest().as_bytes(), &culprits])
    }

    fn oldest(&self, now: Timestamp) -> Epoch {
        Epoch::from_number(Epoch::at(now).number().saturating_sub(self.config.attestation_epochs))
    }

    /// Culprits of faults and offenders, each once.
    fn culprits(&self) -> impl Iterator<Item = NodeId> {
        let faults = self.faults.keys().map(|key| key.culprit);
        let offenders = self.peers.iter().filter(|(_, peer)| !peer.offences.is_empty()).map(|(id, _)| *id);
        faults.chain(offenders).collect::<BTreeSet<_>>().into_iter()
    }

    fn fault_count(&self, peer: &NodeId) -> usize {
        let of_peer =
            self.faults.range(FaultKey::first_of(*peer)..).take_while(|(key, _)| key.culprit == *peer);
        of_peer.filter(|(_, record)| !record.pardoned).count()
    }

    fn direct(&self, peer: &NodeId, now: Timestamp) -> (Fixed, Fixed) {
        self.peers.get(peer).map_or((Fixed::ZERO, Fixed::ZERO), |peer| peer.mass(now, &self.config))
    }

    /// `(good + a * p0) / (good + bad + a)`.
    fn ratio(&self, good: Fixed, bad: Fixed) -> Fixed {
        let (prior, mass) = (self.config.prior, self.config.prior_mass);
        good.plus(mass.times(prior)).scaled(Fixed::ONE, good.plus(bad).plus(mass))
    }

    /// Forgets the least known peer if there is no room for another.
    fn make_room(&mut self, peer: &NodeId) {
        if self.peers.len() < self.config.max_peers || self.peers.contains_key(peer) {
            return;
        }
        let least = self.peers.iter().min_by_key(|(_, peer)| peer.worth()).map(|(id, _)| *id);
        if let Some(least) = least {
            self.peers.remove(&least);
        }
    }
}
