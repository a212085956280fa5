//! The imports of a capsule, each behind a safe function.
#![expect(unsafe_code, reason = "a host call is a foreign call")]

use core::mem::MaybeUninit;

use crate::{Error, Result};

/// Largest message of one `mesh_receive`.
const MESSAGE_BYTES: usize = 64 * 1_024;

#[repr(C)]
struct Slice {
    pointer: *const u8,
    len: usize,
}

#[link(wasm_import_module = "wasi_snapshot_preview1")]
unsafe extern "C" {
    fn fd_read(fd: u32, vectors: *const Slice, count: usize, read: *mut u32) -> u32;
    fn fd_write(fd: u32, vectors: *const Slice, count: usize, written: *mut u32) -> u32;
    fn args_sizes_get(count: *mut u32, bytes: *mut u32) -> u32;
    fn args_get(pointers: *mut *mut u8, bytes: *mut u8) -> u32;
    fn clock_time_get(clock: u32, precision: u64, time: *mut u64) -> u32;
    fn random_get(bytes: *mut u8, len: usize) -> u32;
    fn proc_exit(code: u32) -> !;
}

#[link(wasm_import_module = "nonos_1")]
unsafe extern "C" {
    #[link_name = "sha3_512"]
    fn host_sha3_512(bytes: *const u8, len: usize, digest: *mut u8) -> u32;
    fn ed25519_verify(key: *const u8, message: *const u8, len: usize, signature: *const u8) -> u32;
    #[link_name = "mesh_send"]
    fn host_mesh_send(service: *const u8, service_len: usize, message: *const u8, len: usize) -> u32;
    #[link_name = "mesh_receive"]
    fn host_mesh_receive(buffer: *mut u8, capacity: usize, len: *mut u32) -> u32;
    #[link_name = "checkpoint"]
    fn host_checkpoint() -> u32;
    #[link_name = "gas_left"]
    fn host_gas_left(gas: *mut u64) -> u32;
    #[link_name = "library_read"]
    fn host_library_read(library: u32, from: u32, to: *mut u8, len: usize) -> u32;
    #[link_name = "library_write"]
    fn host_library_write(library: u32, to: u32, from: *const u8, len: usize) -> u32;
}

fn check(errno: u32) -> Result {
    match errno {
        0 => Ok(()),
        errno => Err(Error(u16::try_from(errno).unwrap_or(u16::MAX))),
    }
}

/// Calls with room for one result.
fn fill<T: Copy>(call: impl FnOnce(*mut T) -> u32) -> Result<T> {
    let mut value = MaybeUninit::uninit();
    check(call(value.as_mut_ptr()))?;
    // SAFETY: a call that answers 0 has written its result, by the contract of both interfaces.
    Ok(unsafe { value.assume_init() })
}

pub(crate) fn read(fd: u32, buffer: &mut [u8]) -> Result<usize> {
    let vector = Slice { pointer: buffer.as_mut_ptr(), len: buffer.len() };
    // SAFETY: the one vector spans the exclusive borrow of `buffer`.
    Ok(fill(|read| unsafe { fd_read(fd, &vector, 1, read) })? as usize)
}

pub(crate) fn write(fd: u32, bytes: &[u8]) -> Result<usize> {
    let vector = Slice { pointer: bytes.as_ptr(), len: bytes.len() };
    // SAFETY: the one vector spans `bytes`, which the host only reads.
    Ok(fill(|written| unsafe { fd_write(fd, &vector, 1, written) })? as usize)
}

pub(crate) fn args() -> Result<Vec<String>> {
    let (mut count, mut len) = (0, 0);
    // SAFETY: both pointers are to live integers.
    check(unsafe { args_sizes_get(&mut count, &mut len) })?;
    let mut pointers = vec![core::ptr::null_mut(); count as usize];
    let mut bytes = vec![0; len as usize];
    // SAFETY: both buffers have the sizes that the host has just asked for.
    check(unsafe { args_get(pointers.as_mut_ptr(), bytes.as_mut_ptr()) })?;
    let strings = bytes.split(|byte| *byte == 0).take(count as usize);
    Ok(strings.map(|string| String::from_utf8_lossy(string).into_owned()).collect())
}

pub(crate) fn now_ns() -> Result<u64> {
    // SAFETY: `fill` passes room for the result.
    fill(|time| unsafe { clock_time_get(0, 1, time) })
}

pub(crate) fn random(bytes: &mut [u8]) -> Result {
    // SAFETY: pointer and length of an exclusive borrow.
    check(unsafe { random_get(bytes.as_mut_ptr(), bytes.len()) })
}

pub(crate) fn exit(code: u32) -> ! {
    // SAFETY: takes no pointer and does not return.
    unsafe { proc_exit(code) }
}

pub(crate) fn sha3_512(bytes: &[u8]) -> Result<[u8; 64]> {
    // SAFETY: the host reads `bytes` and writes 64 bytes where `fill` has room for them.
    fill(|digest: *mut [u8; 64]| unsafe { host_sha3_512(bytes.as_ptr(), bytes.len(), digest.cast()) })
}

pub(crate) fn verify_ed25519(key: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> Result {
    // SAFETY: the host only reads, each argument within its borrow.
    check(unsafe { ed25519_verify(key.as_ptr(), message.as_ptr(), message.len(), signature.as_ptr()) })
}

pub(crate) fn gas_left() -> Result<u64> {
    // SAFETY: `fill` passes room for the result.
    fill(|gas| unsafe { host_gas_left(gas) })
}

pub(crate) fn checkpoint() -> Result {
    // SAFETY: takes no pointer.
    check(unsafe { host_checkpoint() })
}

pub(crate) fn library_read(library: u32, from: u32, buffer: &mut [u8]) -> Result {
    // SAFETY: pointer and length of an exclusive borrow; `from` is an address in another memory.
    check(unsafe { host_library_read(library, from, buffer.as_mut_ptr(), buffer.len()) })
}

pub(crate) fn library_write(library: u32, to: u32, bytes: &[u8]) -> Result {
    // SAFETY: the host only reads `bytes`; `to` is an address in another memory.
    check(unsafe { host_library_write(library, to, bytes.as_ptr(), bytes.len()) })
}

pub(crate) fn mesh_send(service: &str, message: &[u8]) -> Result {
    // SAFETY: the host only reads, each argument within its borrow.
    check(unsafe { host_mesh_send(service.as_ptr(), service.len(), message.as_ptr(), message.len()) })
}

pub(crate) fn mesh_receive() -> Result<Option<Vec<u8>>> {
    let mut buffer = vec![0; MESSAGE_BYTES];
    // SAFETY: pointer and length of an exclusive borrow, and room for the result.
    let received = fill(|len| unsafe { host_mesh_receive(buffer.as_mut_ptr(), buffer.len(), len) });
    match received {
        Ok(len) => {
            buffer.truncate(len as usize);
            Ok(Some(buffer))
        }
        Err(Error::AGAIN) => Ok(None),
        Err(error) => Err(error),
    }
}
