//! Arguments and environment.

use super::{Answer, Args, charge_bytes};
use crate::runtime::engine::Guest;
use crate::runtime::guest::{BadPointer, GuestMemory};
use crate::runtime::session::Session;

/// A string in pieces; a NUL byte follows it in the guest.
type Pieces<'a> = [&'a [u8]; 3];

fn args(session: &Session) -> impl ExactSizeIterator<Item = Pieces<'_>> {
    session.invocation.args.iter().map(|arg| [arg.as_bytes(), b"", b""])
}

fn environ(session: &Session) -> impl ExactSizeIterator<Item = Pieces<'_>> {
    session.invocation.env.iter().map(|(name, value)| [name.as_bytes(), b"=", value.as_bytes()])
}

fn len(string: &Pieces<'_>) -> usize {
    string.iter().map(|piece| piece.len()).sum::<usize>() + 1
}

pub(super) fn args_sizes_get(session: &mut Session, operands: &Args<'_>, guest: &mut dyn Guest) -> Answer {
    sizes(args(session), operands, guest)
}

pub(super) fn environ_sizes_get(session: &mut Session, operands: &Args<'_>, guest: &mut dyn Guest) -> Answer {
    sizes(environ(session), operands, guest)
}

pub(super) fn args_get(session: &mut Session, operands: &Args<'_>, guest: &mut dyn Guest) -> Answer {
    let bytes: usize = args(session).map(|string| len(&string)).sum();
    charge_bytes(session, bytes as u64, guest)?;
    table(args(session), operands, guest)
}

pub(super) fn environ_get(session: &mut Session, operands: &Args<'_>, guest: &mut dyn Guest) -> Answer {
    let bytes: usize = environ(session).map(|string| len(&string)).sum();
    charge_bytes(session, bytes as u64, guest)?;
    table(environ(session), operands, guest)
}

fn sizes<'a>(
    strings: impl ExactSizeIterator<Item = Pieces<'a>>,
    operands: &Args<'_>,
    guest: &mut dyn Guest,
) -> Answer {
    let mut memory = GuestMemory(guest.memory());
    memory.write_u32(operands.u32(0), u32::try_from(strings.len()).unwrap_or(u32::MAX))?;
    let bytes: usize = strings.map(|string| len(&string)).sum();
    memory.write_u32(operands.u32(1), u32::try_from(bytes).unwrap_or(u32::MAX))?;
    Ok(())
}

fn table<'a>(
    strings: impl Iterator<Item = Pieces<'a>>,
    operands: &Args<'_>,
    guest: &mut dyn Guest,
) -> Answer {
    let mut memory = GuestMemory(guest.memory());
    let (mut pointer_at, mut at) = (operands.u32(0), operands.u32(1));
    for string in strings {
        memory.write_u32(pointer_at, at)?;
        for piece in string.iter().chain([&&b"\0"[..]]) {
            memory.write(at, piece)?;
            let len = u32::try_from(piece.len()).map_err(|_| BadPointer)?;
            at = at.checked_add(len).ok_or(BadPointer)?;
        }
        pointer_at = pointer_at.checked_add(4).ok_or(BadPointer)?;
    }
    Ok(())
}
