#![doc = include_str!("../README.md")]

#[cfg(not(target_arch = "wasm32"))]
mod native;
#[cfg(target_arch = "wasm32")]
mod wasm;

#[cfg(not(target_arch = "wasm32"))]
use native as host;
#[cfg(target_arch = "wasm32")]
use wasm as host;

use core::fmt;

/// The host's refusal, as an errno of WASI preview 1.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Error(u16);

/// What the functions of a capsule return.
pub type Result<T = ()> = core::result::Result<T, Error>;

impl Error {
    /// The signature or right is not given.
    pub const ACCES: Self = Self(2);
    /// Nothing there now.
    pub const AGAIN: Self = Self(6);
    /// An argument the host does not take.
    pub const INVAL: Self = Self(28);
    /// The host does not offer this here.
    pub const NOTSUP: Self = Self(58);
    /// The capsule's policy does not allow it.
    pub const NOTCAPABLE: Self = Self(76);

    /// The number.
    #[must_use]
    pub const fn errno(self) -> u16 {
        self.0
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "errno {}", self.0)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl core::error::Error for Error {}

/// Makes a function of type `fn() -> nonos_capsule_guest::Result` the entry of the capsule. An
/// error ends it with code 1 and its number on standard error.
#[macro_export]
macro_rules! entry {
    ($main:path) => {
        #[cfg(target_arch = "wasm32")]
        #[unsafe(no_mangle)]
        extern "C" fn _start() {
            $crate::run($main);
        }
    };
}

/// Runs the body of an entry; [`entry!`] calls it.
pub fn run(main: fn() -> Result) {
    if let Err(error) = main() {
        // Nothing is left to do about a failing standard error.
        let _ = log(&format!("failed with {error}\n"));
        exit(1);
    }
}

/// All of standard input.
///
/// # Errors
/// [`Error`] if it is closed.
pub fn input() -> Result<Vec<u8>> {
    let mut input = Vec::new();
    let mut buffer = vec![0; 16 * 1_024];
    loop {
        match host::read(0, &mut buffer)? {
            0 => return Ok(input),
            len => input.extend_from_slice(buffer.get(..len).unwrap_or_default()),
        }
    }
}

/// Appends to standard output, the result of the run.
///
/// # Errors
/// [`Error`] if it is closed. More than the policy allows ends the run instead.
pub fn output(bytes: &[u8]) -> Result {
    write_all(1, bytes)
}

/// Appends to standard error.
///
/// # Errors
/// [`Error`] if it is closed. More than the policy allows ends the run instead.
pub fn log(text: &str) -> Result {
    write_all(2, text.as_bytes())
}

fn write_all(fd: u32, mut bytes: &[u8]) -> Result {
    while !bytes.is_empty() {
        let written = host::write(fd, bytes)?;
        bytes = bytes.get(written..).unwrap_or_default();
    }
    Ok(())
}

/// The arguments, the capsule's name first.
///
/// # Errors
/// [`Error`] if the policy does not allow to read them.
pub fn args() -> Result<Vec<String>> {
    host::args()
}

/// Nanoseconds since 1970 by the clock of the run, which counts gas.
///
/// # Errors
/// [`Error`] if the policy has no clock.
pub fn now_ns() -> Result<u64> {
    host::now_ns()
}

/// Fills with random bytes. In a capsule they follow from capsule, nonce and input, so they are
/// no secret to whoever knows these.
///
/// # Errors
/// [`Error::NOTSUP`] if the policy has no randomness.
pub fn random(bytes: &mut [u8]) -> Result {
    host::random(bytes)
}

/// Ends the run.
pub fn exit(code: u32) -> ! {
    host::exit(code)
}

/// SHA3-512 (FIPS 202) by the host, for a fraction of the gas.
///
/// # Errors
/// [`Error`] if the host refuses.
pub fn sha3_512(bytes: &[u8]) -> Result<[u8; 64]> {
    host::sha3_512(bytes)
}

/// Checks an Ed25519 signature (RFC 8032, strict) by the host.
///
/// # Errors
/// [`Error::ACCES`] if it does not verify, [`Error::INVAL`] if the key is none.
pub fn verify_ed25519(key: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> Result {
    host::verify_ed25519(key, message, signature)
}

/// Gas that the run may still use.
///
/// # Errors
/// [`Error`] if the host refuses.
pub fn gas_left() -> Result<u64> {
    host::gas_left()
}

/// Takes a checkpoint here: a place that a replay can name. It costs gas by the size of memory.
///
/// # Errors
/// [`Error`] if the host refuses.
pub fn checkpoint() -> Result {
    host::checkpoint()
}

/// Copies out of the memory of a library. `library` is its position among the libraries of this
/// capsule in the order of their names, and `from` an address in its memory.
///
/// # Errors
/// [`Error::INVAL`] if there is no such library, [`Error::NOTSUP`] outside of a capsule. Bytes
/// beyond its memory end the run instead.
pub fn library_read(library: u32, from: u32, buffer: &mut [u8]) -> Result {
    host::library_read(library, from, buffer)
}

/// Copies into the memory of a library, as [`library_read`] copies out of it.
///
/// # Errors
/// [`Error::INVAL`] if there is no such library, [`Error::NOTSUP`] outside of a capsule. Bytes
/// beyond its memory end the run instead.
pub fn library_write(library: u32, to: u32, bytes: &[u8]) -> Result {
    host::library_write(library, to, bytes)
}

/// Messages between a capsule and services of the mesh, as far as its policy names them.
pub mod mesh {
    use super::{Result, host};

    /// Hands a message to a service.
    ///
    /// # Errors
    /// [`Error::NOTCAPABLE`](super::Error::NOTCAPABLE) if the policy does not name the service,
    /// [`Error::NOTSUP`](super::Error::NOTSUP) where there is no mesh.
    pub fn send(service: &str, message: &[u8]) -> Result {
        host::mesh_send(service, message)
    }

    /// The next message for this run, or nothing for now. What arrives is recorded, so that a
    /// replay sees the same.
    ///
    /// # Errors
    /// [`Error::NOTSUP`](super::Error::NOTSUP) where there is no mesh.
    pub fn receive() -> Result<Option<Vec<u8>>> {
        host::mesh_receive()
    }
}
