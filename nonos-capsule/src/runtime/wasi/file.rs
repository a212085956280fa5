//! Descriptors: what they are, what they may be used for, and where in a file they stand.

use super::descriptor::{Descriptor, KNOWN_FLAGS, Target};
use super::rights::Rights;
use super::{Answer, Args, Errno, Failure, GuestMemory, now_ns, on_files, write_u64};
use crate::fs::{FileType, Ino, Stat};
use crate::runtime::engine::Guest;
use crate::runtime::guest::BadPointer;
use crate::runtime::session::Session;

/// `filetype`: 0 is unknown, which a stream is.
pub(super) const fn file_type(file_type: FileType) -> u8 {
    match file_type {
        FileType::Directory => 3,
        FileType::Regular => 4,
        FileType::Symlink => 7,
    }
}

/// A file for a change of it; streams have no such thing.
fn file(session: &Session, fd: u32, rights: Rights) -> Result<Ino, Errno> {
    match session.world.descriptors.file(fd, rights) {
        Ok((ino, _)) => Ok(ino),
        Err(Errno::Spipe) => Err(Errno::Notsup),
        Err(errno) => Err(errno),
    }
}

pub(super) fn fd_close(session: &mut Session, fd: u32) -> Answer {
    let closed = session.world.descriptors.remove(fd)?;
    release(session, &closed);
    Ok(())
}

fn release(session: &mut Session, closed: &Descriptor) {
    if let Some(ino) = closed.ino() {
        session.world.files.release(ino);
    }
}

/// As a move in the table, not a copy: `to` must be open, and `from` is closed afterwards.
pub(super) fn fd_renumber(session: &mut Session, args: &Args<'_>) -> Answer {
    if let Some(closed) = session.world.descriptors.renumber(args.u32(0), args.u32(1))? {
        release(session, &closed);
    }
    Ok(())
}

pub(super) fn fd_advise(session: &mut Session, args: &Args<'_>) -> Answer {
    session.world.descriptors.file(args.u32(0), Rights::FD_ADVISE)?;
    if args.u32(3) > 5 || args.u64(1).checked_add(args.u64(2)).is_none() {
        return Err(Errno::Inval.into());
    }
    Ok(())
}

/// Everything is where it will stay; there is nothing to do.
pub(super) fn fd_sync(session: &mut Session, fd: u32, right: Rights) -> Answer {
    let descriptor = session.world.descriptors.find(fd)?;
    match descriptor.target {
        Target::Stream(_) => Ok(()),
        _ if descriptor.rights.contains(right) => Ok(()),
        _ => Err(Errno::Notcapable.into()),
    }
}

pub(super) fn fd_allocate(session: &mut Session, args: &Args<'_>, guest: &mut dyn Guest) -> Answer {
    let ino = file(session, args.u32(0), Rights::FD_ALLOCATE)?;
    let (offset, len) = (args.u64(1), args.u64(2));
    if len == 0 {
        return Err(Errno::Inval.into());
    }
    let end = offset.checked_add(len).ok_or(Errno::Fbig)?;
    if end <= session.world.files.stat(ino)?.size {
        return Ok(());
    }
    on_files(session, guest, |files, now_ns, work| files.resize(ino, end, now_ns, work))
}

pub(super) fn fd_filestat_set_size(session: &mut Session, args: &Args<'_>, guest: &mut dyn Guest) -> Answer {
    let ino = file(session, args.u32(0), Rights::FD_FILESTAT_SET_SIZE)?;
    let size = args.u64(1);
    on_files(session, guest, |files, now_ns, work| files.resize(ino, size, now_ns, work))
}

/// `fdstat`: file type u8, flags u16 at 2, rights u64 at 8, inherited rights at 16.
pub(super) fn fd_fdstat_get(session: &mut Session, args: &Args<'_>, guest: &mut dyn Guest) -> Answer {
    let descriptor = session.world.descriptors.find(args.u32(0))?;
    let kind = match descriptor.target {
        Target::Stream(_) => 0,
        Target::File { .. } => file_type(FileType::Regular),
        Target::Directory { .. } => file_type(FileType::Directory),
    };
    let head = u64::from(kind) | u64::from(descriptor.flags) << 16;
    let fields = [head, descriptor.rights.bits(), descriptor.inheriting.bits()];
    write_fields(guest, args.u32(1), &fields)
}

pub(super) fn fd_fdstat_set_flags(session: &mut Session, args: &Args<'_>) -> Answer {
    let descriptor = session.world.descriptors.find_mut(args.u32(0))?;
    let flags = args.flags(1, KNOWN_FLAGS)?;
    match descriptor.target {
        Target::Stream(_) => {}
        _ if descriptor.rights.contains(Rights::FD_FDSTAT_SET_FLAGS) => descriptor.flags = flags,
        _ => return Err(Errno::Notcapable.into()),
    }
    Ok(())
}

/// Rights only ever shrink.
pub(super) fn fd_fdstat_set_rights(session: &mut Session, args: &Args<'_>) -> Answer {
    let descriptor = session.world.descriptors.find_mut(args.u32(0))?;
    let (rights, inheriting) = (Rights::from_bits(args.u64(1)), Rights::from_bits(args.u64(2)));
    if !descriptor.rights.contains(rights) || !descriptor.inheriting.contains(inheriting) {
        return Err(Errno::Notcapable.into());
    }
    descriptor.rights = rights;
    descriptor.inheriting = inheriting;
    Ok(())
}

/// `filestat`: device u64, inode u64, file type u8 at 16, links u64, size u64, and the times of
/// access, modification and change. A stream has one link and nothing else.
pub(super) fn write_filestat(guest: &mut dyn Guest, at: u32, stat: Option<&Stat>) -> Answer {
    /// The one device that files are on.
    const DEVICE: u64 = 1;
    let fields = match stat {
        None => [0, 0, 0, 1, 0, 0, 0, 0],
        Some(stat) => [
            DEVICE,
            stat.ino,
            u64::from(file_type(stat.file_type)),
            u64::from(stat.links),
            stat.size,
            stat.times.accessed_ns,
            stat.times.modified_ns,
            stat.times.changed_ns,
        ],
    };
    write_fields(guest, at, &fields)
}

fn write_fields(guest: &mut dyn Guest, at: u32, fields: &[u64]) -> Answer {
    let mut memory = GuestMemory(guest.memory());
    let mut at = at;
    for field in fields {
        memory.write_u64(at, *field)?;
        at = at.checked_add(8).ok_or(BadPointer)?;
    }
    Ok(())
}

pub(super) fn fd_filestat_get(session: &mut Session, args: &Args<'_>, guest: &mut dyn Guest) -> Answer {
    let descriptor = session.world.descriptors.find(args.u32(0))?;
    let stat = match descriptor.ino() {
        None => None,
        Some(_) if !descriptor.rights.contains(Rights::FD_FILESTAT_GET) => {
            return Err(Errno::Notcapable.into());
        }
        Some(ino) => Some(session.world.files.stat(ino)?),
    };
    write_filestat(guest, args.u32(1), stat.as_ref())
}

/// What to set access and modification time to: `fstflags` name the given time or now for each.
pub(super) fn times(
    session: &Session,
    accessed: u64,
    modified: u64,
    flags: u16,
) -> Result<(Option<u64>, Option<u64>), Errno> {
    let time = |given, flags| match flags & 3 {
        0 => Ok(None),
        1 => Ok(Some(given)),
        2 => Ok(Some(now_ns(session))),
        _ => Err(Errno::Inval),
    };
    Ok((time(accessed, flags)?, time(modified, flags >> 2)?))
}

pub(super) fn fd_filestat_set_times(session: &mut Session, args: &Args<'_>) -> Answer {
    let descriptor = session.world.descriptors.find(args.u32(0))?;
    let ino = descriptor.ino().ok_or(Errno::Notsup)?;
    if !descriptor.rights.contains(Rights::FD_FILESTAT_SET_TIMES) {
        return Err(Errno::Notcapable.into());
    }
    let (accessed, modified) = times(session, args.u64(1), args.u64(2), args.flags(3, 15)?)?;
    let now_ns = now_ns(session);
    Ok(session.world.files.set_times(ino, accessed, modified, now_ns)?)
}

pub(super) fn fd_tell(session: &mut Session, args: &Args<'_>, guest: &mut dyn Guest) -> Answer {
    let (_, offset) = session.world.descriptors.file(args.u32(0), Rights::FD_TELL)?;
    write_u64(guest, args.u32(1), offset)
}

pub(super) fn fd_seek(session: &mut Session, args: &Args<'_>, guest: &mut dyn Guest) -> Answer {
    let (fd, delta, whence) = (args.u32(0), args.u64(1).cast_signed(), args.u32(2));
    // To look where it stands is what the lesser right is for.
    let right = if delta == 0 && whence == 1 { Rights::FD_TELL } else { Rights::FD_SEEK };
    let (ino, offset) = session.world.descriptors.file(fd, right).or_else(|errno| match errno {
        Errno::Notcapable => session.world.descriptors.file(fd, Rights::FD_SEEK),
        errno => Err(errno),
    })?;
    let from = match whence {
        0 => 0,
        1 => offset,
        2 => session.world.files.stat(ino)?.size,
        _ => return Err(Errno::Inval.into()),
    };
    let to = from.checked_add_signed(delta).filter(|to| i64::try_from(*to).is_ok());
    let to = to.ok_or(if delta < 0 { Errno::Inval } else { Errno::Overflow }).map_err(Failure::from)?;
    session.world.descriptors.set_offset(fd, to);
    write_u64(guest, args.u32(3), to)
}
