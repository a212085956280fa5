//! Waiting: for descriptors, which are always ready, or for the logical clock.

use super::descriptor::{Stream, Target};
use super::rights::Rights;
use super::{Answer, Args, Errno, Failure, GuestMemory, charge_bytes, clock_ns};
use crate::runtime::engine::Guest;
use crate::runtime::guest::BadPointer;
use crate::runtime::session::Session;

/// Most subscriptions of one poll.
const MAX_SUBSCRIPTIONS: u32 = 64;

/// One subscription of 48 bytes: user data u64, tag u8 at 8, then clock id u32 at 16, timeout u64
/// at 24 and flags u16 at 40, or the descriptor u32 at 16.
struct Subscription {
    user_data: u64,
    tag: u8,
    /// Clock: nanoseconds from now. Descriptor: nothing to wait for.
    wait_ns: u64,
    errno: Errno,
    /// Bytes there are to read.
    ready_bytes: u64,
}

/// With no descriptor among the subscriptions, the logical clock jumps to the earliest timeout.
pub(super) fn poll_oneoff(session: &mut Session, args: &Args<'_>, guest: &mut dyn Guest) -> Answer {
    let [subscriptions_at, events_at, count, stored_at] = [0, 1, 2, 3].map(|position| args.u32(position));
    if !(1..=MAX_SUBSCRIPTIONS).contains(&count) {
        return Err(Errno::Inval.into());
    }
    charge_bytes(session, u64::from(count) * (48 + 32), guest)?;
    let mut memory = GuestMemory(guest.memory());
    // Both lists lie in memory, so no address below wraps.
    memory.slice(subscriptions_at, count * 48)?;
    memory.slice(events_at, count * 32)?;
    let subscriptions: Vec<Subscription> = (0..count)
        .map(|index| subscription(session, &memory, subscriptions_at + index * 48))
        .collect::<Result<_, _>>()?;
    let wait_ns = subscriptions.iter().map(|s| s.wait_ns).min().unwrap_or(0);
    session.world.slept_ns = session.world.slept_ns.saturating_add(wait_ns);
    let mut stored = 0u32;
    for subscription in subscriptions.iter().filter(|s| s.wait_ns == wait_ns) {
        // `event`: user data u64, errno u16, tag u8, and bytes ready u64 at 16.
        let state = subscription.errno as u64 | u64::from(subscription.tag) << 16;
        let fields = [subscription.user_data, state, subscription.ready_bytes, 0];
        for (field, offset) in fields.into_iter().zip([0, 8, 16, 24]) {
            memory.write_u64(events_at + stored * 32 + offset, field)?;
        }
        stored += 1;
    }
    Ok(memory.write_u32(stored_at, stored)?)
}

fn subscription(session: &Session, memory: &GuestMemory<'_>, at: u32) -> Result<Subscription, Failure> {
    let user_data = memory.u64(at)?;
    let [tag] = memory.array(at + 8)?;
    let ready = |errno| Subscription { user_data, tag, wait_ns: 0, errno, ready_bytes: 0 };
    let what = memory.u32(at + 16)?;
    Ok(match tag {
        0 => match clock_ns(session, what) {
            None => ready(Errno::Inval),
            Some(now_ns) => Subscription { wait_ns: wait_ns(memory, at, now_ns)?, ..ready(Errno::Success) },
        },
        1 | 2 => match ready_bytes(session, what, tag == 1) {
            Ok(ready_bytes) => Subscription { ready_bytes, ..ready(Errno::Success) },
            Err(errno) => ready(errno),
        },
        _ => ready(Errno::Inval),
    })
}

fn wait_ns(memory: &GuestMemory<'_>, at: u32, now_ns: u64) -> Result<u64, BadPointer> {
    let timeout = memory.u64(at + 24)?;
    let is_absolute = u16::from_le_bytes(memory.array(at + 40)?) & 1 == 1;
    Ok(if is_absolute { timeout.saturating_sub(now_ns) } else { timeout })
}

fn ready_bytes(session: &Session, fd: u32, is_read: bool) -> Result<u64, Errno> {
    let descriptor = session.world.descriptors.find(fd)?;
    let right = if is_read { Rights::FD_READ } else { Rights::FD_WRITE };
    match descriptor.target {
        Target::Directory { .. } => Err(Errno::Badf),
        _ if !descriptor.rights.contains(right) => Err(Errno::Badf),
        _ if !descriptor.rights.contains(Rights::POLL_FD_READWRITE) => Err(Errno::Notcapable),
        _ if !is_read => Ok(0),
        Target::Stream(Stream::Input) => Ok((session.invocation.input.len() - session.world.read) as u64),
        Target::Stream(_) => Ok(0),
        Target::File { ino, offset } => {
            Ok(session.world.files.stat(ino).map_or(0, |stat| stat.size.saturating_sub(offset)))
        }
    }
}
