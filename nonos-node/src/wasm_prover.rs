//! The Groth16 prover as a WASM module, in place of the one that is compiled in.

mod instance;

use core::fmt;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use nonos_identity::Digest;
use nonos_zk::groth16::{Groth16Verifier, KeyError, KeySet};
use nonos_zk::{
    Profile, Proof, ProveError, ProveRequest, Prover, Statement, Verifier as _, VerifyingKeyId, Witness,
};
use zeroize::Zeroizing;

pub use self::instance::ModuleFault;
use self::instance::{Code, Instance};

/// What a module may use. A module that takes more is ended, and its proof fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WasmLimits {
    /// Largest linear memory, in bytes: stops a module from filling the machine's memory. It stays with
    /// the prover between proofs.
    pub memory_bytes_max: usize,
    /// Longest call, by the wall clock: stops a module that never returns from keeping an executor.
    pub call_time_max: Duration,
}

impl Default for WasmLimits {
    /// 512 MiB, where `Full` takes 263 and `Lite` 25; and ten minutes, a hundred times what `Full` takes
    /// on an idle machine.
    fn default() -> Self {
        Self { memory_bytes_max: 512 << 20, call_time_max: Duration::from_secs(10 * 60) }
    }
}

/// Why there is no prover from a module.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WasmProverError {
    /// The file cannot be read.
    #[error("cannot read the prover module {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// The file is longer than any module read.
    #[error("{path} is longer than {limit} bytes and no prover module", limit = WasmProver::MODULE_BYTES_MAX)]
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// Another module than the one pinned. The operator's to mend: it was built anew, or exchanged.
    #[error("the prover module has the digest {found}, and the one pinned is {pinned}")]
    Digest {
        /// SHA3-256 that the caller pins.
        pinned: Digest,
        /// SHA3-256 of the module.
        found: Digest,
    },
    /// Not a module that wasmtime takes; the fault of whoever built it.
    #[error("the prover module is not valid: {0}")]
    Invalid(String),
    /// The module asks for something of the host; the fault of whoever built it.
    #[error("the prover module imports {module}.{name}, and a prover gets nothing but memory")]
    Import {
        /// The module it imports from.
        module: String,
        /// The name.
        name: String,
    },
    /// The module lacks an export; the fault of whoever built it.
    #[error("the prover module does not export {0} as a prover does")]
    Export(&'static str),
    /// The caller's keys cannot be used.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// The module failed to take the keys.
    #[error("the prover module did not take the keys")]
    Load(#[source] ModuleFault),
    /// wasmtime does not start here.
    #[error("wasmtime does not start: {0}")]
    Engine(String),
}

/// Proves by a WASM module, `nonos-zk-guest` or another with its exports, and checks every proof with
/// the native verifier before anybody sees it.
///
/// One proof at a time: calls of other threads wait. The instance and the keys in it stay between
/// proofs; after a trap the next proof makes another.
///
/// Imports, memory and time of the module are limited, and a false proof is refused. One thing is
/// not: the module knows the witness, and a hostile one can hide it in the blinding of its proofs.
/// The digest is what stands against that, so pin the digest of a module that you built.
pub struct WasmProver {
    code: Code,
    keys: KeySet,
    verifier: Groth16Verifier,
    instance: Mutex<Option<Instance>>,
}

impl WasmProver {
    /// Longest module, in bytes; ours has 1.3 MB. It bounds what compiling costs.
    pub const MODULE_BYTES_MAX: usize = 16 << 20;

    /// Reads a module whose SHA3-256 the caller pins, and loads the keys into it.
    ///
    /// # Errors
    /// [`WasmProverError`] says what is wrong and whose it is to mend.
    pub fn open(
        path: &Path,
        pinned: &Digest,
        keys: KeySet,
        limits: WasmLimits,
    ) -> Result<Self, WasmProverError> {
        let failed = |source| WasmProverError::Io { path: path.into(), source };
        let file = std::fs::File::open(path).map_err(failed)?;
        let mut wasm = Vec::new();
        file.take(Self::MODULE_BYTES_MAX as u64 + 1).read_to_end(&mut wasm).map_err(failed)?;
        if wasm.len() > Self::MODULE_BYTES_MAX {
            return Err(WasmProverError::TooLong { path: path.into() });
        }
        Self::new(&wasm, pinned, keys, limits)
    }

    /// The same from the bytes of a module.
    ///
    /// # Errors
    /// [`WasmProverError`] says what is wrong and whose it is to mend.
    pub fn new(
        wasm: &[u8],
        pinned: &Digest,
        keys: KeySet,
        limits: WasmLimits,
    ) -> Result<Self, WasmProverError> {
        let found = Digest::of_bytes(wasm);
        if found != *pinned {
            return Err(WasmProverError::Digest { pinned: *pinned, found });
        }
        let verifier = Groth16Verifier::new(keys.verifying_key().clone())?;
        let code = Code::compile(wasm, limits)?;
        let instance = code.load(&keys).map_err(WasmProverError::Load)?;
        Ok(Self { code, keys, verifier, instance: Mutex::new(Some(instance)) })
    }

    /// Size of the module's linear memory, in bytes: the most that it ever was, as memory does not
    /// shrink. Zero after a fault, until the next proof.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let instance = self.instance.lock().unwrap_or_else(PoisonError::into_inner);
        instance.as_ref().map_or(0, Instance::memory_bytes)
    }

    /// A proof as the module gives it. Whatever faults an instance is not asked again.
    fn ask(&self, request: &[u8]) -> Result<Vec<u8>, ModuleFault> {
        let mut place = self.instance.lock().unwrap_or_else(PoisonError::into_inner);
        let mut instance = match place.take() {
            Some(instance) => instance,
            None => self.code.load(&self.keys)?,
        };
        let proof = instance.prove(request)?;
        *place = Some(instance);
        Ok(proof)
    }
}

impl Prover for WasmProver {
    fn profile(&self) -> Profile {
        self.keys.profile()
    }

    fn verifying_key_id(&self) -> VerifyingKeyId {
        self.keys.verifying_key().id()
    }

    fn prove(&self, statement: &Statement, witness: &Witness, seed: [u8; 32]) -> Result<Proof, ProveError> {
        let seed = Zeroizing::new(seed);
        // Which gate fails is for us to say, not for the module.
        witness.check(statement)?;
        let request = ProveRequest::to_secret_bytes(statement, witness, &seed)
            .map_err(|error| ProveError::Engine(format!("the witness is too long for a module: {error}")))?;
        let bytes = self.ask(&request).map_err(|fault| ProveError::Engine(fault.to_string()))?;
        let proof = Proof::new(self.profile(), bytes)?;
        self.verifier.verify(statement, &proof).map_err(|error| {
            ProveError::Engine(format!("the prover module gave a proof that does not hold: {error}"))
        })?;
        Ok(proof)
    }
}

impl fmt::Debug for WasmProver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WasmProver")
            .field("code", &self.code)
            .field("keys", &self.keys)
            .finish_non_exhaustive()
    }
}
