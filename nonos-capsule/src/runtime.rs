use core::fmt;
use std::sync::Arc;

use nonos_identity::Verified;

use crate::capsule::{Capsule, CapsuleId};
use crate::execution::{Execution, Invocation};
use crate::policy::{Policy, PolicyError};
use crate::profile::ProfileError;
use crate::store::{NonceStore, StoreError};

/// How a runtime treats all capsules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Runs at a time that fit the pool of linear memories; more fall back to fresh mappings.
    pub pool_slots: u32,
    /// What a payload may contain at most, checked before anything is compiled.
    pub caps: crate::profile::Caps,
}

impl Default for Config {
    fn default() -> Self {
        Self { pool_slots: 8, caps: crate::profile::Caps::default() }
    }
}

/// A configuration or machine that cannot run capsules. The operator's fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("engine cannot start: {0}")]
pub struct EngineError(pub String);

/// Why a verified capsule cannot be run here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The operator's own policy is out of bounds. The operator's fault.
    #[error("operator's policy: {0}")]
    Policy(#[from] PolicyError),
    /// The payload is not a module of profile v1. The author's fault.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// The payload declares more memory or table than the effective policy grants.
    #[error("{what} of {declared} exceeds the policy's {allowed}")]
    Declared {
        /// Memory or table.
        what: &'static str,
        /// As declared by the module.
        declared: u64,
        /// As granted.
        allowed: u64,
    },
    /// The module imports something that no host has. The author's fault.
    #[error(
        "unknown import {module}.{name}: a capsule may import functions of {} only",
        crate::HostCall::MODULE
    )]
    UnknownImport {
        /// The module name.
        module: String,
        /// The function name.
        name: String,
    },
    /// The import exists with another type. The author's fault.
    #[error("import {name} has the wrong type")]
    ImportType {
        /// The function name.
        name: String,
    },
    /// No exported function `() -> ()` of the manifest's entry name. The author's fault.
    #[error("entry {0} is not an exported function without parameters and results")]
    Entry(String),
    /// The engine refuses the instrumented module.
    #[error("compilation failed: {0}")]
    Compile(String),
}

/// Why a run did not happen or did not end. None of these is a result of the capsule.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The caller's nonce was used before; nothing ran.
    #[error("nonce was used before")]
    NonceUsed,
    /// The nonce store failed; nothing ran.
    #[error("nonce store: {0}")]
    Store(#[from] StoreError),
    /// Input, arguments or environment exceed their limits, or contain a NUL byte; nothing ran.
    #[error("invocation: {0}")]
    Invocation(&'static str),
    /// The host stopped the run for a reason of its own; it says nothing about the capsule.
    #[error(transparent)]
    Aborted(#[from] Aborted),
}

/// Why the host gave a run up. Never a result: another host might finish it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Aborted {
    /// Took longer than `wall_ms_max`.
    #[error("run aborted after {0} ms of wall-clock time")]
    WallClock(u64),
    /// The host has no memory, no thread, or no native stack left.
    #[error("run aborted by the host: {0}")]
    Host(String),
}

/// Why a replay does not confirm an execution.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// The first checkpoint that differs; the length of the chain if only the result does.
    #[error("diverges at checkpoint {checkpoint}")]
    Diverged {
        /// Its index.
        checkpoint: u32,
    },
    /// The replay itself failed.
    #[error(transparent)]
    Run(#[from] RunError),
}

/// Loads and runs capsules.
#[derive(Clone)]
pub struct Runtime {
    config: Arc<Config>,
}

impl Runtime {
    /// Starts the engine.
    ///
    /// # Errors
    /// [`EngineError`] if this machine cannot run the engine.
    pub fn new(config: Config) -> Result<Self, EngineError> {
        Ok(Self { config: Arc::new(config) })
    }

    /// Validates, meters and compiles the payload under what both policies allow.
    ///
    /// # Errors
    /// [`LoadError`] says what the payload or policy lacks.
    pub fn load(&self, capsule: &Verified<Capsule>, operator: &Policy) -> Result<Loaded, LoadError> {
        operator.check()?;
        let policy = capsule.policy().intersect(operator);
        Ok(Loaded { capsule_id: capsule.id(), policy })
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime").field("config", &self.config).finish_non_exhaustive()
    }
}

/// A capsule ready to run any number of times, from any thread.
#[derive(Clone)]
pub struct Loaded {
    capsule_id: CapsuleId,
    policy: Policy,
}

impl Loaded {
    /// The capsule.
    #[must_use]
    pub const fn capsule_id(&self) -> CapsuleId {
        self.capsule_id
    }

    /// The effective policy.
    #[must_use]
    pub const fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Consumes the nonce, then runs; blocks the calling thread until the end.
    ///
    /// # Errors
    /// [`RunError`]: the nonce is spent, the store failed, or the host gave up.
    pub fn run(&self, invocation: &Invocation, nonces: &dyn NonceStore) -> Result<Execution, RunError> {
        let _ = (invocation, nonces);
        Err(Aborted::Host("engine not started".to_owned()).into())
    }
}

impl fmt::Debug for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loaded")
            .field("capsule_id", &self.capsule_id)
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

/// Runs again without spending the nonce and compares everything.
///
/// # Errors
/// [`ReplayError::Diverged`] names the first checkpoint that differs.
pub fn replay(loaded: &Loaded, invocation: &Invocation, execution: &Execution) -> Result<(), ReplayError> {
    let _ = (loaded, invocation, execution);
    Err(RunError::from(Aborted::Host("engine not started".to_owned())).into())
}
