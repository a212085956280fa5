//! From a WASM module to a signed capsule.

use std::time::Duration;

use nonos_capsule::{Capsule, Manifest, Policy, SignerRole, wasm_from_wat_or_wasm};
use nonos_identity::{Epoch, Identity, NetworkId, Role, Timestamp};

use crate::clock;

/// The first bytes of a `.mod` file.
const CAPSULE_MAGIC: &[u8] = b"NONM\x01\r\n\x1a";
/// Name of the custom section that carries ballast.
const BALLAST_NAME: &[u8] = b"ballast";
/// How long an author's signature counts.
const SIGNATURE_LIFETIME: Duration = Duration::from_secs(365 * 24 * 3600);

/// Why a module did not become a capsule. The author's to mend.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PackError {
    /// Not WebAssembly, in text or binary.
    #[error("the module cannot be read: {0}")]
    Payload(#[from] nonos_capsule::PayloadError),
    /// Manifest, policy or payload break a rule.
    #[error(transparent)]
    Pack(#[from] nonos_capsule::PackError),
    /// No room for a signature.
    #[error(transparent)]
    Sign(#[from] nonos_capsule::SignError),
}

/// Whether these bytes claim to be a `.mod` file.
#[must_use]
pub fn is_capsule(bytes: &[u8]) -> bool {
    bytes.starts_with(CAPSULE_MAGIC)
}

/// Turns WebAssembly text or binary into binary.
///
/// # Errors
/// [`PackError::Payload`] says what cannot be read.
pub fn to_wasm(source: &[u8]) -> Result<Vec<u8>, PackError> {
    Ok(wasm_from_wat_or_wasm(source)?)
}

/// Packs a WASI command under the default policy and signs it with the author key.
///
/// # Errors
/// [`PackError`] if the module or its name break a rule.
pub fn pack_and_sign(
    name: &str,
    wasm: Vec<u8>,
    author: &Identity,
    network: &str,
) -> Result<Vec<u8>, PackError> {
    let now = clock::now();
    let mut manifest = Manifest::new(manifest_name(name), "0.1.0");
    manifest.created = Epoch::at(now);
    let mut capsule = Capsule::pack(manifest, Policy::default(), wasm)?;
    sign(&mut capsule, author, network, now)?;
    Ok(capsule.to_bytes())
}

/// Signs a capsule with the author key of a node.
///
/// # Errors
/// [`PackError::Sign`] if the capsule has no room for it.
pub fn sign(
    capsule: &mut Capsule,
    author: &Identity,
    network: &str,
    now: Timestamp,
) -> Result<(), PackError> {
    let key = author.signing_key(Role::Author, 0);
    capsule.sign(SignerRole::Author, &key, &NetworkId::from_name(network), now, SIGNATURE_LIFETIME)?;
    Ok(())
}

/// A name that a manifest allows: other characters become dashes.
#[must_use]
pub fn manifest_name(text: &str) -> String {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c);
    let name: String = text.to_lowercase().chars().map(|c| if fits(c) { c } else { '-' }).take(64).collect();
    if name.is_empty() { "capsule".into() } else { name }
}

/// Appends a custom section of pseudo-random bytes: it makes a small module a long transfer and
/// does not change what the module does.
#[must_use]
pub fn with_ballast(mut wasm: Vec<u8>, bytes: usize) -> Vec<u8> {
    if bytes == 0 {
        return wasm;
    }
    let mut body = vec![u8::try_from(BALLAST_NAME.len()).unwrap_or(0)];
    body.extend_from_slice(BALLAST_NAME);
    // xorshift64: incompressible enough, and equal on every machine.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    body.extend(
        core::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[0]
        })
        .take(bytes),
    );
    wasm.push(0);
    let mut length = body.len();
    // LEB128, as the module format counts.
    while length > 0x7f {
        wasm.push(u8::try_from(length & 0x7f).unwrap_or(0) | 0x80);
        length >>= 7;
    }
    wasm.push(u8::try_from(length).unwrap_or(0));
    wasm.append(&mut body);
    wasm
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_manifest_names() {
        assert_eq!(manifest_name("My Tool.WASM"), "my-tool.wasm");
        assert_eq!(manifest_name(""), "capsule");
    }

    #[test]
    fn ballast_keeps_the_module_valid_and_its_size_as_asked() {
        let wasm = to_wasm(b"(module)").expect("valid text");
        let heavy = with_ballast(wasm.clone(), 70_000);
        assert!(heavy.len() > 70_000 && heavy.len() < 70_050);
        assert!(heavy.starts_with(&wasm));
        assert_eq!(heavy, to_wasm(&heavy).expect("still a module"));
    }
}
