use core::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nonos_identity::{Epoch, NodeId};
use tokio::sync::mpsc::{Receiver, Sender, UnboundedSender};
use tokio::sync::{mpsc, oneshot, watch};

use crate::cell::DestroyReason;
use crate::circuit::{BuildError, Closed, LocalCircuitId, MAX_PAYMENT_BYTES, OpenError, PayError, Payment};
use crate::descriptor::RelayDescriptor;
use crate::link::ByteLink;
use crate::link::stream::OnionStream;
use crate::link::task::{Command, Notice};
use crate::records::BUILD_CELLS;
use crate::transit::{Commitment, Opening, Promise};

/// A handle to the running machine; cheap to clone.
#[derive(Clone)]
pub struct Onion {
    pub(crate) commands: Sender<Command>,
    /// Keeps the task running.
    pub(crate) _alive: UnboundedSender<Notice>,
}

impl Onion {
    /// Takes a link that a neighbour opened, authenticated as `peer`.
    pub async fn accept_link(&self, peer: NodeId, io: Box<dyn ByteLink>) {
        // A stopped driver drops the link, which is how the neighbour learns.
        let _ = self.commands.send(Command::AcceptLink { peer, io }).await;
    }

    /// Builds a circuit through `path`: the relays in order and the destination as the last hop.
    /// Dropping the future closes the circuit.
    ///
    /// # Errors
    /// [`BuildError`]; the hop that failed is blamed.
    pub async fn build(&self, path: Vec<RelayDescriptor>) -> Result<CircuitHandle, BuildError> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::Build { path, reply }).await.map_err(|_| BuildError::Stopped)?;
        answer.await.unwrap_or(Err(BuildError::Stopped))
    }

    /// This node's public onion key of an epoch (previous within its grace, current or next), for
    /// its descriptor.
    pub async fn onion_key(&self, epoch: Epoch) -> Option<[u8; 32]> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::OnionKey { epoch, reply }).await.ok()?;
        answer.await.ok().flatten()
    }
}

impl Onion {
    /// Takes what this node can prove of the circuits of others, from now on; whoever took it before gets no
    /// more. Nothing comes unless
    /// [`Limits::transit_batches_kept`](crate::Limits::transit_batches_kept) is set.
    pub async fn transits(&self) -> Transits {
        let (sender, events) = mpsc::channel(Transits::MAX_WAITING);
        // A stopped driver drops the sender, which ends the queue.
        let _ = self.commands.send(Command::Transits { events: sender }).await;
        Transits { events }
    }
}

impl fmt::Debug for Onion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Onion(..)")
    }
}

/// The life of an own circuit: it closes when the last holder drops it.
#[derive(Debug)]
pub(crate) struct CircuitShared {
    pub(crate) id: LocalCircuitId,
    pub(crate) cells: Arc<AtomicU64>,
    pub(crate) closed: watch::Receiver<Option<Closed>>,
    pub(crate) notices: UnboundedSender<Notice>,
}

impl Drop for CircuitShared {
    fn drop(&mut self) {
        let _ = self.notices.send(Notice::CloseCircuit(self.id));
    }
}

/// A circuit this node built; cheap to clone. The circuit closes with its last handle and stream.
#[derive(Clone, Debug)]
pub struct CircuitHandle {
    pub(crate) shared: Arc<CircuitShared>,
}

impl CircuitHandle {
    /// This node's number for it.
    #[must_use]
    pub fn id(&self) -> LocalCircuitId {
        self.shared.id
    }

    /// Opens a stream to a port of the destination.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open(&self, port: u16) -> Result<OnionStream, OpenError> {
        self.open_stream(port, false).await
    }

    /// Opens a stream without waiting for the destination: what is written leaves at once, a round trip
    /// earlier than with [`Self::open`]. If the destination refuses or does not answer, the stream
    /// breaks with [`ConnectionRefused`](std::io::ErrorKind::ConnectionRefused) or
    /// [`TimedOut`](std::io::ErrorKind::TimedOut).
    ///
    /// # Errors
    /// [`OpenError`], but for refusal and timeout.
    pub async fn open_early(&self, port: u16) -> Result<OnionStream, OpenError> {
        self.open_stream(port, true).await
    }

    async fn open_stream(&self, port: u16, early: bool) -> Result<OnionStream, OpenError> {
        let (reply, answer) = oneshot::channel();
        let circuit = Arc::clone(&self.shared);
        let notice = Notice::Open { circuit, port, early, reply };
        self.shared.notices.send(notice).map_err(|_| OpenError::Stopped)?;
        answer.await.unwrap_or(Err(OpenError::Stopped))
    }

    /// Sends a payment, opaque here, to hop `hop`, counted from 0 at the neighbour.
    ///
    /// # Errors
    /// [`PayError`].
    pub async fn pay(&self, hop: usize, bytes: Vec<u8>) -> Result<(), PayError> {
        if bytes.len() > MAX_PAYMENT_BYTES {
            return Err(PayError::TooLong(bytes.len()));
        }
        let (reply, answer) = oneshot::channel();
        let notice = Notice::Pay { circuit: self.shared.id, hop, bytes, reply };
        self.shared.notices.send(notice).map_err(|_| PayError::Stopped)?;
        match answer.await.unwrap_or(Err(PayError::Stopped)) {
            Err(PayError::Closed(closed)) => Err(PayError::Closed(self.reason().unwrap_or(closed))),
            result => result,
        }
    }

    /// What its relays are promised, from the first on: see [`Machine::commitments`](crate::Machine::commitments).
    pub async fn commitments(&self) -> Vec<Commitment> {
        let (reply, answer) = oneshot::channel();
        let notice = Notice::Commitments { circuit: self.shared.id, reply };
        if self.shared.notices.send(notice).is_err() {
            return Vec::new();
        }
        answer.await.unwrap_or_default()
    }

    /// Cells this node has sent and received on the circuit so far, those of the build included. A hop counts those that
    /// reached it: the same but for cells on their way and those exchanged with nearer hops.
    #[must_use]
    pub fn cells(&self) -> u64 {
        BUILD_CELLS + self.shared.cells.load(Ordering::Relaxed)
    }

    /// Waits until the circuit is closed and says why.
    pub async fn closed(&self) -> Closed {
        let mut closed = self.shared.closed.clone();
        let stopped = Closed { reason: DestroyReason::Finished, blamed: None };
        closed.wait_for(Option::is_some).await.ok().and_then(|closed| *closed).unwrap_or(stopped)
    }

    /// Closes it now, streams included.
    pub fn close(&self) {
        let _ = self.shared.notices.send(Notice::CloseCircuit(self.shared.id));
    }

    fn reason(&self) -> Option<Closed> {
        *self.shared.closed.borrow()
    }
}

/// A stream that some client opened to this node; nothing tells who.
#[derive(Debug)]
pub struct IncomingStream {
    /// The port the client asked for.
    pub port: u16,
    /// The stream.
    pub stream: OnionStream,
    /// The circuit it came by.
    pub circuit: LocalCircuitId,
}

/// The streams that clients open to this node.
#[derive(Debug)]
pub struct Incoming {
    pub(crate) streams: Receiver<IncomingStream>,
}

impl Incoming {
    /// Streams that wait to be taken; the next one is refused.
    pub const MAX_WAITING: usize = 64;

    /// Waits for the next stream; `None` once the driver has stopped.
    pub async fn recv(&mut self) -> Option<IncomingStream> {
        self.streams.recv().await
    }
}

/// The payments that clients send to this node.
#[derive(Debug)]
pub struct Payments {
    pub(crate) payments: Receiver<Payment>,
}

impl Payments {
    /// Payments that wait to be taken; the next one is lost.
    pub const MAX_WAITING: usize = 1024;

    /// Waits for the next payment; `None` once the driver has stopped.
    pub async fn recv(&mut self) -> Option<Payment> {
        self.payments.recv().await
    }
}

/// What this node can prove of a circuit of somebody else's, for a [`Tally`](crate::transit::Tally).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Transit {
    /// The client's promise.
    Promised {
        /// The circuit.
        circuit: LocalCircuitId,
        /// What can be proven.
        promise: Promise,
    },
    /// One batch more was handed on.
    Carried {
        /// The circuit.
        circuit: LocalCircuitId,
        /// The proof.
        opening: Opening,
    },
}

/// The proofs of transit of this node.
#[derive(Debug)]
pub struct Transits {
    events: Receiver<Transit>,
}

impl Transits {
    /// Proofs that wait to be taken; the next one is lost, and with it the circuit's further ones.
    pub const MAX_WAITING: usize = 1024;

    /// Waits for the next one; `None` once the driver has stopped.
    pub async fn recv(&mut self) -> Option<Transit> {
        self.events.recv().await
    }
}
