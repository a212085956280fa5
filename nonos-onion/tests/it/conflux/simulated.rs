//! A client's and a server's session over circuits under virtual time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use nonos_identity::{Epoch, NodeId, Timestamp};
use nonos_onion::conflux::{
    Admission, Config, Fault, Hello, Input, LegFault, LegId, Nonce, Output, Registry, Session, Step, Upkeep,
};
use nonos_onion::testing::Simulation;
use nonos_onion::{LocalCircuitId, Output as Told, StreamId};

/// The byte of a direction at an offset; repeats nowhere near.
pub(crate) fn byte(salt: u8, offset: u64) -> u8 {
    (offset.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8 ^ salt
}

/// What an application writes and checks.
#[derive(Debug, Default)]
pub(crate) struct Application {
    salt: u8,
    /// Bytes to be written in all, and those that are.
    pub(crate) goal: u64,
    pub(crate) written: u64,
    pub(crate) received: u64,
    pub(crate) at_end: bool,
    pub(crate) reads_nothing: bool,
}

impl Application {
    pub(crate) fn new(salt: u8) -> Self {
        Self { salt, ..Self::default() }
    }

    /// Writes and reads what can be; bytes of the other one must be the expected.
    pub(crate) fn run(&mut self, session: &mut Session) {
        while self.written < self.goal {
            let count = (self.goal - self.written).min(16 << 10);
            let bytes: Vec<u8> = (self.written..self.written + count).map(|at| byte(self.salt, at)).collect();
            let Ok(taken) = session.write(&bytes) else { break };
            self.written += taken as u64;
            if taken < bytes.len() {
                break;
            }
        }
        if self.reads_nothing {
            return;
        }
        let mut bytes = Vec::new();
        if let Ok(read) = session.read(usize::MAX, &mut bytes) {
            self.at_end |= read.end;
        }
        for got in bytes {
            assert_eq!(got, byte(!self.salt, self.received), "at {}", self.received);
            self.received += 1;
        }
    }
}

#[derive(Debug)]
pub(crate) struct End {
    pub(crate) node: usize,
    pub(crate) session: Session,
    pub(crate) application: Application,
    streams: BTreeMap<LegId, StreamId>,
    /// Streams whose legs are retired and whose other half still comes.
    parting: BTreeSet<StreamId>,
    pub(crate) lost: Vec<LegFault>,
    pub(crate) retired: usize,
    pub(crate) ended: Option<Option<Fault>>,
    linked: Vec<LegId>,
    gone: Vec<LegId>,
}

impl End {
    fn new(node: usize, salt: u8, session: Session) -> Self {
        Self {
            node,
            session,
            application: Application::new(salt),
            streams: BTreeMap::new(),
            parting: BTreeSet::new(),
            lost: Vec::new(),
            retired: 0,
            ended: None,
            linked: Vec::new(),
            gone: Vec::new(),
        }
    }

    fn up(&mut self, now: Duration, leg: LegId, stream: StreamId, hello: Option<&Hello>) {
        self.streams.insert(leg, stream);
        self.session.handle(now, Input::LegUp { leg, hello });
    }

    fn broken(&mut self, now: Duration, is_gone: impl Fn(StreamId) -> bool) {
        self.parting.retain(|stream| !is_gone(*stream));
        let legs: Vec<LegId> =
            self.streams.iter().filter(|(_, stream)| is_gone(**stream)).map(|(&leg, _)| leg).collect();
        for leg in legs {
            self.streams.remove(&leg);
            self.gone.push(leg);
            self.session.handle(now, Input::LegDown { leg });
        }
    }

    /// Moves bytes until nothing moves; yields circuits that are not needed any more.
    fn pump(&mut self, sim: &mut Simulation) -> Vec<LocalCircuitId> {
        let (now, mut done) = (sim.now(), Vec::new());
        self.session.handle(now, Input::Tick);
        let mut moves = true;
        while moves {
            moves = false;
            self.application.run(&mut self.session);
            for (leg, stream) in self.streams.clone() {
                let mut bytes = Vec::new();
                let ends = sim.take(self.node, stream, &mut bytes);
                moves |= !bytes.is_empty();
                self.session.handle(now, Input::Received { leg, bytes: &bytes });
                let room = sim.sendable_bytes(self.node, stream);
                let mut out = Vec::new();
                self.session.transmit(now, leg, room, &mut out);
                moves |= !out.is_empty();
                assert_eq!(sim.send(self.node, stream, &out), out.len());
                if ends {
                    self.broken(now, |other| other == stream);
                }
            }
            while let Some(output) = self.session.poll() {
                match output {
                    Output::Linked { leg } => self.linked.push(leg),
                    Output::Lost { leg, fault } => {
                        self.lost.push(fault);
                        self.gone.push(leg);
                        done.extend(self.streams.remove(&leg).map(|stream| stream.circuit));
                    }
                    Output::Retired { leg } => {
                        self.retired += 1;
                        self.gone.push(leg);
                        if let Some(stream) = self.streams.remove(&leg) {
                            sim.finish(self.node, stream);
                            self.parting.insert(stream);
                        }
                    }
                    Output::Ended { fault } => self.ended = Some(fault),
                    _ => {}
                }
            }
        }
        for stream in self.parting.clone() {
            if sim.take(self.node, stream, &mut Vec::new()) {
                self.parting.remove(&stream);
                done.push(stream.circuit);
            }
        }
        done
    }
}

/// A session at both ends, its circuits, and who keeps them up.
#[derive(Debug)]
pub(crate) struct Both {
    pub(crate) sim: Simulation,
    pub(crate) client: End,
    pub(crate) server: End,
    /// Relays that a circuit may go through; the destination comes last.
    paths: Vec<Vec<usize>>,
    destination: usize,
    registry: Registry,
    upkeep: Upkeep,
    pub(crate) keeps_up: bool,
    building: Option<(LocalCircuitId, Epoch, usize)>,
    opening: Option<(StreamId, Epoch, usize)>,
    greeting: BTreeMap<StreamId, Vec<u8>>,
    next_leg: u64,
    pub(crate) built: usize,
    pub(crate) failed: usize,
}

impl Both {
    /// Over some of the paths, two at a time. The first node is the client, the last the destination.
    pub(crate) fn new(mut sim: Simulation, destination: usize, paths: &[&[usize]], config: &Config) -> Self {
        sim.lend(0);
        sim.lend(destination);
        let now = sim.now();
        let client = Session::connect(config, now, Nonce::from_bytes([42; 32])).unwrap();
        let server = Session::accept(config, now).unwrap();
        Self {
            sim,
            client: End::new(0, 0, client),
            server: End::new(destination, !0, server),
            paths: paths.iter().map(|path| path.to_vec()).collect(),
            destination,
            registry: Registry::new(config).unwrap(),
            upkeep: Upkeep::new(3),
            keeps_up: true,
            building: None,
            opening: None,
            greeting: BTreeMap::new(),
            next_leg: 0,
            built: 0,
            failed: 0,
        }
    }

    pub(crate) fn run_for(&mut self, time: Duration) {
        self.run_while(time, |_| true);
    }

    /// Yields whether the condition ended it, and not the time.
    pub(crate) fn run_while(&mut self, time: Duration, condition: impl Fn(&Self) -> bool) -> bool {
        let end = self.sim.now() + time;
        self.step();
        while condition(self) {
            if self.sim.now() >= end {
                return false;
            }
            let deadlines = [self.client.session.deadline(), self.server.session.deadline()];
            let tick = self.sim.now() + Duration::from_secs(1);
            let next = deadlines.into_iter().flatten().min().map_or(tick, |at| at.min(tick));
            self.sim.run_once(next.max(self.sim.now()).min(end));
            self.step();
        }
        true
    }

    /// The streams of the legs that the client has.
    pub(crate) fn relays_of_legs(&self) -> usize {
        self.client.streams.len()
    }

    pub(crate) fn is_over(&self) -> bool {
        self.client.ended.is_some() && self.server.ended.is_some()
    }

    fn step(&mut self) {
        for told in self.sim.take_outputs(0) {
            self.client_told(told);
        }
        for told in self.sim.take_outputs(self.destination) {
            let now = self.sim.now();
            match told {
                Told::Offered { stream, .. } => {
                    self.greeting.insert(stream, Vec::new());
                }
                Told::Reset { stream } => self.server.broken(now, |other| other == stream),
                Told::Closed { circuit, .. } => self.server.broken(now, |other| other.circuit == circuit),
                _ => {}
            }
        }
        self.greet();
        if self.keeps_up {
            self.keep_up();
        }
        for circuit in self.client.pump(&mut self.sim) {
            self.sim.close(0, circuit);
        }
        self.server.pump(&mut self.sim);
        let now = self.sim.now();
        self.client.linked.drain(..).for_each(|leg| self.upkeep.linked(now, leg));
        self.client.gone.drain(..).for_each(|leg| self.upkeep.gone(now, leg));
    }

    fn client_told(&mut self, told: Told) {
        let now = self.sim.now();
        match told {
            Told::Built { circuit } => {
                let Some((_, epoch, path)) = self.building.take().filter(|building| building.0 == circuit)
                else {
                    return;
                };
                let stream = self.sim.start_open(0, circuit).unwrap();
                self.opening = Some((stream, epoch, path));
            }
            Told::Opened { stream } => {
                let (_, epoch, path) = self.opening.take().unwrap();
                self.next_leg += 1;
                self.built += 1;
                let leg = LegId(self.next_leg);
                let relays = self.paths[path].iter().map(|&relay| id(relay)).collect();
                let wall = Timestamp::from_secs(now.as_secs());
                self.upkeep.built(wall, now, leg, epoch, relays);
                self.client.up(now, leg, stream, None);
            }
            Told::Closed { circuit, .. } => {
                let is_building = self.building.is_some_and(|building| building.0 == circuit);
                let is_opening = self.opening.is_some_and(|opening| opening.0.circuit == circuit);
                if is_building || is_opening {
                    (self.building, self.opening) = (None, None);
                    self.failed += 1;
                    self.upkeep.failed(now);
                }
                self.client.broken(now, |stream| stream.circuit == circuit);
            }
            Told::Reset { stream } => self.client.broken(now, |other| other == stream),
            _ => {}
        }
    }

    fn keep_up(&mut self) {
        let now = self.sim.now();
        let wall = Timestamp::from_secs(now.as_secs());
        if self.client.ended.is_some() {
            return;
        }
        while let Some(step) = self.upkeep.step(wall, now) {
            match step {
                Step::Retire { leg } => self.client.session.handle(now, Input::Retire { leg }),
                Step::Build { epoch, avoid } => {
                    let fits = |path: &Vec<usize>| path.iter().all(|&relay| !avoid.contains(&id(relay)));
                    let path = self.paths.iter().position(fits).unwrap_or(0);
                    let hops = [&[0], self.paths[path].as_slice(), &[self.destination]].concat();
                    match self.sim.start_build(&hops, epoch) {
                        Some(circuit) => self.building = Some((circuit, epoch, path)),
                        None => self.upkeep.failed(now),
                    }
                }
            }
        }
    }

    /// Takes the first frame of each new stream of the server.
    fn greet(&mut self) {
        let now = self.sim.now();
        for (stream, mut bytes) in core::mem::take(&mut self.greeting) {
            self.sim.take(self.destination, stream, &mut bytes);
            let Some((hello, rest)) = bytes.split_first_chunk() else {
                self.greeting.insert(stream, bytes);
                continue;
            };
            let hello = Hello::read(hello).unwrap();
            match self.registry.admit(now, stream.circuit, &hello) {
                Ok(Admission::New(_) | Admission::Join(_)) => {
                    self.next_leg += 1;
                    let leg = LegId(self.next_leg);
                    self.server.up(now, leg, stream, Some(&hello));
                    self.server.session.handle(now, Input::Received { leg, bytes: rest });
                }
                Err(refusal) => {
                    self.sim.send(self.destination, stream, &refusal.to_bytes());
                }
            }
        }
    }
}

fn id(node: usize) -> NodeId {
    NodeId::from_bytes([u8::try_from(node + 1).unwrap(); 32])
}
