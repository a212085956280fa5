//! Calls by path, each relative to an open directory and never beyond it.

use super::descriptor::{Descriptor, KNOWN_FLAGS, Target};
use super::file::{times, write_filestat};
use super::rights::Rights;
use super::{Answer, Args, Errno, Failure, GuestMemory, charge_bytes, on_files, write_u32};
use crate::fs::{FileType, MAX_PATH_BYTES, Open};
use crate::runtime::engine::Guest;
use crate::runtime::session::Session;

/// `lookupflags`
const FOLLOW: u32 = 1;
/// `oflags`
const CREATE: u16 = 1;
const DIRECTORY: u16 = 2;
const EXCLUSIVE: u16 = 4;
const TRUNCATE: u16 = 8;

/// Copies a path out of the guest's memory.
fn path(session: &mut Session, at: u32, len: u32, guest: &mut dyn Guest) -> Result<String, Failure> {
    if len as usize > MAX_PATH_BYTES {
        return Err(Errno::Nametoolong.into());
    }
    charge_bytes(session, u64::from(len), guest)?;
    let memory = GuestMemory(guest.memory());
    let text = core::str::from_utf8(memory.slice(at, len)?).map_err(|_| Errno::Ilseq)?;
    Ok(text.to_owned())
}

fn follows(args: &Args<'_>, position: usize) -> Result<bool, Errno> {
    match args.u32(position) {
        flags if flags & !FOLLOW == 0 => Ok(flags == FOLLOW),
        _ => Err(Errno::Inval),
    }
}

pub(super) fn path_create_directory(session: &mut Session, args: &Args<'_>, guest: &mut dyn Guest) -> Answer {
    let base = session.world.descriptors.directory(args.u32(0), Rights::PATH_CREATE_DIRECTORY)?;
    let path = path(session, args.u32(1), args.u32(2), guest)?;
    on_files(session, guest, |files, now_ns, work| files.create_directory(base, &path, now_ns, work))
}

pub(super) fn path_filestat_get(session: &mut Session, args: &Args<'_>, guest: &mut dyn Guest) -> Answer {
    let base = session.world.descriptors.directory(args.u32(0), Rights::PATH_FILESTAT_GET)?;
    let follow = follows(args, 1)?;
    let path = path(session, args.u32(2), args.u32(3), guest)?;
    let stat = on_files(session, guest, |files, _, work| files.find(base, &path, follow, work))?;
    write_filestat(guest, args.u32(4), Some(&stat))
}

pub(super) fn path_filestat_set_times(
    session: &mut Session,
    args: &Args<'_>,
    guest: &mut dyn Guest,
) -> Answer {
    let base = session.world.descriptors.directory(args.u32(0), Rights::PATH_FILESTAT_SET_TIMES)?;
    let follow = follows(args, 1)?;
    let flags = args.flags(6, 15)?;
    let path = path(session, args.u32(2), args.u32(3), guest)?;
    let (accessed, modified) = times(session, args.u64(4), args.u64(5), flags)?;
    on_files(session, guest, |files, now_ns, work| {
        let found = files.find(base, &path, follow, work)?;
        files.set_times(found.ino, accessed, modified, now_ns)
    })
}

/// Makes a second name for a file. Following a link at the end of the old path is not supported,
/// as on other hosts.
pub(super) fn path_link(session: &mut Session, args: &Args<'_>, guest: &mut dyn Guest) -> Answer {
    let from = session.world.descriptors.directory(args.u32(0), Rights::PATH_LINK_SOURCE)?;
    let to = session.world.descriptors.directory(args.u32(4), Rights::PATH_LINK_TARGET)?;
    if args.u32(1) != 0 {
        return Err(Errno::Inval.into());
    }
    let old = path(session, args.u32(2), args.u32(3), guest)?;
    let new = path(session, args.u32(5), args.u32(6), guest)?;
    on_files(session, guest, |files, now_ns, work| files.link((from, &old), (to, &new), now_ns, work))
}

pub(super) fn path_open(session: &mut Session, args: &Args<'_>, guest: &mut dyn Guest) -> Answer {
    let fd = args.u32(0);
    let flags = args.flags(4, CREATE | DIRECTORY | EXCLUSIVE | TRUNCATE)?;
    let mut needed = Rights::PATH_OPEN;
    if flags & CREATE != 0 {
        needed = needed | Rights::PATH_CREATE_FILE;
    }
    if flags & TRUNCATE != 0 {
        needed = needed | Rights::PATH_FILESTAT_SET_SIZE;
    }
    let base = session.world.descriptors.directory(fd, needed)?;
    let (rights, inheriting) = (Rights::from_bits(args.u64(5)), Rights::from_bits(args.u64(6)));
    if !session.world.descriptors.find(fd)?.inheriting.contains(rights | inheriting) {
        return Err(Errno::Notcapable.into());
    }
    let fd_flags = args.flags(7, KNOWN_FLAGS)?;
    let how = Open {
        follow: follows(args, 1)?,
        create: flags & CREATE != 0,
        exclusive: flags & EXCLUSIVE != 0,
        directory: flags & DIRECTORY != 0,
        truncate: flags & TRUNCATE != 0,
        write: rights.contains(Rights::FD_WRITE),
    };
    let path = path(session, args.u32(2), args.u32(3), guest)?;
    // Without a free number nothing is created either.
    session.world.descriptors.lowest_free()?;
    let opened = on_files(session, guest, |files, now_ns, work| {
        let ino = files.open(base, &path, how, now_ns, work)?;
        files.stat(ino)
    })?;
    let ino = opened.ino;
    let descriptor = match opened.file_type {
        FileType::Directory => Descriptor {
            target: Target::Directory { ino, preopen: None },
            rights: rights.intersection(Rights::DIRECTORY),
            inheriting,
            flags: fd_flags,
        },
        _ => Descriptor {
            target: Target::File { ino, offset: 0 },
            rights: rights.intersection(Rights::FILE),
            inheriting: Rights::NONE,
            flags: fd_flags,
        },
    };
    session.world.files.retain(ino);
    let opened = session.world.descriptors.insert(descriptor)?;
    write_u32(guest, args.u32(8), opened)
}

pub(super) fn path_readlink(session: &mut Session, args: &Args<'_>, guest: &mut dyn Guest) -> Answer {
    let base = session.world.descriptors.directory(args.u32(0), Rights::PATH_READLINK)?;
    let path = path(session, args.u32(1), args.u32(2), guest)?;
    let target = on_files(session, guest, |files, _, work| files.read_link(base, &path, work))?;
    let bytes = target.as_bytes().get(..args.u32(4) as usize).unwrap_or(target.as_bytes());
    charge_bytes(session, bytes.len() as u64, guest)?;
    let mut memory = GuestMemory(guest.memory());
    memory.slice(args.u32(3), args.u32(4))?;
    memory.write(args.u32(3), bytes)?;
    write_u32(guest, args.u32(5), u32::try_from(bytes.len()).map_err(|_| Errno::Overflow)?)
}

pub(super) fn path_remove_directory(session: &mut Session, args: &Args<'_>, guest: &mut dyn Guest) -> Answer {
    let base = session.world.descriptors.directory(args.u32(0), Rights::PATH_REMOVE_DIRECTORY)?;
    let path = path(session, args.u32(1), args.u32(2), guest)?;
    on_files(session, guest, |files, now_ns, work| files.remove_directory(base, &path, now_ns, work))
}

pub(super) fn path_rename(session: &mut Session, args: &Args<'_>, guest: &mut dyn Guest) -> Answer {
    let from = session.world.descriptors.directory(args.u32(0), Rights::PATH_RENAME_SOURCE)?;
    let to = session.world.descriptors.directory(args.u32(3), Rights::PATH_RENAME_TARGET)?;
    let old = path(session, args.u32(1), args.u32(2), guest)?;
    let new = path(session, args.u32(4), args.u32(5), guest)?;
    on_files(session, guest, |files, now_ns, work| files.rename((from, &old), (to, &new), now_ns, work))
}

pub(super) fn path_symlink(session: &mut Session, args: &Args<'_>, guest: &mut dyn Guest) -> Answer {
    let base = session.world.descriptors.directory(args.u32(2), Rights::PATH_SYMLINK)?;
    let target = path(session, args.u32(0), args.u32(1), guest)?;
    let path = path(session, args.u32(3), args.u32(4), guest)?;
    on_files(session, guest, |files, now_ns, work| files.symlink(&target, base, &path, now_ns, work))
}

pub(super) fn path_unlink_file(session: &mut Session, args: &Args<'_>, guest: &mut dyn Guest) -> Answer {
    let base = session.world.descriptors.directory(args.u32(0), Rights::PATH_UNLINK_FILE)?;
    let path = path(session, args.u32(1), args.u32(2), guest)?;
    on_files(session, guest, |files, now_ns, work| files.unlink(base, &path, now_ns, work))
}
