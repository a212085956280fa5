mod schedule;

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use crate::conflux::config::{Config, ConfigError};
use crate::conflux::fault::{Fault, LegFault, WriteError};
use crate::conflux::frame::{Frame, FrameError, Hello, Nonce, Refusal};
use crate::conflux::inbound::Inbound;
use crate::conflux::leg::{Due, Leg};
use crate::conflux::outbound::Outbound;
use crate::machine::StreamRead;

/// A leg of a session; the driver numbers them and uses no number twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LegId(pub u64);

/// What the world tells a session.
#[derive(Debug)]
#[non_exhaustive]
pub enum Input<'a> {
    /// A leg is there: at the client a stream that was opened, at the server one whose first frame is read.
    LegUp {
        /// Its number.
        leg: LegId,
        /// Server: the first frame.
        hello: Option<&'a Hello>,
    },
    /// A leg broke or ended.
    LegDown {
        /// Its number.
        leg: LegId,
    },
    /// Bytes came by a leg.
    Received {
        /// The leg.
        leg: LegId,
        /// Some bytes, cut anywhere.
        bytes: &'a [u8],
    },
    /// A leg is to end without loss; [`Output::Retired`] follows, or [`Output::Lost`].
    Retire {
        /// The leg.
        leg: LegId,
    },
    /// Time passed: [`Session::deadline`] is reached.
    Tick,
}

/// What a session tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Output {
    /// The server answered on a leg.
    Linked {
        /// The leg.
        leg: LegId,
    },
    /// A leg is given up and forgotten: close its stream.
    Lost {
        /// The leg.
        leg: LegId,
        /// Why.
        fault: LegFault,
    },
    /// Both ends are done with a leg, and it is forgotten: end its stream after what was taken from it.
    Retired {
        /// The leg.
        leg: LegId,
    },
    /// There are bytes, or the end, to read.
    Readable,
    /// Bytes that found no room may find some, or everything has arrived at the other end.
    Writable,
    /// Nothing more happens. `None` if both ends have everything. Streams of legs that are still there are to
    /// be closed after what [`Session::transmit`] has for them.
    Ended {
        /// Why it ended early.
        fault: Option<Fault>,
    },
}

/// One end of a byte stream that lives on a set of legs.
///
/// After each call take outputs until [`Self::poll`] has none, and whatever [`Self::transmit`] has for each leg
/// whose stream takes bytes. Time is by a clock that never jumps, from any origin.
#[derive(Debug)]
pub struct Session {
    patience: Duration,
    /// Client: what its legs show.
    nonce: Option<Nonce>,
    /// The server has answered once, so it must know the session from then on.
    is_known: bool,
    legs: BTreeMap<LegId, Leg>,
    /// Since when there is no leg.
    alone_since: Option<Duration>,
    inbound: Inbound,
    outbound: Outbound,
    /// A write found no room.
    is_writer_waiting: bool,
    /// A leg ended gracefully after both directions were complete.
    is_parted: bool,
    ended: Option<Option<Fault>>,
    outputs: VecDeque<Output>,
}

impl Session {
    /// The client's end; `nonce` is fresh randomness.
    ///
    /// # Errors
    /// [`ConfigError`] if the limits do not work together.
    pub fn connect(config: &Config, now: Duration, nonce: Nonce) -> Result<Self, ConfigError> {
        Self::new(config, now, Some(nonce))
    }

    /// The server's end, for a client that [`Registry`](crate::conflux::Registry) admitted.
    ///
    /// # Errors
    /// [`ConfigError`] if the limits do not work together.
    pub fn accept(config: &Config, now: Duration) -> Result<Self, ConfigError> {
        Self::new(config, now, None)
    }

    fn new(config: &Config, now: Duration, nonce: Option<Nonce>) -> Result<Self, ConfigError> {
        config.check()?;
        Ok(Self {
            patience: config.patience,
            nonce,
            is_known: false,
            legs: BTreeMap::new(),
            alone_since: Some(now),
            inbound: Inbound::new(config),
            outbound: Outbound::new(config),
            is_writer_waiting: false,
            is_parted: false,
            ended: None,
            outputs: VecDeque::new(),
        })
    }

    /// Takes an input.
    pub fn handle(&mut self, now: Duration, input: Input<'_>) {
        match input {
            Input::LegUp { leg, hello } => self.leg_up(now, leg, hello),
            Input::LegDown { leg } => self.leg_down(now, leg),
            Input::Received { leg, bytes } => {
                if let Err(fault) = self.received(now, leg, bytes) {
                    self.end(Some(fault));
                }
            }
            Input::Retire { leg } => {
                if let Some(leg) = self.legs.get_mut(&leg) {
                    leg.retire(now);
                }
            }
            Input::Tick => {}
        }
        self.time_out(now);
        self.settle(now);
    }

    /// The next output.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Input::Tick`] is due.
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        if self.ended.is_some() {
            return None;
        }
        let legs = self.legs.values();
        let due = legs.flat_map(|leg| [leg.due().map(|(at, _)| at), leg.ack_at()]).flatten();
        due.chain(self.alone_since.map(|since| since.saturating_add(self.patience))).min()
    }

    /// Whether nothing more happens, and why.
    #[must_use]
    pub const fn ended(&self) -> Option<Option<Fault>> {
        self.ended
    }

    /// Bytes held: written and not acknowledged, received and not read, and waiting for legs.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        let legs: usize = self.legs.values().map(|leg| leg.out.len() + leg.input.len()).sum();
        self.inbound.held_bytes() + self.outbound.held_bytes() + legs
    }

    /// Moves bytes that a leg is to carry, at most `max`, to the end of `out`.
    ///
    /// What leaves by which leg is decided here, for all legs: a leg whose stream takes no more is to be
    /// asked for nothing.
    pub fn transmit(&mut self, now: Duration, leg: LegId, max: usize, out: &mut Vec<u8>) {
        self.fill(now);
        let (next, limit) = (self.inbound.next(), self.inbound.limit());
        let Some(entry) = self.legs.get_mut(&leg) else { return };
        if self.ended.is_none() && entry.is_linked() {
            entry.control(next, limit);
        }
        let count = max.min(entry.out.len());
        out.extend(entry.out.drain(..count));
        if count > 0 {
            self.settle(now);
        }
    }

    /// Takes bytes to send; yields how many found room. If not all did, [`Output::Writable`] follows.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn write(&mut self, bytes: &[u8]) -> Result<usize, WriteError> {
        if let Some(fault) = self.ended {
            return Err(fault.map_or(WriteError::Finished, WriteError::Ended));
        }
        if self.outbound.is_finishing() {
            return Err(WriteError::Finished);
        }
        let count = self.outbound.write(bytes);
        self.is_writer_waiting |= count < bytes.len();
        Ok(count)
    }

    /// Ends this half after what was written. [`Output::Writable`] follows once the other end has all of it.
    pub const fn finish(&mut self) {
        self.outbound.finish();
    }

    /// Whether the other end has everything, up to the end of this half.
    #[must_use]
    pub const fn is_delivered(&self) -> bool {
        self.outbound.is_complete()
    }

    /// Moves at most `max` received bytes to the end of `out`.
    ///
    /// # Errors
    /// [`Fault`], once everything that arrived in order is read, if the session ended early.
    pub fn read(&mut self, max: usize, out: &mut Vec<u8>) -> Result<StreamRead, Fault> {
        if self.ended == Some(Some(Fault::Overload)) {
            return Err(Fault::Overload);
        }
        if self.inbound.read(max, out)
            && let Some(leg) = self.best(|leg| leg.is_linked() && !leg.is_retiring())
            && let Some(leg) = self.legs.get_mut(&leg)
        {
            leg.ack_now();
        }
        let more = !self.inbound.is_drained();
        let end = !more && self.inbound.is_complete();
        match self.ended.flatten() {
            Some(fault) if !more && !end && max > 0 => Err(fault),
            _ => Ok(StreamRead { more, end }),
        }
    }

    /// Ends the session because this node holds too many bytes for all of them together.
    pub fn overload(&mut self) {
        self.end(Some(Fault::Overload));
    }

    /// Gives the session up, unless both ends have everything and only say so to each other. The other end still
    /// reads what it has, and sees a reset where that is not all.
    pub fn reset(&mut self) {
        if !self.is_complete() {
            self.end(Some(Fault::Dropped));
        }
    }

    /// Whether both ends have everything.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.outbound.is_complete() && self.inbound.is_complete()
    }

    fn leg_up(&mut self, now: Duration, id: LegId, hello: Option<&Hello>) {
        let refuse = |fault| Output::Lost { leg: id, fault };
        if self.ended.is_some() {
            return self.outputs.push_back(refuse(LegFault::Ended));
        }
        if self.legs.len() >= Config::MAX_LEGS || self.legs.contains_key(&id) {
            return self.outputs.push_back(refuse(LegFault::Excess));
        }
        let mut leg = Leg::new(now, hello.is_some());
        let (next, limit) = (self.inbound.next(), self.inbound.limit());
        match (hello, &self.nonce) {
            (Some(hello), _) => {
                Frame::Linked { next, limit }.write(&mut leg.out);
                let (next, limit) = (hello.next, hello.limit);
                self.legs.insert(id, leg);
                if let Err(fault) = self.acknowledged(next, limit) {
                    return self.end(Some(fault));
                }
            }
            (None, Some(nonce)) => {
                let hello = Hello { nonce: nonce.clone(), join: self.is_known, next, limit };
                hello.write(&mut leg.out);
                self.legs.insert(id, leg);
            }
            // A server takes no leg without its first frame.
            (None, None) => return self.outputs.push_back(refuse(LegFault::Unanswered)),
        }
        self.alone_since = None;
    }

    fn leg_down(&mut self, now: Duration, id: LegId) {
        let Some(leg) = self.legs.remove(&id) else { return };
        leg.carried().for_each(|number| self.outbound.dropped(number));
        // It may have been the only one that was told of the credit.
        self.legs.values_mut().for_each(Leg::ack_now);
        if self.legs.is_empty() {
            self.alone_since = Some(now);
        }
    }

    fn received(&mut self, now: Duration, id: LegId, bytes: &[u8]) -> Result<(), Fault> {
        let Some(leg) = self.legs.get_mut(&id).filter(|_| self.ended.is_none()) else { return Ok(()) };
        let mut input = core::mem::take(&mut leg.input);
        input.extend_from_slice(bytes);
        let mut rest = input.as_slice();
        while self.ended.is_none() && self.legs.contains_key(&id) {
            let Some((frame, length)) = Frame::read(rest)? else { break };
            self.frame(now, id, frame)?;
            rest = rest.get(length..).unwrap_or_default();
        }
        if let Some(leg) = self.legs.get_mut(&id) {
            leg.input = rest.to_vec();
        }
        Ok(())
    }

    fn frame(&mut self, now: Duration, id: LegId, frame: Frame<'_>) -> Result<(), Fault> {
        let Some(leg) = self.legs.get_mut(&id) else { return Ok(()) };
        let is_first = !leg.is_linked();
        match frame {
            Frame::Linked { next, limit } if is_first => {
                leg.linked(now);
                self.is_known = true;
                self.outputs.push_back(Output::Linked { leg: id });
                self.acknowledged(next, limit)?;
            }
            Frame::Refused(refusal) if is_first => {
                // Other legs may still be refused for their number alone.
                if refusal != Refusal::Legs {
                    return Err(Fault::Refused(refusal));
                }
                self.lose(now, id, LegFault::Refused(refusal));
            }
            Frame::Reset => return Err(Fault::Reset),
            Frame::Ack { received, next, limit } if !is_first => {
                leg.answered(now);
                let delivered = leg.delivered(now, received).ok_or(Fault::Acknowledgement)?;
                if !delivered.is_empty() && core::mem::take(&mut leg.is_suspect) {
                    leg.carried().for_each(|number| self.outbound.cleared(number));
                }
                delivered.into_iter().for_each(|number| self.outbound.delivered(number));
                self.acknowledged(next, limit)?;
            }
            Frame::Data { .. } | Frame::Fin { .. } | Frame::Retire if !is_first && leg.is_retired_there => {
                return Err(Fault::Retired);
            }
            Frame::Data { offset, bytes } if !is_first => {
                if self.inbound.data(offset, bytes)? {
                    self.outputs.push_back(Output::Readable);
                }
                leg.received(now, self.inbound.is_complete());
            }
            Frame::Fin { offset } if !is_first => {
                self.inbound.fin(offset)?;
                leg.received(now, true);
                if self.inbound.is_complete() {
                    self.outputs.push_back(Output::Readable);
                }
            }
            Frame::Retire if !is_first => {
                leg.is_retired_there = true;
                leg.retire(now);
            }
            other => return Err(FrameError::Kind(other.kind()).into()),
        }
        Ok(())
    }

    fn acknowledged(&mut self, next: u64, limit: u64) -> Result<(), Fault> {
        let was_complete = self.outbound.is_complete();
        let has_room = self.outbound.acknowledged(next, limit)?;
        let is_news = self.outbound.is_complete() && !was_complete;
        if is_news || (has_room && core::mem::take(&mut self.is_writer_waiting)) {
            self.outputs.push_back(Output::Writable);
        }
        Ok(())
    }

    fn lose(&mut self, now: Duration, id: LegId, fault: LegFault) {
        self.leg_down(now, id);
        self.outputs.push_back(Output::Lost { leg: id, fault });
    }

    fn time_out(&mut self, now: Duration) {
        if self.ended.is_some() {
            return;
        }
        let ids: Vec<LegId> = self.legs.keys().copied().collect();
        for id in ids {
            let Some(leg) = self.legs.get_mut(&id) else { continue };
            leg.tick(now);
            match leg.due() {
                Some((at, Due::Suspect)) if at <= now => {
                    leg.is_suspect = true;
                    leg.carried().for_each(|number| self.outbound.suspected(number));
                }
                Some((at, Due::Lost(fault))) if at <= now => self.lose(now, id, fault),
                _ => {}
            }
        }
        if self.alone_since.is_some_and(|since| since.saturating_add(self.patience) <= now) {
            self.end(Some(Fault::Abandoned));
        }
    }

    /// Ends legs on which nothing is left to say, and the session once both ends know that they have
    /// everything.
    fn settle(&mut self, now: Duration) {
        if self.ended.is_some() {
            return;
        }
        let is_complete = self.is_complete();
        let over: Vec<LegId> = self.legs.iter().filter(|(_, leg)| leg.is_over()).map(|(&id, _)| id).collect();
        for id in over {
            self.leg_down(now, id);
            self.outputs.push_back(Output::Retired { leg: id });
            self.is_parted |= is_complete;
        }
        if is_complete {
            self.legs.values_mut().filter(|leg| leg.is_linked()).for_each(|leg| leg.retire(now));
            if self.is_parted && self.legs.is_empty() {
                self.end(None);
            }
        }
    }

    fn end(&mut self, fault: Option<Fault>) {
        if self.ended.is_some() {
            return;
        }
        // Where both ends have everything, one of them may have gone first.
        let is_harmless =
            |fault: &Fault| matches!(fault, Fault::Abandoned | Fault::Reset | Fault::Refused(_));
        let fault = fault.filter(|fault| !(self.is_complete() && is_harmless(fault)));
        self.ended = Some(fault);
        if fault.is_some() {
            // What can be read still is, unless it is the memory that counts.
            self.inbound.forget(fault == Some(Fault::Overload));
            self.outbound.forget();
        }
        for leg in self.legs.values_mut() {
            leg.input = Vec::new();
            if fault == Some(Fault::Reset) {
                leg.out = Vec::new();
            } else {
                // After what waits, of which a part may have left.
                Frame::Reset.write(&mut leg.out);
            }
        }
        self.outputs.extend([Output::Readable, Output::Writable, Output::Ended { fault }]);
    }
}
