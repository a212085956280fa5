use core::time::Duration;

use nonos_identity::{NetworkId, NodeId};

use crate::handshake::Suite;
use crate::padding::MAX_PERCENT;
use crate::records::RECORDS;
use crate::transit::MAX_BATCHES;

/// Who a node is to its circuits, and what it bears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The mesh; part of every handshake.
    pub network: NetworkId,
    /// This node, as other nodes' descriptors and links name it.
    pub node: NodeId,
    /// How the keys of its own circuits come about. As a relay it answers both.
    pub suite: Suite,
    /// Whether it extends circuits of others. A node that does not still answers as a destination.
    pub relaying: bool,
    /// What it bears.
    pub limits: Limits,
}

impl Config {
    /// A relaying node with the default limits.
    #[must_use]
    pub fn new(network: NetworkId, node: NodeId) -> Self {
        Self { network, node, suite: Suite::default(), relaying: true, limits: Limits::default() }
    }
}

/// The bounds of a node. Every window and queue that a peer can fill is here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Links at a time. Against exhaustion of sockets and buffers.
    pub links: usize,
    /// Circuits of others at a time, per link. Against one peer filling the table.
    pub circuits_per_link: usize,
    /// All circuits at a time, own and of others. Against exhaustion of memory: one that is being
    /// built holds one message of 8 KiB.
    pub circuits: usize,
    /// Relays and destination in one own circuit; at most [`Limits::MAX_HOPS`].
    pub hops: usize,
    /// Streams of one circuit. Against a client that opens ports without end.
    pub streams_per_circuit: usize,
    /// The most data cells in flight per circuit and direction, however well the path takes them. Bounds
    /// what a relay queues; a sender beyond the queue of any relay on its path loses the circuit.
    pub circuit_window_cells: u32,
    /// Data cells that a new stream may have in flight until its reader consumes them. Both ends of a
    /// circuit must have the same value: a sender beyond the receiver's breaks the protocol.
    pub stream_window_cells: u32,
    /// What that grows to for a reader that keeps up, at most [`Self::STREAM_WINDOW_MAX_CELLS`]. Bounds the
    /// memory of a reader that then stops.
    pub stream_window_max_cells: u32,
    /// Cells of one circuit queued for one link before the circuit dies. Against a sender that
    /// ignores its window to fill a relay's memory (the sniper attack).
    pub circuit_queue_cells: u32,
    /// Bytes of cells and streams held for all circuits. Beyond, those that hold most end first. Against
    /// many circuits that each keep to their own limits.
    pub memory_bytes: usize,
    /// CREATEs accepted per second and link, in the long run. A handshake costs about 0.3 ms.
    pub creates_per_second: u32,
    /// CREATEs accepted at once per link.
    pub create_burst: u32,
    /// CREATEs accepted per second over all links together, and at once; a handshake costs about 0.3 ms of one
    /// core. Against many links that each keep to their own limit. Those that solve a puzzle come on top.
    pub all_creates_per_second: u32,
    /// Leading zero bits of a digest, by which a CREATE beyond the buckets of tokens comes in, and which this
    /// node seeks for each hop of a circuit of its own that was refused as busy: `2^bits` hashes of 1.6 us
    /// each, on average. At most [`Self::PUZZLE_BITS_MAX`]; 0 turns puzzles off. Against a link that spends what all
    /// behind it share; the last quarter of the tables of circuits is for who solves one.
    pub puzzle_bits: u8,
    /// CREATEs accepted per second and link by a puzzle, in the long run. Against who has many computers.
    pub puzzled_creates_per_second: u32,
    /// CREATEs accepted at once per link by a puzzle.
    pub puzzled_create_burst: u32,
    /// CREATEs accepted per epoch key, and as many again by a puzzle; bounds the exact replay sets, 16 bytes
    /// each.
    pub creates_per_epoch: usize,
    /// Payments accepted per circuit. Against a flood of 256-byte events.
    pub payments_per_circuit: u32,
    /// Batches of 256 cells that the relays of an own circuit can prove to have carried; 32 bytes to each of them
    /// and three hashes for each batch, at most [`transit::MAX_BATCHES`](crate::transit::MAX_BATCHES). 0, the
    /// default, promises nothing: proofs are records of who carried how much.
    pub transit_batches: u16,
    /// The most batches of which this node, as a relay, keeps a client's hints, 32 bytes each, to prove what it
    /// carried; of a client that promises more it keeps none. At most the same. 0, the default, proves nothing.
    /// Against clients that make a relay remember.
    pub transit_batches_kept: u16,
    /// DROP cells to a hundred others that a client asks of its first hop, and sends, and most that a relay
    /// sends; 0 to [`Self::PADDING_PERCENT_HARDENED`]. 0, the default, sends none, and so does a node without the
    /// feature `padding`; what the client asked for is borne by any. Against who watches one link and tells by
    /// gaps and bursts what is fetched. A relay bears no more than was asked for: against padding as a flood.
    pub padding_percent: u8,
    /// Time for an own circuit to be built by one message, however many hops it has, and for one
    /// stream to be opened. If that message fails and the circuit is built hop by hop, to find out
    /// who fails, each hop has this time; so has a relay for what lies behind it to answer.
    pub hop_timeout: Duration,
    /// How long circuits outlive their epoch, so that a new one is made before the old breaks.
    pub epoch_grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            links: 1024,
            circuits_per_link: 1024,
            circuits: 8192,
            hops: Self::MAX_HOPS,
            streams_per_circuit: 64,
            circuit_window_cells: 8192,
            stream_window_cells: 512,
            stream_window_max_cells: 8192,
            circuit_queue_cells: 8192 + Self::CONTROL_SLACK_CELLS,
            memory_bytes: 512 << 20,
            creates_per_second: 50,
            create_burst: 200,
            all_creates_per_second: 1000,
            puzzle_bits: 14,
            puzzled_creates_per_second: 25,
            puzzled_create_burst: 100,
            creates_per_epoch: 1 << 16,
            payments_per_circuit: 256,
            transit_batches: 0,
            transit_batches_kept: 0,
            padding_percent: 0,
            hop_timeout: Duration::from_secs(10),
            epoch_grace: Duration::from_secs(60),
        }
    }
}

/// What is wrong with a configuration. The caller's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A window below two acknowledgement steps, which would stall.
    #[error("window of {cells} cells is below {min}")]
    Window {
        /// The configured window.
        cells: u32,
        /// The smallest that works.
        min: u32,
    },
    /// The largest window of a stream is below the one it starts with, or above the protocol's.
    #[error("largest window of a stream is below {start} or above {most} cells")]
    StreamWindow {
        /// The window a stream starts with.
        start: u32,
        /// The protocol's limit.
        most: u32,
    },
    /// A circuit may queue less than its window, so honest circuits would die.
    #[error("queue of {queue} cells is below the window of {window}")]
    Queue {
        /// Configured queue, in cells.
        queue: u32,
        /// Configured circuit window, in cells.
        window: u32,
    },
    /// Circuits longer than a message has records for.
    #[error("circuits of {hops} hops are longer than {max}")]
    Hops {
        /// Configured hops.
        hops: usize,
        /// Most hops of a circuit.
        max: usize,
    },
    /// A puzzle that no client would wait for.
    #[error("puzzle of {bits} bits is above {max}")]
    Puzzle {
        /// Configured bits.
        bits: u8,
        /// Most bits.
        max: u8,
    },
    /// More padding than a hop bears.
    #[error("padding of {percent} per cent is above {max}")]
    Padding {
        /// Configured share.
        percent: u8,
        /// Largest share.
        max: u8,
    },
    /// More batches than one message promises.
    #[error("{batches} batches to prove are above {max}")]
    Transit {
        /// Configured batches.
        batches: u16,
        /// Most batches.
        max: u16,
    },
    /// A limit that must not be zero is.
    #[error("limit `{0}` is zero")]
    Zero(&'static str),
}

impl Limits {
    /// Data cells that one SENDME acknowledges.
    pub const SENDME_STEP_CELLS: u32 = 32;

    /// The largest window that a stream can have, in cells: 16 MiB unread.
    pub const STREAM_WINDOW_MAX_CELLS: u32 = 1 << 14;

    /// Most hops of a circuit, the destination included: every message that builds circuits has
    /// one record for each, used or not.
    pub const MAX_HOPS: usize = RECORDS;

    /// A share of padding that costs little.
    pub const PADDING_PERCENT_LOW: u8 = 15;

    /// The largest share of padding: as much as anything else.
    pub const PADDING_PERCENT_HARDENED: u8 = MAX_PERCENT;

    /// Most bits of a puzzle: 16 million hashes, half a minute.
    pub const PUZZLE_BITS_MAX: u8 = 24;

    /// Hashes at a time on a puzzle of this node's own: some three milliseconds.
    pub(crate) const PUZZLE_HASHES_PER_TICK: u32 = 2048;

    /// What a table takes from who has solved no puzzle: the last quarter is for who has.
    pub(crate) const fn unpuzzled(&self, table: usize) -> usize {
        if self.puzzle_bits == 0 { table } else { table - table / 4 }
    }

    /// Cells beyond the window that an honest circuit may have queued: SENDMEs, BEGINs, ENDs.
    pub(crate) const CONTROL_SLACK_CELLS: u32 = 256;

    /// Checks that the limits work together.
    ///
    /// # Errors
    /// [`ConfigError`] names what does not.
    pub fn check(&self) -> Result<(), ConfigError> {
        let min = 2 * Self::SENDME_STEP_CELLS;
        for cells in [self.circuit_window_cells, self.stream_window_cells] {
            if cells < min {
                return Err(ConfigError::Window { cells, min });
            }
        }
        let most = Self::STREAM_WINDOW_MAX_CELLS;
        if !(self.stream_window_cells..=most).contains(&self.stream_window_max_cells) {
            return Err(ConfigError::StreamWindow { start: self.stream_window_cells, most });
        }
        let window = self.circuit_window_cells;
        if self.circuit_queue_cells < window.saturating_add(Self::CONTROL_SLACK_CELLS) {
            return Err(ConfigError::Queue { queue: self.circuit_queue_cells, window });
        }
        if self.hops > Self::MAX_HOPS {
            return Err(ConfigError::Hops { hops: self.hops, max: Self::MAX_HOPS });
        }
        if self.puzzle_bits > Self::PUZZLE_BITS_MAX {
            return Err(ConfigError::Puzzle { bits: self.puzzle_bits, max: Self::PUZZLE_BITS_MAX });
        }
        if self.padding_percent > MAX_PERCENT {
            return Err(ConfigError::Padding { percent: self.padding_percent, max: MAX_PERCENT });
        }
        for batches in [self.transit_batches, self.transit_batches_kept] {
            if batches > MAX_BATCHES {
                return Err(ConfigError::Transit { batches, max: MAX_BATCHES });
            }
        }
        for (name, zero) in [
            ("links", self.links == 0),
            ("circuits_per_link", self.circuits_per_link == 0),
            ("circuits", self.circuits == 0),
            ("hops", self.hops == 0),
            ("streams_per_circuit", self.streams_per_circuit == 0),
            ("creates_per_second", self.creates_per_second == 0),
            ("create_burst", self.create_burst == 0),
            ("all_creates_per_second", self.all_creates_per_second == 0),
            ("puzzled_creates_per_second", self.puzzled_creates_per_second == 0),
            ("puzzled_create_burst", self.puzzled_create_burst == 0),
            ("creates_per_epoch", self.creates_per_epoch == 0),
            ("memory_bytes", self.memory_bytes == 0),
            ("hop_timeout", self.hop_timeout.is_zero()),
        ] {
            if zero {
                return Err(ConfigError::Zero(name));
            }
        }
        Ok(())
    }
}
