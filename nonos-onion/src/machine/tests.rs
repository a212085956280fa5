#![expect(clippy::cast_possible_truncation, reason = "nodes are numbered below sixteen")]

mod build;
mod ended;
mod flood;
mod padding;
mod puzzle;
mod transit;

use nonos_identity::NetworkId;
use zeroize::Zeroizing;

use super::*;
use crate::cell::FRAGMENT_BYTES;
use crate::config::Limits;
use crate::descriptor::RelayDescriptor;
use crate::message::DATA_BYTES;
use crate::records::{CREATE_BYTES, RECORD_BYTES};

const NOW: Duration = Duration::from_secs(600_000);

/// What happens to a cell on its way: from, to, cell.
type Change = Box<dyn FnMut(u64, u64, &mut [u8])>;

/// Machines joined by links; `LinkId(a * 16 + b)` leads from node `a` to node `b`.
struct Mesh {
    machines: Vec<Machine>,
    events: Vec<Vec<Output>>,
    /// Cells as they were sent: from, to, bytes.
    trace: Vec<(u64, u64, Vec<u8>)>,
    /// Buffers from this node to that one are neither delivered nor given back.
    stuck: Option<(u64, u64)>,
    change: Change,
}

fn node(number: u64) -> NodeId {
    NodeId::from_bytes([u8::try_from(number).unwrap() | 0x40; 32])
}

impl Mesh {
    fn new(count: u8, adjust: impl Fn(u8, &mut Limits)) -> Self {
        let machines = (0..count)
            .map(|number| {
                let mut config = Config::new(NetworkId::from_name("mesh"), node(number.into()));
                adjust(number, &mut config.limits);
                let keys = EpochKeys::new(Zeroizing::new([number; 32]), Timestamp::from_secs(NOW.as_secs()));
                Machine::new(config, keys, NOW, [number; 32]).unwrap()
            })
            .collect();
        Self {
            machines,
            events: (0..count).map(|_| Vec::new()).collect(),
            trace: vec![],
            stuck: None,
            change: Box::new(|_, _, _| {}),
        }
    }

    fn path(&self) -> Vec<RelayDescriptor> {
        let epoch = Epoch::at(Timestamp::from_secs(NOW.as_secs()));
        (1..self.machines.len())
            .map(|number| {
                let onion_key = self.machines[number].onion_key(epoch).unwrap();
                crate::testing::descriptor(node(number as u64), number as u8, onion_key, epoch)
            })
            .collect()
    }

    /// Carries cells until nothing moves.
    fn run(&mut self) {
        while self.round() {}
    }

    /// Carries the cells that are queued now, each over one link; `false` if there are none.
    fn round(&mut self) -> bool {
        let mut outputs = Vec::new();
        for from in 0..self.machines.len() as u64 {
            while let Some(output) = self.machines[from as usize].poll() {
                outputs.push((from, output));
            }
        }
        let moved = !outputs.is_empty();
        for (from, output) in outputs {
            match output {
                Output::OpenLink { relay } => self.link(from, u64::from(relay.as_bytes()[0] & 0x3f)),
                Output::Cells { link, bytes } => self.carry(from, link, bytes),
                Output::CloseLink { link } => {
                    let to = link.0 % 16;
                    let back = LinkId(to * 16 + from);
                    self.machines[to as usize].handle(NOW, Input::LinkDown { link: back });
                }
                event => self.events[from as usize].push(event),
            }
        }
        moved
    }

    fn carry(&mut self, from: u64, link: LinkId, mut bytes: Vec<u8>) {
        let to = link.0 % 16;
        self.trace.push((from, to, bytes.clone()));
        if self.stuck == Some((from, to)) {
            return;
        }
        bytes.chunks_mut(CELL_BYTES).for_each(|cell| (self.change)(from, to, cell));
        let back = LinkId(to * 16 + from);
        self.machines[to as usize].handle(NOW, Input::Cells { link: back, bytes: bytes.clone() });
        self.machines[from as usize].handle(NOW, Input::Sent { link, buffer: bytes });
    }

    /// Lets the time of a node come to its deadline.
    fn tick(&mut self, number: usize) {
        let at = self.machines[number].deadline().unwrap();
        self.machines[number].handle(at, Input::Tick);
        self.run();
    }

    fn link(&mut self, from: u64, to: u64) {
        let near = Input::LinkUp { link: LinkId(from * 16 + to), peer: node(to), opened: true };
        let far = Input::LinkUp { link: LinkId(to * 16 + from), peer: node(from), opened: false };
        self.machines[to as usize].handle(NOW, far);
        self.machines[from as usize].handle(NOW, near);
    }

    /// A built circuit from node 0 through all others.
    fn build(&mut self) -> LocalCircuitId {
        let path = self.path();
        let circuit = self.machines[0].build(NOW, &path).unwrap();
        self.run();
        assert_eq!(self.events[0], [Output::Built { circuit }]);
        self.events[0].clear();
        circuit
    }

    /// An open stream of a circuit, at both ends.
    fn open(&mut self, circuit: LocalCircuitId) -> (StreamId, StreamId) {
        let near = self.machines[0].open(NOW, circuit, 80).unwrap();
        self.run();
        let last = self.machines.len() - 1;
        let Some(Output::Offered { stream: far, port: 80 }) = self.events[last].pop() else {
            panic!("offered")
        };
        self.machines[last].accept(NOW, far);
        self.run();
        assert_eq!(self.events[0].pop(), Some(Output::Opened { stream: near }));
        (near, far)
    }

    fn closed(&self, circuit: LocalCircuitId) -> Closed {
        self.events[0]
            .iter()
            .find_map(|event| match event {
                Output::Closed { circuit: id, closed, .. } if *id == circuit => Some(*closed),
                _ => None,
            })
            .expect("the circuit is closed")
    }
}

fn default(_: u8, _: &mut Limits) {}

#[test]
fn the_same_seeds_make_the_same_trace() {
    let run = || {
        let mut mesh = Mesh::new(4, default);
        let circuit = mesh.build();
        let (near, far) = mesh.open(circuit);
        mesh.machines[0].write(NOW, near, &[7; 5000]);
        mesh.run();
        let mut out = Vec::new();
        mesh.machines[3].read(NOW, far, usize::MAX, &mut out);
        assert_eq!(out, [7; 5000]);
        mesh.trace
    };
    assert_eq!(run(), run());
}

#[test]
fn a_relay_opens_nothing_but_its_own_extension() {
    let marker = b"only the ends may read this".as_slice();
    let mut mesh = Mesh::new(5, default);
    let circuit = mesh.build();
    let (near, _) = mesh.open(circuit);
    mesh.machines[0].write(NOW, near, marker);
    mesh.machines[0].pay(NOW, circuit, 2, b"coin").unwrap();
    mesh.run();
    let has = |number: usize, needle: &[u8]| {
        let opened = mesh.machines[number].opened_messages();
        opened.iter().any(|message| message.windows(needle.len()).any(|window| window == needle))
    };
    for relay in 1..=3 {
        for other in 0..5 {
            assert_eq!(
                has(relay, node(other).as_bytes()),
                other == relay as u64 + 1,
                "relay {relay}, node {other}"
            );
        }
        assert!(!has(relay, marker), "relay {relay}");
        assert_eq!(has(relay, b"coin"), relay == 3);
    }
    assert!(has(4, marker) && (0..4).all(|other| !has(4, node(other).as_bytes())));
}

/// The cells of one CREATE or EXTEND, and of their answers.
const MESSAGE_CELLS: usize = 8;

/// The CREATE cells of a first build from node 0 to node 1.
fn create_cells(mesh: &Mesh) -> Vec<u8> {
    let cells =
        mesh.trace.iter().filter(|(from, to, _)| (*from, *to) == (0, 1)).flat_map(|(_, _, cells)| cells);
    let cells: Vec<u8> = cells.copied().take(MESSAGE_CELLS * CELL_BYTES).collect();
    assert!(cells.chunks(CELL_BYTES).all(|cell| cell[4] == Command::Create as u8));
    cells
}

/// Sends cells from node 0's side of a link under another circuit id; yields the answer.
fn answer_to(mesh: &mut Mesh, cells: Vec<u8>) -> (u8, u8) {
    answer_at(mesh, NOW, cells, 1)
}

fn answer_at(mesh: &mut Mesh, now: Duration, mut cells: Vec<u8>, id: u8) -> (u8, u8) {
    for cell in cells.chunks_mut(CELL_BYTES) {
        cell[3] ^= id;
    }
    mesh.machines[1].handle(now, Input::Cells { link: LinkId(16), bytes: cells });
    loop {
        if let Output::Cells { bytes, .. } = mesh.machines[1].poll().expect("an answer") {
            return (bytes[4], bytes[6]);
        }
    }
}

#[test]
fn a_replayed_or_changed_create_is_refused() {
    const DESTROY: u8 = 4;
    let mut mesh = Mesh::new(2, default);
    mesh.build();
    let cells = create_cells(&mesh);
    assert_eq!(answer_to(&mut mesh, cells.clone()), (DESTROY, DestroyReason::Handshake as u8), "replayed");

    // A relay that has not seen it: same keys, so that the same bytes are valid there.
    let fresh = || {
        let mut mesh = Mesh::new(2, default);
        mesh.link(0, 1);
        mesh
    };
    assert_eq!(answer_to(&mut fresh(), cells.clone()).0, 3, "CREATED");
    // Header 6, fragment header 3: suite at 9, epoch at 10..18, slot at 18, nonce, key from 27, records from 59.
    let request = 59 + usize::from(cells[18]) * RECORD_BYTES;
    let at = |offset: usize| offset + (offset - 9) / FRAGMENT_BYTES * (CELL_BYTES - FRAGMENT_BYTES);
    let cases = [(9, "suite"), (17, "epoch"), (request, "ephemeral"), (request + 60, "payload")];
    for (offset, what) in cases {
        let mut changed = cells.clone();
        changed[at(offset)] ^= 1;
        // The head repeats the key.
        changed[27] ^= u8::from(offset == request);
        let refused = (DESTROY, DestroyReason::Handshake as u8);
        assert_eq!(answer_to(&mut fresh(), changed), refused, "{what}");
    }
    let mut moved = cells.clone();
    moved[18] = (moved[18] + 1) % 6;
    let there = 59 + usize::from(moved[18]) * RECORD_BYTES;
    (0..32).for_each(|byte| moved[27 + byte] = cells[at(there + byte)]);
    assert_eq!(answer_to(&mut fresh(), moved), (DESTROY, DestroyReason::Handshake as u8), "slot");
    let mut differs = cells.clone();
    differs[27] ^= 1;
    assert_eq!(answer_to(&mut fresh(), differs), (DESTROY, DestroyReason::Protocol as u8), "another key");
    let mut beyond = cells;
    beyond[18] = 6;
    assert_eq!(answer_to(&mut fresh(), beyond), (DESTROY, DestroyReason::Protocol as u8), "no slot");
}

/// A request of the old epoch counts once while its key lives on into the next one, and not at all after that.
#[test]
fn a_create_is_no_good_twice_on_either_side_of_an_epochs_edge() {
    const CREATED: u8 = 3;
    let refused = (4, DestroyReason::Handshake as u8);
    let cells = {
        let mut mesh = Mesh::new(2, default);
        mesh.build();
        create_cells(&mesh)
    };
    let epoch = Epoch::at(Timestamp::from_secs(NOW.as_secs()));
    let edge = Duration::from_secs(epoch.end().as_secs());
    let grace = Limits::default().epoch_grace;
    let (before, within, after) = (edge - Duration::from_secs(1), edge + grace / 2, edge + grace);
    for (first, again) in [(before, within), (before, after), (within, within), (within, after)] {
        let mut mesh = Mesh::new(2, default);
        mesh.link(0, 1);
        assert_eq!(answer_at(&mut mesh, first, cells.clone(), 1).0, CREATED, "{first:?}");
        assert_eq!(answer_at(&mut mesh, again, cells.clone(), 2), refused, "{first:?}, then {again:?}");
    }
    let mut late = Mesh::new(2, default);
    late.link(0, 1);
    assert_eq!(answer_at(&mut late, after, cells, 1), refused, "its key is gone");
}

#[test]
fn a_forged_sendme_ends_the_circuit() {
    let mut mesh = Mesh::new(4, default);
    let circuit = mesh.build();
    let (_, far) = mesh.open(circuit);
    // The destination sends enough that an acknowledgement is due, and the client forges it.
    mesh.machines[3].write(NOW, far, &vec![1; 40 * DATA_BYTES]);
    let forged = Message { stream: 0, kind: Kind::Sendme, more: false, data: &[9; 16] };
    mesh.machines[0].originate(circuit, 2, forged).unwrap();
    mesh.run();
    let expected = Closed { reason: DestroyReason::Protocol, blamed: Some(2) };
    assert_eq!(mesh.closed(circuit), expected);
}

#[test]
fn an_optimistic_sendme_ends_the_circuit() {
    let mut mesh = Mesh::new(3, default);
    let circuit = mesh.build();
    mesh.open(circuit);
    let early = Message { stream: 0, kind: Kind::Sendme, more: false, data: &[0; 16] };
    mesh.machines[0].originate(circuit, 1, early).unwrap();
    mesh.run();
    assert_eq!(mesh.closed(circuit).reason, DestroyReason::Protocol);
}

#[test]
fn a_sender_that_ignores_its_window_is_cut_off() {
    let small = |number: u8, limits: &mut Limits| {
        if number == 3 {
            limits.circuit_window_cells = 64;
            limits.stream_window_cells = 64;
        }
    };
    let mut mesh = Mesh::new(4, small);
    let circuit = mesh.build();
    let (near, _) = mesh.open(circuit);
    let written = mesh.machines[0].write(NOW, near, &vec![1; 200 * DATA_BYTES]);
    assert_eq!(written, 200 * DATA_BYTES);
    mesh.run();
    let expected = Closed { reason: DestroyReason::Protocol, blamed: Some(2) };
    assert_eq!(mesh.closed(circuit), expected);
}

#[test]
fn a_neighbour_that_never_reads_cannot_fill_a_relay() {
    // The client has room to send far more than the relays queue, and waits for no acknowledgement.
    let greedy = |number: u8, limits: &mut Limits| {
        if number == 0 || number == 3 {
            limits.stream_window_cells = Limits::STREAM_WINDOW_MAX_CELLS;
            limits.stream_window_max_cells = Limits::STREAM_WINDOW_MAX_CELLS;
        } else {
            limits.circuit_window_cells = 1024;
            limits.circuit_queue_cells = 2048;
        }
    };
    let mut mesh = Mesh::new(4, greedy);
    let circuit = mesh.build();
    let (near, _) = mesh.open(circuit);
    mesh.machines[0].with_mux(circuit, Mux::ignore_congestion);
    mesh.stuck = Some((2, 3));
    for _ in 0..30 {
        mesh.machines[0].write(NOW, near, &vec![1; 100 * DATA_BYTES]);
        mesh.run();
    }
    let expected = Closed { reason: DestroyReason::Queue, blamed: Some(1) };
    assert_eq!(mesh.closed(circuit), expected);
}

#[test]
fn a_relay_extends_neither_to_itself_nor_back_nor_twice() {
    for target in [1, 0] {
        let mut mesh = Mesh::new(2, default);
        let circuit = mesh.build();
        let extend = [node(target).as_bytes(), &[0; CREATE_BYTES][..]].concat();
        mesh.machines[0].originate_all(circuit, 0, Kind::Extend, &extend);
        mesh.run();
        // As the end of the path it has no right to speak of a hop behind it.
        assert_eq!(mesh.closed(circuit), Closed { reason: DestroyReason::Protocol, blamed: Some(0) });
    }
    let mut mesh = Mesh::new(3, default);
    let circuit = mesh.build();
    let extend = [node(2).as_bytes(), &[0; CREATE_BYTES][..]].concat();
    mesh.machines[0].originate_all(circuit, 0, Kind::Extend, &extend);
    mesh.run();
    assert_eq!(mesh.closed(circuit).reason, DestroyReason::Protocol);
}

#[test]
fn silence_is_a_timeout_that_blames_the_silent() {
    let mut mesh = Mesh::new(4, default);
    mesh.stuck = Some((2, 3));
    let path = mesh.path();
    let circuit = mesh.machines[0].build(NOW, &path).unwrap();
    mesh.run();
    assert!(mesh.machines[2].deadline().unwrap() <= NOW + Limits::default().hop_timeout);
    // Once as hop of a message to all, once as the last hop so far.
    mesh.tick(2);
    assert!(mesh.events[0].is_empty());
    mesh.tick(2);
    assert_eq!(mesh.closed(circuit), Closed { reason: DestroyReason::Timeout, blamed: Some(2) });
}

#[test]
fn payments_are_counted_and_capped() {
    let two = |_: u8, limits: &mut Limits| limits.payments_per_circuit = 2;
    let mut mesh = Mesh::new(3, two);
    let circuit = mesh.build();
    for _ in 0..3 {
        mesh.machines[0].pay(NOW, circuit, 0, b"coin").unwrap();
    }
    mesh.run();
    let paid = mesh.events[1].iter().filter(|event| matches!(event, Output::Paid(_))).count();
    assert_eq!((paid, mesh.closed(circuit).reason), (2, DestroyReason::Protocol));
}

#[test]
fn a_circuit_leaves_nothing_behind() {
    let mut mesh = Mesh::new(4, default);
    for _ in 0..3 {
        let circuit = mesh.build();
        let (near, _) = mesh.open(circuit);
        mesh.machines[0].write(NOW, near, &[1; 10_000]);
        mesh.run();
        mesh.machines[0].close(NOW, circuit);
        mesh.run();
        mesh.events.iter_mut().for_each(Vec::clear);
    }
    for machine in &mesh.machines {
        assert!(machine.circuits.is_empty() && machine.opening.values().all(Vec::is_empty));
        assert!(machine.links.values().all(|link| link.routes.is_empty() && link.created == 0));
        let leftover = |timer: &Timer| !matches!(timer, Timer::Keys | Timer::Stream(_));
        assert!(!machine.timers.iter().any(|(_, timer)| leftover(timer)));
    }
}
