//! What the two ends of a leg say. Integers are big-endian:
//!
//! ```text
//! OPEN     1 | nonce, 32 bytes | next u64 | limit u64    first on a leg: make the session unless it is there
//! JOIN     2 | nonce, 32 bytes | next u64 | limit u64    first on a leg: of a session that is there
//! LINKED   3 | next u64 | limit u64                      the answer
//! REFUSED  4 | reason u8                                 the other answer
//! DATA     5 | offset u64 | length u16 | that many bytes
//! ACK      6 | received u64 | next u64 | limit u64
//! FIN      7 | offset u64
//! RETIRE   8
//! RESET    9
//! ```
//!
//! `next` is the offset of the next byte expected in order, one more once the end has come; `limit` is the
//! first offset that must not be sent. `received` counts the DATA and FIN frames that came by *this* leg: a
//! leg keeps its order, so one number says which of them have arrived, behind gaps or not.

use core::fmt;

use zeroize::Zeroize as _;

use crate::message::DATA_BYTES as CELL_DATA_BYTES;

const OPEN: u8 = 1;
const JOIN: u8 = 2;
const LINKED: u8 = 3;
const REFUSED: u8 = 4;
const DATA: u8 = 5;
const ACK: u8 = 6;
const FIN: u8 = 7;
const RETIRE: u8 = 8;
const RESET: u8 = 9;

/// Bytes of a DATA frame before its content.
const DATA_HEADER_BYTES: usize = 11;
/// Most bytes of one DATA frame: with its header it fills eight cells.
pub const SEGMENT_BYTES: usize = 8 * CELL_DATA_BYTES - DATA_HEADER_BYTES;

/// Why bytes are not a frame. The fault of the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// No such kind of frame, or not here.
    #[error("no frame of kind {0} can come here")]
    Kind(u8),
    /// A DATA frame without bytes, or with more than [`SEGMENT_BYTES`].
    #[error("a data frame of {0} bytes")]
    Length(u16),
    /// No such reason.
    #[error("no refusal has reason {0}")]
    Reason(u8),
}

/// Why a leg was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[repr(u8)]
pub enum Refusal {
    /// No session has this nonce, or it has ended.
    #[error("no such session")]
    Unknown = 1,
    /// The node has as many sessions as it bears.
    #[error("too many sessions")]
    Sessions = 2,
    /// The circuit has opened as many sessions as one may.
    #[error("too many sessions of one circuit")]
    Circuit = 3,
    /// The session has as many legs as one may have.
    #[error("too many legs")]
    Legs = 4,
}

impl Refusal {
    const fn from_byte(byte: u8) -> Result<Self, FrameError> {
        Ok(match byte {
            1 => Self::Unknown,
            2 => Self::Sessions,
            3 => Self::Circuit,
            4 => Self::Legs,
            _ => return Err(FrameError::Reason(byte)),
        })
    }

    /// The answer to a leg that is not taken.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 2] {
        [REFUSED, self as u8]
    }
}

/// What shows that a leg belongs to a session: 32 random bytes that the client draws once and sends inside the
/// circuits' encryption to the destination alone.
#[derive(Clone)]
pub struct Nonce([u8; 32]);

impl Nonce {
    /// Fresh random bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub(crate) const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl Drop for Nonce {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Nonce(..)")
    }
}

/// The first frame of a leg, from the client.
#[derive(Clone, Debug)]
pub struct Hello {
    pub(crate) nonce: Nonce,
    /// The session must be there already.
    pub(crate) join: bool,
    pub(crate) next: u64,
    pub(crate) limit: u64,
}

impl Hello {
    /// Its length, in bytes.
    pub const BYTES: usize = 49;

    /// Reads it.
    ///
    /// # Errors
    /// [`FrameError::Kind`].
    pub fn read(bytes: &[u8; Self::BYTES]) -> Result<Self, FrameError> {
        let [kind, rest @ ..] = bytes;
        let join = match *kind {
            OPEN => false,
            JOIN => true,
            kind => return Err(FrameError::Kind(kind)),
        };
        let (nonce, numbers) = rest.split_first_chunk().unwrap_or((&[0; 32], &[]));
        let (next, limit) = (number(numbers, 0), number(numbers, 8));
        Ok(Self {
            nonce: Nonce(*nonce),
            join,
            next: next.unwrap_or_default(),
            limit: limit.unwrap_or_default(),
        })
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.push(if self.join { JOIN } else { OPEN });
        out.extend_from_slice(self.nonce.as_bytes());
        numbers(out, &[self.next, self.limit]);
    }
}

/// Any other frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Frame<'a> {
    Linked { next: u64, limit: u64 },
    Refused(Refusal),
    Data { offset: u64, bytes: &'a [u8] },
    Ack { received: u64, next: u64, limit: u64 },
    Fin { offset: u64 },
    Retire,
    Reset,
}

impl<'a> Frame<'a> {
    /// The first frame of some bytes and its length; `None` if it is not whole yet.
    pub(crate) fn read(bytes: &'a [u8]) -> Result<Option<(Self, usize)>, FrameError> {
        let Some((&kind, body)) = bytes.split_first() else { return Ok(None) };
        let frame = match kind {
            LINKED => {
                number(body, 0).zip(number(body, 8)).map(|(next, limit)| (Self::Linked { next, limit }, 17))
            }
            REFUSED => match body.first() {
                Some(&reason) => Some((Self::Refused(Refusal::from_byte(reason)?), 2)),
                None => None,
            },
            DATA => return Self::read_data(body),
            ACK => number(body, 0)
                .zip(number(body, 8))
                .zip(number(body, 16))
                .map(|((received, next), limit)| (Self::Ack { received, next, limit }, 25)),
            FIN => number(body, 0).map(|offset| (Self::Fin { offset }, 9)),
            RETIRE => Some((Self::Retire, 1)),
            RESET => Some((Self::Reset, 1)),
            _ => return Err(FrameError::Kind(kind)),
        };
        Ok(frame)
    }

    fn read_data(body: &'a [u8]) -> Result<Option<(Self, usize)>, FrameError> {
        let Some((offset, rest)) = number(body, 0).zip(body.get(8..)) else { return Ok(None) };
        let Some((&length, rest)) = rest.split_first_chunk() else { return Ok(None) };
        let length = u16::from_be_bytes(length);
        // An empty frame would cost its receiver more than its sender.
        if length == 0 || usize::from(length) > SEGMENT_BYTES {
            return Err(FrameError::Length(length));
        }
        let bytes = rest.get(..usize::from(length));
        Ok(bytes.map(|bytes| (Self::Data { offset, bytes }, DATA_HEADER_BYTES + bytes.len())))
    }

    pub(crate) const fn kind(&self) -> u8 {
        match self {
            Self::Linked { .. } => LINKED,
            Self::Refused(_) => REFUSED,
            Self::Data { .. } => DATA,
            Self::Ack { .. } => ACK,
            Self::Fin { .. } => FIN,
            Self::Retire => RETIRE,
            Self::Reset => RESET,
        }
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        match *self {
            Self::Linked { next, limit } => {
                out.push(LINKED);
                numbers(out, &[next, limit]);
            }
            Self::Refused(reason) => out.extend_from_slice(&reason.to_bytes()),
            Self::Data { offset, bytes } => {
                write_data_header(offset, bytes.len(), out);
                out.extend_from_slice(bytes);
            }
            Self::Ack { received, next, limit } => {
                out.push(ACK);
                numbers(out, &[received, next, limit]);
            }
            Self::Fin { offset } => {
                out.push(FIN);
                numbers(out, &[offset]);
            }
            Self::Retire => out.push(RETIRE),
            Self::Reset => out.push(RESET),
        }
    }
}

/// The header of a DATA frame whose bytes the caller appends.
pub(crate) fn write_data_header(offset: u64, length: usize, out: &mut Vec<u8>) {
    out.push(DATA);
    numbers(out, &[offset]);
    // A segment is shorter than that.
    out.extend_from_slice(&u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes());
}

fn number(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|bytes| u64::from_be_bytes(*bytes))
}

fn numbers(out: &mut Vec<u8>, numbers: &[u64]) {
    numbers.iter().for_each(|number| out.extend_from_slice(&number.to_be_bytes()));
}
