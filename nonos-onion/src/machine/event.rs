use core::time::Duration;

use nonos_identity::NodeId;

use crate::circuit::{Closed, LocalCircuitId, Payment, StreamId};
#[expect(unused_imports, reason = "for the documentation")]
use crate::machine::Machine;
use crate::transit::{Opening, Promise};

/// The time by two clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Since 1970-01-01T00:00:00Z, for epochs and timeouts; whole seconds suffice. One that goes back counts as
    /// no time passed.
    pub wall: Duration,
    /// By a clock that never jumps, from any origin: round trips and turns are measured by it, so it must tell
    /// milliseconds.
    pub monotonic: Duration,
}

impl From<Duration> for Now {
    /// One clock for both, as in a simulation.
    fn from(clock: Duration) -> Self {
        Self { wall: clock, monotonic: clock }
    }
}

/// A link of this node; the driver numbers them and uses no number twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

/// What the world tells the machine.
#[derive(Debug)]
#[non_exhaustive]
pub enum Input {
    /// A link is open, authenticated as `peer`.
    LinkUp {
        /// Its number.
        link: LinkId,
        /// The node at the other end.
        peer: NodeId,
        /// Whether this node opened it.
        opened: bool,
    },
    /// The link asked for by [`Output::OpenLink`] cannot be had.
    LinkFailed {
        /// The node asked for.
        peer: NodeId,
    },
    /// A link is gone.
    LinkDown {
        /// Its number.
        link: LinkId,
    },
    /// Whole cells arrived.
    Cells {
        /// The link.
        link: LinkId,
        /// A multiple of 1024 bytes, at least one cell.
        bytes: Vec<u8>,
    },
    /// The driver has written one [`Output::Cells`] and returns its buffer.
    Sent {
        /// The link.
        link: LinkId,
        /// The buffer, for reuse.
        buffer: Vec<u8>,
    },
    /// Time passed: [`Machine::deadline`] is reached. A puzzle of an own circuit is worked on for two to
    /// three milliseconds, and has a deadline of now until it is solved.
    Tick,
}

/// What the machine wants, or tells.
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Output {
    /// Open a link; answer with [`Input::LinkUp`] or [`Input::LinkFailed`].
    OpenLink {
        /// The node to reach.
        relay: NodeId,
    },
    /// Close a link whose other end breaks the protocol, or that exceeds the limit.
    CloseLink {
        /// The link; the machine has forgotten it.
        link: LinkId,
    },
    /// Write cells; answer with [`Input::Sent`]. At most two are outstanding per link.
    Cells {
        /// The link.
        link: LinkId,
        /// Whole cells.
        bytes: Vec<u8>,
    },
    /// An own circuit is complete.
    Built {
        /// The circuit.
        circuit: LocalCircuitId,
    },
    /// A circuit is gone, with all its streams but those that the other end had ended: what they still
    /// hold can be read ([`Machine::is_readable`](crate::Machine::is_readable)), and [`Output::Stopped`] follows
    /// for them.
    Closed {
        /// The circuit.
        circuit: LocalCircuitId,
        /// Why.
        closed: Closed,
        /// Cells this node carried for it, both directions.
        cells: u64,
    },
    /// A client opens a stream: answer with [`Machine::accept`] or [`Machine::refuse`].
    Offered {
        /// The stream.
        stream: StreamId,
        /// The port it asks for.
        port: u16,
    },
    /// A stream opened here is open.
    Opened {
        /// The stream.
        stream: StreamId,
    },
    /// A stream opened here is refused, or not answered in time.
    Refused {
        /// The stream.
        stream: StreamId,
        /// Nobody answered.
        timeout: bool,
    },
    /// A stream has bytes, or its end, to read.
    Readable {
        /// The stream.
        stream: StreamId,
    },
    /// A stream that could not send may try again.
    Writable {
        /// The stream.
        stream: StreamId,
    },
    /// A stream broke; bytes may be missing.
    Reset {
        /// The stream.
        stream: StreamId,
    },
    /// The other end reads no more; what it sent before can still be read.
    Stopped {
        /// The stream.
        stream: StreamId,
    },
    /// A client paid this node.
    Paid(Payment),
    /// A client promises this node what it can prove of a circuit.
    Promised {
        /// The circuit.
        circuit: LocalCircuitId,
        /// What it can prove, for a [`Tally`](crate::transit::Tally).
        promise: Promise,
    },
    /// This node has handed on a batch of [`BATCH_CELLS`](crate::transit::BATCH_CELLS) cells, and can prove it.
    Carried {
        /// The circuit.
        circuit: LocalCircuitId,
        /// The proof, for a [`Tally`](crate::transit::Tally).
        opening: Opening,
    },
}
