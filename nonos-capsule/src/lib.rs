#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod attestation;
mod capsule;
mod checkpoint;
mod chunk;
mod container;
mod cpu_feature;
mod dependency;
mod disclosure;
pub mod dispute;
pub mod domains;
mod execution;
mod flag_set;
mod fs;
mod head;
mod host_call;
pub mod instrument;
mod interface;
mod isolation;
mod manifest;
mod mesh_port;
mod operator;
mod payload;
mod policy;
mod profile;
mod resolve;
mod runtime;
mod signature;
mod store;
mod store_file;
#[cfg(feature = "testing")]
pub mod testing;

pub use crate::attestation::{AttestError, Attestation};
pub use crate::capsule::{Capsule, CapsuleId, Inspection};
pub use crate::chunk::{CHUNK_BYTES, Chunk, ChunkError};
pub use crate::container::FormatError;
pub use crate::cpu_feature::{CpuFeature, CpuFeatureSet};
pub use crate::dependency::{Dependency, DependencyError};
pub use crate::disclosure::{
    Field, FieldOpening, FieldOpeningError, FieldsError, Hidden, HiddenFields, Recipient, Release,
    ReleaseError,
};
pub use crate::execution::{Execution, Invocation, Preopen, Status, TrapCode};
pub use crate::fs::{Image, ImageError};
pub use crate::head::Head;
pub use crate::host_call::{HostCall, HostCallSet, UnknownHostCall};
pub use crate::interface::{Function, Interface};
pub use crate::isolation::{Wall, WallSet};
pub use crate::manifest::{Abi, Kind, Manifest, ManifestError, PayloadDigest, PayloadInfo};
pub use crate::mesh_port::{Inbound, MeshPort, NoMesh, PortError};
pub use crate::payload::{PayloadError, function_name, wasm_from_wat_or_wasm};
pub use crate::policy::{ClockMode, MeshPolicy, Policy, PolicyError, RandomMode};
pub use crate::profile::{Caps, ProfileError};
pub use crate::resolve::{ResolveError, Resolved};
pub use crate::runtime::cache::{AotCache, ModuleKey};
pub use crate::runtime::compile::{CompileError, CompileLimits, Compiler, compile_worker};
pub use crate::runtime::engine::{End, Engine, EngineError, Guest, Part, Prepared, Program, Stop};
pub use crate::runtime::error::{Aborted, LoadError, ReplayError, RunError};
pub use crate::runtime::session::Session;
#[cfg(feature = "wasmi")]
pub use crate::runtime::wasmi::WasmiEngine;
pub use crate::runtime::{Config, Loaded, Rerun, Runtime, replay, replay_until};
pub use crate::signature::{
    AssembleError, CheckSigned, PackError, SignError, SignaturePolicy, SignatureRecord, SignerRole,
    Thresholds, VerifyError,
};
pub use crate::store::{CapsuleStore, NonceError, NonceStore, StoreError};
pub use crate::store_file::{FileCapsuleStore, FileNonceStore};
