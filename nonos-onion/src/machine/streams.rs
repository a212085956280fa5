use super::{Circuit, Machine, Now, Output, Timer};
use crate::cell::DestroyReason;
use crate::cgo::Tag;
use crate::circuit::{Closed, LocalCircuitId, OpenError, StreamId};
use crate::message::{DATA_BYTES, EndReason, Kind, Message};
use crate::mux::{Answer, Change, Read};

impl Machine {
    /// Opens a stream over an own circuit. [`Output::Opened`] or [`Output::Refused`] follows,
    /// or the circuit's [`Output::Closed`].
    ///
    /// # Errors
    /// [`OpenError::Streams`], or [`OpenError::Closed`] if there is no such built circuit.
    pub fn open(
        &mut self,
        now: impl Into<Now>,
        circuit: LocalCircuitId,
        port: u16,
    ) -> Result<StreamId, OpenError> {
        self.set_time(now);
        let gone = OpenError::Closed(Closed { reason: DestroyReason::Finished, blamed: None });
        let number = match self.circuits.get_mut(&circuit) {
            Some(Circuit::Client(client)) if client.is_built() => {
                client.mux.begin().ok_or(OpenError::Streams)?
            }
            _ => return Err(gone),
        };
        let stream = StreamId { circuit, number };
        // It fires for nothing if the stream is answered in time: streams are few, the wait is short.
        self.timers.insert((self.now + self.config.limits.hop_timeout, Timer::Stream(stream)));
        self.send(stream, Kind::Begin, &port.to_be_bytes()).ok_or(gone)?;
        Ok(stream)
    }

    /// Accepts a stream of [`Output::Offered`].
    pub fn accept(&mut self, now: impl Into<Now>, stream: StreamId) {
        self.set_time(now);
        if self.with_mux(stream.circuit, |mux| mux.accept(stream.number)) == Some(true) {
            self.send(stream, Kind::Connected, &[]);
        }
    }

    /// Refuses a stream of [`Output::Offered`].
    pub fn refuse(&mut self, now: impl Into<Now>, stream: StreamId) {
        self.set_time(now);
        self.end(stream, EndReason::Refused);
    }

    /// Forgets a stream. Unless it was finished, the other end sees a reset and bytes on their way
    /// are lost; if it was, the other end still reads them and only stops sending.
    pub fn reset(&mut self, now: impl Into<Now>, stream: StreamId) {
        self.set_time(now);
        self.end(stream, EndReason::Reset);
    }

    /// Ends the sending half of a stream, after what was written.
    pub fn finish(&mut self, now: impl Into<Now>, stream: StreamId) {
        self.set_time(now);
        if self.with_mux(stream.circuit, |mux| mux.finish(stream.number)) == Some(true) {
            self.send(stream, Kind::End, &[EndReason::Done as u8]);
        }
    }

    /// Bytes that a stream may send now. If none, [`Output::Writable`] follows when it may.
    pub fn sendable_bytes(&mut self, stream: StreamId) -> usize {
        let cells = self.with_mux(stream.circuit, |mux| mux.sendable_cells(stream.number)).unwrap_or(0);
        usize::try_from(cells).unwrap_or(0).saturating_mul(DATA_BYTES)
    }

    /// Sends bytes of a stream; yields how many went, at most [`Self::sendable_bytes`].
    pub fn write(&mut self, now: impl Into<Now>, stream: StreamId, bytes: &[u8]) -> usize {
        self.set_time(now);
        let mut sent = 0;
        for data in bytes.chunks(DATA_BYTES) {
            if self.sendable_bytes(stream) == 0 {
                break;
            }
            let Some(tag) = self.send(stream, Kind::Data, data) else { break };
            let monotonic = self.monotonic;
            self.with_mux(stream.circuit, |mux| mux.sent(stream.number, tag, monotonic));
            sent += data.len();
        }
        sent
    }

    /// Whether all bytes of a stream came before its circuit went, and some are still to be read.
    #[must_use]
    pub fn is_readable(&self, stream: StreamId) -> bool {
        matches!(self.circuits.get(&stream.circuit), Some(Circuit::Ended(mux)) if mux.is_ended(stream.number))
    }

    /// Moves at most `max` received bytes to the end of `out`. The window opens as they go.
    pub fn read(
        &mut self,
        now: impl Into<Now>,
        stream: StreamId,
        max: usize,
        out: &mut Vec<u8>,
    ) -> StreamRead {
        self.set_time(now);
        let read = self.with_mux(stream.circuit, |mux| mux.read(stream.number, max, out));
        let Read { grant, more, end } = read.unwrap_or_default();
        if grant > 0 {
            self.send(stream, Kind::Sendme, &grant.to_be_bytes());
        }
        StreamRead { more, end }
    }

    fn end(&mut self, stream: StreamId, reason: EndReason) {
        if self.with_mux(stream.circuit, |mux| mux.reset(stream.number)) == Some(true) {
            self.send(stream, Kind::End, &[reason as u8]);
        }
    }

    fn send(&mut self, stream: StreamId, kind: Kind, data: &[u8]) -> Option<Tag> {
        let hop = self.last_hop(stream.circuit);
        self.originate(stream.circuit, hop, Message { stream: stream.number, kind, more: false, data })
    }

    /// Takes a message for the streams of a circuit; `hop` is to blame if it must not be.
    pub(super) fn stream_message(
        &mut self,
        circuit: LocalCircuitId,
        message: Message<'_>,
        tag: Tag,
        hop: usize,
    ) {
        let may_begin = matches!(self.circuits.get(&circuit), Some(Circuit::Relay(_)));
        let credit = message.kind == Kind::Sendme;
        let monotonic = self.monotonic;
        let received = self.with_mux(circuit, |mux| mux.receive(message, tag, may_begin, monotonic));
        let (change, answer) = match received {
            Some(Ok(result)) => result,
            Some(Err(reason)) => return self.fail(circuit, reason, Some(hop)),
            None => return,
        };
        self.keep_quota();
        if let Some(change) = change {
            self.announce(circuit, change);
        }
        match answer {
            Some(Answer::Sendme(tag)) => {
                self.send(StreamId { circuit, number: 0 }, Kind::Sendme, &tag);
            }
            Some(Answer::End { stream, reason }) => {
                self.send(StreamId { circuit, number: stream }, Kind::End, &[reason as u8]);
            }
            None => {}
        }
        if credit {
            let mut writable = core::mem::take(&mut self.writable);
            self.with_mux(circuit, |mux| mux.take_writable(&mut writable));
            let of = |number| Output::Writable { stream: StreamId { circuit, number } };
            self.outputs.extend(writable.drain(..).map(of));
            self.writable = writable;
        }
    }

    fn announce(&mut self, circuit: LocalCircuitId, change: Change) {
        let id = |number| StreamId { circuit, number };
        let output = match change {
            Change::Offered { stream, port } => Output::Offered { stream: id(stream), port },
            Change::Opened { stream } => Output::Opened { stream: id(stream) },
            Change::Refused { stream } => Output::Refused { stream: id(stream), timeout: false },
            Change::Readable { stream } => Output::Readable { stream: id(stream) },
            Change::Reset { stream } => Output::Reset { stream: id(stream) },
            Change::Stopped { stream } => Output::Stopped { stream: id(stream) },
        };
        self.outputs.push_back(output);
    }

    pub(super) fn stream_timed_out(&mut self, stream: StreamId) {
        if self.with_mux(stream.circuit, |mux| mux.is_opening(stream.number)) == Some(true) {
            self.end(stream, EndReason::Reset);
            self.outputs.push_back(Output::Refused { stream, timeout: true });
        }
    }
}

/// What [`Machine::read`] left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamRead {
    /// Bytes remain; no further [`Output::Readable`] comes until they are read.
    pub more: bool,
    /// The other end has ended its half and everything is read.
    pub end: bool,
}
