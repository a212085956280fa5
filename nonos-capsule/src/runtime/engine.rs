//! The contract between the runtime and what executes WASM.

use core::fmt;
use std::sync::Arc;

use super::cache::ModuleKey;
use super::compile::CompileError;
use super::session::Session;
use crate::execution::TrapCode;
use crate::instrument::Metered;
use crate::profile::Outline;

/// Why an engine has no program.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The module was not compiled.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// The engine runs one module at a time.
    #[error("this engine links no libraries")]
    Unlinked,
    /// Something that no module is to blame for.
    #[error("{0}")]
    Failed(String),
}

/// Compiles metered modules.
///
/// Whatever the engine, the same module and session must give the same result: the module is
/// metered, so an engine adds no limits of its own within the policy and interprets WASM by the
/// letter, with canonical NaNs where [`Metered::has_floats`] says so.
pub trait Engine: Send + Sync {
    /// Name and version, for logs.
    fn name(&self) -> String;

    /// Compiles a module; an engine with a cache keeps it there under the key.
    ///
    /// # Errors
    /// [`EngineError`] if the engine does not take it.
    fn prepare(&self, key: &ModuleKey, module: &Metered) -> Result<Prepared, EngineError>;

    /// Compiles modules that run together: instances of one run that call each other.
    ///
    /// The parts are in an order in which each comes before its libraries, the one with the entry
    /// first; their instances have the same places. See [`Program::run`] for the rest.
    ///
    /// # Errors
    /// [`EngineError`] if the engine does not take them; [`EngineError::Unlinked`] if it takes no
    /// more than one module.
    fn link(&self, _: &[Part<'_>]) -> Result<Arc<dyn Program>, EngineError> {
        Err(EngineError::Unlinked)
    }

    /// What was kept for a key; an engine without a cache has nothing.
    fn recall(&self, _: &ModuleKey) -> Option<Prepared> {
        None
    }
}

/// A module of several that run together.
#[derive(Debug)]
pub struct Part<'a> {
    /// Where a cache keeps it.
    pub key: ModuleKey,
    /// The module.
    pub module: &'a Metered,
    /// Its libraries by ascending name: the module that its functions are imported from, and
    /// their part.
    pub libraries: Vec<(String, usize)>,
}

/// A program and what the loader checks about its module.
#[derive(Clone)]
pub struct Prepared {
    pub(crate) outline: Arc<Outline>,
    pub(crate) program: Arc<dyn Program>,
}

impl Prepared {
    /// A program of a metered module.
    #[must_use]
    pub fn new(module: &Metered, program: Arc<dyn Program>) -> Self {
        Self { outline: Arc::new(module.facts.outline()), program }
    }
}

impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prepared").finish_non_exhaustive()
    }
}

/// A compiled module.
pub trait Program: Send + Sync {
    /// Runs one instance from its beginning to its end, on the calling thread. What it needs of
    /// the thread's stack is small and does not depend on the guest.
    ///
    /// Order: instantiate within the session's limits; [`Session::begin`]; the start export if
    /// there is one; the entry; then [`Session::end`], always and once. Imports go to
    /// [`Session::tick`] and [`Session::call`]; when one of them says [`Stop`], the instance runs
    /// no further instruction.
    ///
    /// A program of several modules instantiates libraries before those that call them, and after
    /// [`Session::begin`] runs their start exports in the same order, each between
    /// [`Session::enter`] and [`Session::leave`]. These two stand around every call from one
    /// instance to another as well.
    fn run(&self, session: Box<Session>) -> Box<Session>;
}

/// What an engine shows of a running instance: at first the one with the entry.
pub trait Guest {
    /// Turns to another instance of the run, by its place; the other calls are about that one
    /// from then on.
    fn select(&mut self, _: usize) {}

    /// The linear memory, empty if the module has none.
    fn memory(&mut self) -> &mut [u8];

    /// The global `__nonos_gas`.
    fn gas(&mut self) -> i64;

    /// Sets the global `__nonos_gas`.
    fn set_gas(&mut self, gas: i64);

    /// The global `__nonos_depth`.
    fn depth(&mut self) -> i32;

    /// Sets the global `__nonos_depth`.
    fn set_depth(&mut self, depth: i32);

    /// Appends the bits of the module's own mutable globals in the order of
    /// [`Metered::global_exports`], each as little-endian bytes of its own width.
    fn globals(&mut self, out: &mut Vec<u8>);
}

/// The session ended the run; the instance must not continue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stop;

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("stopped by the session")
    }
}

impl core::error::Error for Stop {}

/// How an instance stopped, in the engine's eyes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum End {
    /// The entry returned.
    Returned,
    /// A trap of WASM, also while instantiating.
    Trapped(TrapCode),
    /// A host call or tick answered [`Stop`].
    Stopped,
    /// Anything else: no memory, native stack overflow, an engine's own failure.
    Failed(String),
}
