//! The same calls on the process, so that an author can test a capsule natively.

use std::io::{self, Read as _, Write as _};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::{Error, Result};

/// `EIO` of WASI preview 1.
const IO: Error = Error(29);

fn io<T>(result: io::Result<T>) -> Result<T> {
    result.map_err(|_| IO)
}

pub(crate) fn read(fd: u32, buffer: &mut [u8]) -> Result<usize> {
    match fd {
        0 => io(io::stdin().read(buffer)),
        _ => Err(Error::INVAL),
    }
}

pub(crate) fn write(fd: u32, bytes: &[u8]) -> Result<usize> {
    match fd {
        1 => io(io::stdout().write(bytes)),
        2 => io(io::stderr().write(bytes)),
        _ => Err(Error::INVAL),
    }
}

pub(crate) fn args() -> Result<Vec<String>> {
    Ok(std::env::args().collect())
}

#[expect(clippy::disallowed_methods, reason = "the author's own machine, outside of a capsule")]
pub(crate) fn now_ns() -> Result<u64> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|_| IO)?;
    u64::try_from(since.as_nanos()).map_err(|_| IO)
}

#[expect(clippy::disallowed_methods, reason = "the author's own machine, outside of a capsule")]
pub(crate) fn random(bytes: &mut [u8]) -> Result {
    getrandom::fill(bytes).map_err(|_| IO)
}

pub(crate) fn exit(code: u32) -> ! {
    std::process::exit(code.cast_signed())
}

pub(crate) fn sha3_512(bytes: &[u8]) -> Result<[u8; 64]> {
    use sha3::Digest as _;
    Ok(sha3::Sha3_512::digest(bytes).into())
}

pub(crate) fn verify_ed25519(key: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> Result {
    let key = ed25519_dalek::VerifyingKey::from_bytes(key).map_err(|_| Error::INVAL)?;
    let signature = ed25519_dalek::Signature::from_bytes(signature);
    key.verify_strict(message, &signature).map_err(|_| Error::ACCES)
}

/// There is no meter outside of a capsule.
pub(crate) fn gas_left() -> Result<u64> {
    Ok(u64::MAX)
}

/// There is nothing to commit to outside of a capsule.
pub(crate) fn checkpoint() -> Result {
    Ok(())
}

/// There are no libraries outside of a capsule.
pub(crate) fn library_read(_: u32, _: u32, _: &mut [u8]) -> Result {
    Err(Error::NOTSUP)
}

pub(crate) fn library_write(_: u32, _: u32, _: &[u8]) -> Result {
    Err(Error::NOTSUP)
}

pub(crate) fn mesh_send(_: &str, _: &[u8]) -> Result {
    Err(Error::NOTSUP)
}

pub(crate) fn mesh_receive() -> Result<Option<Vec<u8>>> {
    Err(Error::NOTSUP)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_functions_are_the_published_ones() {
        // SHA3-512 of the empty message, FIPS 202 example.
        assert_eq!(sha3_512(b"").map(|digest| [digest[0], digest[63]]), Ok([0xa6, 0x26]));
        let key = ed25519_dalek::SigningKey::from_bytes(&[7; 32]);
        let signature = ed25519_dalek::Signer::sign(&key, b"text").to_bytes();
        let public = key.verifying_key().to_bytes();
        assert_eq!(verify_ed25519(&public, b"text", &signature), Ok(()));
        assert_eq!(verify_ed25519(&public, b"test", &signature), Err(Error::ACCES));
    }

    #[test]
    fn there_is_no_mesh_and_no_library_outside_of_a_capsule() {
        assert_eq!(library_read(0, 0, &mut [0]), Err(Error::NOTSUP));
        assert_eq!(library_write(0, 0, &[0]), Err(Error::NOTSUP));
        assert_eq!(mesh_send("echo", b"x"), Err(Error::NOTSUP));
        assert_eq!(mesh_receive(), Err(Error::NOTSUP));
    }
}
