//! Loading and running: the only part of the crate that touches a clock and machine code.

use core::fmt;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;

use nonos_identity::Verified;
use wasmparser::ValType;

use crate::capsule::{Capsule, CapsuleId};
use crate::execution::{Execution, Invocation};
use crate::fs::Image;
use crate::host_call::HostCall;
use crate::instrument::{self, Metered};
use crate::policy::{Policy, PolicyError};
use crate::profile::{Caps, ProfileError};
use crate::store::{NonceError, NonceStore, StoreError};

pub(crate) mod engine;
mod guest;
pub(crate) mod session;
pub(crate) mod wasi;
#[cfg(feature = "wasmi")]
pub(crate) mod wasmi;
pub(crate) mod wasmtime;

use self::engine::{Engine, EngineError, Program};
use self::session::Session;
use self::wasmtime::WasmtimeEngine;

/// How a runtime treats all capsules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Runs at a time that fit the pool of linear memories and stacks; more fall back to fresh
    /// mappings.
    pub pool_slots: u32,
    /// What a payload may contain at most, checked before anything is compiled.
    pub caps: Caps,
}

impl Default for Config {
    fn default() -> Self {
        Self { pool_slots: 8, caps: Caps::default() }
    }
}

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
    Compile(EngineError),
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
    engine: Arc<dyn Engine>,
    caps: Caps,
}

impl Runtime {
    /// Starts the wasmtime engine.
    ///
    /// # Errors
    /// [`EngineError`] if this machine cannot run it; the operator's to fix.
    pub fn new(config: Config) -> Result<Self, EngineError> {
        let engine = Arc::new(WasmtimeEngine::new(config.pool_slots)?);
        Ok(Self::with_engine(config.caps, engine))
    }

    /// Uses an engine of the embedder's.
    #[must_use]
    pub fn with_engine(caps: Caps, engine: Arc<dyn Engine>) -> Self {
        Self { engine, caps }
    }

    /// Validates, meters and compiles the payload under what both policies allow.
    ///
    /// # Errors
    /// [`LoadError`] says what the payload or policy lacks.
    pub fn load(&self, capsule: &Verified<Capsule>, operator: &Policy) -> Result<Loaded, LoadError> {
        operator.check()?;
        let policy = capsule.policy().intersect(operator);
        let entry = capsule.manifest().entry.clone();
        let module = instrument::meter(capsule.payload(), &self.caps)?;
        check_declared(&module, &policy)?;
        check_imports(&module)?;
        check_entry(&module, &entry)?;
        let program = self.engine.prepare(&module).map_err(LoadError::Compile)?;
        Ok(Loaded { capsule_id: capsule.id(), policy, entry, program })
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime").field("engine", &self.engine.name()).finish_non_exhaustive()
    }
}

fn check_declared(module: &Metered, policy: &Policy) -> Result<(), LoadError> {
    let declared = [
        ("memory pages", module.facts.memory_pages_min.unwrap_or(0), policy.memory_pages_max),
        ("table entries", module.facts.table_elems, policy.table_elems_max),
    ];
    for (what, declared, allowed) in declared {
        let allowed = u64::from(allowed);
        if declared > allowed {
            return Err(LoadError::Declared { what, declared, allowed });
        }
    }
    Ok(())
}

fn check_imports(module: &Metered) -> Result<(), LoadError> {
    for (from, name, ty) in &module.facts.imports {
        let call = name.parse::<HostCall>().ok().filter(|_| from == HostCall::MODULE);
        let Some(call) = call else {
            return Err(LoadError::UnknownImport { module: from.clone(), name: name.clone() });
        };
        let params = call.params().chars().map(|kind| if kind == 'I' { ValType::I64 } else { ValType::I32 });
        let results: &[ValType] = if call == HostCall::ProcExit { &[] } else { &[ValType::I32] };
        if !params.eq(ty.params().iter().copied()) || ty.results() != results {
            return Err(LoadError::ImportType { name: name.clone() });
        }
    }
    Ok(())
}

fn check_entry(module: &Metered, entry: &str) -> Result<(), LoadError> {
    let facts = &module.facts;
    let export = facts.function_exports.iter().find(|(name, _)| name == entry);
    let ty = export.and_then(|(_, index)| facts.function_type(*index));
    if ty.is_some_and(|ty| ty.params().is_empty() && ty.results().is_empty()) {
        return Ok(());
    }
    Err(LoadError::Entry(entry.to_owned()))
}

/// A capsule ready to run any number of times, from any thread.
#[derive(Clone)]
pub struct Loaded {
    capsule_id: CapsuleId,
    policy: Policy,
    entry: String,
    program: Arc<dyn Program>,
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
        self.consume(invocation, nonces)?;
        Ok(self.execute(invocation)?)
    }

    /// As [`Self::run`], and gives back what is in each preopened directory at the end, in the
    /// order of [`Invocation::preopens`]. The last checkpoint commits to it.
    ///
    /// # Errors
    /// [`RunError`]: the nonce is spent, the store failed, or the host gave up.
    pub fn run_with_files(
        &self,
        invocation: &Invocation,
        nonces: &dyn NonceStore,
    ) -> Result<(Execution, Vec<Image>), RunError> {
        self.consume(invocation, nonces)?;
        let session = self.session(invocation)?;
        let images = session.images();
        Ok((session.into_execution()?, images))
    }

    fn consume(&self, invocation: &Invocation, nonces: &dyn NonceStore) -> Result<(), RunError> {
        invocation.check()?;
        nonces.consume(&invocation.nonce_key(&self.capsule_id)).map_err(|error| match error {
            NonceError::Used => RunError::NonceUsed,
            NonceError::Store(error) => RunError::Store(error),
        })
    }

    pub(crate) fn execute(&self, invocation: &Invocation) -> Result<Execution, Aborted> {
        self.session(invocation)?.into_execution()
    }

    #[cfg(all(feature = "testing", feature = "wasmi"))]
    pub(crate) const fn of(
        capsule_id: CapsuleId,
        policy: Policy,
        entry: String,
        program: Arc<dyn Program>,
    ) -> Self {
        Self { capsule_id, policy, entry, program }
    }

    /// Runs on the calling thread; a panic of the engine stays in here.
    fn session(&self, invocation: &Invocation) -> Result<Box<Session>, Aborted> {
        let session =
            Session::new(self.capsule_id, self.entry.clone(), self.policy.clone(), invocation.clone());
        let run = AssertUnwindSafe(|| self.program.run(Box::new(session)));
        panic::catch_unwind(run).map_err(|_| Aborted::Host("engine panicked".to_owned()))
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
    invocation.check().map_err(ReplayError::Run)?;
    let own = loaded.execute(invocation).map_err(RunError::from)?;
    if own == *execution {
        return Ok(());
    }
    let pairs = own.checkpoints.iter().zip(&execution.checkpoints);
    let agreed = pairs.take_while(|(own, theirs)| own == theirs).count();
    Err(ReplayError::Diverged { checkpoint: u32::try_from(agreed).unwrap_or(u32::MAX) })
}
