//! Reading and writing: the calls that move bytes.

use super::descriptor::{APPEND, Stream, Target};
use super::rights::Rights;
use super::{Answer, Args, Errno, Failure, Fault, charge_bytes, on_files, write_u32};
use crate::fs::Ino;
use crate::runtime::engine::Guest;
use crate::runtime::guest::{BadPointer, GuestMemory};
use crate::runtime::session::Session;

/// Most vectors of one read or write, as on common systems; bounds the work of one call.
const MAX_IOVECS: u32 = 1_024;

/// The list of vectors of a call: pointer and length each.
#[derive(Clone, Copy)]
struct Iovecs {
    at: u32,
    count: u32,
}

impl Iovecs {
    /// Pays for the list; it lies in memory, so no address of it wraps.
    fn new(session: &mut Session, at: u32, count: u32, guest: &mut dyn Guest) -> Result<Self, Failure> {
        if count > MAX_IOVECS {
            return Err(Errno::Inval.into());
        }
        charge_bytes(session, u64::from(count) * 8, guest)?;
        GuestMemory(guest.memory()).slice(at, count * 8)?;
        Ok(Self { at, count })
    }

    fn get(self, index: u32, memory: &GuestMemory<'_>) -> Result<(u32, u32), BadPointer> {
        let at = self.at + index * 8;
        Ok((memory.u32(at)?, memory.u32(at + 4)?))
    }

    fn total(self, memory: &GuestMemory<'_>) -> Result<u64, BadPointer> {
        (0..self.count).try_fold(0, |total, index| Ok(total + u64::from(self.get(index, memory)?.1)))
    }

    /// The vectors as they were before the call wrote to memory, which may hold the list too.
    fn copy(self, memory: &GuestMemory<'_>) -> Result<Vec<(u32, u32)>, BadPointer> {
        (0..self.count).map(|index| self.get(index, memory)).collect()
    }
}

pub(super) fn fd_read(session: &mut Session, args: &Args<'_>, guest: &mut dyn Guest) -> Answer {
    let fd = args.u32(0);
    let descriptor = session.world.descriptors.find(fd)?;
    let file = match descriptor.target {
        Target::Directory { .. } => return Err(Errno::Isdir.into()),
        _ if !descriptor.rights.contains(Rights::FD_READ) => return Err(Errno::Badf.into()),
        Target::Stream(_) => None,
        Target::File { ino, offset } => Some((ino, offset)),
    };
    let vectors = Iovecs::new(session, args.u32(1), args.u32(2), guest)?;
    let read = match file {
        None => {
            let from = session.world.read;
            let read = scatter(session, vectors, guest, |session, done, len| {
                let rest = session.invocation.input.get(from + done as usize..).unwrap_or_default();
                rest.get(..len as usize).unwrap_or(rest)
            })?;
            session.world.read += read as usize;
            read
        }
        Some((ino, offset)) => {
            let read = read_file(session, ino, offset, vectors, guest)?;
            session.world.descriptors.set_offset(fd, offset.saturating_add(u64::from(read)));
            read
        }
    };
    write_u32(guest, args.u32(3), read)
}

pub(super) fn fd_pread(session: &mut Session, args: &Args<'_>, guest: &mut dyn Guest) -> Answer {
    let (ino, _) = session.world.descriptors.file(args.u32(0), Rights::FD_READ | Rights::FD_SEEK)?;
    let vectors = Iovecs::new(session, args.u32(1), args.u32(2), guest)?;
    let read = read_file(session, ino, args.u64(3), vectors, guest)?;
    write_u32(guest, args.u32(4), read)
}

fn read_file(
    session: &mut Session,
    ino: Ino,
    offset: u64,
    vectors: Iovecs,
    guest: &mut dyn Guest,
) -> Result<u32, Failure> {
    scatter(session, vectors, guest, |session, done, len| {
        session.world.files.read(ino, offset.saturating_add(u64::from(done)), len).unwrap_or_default()
    })
}

/// Fills vectors from a source: `source(session, done, len)` is what comes next, at most `len`
/// bytes of it. Each vector must lie in memory whole, also where the source is shorter.
fn scatter(
    session: &mut Session,
    vectors: Iovecs,
    guest: &mut dyn Guest,
    source: impl Fn(&Session, u32, u32) -> &[u8],
) -> Result<u32, Failure> {
    let list = vectors.copy(&GuestMemory(guest.memory()))?;
    let wanted: u64 = list.iter().map(|(_, len)| u64::from(*len)).sum();
    let ready = source(session, 0, u32::try_from(wanted).unwrap_or(u32::MAX)).len();
    charge_bytes(session, ready as u64, guest)?;
    let mut memory = GuestMemory(guest.memory());
    let mut done = 0u32;
    for (pointer, len) in list {
        memory.slice(pointer, len)?;
        let taken = source(session, done, len);
        memory.write(pointer, taken)?;
        done = u32::try_from(taken.len()).ok().and_then(|len| done.checked_add(len)).ok_or(BadPointer)?;
    }
    Ok(done)
}

pub(super) fn fd_write(session: &mut Session, args: &Args<'_>, guest: &mut dyn Guest) -> Answer {
    let fd = args.u32(0);
    let descriptor = session.world.descriptors.find(fd)?;
    let is_append = descriptor.flags & APPEND != 0;
    let target = match descriptor.target {
        Target::Directory { .. } => return Err(Errno::Isdir.into()),
        _ if !descriptor.rights.contains(Rights::FD_WRITE) => return Err(Errno::Badf.into()),
        Target::Stream(stream) => Err(stream),
        Target::File { ino, offset } => Ok((ino, offset)),
    };
    let vectors = Iovecs::new(session, args.u32(1), args.u32(2), guest)?;
    let written = match target {
        Err(stream) => write_stream(session, stream, vectors, guest)?,
        Ok((ino, offset)) => {
            let offset = if is_append { session.world.files.stat(ino)?.size } else { offset };
            let written = write_file(session, ino, offset, vectors, guest)?;
            session.world.descriptors.set_offset(fd, offset.saturating_add(u64::from(written)));
            written
        }
    };
    write_u32(guest, args.u32(3), written)
}

pub(super) fn fd_pwrite(session: &mut Session, args: &Args<'_>, guest: &mut dyn Guest) -> Answer {
    let (ino, _) = session.world.descriptors.file(args.u32(0), Rights::FD_WRITE | Rights::FD_SEEK)?;
    let vectors = Iovecs::new(session, args.u32(1), args.u32(2), guest)?;
    let written = write_file(session, ino, args.u64(3), vectors, guest)?;
    write_u32(guest, args.u32(4), written)
}

fn write_stream(
    session: &mut Session,
    stream: Stream,
    vectors: Iovecs,
    guest: &mut dyn Guest,
) -> Result<u32, Failure> {
    let wanted = vectors.total(&GuestMemory(guest.memory()))?;
    let held = (session.world.stdout.len() + session.world.stderr.len()) as u64;
    if held.saturating_add(wanted) > session.command.policy.output_max_bytes {
        return Err(Failure::Fault(Fault::Quota));
    }
    charge_bytes(session, wanted, guest)?;
    let memory = GuestMemory(guest.memory());
    let out = if stream == Stream::Error { &mut session.world.stderr } else { &mut session.world.stdout };
    for index in 0..vectors.count {
        let (pointer, len) = vectors.get(index, &memory)?;
        out.extend_from_slice(memory.slice(pointer, len)?);
    }
    Ok(u32::try_from(wanted).map_err(|_| BadPointer)?)
}

/// All or nothing: a file that has no room for everything stays as it is.
fn write_file(
    session: &mut Session,
    ino: Ino,
    offset: u64,
    vectors: Iovecs,
    guest: &mut dyn Guest,
) -> Result<u32, Failure> {
    let memory = GuestMemory(guest.memory());
    let wanted = vectors.total(&memory)?;
    for index in 0..vectors.count {
        let (pointer, len) = vectors.get(index, &memory)?;
        memory.slice(pointer, len)?;
    }
    if wanted == 0 {
        return Ok(0);
    }
    let written = u32::try_from(wanted).map_err(|_| Errno::Inval)?;
    charge_bytes(session, wanted, guest)?;
    on_files(session, guest, |files, now_ns, work| files.prepare_write(ino, offset, wanted, now_ns, work))?;
    let memory = GuestMemory(guest.memory());
    let mut at = offset;
    for index in 0..vectors.count {
        let (pointer, len) = vectors.get(index, &memory)?;
        session.world.files.write(ino, at, memory.slice(pointer, len)?);
        at = at.saturating_add(u64::from(len));
    }
    Ok(written)
}
