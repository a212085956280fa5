use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use nonos_identity::{Digest, Epoch, NodeId, Verified};

use crate::attestation::SignedAttestation;
use crate::domains;
use crate::fault::Fault;

/// What became of a merged attestation.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
#[non_exhaustive]
pub enum Merge {
    /// It is new here, or replaced a lower sequence number: forward it.
    Stored,
    /// The same one or a newer one was here already.
    Known,
    /// It contradicts the one that was here. The greater of the two is kept.
    Equivocation(Box<Verified<Fault>>),
    /// The issuer has as many newer ones as are kept.
    Old,
    /// The issuer is new here and there are as many issuers as are kept.
    Full,
}

/// A replicated set of attestations: for each issuer, subject and epoch the highest sequence number.
///
/// Merging is idempotent, commutative and associative, so replicas agree whatever order, repetition
/// or grouping the records arrive in. Of each issuer the last records by epoch and subject are kept,
/// which keeps the laws; refusing new issuers at the limit ([`Merge::Full`]) is the one exception.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attestations {
    issuers: BTreeMap<NodeId, BTreeMap<(Epoch, NodeId), Verified<SignedAttestation>>>,
    max_issuers: usize,
    max_per_issuer: usize,
}

impl Attestations {
    /// An empty set with its bounds.
    #[must_use]
    pub const fn new(max_issuers: usize, max_per_issuer: usize) -> Self {
        Self { issuers: BTreeMap::new(), max_issuers, max_per_issuer }
    }

    /// Merges one record.
    pub fn merge(&mut self, signed: Verified<SignedAttestation>) -> Merge {
        let attestation = *signed.attestation();
        if !self.issuers.contains_key(&attestation.issuer) && self.is_full() {
            return Merge::Full;
        }
        let records = self.issuers.entry(attestation.issuer).or_default();
        let outcome = match records.entry((attestation.epoch, attestation.subject)) {
            Entry::Vacant(vacant) => {
                vacant.insert(signed);
                Merge::Stored
            }
            Entry::Occupied(mut occupied) => {
                let held = occupied.get().clone();
                let newer = signed.attestation().seq > held.attestation().seq;
                if signed.rank() > held.rank() {
                    occupied.insert(signed.clone());
                }
                match Fault::equivocation(held, signed) {
                    Some(fault) => Merge::Equivocation(Box::new(fault)),
                    None if newer => Merge::Stored,
                    None => Merge::Known,
                }
            }
        };
        if records.len() > self.max_per_issuer {
            let dropped = records.pop_first();
            if dropped.is_some_and(|(key, _)| key == (attestation.epoch, attestation.subject)) {
                return Merge::Old;
            }
        }
        outcome
    }

    /// Merges another replica; returns the contradictions between the two.
    pub fn join(&mut self, other: &Self) -> Vec<Verified<Fault>> {
        let mut faults = Vec::new();
        for signed in other.iter() {
            if let Merge::Equivocation(fault) = self.merge(signed.clone()) {
                faults.push(*fault);
            }
        }
        faults
    }

    /// Every record, in the order of issuer, epoch and subject.
    pub fn iter(&self) -> impl Iterator<Item = &Verified<SignedAttestation>> {
        self.issuers.values().flat_map(BTreeMap::values)
    }

    /// Number of records.
    #[must_use]
    pub fn len(&self) -> usize {
        self.issuers.values().map(BTreeMap::len).sum()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.issuers.is_empty()
    }

    /// Forgets epochs before `oldest`.
    pub fn prune(&mut self, oldest: Epoch) {
        self.issuers.retain(|_, records| {
            records.retain(|(epoch, _), _| *epoch >= oldest);
            !records.is_empty()
        });
    }

    /// A hash (SHA3-256) over what is attested; equal for replicas that hold the same statements.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let bodies: Vec<&[u8]> = self.iter().map(|signed| signed.envelope().body()).collect();
        Digest::of(domains::STATE_DIGEST, &bodies)
    }

    pub(crate) fn is_full(&self) -> bool {
        self.issuers.len() >= self.max_issuers
    }

    pub(crate) fn contains_issuer(&self, issuer: &NodeId) -> bool {
        self.issuers.contains_key(issuer)
    }

    /// Makes room by forgetting the first issuer that is not `worth` keeping.
    pub(crate) fn evict(&mut self, worth: impl Fn(&NodeId) -> bool) -> bool {
        let victim = self.issuers.keys().find(|issuer| !worth(issuer)).copied();
        victim.is_some_and(|victim| self.issuers.remove(&victim).is_some())
    }

    /// Per issuer, its records' subjects with the sums over the kept epochs.
    pub(crate) fn sums(&self) -> BTreeMap<NodeId, BTreeMap<NodeId, (u64, u64)>> {
        let mut sums: BTreeMap<NodeId, BTreeMap<NodeId, (u64, u64)>> = BTreeMap::new();
        for signed in self.iter() {
            let attestation = signed.attestation();
            let sum = sums.entry(attestation.issuer).or_default().entry(attestation.subject).or_default();
            // At most `max_per_issuer` additions of 32-bit counts.
            sum.0 = sum.0.saturating_add(attestation.pos.into());
            sum.1 = sum.1.saturating_add(attestation.neg.into());
        }
        sums
    }
}
