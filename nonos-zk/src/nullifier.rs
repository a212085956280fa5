use std::collections::{BTreeMap, BTreeSet};

use nonos_identity::Epoch;

use crate::identity::Nullifier;

/// Why a nullifier was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Reused {
    /// Seen before: a second receipt for one slot, or the same one again.
    #[error("nullifier was seen before")]
    Seen,
    /// Of an epoch already pruned, where nobody can say whether it was seen.
    #[error("epoch of the nullifier is already forgotten")]
    Forgotten,
    /// The epoch holds as many as the set allows.
    #[error("too many nullifiers in this epoch")]
    Full,
}

/// The nullifiers seen, by epoch.
///
/// A receipt counts once: insert its nullifier after its check, and let it go if that fails.
#[derive(Clone, Debug)]
pub struct NullifierSet {
    max_per_epoch: usize,
    oldest: Epoch,
    seen: BTreeMap<Epoch, BTreeSet<Nullifier>>,
}

impl Default for NullifierSet {
    fn default() -> Self {
        Self::new(Self::MAX_PER_EPOCH)
    }
}

impl NullifierSet {
    /// Default bound for each epoch: 2^20 nullifiers are about 40 MiB. It stops enrolled operators
    /// from filling the memory of verifiers.
    pub const MAX_PER_EPOCH: usize = 1 << 20;

    /// An empty set that takes `max_per_epoch` nullifiers of each epoch.
    #[must_use]
    pub const fn new(max_per_epoch: usize) -> Self {
        Self { max_per_epoch, oldest: Epoch::from_number(0), seen: BTreeMap::new() }
    }

    /// Takes a nullifier that was not seen before.
    ///
    /// # Errors
    /// [`Reused`] says why it may not count.
    pub fn insert(&mut self, nullifier: Nullifier, epoch: Epoch) -> Result<(), Reused> {
        if epoch < self.oldest {
            return Err(Reused::Forgotten);
        }
        let seen = self.seen.entry(epoch).or_default();
        if seen.contains(&nullifier) {
            return Err(Reused::Seen);
        }
        if seen.len() >= self.max_per_epoch {
            return Err(Reused::Full);
        }
        seen.insert(nullifier);
        Ok(())
    }

    /// Whether it was seen.
    #[must_use]
    pub fn contains(&self, nullifier: &Nullifier, epoch: Epoch) -> bool {
        self.seen.get(&epoch).is_some_and(|seen| seen.contains(nullifier))
    }

    /// Forgets the epochs before `oldest`; nullifiers of those are refused from then on.
    pub fn prune(&mut self, oldest: Epoch) {
        self.oldest = self.oldest.max(oldest);
        self.seen = self.seen.split_off(&self.oldest);
    }

    /// Number of nullifiers held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.seen.values().map(BTreeSet::len).sum()
    }

    /// Whether none is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
