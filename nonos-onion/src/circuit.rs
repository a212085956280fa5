use crate::cell::DestroyReason;

/// This node's number for a circuit; means nothing to any other node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LocalCircuitId(pub(crate) u64);

impl LocalCircuitId {
    /// Its number; no two circuits of one run share it.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }
}

/// A stream of a circuit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId {
    /// The circuit.
    pub circuit: LocalCircuitId,
    /// Its number in the circuit.
    pub number: u16,
}

/// Why a circuit ended, as far as this node can know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed {
    /// What was reported.
    pub reason: DestroyReason,
    /// The hop blamed, counted from 0 at the client's neighbour. It is the claim of the hop before
    /// it, which may be the culprit itself: treat both as suspects. `None` where no hop is to
    /// blame, or where a changed cell does not tell who changed it.
    pub blamed: Option<usize>,
}

/// Longest payment, in bytes: it fits one cell and stays cheap to keep.
pub const MAX_PAYMENT_BYTES: usize = 256;

/// A payment that a client sent to this node as a hop of its circuit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payment {
    /// The circuit it came by.
    pub circuit: LocalCircuitId,
    /// Cells this node has carried for the circuit so far, both directions.
    pub cells: u64,
    /// What the client sent, at most [`MAX_PAYMENT_BYTES`]; opaque and unchecked.
    pub bytes: Vec<u8>,
}

/// Why a circuit was not built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The caller's path is empty, too long, names a node twice or this node, mixes epochs, or is
    /// of an epoch that is over.
    #[error("path is empty, too long, repeats a node, or is not of one living epoch")]
    Path,
    /// This node has as many circuits as it bears.
    #[error("too many circuits")]
    Circuits,
    /// A hop failed.
    #[error("hop {hop:?} failed: {reason}")]
    Hop {
        /// The hop blamed; see [`Closed::blamed`].
        hop: Option<usize>,
        /// What was reported.
        reason: DestroyReason,
    },
    /// The driver has stopped.
    #[error("the onion driver has stopped")]
    Stopped,
}

/// Why a stream was not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The destination refuses the port, or has as many streams as it bears.
    #[error("destination refuses the stream")]
    Refused,
    /// The destination did not answer in time.
    #[error("destination does not answer")]
    Timeout,
    /// The circuit has as many streams as this node bears.
    #[error("too many streams")]
    Streams,
    /// The circuit is closed.
    #[error("circuit is closed: {}", .0.reason)]
    Closed(Closed),
    /// The driver has stopped.
    #[error("the onion driver has stopped")]
    Stopped,
}

/// Why a payment was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PayError {
    /// Longer than [`MAX_PAYMENT_BYTES`].
    #[error("payment of {0} bytes is too long")]
    TooLong(usize),
    /// The circuit has no such hop.
    #[error("circuit has no hop {0}")]
    NoSuchHop(usize),
    /// The circuit is closed.
    #[error("circuit is closed: {}", .0.reason)]
    Closed(Closed),
    /// The driver has stopped.
    #[error("the onion driver has stopped")]
    Stopped,
}
