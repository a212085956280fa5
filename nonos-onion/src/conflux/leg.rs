use core::time::Duration;
use std::collections::VecDeque;

use crate::conflux::fault::LegFault;
use crate::conflux::frame::Frame;
use crate::conflux::pace::{Departure, Pace};

/// Bytes that wait for a leg before another one is filled: a choice made late is made well.
const OUT_BYTES: usize = 16 << 10;
/// Beyond that, for acknowledgements; against a peer that sends and never reads.
const OUT_SLACK_BYTES: usize = 256;
/// Frames acknowledged together: 32 cells for one.
const ACK_STEP: u64 = 4;
/// How long fewer frames wait for their acknowledgement.
const ACK_DELAY: Duration = Duration::from_millis(20);
/// How long a leg may deliver nothing before the others are given what it carries too.
const SUSPECT_AFTER: Duration = Duration::from_secs(1);
/// How long a leg may deliver nothing, not answer, or take to retire, before it is given up. Against relays
/// that keep a circuit and forward nothing.
const STALL_TIMEOUT: Duration = Duration::from_secs(10);

/// When the other end is told what arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ack {
    No,
    /// Unless something leaves before.
    At(Duration),
    /// As soon as there is room.
    Due,
}

/// A segment that a leg carries.
#[derive(Debug)]
struct Carried {
    number: u64,
    bytes: usize,
    departure: Departure,
}

/// How far the graceful end of a leg is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Retirement {
    No,
    /// RETIRE is to be sent.
    Wanted,
    Sent,
}

/// One leg at one end.
#[derive(Debug)]
pub(crate) struct Leg {
    /// The beginning of a frame.
    pub(crate) input: Vec<u8>,
    pub(crate) out: Vec<u8>,
    /// The other end has shown that it is there.
    is_linked: bool,
    up_at: Duration,
    /// When it last delivered, or began to carry or to retire.
    progress_at: Duration,
    pub(crate) is_suspect: bool,
    flight: VecDeque<Carried>,
    pub(crate) pace: Pace,
    sent: u64,
    delivered: u64,
    received: u64,
    /// Of `received`, what the other end was told.
    told: u64,
    ack: Ack,
    retirement: Retirement,
    pub(crate) is_retired_there: bool,
}

/// What is due on a leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    Suspect,
    Lost(LegFault),
}

impl Leg {
    pub(crate) fn new(now: Duration, is_linked: bool) -> Self {
        Self {
            input: Vec::new(),
            out: Vec::new(),
            is_linked,
            up_at: now,
            progress_at: now,
            is_suspect: false,
            flight: VecDeque::new(),
            pace: Pace::default(),
            sent: 0,
            delivered: 0,
            received: 0,
            told: 0,
            ack: Ack::No,
            retirement: Retirement::No,
            is_retired_there: false,
        }
    }

    pub(crate) const fn is_linked(&self) -> bool {
        self.is_linked
    }

    /// The client's first answer came; the server waits for one too, to know the round trip.
    pub(crate) fn linked(&mut self, now: Duration) {
        self.is_linked = true;
        self.answered(now);
        self.progress_at = now;
        self.ack = Ack::Due;
    }

    /// An answer to the first frame came, unless one did before.
    pub(crate) fn answered(&mut self, now: Duration) {
        self.pace.answered(now.saturating_sub(self.up_at));
    }

    pub(crate) fn retire(&mut self, now: Duration) {
        if self.retirement == Retirement::No {
            self.retirement = Retirement::Wanted;
            self.progress_at = now;
        }
    }

    pub(crate) fn is_retiring(&self) -> bool {
        self.retirement != Retirement::No
    }

    /// Whether nothing is left to say, there and here.
    pub(crate) fn is_over(&self) -> bool {
        self.retirement == Retirement::Sent
            && self.is_retired_there
            && self.flight.is_empty()
            && self.out.is_empty()
            && self.told == self.received
    }

    /// Whether it can take a segment now.
    pub(crate) fn is_open(&self) -> bool {
        !self.is_retiring() && !self.is_suspect && self.out.len() < OUT_BYTES && !self.pace.is_full()
    }

    /// Books a segment that was written to `out`.
    pub(crate) fn carry(&mut self, now: Duration, number: u64, bytes: usize) {
        if self.flight.is_empty() {
            self.progress_at = now;
        }
        let departure = self.pace.sent(now, bytes);
        self.flight.push_back(Carried { number, bytes, departure });
        self.sent += 1;
    }

    /// The numbers of the segments on their way.
    pub(crate) fn carried(&self) -> impl Iterator<Item = u64> + use<> {
        self.flight.iter().map(|carried| carried.number).collect::<Vec<_>>().into_iter()
    }

    /// Takes the count of frames that the other end has; yields the segments that are new among them, or
    /// `None` if there can be no such count.
    pub(crate) fn delivered(&mut self, now: Duration, received: u64) -> Option<Vec<u64>> {
        let count = received.checked_sub(self.delivered).filter(|_| received <= self.sent)?;
        let carried = self.flight.drain(..usize::try_from(count).ok()?);
        let carried: Vec<Carried> = carried.collect();
        self.delivered = received;
        if let Some(last) = carried.last() {
            let bytes = carried.iter().map(|carried| carried.bytes as u64).sum();
            self.pace.delivered(now, bytes, &last.departure);
            self.progress_at = now;
        }
        Some(carried.into_iter().map(|carried| carried.number).collect())
    }

    /// Books a frame that came.
    pub(crate) fn received(&mut self, now: Duration, is_urgent: bool) {
        self.received += 1;
        self.ack = match self.ack {
            _ if is_urgent || self.received - self.told >= ACK_STEP => Ack::Due,
            Ack::No => Ack::At(now + ACK_DELAY),
            waiting => waiting,
        };
    }

    /// The other end must hear of its credit.
    pub(crate) const fn ack_now(&mut self) {
        self.ack = Ack::Due;
    }

    /// An acknowledgement waits no longer.
    pub(crate) fn tick(&mut self, now: Duration) {
        if self.ack_at().is_some_and(|at| at <= now) {
            self.ack = Ack::Due;
        }
    }

    pub(crate) const fn ack_at(&self) -> Option<Duration> {
        match self.ack {
            Ack::At(at) => Some(at),
            Ack::No | Ack::Due => None,
        }
    }

    /// Writes what is due beside segments.
    pub(crate) fn control(&mut self, next: u64, limit: u64) {
        if self.out.len() > OUT_BYTES + OUT_SLACK_BYTES {
            return;
        }
        let retires = self.retirement == Retirement::Wanted;
        // What leaves anyway takes an acknowledgement along.
        let rides = self.ack != Ack::No && !self.out.is_empty();
        if self.ack == Ack::Due || rides || (retires && self.told != self.received) {
            Frame::Ack { received: self.received, next, limit }.write(&mut self.out);
            self.told = self.received;
            self.ack = Ack::No;
        }
        if retires {
            Frame::Retire.write(&mut self.out);
            self.retirement = Retirement::Sent;
        }
    }

    /// What happens next if nothing comes, and when.
    pub(crate) fn due(&self) -> Option<(Duration, Due)> {
        if !self.is_linked {
            return Some((self.up_at + STALL_TIMEOUT, Due::Lost(LegFault::Unanswered)));
        }
        let is_waiting = !self.flight.is_empty() || self.is_retiring();
        if !is_waiting {
            return None;
        }
        let patience = SUSPECT_AFTER.max(3 * self.pace.round_trip().unwrap_or_default());
        let suspect = (self.progress_at + patience, Due::Suspect);
        let lost = ((self.progress_at + STALL_TIMEOUT).max(suspect.0), Due::Lost(LegFault::Stalled));
        Some(if self.is_suspect || self.flight.is_empty() { lost } else { suspect })
    }
}
