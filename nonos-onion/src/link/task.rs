mod streams;

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;

use nonos_identity::{Epoch, NodeId};
use tokio::sync::mpsc::{self, Receiver, Sender, UnboundedReceiver, WeakUnboundedSender};
use tokio::sync::{oneshot, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

use crate::circuit::{BuildError, Closed, LocalCircuitId, OpenError, PayError, Payment, StreamId};
use crate::config::{Config, ConfigError};
use crate::descriptor::RelayDescriptor;
use crate::epoch::EpochKeys;
use crate::link::handle::{CircuitHandle, CircuitShared, Incoming, IncomingStream, Onion, Payments, Transit};
use crate::link::stream::{OnionStream, PIPE_BYTES, Pipe};
use crate::link::wire::{Event, read_link, write_link};
use crate::link::{ByteLink, Clock, LinkError, Links};
use crate::machine::{Input, LinkId, Machine, Now, Output};
use crate::transit::Commitment;

/// Commands that wait for the task; more make their senders wait.
const COMMANDS: usize = 64;
/// Buffers of cells that wait for the task, 32 KiB each; more make their links wait.
const EVENTS: usize = 64;
/// Events taken before outputs are looked at, so that cells share a write.
const EVENTS_PER_TURN: usize = 32;
/// How long a jump of the wall clock may go unnoticed.
const CLOCK_CHECK: Duration = Duration::from_secs(1);

/// What [`Onion`] asks.
pub(crate) enum Command {
    AcceptLink { peer: NodeId, io: Box<dyn ByteLink> },
    Build { path: Vec<RelayDescriptor>, reply: oneshot::Sender<Result<CircuitHandle, BuildError>> },
    OnionKey { epoch: Epoch, reply: oneshot::Sender<Option<[u8; 32]>> },
    Transits { events: Sender<Transit> },
}

/// What circuits and streams ask. Their number bounds the queue: a stream has one notice at a time
/// and every other one has a waiting or dropped owner.
pub(crate) enum Notice {
    Stream(StreamId),
    StreamDropped(StreamId),
    CloseCircuit(LocalCircuitId),
    Open {
        circuit: Arc<CircuitShared>,
        port: u16,
        /// Answer before the destination does.
        early: bool,
        reply: oneshot::Sender<Result<OnionStream, OpenError>>,
    },
    Pay {
        circuit: LocalCircuitId,
        hop: usize,
        bytes: Vec<u8>,
        reply: oneshot::Sender<Result<(), PayError>>,
    },
    Commitments {
        circuit: LocalCircuitId,
        reply: oneshot::Sender<Vec<Commitment>>,
    },
}

struct Opening {
    circuit: Arc<CircuitShared>,
    reply: oneshot::Sender<Result<OnionStream, OpenError>>,
}

struct Own {
    closed: watch::Sender<Option<Closed>>,
    /// Until the circuit is built.
    building: Option<Building>,
}

struct Building {
    circuit: Arc<CircuitShared>,
    reply: oneshot::Sender<Result<CircuitHandle, BuildError>>,
}

struct LinkTasks {
    buffers: Sender<Vec<u8>>,
    reader: AbortHandle,
    writer: AbortHandle,
}

struct Task {
    machine: Machine,
    clock: Clock,
    /// Where the monotonic clock begins.
    started: Instant,
    links: Arc<dyn Links>,
    hop_timeout: Duration,
    open_links: BTreeMap<LinkId, LinkTasks>,
    next_link: u64,
    own: BTreeMap<LocalCircuitId, Own>,
    pipes: BTreeMap<StreamId, Arc<Pipe>>,
    opening: BTreeMap<StreamId, Opening>,
    /// Streams with bytes left after their turn.
    turns: VecDeque<StreamId>,
    scratch: Vec<u8>,
    events: Sender<Event>,
    notices: WeakUnboundedSender<Notice>,
    incoming: Sender<IncomingStream>,
    payments: Sender<Payment>,
    /// Whoever takes proofs of transit.
    transits: Option<Sender<Transit>>,
    /// Readers and openers; they die with the task.
    tasks: JoinSet<()>,
}

pub(crate) fn spawn(
    config: Config,
    keys: EpochKeys,
    links: Arc<dyn Links>,
    clock: Clock,
    seed: [u8; 32],
) -> Result<(Onion, Incoming, Payments), ConfigError> {
    let hop_timeout = config.limits.hop_timeout;
    let started = Instant::now();
    let machine = Machine::new(config, keys, now(&clock, started), seed)?;
    let (commands, command_queue) = mpsc::channel(COMMANDS);
    let (notices, notice_queue) = mpsc::unbounded_channel();
    let (events, event_queue) = mpsc::channel(EVENTS);
    let (incoming, streams) = mpsc::channel(Incoming::MAX_WAITING);
    let (payments, payment_queue) = mpsc::channel(Payments::MAX_WAITING);
    let task = Task {
        machine,
        clock,
        started,
        links,
        hop_timeout,
        open_links: BTreeMap::new(),
        next_link: 0,
        own: BTreeMap::new(),
        pipes: BTreeMap::new(),
        opening: BTreeMap::new(),
        turns: VecDeque::new(),
        scratch: Vec::with_capacity(PIPE_BYTES),
        events,
        notices: notices.downgrade(),
        incoming,
        payments,
        transits: None,
        tasks: JoinSet::new(),
    };
    tokio::spawn(task.run(command_queue, notice_queue, event_queue));
    Ok((Onion { commands, _alive: notices }, Incoming { streams }, Payments { payments: payment_queue }))
}

fn now(clock: &Clock, started: Instant) -> Now {
    Now { wall: Duration::from_secs(clock().as_secs()), monotonic: started.elapsed() }
}

impl Task {
    async fn run(
        mut self,
        mut commands: Receiver<Command>,
        mut notices: UnboundedReceiver<Notice>,
        mut events: Receiver<Event>,
    ) {
        loop {
            self.outputs();
            if let Some(stream) = self.turns.pop_front() {
                self.pump_out(stream);
                // Everybody else has a turn too, or one long upload would starve the node.
                if let Ok(event) = events.try_recv() {
                    self.event(event);
                }
                if let Ok(notice) = notices.try_recv() {
                    self.notice(notice);
                }
                if let Ok(command) = commands.try_recv() {
                    self.command(command);
                }
                self.tick_if_due();
                while self.tasks.try_join_next().is_some() {}
                tokio::task::consume_budget().await;
                continue;
            }
            let now = self.now();
            let pause = self.machine.deadline().map_or(CLOCK_CHECK, |at| at.saturating_sub(now.wall));
            tokio::select! {
                notice = notices.recv() => match notice {
                    Some(notice) => self.notice(notice),
                    // Nobody is left who could ask anything.
                    None => break,
                },
                Some(command) = commands.recv() => self.command(command),
                Some(event) = events.recv() => self.event(event),
                Some(_) = self.tasks.join_next() => {}
                () = tokio::time::sleep(pause.min(CLOCK_CHECK)) => {
                    let now = self.now();
                    self.machine.handle(now, Input::Tick);
                }
            }
            for _ in 0..EVENTS_PER_TURN {
                let Ok(event) = events.try_recv() else { break };
                self.event(event);
            }
            while let Ok(notice) = notices.try_recv() {
                self.notice(notice);
            }
        }
        for pipe in self.pipes.values() {
            pipe.break_off(io::ErrorKind::BrokenPipe);
        }
    }

    /// Lets the machine work on what is due, also while streams have turns.
    fn tick_if_due(&mut self) {
        let now = self.now();
        if self.machine.deadline().is_some_and(|at| at <= now.wall) {
            self.machine.handle(now, Input::Tick);
        }
    }

    fn now(&self) -> Now {
        now(&self.clock, self.started)
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::AcceptLink { peer, io } => self.start_link(peer, io, false),
            Command::OnionKey { epoch, reply } => {
                let _ = reply.send(self.machine.onion_key(epoch));
            }
            Command::Transits { events } => self.transits = Some(events),
            Command::Build { path, reply } => {
                let built = self.machine.build(self.now(), &path);
                let circuit = match built {
                    Ok(circuit) => circuit,
                    Err(error) => {
                        let _ = reply.send(Err(error));
                        return;
                    }
                };
                let (Some(cells), Some(notices)) =
                    (self.machine.cell_counter(circuit), self.notices.upgrade())
                else {
                    return;
                };
                let (closed, watch) = watch::channel(None);
                let shared = Arc::new(CircuitShared { id: circuit, cells, closed: watch, notices });
                self.own.insert(circuit, Own { closed, building: Some(Building { circuit: shared, reply }) });
            }
        }
    }

    fn notice(&mut self, notice: Notice) {
        let now = self.now();
        match notice {
            Notice::Stream(stream) => {
                let Some(pipe) = self.pipes.get(&stream) else { return };
                let refill = {
                    let mut state = pipe.lock();
                    state.noticed = false;
                    state.more
                };
                if refill {
                    self.pump_in(stream);
                }
                self.pump_out(stream);
            }
            Notice::StreamDropped(stream) => {
                if self.pipes.remove(&stream).is_some() {
                    self.machine.reset(now, stream);
                }
            }
            Notice::CloseCircuit(circuit) => self.machine.close(now, circuit),
            Notice::Open { circuit, port, early, reply } => {
                let closed = *circuit.closed.borrow();
                match self.machine.open(now, circuit.id, port) {
                    Ok(stream) => {
                        self.opening.insert(stream, Opening { circuit, reply });
                        if early {
                            self.opened(stream);
                        }
                    }
                    Err(OpenError::Closed(unknown)) => {
                        let _ = reply.send(Err(OpenError::Closed(closed.unwrap_or(unknown))));
                    }
                    Err(error) => {
                        let _ = reply.send(Err(error));
                    }
                }
            }
            Notice::Pay { circuit, hop, bytes, reply } => {
                let _ = reply.send(self.machine.pay(now, circuit, hop, &bytes));
            }
            Notice::Commitments { circuit, reply } => {
                let _ = reply.send(self.machine.commitments(circuit).to_vec());
            }
        }
    }

    fn event(&mut self, event: Event) {
        let now = self.now();
        match event {
            Event::Cells { link, bytes } => self.machine.handle(now, Input::Cells { link, bytes }),
            Event::Sent { link, buffer } => self.machine.handle(now, Input::Sent { link, buffer }),
            Event::Down { link } => {
                self.stop_link(link);
                self.machine.handle(now, Input::LinkDown { link });
            }
            Event::Opened { peer, result: Ok(io) } => self.start_link(peer, io, true),
            Event::Opened { peer, result: Err(LinkError) } => {
                self.machine.handle(now, Input::LinkFailed { peer });
            }
        }
    }

    fn outputs(&mut self) {
        while let Some(output) = self.machine.poll() {
            match output {
                Output::OpenLink { relay } => self.open_link(relay),
                Output::CloseLink { link } => {
                    tracing::debug!("closing a link whose peer broke the protocol or a limit");
                    self.stop_link(link);
                }
                Output::Cells { link, bytes } => {
                    if let Some(tasks) = self.open_links.get(&link) {
                        // The machine keeps to the two places of the channel.
                        let _ = tasks.buffers.try_send(bytes);
                    }
                }
                Output::Built { circuit } => self.built(circuit),
                Output::Closed { circuit, closed, .. } => self.closed(circuit, closed),
                Output::Offered { stream, port } => self.offered(stream, port),
                Output::Opened { stream } => self.opened(stream),
                Output::Refused { stream, timeout } => {
                    if let Some(opening) = self.opening.remove(&stream) {
                        let error = if timeout { OpenError::Timeout } else { OpenError::Refused };
                        let _ = opening.reply.send(Err(error));
                    } else if let Some(pipe) = self.pipes.remove(&stream) {
                        let kind =
                            if timeout { io::ErrorKind::TimedOut } else { io::ErrorKind::ConnectionRefused };
                        pipe.break_off(kind);
                    }
                }
                Output::Readable { stream } => self.pump_in(stream),
                Output::Writable { stream } => self.pump_out(stream),
                Output::Reset { stream } => {
                    if let Some(pipe) = self.pipes.remove(&stream) {
                        pipe.break_off(io::ErrorKind::ConnectionReset);
                    }
                }
                Output::Stopped { stream } => {
                    if let Some(pipe) = self.pipes.get(&stream) {
                        let mut state = pipe.lock();
                        state.stopped = true;
                        state.to_send.clear();
                        state.wake_writer();
                    }
                }
                Output::Paid(payment) => {
                    if self.payments.try_send(payment).is_err() {
                        tracing::warn!("a payment was lost: nobody takes payments");
                    }
                }
                Output::Promised { circuit, promise } => {
                    self.transit(Transit::Promised { circuit, promise });
                }
                Output::Carried { circuit, opening } => self.transit(Transit::Carried { circuit, opening }),
            }
        }
    }

    fn transit(&mut self, event: Transit) {
        if let Some(transits) = &self.transits
            && transits.try_send(event).is_err()
        {
            tracing::warn!("a proof of transit was lost: nobody takes them");
        }
    }

    fn built(&mut self, circuit: LocalCircuitId) {
        let building = self.own.get_mut(&circuit).and_then(|own| own.building.take());
        if let Some(Building { circuit: shared, reply }) = building {
            // A caller who went away drops the handle, which closes the circuit.
            let _ = reply.send(Ok(CircuitHandle { shared }));
        }
    }

    fn closed(&mut self, circuit: LocalCircuitId, closed: Closed) {
        let all = StreamId { circuit, number: 0 }..=StreamId { circuit, number: u16::MAX };
        let opening: Vec<StreamId> = self.opening.range(all.clone()).map(|(&id, _)| id).collect();
        for stream in opening {
            if let Some(opening) = self.opening.remove(&stream) {
                let _ = opening.reply.send(Err(OpenError::Closed(closed)));
            }
        }
        let streams: Vec<StreamId> = self.pipes.range(all).map(|(&id, _)| id).collect();
        for stream in streams {
            if self.machine.is_readable(stream) {
                continue;
            }
            if let Some(pipe) = self.pipes.remove(&stream) {
                pipe.break_off(io::ErrorKind::ConnectionReset);
            }
        }
        if let Some(own) = self.own.remove(&circuit) {
            own.closed.send_replace(Some(closed));
            if let Some(building) = own.building {
                let _ =
                    building.reply.send(Err(BuildError::Hop { hop: closed.blamed, reason: closed.reason }));
            }
        }
    }

    fn open_link(&mut self, peer: NodeId) {
        let (future, events, timeout) = (self.links.open(peer), self.events.clone(), self.hop_timeout);
        self.tasks.spawn(async move {
            let result = tokio::time::timeout(timeout, future).await.unwrap_or(Err(LinkError));
            let _ = events.send(Event::Opened { peer, result }).await;
        });
    }

    fn start_link(&mut self, peer: NodeId, io: Box<dyn ByteLink>, opened: bool) {
        let link = LinkId(self.next_link);
        self.next_link += 1;
        let (reader, writer) = tokio::io::split(io);
        let (buffers, queue) = mpsc::channel(2);
        let reader = self.tasks.spawn(read_link(link, reader, self.events.clone()));
        // Not in the set: what is queued when the driver stops is still written.
        let writer = tokio::spawn(write_link(link, writer, queue, self.events.clone())).abort_handle();
        self.open_links.insert(link, LinkTasks { buffers, reader, writer });
        let now = self.now();
        self.machine.handle(now, Input::LinkUp { link, peer, opened });
    }

    fn stop_link(&mut self, link: LinkId) {
        if let Some(tasks) = self.open_links.remove(&link) {
            tasks.reader.abort();
            tasks.writer.abort();
        }
    }
}
