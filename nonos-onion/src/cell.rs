//! The fixed cell of a link.

/// Why a circuit ended; one byte on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
#[non_exhaustive]
#[repr(u8)]
pub enum DestroyReason {
    /// Its user is done with it.
    #[error("finished")]
    Finished = 1,
    /// A cell or message that the protocol does not allow.
    #[error("protocol violation")]
    Protocol = 2,
    /// A cell that no hop recognises: somebody changed, dropped or reordered cells.
    #[error("integrity lost")]
    Integrity = 3,
    /// Its epoch and the grace after it are over.
    #[error("epoch over")]
    Expired = 4,
    /// A limit or rate of the node was reached.
    #[error("node is busy")]
    Busy = 5,
    /// An open link went away.
    #[error("link lost")]
    LinkLost = 6,
    /// The next relay cannot be reached.
    #[error("relay cannot be reached")]
    Unreachable = 7,
    /// The handshake failed: another key, epoch, suite or network, or a replay.
    #[error("handshake failed")]
    Handshake = 8,
    /// No answer in time.
    #[error("no answer in time")]
    Timeout = 9,
    /// More cells queued than any honest window allows.
    #[error("queue limit exceeded")]
    Queue = 10,
}

impl DestroyReason {
    /// The reason of a wire byte; what this version does not know is a protocol violation.
    #[must_use]
    pub const fn from_byte(byte: u8) -> Self {
        match byte {
            1 => Self::Finished,
            3 => Self::Integrity,
            4 => Self::Expired,
            5 => Self::Busy,
            6 => Self::LinkLost,
            7 => Self::Unreachable,
            8 => Self::Handshake,
            9 => Self::Timeout,
            10 => Self::Queue,
            _ => Self::Protocol,
        }
    }
}

/// Length of a cell, in bytes.
pub(crate) const CELL_BYTES: usize = 1024;
/// `circ_id u32 | cmd u8 | reserved u8`.
pub(crate) const HEADER_BYTES: usize = 6;
/// Length of a cell's body, in bytes.
pub(crate) const BODY_BYTES: usize = CELL_BYTES - HEADER_BYTES;
/// `flags u8 | len u16` before a fragment of records.
const FRAGMENT_HEADER_BYTES: usize = 3;
/// Longest fragment of records in one cell, in bytes.
pub(crate) const FRAGMENT_BYTES: usize = BODY_BYTES - FRAGMENT_HEADER_BYTES;
/// Flag of a fragment that another one follows.
pub(crate) const MORE: u8 = 1;
/// Flag of the first fragment: whatever follows a refused one is known to be late.
const FIRST: u8 = 2;

pub(crate) type Body = [u8; BODY_BYTES];

/// A cell that no implementation of the protocol makes. The fault of the neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed cell")]
pub(crate) struct CellError;

/// What a cell is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Command {
    /// A layered body.
    Relay = 1,
    /// A fragment of the records that ask for hops.
    Create = 2,
    /// A fragment of the records that answer.
    Created = 3,
    /// The end of the circuit on this link.
    Destroy = 4,
    /// Towards the client: so many cells of the circuit have passed this link.
    Ack = 5,
}

impl Command {
    fn from_byte(byte: u8) -> Result<Self, CellError> {
        match byte {
            1 => Ok(Self::Relay),
            2 => Ok(Self::Create),
            3 => Ok(Self::Created),
            4 => Ok(Self::Destroy),
            5 => Ok(Self::Ack),
            _ => Err(CellError),
        }
    }
}

/// A cell's header and body.
#[derive(Debug)]
pub(crate) struct Cell<'a> {
    pub(crate) circuit: u32,
    pub(crate) command: Command,
    pub(crate) body: &'a mut Body,
}

impl<'a> Cell<'a> {
    /// Splits a cell. The reserved byte is zero: it must not become a channel.
    pub(crate) fn parse(bytes: &'a mut [u8; CELL_BYTES]) -> Result<Self, CellError> {
        let (header, body) = bytes.split_first_chunk_mut::<HEADER_BYTES>().ok_or(CellError)?;
        let [a, b, c, d, command, reserved] = *header;
        let circuit = u32::from_be_bytes([a, b, c, d]);
        if circuit == 0 || reserved != 0 {
            return Err(CellError);
        }
        let body = body.try_into().map_err(|_| CellError)?;
        Ok(Self { circuit, command: Command::from_byte(command)?, body })
    }
}

/// The six header bytes.
pub(crate) fn header(circuit: u32, command: Command) -> [u8; HEADER_BYTES] {
    let [a, b, c, d] = circuit.to_be_bytes();
    [a, b, c, d, command as u8, 0]
}

/// One fragment of a CREATE or CREATED message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fragment<'a> {
    pub(crate) first: bool,
    pub(crate) more: bool,
    pub(crate) data: &'a [u8],
}

impl<'a> Fragment<'a> {
    /// The fragments of a message, in order.
    pub(crate) fn of(message: &'a [u8]) -> impl Iterator<Item = Self> {
        let count = message.len().div_ceil(FRAGMENT_BYTES);
        message.chunks(FRAGMENT_BYTES).enumerate().map(move |(i, data)| Self {
            first: i == 0,
            more: i + 1 < count,
            data,
        })
    }

    /// Fills a body; what the fragment does not use is zero.
    pub(crate) fn write(&self, body: &mut Body) {
        debug_assert!(self.data.len() <= FRAGMENT_BYTES);
        body.fill(0);
        #[expect(clippy::cast_possible_truncation, reason = "a fragment is shorter than a body")]
        let [high, low] = (self.data.len() as u16).to_be_bytes();
        let flags = u8::from(self.more) * MORE + u8::from(self.first) * FIRST;
        let head = [flags, high, low];
        body.iter_mut().zip(head.iter().chain(self.data)).for_each(|(to, from)| *to = *from);
    }

    /// Reads a body.
    pub(crate) fn read(body: &'a Body) -> Result<Self, CellError> {
        let (&[flags, high, low], rest) = body.split_first_chunk().ok_or(CellError)?;
        let (data, padding) =
            rest.split_at_checked(usize::from(u16::from_be_bytes([high, low]))).ok_or(CellError)?;
        if flags > MORE + FIRST || data.is_empty() || padding.iter().any(|&byte| byte != 0) {
            return Err(CellError);
        }
        Ok(Self { first: flags & FIRST != 0, more: flags & MORE != 0, data })
    }
}

/// Fills the body of a DESTROY.
pub(crate) fn write_reason(body: &mut Body, reason: DestroyReason) {
    body.fill(0);
    if let Some(first) = body.first_mut() {
        *first = reason as u8;
    }
}

/// Reads the body of a DESTROY; the rest of it is zero.
pub(crate) fn read_reason(body: &Body) -> Result<DestroyReason, CellError> {
    match body.split_first() {
        Some((&reason, rest)) if rest.iter().all(|&byte| byte == 0) => Ok(DestroyReason::from_byte(reason)),
        _ => Err(CellError),
    }
}

/// Fills the body of an ACK.
pub(crate) fn write_ack(body: &mut Body, ack: &[u8; 32]) {
    body.fill(0);
    body.iter_mut().zip(ack).for_each(|(to, from)| *to = *from);
}

/// Reads the body of an ACK; the rest of it is zero.
pub(crate) fn read_ack(body: &Body) -> Result<&[u8; 32], CellError> {
    match body.split_first_chunk() {
        Some((ack, rest)) if rest.iter().all(|&byte| byte == 0) => Ok(ack),
        _ => Err(CellError),
    }
}

/// Collects the fragments of one CREATE, CREATED, EXTEND or TRANSIT message.
#[derive(Debug, Default)]
pub(crate) struct Assembler(Vec<u8>);

impl Assembler {
    /// Adds a fragment; yields the message with the last. No more than `limit` bytes are kept.
    pub(crate) fn push(
        &mut self,
        more: bool,
        data: &[u8],
        limit: usize,
    ) -> Result<Option<Vec<u8>>, CellError> {
        if self.0.len() + data.len() > limit {
            return Err(CellError);
        }
        self.0.extend_from_slice(data);
        Ok((!more).then(|| core::mem::take(&mut self.0)))
    }
}
