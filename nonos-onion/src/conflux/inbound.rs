use std::collections::{BTreeMap, VecDeque};

use crate::conflux::config::Config;
use crate::conflux::fault::Fault;

/// What arrived: puts pieces in order and drops those that came before.
#[derive(Debug)]
pub(crate) struct Inbound {
    /// In order and not read.
    ready: VecDeque<u8>,
    /// The next byte expected.
    next: u64,
    /// Bytes read.
    read: u64,
    /// Pieces behind gaps, none of which overlap. Never joined: whoever sends small pieces in a bad order
    /// would have large ones copied.
    pieces: BTreeMap<u64, Vec<u8>>,
    piece_bytes: usize,
    end: Option<u64>,
    /// How far the other end may send beyond what is read.
    window: u64,
    window_max: u64,
    /// The first offset that must not be sent, as the other end may know.
    limit: u64,
}

impl Inbound {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            ready: VecDeque::new(),
            next: 0,
            read: 0,
            pieces: BTreeMap::new(),
            piece_bytes: 0,
            end: None,
            window: config.receive_bytes as u64,
            window_max: config.receive_max_bytes as u64,
            limit: config.receive_bytes as u64,
        }
    }

    /// What an acknowledgement says: the next offset, one more once the end has come.
    pub(crate) const fn next(&self) -> u64 {
        self.next + self.is_complete() as u64
    }

    pub(crate) const fn limit(&self) -> u64 {
        self.limit
    }

    /// Whether everything up to the end has arrived.
    pub(crate) const fn is_complete(&self) -> bool {
        matches!(self.end, Some(end) if end == self.next)
    }

    /// Whether nothing in order is left to read.
    pub(crate) fn is_drained(&self) -> bool {
        self.ready.is_empty()
    }

    pub(crate) fn held_bytes(&self) -> usize {
        self.ready.len() + self.piece_bytes
    }

    /// Takes bytes; yields whether something can be read that could not before.
    pub(crate) fn data(&mut self, offset: u64, bytes: &[u8]) -> Result<bool, Fault> {
        let end = offset.checked_add(bytes.len() as u64).ok_or(Fault::Credit)?;
        if end > self.limit {
            return Err(Fault::Credit);
        }
        if self.end.is_some_and(|last| end > last) {
            return Err(Fault::End);
        }
        if end <= self.next || self.pieces.get(&offset).is_some_and(|piece| piece.len() == bytes.len()) {
            return Ok(false);
        }
        let before = self.pieces.range(..=offset).next_back();
        let before_ends = before.map_or(0, |(&start, piece)| start + piece.len() as u64);
        let after = self.pieces.range(offset..).next().map(|(&start, _)| start);
        if offset < self.next.max(before_ends) || after.is_some_and(|start| start < end) {
            return Err(Fault::Overlap);
        }
        if offset > self.next {
            if self.pieces.len() >= Config::MAX_SEGMENTS {
                return Err(Fault::Segments);
            }
            self.piece_bytes += bytes.len();
            self.pieces.insert(offset, bytes.to_vec());
            return Ok(false);
        }
        self.ready.extend(bytes);
        self.next = end;
        while let Some(piece) = self.pieces.remove(&self.next) {
            self.piece_bytes -= piece.len();
            self.next += piece.len() as u64;
            self.ready.extend(piece);
        }
        Ok(true)
    }

    /// Takes the end.
    pub(crate) fn fin(&mut self, offset: u64) -> Result<(), Fault> {
        let last = self.pieces.last_key_value().map_or(0, |(&start, piece)| start + piece.len() as u64);
        if offset < self.next.max(last) || self.end.is_some_and(|end| end != offset) {
            return Err(Fault::End);
        }
        if offset > self.limit {
            return Err(Fault::Credit);
        }
        self.end = Some(offset);
        Ok(())
    }

    /// Moves at most `max` bytes to the end of `out`; yields whether more can be sent now by so much that
    /// the other end should know.
    pub(crate) fn read(&mut self, max: usize, out: &mut Vec<u8>) -> bool {
        let count = max.min(self.ready.len());
        let (front, back) = self.ready.as_slices();
        let from_front = count.min(front.len());
        out.extend_from_slice(front.get(..from_front).unwrap_or_default());
        out.extend_from_slice(back.get(..count - from_front).unwrap_or_default());
        self.ready.drain(..count);
        self.read += count as u64;
        let granted = (self.read + self.window).saturating_sub(self.limit);
        if self.end.is_some() || granted < self.window / 4 {
            return false;
        }
        if self.ready.is_empty() {
            self.window = self.window_max.min(self.window + granted);
        }
        self.limit = self.read + self.window;
        true
    }

    /// Gives up what is behind gaps, or all of it.
    pub(crate) fn forget(&mut self, all: bool) {
        self.pieces = BTreeMap::new();
        self.piece_bytes = 0;
        if all {
            self.ready = VecDeque::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inbound() -> Inbound {
        Inbound::new(&Config::default())
    }

    #[test]
    fn pieces_in_any_order_are_read_in_theirs_and_once() {
        let mut inbound = inbound();
        assert_eq!(inbound.data(3, b"de"), Ok(false));
        assert_eq!(inbound.data(3, b"de"), Ok(false), "the same again");
        assert_eq!(inbound.data(5, b"f"), Ok(false));
        assert_eq!(inbound.fin(6), Ok(()));
        assert_eq!((inbound.next(), inbound.held_bytes()), (0, 3));
        assert_eq!(inbound.data(0, b"abc"), Ok(true));
        assert_eq!(inbound.data(0, b"abc"), Ok(false));
        assert_eq!((inbound.next(), inbound.is_complete()), (7, true));
        let mut out = Vec::new();
        inbound.read(usize::MAX, &mut out);
        assert_eq!((out.as_slice(), inbound.held_bytes()), (&b"abcdef"[..], 0));
    }

    #[test]
    fn what_contradicts_is_a_fault() {
        let mut inbound = inbound();
        let limit = inbound.limit();
        assert_eq!(inbound.data(limit - 1, b"ab"), Err(Fault::Credit));
        assert_eq!(inbound.data(u64::MAX, b"ab"), Err(Fault::Credit));
        assert_eq!(inbound.fin(limit + 1), Err(Fault::Credit));
        inbound.data(0, b"abc").unwrap();
        inbound.data(10, b"klm").unwrap();
        for (offset, bytes) in
            [(2, &b"cd"[..]), (9, b"jk"), (11, b"l"), (12, b"mn"), (10, b"kl"), (3, b"defghijk")]
        {
            assert_eq!(inbound.data(offset, bytes), Err(Fault::Overlap), "{offset}");
        }
        assert_eq!(inbound.fin(12), Err(Fault::End));
        inbound.fin(13).unwrap();
        assert_eq!(inbound.fin(14), Err(Fault::End));
        assert_eq!(inbound.data(13, b"n"), Err(Fault::End));
    }

    #[test]
    fn pieces_are_counted() {
        let mut inbound = inbound();
        for piece in 0..Config::MAX_SEGMENTS as u64 {
            assert_eq!(inbound.data(2 * piece + 1, b"x"), Ok(false));
        }
        assert_eq!(inbound.data(2 * Config::MAX_SEGMENTS as u64 + 1, b"x"), Err(Fault::Segments));
    }

    #[test]
    fn the_window_follows_the_reader() {
        let mut inbound = inbound();
        let (mut sent, mut out) = (0, Vec::new());
        while inbound.limit() - sent < 4 << 20 {
            let before = inbound.limit();
            while sent < before {
                let bytes = [1; 4096];
                let _ = inbound.data(sent, &bytes).unwrap();
                sent += 4096;
            }
            inbound.read(usize::MAX, &mut out);
            out.clear();
            assert!(inbound.limit() > before);
        }
        // A reader that is behind has no more.
        while sent < inbound.limit() {
            inbound.data(sent, &[1; 4096]).unwrap();
            sent += 4096;
        }
        for _ in 0..1000 {
            inbound.read(4000, &mut out);
            assert!(inbound.limit() - inbound.read <= 4 << 20);
        }
    }
}
