//! Loading and running: the only part of the crate that touches a clock and machine code.

use core::fmt;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;

use crate::capsule::{Capsule, CapsuleId};
#[cfg(all(feature = "testing", feature = "wasmi"))]
use crate::cpu_feature::CpuFeatureSet;
use crate::dependency::Dependency;
use crate::execution::{Execution, Invocation, Preopen};
use crate::fs::Image;
use crate::host_call::HostCall;
use crate::instrument;
use crate::interface::Function;
use crate::isolation::Wall;
use crate::manifest::Kind;
use crate::mesh_port::{MeshPort, NoMesh, Recorded};
use crate::policy::Policy;
use crate::profile::{Caps, Outline};
use crate::resolve::Resolved;
use crate::store::{NonceError, NonceStore};
use nonos_identity::{Verified, WideDigest};

pub(crate) mod cache;
pub(crate) mod compile;
pub(crate) mod engine;
pub(crate) mod error;
mod guest;
mod link;
mod nonos;
pub(crate) mod session;
pub(crate) mod wasi;
#[cfg(feature = "wasmi")]
pub(crate) mod wasmi;
pub(crate) mod wasmtime;

use self::cache::{AotCache, ModuleKey};
use self::compile::Compiler;
use self::engine::{Engine, EngineError, Prepared, Program};
use self::error::{Aborted, LoadError, ReplayError, RunError};
use self::session::{Code, Command, Session};
use self::wasmtime::WasmtimeEngine;

/// How a runtime treats all capsules.
#[derive(Debug)]
pub struct Config {
    /// Runs at a time that fit the pool of linear memories and stacks; more fall back to fresh
    /// mappings.
    pub pool_slots: u32,
    /// What a payload may contain at most, checked before anything is compiled.
    pub caps: Caps,
    /// Where payloads are compiled.
    pub compiler: Compiler,
    /// Where compiled payloads are kept between runs of the node; without, each start compiles.
    pub cache: Option<AotCache>,
}

impl Default for Config {
    fn default() -> Self {
        Self { pool_slots: 8, caps: Caps::default(), compiler: Compiler::default(), cache: None }
    }
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
        let engine = Arc::new(WasmtimeEngine::new(config.pool_slots, config.compiler, config.cache)?);
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
    /// [`LoadError`] says what the payload or policy lacks; [`LoadError::Unresolved`] that the
    /// capsule needs others.
    pub fn load(&self, capsule: &Verified<Capsule>, operator: &Policy) -> Result<Loaded, LoadError> {
        match capsule.dependencies().len() {
            0 => self.load_with(capsule, Arc::new([]), operator),
            count => Err(LoadError::Unresolved(count)),
        }
    }

    /// As [`Self::load`], with everything the capsule needs: images are mounted, libraries linked.
    ///
    /// Every capsule among the libraries and theirs is one instance of a run, however many need
    /// it, with memory, tables and globals of its own. What policy it was packed with plays no
    /// part: the limits of the run are the command's and the operator's, for all instances
    /// together.
    ///
    /// # Errors
    /// [`LoadError`], also if the payload of an image is none or a library does not fit.
    pub fn load_resolved(&self, resolved: &Resolved, operator: &Policy) -> Result<Loaded, LoadError> {
        let mut mounts = Vec::new();
        let mut is_linked = false;
        for (dependency, needed) in resolved.dependencies() {
            let Dependency { name, mount, .. } = dependency;
            let payload = needed.capsule().payload();
            match mount {
                Some(path) => {
                    let image = Image::from_tar(payload)
                        .map_err(|error| LoadError::Image { name: name.clone(), error })?;
                    mounts.push(Preopen { path: path.clone(), image });
                }
                None => is_linked = true,
            }
        }
        if is_linked {
            self.load_linked(resolved, mounts.into(), operator)
        } else {
            self.load_with(resolved.capsule(), mounts.into(), operator)
        }
    }

    fn load_with(
        &self,
        capsule: &Verified<Capsule>,
        mounts: Arc<[Preopen]>,
        operator: &Policy,
    ) -> Result<Loaded, LoadError> {
        let (policy, entry) = effective(capsule, operator)?;
        let payload = capsule.payload_digest();
        let key = ModuleKey::of(&payload, &self.caps);
        let Prepared { outline, program } = match self.engine.recall(&key) {
            Some(prepared) => prepared,
            None => {
                let module = instrument::meter(capsule.payload(), &self.caps)?;
                check(&module.facts.outline(), &policy, &entry)?;
                self.engine.prepare(&key, &module)?
            }
        };
        // What was kept was kept under another policy, perhaps for another entry.
        check(&outline, &policy, &entry)?;
        check_mounts(&mounts, &policy)?;
        let code = Code { payload, cpu_features: outline.cpu_features };
        Ok(Loaded::new(Command::new(capsule.id(), code, policy, entry).with_mounts(mounts), program))
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime").field("engine", &self.engine.name()).finish_non_exhaustive()
    }
}

/// The policy and the entry of a command.
fn effective(capsule: &Verified<Capsule>, operator: &Policy) -> Result<(Policy, String), LoadError> {
    operator.check()?;
    let policy = capsule.policy().intersect(operator);
    match capsule.manifest().kind {
        Kind::Command => Ok((policy, capsule.manifest().entry.clone())),
        kind => Err(LoadError::Kind(kind)),
    }
}

fn check(outline: &Outline, policy: &Policy, entry: &str) -> Result<(), LoadError> {
    check_declared(outline, policy)?;
    outline.imports.iter().try_for_each(|import| host_call(import).map(|_| ()))?;
    check_entry(outline, entry)
}

fn check_declared(outline: &Outline, policy: &Policy) -> Result<(), LoadError> {
    let declared = [
        ("memory pages", outline.memory_pages_min.unwrap_or(0), policy.memory_pages_max),
        ("table entries", outline.table_elems, policy.table_elems_max),
    ];
    for (what, declared, allowed) in declared {
        let allowed = u64::from(allowed);
        if declared > allowed {
            return Err(LoadError::Declared { what, declared, allowed });
        }
    }
    match outline.cpu_features.first_beyond(policy.cpu_features) {
        Some(feature) => Err(LoadError::CpuFeature(feature)),
        None => Ok(()),
    }
}

fn check_mounts(mounts: &[Preopen], policy: &Policy) -> Result<(), LoadError> {
    match !mounts.is_empty() && policy.isolation.contains(Wall::Files) {
        true => Err(LoadError::Isolation(Wall::Files)),
        false => Ok(()),
    }
}

/// The host's function of an import.
fn host_call(import: &Function) -> Result<HostCall, LoadError> {
    let Function { module, name, signature } = import;
    let call = name.parse::<HostCall>().ok().filter(|call| module == call.module());
    let Some(call) = call else {
        return Err(LoadError::UnknownImport { module: module.clone(), name: name.clone() });
    };
    if *signature == call.signature() { Ok(call) } else { Err(LoadError::ImportType { name: name.clone() }) }
}

fn check_entry(outline: &Outline, entry: &str) -> Result<(), LoadError> {
    let is_entry = |export: &Function| export.name == entry && export.signature == ":";
    if outline.exports.iter().any(is_entry) { Ok(()) } else { Err(LoadError::Entry(entry.to_owned())) }
}

/// A capsule ready to run any number of times, from any thread.
#[derive(Clone)]
pub struct Loaded {
    command: Arc<Command>,
    program: Arc<dyn Program>,
}

impl Loaded {
    fn new(command: Command, program: Arc<dyn Program>) -> Self {
        Self { command: Arc::new(command), program }
    }

    /// The capsule.
    #[must_use]
    pub fn capsule_id(&self) -> CapsuleId {
        self.command.capsule_id
    }

    /// The effective policy.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.command.policy
    }

    /// The first checkpoint of every run of an invocation: a commitment to all that decides it.
    #[must_use]
    pub fn genesis(&self, invocation: &Invocation) -> WideDigest {
        self.command.genesis(&invocation.nonce, &invocation.digest())
    }

    /// Consumes the nonce, then runs without a mesh; blocks the calling thread until the end.
    ///
    /// # Errors
    /// [`RunError`]: the nonce is spent, the store failed, or the host gave up.
    pub fn run(&self, invocation: &Invocation, nonces: &dyn NonceStore) -> Result<Execution, RunError> {
        self.run_with(invocation, nonces, Box::new(NoMesh))
    }

    /// As [`Self::run`], with a port to the mesh.
    ///
    /// # Errors
    /// [`RunError`]: the nonce is spent, the store failed, or the host gave up.
    pub fn run_with(
        &self,
        invocation: &Invocation,
        nonces: &dyn NonceStore,
        port: Box<dyn MeshPort>,
    ) -> Result<Execution, RunError> {
        self.consume(invocation, nonces)?;
        Ok(self.session(invocation, port)?.into_execution()?)
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
        let session = self.session(invocation, Box::new(NoMesh))?;
        let images = session.images();
        Ok((session.into_execution()?, images))
    }

    /// Checks the limits of an invocation, and that the policy lets it have files if it brings some.
    fn check(&self, invocation: &Invocation) -> Result<(), RunError> {
        invocation.check()?;
        let is_walled = self.command.policy.isolation.contains(Wall::Files);
        match is_walled && self.command.has_files(invocation) {
            true => Err(RunError::Invocation("preopened directories, and the policy requires a run without")),
            false => Ok(()),
        }
    }

    fn consume(&self, invocation: &Invocation, nonces: &dyn NonceStore) -> Result<(), RunError> {
        self.check(invocation)?;
        nonces.consume(&invocation.nonce_key(&self.command.capsule_id)).map_err(|error| match error {
            NonceError::Used => RunError::NonceUsed,
            NonceError::Store(error) => RunError::Store(error),
        })
    }

    #[cfg(all(feature = "testing", feature = "wasmi"))]
    pub(crate) fn of(
        capsule_id: CapsuleId,
        cpu_features: CpuFeatureSet,
        policy: Policy,
        entry: String,
        program: Arc<dyn Program>,
    ) -> Self {
        let code = Code { payload: WideDigest::of_bytes(&[]), cpu_features };
        Self::new(Command::new(capsule_id, code, policy, entry), program)
    }

    #[cfg(all(feature = "testing", feature = "wasmi"))]
    pub(crate) fn execute(&self, invocation: &Invocation) -> Result<Execution, Aborted> {
        self.session(invocation, Box::new(NoMesh))?.into_execution()
    }

    /// Runs on the calling thread; a panic of the engine stays in here.
    fn session(&self, invocation: &Invocation, port: Box<dyn MeshPort>) -> Result<Box<Session>, Aborted> {
        self.session_until(invocation, port, None)
    }

    /// As [`Self::session`], and stops when the chain has so many links.
    fn session_until(
        &self,
        invocation: &Invocation,
        port: Box<dyn MeshPort>,
        links_max: Option<usize>,
    ) -> Result<Box<Session>, Aborted> {
        let session = Session::new(Arc::clone(&self.command), invocation.clone(), port);
        let session = Box::new(session.with_links_max(links_max));
        let run = AssertUnwindSafe(|| self.program.run(session));
        panic::catch_unwind(run).map_err(|_| Aborted::Host("engine panicked".to_owned()))
    }
}

impl fmt::Debug for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loaded")
            .field("capsule_id", &self.command.capsule_id)
            .field("policy", &self.command.policy)
            .finish_non_exhaustive()
    }
}

/// Runs again without spending the nonce and compares everything.
///
/// # Errors
/// [`ReplayError::Diverged`] names the first checkpoint that differs.
pub fn replay(loaded: &Loaded, invocation: &Invocation, execution: &Execution) -> Result<(), ReplayError> {
    loaded.check(invocation).map_err(ReplayError::Run)?;
    let port = Box::new(Recorded::new(&execution.inbound));
    let own = loaded.session(invocation, port).and_then(|session| session.into_execution());
    let own = own.map_err(RunError::from)?;
    if own == *execution {
        return Ok(());
    }
    let pairs = own.checkpoints.iter().zip(&execution.checkpoints);
    let agreed = pairs.take_while(|(own, theirs)| own == theirs).count();
    Err(ReplayError::Diverged { checkpoint: u32::try_from(agreed).unwrap_or(u32::MAX) })
}

/// A run that was made again, perhaps not to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rerun {
    /// The chain, genesis first.
    pub checkpoints: Vec<WideDigest>,
    /// Gas used until there.
    pub gas_used: u64,
    /// The whole execution, if the run came to its end.
    pub execution: Option<Execution>,
}

/// Runs again without spending the nonce and without a mesh, and stops at the checkpoint of a
/// position: no instruction after it is executed. Without one it runs to the end.
///
/// An engine cannot resume in the middle of a stack, so every run starts at the start.
///
/// # Errors
/// [`RunError`] if the host gave up before.
pub fn replay_until(loaded: &Loaded, invocation: &Invocation, last: Option<u32>) -> Result<Rerun, RunError> {
    invocation.check()?;
    let links_max = last.map(|last| (last as usize).saturating_add(1));
    if links_max == Some(1) {
        let checkpoints = vec![loaded.genesis(invocation)];
        return Ok(Rerun { checkpoints, gas_used: 0, execution: None });
    }
    Ok(loaded.session_until(invocation, Box::new(NoMesh), links_max)?.into_rerun()?)
}
