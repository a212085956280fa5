#![doc = include_str!("../README.md")]

use core::fmt;
use core::hash::Hasher;

use wasmtime::{Engine, Module};
use zeroize::Zeroizing;

/// Bytes of a seal.
const SEAL_BYTES: usize = 32;

/// What separates these seals from any other use of BLAKE3 with the same key.
const DOMAIN: &[u8] = b"nonos/capsule/aot-seal/v1";

/// The key of the seals: drawn at random on the machine that uses it, and never sent anywhere.
///
/// Whoever knows it can make this machine run any code.
pub struct SealKey(Zeroizing<[u8; 32]>);

impl SealKey {
    /// From 32 random bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }
}

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealKey(..)")
    }
}

/// The seal does not hold: another key, another context, or altered bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("compiled code does not carry the seal of this machine for this module")]
pub struct SealError;

/// Machine code of one module for one engine.
pub struct Artifact {
    /// A seal, or room for one, and the code.
    bytes: Vec<u8>,
}

impl Artifact {
    /// Compiles a module.
    ///
    /// # Errors
    /// wasmtime's, if it does not take the module.
    pub fn compile(engine: &Engine, wasm: &[u8]) -> wasmtime::Result<Self> {
        let code = engine.precompile_module(wasm)?;
        let mut bytes = vec![0; SEAL_BYTES];
        bytes.extend_from_slice(&code);
        Ok(Self { bytes })
    }

    /// The code with a seal over it and a context: whatever must be equal for the code to be
    /// used again.
    #[must_use]
    pub fn seal(mut self, key: &SealKey, context: &[u8]) -> Vec<u8> {
        let seal = seal(key, context, self.code());
        for (to, from) in self.bytes.iter_mut().zip(seal.as_bytes()) {
            *to = *from;
        }
        self.bytes
    }

    /// Takes sealed code.
    ///
    /// # Errors
    /// [`SealError`] if it was not sealed with this key for this context.
    pub fn open(key: &SealKey, context: &[u8], sealed: Vec<u8>) -> Result<Self, SealError> {
        let artifact = Self { bytes: sealed };
        let (found, _) = artifact.bytes.split_first_chunk::<SEAL_BYTES>().ok_or(SealError)?;
        // Compared in constant time: `blake3::Hash` does.
        if seal(key, context, artifact.code()) != blake3::Hash::from_bytes(*found) {
            return Err(SealError);
        }
        Ok(artifact)
    }

    /// Makes the code executable.
    ///
    /// # Errors
    /// wasmtime's, if the code is for another version, processor or configuration.
    pub fn load(&self, engine: &Engine) -> wasmtime::Result<Module> {
        #[expect(unsafe_code, reason = "wasmtime cannot check machine code; see the safety comment")]
        // SAFETY: `deserialize` wants bytes that `Engine::precompile_module` or
        // `Module::serialize` returned, unaltered. An `Artifact` is made in two places:
        // `compile` takes them from `precompile_module`, and `open` takes what `seal` wrote over
        // such bytes under a secret key. wasmtime itself refuses another version, target or
        // layout of memory; settings that change results only, such as canonical NaNs, are the
        // caller's to bind into the context, by `compatibility`.
        unsafe {
            Module::deserialize(engine, self.code())
        }
    }

    /// Length of the code, in bytes.
    #[must_use]
    pub fn code_bytes(&self) -> usize {
        self.code().len()
    }

    fn code(&self) -> &[u8] {
        self.bytes.get(SEAL_BYTES..).unwrap_or_default()
    }
}

impl fmt::Debug for Artifact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Artifact({} bytes)", self.code_bytes())
    }
}

/// BLAKE3 rather than SHA3: at 20 MiB it is the difference between 6 and 70 ms of a start.
fn seal(key: &SealKey, context: &[u8], code: &[u8]) -> blake3::Hash {
    let mut hash = blake3::Hasher::new_keyed(&key.0);
    for part in [DOMAIN, context] {
        hash.update(&(part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.update(code);
    hash.finalize()
}

/// What code compiled by an engine depends on beside the module: version and settings of
/// wasmtime and Cranelift, target and its processor features. Equal bytes, usable code.
#[must_use]
pub fn compatibility(engine: &Engine) -> [u8; 32] {
    struct Collect(blake3::Hasher);
    impl Hasher for Collect {
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }

        fn finish(&self) -> u64 {
            0
        }
    }
    let mut collect = Collect(blake3::Hasher::new());
    core::hash::Hash::hash(&engine.precompile_compatibility_hash(), &mut collect);
    *collect.0.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &str = r#"(module (func (export "answer") (result i32) (i32.const 42)))"#;

    fn key(byte: u8) -> SealKey {
        SealKey::from_bytes([byte; 32])
    }

    fn answer(artifact: &Artifact, engine: &Engine) -> i32 {
        let module = artifact.load(engine).unwrap();
        let mut store = wasmtime::Store::new(engine, ());
        let instance = wasmtime::Instance::new(&mut store, &module, &[]).unwrap();
        instance.get_typed_func::<(), i32>(&mut store, "answer").unwrap().call(&mut store, ()).unwrap()
    }

    fn compile(engine: &Engine) -> Artifact {
        Artifact::compile(engine, &wat::parse_str(ANSWER).unwrap()).unwrap()
    }

    #[test]
    fn sealed_code_runs_after_it_was_opened() {
        let engine = Engine::default();
        let sealed = compile(&engine).seal(&key(1), b"module");
        let artifact = Artifact::open(&key(1), b"module", sealed).unwrap();
        assert_eq!(answer(&artifact, &engine), 42);
        assert_eq!(answer(&compile(&engine), &engine), 42);
    }

    #[test]
    fn nothing_else_opens() {
        let engine = Engine::default();
        let sealed = compile(&engine).seal(&key(1), b"module");
        let open = |key: &SealKey, context: &[u8], bytes| Artifact::open(key, context, bytes).map(|_| ());
        assert_eq!(open(&key(2), b"module", sealed.clone()), Err(SealError));
        assert_eq!(open(&key(1), b"other", sealed.clone()), Err(SealError));
        for place in [0, 31, 32, sealed.len() / 2, sealed.len() - 1] {
            let mut altered = sealed.clone();
            altered[place] ^= 1;
            assert_eq!(open(&key(1), b"module", altered), Err(SealError), "byte {place}");
        }
        assert_eq!(open(&key(1), b"module", sealed[..sealed.len() - 1].to_vec()), Err(SealError));
        assert_eq!(open(&key(1), b"module", Vec::new()), Err(SealError));
        // What wasmtime itself would load.
        let precompiled = engine.precompile_module(&wat::parse_str(ANSWER).unwrap()).unwrap();
        assert_eq!(open(&key(1), b"module", precompiled), Err(SealError));
    }

    #[test]
    fn another_setting_is_another_compatibility() {
        let mut config = wasmtime::Config::new();
        config.cranelift_nan_canonicalization(true);
        let canonical = Engine::new(&config).unwrap();
        let plain = Engine::default();
        assert_eq!(compatibility(&plain), compatibility(&Engine::default()));
        assert_ne!(compatibility(&plain), compatibility(&canonical));
    }
}
