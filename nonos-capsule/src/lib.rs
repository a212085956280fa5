#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod capsule;
mod checkpoint;
mod chunk;
mod container;
pub mod domains;
mod execution;
mod fs;
mod head;
mod host_call;
pub mod instrument;
mod manifest;
mod operator;
mod payload;
mod policy;
mod profile;
mod runtime;
mod signature;
mod store;
mod store_file;
#[cfg(feature = "testing")]
pub mod testing;

pub use crate::capsule::{Capsule, CapsuleId, Inspection};
pub use crate::chunk::{CHUNK_BYTES, Chunk, ChunkError};
pub use crate::container::FormatError;
pub use crate::execution::{Execution, Invocation, Preopen, Status, TrapCode};
pub use crate::fs::{Image, ImageError};
pub use crate::head::Head;
pub use crate::host_call::{HostCall, HostCallSet, UnknownHostCall};
pub use crate::manifest::{Abi, Manifest, ManifestError, PayloadInfo};
pub use crate::payload::{PayloadError, wasm_from_wat_or_wasm};
pub use crate::policy::{ClockMode, Policy, PolicyError, RandomMode};
pub use crate::profile::{Caps, ProfileError};
pub use crate::runtime::engine::{End, Engine, EngineError, Guest, Program, Stop};
pub use crate::runtime::session::Session;
#[cfg(feature = "wasmi")]
pub use crate::runtime::wasmi::WasmiEngine;
pub use crate::runtime::{Aborted, Config, LoadError, Loaded, ReplayError, RunError, Runtime, replay};
pub use crate::signature::{
    AssembleError, CheckSigned, PackError, SignError, SignaturePolicy, SignatureRecord, SignerRole,
    VerifyError,
};
pub use crate::store::{CapsuleStore, NonceError, NonceStore, StoreError};
pub use crate::store_file::{FileCapsuleStore, FileNonceStore};
