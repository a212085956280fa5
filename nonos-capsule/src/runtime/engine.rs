//! The contract between the runtime and what executes WASM.

use core::fmt;
use std::sync::Arc;

use crate::execution::TrapCode;
use crate::instrument::Metered;

use super::session::Session;

/// An engine failed at something a capsule is not to blame for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct EngineError(pub String);

/// Compiles metered modules.
///
/// Whatever the engine, the same module and session must give the same result: the module is
/// metered, so an engine adds no limits of its own within the policy and interprets WASM by the
/// letter, with canonical NaNs where [`Metered::has_floats`] says so.
pub trait Engine: Send + Sync {
    /// Name and version, for logs.
    fn name(&self) -> String;

    /// Compiles a module.
    ///
    /// # Errors
    /// [`EngineError`] if the engine does not take it.
    fn prepare(&self, module: &Metered) -> Result<Arc<dyn Program>, EngineError>;
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
    fn run(&self, session: Box<Session>) -> Box<Session>;
}

/// What an engine shows of a running instance.
pub trait Guest {
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
