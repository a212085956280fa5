use crate::conflux::config::Config;
use crate::conflux::frame::{FrameError, Refusal};

/// Why a session ended before both ends were done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// It had no leg for [`Config::patience`]. The medium's fault.
    #[error("no leg for too long")]
    Abandoned,
    /// The other end gave it up.
    #[error("reset by the other end")]
    Reset,
    /// This end gave it up.
    #[error("reset by this end")]
    Dropped,
    /// This node holds more than [`Config::memory_bytes`] for all sessions, and most for this one.
    #[error("too many bytes held")]
    Overload,
    /// The server does not have it, or has too many.
    #[error("refused: {0}")]
    Refused(Refusal),
    /// Not the protocol: the fault of the other end, as are all that follow. No relay can cause them.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// Bytes beyond what it was allowed.
    #[error("bytes beyond the credit")]
    Credit,
    /// More than [`Config::MAX_SEGMENTS`] pieces behind gaps.
    #[error("more than {} pieces behind gaps", Config::MAX_SEGMENTS)]
    Segments,
    /// A piece that overlaps another one and is not the same again.
    #[error("pieces overlap")]
    Overlap,
    /// Bytes beyond the end, or another end.
    #[error("bytes contradict the end")]
    End,
    /// An acknowledgement of what was not sent, or that takes one back.
    #[error("acknowledgement of what was not sent")]
    Acknowledgement,
    /// More on a leg after its RETIRE.
    #[error("a retired leg goes on")]
    Retired,
}

/// Why a leg is given up. Nothing is lost: what it had not delivered goes by others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LegFault {
    /// No answer to its first frame in time. The fault of a relay or of the destination.
    #[error("no answer")]
    Unanswered,
    /// It delivers nothing any more. The fault of a relay or of the destination.
    #[error("nothing is delivered")]
    Stalled,
    /// The destination does not take it.
    #[error("refused: {0}")]
    Refused(Refusal),
    /// The session has [`Config::MAX_LEGS`] already.
    #[error("too many legs")]
    Excess,
    /// The session is over.
    #[error("the session is over")]
    Ended,
}

/// Why bytes cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// This end finished before. The caller's fault.
    #[error("writing after the end")]
    Finished,
    /// The session is over.
    #[error(transparent)]
    Ended(#[from] Fault),
}
