//! The imports `nonos_1`: what a node offers beyond WASI.

use nonos_identity::{PublicKey, Signature, WideDigest};

use super::engine::Guest;
use super::guest::GuestMemory;
use super::session::{GAS_PER_BYTE, Session};
use super::wasi::{Answer, Args, Errno, Fault};
use crate::host_call::HostCall;
use crate::mesh_port::Inbound;

/// Gas per byte of SHA3-512, which hashes 160 MB/s.
const GAS_PER_HASHED_BYTE: u64 = 8;
/// Gas per page of 64 KiB of a checkpoint that the guest asks for: comparing and hashing it.
const GAS_PER_CHECKPOINT_PAGE: u64 = 160_000;

pub(super) fn dispatch(
    session: &mut Session,
    call: HostCall,
    args: &Args<'_>,
    guest: &mut dyn Guest,
) -> Answer {
    match call {
        HostCall::Sha3512 => sha3_512(session, args, guest),
        HostCall::Ed25519Verify => ed25519_verify(session, args, guest),
        HostCall::MeshSend => mesh_send(session, args, guest),
        HostCall::MeshReceive => mesh_receive(session, args, guest),
        HostCall::Checkpoint => {
            let pages = session.pages(guest).saturating_add(session.world.files.footprint_pages());
            session.charge(pages.saturating_mul(GAS_PER_CHECKPOINT_PAGE), guest)?;
            session.checkpoint(guest, false);
            session.check_links()?;
            Ok(())
        }
        HostCall::GasLeft => {
            let left = session.command.policy.gas_limit.saturating_sub(session.gas_used);
            GuestMemory(guest.memory()).write_u64(args.u32(0), left)?;
            Ok(())
        }
        HostCall::LibraryRead => library_read(session, args, guest),
        HostCall::LibraryWrite => library_write(session, args, guest),
        _ => Err(Errno::Notsup.into()),
    }
}

/// `(library, from, to, length)`: out of the memory of a library.
fn library_read(session: &mut Session, args: &Args<'_>, guest: &mut dyn Guest) -> Answer {
    let (library, len) = (session.library(args.u32(0)).ok_or(Errno::Inval)?, args.u32(3));
    session.charge(u64::from(len).saturating_mul(GAS_PER_BYTE), guest)?;
    Ok(session.copy((library, args.u32(1)), (session.active(), args.u32(2)), len, guest)?)
}

/// `(library, to, from, length)`: into the memory of a library.
fn library_write(session: &mut Session, args: &Args<'_>, guest: &mut dyn Guest) -> Answer {
    let (library, len) = (session.library(args.u32(0)).ok_or(Errno::Inval)?, args.u32(3));
    session.charge(u64::from(len).saturating_mul(GAS_PER_BYTE), guest)?;
    Ok(session.copy((session.active(), args.u32(2)), (library, args.u32(1)), len, guest)?)
}

/// `(pointer, length, digest)`: 64 bytes are written.
fn sha3_512(session: &mut Session, args: &Args<'_>, guest: &mut dyn Guest) -> Answer {
    session.charge(u64::from(args.u32(1)).saturating_mul(GAS_PER_HASHED_BYTE), guest)?;
    let mut memory = GuestMemory(guest.memory());
    let digest = WideDigest::of_bytes(memory.slice(args.u32(0), args.u32(1))?);
    memory.write(args.u32(2), digest.as_bytes())?;
    Ok(())
}

/// `(key, message, length, signature)`: RFC 8032, strict, under the rule of the SDK for keys.
fn ed25519_verify(session: &mut Session, args: &Args<'_>, guest: &mut dyn Guest) -> Answer {
    session.charge(u64::from(args.u32(2)).saturating_mul(GAS_PER_HASHED_BYTE), guest)?;
    let memory = GuestMemory(guest.memory());
    let (key, signature) = (memory.array(args.u32(0))?, memory.array(args.u32(3))?);
    let message = memory.slice(args.u32(1), args.u32(2))?;
    let key = PublicKey::admit(&key).map_err(|_| Errno::Inval)?;
    Ok(key.verify_untagged(message, &Signature::from_bytes(signature)).map_err(|_| Errno::Acces)?)
}

/// `(service, length, message, length)`.
fn mesh_send(session: &mut Session, args: &Args<'_>, guest: &mut dyn Guest) -> Answer {
    let len = args.u32(3);
    session.charge(u64::from(len).saturating_mul(GAS_PER_BYTE), guest)?;
    let memory = GuestMemory(guest.memory());
    let service = memory.slice(args.u32(0), args.u32(1))?;
    let message = memory.slice(args.u32(2), len)?;
    let service = session.command.policy.mesh.service(service).ok_or(Errno::Notcapable)?.to_owned();
    session.mesh.count(&session.command.policy, u64::from(len)).ok_or(Fault::Quota)?;
    let answer = Inbound::of_send(session.mesh.port.send(&service, message));
    record(session, answer)
}

/// `(buffer, capacity, length)`: a message that does not fit is kept, and its length is written.
fn mesh_receive(session: &mut Session, args: &Args<'_>, guest: &mut dyn Guest) -> Answer {
    if session.mesh.pending.is_none() {
        let room = session.mesh.bytes_left(&session.command.policy);
        let answer =
            Inbound::of_receive(session.mesh.port.receive(usize::try_from(room).unwrap_or(usize::MAX)));
        if let Inbound::Message(message) = &answer {
            session.mesh.count(&session.command.policy, message.len() as u64).ok_or(Fault::Quota)?;
            session.mesh.pending = Some(message.clone());
        }
        record(session, answer)?;
    }
    let message = session.mesh.pending.take().unwrap_or_default();
    let len = u32::try_from(message.len()).unwrap_or(u32::MAX);
    session.charge(u64::from(len).saturating_mul(GAS_PER_BYTE), guest)?;
    let mut memory = GuestMemory(guest.memory());
    memory.write_u32(args.u32(2), len)?;
    if len > args.u32(1) {
        session.mesh.pending = Some(message);
        return Err(Errno::Overflow.into());
    }
    memory.write(args.u32(0), &message)?;
    Ok(())
}

/// Everything from outside enters the log, and with it the next checkpoint.
fn record(session: &mut Session, answer: Inbound) -> Answer {
    let result = match &answer {
        Inbound::Sent | Inbound::Message(_) => Ok(()),
        Inbound::Nothing => Err(Errno::Again.into()),
        Inbound::Refused => Err(Errno::Io.into()),
        Inbound::Unsupported => Err(Errno::Notsup.into()),
    };
    session.log_inbound(answer);
    result
}
