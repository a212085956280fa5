//! Which proofs a node makes and believes, from its settings.

use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use nonos_zk::groth16::{Groth16Prover, Groth16Verifier, KeyCache, KeySet, VerifyingKey};
use nonos_zk::{Prover, Verifier};

use crate::builder::StartError;
use crate::config::{Config, ProverModule};
use crate::wasm_prover::{WasmLimits, WasmProver};

#[derive(Clone)]
pub(crate) struct Proofs {
    pub(crate) prover: Option<Arc<dyn Prover>>,
    pub(crate) verifier: Arc<dyn Verifier>,
}

impl std::fmt::Debug for Proofs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Proofs(..)")
    }
}

/// Groth16 with the keys that the settings name.
pub(crate) fn groth16(config: &Config, data_dir: &Path) -> Result<Proofs, StartError> {
    let unusable = |error: &dyn std::error::Error| StartError::Keys(error.to_string());
    let key = match &config.verifying_key {
        Some(path) => VerifyingKey::from_bytes(&read_keys(path)?).map_err(|error| unusable(&error))?,
        None if config.allow_insecure_dev_keys => VerifyingKey::dev(config.profile),
        None => return Err(StartError::NoKeys),
    };
    if key.profile() != config.profile {
        return Err(StartError::Keys(format!(
            "the verifying key is for profile {}, and the settings say {}",
            key.profile(),
            config.profile
        )));
    }
    let id = key.id();
    let key = if config.allow_insecure_dev_keys { key.allow_insecure_dev() } else { key };
    let verifier = Groth16Verifier::new(key).map_err(|error| unusable(&error))?;
    if !config.roles.executor {
        return Ok(Proofs { prover: None, verifier: Arc::new(verifier) });
    }
    // The keys of a prover are a hundred thousand times as long as those of a verifier.
    let keys = match &config.proving_keys {
        Some(path) => KeySet::from_bytes(&read_keys(path)?).map_err(|error| unusable(&error))?,
        None => {
            let dir = config.key_cache.clone().unwrap_or_else(|| data_dir.join("keys"));
            let cache = KeyCache::open_or_create(&dir).map_err(|error| unusable(&error))?;
            cache.dev_keys(config.profile).map_err(|error| unusable(&error))?
        }
    };
    if keys.verifying_key().id() != id {
        return Err(StartError::Keys("the proving keys are not those of the verifying key".into()));
    }
    let keys = if config.allow_insecure_dev_keys { keys.allow_insecure_dev() } else { keys };
    let prover: Arc<dyn Prover> = match &config.wasm_prover {
        Some(ProverModule { path, digest }) => {
            Arc::new(WasmProver::open(path, digest, keys, WasmLimits::default())?)
        }
        None => Arc::new(Groth16Prover::new(keys).map_err(|error| unusable(&error))?),
    };
    Ok(Proofs { prover: Some(prover), verifier: Arc::new(verifier) })
}

/// Reads a file of keys, and no more than the largest set has.
fn read_keys(path: &Path) -> Result<Vec<u8>, StartError> {
    let failed = |source| StartError::Io { path: path.into(), source };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(KeySet::MAX_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}
