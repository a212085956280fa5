//! From a capsule to everything it needs: dependencies out of a store, verified one by one.

use core::fmt;
use std::sync::Arc;

use nonos_identity::{Timestamp, Verified};

use crate::capsule::{Capsule, CapsuleId};
use crate::dependency::Dependency;
use crate::manifest::Kind;
use crate::signature::{CheckSigned as _, SignaturePolicy, VerifyError};
use crate::store::{CapsuleStore, StoreError};

/// A capsule with everything it needs, each part verified.
#[derive(Clone)]
pub struct Resolved {
    capsule: Verified<Capsule>,
    dependencies: Vec<(Dependency, Arc<Self>)>,
}

/// Why a capsule's needs were not met.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResolveError {
    /// The store does not have it. Ours to fetch.
    #[error("dependency {name} (capsule {id}) is not in the store")]
    Missing {
        /// The name that the dependent capsule gives it.
        name: String,
        /// Its id.
        id: CapsuleId,
    },
    /// Its signatures do not hold now. Its author's fault, or that of whoever altered it.
    #[error("dependency {name}: {error}")]
    Verify {
        /// The name that the dependent capsule gives it.
        name: String,
        /// What does not hold.
        error: VerifyError,
    },
    /// A command as a dependency, files without a mount point, or functions with one. The fault
    /// of the dependent capsule's author.
    #[error("dependency {name} is a capsule of kind {kind:?}, which cannot be used like that")]
    Kind {
        /// The name that the dependent capsule gives it.
        name: String,
        /// The kind found.
        kind: Kind,
    },
    /// A chain of dependencies longer than [`Resolved::MAX_DEPTH`].
    #[error("dependencies are nested deeper than {limit}")]
    Depth {
        /// The limit.
        limit: usize,
    },
    /// A capsule that needs itself. With ids that are hashes nobody can make one; a store that
    /// serves one is broken.
    #[error("capsule {0} depends on itself")]
    Cycle(CapsuleId),
    /// More bytes of payload than [`Resolved::MAX_PAYLOAD_BYTES`].
    #[error("a capsule and what it needs exceed {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: usize,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Resolved {
    /// Longest chain of dependencies below a capsule.
    pub const MAX_DEPTH: usize = 8;

    /// Most bytes of payload of a capsule and all it needs, each counted once: what an id can
    /// make a node read from its disk.
    pub const MAX_PAYLOAD_BYTES: usize = 256 << 20;

    /// Reads what a capsule needs from a store and checks every part by the same rule.
    ///
    /// # Errors
    /// [`ResolveError`] names the first dependency that is missing or does not hold.
    pub fn resolve(
        capsule: Verified<Capsule>,
        store: &dyn CapsuleStore,
        rule: &SignaturePolicy,
        now: Timestamp,
    ) -> Result<Self, ResolveError> {
        let payload_bytes = capsule.payload().len();
        let mut resolver = Resolver { store, rule, now, done: Vec::new(), payload_bytes };
        resolver.below(capsule, &mut Vec::new())
    }

    /// The capsule itself.
    #[must_use]
    pub const fn capsule(&self) -> &Verified<Capsule> {
        &self.capsule
    }

    /// What it needs directly, sorted by name.
    #[must_use]
    pub fn dependencies(&self) -> &[(Dependency, Arc<Self>)] {
        &self.dependencies
    }
}

impl fmt::Debug for Resolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let needs = self.dependencies.iter().map(|(dependency, resolved)| (&dependency.name, resolved));
        f.debug_struct("Resolved")
            .field("id", &self.capsule.id())
            .field("dependencies", &needs.collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

struct Resolver<'a> {
    store: &'a dyn CapsuleStore,
    rule: &'a SignaturePolicy,
    now: Timestamp,
    /// What was resolved before: shared needs are read once.
    done: Vec<Arc<Resolved>>,
    payload_bytes: usize,
}

impl Resolver<'_> {
    fn below(
        &mut self,
        capsule: Verified<Capsule>,
        path: &mut Vec<CapsuleId>,
    ) -> Result<Resolved, ResolveError> {
        if path.contains(&capsule.id()) {
            return Err(ResolveError::Cycle(capsule.id()));
        }
        if path.len() > Resolved::MAX_DEPTH {
            return Err(ResolveError::Depth { limit: Resolved::MAX_DEPTH });
        }
        path.push(capsule.id());
        let mut dependencies = Vec::new();
        for dependency in capsule.dependencies() {
            let resolved = self.one(dependency, path)?;
            dependencies.push((dependency.clone(), resolved));
        }
        path.pop();
        Ok(Resolved { capsule, dependencies })
    }

    fn one(
        &mut self,
        dependency: &Dependency,
        path: &mut Vec<CapsuleId>,
    ) -> Result<Arc<Resolved>, ResolveError> {
        let Dependency { name, capsule: id, mount } = dependency;
        let known = self.done.iter().find(|resolved| resolved.capsule.id() == *id).cloned();
        let resolved = match known {
            Some(resolved) => resolved,
            None => {
                let found = self.store.read(id)?;
                let found = found.ok_or_else(|| ResolveError::Missing { name: name.clone(), id: *id })?;
                let capsule = found
                    .check_signed(self.rule, self.now)
                    .map_err(|error| ResolveError::Verify { name: name.clone(), error })?;
                if capsule.id() != *id {
                    return Err(StoreError::Damaged(format!("asked for {id}, got {}", capsule.id())).into());
                }
                self.payload_bytes = self.payload_bytes.saturating_add(capsule.payload().len());
                if self.payload_bytes > Resolved::MAX_PAYLOAD_BYTES {
                    return Err(ResolveError::TooLarge { limit: Resolved::MAX_PAYLOAD_BYTES });
                }
                let resolved = Arc::new(self.below(capsule, path)?);
                self.done.push(Arc::clone(&resolved));
                resolved
            }
        };
        match (resolved.capsule.manifest().kind, mount) {
            (Kind::Library, None) | (Kind::Image, Some(_)) => Ok(resolved),
            (kind, _) => Err(ResolveError::Kind { name: name.clone(), kind }),
        }
    }
}
