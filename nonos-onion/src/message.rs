//! The message inside a cell, once the last layer is off:
//! `tag[16] | stream u16 | cmd u8 | flags u8 | len u16 | data`, the rest zero.

use crate::cell::{BODY_BYTES, Body, MORE};
use crate::cgo::TAG_BYTES;

const HEADER_BYTES: usize = TAG_BYTES + 6;

/// Most data of one message, in bytes.
pub(crate) const DATA_BYTES: usize = BODY_BYTES - HEADER_BYTES;

/// A message that no implementation of the protocol makes. The fault of the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed message")]
pub(crate) struct MessageError;

/// What a message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// Client: open a stream to `port u16`.
    Begin = 1,
    /// The stream is open.
    Connected = 2,
    /// Bytes of a stream.
    Data = 3,
    /// The sender's half of a stream ends; one byte says how.
    End = 4,
    /// Credit: for the circuit with the tag of the acknowledged cell, for a stream with `cells u16`.
    Sendme = 5,
    /// Client: a fragment of `relay[32] | CREATE message`.
    Extend = 6,
    /// A fragment of the CREATED message.
    Extended = 7,
    /// The circuit ends behind this hop; one byte says why.
    Truncated = 8,
    /// Client: opaque payment.
    Pay = 9,
    /// Client: a fragment of what a hop can prove its transit by.
    Transit = 10,
    /// Nothing.
    Drop = 11,
    /// Client: how many of those a hop may send, and bears.
    Padding = 12,
}

impl Kind {
    fn from_byte(byte: u8) -> Result<Self, MessageError> {
        Ok(match byte {
            1 => Self::Begin,
            2 => Self::Connected,
            3 => Self::Data,
            4 => Self::End,
            5 => Self::Sendme,
            6 => Self::Extend,
            7 => Self::Extended,
            8 => Self::Truncated,
            9 => Self::Pay,
            10 => Self::Transit,
            11 => Self::Drop,
            12 => Self::Padding,
            _ => return Err(MessageError),
        })
    }

    const fn has_stream(self, stream: u16) -> bool {
        match self {
            Self::Begin | Self::Connected | Self::Data | Self::End => stream != 0,
            Self::Sendme => true,
            Self::Drop | Self::Padding => stream == 0,
            Self::Extend | Self::Extended | Self::Truncated | Self::Pay | Self::Transit => stream == 0,
        }
    }
}

/// A decoded message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Message<'a> {
    pub(crate) stream: u16,
    pub(crate) kind: Kind,
    /// Another fragment follows.
    pub(crate) more: bool,
    pub(crate) data: &'a [u8],
}

impl<'a> Message<'a> {
    /// Reads the body of a recognised cell. Unused bytes are zero: under the wide-block cipher
    /// they cost no secrecy, and a hop has no room for a hidden channel.
    pub(crate) fn read(body: &'a Body) -> Result<Self, MessageError> {
        let (header, rest) = body.split_first_chunk::<HEADER_BYTES>().ok_or(MessageError)?;
        let [.., s0, s1, kind, flags, l0, l1] = *header;
        let (data, padding) =
            rest.split_at_checked(usize::from(u16::from_be_bytes([l0, l1]))).ok_or(MessageError)?;
        let kind = Kind::from_byte(kind)?;
        let stream = u16::from_be_bytes([s0, s1]);
        let may_continue = matches!(kind, Kind::Extend | Kind::Extended | Kind::Transit);
        if flags > u8::from(may_continue) * MORE
            || !kind.has_stream(stream)
            || padding.iter().any(|&byte| byte != 0)
        {
            return Err(MessageError);
        }
        Ok(Self { stream, kind, more: flags == MORE, data })
    }

    /// Fills a body, but for the tag.
    pub(crate) fn write(&self, body: &mut Body) {
        debug_assert!(self.data.len() <= DATA_BYTES);
        #[expect(clippy::cast_possible_truncation, reason = "data is shorter than a body")]
        let [l0, l1] = (self.data.len() as u16).to_be_bytes();
        let [s0, s1] = self.stream.to_be_bytes();
        let head = [s0, s1, self.kind as u8, u8::from(self.more), l0, l1];
        let Some(fields) = body.get_mut(TAG_BYTES..) else { return };
        let Some((to, rest)) = fields.split_first_chunk_mut() else { return };
        *to = head;
        if let Some((data, padding)) = rest.split_at_mut_checked(self.data.len()) {
            data.copy_from_slice(self.data);
            padding.fill(0);
        }
    }
}

/// How a half of a stream ended; one byte on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum EndReason {
    /// All bytes were sent.
    Done = 1,
    /// The port is not served.
    Refused = 2,
    /// The stream broke; bytes may be missing.
    Reset = 3,
}

impl EndReason {
    pub(crate) fn read(data: &[u8]) -> Result<Self, MessageError> {
        match data {
            [1] => Ok(Self::Done),
            [2] => Ok(Self::Refused),
            [3] => Ok(Self::Reset),
            _ => Err(MessageError),
        }
    }
}
