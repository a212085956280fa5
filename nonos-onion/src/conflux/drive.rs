use core::pin::Pin;
use core::task::{Context, Poll};
use core::time::Duration;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::time::Sleep;

use crate::conflux::fault::LegFault;
use crate::conflux::frame::{Hello, Refusal};
use crate::conflux::session::{Input, LegId, Output};
use crate::conflux::stream::{Shared, State};
use crate::link::ByteLink;

/// Bytes read from a leg, and given to it, at a time.
const CHUNK_BYTES: usize = 16 << 10;
/// Times that all legs are looked at before it is other tasks' turn.
const ROUNDS: usize = 16;
/// How long a leg that both ends are done with may take to end; then it is dropped.
const PARTING_TIMEOUT: Duration = Duration::from_secs(10);
/// How long nothing may happen without a look.
const LONGEST_SLEEP: Duration = Duration::from_secs(3600);

/// The stream of one leg.
struct Wire {
    stream: Box<dyn ByteLink>,
    /// To be written, from `at`.
    out: Vec<u8>,
    at: usize,
    /// The session is done with it: write what is left, end it, and wait for its other half until then.
    parting: Option<Duration>,
    is_shut: bool,
}

/// What became of a leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Linked(LegId),
    Gone(LegId),
}

/// Moves the bytes of one session between it and its legs.
pub(crate) struct Drive {
    shared: Arc<Shared>,
    wires: BTreeMap<LegId, Wire>,
    next_leg: u64,
    timer: Pin<Box<Sleep>>,
    scratch: Box<[u8; CHUNK_BYTES]>,
    pub(crate) events: Vec<Event>,
}

impl Drive {
    /// On a tokio runtime.
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            wires: BTreeMap::new(),
            next_leg: 0,
            timer: Box::pin(tokio::time::sleep(LONGEST_SLEEP)),
            scratch: Box::new([0; _]),
            events: Vec::new(),
        }
    }

    pub(crate) const fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Adds a leg; its first frame if this is the server.
    pub(crate) fn add(&mut self, stream: Box<dyn ByteLink>, hello: Option<&Hello>) -> LegId {
        self.next_leg += 1;
        let leg = LegId(self.next_leg);
        let wire = Wire { stream, out: Vec::new(), at: 0, parting: None, is_shut: false };
        self.wires.insert(leg, wire);
        let now = self.shared.now();
        self.shared.lock().session.handle(now, Input::LegUp { leg, hello });
        self.settle();
        leg
    }

    pub(crate) fn retire(&mut self, leg: LegId) {
        let now = self.shared.now();
        self.shared.lock().session.handle(now, Input::Retire { leg });
    }

    /// Ready once the session has ended and its last bytes have left.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.shared.lock().driver = Some(cx.waker().clone());
        for _ in 0..ROUNDS {
            let mut moved = false;
            let legs: Vec<LegId> = self.wires.keys().copied().collect();
            for leg in legs {
                moved |= self.poll_wire(leg, cx);
                self.settle();
            }
            if self.shared.lock().session.ended().is_some() && self.wires.is_empty() {
                return Poll::Ready(());
            }
            if !moved && !self.poll_timer(cx) {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Yields whether time has passed for something.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> bool {
        let now = self.shared.now();
        let parting = self.wires.values().filter_map(|wire| wire.parting);
        let deadline = parting.chain(self.shared.lock().session.deadline()).min();
        let longest = now + LONGEST_SLEEP;
        let at = deadline.map_or(longest, |at| at.min(longest));
        // The timer has milliseconds; what is due within the next one is not yet.
        self.timer.as_mut().reset(self.shared.instant(at));
        if self.timer.as_mut().poll(cx).is_pending() {
            return false;
        }
        let now = self.shared.now();
        self.shared.lock().session.handle(now, Input::Tick);
        self.wires.retain(|_, wire| wire.parting.is_none_or(|until| now < until));
        self.settle();
        true
    }

    /// Yields whether anything moved.
    fn poll_wire(&mut self, leg: LegId, cx: &mut Context<'_>) -> bool {
        let read = self.poll_read(leg, cx);
        let written = self.poll_write(leg, cx);
        match (read, written) {
            (Ok(read), Ok(written)) => read || written,
            _ => {
                self.wires.remove(&leg);
                let now = self.shared.now();
                self.shared.lock().session.handle(now, Input::LegDown { leg });
                self.events.push(Event::Gone(leg));
                true
            }
        }
    }

    fn poll_read(&mut self, leg: LegId, cx: &mut Context<'_>) -> io::Result<bool> {
        let Some(wire) = self.wires.get_mut(&leg) else { return Ok(false) };
        let mut buffer = ReadBuf::new(&mut *self.scratch);
        if Pin::new(&mut wire.stream).poll_read(cx, &mut buffer)?.is_pending() {
            return Ok(false);
        }
        let bytes = buffer.filled();
        if bytes.is_empty() {
            // The end of a leg that is not over is a break.
            return match wire.parting {
                Some(_) if !wire.is_shut || wire.at < wire.out.len() => Ok(false),
                _ => Err(io::ErrorKind::UnexpectedEof.into()),
            };
        }
        let now = self.shared.now();
        self.shared.lock().session.handle(now, Input::Received { leg, bytes });
        Ok(true)
    }

    fn poll_write(&mut self, leg: LegId, cx: &mut Context<'_>) -> io::Result<bool> {
        let Some(wire) = self.wires.get_mut(&leg) else { return Ok(false) };
        let mut moved = false;
        loop {
            if wire.at >= wire.out.len() {
                wire.out.clear();
                wire.at = 0;
                let now = self.shared.now();
                self.shared.lock().session.transmit(now, leg, CHUNK_BYTES, &mut wire.out);
            }
            let rest = wire.out.get(wire.at..).unwrap_or_default();
            if rest.is_empty() {
                break;
            }
            match Pin::new(&mut wire.stream).poll_write(cx, rest)? {
                Poll::Ready(0) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(count) => wire.at += count,
                Poll::Pending => return Ok(moved),
            }
            moved = true;
        }
        if wire.parting.is_some() {
            if !wire.is_shut && Pin::new(&mut wire.stream).poll_shutdown(cx)?.is_ready() {
                wire.is_shut = true;
                moved = true;
            }
        } else if Pin::new(&mut wire.stream).poll_flush(cx)?.is_pending() {
            return Ok(moved);
        }
        Ok(moved)
    }

    /// Does what the session tells.
    fn settle(&mut self) {
        let now = self.shared.now();
        let shared = Arc::clone(&self.shared);
        let mut state = shared.lock();
        while let Some(output) = state.session.poll() {
            match output {
                Output::Readable => State::wake(&mut state.reader),
                Output::Writable => State::wake(&mut state.writer),
                Output::Linked { leg } => {
                    state.is_linked = true;
                    State::wake(&mut state.opener);
                    self.events.push(Event::Linked(leg));
                }
                Output::Lost { leg, fault } => {
                    tracing::debug!("a leg is lost: {fault}");
                    self.lost(now, leg, fault);
                }
                Output::Retired { leg } => {
                    // What the session had for it was taken, or it would not be over.
                    if let Some(wire) = self.wires.get_mut(&leg) {
                        wire.parting = Some(now + PARTING_TIMEOUT);
                    }
                    self.events.push(Event::Gone(leg));
                }
                Output::Ended { .. } => {
                    for wire in self.wires.values_mut() {
                        wire.parting.get_or_insert(now + PARTING_TIMEOUT);
                    }
                    State::wake(&mut state.reader);
                    State::wake(&mut state.writer);
                    State::wake(&mut state.opener);
                }
            }
        }
        state.legs = self.wires.values().filter(|wire| wire.parting.is_none()).count();
    }

    fn lost(&mut self, now: Duration, leg: LegId, fault: LegFault) {
        self.events.push(Event::Gone(leg));
        // A client is told of a leg that is not taken.
        let refusal = match fault {
            LegFault::Excess => Refusal::Legs,
            LegFault::Ended => Refusal::Unknown,
            _ => return drop(self.wires.remove(&leg)),
        };
        if let Some(wire) = self.wires.get_mut(&leg) {
            wire.out.extend_from_slice(&refusal.to_bytes());
            wire.parting = Some(now + PARTING_TIMEOUT);
        }
    }
}
