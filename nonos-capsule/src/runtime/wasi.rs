//! WASI preview 1 for a world that consists of the invocation: three streams, arguments,
//! environment, a logical clock, seeded random bytes, and files in memory where the invocation
//! mounts a directory.
//!
//! A call that fails by the rules of its world answers with an errno. A pointer that does not
//! lie in the guest's memory ends the run.

use super::engine::{Guest, Stop};
use super::guest::{BadPointer, GuestMemory};
use super::nonos;
use super::session::{GAS_PER_BYTE, Session};
use crate::execution::{Invocation, Preopen};
use crate::fs::{FileSystem, FsError, Usage, Work};
use crate::host_call::HostCall;
use crate::policy::{ClockMode, Policy, RandomMode};

mod descriptor;
mod directory;
mod file;
#[cfg(any(test, feature = "testing"))]
pub(crate) mod fuzz;
mod io;
mod path;
mod poll;
mod rights;
#[cfg(test)]
mod rules;
mod strings;

use self::descriptor::{Descriptor, Table};
use self::rights::Rights;

/// Errors of WASI preview 1 by their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Errno {
    Success = 0,
    Acces = 2,
    Again = 6,
    Badf = 8,
    Busy = 10,
    Exist = 20,
    Fbig = 22,
    Ilseq = 25,
    Inval = 28,
    Io = 29,
    Isdir = 31,
    Loop = 32,
    Mfile = 33,
    Nametoolong = 37,
    Noent = 44,
    Nospc = 51,
    Notdir = 54,
    Notempty = 55,
    Notsock = 57,
    Notsup = 58,
    Overflow = 61,
    Perm = 63,
    Spipe = 70,
    Notcapable = 76,
}

/// A call that does not come back to the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Exit(u32),
    BadPointer,
    Quota,
    Stop,
}

/// Why a call did not do what it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    Errno(Errno),
    Fault(Fault),
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<BadPointer> for Failure {
    fn from(_: BadPointer) -> Self {
        Self::Fault(Fault::BadPointer)
    }
}

impl From<Stop> for Failure {
    fn from(_: Stop) -> Self {
        Self::Fault(Fault::Stop)
    }
}

impl From<FsError> for Failure {
    fn from(error: FsError) -> Self {
        Self::Errno(match error {
            FsError::NotFound => Errno::Noent,
            FsError::Exists => Errno::Exist,
            FsError::NotDirectory => Errno::Notdir,
            FsError::IsDirectory => Errno::Isdir,
            FsError::NotEmpty => Errno::Notempty,
            FsError::Loop => Errno::Loop,
            FsError::NameTooLong => Errno::Nametoolong,
            FsError::Escape => Errno::Notcapable,
            FsError::Invalid => Errno::Inval,
            FsError::NotPermitted => Errno::Perm,
            // The disk of the run is full. Programs know what to do then, so the run goes on;
            // output beyond its quota ends it, because output is what the run is for.
            FsError::NoSpace => Errno::Nospc,
            FsError::TooLarge => Errno::Fbig,
            FsError::Busy => Errno::Busy,
            FsError::OutOfGas => return Self::Fault(Fault::Stop),
        })
    }
}

pub(super) type Answer = Result<(), Failure>;

/// What the guest's calls act on.
#[derive(Debug)]
pub(crate) struct World {
    /// Bytes of standard input taken so far.
    read: usize,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    slept_ns: u64,
    descriptors: Table,
    pub(super) files: FileSystem,
    roots: Vec<crate::fs::Ino>,
}

impl World {
    /// `mounts` are what the capsule brings along; the guest finds them before the directories
    /// of the invocation.
    pub(super) fn new(policy: &Policy, mounts: &[Preopen], invocation: &Invocation) -> Self {
        let quota = Usage { bytes: policy.fs_max_bytes, files: u64::from(policy.fs_max_files) };
        let mut files = FileSystem::new(quota);
        let mut descriptors = Table::with_streams();
        let mut roots = Vec::new();
        let given = mounts.len();
        for (preopen, place) in mounts.iter().chain(&invocation.preopens).zip(0..) {
            let root = files.mount(&preopen.image, start_ns(invocation));
            files.retain(root);
            if place >= given {
                roots.push(root);
            }
            // The invocation was checked; there is room for its preopens.
            let _ = descriptors.insert(Descriptor::preopen(root, preopen.path.as_str().into()));
        }
        let (stdout, stderr) = (Vec::new(), Vec::new());
        Self { read: 0, stdout, stderr, slept_ns: 0, descriptors, files, roots }
    }

    pub(super) fn take_output(&mut self) -> (Vec<u8>, Vec<u8>) {
        (core::mem::take(&mut self.stdout), core::mem::take(&mut self.stderr))
    }

    /// What is in each preopened directory, in their order.
    pub(super) fn images(&self) -> Vec<crate::fs::Image> {
        self.roots.iter().map(|root| self.files.to_image(*root)).collect()
    }
}

/// Operands as the guest passed them; missing ones cannot be, the import's type was checked.
pub(super) struct Args<'a>(&'a [u64]);

impl Args<'_> {
    fn u64(&self, position: usize) -> u64 {
        self.0.get(position).copied().unwrap_or(0)
    }

    #[expect(clippy::cast_possible_truncation, reason = "an i32 operand is the low half of its bits")]
    pub(super) fn u32(&self, position: usize) -> u32 {
        self.u64(position) as u32
    }

    /// Flags of 16 bits. Higher ones are no flags, so they must not be there.
    fn flags(&self, position: usize, known: u16) -> Result<u16, Errno> {
        u16::try_from(self.u32(position)).ok().filter(|flags| flags & !known == 0).ok_or(Errno::Inval)
    }
}

pub(super) fn call(
    session: &mut Session,
    call: HostCall,
    args: &[u64],
    guest: &mut dyn Guest,
) -> Result<Errno, Fault> {
    let answer = match call.module() {
        HostCall::NONOS_MODULE => nonos::dispatch(session, call, &Args(args), guest),
        _ => dispatch(session, call, &Args(args), guest),
    };
    match answer {
        Ok(()) => Ok(Errno::Success),
        Err(Failure::Errno(errno)) => Ok(errno),
        Err(Failure::Fault(fault)) => Err(fault),
    }
}

fn dispatch(session: &mut Session, call: HostCall, args: &Args<'_>, guest: &mut dyn Guest) -> Answer {
    use HostCall as H;
    let fd = args.u32(0);
    match call {
        H::ArgsGet => strings::args_get(session, args, guest),
        H::ArgsSizesGet => strings::args_sizes_get(session, args, guest),
        H::EnvironGet => strings::environ_get(session, args, guest),
        H::EnvironSizesGet => strings::environ_sizes_get(session, args, guest),
        H::ClockResGet => match args.u32(0) {
            0..=3 => write_u64(guest, args.u32(1), 1),
            _ => Err(Errno::Inval.into()),
        },
        H::ClockTimeGet => {
            let ns = clock_ns(session, args.u32(0)).ok_or(Errno::Inval)?;
            write_u64(guest, args.u32(2), ns)
        }
        H::RandomGet => random_get(session, args.u32(0), args.u32(1), guest),
        H::FdRead => io::fd_read(session, args, guest),
        H::FdWrite => io::fd_write(session, args, guest),
        H::FdPread => io::fd_pread(session, args, guest),
        H::FdPwrite => io::fd_pwrite(session, args, guest),
        H::FdAdvise => file::fd_advise(session, args),
        H::FdAllocate => file::fd_allocate(session, args, guest),
        H::FdClose => file::fd_close(session, fd),
        H::FdDatasync => file::fd_sync(session, fd, Rights::FD_DATASYNC),
        H::FdSync => file::fd_sync(session, fd, Rights::FD_SYNC),
        H::FdFdstatGet => file::fd_fdstat_get(session, args, guest),
        H::FdFdstatSetFlags => file::fd_fdstat_set_flags(session, args),
        H::FdFdstatSetRights => file::fd_fdstat_set_rights(session, args),
        H::FdFilestatGet => file::fd_filestat_get(session, args, guest),
        H::FdFilestatSetSize => file::fd_filestat_set_size(session, args, guest),
        H::FdFilestatSetTimes => file::fd_filestat_set_times(session, args),
        H::FdRenumber => file::fd_renumber(session, args),
        H::FdSeek => file::fd_seek(session, args, guest),
        H::FdTell => file::fd_tell(session, args, guest),
        H::FdPrestatGet => directory::fd_prestat_get(session, args, guest),
        H::FdPrestatDirName => directory::fd_prestat_dir_name(session, args, guest),
        H::FdReaddir => directory::fd_readdir(session, args, guest),
        H::PathCreateDirectory => path::path_create_directory(session, args, guest),
        H::PathFilestatGet => path::path_filestat_get(session, args, guest),
        H::PathFilestatSetTimes => path::path_filestat_set_times(session, args, guest),
        H::PathLink => path::path_link(session, args, guest),
        H::PathOpen => path::path_open(session, args, guest),
        H::PathReadlink => path::path_readlink(session, args, guest),
        H::PathRemoveDirectory => path::path_remove_directory(session, args, guest),
        H::PathRename => path::path_rename(session, args, guest),
        H::PathSymlink => path::path_symlink(session, args, guest),
        H::PathUnlinkFile => path::path_unlink_file(session, args, guest),
        H::PollOneoff => poll::poll_oneoff(session, args, guest),
        H::ProcExit => Err(Failure::Fault(Fault::Exit(args.u32(0)))),
        H::ProcRaise => Err(Errno::Notsup.into()),
        H::SchedYield => Ok(()),
        // No descriptor is ever a socket.
        H::SockAccept | H::SockRecv | H::SockSend | H::SockShutdown => {
            session.world.descriptors.find(fd)?;
            Err(Errno::Notsock.into())
        }
        // Calls of another module.
        _ => Err(Errno::Notsup.into()),
    }
}

/// Runs an operation on the files and charges what it took. An operation stops before the step
/// that the gas left does not pay, so there is no work that is not charged.
fn on_files<T>(
    session: &mut Session,
    guest: &mut dyn Guest,
    operation: impl FnOnce(&mut FileSystem, u64, &mut Work) -> Result<T, FsError>,
) -> Result<T, Failure> {
    let mut work = Work::new(session.gas_left());
    let now_ns = now_ns(session);
    let result = operation(&mut session.world.files, now_ns, &mut work);
    session.charge(work.spent(), guest)?;
    Ok(result?)
}

/// Charges for bytes that are about to move.
fn charge_bytes(session: &mut Session, bytes: u64, guest: &mut dyn Guest) -> Result<(), Stop> {
    session.charge(bytes.saturating_mul(GAS_PER_BYTE), guest)
}

fn write_u32(guest: &mut dyn Guest, pointer: u32, value: u32) -> Answer {
    Ok(GuestMemory(guest.memory()).write_u32(pointer, value)?)
}

fn write_u64(guest: &mut dyn Guest, pointer: u32, value: u64) -> Answer {
    Ok(GuestMemory(guest.memory()).write_u64(pointer, value)?)
}

fn start_ns(invocation: &Invocation) -> u64 {
    invocation.clock.as_secs().saturating_mul(1_000_000_000)
}

/// Realtime and monotonic clock run from the invocation's time, the CPU clocks from zero; one
/// unit of gas is one nanosecond.
fn clock_ns(session: &Session, clock: u32) -> Option<u64> {
    let run = match session.command.policy.clock {
        ClockMode::Frozen => 0,
        ClockMode::Logical => session.gas_used,
    };
    match clock {
        0 | 1 => {
            Some(start_ns(&session.invocation).saturating_add(run).saturating_add(session.world.slept_ns))
        }
        2 | 3 => Some(run),
        _ => None,
    }
}

/// The time that files are marked with.
fn now_ns(session: &Session) -> u64 {
    clock_ns(session, 0).unwrap_or(0)
}

fn random_get(session: &mut Session, at: u32, len: u32, guest: &mut dyn Guest) -> Answer {
    if session.command.policy.random == RandomMode::None {
        return Err(Errno::Notsup.into());
    }
    charge_bytes(session, u64::from(len), guest)?;
    let mut memory = GuestMemory(guest.memory());
    session.random.fill(memory.slice_mut(at, len)?);
    Ok(())
}
