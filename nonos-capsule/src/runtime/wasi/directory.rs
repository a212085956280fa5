//! Preopened directories and what is in directories.

use super::descriptor::Target;
use super::file::file_type;
use super::rights::Rights;
use super::{Answer, Args, Errno, GuestMemory, charge_bytes, write_u32};
use crate::fs::Work;
use crate::runtime::engine::Guest;
use crate::runtime::guest::BadPointer;
use crate::runtime::session::Session;

/// Gas of listing one entry, beside its bytes.
const ENTRY_GAS: u64 = 200;
/// `dirent`: next cookie u64, inode u64, length of the name u32, file type u8 and padding.
const DIRENT_BYTES: usize = 24;

/// How a guest finds its directories: it asks for one descriptor after another until this is a
/// bad one.
fn preopen(session: &Session, fd: u32) -> Result<std::sync::Arc<str>, Errno> {
    match &session.world.descriptors.find(fd)?.target {
        Target::Directory { preopen: Some(path), .. } => Ok(path.clone()),
        _ => Err(Errno::Badf),
    }
}

/// `prestat`: tag u8, 0 for a directory, and the length of its name u32 at 4.
pub(super) fn fd_prestat_get(session: &mut Session, args: &Args<'_>, guest: &mut dyn Guest) -> Answer {
    let path = preopen(session, args.u32(0))?;
    let len = u64::from(u32::try_from(path.len()).map_err(|_| Errno::Nametoolong)?);
    super::write_u64(guest, args.u32(1), len << 32)
}

pub(super) fn fd_prestat_dir_name(session: &mut Session, args: &Args<'_>, guest: &mut dyn Guest) -> Answer {
    let path = preopen(session, args.u32(0))?;
    if path.len() > args.u32(2) as usize {
        return Err(Errno::Nametoolong.into());
    }
    charge_bytes(session, path.len() as u64, guest)?;
    Ok(GuestMemory(guest.memory()).write(args.u32(1), path.as_bytes())?)
}

/// Fills the buffer with entries behind the cookie. An entry that does not fit is cut off, which
/// tells the guest that there is more.
pub(super) fn fd_readdir(session: &mut Session, args: &Args<'_>, guest: &mut dyn Guest) -> Answer {
    let ino = session.world.descriptors.directory(args.u32(0), Rights::FD_READDIR)?;
    let (buffer_at, buffer_len, mut cookie) = (args.u32(1), args.u32(2), args.u64(3));
    let mut memory = GuestMemory(guest.memory());
    memory.slice(buffer_at, buffer_len)?;
    let mut work = Work::new(session.gas_left());
    let mut used = 0u32;
    while used < buffer_len {
        let Some((next, name, ino, kind)) = session.world.files.entry_after(ino, cookie)? else { break };
        // Paid before it is written; what cannot be paid ends the run below.
        if work.pay(ENTRY_GAS + (DIRENT_BYTES + name.len()) as u64).is_err() {
            break;
        }
        let mut entry = [0u8; DIRENT_BYTES];
        let name_len = u64::try_from(name.len()).unwrap_or(u64::MAX);
        let fields = [next, ino, name_len | u64::from(file_type(kind)) << 32];
        for (place, field) in entry.as_chunks_mut::<8>().0.iter_mut().zip(fields) {
            *place = field.to_le_bytes();
        }
        for part in [&entry[..], name.as_bytes()] {
            let room = (buffer_len - used) as usize;
            let part = part.get(..room).unwrap_or(part);
            memory.write(buffer_at + used, part)?;
            used += u32::try_from(part.len()).map_err(|_| BadPointer)?;
        }
        cookie = next;
    }
    session.charge(work.spent(), guest)?;
    write_u32(guest, args.u32(4), used)
}
