//! What a process can do for the secrets in its memory, offered for its start: below the node
//! nothing changes the process by itself.
//!
//! Both calls protect against what is written to a disk by accident or by another user's doing.
//! Neither protects against root, nor against code in the same process.

use std::io;

/// Keeps the memory of this process out of core dumps, and from debuggers of the same user who
/// are not root (`PR_SET_DUMPABLE`, Linux). Programs started by this one are dumpable again.
///
/// # Errors
/// [`io::ErrorKind::Unsupported`] on other systems; otherwise the system's refusal.
pub fn deny_dumps() -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{DumpableBehavior, set_dumpable_behavior};
        Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
    }
    #[cfg(not(target_os = "linux"))]
    Err(io::ErrorKind::Unsupported.into())
}

/// Keeps every page of this process, present and future, out of swap once it was touched
/// (`mlockall`, Linux). All of its memory counts against `RLIMIT_MEMLOCK`, so it suits a process
/// that handles keys and little else, with a limit that holds the memory of Argon2id as well; beyond
/// the limit later allocations fail.
///
/// # Errors
/// [`io::ErrorKind::Unsupported`] on other systems; otherwise the system's refusal, often the
/// limit, and then nothing is locked.
pub fn lock_pages() -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        use rustix::mm::{MlockAllFlags, mlockall};
        Ok(mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT)?)
    }
    #[cfg(not(target_os = "linux"))]
    Err(io::ErrorKind::Unsupported.into())
}
