//! The streams of a circuit and their windows; the same code at the client and at the destination.
//!
//! Two windows hold back a sender. The circuit's follows congestion (see [`Vegas`]): it opens when the
//! other end has *received* cells, and each SENDME echoes the tag of the cell it acknowledges, which only
//! the receiver of that cell knows. The stream's opens when the other end's application has *read*, so a
//! slow reader bounds its own memory and stops nobody else. A reader that keeps up is sent twice what it
//! read, four times at first, so its window grows each round trip, or a long path would never be filled. It keeps up if it has read
//! all that came now and then: a buffer smaller than a burst takes several reads. Tor's XOFF needs as
//! much room for what is on its way when it arrives, and bounds nothing before.

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use crate::cell::DestroyReason;
use crate::cgo::{TAG_BYTES, Tag};
use crate::config::Limits;
use crate::congestion::{LEAP, Vegas};
use crate::message::{EndReason, Kind, Message};

/// One stream at one end.
#[derive(Debug)]
struct Stream {
    phase: Phase,
    /// DATA cells that may still be sent.
    credit: u32,
    /// DATA cells that may still arrive.
    allowance: u32,
    /// DATA cells that may arrive without being read; grows with a reader that keeps up.
    window: u32,
    /// A window below which it grows faster.
    leap: u32,
    received: VecDeque<u8>,
    /// Lengths of the received cells that are not read to their end yet.
    lengths: VecDeque<u16>,
    /// Bytes read of the first of `lengths`.
    partial: usize,
    /// Cells read since the last SENDME.
    consumed: u32,
    /// Cells granted since the reader last had caught up.
    behind: u32,
    sent_end: bool,
    received_end: bool,
    /// Whether the application has seen the end; a stream never goes before, or a break would
    /// look like an end.
    read_end: bool,
    /// Whether a `Readable` is on its way to the application.
    announced: bool,
    /// Whether the application waits for a `Writable`.
    waiting: bool,
}

impl Stream {
    /// The cells that a SENDME grants now: those that were read, and as many again once the reader has caught up.
    fn grant(&mut self, more: bool, window_max: u32) -> u16 {
        if self.consumed < Limits::SENDME_STEP_CELLS {
            return 0;
        }
        let mut grant = core::mem::take(&mut self.consumed);
        self.behind = self.behind.saturating_add(grant);
        if !more {
            // All that was read on the way here, however small the pieces; a window doubles at most. The first one
            // grows as much as the circuit's, which knows the path.
            let read = core::mem::take(&mut self.behind).min(self.window);
            let times = if self.window < self.leap { LEAP - 1 } else { 1 };
            let growth = (times * read).min(window_max.saturating_sub(self.window));
            self.window += growth;
            grant += growth;
        }
        self.allowance += grant;
        // Neither can be above the largest window, which fits.
        u16::try_from(grant).unwrap_or(u16::MAX)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Opened here; no CONNECTED yet.
    Opening,
    /// Opened there; the application has not answered yet.
    Offered,
    Open,
}

/// What a message changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// The other end opens a stream.
    Offered { stream: u16, port: u16 },
    /// A stream opened here is open.
    Opened { stream: u16 },
    /// A stream opened here is refused, and gone.
    Refused { stream: u16 },
    /// There is something to read, or the end.
    Readable { stream: u16 },
    /// The stream broke, and is gone.
    Reset { stream: u16 },
    /// The other end has sent everything and reads no more; what it sent can still be read.
    Stopped { stream: u16 },
}

/// What the circuit must send in answer to a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Acknowledge a cell by its tag.
    Sendme(Tag),
    /// Refuse a stream.
    End { stream: u16, reason: EndReason },
}

/// The streams of one circuit.
#[derive(Debug)]
pub(crate) struct Mux {
    streams: BTreeMap<u16, Stream>,
    next_stream: u16,
    max_streams: usize,
    stream_window: u32,
    stream_window_max: u32,
    congestion: Vegas,
    /// DATA cells sent since the last one that is to be acknowledged.
    sent: u32,
    /// Tags that the other end must echo, oldest first, and when their cells were sent.
    expected: VecDeque<(Tag, Duration)>,
    /// Bytes received and not read.
    buffered: usize,
    /// DATA cells received since the last SENDME.
    received: u32,
    /// Streams that wait for credit, in the order of their turn.
    waiting: VecDeque<u16>,
}

impl Mux {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            streams: BTreeMap::new(),
            next_stream: 1,
            max_streams: limits.streams_per_circuit,
            stream_window: limits.stream_window_cells,
            stream_window_max: limits.stream_window_max_cells,
            congestion: Vegas::new(limits.circuit_window_cells),
            sent: 0,
            expected: VecDeque::new(),
            buffered: 0,
            received: 0,
            waiting: VecDeque::new(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }

    /// The streams.
    pub(crate) fn streams(&self) -> impl Iterator<Item = u16> {
        self.streams.keys().copied()
    }

    /// Whether a stream has all that was sent, and something of it to read.
    pub(crate) fn is_ended(&self, stream: u16) -> bool {
        self.streams.get(&stream).is_some_and(|stream| stream.received_end && !stream.read_end)
    }

    /// Forgets all streams but those that have all that was sent; they send no more.
    pub(crate) fn keep_ended(&mut self) {
        self.streams.retain(|_, stream| stream.received_end && !stream.read_end);
        self.streams.values_mut().for_each(|stream| stream.sent_end = true);
        self.buffered = self.streams.values().map(|stream| stream.received.len()).sum();
    }

    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn len(&self) -> usize {
        self.streams.len()
    }

    /// A sender that sends whatever the other end allows.
    #[cfg(test)]
    pub(crate) fn ignore_congestion(&mut self) {
        self.congestion = Vegas::greedy();
    }

    /// Bytes received and not read, of all streams.
    pub(crate) const fn buffered(&self) -> usize {
        self.buffered
    }

    /// Reserves a stream to open; the caller sends BEGIN.
    pub(crate) fn begin(&mut self) -> Option<u16> {
        if self.streams.len() >= self.max_streams {
            return None;
        }
        while self.next_stream == 0 || self.streams.contains_key(&self.next_stream) {
            self.next_stream = self.next_stream.wrapping_add(1);
        }
        let stream = self.next_stream;
        self.next_stream = self.next_stream.wrapping_add(1);
        self.insert(stream, Phase::Opening);
        Some(stream)
    }

    /// Whether a stream opened here still has no answer.
    pub(crate) fn is_opening(&self, stream: u16) -> bool {
        self.streams.get(&stream).is_some_and(|stream| stream.phase == Phase::Opening)
    }

    /// Accepts an offered stream; the caller sends CONNECTED if this says so.
    pub(crate) fn accept(&mut self, stream: u16) -> bool {
        match self.streams.get_mut(&stream) {
            Some(stream) if stream.phase == Phase::Offered => {
                stream.phase = Phase::Open;
                true
            }
            _ => false,
        }
    }

    /// Takes a message of a stream or a SENDME.
    pub(crate) fn receive(
        &mut self,
        message: Message<'_>,
        tag: Tag,
        may_begin: bool,
        now: Duration,
    ) -> Result<(Option<Change>, Option<Answer>), DestroyReason> {
        let id = message.stream;
        match message.kind {
            Kind::Begin if may_begin => self.on_begin(id, message.data),
            Kind::Connected if message.data.is_empty() => match self.streams.get_mut(&id) {
                Some(stream) if stream.phase == Phase::Opening => {
                    stream.phase = Phase::Open;
                    Ok((Some(Change::Opened { stream: id }), None))
                }
                Some(_) => Err(DestroyReason::Protocol),
                // Given up here while the answer was on its way.
                None => Ok((None, None)),
            },
            Kind::Data => self.on_data(id, message.data, tag),
            Kind::End => self.on_end(id, message.data),
            Kind::Sendme => self.on_sendme(id, message.data, now).map(|()| (None, None)),
            _ => Err(DestroyReason::Protocol),
        }
    }

    /// DATA cells that a stream may send now. If it may send none, it waits for its turn.
    pub(crate) fn sendable_cells(&mut self, id: u16) -> u32 {
        let Some(stream) = self.streams.get_mut(&id) else { return 0 };
        // Not before this node's own application has accepted the stream; the other end's answer may come later.
        if stream.phase == Phase::Offered || stream.sent_end {
            return 0;
        }
        let cells = stream.credit.min(self.congestion.credit());
        if cells == 0 && !stream.waiting {
            stream.waiting = true;
            self.waiting.push_back(id);
        }
        cells
    }

    /// Books a DATA cell that was sent with this tag.
    pub(crate) fn sent(&mut self, id: u16, tag: Tag, now: Duration) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.credit = stream.credit.saturating_sub(1);
        }
        self.congestion.sent();
        self.sent += 1;
        if self.sent == Limits::SENDME_STEP_CELLS {
            self.sent = 0;
            self.expected.push_back((tag, now));
        }
    }

    /// The streams that waited for credit and may try again, in turn.
    pub(crate) fn take_writable(&mut self, writable: &mut Vec<u16>) {
        if self.congestion.credit() == 0 {
            return;
        }
        for _ in 0..self.waiting.len() {
            let Some(id) = self.waiting.pop_front() else { break };
            match self.streams.get_mut(&id) {
                Some(stream) if stream.waiting && stream.credit > 0 => {
                    stream.waiting = false;
                    writable.push(id);
                }
                Some(stream) if stream.waiting => self.waiting.push_back(id),
                _ => {}
            }
        }
    }

    /// Moves received bytes to `out`, at most `max`. Yields whether a stream SENDME is due, and
    /// whether the end was reached.
    pub(crate) fn read(&mut self, id: u16, max: usize, out: &mut Vec<u8>) -> Read {
        let Some(stream) = self.streams.get_mut(&id) else { return Read::default() };
        let count = max.min(stream.received.len());
        let (front, back) = stream.received.as_slices();
        let from_front = count.min(front.len());
        out.extend_from_slice(front.get(..from_front).unwrap_or_default());
        out.extend_from_slice(back.get(..count - from_front).unwrap_or_default());
        stream.received.drain(..count);
        self.buffered -= count;
        stream.partial += count;
        while let Some(&length) = stream.lengths.front() {
            if stream.partial < usize::from(length) {
                break;
            }
            stream.partial -= usize::from(length);
            stream.lengths.pop_front();
            stream.consumed += 1;
        }
        let more = !stream.received.is_empty();
        let grant = if stream.received_end { 0 } else { stream.grant(more, self.stream_window_max) };
        stream.announced = more;
        stream.read_end = !more && stream.received_end;
        let read = Read { grant, more, end: stream.read_end };
        self.reap(id);
        read
    }

    /// Ends the sending half; the caller sends END if this says so.
    pub(crate) fn finish(&mut self, id: u16) -> bool {
        let Some(stream) = self.streams.get_mut(&id) else { return false };
        let first = !core::mem::replace(&mut stream.sent_end, true);
        self.reap(id);
        first
    }

    /// Forgets a stream; the caller sends END unless both halves had ended.
    pub(crate) fn reset(&mut self, id: u16) -> bool {
        self.forget(id).is_some_and(|stream| !(stream.sent_end && stream.received_end))
    }

    fn forget(&mut self, id: u16) -> Option<Stream> {
        let stream = self.streams.remove(&id)?;
        self.buffered -= stream.received.len();
        Some(stream)
    }

    fn insert(&mut self, id: u16, phase: Phase) {
        let stream = Stream {
            phase,
            credit: self.stream_window,
            allowance: self.stream_window,
            window: self.stream_window,
            leap: LEAP * self.stream_window,
            received: VecDeque::new(),
            lengths: VecDeque::new(),
            partial: 0,
            consumed: 0,
            behind: 0,
            sent_end: false,
            received_end: false,
            read_end: false,
            announced: false,
            waiting: false,
        };
        self.streams.insert(id, stream);
    }

    /// Forgets a stream that has ended here and whose end from there is read.
    fn reap(&mut self, id: u16) {
        let done = |stream: &Stream| stream.sent_end && stream.read_end;
        if self.streams.get(&id).is_some_and(done) {
            self.forget(id);
        }
    }

    fn on_begin(&mut self, id: u16, data: &[u8]) -> Result<(Option<Change>, Option<Answer>), DestroyReason> {
        let &[high, low] = data else { return Err(DestroyReason::Protocol) };
        if self.streams.contains_key(&id) {
            return Err(DestroyReason::Protocol);
        }
        if self.streams.len() >= self.max_streams {
            return Ok((None, Some(Answer::End { stream: id, reason: EndReason::Refused })));
        }
        self.insert(id, Phase::Offered);
        Ok((Some(Change::Offered { stream: id, port: u16::from_be_bytes([high, low]) }), None))
    }

    fn on_data(
        &mut self,
        id: u16,
        data: &[u8],
        tag: Tag,
    ) -> Result<(Option<Change>, Option<Answer>), DestroyReason> {
        // An empty cell would cost its receiver more than its sender.
        if data.is_empty() {
            return Err(DestroyReason::Protocol);
        }
        self.received += 1;
        let mut answer = None;
        if self.received == Limits::SENDME_STEP_CELLS {
            self.received = 0;
            answer = Some(Answer::Sendme(tag));
        }
        // A stream that ended here may still have cells on their way.
        let Some(stream) = self.streams.get_mut(&id) else { return Ok((None, answer)) };
        if stream.received_end || stream.allowance == 0 || stream.phase == Phase::Opening {
            return Err(DestroyReason::Protocol);
        }
        stream.allowance -= 1;
        stream.received.extend(data);
        self.buffered += data.len();
        stream.lengths.push_back(u16::try_from(data.len()).map_err(|_| DestroyReason::Protocol)?);
        let first = !core::mem::replace(&mut stream.announced, true);
        Ok((first.then_some(Change::Readable { stream: id }), answer))
    }

    fn on_end(&mut self, id: u16, data: &[u8]) -> Result<(Option<Change>, Option<Answer>), DestroyReason> {
        let reason = EndReason::read(data).map_err(|_| DestroyReason::Protocol)?;
        let Some(stream) = self.streams.get_mut(&id) else { return Ok((None, None)) };
        let change = match reason {
            EndReason::Done if stream.received_end || stream.phase == Phase::Opening => {
                return Err(DestroyReason::Protocol);
            }
            EndReason::Done => {
                stream.received_end = true;
                stream.announced = true;
                // The application still reads the end before the stream goes.
                return Ok((Some(Change::Readable { stream: id }), None));
            }
            EndReason::Refused if stream.phase == Phase::Opening => Change::Refused { stream: id },
            EndReason::Refused => return Err(DestroyReason::Protocol),
            EndReason::Reset if stream.phase == Phase::Opening => Change::Refused { stream: id },
            EndReason::Reset if stream.received_end => {
                stream.sent_end = true;
                self.reap(id);
                return Ok((Some(Change::Stopped { stream: id }), None));
            }
            EndReason::Reset => Change::Reset { stream: id },
        };
        self.forget(id);
        Ok((Some(change), None))
    }

    fn on_sendme(&mut self, id: u16, data: &[u8], now: Duration) -> Result<(), DestroyReason> {
        if id == 0 {
            let echoed: &[u8; TAG_BYTES] = data.try_into().map_err(|_| DestroyReason::Protocol)?;
            let (expected, sent_at) = self.expected.pop_front().ok_or(DestroyReason::Protocol)?;
            if u128::from_ne_bytes(*echoed) ^ u128::from_ne_bytes(expected) != 0 {
                return Err(DestroyReason::Protocol);
            }
            self.congestion.acknowledged(now.saturating_sub(sent_at));
            return Ok(());
        }
        let grant = u16::from_be_bytes(data.try_into().map_err(|_| DestroyReason::Protocol)?);
        let Some(stream) = self.streams.get_mut(&id) else { return Ok(()) };
        stream.credit += u32::from(grant);
        // Grants of nothing, and more than anybody may have unread.
        if grant == 0 || stream.credit > Limits::STREAM_WINDOW_MAX_CELLS {
            return Err(DestroyReason::Protocol);
        }
        Ok(())
    }
}

/// What [`Mux::read`] leaves to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Read {
    /// DATA cells that the other end may send more, if a SENDME is due.
    pub(crate) grant: u16,
    /// Bytes remain.
    pub(crate) more: bool,
    /// The other end has ended its half and everything is read.
    pub(crate) end: bool,
}

#[cfg(test)]
mod tests;
