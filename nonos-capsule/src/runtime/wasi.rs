//! WASI preview 1 for a world that consists of the invocation: three streams, arguments,
//! environment, a logical clock and seeded random bytes. There are no files, so path calls get
//! the errno that a real system gives for a descriptor that is no directory.

use core::mem;

use super::engine::{Guest, Stop};
use super::guest::{BadPointer, GuestMemory};
use super::session::{GAS_PER_BYTE, Session};
use crate::host_call::HostCall;
use crate::policy::{ClockMode, RandomMode};

/// Most vectors of one read or write, as on common systems; bounds the work of one call.
const MAX_IOVECS: u32 = 1_024;
/// Most subscriptions of one poll.
const MAX_SUBSCRIPTIONS: u32 = 64;

/// Errors of WASI preview 1 by their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Errno {
    Success = 0,
    Acces = 2,
    Again = 6,
    Badf = 8,
    Inval = 28,
    Io = 29,
    Notdir = 54,
    Notsup = 58,
    Overflow = 61,
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

impl From<BadPointer> for Fault {
    fn from(_: BadPointer) -> Self {
        Self::BadPointer
    }
}

impl From<Stop> for Fault {
    fn from(_: Stop) -> Self {
        Self::Stop
    }
}

pub(super) type Answer = Result<Errno, Fault>;

/// The three standard streams and what the guest slept.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    read: usize,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    is_closed: [bool; 3],
    slept_ns: u64,
}

impl Streams {
    pub(super) fn into_output(self) -> (Vec<u8>, Vec<u8>) {
        (self.stdout, self.stderr)
    }

    fn is_open(&self, fd: u32) -> bool {
        self.is_closed.get(fd as usize).is_some_and(|is_closed| !is_closed)
    }
}

/// Operands as the guest passed them; missing ones cannot be, the import's type was checked.
pub(super) struct Args<'a>(pub(super) &'a [u64]);

impl Args<'_> {
    fn u64(&self, position: usize) -> u64 {
        self.0.get(position).copied().unwrap_or(0)
    }

    #[expect(clippy::cast_possible_truncation, reason = "an i32 operand is the low half of its bits")]
    pub(super) fn u32(&self, position: usize) -> u32 {
        self.u64(position) as u32
    }
}

pub(super) fn call(session: &mut Session, call: HostCall, args: &[u64], guest: &mut dyn Guest) -> Answer {
    use HostCall as H;
    let args = Args(args);
    let fd = args.u32(0);
    match call {
        H::ArgsGet => {
            let strings = strings(&session.invocation.args);
            string_table(session, &strings, args.u32(0), args.u32(1), guest)
        }
        H::EnvironGet => {
            let strings = environ(session);
            string_table(session, &strings, args.u32(0), args.u32(1), guest)
        }
        H::ArgsSizesGet => {
            let strings = strings(&session.invocation.args);
            string_sizes(&strings, args.u32(0), args.u32(1), guest)
        }
        H::EnvironSizesGet => {
            let strings = environ(session);
            string_sizes(&strings, args.u32(0), args.u32(1), guest)
        }
        H::ClockResGet => match args.u32(0) {
            0..=3 => write_u64(guest, args.u32(1), 1),
            _ => Ok(Errno::Inval),
        },
        H::ClockTimeGet => match clock_ns(session, args.u32(0)) {
            Some(ns) => write_u64(guest, args.u32(2), ns),
            None => Ok(Errno::Inval),
        },
        H::RandomGet => random_get(session, args.u32(0), args.u32(1), guest),
        H::FdRead => fd_read(session, fd, args.u32(1), args.u32(2), args.u32(3), guest),
        H::FdWrite => fd_write(session, fd, args.u32(1), args.u32(2), args.u32(3), guest),
        H::FdClose => {
            let was_closed =
                session.streams.is_closed.get_mut(fd as usize).map(|closed| mem::replace(closed, true));
            Ok(if was_closed == Some(false) { Errno::Success } else { Errno::Badf })
        }
        H::FdFdstatGet => fd_fdstat_get(session, fd, args.u32(1), guest),
        H::FdFilestatGet => fd_filestat_get(session, fd, args.u32(1), guest),
        H::PollOneoff => poll_oneoff(session, &args, guest),
        H::ProcExit => Err(Fault::Exit(args.u32(0))),
        H::SchedYield => Ok(Errno::Success),
        // There are no preopened directories; this is how a guest finds that out.
        H::FdPrestatGet | H::FdPrestatDirName => Ok(Errno::Badf),
        H::FdFdstatSetFlags | H::FdDatasync | H::FdSync => on_stream(session, fd, Errno::Success),
        H::FdSeek | H::FdTell | H::FdPread | H::FdPwrite | H::FdAdvise => {
            on_stream(session, fd, Errno::Spipe)
        }
        H::FdAllocate
        | H::FdFdstatSetRights
        | H::FdFilestatSetSize
        | H::FdFilestatSetTimes
        | H::FdRenumber => on_stream(session, fd, Errno::Notsup),
        H::PathSymlink => on_stream(session, args.u32(2), Errno::Notdir),
        H::FdReaddir
        | H::PathCreateDirectory
        | H::PathFilestatGet
        | H::PathFilestatSetTimes
        | H::PathLink
        | H::PathOpen
        | H::PathReadlink
        | H::PathRemoveDirectory
        | H::PathRename
        | H::PathUnlinkFile => on_stream(session, fd, Errno::Notdir),
        // Sockets, signals, and what is no call of WASI.
        _ => Ok(Errno::Notsup),
    }
}

/// The errno for an open stream; any other descriptor is a bad one.
fn on_stream(session: &Session, fd: u32, errno: Errno) -> Answer {
    Ok(if session.streams.is_open(fd) { errno } else { Errno::Badf })
}

fn write_u64(guest: &mut dyn Guest, pointer: u32, value: u64) -> Answer {
    GuestMemory(guest.memory()).write_u64(pointer, value)?;
    Ok(Errno::Success)
}

fn strings(args: &[String]) -> Vec<Vec<u8>> {
    args.iter().map(|arg| [arg.as_bytes(), b"\0"].concat()).collect()
}

fn environ(session: &Session) -> Vec<Vec<u8>> {
    let pair = |(name, value): &(String, String)| [name.as_bytes(), b"=", value.as_bytes(), b"\0"].concat();
    session.invocation.env.iter().map(pair).collect()
}

fn string_sizes(strings: &[Vec<u8>], count_at: u32, bytes_at: u32, guest: &mut dyn Guest) -> Answer {
    let bytes: usize = strings.iter().map(Vec::len).sum();
    let mut memory = GuestMemory(guest.memory());
    memory.write_u32(count_at, u32::try_from(strings.len()).unwrap_or(u32::MAX))?;
    memory.write_u32(bytes_at, u32::try_from(bytes).unwrap_or(u32::MAX))?;
    Ok(Errno::Success)
}

fn string_table(
    session: &mut Session,
    strings: &[Vec<u8>],
    pointers_at: u32,
    bytes_at: u32,
    guest: &mut dyn Guest,
) -> Answer {
    let bytes: usize = strings.iter().map(Vec::len).sum();
    session.charge((bytes as u64).saturating_mul(GAS_PER_BYTE), guest)?;
    let mut memory = GuestMemory(guest.memory());
    let mut pointer_at = pointers_at;
    let mut at = bytes_at;
    for string in strings {
        memory.write_u32(pointer_at, at)?;
        memory.write(at, string)?;
        let len = u32::try_from(string.len()).map_err(|_| BadPointer)?;
        at = at.checked_add(len).ok_or(BadPointer)?;
        pointer_at = pointer_at.checked_add(4).ok_or(BadPointer)?;
    }
    Ok(Errno::Success)
}

/// Realtime and monotonic clock run from the invocation's time, the CPU clocks from zero; one
/// unit of gas is one nanosecond.
fn clock_ns(session: &Session, clock: u32) -> Option<u64> {
    let run = match session.policy.clock {
        ClockMode::Frozen => 0,
        ClockMode::Logical => session.gas_used,
    };
    let start = session.invocation.clock.as_secs().saturating_mul(1_000_000_000);
    match clock {
        0 | 1 => Some(start.saturating_add(run).saturating_add(session.streams.slept_ns)),
        2 | 3 => Some(run),
        _ => None,
    }
}

fn random_get(session: &mut Session, at: u32, len: u32, guest: &mut dyn Guest) -> Answer {
    if session.policy.random == RandomMode::None {
        return Ok(Errno::Notsup);
    }
    session.charge(u64::from(len).saturating_mul(GAS_PER_BYTE), guest)?;
    let mut memory = GuestMemory(guest.memory());
    session.random.fill(memory.slice_mut(at, len)?);
    Ok(Errno::Success)
}

/// Reads the list of vectors: pointer and length each.
fn iovecs(memory: &GuestMemory<'_>, at: u32, count: u32) -> Result<Option<Vec<(u32, u32)>>, BadPointer> {
    if count > MAX_IOVECS {
        return Ok(None);
    }
    let list = memory.slice(at, count * 8)?;
    let (pairs, _) = list.as_chunks::<4>().0.as_chunks::<2>();
    Ok(Some(
        pairs.iter().map(|[pointer, len]| (u32::from_le_bytes(*pointer), u32::from_le_bytes(*len))).collect(),
    ))
}

fn fd_read(
    session: &mut Session,
    fd: u32,
    list_at: u32,
    count: u32,
    read_at: u32,
    guest: &mut dyn Guest,
) -> Answer {
    if fd != 0 || !session.streams.is_open(fd) {
        return Ok(Errno::Badf);
    }
    let Some(vectors) = iovecs(&GuestMemory(guest.memory()), list_at, count)? else {
        return Ok(Errno::Inval);
    };
    let wanted: u64 = vectors.iter().map(|(_, len)| u64::from(*len)).sum();
    let left = (session.invocation.input.len() - session.streams.read) as u64;
    session.charge(wanted.min(left).saturating_mul(GAS_PER_BYTE), guest)?;
    let mut memory = GuestMemory(guest.memory());
    let mut total = 0u32;
    for (pointer, len) in vectors {
        let rest = session.invocation.input.get(session.streams.read..).unwrap_or_default();
        let taken = rest.get(..len as usize).unwrap_or(rest);
        // The whole vector must lie in memory, also where the input is shorter.
        memory.slice(pointer, len)?;
        memory.write(pointer, taken)?;
        session.streams.read += taken.len();
        total = total.saturating_add(u32::try_from(taken.len()).unwrap_or(u32::MAX));
    }
    memory.write_u32(read_at, total)?;
    Ok(Errno::Success)
}

fn fd_write(
    session: &mut Session,
    fd: u32,
    list_at: u32,
    count: u32,
    written_at: u32,
    guest: &mut dyn Guest,
) -> Answer {
    if !(fd == 1 || fd == 2) || !session.streams.is_open(fd) {
        return Ok(Errno::Badf);
    }
    let Some(vectors) = iovecs(&GuestMemory(guest.memory()), list_at, count)? else {
        return Ok(Errno::Inval);
    };
    let wanted: u64 = vectors.iter().map(|(_, len)| u64::from(*len)).sum();
    let held = (session.streams.stdout.len() + session.streams.stderr.len()) as u64;
    if held.saturating_add(wanted) > session.policy.output_max_bytes {
        return Err(Fault::Quota);
    }
    session.charge(wanted.saturating_mul(GAS_PER_BYTE), guest)?;
    let mut memory = GuestMemory(guest.memory());
    let stream = if fd == 1 { &mut session.streams.stdout } else { &mut session.streams.stderr };
    for (pointer, len) in vectors {
        stream.extend_from_slice(memory.slice(pointer, len)?);
    }
    memory.write_u32(written_at, u32::try_from(wanted).map_err(|_| BadPointer)?)?;
    Ok(Errno::Success)
}

/// `fdstat`: file type u8 (0, unknown), flags u16 at 2, rights u64 at 8, inherited rights at 16.
fn fd_fdstat_get(session: &Session, fd: u32, at: u32, guest: &mut dyn Guest) -> Answer {
    const RIGHT_READ: u64 = 1 << 1;
    const RIGHT_WRITE: u64 = 1 << 6;
    const RIGHT_POLL: u64 = 1 << 27;
    if !session.streams.is_open(fd) {
        return Ok(Errno::Badf);
    }
    let rights = RIGHT_POLL | if fd == 0 { RIGHT_READ } else { RIGHT_WRITE };
    let mut memory = GuestMemory(guest.memory());
    memory.write(at, &[0; 24])?;
    memory.write_u64(at.checked_add(8).ok_or(BadPointer)?, rights)?;
    Ok(Errno::Success)
}

/// `filestat`: 64 bytes; of a stream only the link count at 24 is not zero.
fn fd_filestat_get(session: &Session, fd: u32, at: u32, guest: &mut dyn Guest) -> Answer {
    if !session.streams.is_open(fd) {
        return Ok(Errno::Badf);
    }
    let mut memory = GuestMemory(guest.memory());
    memory.write(at, &[0; 64])?;
    memory.write_u64(at.checked_add(24).ok_or(BadPointer)?, 1)?;
    Ok(Errno::Success)
}

/// One subscription of 48 bytes: user data u64, tag u8 at 8, then clock id u32 at 16, timeout u64
/// at 24 and flags u16 at 40, or the descriptor u32 at 16.
struct Subscription {
    user_data: u64,
    tag: u8,
    /// Clock: nanoseconds from now. Stream: nothing to wait for.
    wait_ns: u64,
    errno: Errno,
}

/// Streams are always ready. With none of them among the subscriptions, the logical clock jumps
/// to the earliest timeout.
fn poll_oneoff(session: &mut Session, args: &Args<'_>, guest: &mut dyn Guest) -> Answer {
    let [subscriptions_at, events_at, count, stored_at] = [0, 1, 2, 3].map(|position| args.u32(position));
    if !(1..=MAX_SUBSCRIPTIONS).contains(&count) {
        return Ok(Errno::Inval);
    }
    let mut memory = GuestMemory(guest.memory());
    // Both lists lie in memory, so no address below wraps.
    memory.slice(subscriptions_at, count * 48)?;
    memory.slice(events_at, count * 32)?;
    let mut subscriptions = Vec::new();
    for index in 0..count {
        subscriptions.push(subscription(session, &memory, subscriptions_at + index * 48)?);
    }
    let wait_ns = subscriptions.iter().map(|s| s.wait_ns).min().unwrap_or(0);
    session.streams.slept_ns = session.streams.slept_ns.saturating_add(wait_ns);
    let mut stored = 0u32;
    for subscription in subscriptions.iter().filter(|s| s.wait_ns == wait_ns) {
        let mut event = [0u8; 32];
        let fields =
            [(0, subscription.user_data), (8, subscription.errno as u64 | u64::from(subscription.tag) << 16)];
        for (place, value) in fields {
            for (byte, source) in event.iter_mut().skip(place).zip(value.to_le_bytes()) {
                *byte = source;
            }
        }
        memory.write(events_at + stored * 32, &event)?;
        stored += 1;
    }
    memory.write_u32(stored_at, stored)?;
    Ok(Errno::Success)
}

fn subscription(session: &Session, memory: &GuestMemory<'_>, at: u32) -> Result<Subscription, BadPointer> {
    let user_data = memory.u64(at)?;
    let [tag] = memory.array(at + 8)?;
    let ready = |errno| Subscription { user_data, tag, wait_ns: 0, errno };
    let what = memory.u32(at + 16)?;
    Ok(match tag {
        0 => match clock_ns(session, what) {
            None => ready(Errno::Inval),
            Some(now_ns) => {
                let timeout = memory.u64(at + 24)?;
                let is_absolute = u16::from_le_bytes(memory.array(at + 40)?) & 1 == 1;
                let wait_ns = if is_absolute { timeout.saturating_sub(now_ns) } else { timeout };
                Subscription { wait_ns, ..ready(Errno::Success) }
            }
        },
        1 if what == 0 && session.streams.is_open(what) => ready(Errno::Success),
        2 if (what == 1 || what == 2) && session.streams.is_open(what) => ready(Errno::Success),
        1 | 2 => ready(Errno::Badf),
        _ => ready(Errno::Inval),
    })
}
