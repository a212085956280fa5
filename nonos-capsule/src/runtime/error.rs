//! Why a capsule does not load, run, or agree.

use super::engine::EngineError;
use crate::cpu_feature::CpuFeature;
use crate::fs::ImageError;
use crate::isolation::Wall;
use crate::manifest::Kind;
use crate::policy::PolicyError;
use crate::profile::ProfileError;
use crate::store::StoreError;

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
    /// The payload, or all of a capsule and its libraries, declares more memory or table than the effective policy grants.
    #[error("{what} of {declared} exceeds the policy's {allowed}")]
    Declared {
        /// Memory or table.
        what: &'static str,
        /// As declared by the module.
        declared: u64,
        /// As granted.
        allowed: u64,
    },
    /// The payload, or that of a library, asks for more of the processor than the effective policy allows.
    #[error("the payload uses {0}, which the policy does not allow")]
    CpuFeature(CpuFeature),
    /// The capsule needs what is behind a wall that the effective policy requires.
    #[error("the capsule needs {0}, and the policy requires a run without")]
    Isolation(Wall),
    /// The module imports something that no host has. The author's fault.
    #[error(
        "unknown import {module}.{name}: a capsule may import functions of {} and {} only",
        crate::HostCall::WASI_MODULE,
        crate::HostCall::NONOS_MODULE
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
    /// The engine has no program for the metered module.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A library or an image: only commands run.
    #[error("a capsule of kind {0:?} does not run by itself")]
    Kind(Kind),
    /// The payload of an image that the capsule needs is no archive of files.
    #[error("dependency {name}: {error}")]
    Image {
        /// The name that the capsule gives it.
        name: String,
        /// What is wrong with it.
        error: ImageError,
    },
    /// A library among the dependencies is at fault: its author's fault.
    #[error("library {name}: {error}")]
    Library {
        /// The name that the capsule which needs it gives it.
        name: String,
        /// What is wrong with it.
        error: Box<Self>,
    },
    /// A library imports a function of the host or of nobody. The fault of the library's author.
    #[error(
        "import {module}.{name}: a library may import functions of its own libraries, {} and {} only",
        crate::HostCall::LibraryRead,
        crate::HostCall::LibraryWrite
    )]
    LibraryImport {
        /// The module name.
        module: String,
        /// The function name.
        name: String,
    },
    /// The module imports a function that the library does not export. The fault of the author of
    /// the module, not of the library.
    #[error("library {library} exports no function {function}")]
    LibraryFunction {
        /// The name that the module gives the library.
        library: String,
        /// The function name.
        function: String,
    },
    /// The library exports the function with another type, or one that is not of numbers only. The
    /// fault of the author of the module, not of the library. Types are in the letters of
    /// [`Function`](crate::Function).
    #[error("function {function} of library {library} is imported as {import} and exported as {export}")]
    LibrarySignature {
        /// The name that the module gives the library.
        library: String,
        /// The function name.
        function: String,
        /// The type that the module asks for.
        import: String,
        /// The type that the library has.
        export: String,
    },
    /// The functions that one module imports from libraries take more code to call than we write.
    #[error("calls of libraries take {slots} stack slots, more than {limit}")]
    LibraryCalls {
        /// Slots of a frame for each function, added up.
        slots: u32,
        /// The limit.
        limit: u32,
    },
    /// More libraries than a run may have, those of libraries counted.
    #[error("more than {limit} libraries")]
    TooManyLibraries {
        /// The limit.
        limit: usize,
    },
    /// A library needs an image, and cannot open files. The fault of the library's author.
    #[error("dependency {name} of a library is an image, and a library has no files")]
    LibraryImage {
        /// The name that the library gives it.
        name: String,
    },
    /// The capsule has dependencies, and [`Runtime::load`](crate::Runtime::load) resolves none: see
    /// [`Runtime::load_resolved`](crate::Runtime::load_resolved).
    #[error("the capsule has {0} dependencies, which were not resolved")]
    Unresolved(usize),
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
