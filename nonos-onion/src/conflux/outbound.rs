use core::time::Duration;
use std::collections::{BTreeSet, VecDeque};

use crate::conflux::config::Config;
use crate::conflux::fault::Fault;
use crate::conflux::frame::{Frame, SEGMENT_BYTES, write_data_header};
use crate::conflux::session::LegId;

/// A piece of what was written, cut once and for all: whatever is sent again is the same piece.
#[derive(Debug)]
struct Segment {
    start: u64,
    /// Zero for the end.
    len: usize,
    /// The other end has it, behind a gap.
    held: bool,
    /// Legs that carry it.
    copies: usize,
    /// When and by which leg it was sent last.
    last: Option<(Duration, LegId)>,
}

/// What was written and is not acknowledged.
#[derive(Debug)]
pub(crate) struct Outbound {
    /// From `base` on.
    buffer: VecDeque<u8>,
    capacity: usize,
    /// The other end has everything before.
    base: u64,
    /// What was cut into segments ends here.
    cut: u64,
    /// The first offset that must not be sent.
    limit: u64,
    segments: VecDeque<Segment>,
    /// The number of the first of `segments`.
    first: u64,
    /// Segments to be sent again.
    lost: BTreeSet<u64>,
    is_finishing: bool,
    is_end_cut: bool,
    is_end_known: bool,
}

impl Outbound {
    pub(crate) const fn new(config: &Config) -> Self {
        Self {
            buffer: VecDeque::new(),
            capacity: config.send_bytes,
            base: 0,
            cut: 0,
            limit: Config::FIRST_CREDIT_BYTES as u64,
            segments: VecDeque::new(),
            first: 0,
            lost: BTreeSet::new(),
            is_finishing: false,
            is_end_cut: false,
            is_end_known: false,
        }
    }

    pub(crate) fn room(&self) -> usize {
        self.capacity.saturating_sub(self.buffer.len())
    }

    pub(crate) fn held_bytes(&self) -> usize {
        self.buffer.len()
    }

    pub(crate) const fn is_finishing(&self) -> bool {
        self.is_finishing
    }

    /// Whether the other end has everything, the end included.
    pub(crate) const fn is_complete(&self) -> bool {
        self.is_end_known
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> usize {
        let count = self.room().min(bytes.len());
        self.buffer.extend(bytes.get(..count).unwrap_or_default());
        count
    }

    pub(crate) const fn finish(&mut self) {
        self.is_finishing = true;
    }

    /// The next segment that was never sent.
    pub(crate) fn fresh(&mut self) -> Option<u64> {
        if self.segments.len() >= Config::MAX_SEGMENTS {
            return None;
        }
        let written = self.base + self.buffer.len() as u64;
        let len = usize::try_from(written.min(self.limit).saturating_sub(self.cut)).unwrap_or(usize::MAX);
        let is_end = self.is_finishing && self.cut == written && !self.is_end_cut;
        if len == 0 && !is_end {
            return None;
        }
        self.is_end_cut = len == 0;
        let len = len.min(SEGMENT_BYTES);
        self.segments.push_back(Segment { start: self.cut, len, held: false, copies: 0, last: None });
        self.cut += len as u64;
        Some(self.first + self.segments.len() as u64 - 1)
    }

    /// The first segment to be sent again.
    pub(crate) fn lost(&mut self) -> Option<u64> {
        self.lost.pop_first()
    }

    /// Bytes that may be sent and were never.
    pub(crate) fn waiting(&self) -> u64 {
        (self.base + self.buffer.len() as u64).min(self.limit).saturating_sub(self.cut)
    }

    /// The first segment that is on its way by another leg alone, and was sent `age` ago.
    pub(crate) fn overdue(&self, now: Duration, leg: LegId, age: Duration) -> Option<u64> {
        let is_overdue = |segment: &Segment| {
            let is_late = |(sent, by)| by != leg && now.saturating_sub(sent) >= age;
            !segment.held && segment.copies == 1 && segment.last.is_some_and(is_late)
        };
        self.segments.iter().position(is_overdue).map(|at| self.first + at as u64)
    }

    /// Writes a segment's frame and books it to a leg; yields its length, or `None` if the other end has it.
    pub(crate) fn send(
        &mut self,
        number: u64,
        now: Duration,
        leg: LegId,
        out: &mut Vec<u8>,
    ) -> Option<usize> {
        let segment = self.segment(number)?;
        segment.copies += 1;
        segment.last = Some((now, leg));
        let (start, len) = (segment.start, segment.len);
        if len == 0 {
            Frame::Fin { offset: start }.write(out);
            return Some(0);
        }
        write_data_header(start, len, out);
        let from = usize::try_from(start - self.base).unwrap_or(usize::MAX);
        let (front, back) = self.buffer.as_slices();
        let split = from.min(front.len());
        let first = (front.len() - split).min(len);
        out.extend_from_slice(front.get(split..split + first).unwrap_or_default());
        let from = from - split;
        out.extend_from_slice(back.get(from..from + len - first).unwrap_or_default());
        Some(len)
    }

    /// A leg delivered a segment.
    pub(crate) fn delivered(&mut self, number: u64) {
        self.lost.remove(&number);
        if let Some(segment) = self.segment(number) {
            segment.held = true;
            segment.copies = segment.copies.saturating_sub(1);
        }
    }

    /// A leg that carried a segment is gone.
    pub(crate) fn dropped(&mut self, number: u64) {
        let Some(segment) = self.segment(number) else { return };
        segment.copies = segment.copies.saturating_sub(1);
        if segment.copies == 0 && !segment.held {
            self.lost.insert(number);
        }
    }

    /// A leg that carries a segment seems to be stuck.
    pub(crate) fn suspected(&mut self, number: u64) {
        if self.segment(number).is_some_and(|segment| segment.copies == 1 && !segment.held) {
            self.lost.insert(number);
        }
    }

    /// It was not.
    pub(crate) fn cleared(&mut self, number: u64) {
        self.lost.remove(&number);
    }

    /// The other end has everything before `next` and takes bytes below `limit`. Yields whether there is room
    /// for bytes that had none.
    pub(crate) fn acknowledged(&mut self, next: u64, limit: u64) -> Result<bool, Fault> {
        let end = self.cut + u64::from(self.is_end_cut);
        if next > end || limit < next.min(self.cut) {
            return Err(Fault::Acknowledgement);
        }
        self.limit = self.limit.max(limit);
        let bytes = next.min(self.cut);
        while let Some(segment) = self.segments.front() {
            let segment_end = segment.start + segment.len as u64;
            if segment_end > bytes || (segment.len == 0 && next <= self.cut) {
                // Whole segments arrive, so nothing else can be acknowledged.
                if segment.start < bytes {
                    return Err(Fault::Acknowledgement);
                }
                break;
            }
            self.is_end_known |= segment.len == 0;
            self.segments.pop_front();
            self.lost.remove(&self.first);
            self.first += 1;
        }
        // An acknowledgement by a slower leg may be older than what is known.
        let news = usize::try_from(bytes.saturating_sub(self.base)).unwrap_or(usize::MAX);
        self.buffer.drain(..news.min(self.buffer.len()));
        self.base = self.base.max(bytes);
        Ok(news > 0)
    }

    /// Gives up what is not acknowledged.
    pub(crate) fn forget(&mut self) {
        self.buffer = VecDeque::new();
        self.segments = VecDeque::new();
        self.lost = BTreeSet::new();
    }

    fn segment(&mut self, number: u64) -> Option<&mut Segment> {
        let at = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.segments.get_mut(at)
    }
}
