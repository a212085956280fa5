use std::collections::BTreeMap;

use nonos_identity::Epoch;

use crate::identity::IdentityRoot;

/// The identity roots that a verifier takes, each up to an epoch.
///
/// Provers and verifiers have to agree on recent roots: a root that only one prover uses tells
/// who it is.
#[derive(Clone, Debug, Default)]
pub struct AcceptedRoots {
    until: BTreeMap<IdentityRoot, Epoch>,
}

impl AcceptedRoots {
    /// Most roots held; beyond it the one that lapses first makes room. Bounds memory should an
    /// embedder feed roots from the network.
    pub const MAX: usize = 1024;

    /// Accepts nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { until: BTreeMap::new() }
    }

    /// Accepts a root for runs up to and including epoch `until`; never shortens.
    pub fn accept(&mut self, root: IdentityRoot, until: Epoch) {
        let held = self.until.entry(root).or_insert(until);
        *held = until.max(*held);
        if self.until.len() > Self::MAX {
            let first = self.until.iter().min_by_key(|(_, until)| **until).map(|(root, _)| *root);
            first.map(|root| self.until.remove(&root));
        }
    }

    /// Whether a run of `epoch` may use the root.
    #[must_use]
    pub fn contains(&self, root: &IdentityRoot, epoch: Epoch) -> bool {
        self.until.get(root).is_some_and(|until| epoch <= *until)
    }

    /// Forgets roots that lapsed before `oldest`.
    pub fn prune(&mut self, oldest: Epoch) {
        self.until.retain(|_, until| *until >= oldest);
    }

    /// Number of roots held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.until.len()
    }

    /// Whether none is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.until.is_empty()
    }
}
