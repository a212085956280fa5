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
