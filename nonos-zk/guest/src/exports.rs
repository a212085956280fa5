//! The module's exports. Addresses go out as numbers and never come in.
#![expect(unsafe_code, reason = "the attribute `no_mangle`; there is no unsafe block")]

use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use crate::session::{Session, Status};

static SESSION: LazyLock<Mutex<Session>> = LazyLock::new(Mutex::default);

fn session() -> MutexGuard<'static, Session> {
    SESSION.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The host writes to this address between two calls, when nothing here holds a reference.
fn address(bytes: *const u8) -> usize {
    bytes.expose_provenance()
}

#[unsafe(no_mangle)]
extern "C" fn input(len: usize) -> usize {
    session().input(len).map_or(0, |room| address(room.as_mut_ptr()))
}

#[unsafe(no_mangle)]
extern "C" fn load() -> Status {
    session().load()
}

#[unsafe(no_mangle)]
extern "C" fn prove() -> Status {
    session().prove()
}

#[unsafe(no_mangle)]
extern "C" fn output() -> usize {
    address(session().output().as_ptr())
}

#[unsafe(no_mangle)]
extern "C" fn output_len() -> usize {
    session().output().len()
}
