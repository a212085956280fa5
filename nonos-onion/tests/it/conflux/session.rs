//! Two sessions, or one and a peer that means no good, over legs in memory.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use nonos_onion::conflux::{
    Config, ConfigError, Fault, FrameError, Hello, Input, LegFault, LegId, Nonce, Output, Refusal,
    SEGMENT_BYTES, Session, WriteError,
};
use proptest::prelude::*;

use crate::conflux::simulated::Application;

/// One end, what it has for the other one by each leg, and what it told.
struct Side {
    session: Session,
    application: Application,
    out: BTreeMap<LegId, VecDeque<u8>>,
    told: Vec<Output>,
}

impl Side {
    fn new(session: Session, salt: u8) -> Self {
        Self { session, application: Application::new(salt), out: BTreeMap::new(), told: Vec::new() }
    }

    /// Takes outputs, and what legs are to carry.
    fn settle(&mut self, now: Duration) {
        for (&leg, queue) in &mut self.out {
            let room = (64 << 10) - queue.len().min(64 << 10);
            let mut bytes = Vec::new();
            self.session.transmit(now, leg, room, &mut bytes);
            queue.extend(bytes);
        }
        while let Some(output) = self.session.poll() {
            self.told.push(output);
        }
    }
}

/// A client (0) and a server (1).
struct Pair {
    sides: [Side; 2],
    /// Ends that are done with a leg.
    retired: BTreeSet<(usize, LegId)>,
    now: Duration,
    next_leg: u64,
}

impl Pair {
    fn new(config: &Config) -> Self {
        let now = Duration::from_secs(100);
        let client = Session::connect(config, now, Nonce::from_bytes([7; 32])).unwrap();
        let server = Session::accept(config, now).unwrap();
        Self {
            sides: [Side::new(client, 0), Side::new(server, !0)],
            retired: BTreeSet::new(),
            now,
            next_leg: 0,
        }
    }

    fn legs(&self) -> Vec<LegId> {
        self.sides[0].out.keys().copied().collect()
    }

    fn up(&mut self) {
        if self.sides.iter().any(|side| side.session.ended().is_some())
            || self.legs().len() >= Config::MAX_LEGS
        {
            return;
        }
        self.next_leg += 1;
        let leg = LegId(self.next_leg);
        let [client, server] = &mut self.sides;
        client.session.handle(self.now, Input::LegUp { leg, hello: None });
        let mut hello = Vec::new();
        client.session.transmit(self.now, leg, Hello::BYTES, &mut hello);
        let hello = Hello::read(hello.first_chunk().unwrap()).unwrap();
        server.session.handle(self.now, Input::LegUp { leg, hello: Some(&hello) });
        client.out.insert(leg, VecDeque::new());
        server.out.insert(leg, VecDeque::new());
        self.settle();
    }

    /// A leg breaks: what it had not delivered is gone.
    fn down(&mut self, leg: LegId) {
        for side in &mut self.sides {
            side.out.remove(&leg);
            side.session.handle(self.now, Input::LegDown { leg });
        }
        self.settle();
    }

    /// A leg delivers some bytes one way.
    fn deliver(&mut self, from: usize, leg: LegId, count: usize) {
        let Some(queue) = self.sides[from].out.get_mut(&leg) else { return };
        let bytes: Vec<u8> = queue.drain(..count.min(queue.len())).collect();
        self.sides[1 - from].session.handle(self.now, Input::Received { leg, bytes: &bytes });
        self.settle();
        let is_empty = self.sides[from].out.get(&leg).is_some_and(VecDeque::is_empty);
        if is_empty && self.retired.contains(&(from, leg)) {
            // Whoever has read all of it is done with it too: its end takes nothing away.
            assert!(self.retired.contains(&(1 - from, leg)), "{:?}", self.sides[1 - from].session);
            self.sides.iter_mut().for_each(|side| drop(side.out.remove(&leg)));
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.sides.iter_mut().for_each(|side| side.session.handle(self.now, Input::Tick));
        self.settle();
    }

    fn settle(&mut self) {
        let now = self.now;
        self.sides.iter_mut().for_each(|side| side.settle(now));
        // A stream that one end gives up breaks for the other one, once it has read what was sent.
        for at in 0..2 {
            for output in core::mem::take(&mut self.sides[at].told) {
                match output {
                    Output::Lost { leg, .. } => {
                        self.sides[at].out.remove(&leg);
                        self.sides[1 - at].out.remove(&leg);
                        self.sides[1 - at].session.handle(now, Input::LegDown { leg });
                    }
                    Output::Retired { leg } => drop(self.retired.insert((at, leg))),
                    _ => {}
                }
            }
        }
    }

    fn run_applications(&mut self) {
        for side in &mut self.sides {
            side.application.run(&mut side.session);
        }
        self.settle();
    }

    /// Delivers everything until both ends are done.
    fn finish(&mut self) {
        for side in &mut self.sides {
            side.application.reads_nothing = false;
        }
        for _ in 0..2000 {
            self.run_applications();
            for side in &mut self.sides {
                if side.application.written == side.application.goal {
                    side.session.finish();
                }
            }
            if self.sides.iter().all(|side| side.session.ended().is_some()) {
                return;
            }
            if self.legs().is_empty() {
                self.up();
            }
            for leg in self.legs() {
                self.deliver(0, leg, usize::MAX);
                self.deliver(1, leg, usize::MAX);
            }
            self.pass(Duration::from_millis(30));
        }
        panic!("not done: {:?} {:?}", self.sides[0].session, self.sides[1].session);
    }
}

#[derive(Clone, Debug)]
enum Action {
    Up,
    Down(usize),
    Retire(usize, usize),
    Write(usize, u64),
    Run,
    Deliver(usize, usize, usize),
    Pass(u64),
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let action = prop_oneof![
        2 => Just(Action::Up),
        1 => (0..4_usize).prop_map(Action::Down),
        1 => (0..2_usize, 0..4_usize).prop_map(|(end, leg)| Action::Retire(end, leg)),
        4 => (0..2_usize, 1..60_000_u64).prop_map(|(end, bytes)| Action::Write(end, bytes)),
        4 => Just(Action::Run),
        12 => (0..2_usize, 0..4_usize, 1..40_000_usize).prop_map(|(from, leg, n)| Action::Deliver(from, leg, n)),
        3 => (1..4000_u64).prop_map(Action::Pass),
    ];
    prop::collection::vec(action, 0..120)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    /// Legs of any speed that come, break and retire at any moment.
    #[test]
    fn what_is_written_is_read_in_order_and_once(actions in actions()) {
        let mut pair = Pair::new(&Config { receive_max_bytes: 1 << 20, ..Config::default() });
        pair.up();
        for action in actions {
            let legs = pair.legs();
            let leg = |at: usize| legs.get(at % legs.len().max(1)).copied();
            match action {
                Action::Up => pair.up(),
                Action::Down(at) => leg(at).into_iter().for_each(|leg| pair.down(leg)),
                Action::Retire(end, at) => if let Some(leg) = leg(at) {
                    pair.sides[end].session.handle(pair.now, Input::Retire { leg });
                    pair.settle();
                },
                Action::Write(end, bytes) => pair.sides[end].application.goal += bytes,
                Action::Run => pair.run_applications(),
                Action::Deliver(from, at, count) => {
                    leg(at).into_iter().for_each(|leg| pair.deliver(from, leg, count));
                }
                Action::Pass(milliseconds) => pair.pass(Duration::from_millis(milliseconds)),
            }
            for side in &pair.sides {
                prop_assert!(side.session.held_bytes() < (5 << 20) + (256 << 10));
            }
        }
        pair.finish();
        for (at, side) in pair.sides.iter().enumerate() {
            prop_assert_eq!(side.session.ended(), Some(None));
            prop_assert_eq!(side.application.received, pair.sides[1 - at].application.goal);
            prop_assert!(side.application.at_end);
            prop_assert_eq!(side.session.held_bytes(), 0);
        }
    }
}

const NOW: Duration = Duration::from_secs(9);
const LEG: LegId = LegId(1);

fn frame(kind: u8, numbers: &[u64]) -> Vec<u8> {
    let numbers = numbers.iter().flat_map(|number| number.to_be_bytes());
    [kind].into_iter().chain(numbers).collect()
}

fn data(offset: u64, bytes: &[u8]) -> Vec<u8> {
    [&frame(5, &[offset])[..], &u16::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
}

/// A server with one leg, whose client is the test.
fn server(config: &Config) -> Session {
    let mut session = Session::accept(config, NOW).unwrap();
    let hello = [&[1][..], &[3; 32], &0_u64.to_be_bytes(), &u64::MAX.to_be_bytes()].concat();
    let hello = Hello::read(hello.first_chunk().unwrap()).unwrap();
    session.handle(NOW, Input::LegUp { leg: LEG, hello: Some(&hello) });
    assert_eq!(taken(&mut session), frame(3, &[0, config.receive_bytes as u64]));
    session
}

fn receive(session: &mut Session, bytes: &[u8]) {
    session.handle(NOW, Input::Received { leg: LEG, bytes });
}

/// What a session has for its leg.
fn taken(session: &mut Session) -> Vec<u8> {
    let mut out = Vec::new();
    session.transmit(NOW, LEG, usize::MAX, &mut out);
    out
}

#[test]
fn a_peer_that_breaks_the_protocol_ends_the_session() {
    let faults = [
        (frame(99, &[]), Fault::Frame(FrameError::Kind(99))),
        (frame(1, &[0; 6]), Fault::Frame(FrameError::Kind(1))),
        (frame(3, &[0, 0]), Fault::Frame(FrameError::Kind(3))),
        (vec![4, 1], Fault::Frame(FrameError::Kind(4))),
        (vec![4, 9], Fault::Frame(FrameError::Reason(9))),
        (data(0, &[]), Fault::Frame(FrameError::Length(0))),
        (data(0, &[0; SEGMENT_BYTES + 1]), Fault::Frame(FrameError::Length(7958))),
        (data(512 << 10, b"x"), Fault::Credit),
        (data(u64::MAX, b"x"), Fault::Credit),
        ([data(0, b"abc"), data(2, b"cd")].concat(), Fault::Overlap),
        ([data(5, b"abc"), data(4, b"xyz")].concat(), Fault::Overlap),
        ([frame(7, &[3]), data(0, b"abcd")].concat(), Fault::End),
        ([frame(7, &[3]), frame(7, &[4])].concat(), Fault::End),
        ([data(0, b"abc"), frame(7, &[2])].concat(), Fault::End),
        // Five bytes were sent in one frame.
        (frame(6, &[2, 0, 5]), Fault::Acknowledgement),
        (frame(6, &[1, 6, 6]), Fault::Acknowledgement),
        (frame(6, &[1, 3, 9]), Fault::Acknowledgement),
        (frame(6, &[1, 5, 4]), Fault::Acknowledgement),
        ([frame(6, &[1, 5, 9]), frame(6, &[0, 5, 9])].concat(), Fault::Acknowledgement),
        ([frame(8, &[]), data(0, b"x")].concat(), Fault::Retired),
        ([frame(8, &[]), frame(8, &[])].concat(), Fault::Retired),
        (frame(9, &[]), Fault::Reset),
    ];
    for (bytes, fault) in faults {
        for step in [bytes.len(), 1] {
            let mut session = server(&Config::default());
            session.write(b"hello").unwrap();
            assert_eq!(taken(&mut session).len(), 16);
            bytes.chunks(step).for_each(|bytes| receive(&mut session, bytes));
            assert_eq!(session.ended(), Some(Some(fault)), "{bytes:?}");
            let reset: &[u8] = if fault == Fault::Reset { &[] } else { &[9] };
            assert_eq!(taken(&mut session), reset);
            assert_eq!(session.write(b"x"), Err(WriteError::Ended(fault)));
            assert!(
                std::iter::from_fn(|| session.poll())
                    .any(|told| told == Output::Ended { fault: Some(fault) })
            );
        }
    }
}

/// A part of a frame has left when the session is given up, and much comes after.
#[test]
fn a_reset_cuts_no_frame_and_holds_nothing() {
    let mut pair = Pair::new(&Config::default());
    pair.up();
    pair.deliver(1, LegId(1), usize::MAX);
    let [client, server] = &mut pair.sides;
    client.session.write(&[1; 100_000]).unwrap();
    let mut sent = Vec::new();
    client.session.transmit(NOW, LegId(1), 5000, &mut sent);
    client.session.reset();
    for _ in 0..100 {
        client.session.handle(NOW, Input::Received { leg: LegId(1), bytes: &[7; 10_000] });
    }
    assert!(client.session.held_bytes() < 32 << 10, "{}", client.session.held_bytes());
    client.session.transmit(NOW, LegId(1), usize::MAX, &mut sent);
    assert_eq!(client.session.held_bytes(), 0);
    for bytes in [&client.out[&LegId(1)].iter().copied().collect::<Vec<u8>>(), &sent] {
        server.session.handle(NOW, Input::Received { leg: LegId(1), bytes });
    }
    assert_eq!(server.session.ended(), Some(Some(Fault::Reset)));
}

#[test]
fn what_arrived_before_a_reset_is_read() {
    let mut session = server(&Config::default());
    receive(&mut session, &[data(0, b"abc"), frame(9, &[])].concat());
    let mut out = Vec::new();
    assert!(session.read(2, &mut out).unwrap().more);
    assert!(session.read(2, &mut out).is_ok_and(|read| !read.more && !read.end) || out == b"abc");
    assert_eq!(session.read(2, &mut out), Err(Fault::Reset));

    // And all of it, if that is what there is.
    let mut session = server(&Config::default());
    receive(&mut session, &[data(0, b"abc"), frame(7, &[3]), frame(9, &[])].concat());
    assert!(session.read(9, &mut out).unwrap().end);
    assert!(session.read(9, &mut out).unwrap().end);
}

#[test]
fn a_peer_that_never_acknowledges_holds_a_bounded_memory() {
    let config = Config { send_bytes: 1 << 20, ..Config::default() };
    let mut session = server(&config);
    let mut written = 0;
    loop {
        match session.write(&[1; 30_000]).unwrap() {
            0 => break,
            count => written += count,
        }
        taken(&mut session);
    }
    assert_eq!(written, 1 << 20);
    assert!(session.held_bytes() <= (1 << 20) + (32 << 10), "{}", session.held_bytes());
    assert!(taken(&mut session).is_empty(), "what is in flight is bounded too");
    // Pieces of one byte are as many as the other end may keep.
    let mut session = server(&config);
    let mut frames = 0;
    while session.write(b"x").unwrap() == 1 && frames < 2 * Config::MAX_SEGMENTS {
        frames += usize::from(!taken(&mut session).is_empty());
    }
    assert_eq!(frames, Config::MAX_SEGMENTS);
    // A leg that delivers nothing is given up.
    session.handle(NOW + Duration::from_secs(1), Input::Tick);
    assert!(std::iter::from_fn(|| session.poll()).all(|told| !matches!(told, Output::Lost { .. })));
    session.handle(NOW + Duration::from_secs(10), Input::Tick);
    let lost = Output::Lost { leg: LEG, fault: LegFault::Stalled };
    assert!(std::iter::from_fn(|| session.poll()).any(|told| told == lost));
    // And a session without legs.
    session.handle(NOW + Duration::from_secs(10) + config.patience, Input::Tick);
    assert_eq!(session.ended(), Some(Some(Fault::Abandoned)));
}

#[test]
fn a_peer_that_sends_far_offsets_or_faster_than_anybody_reads_holds_a_bounded_memory() {
    let config = Config { receive_bytes: 100_000, receive_max_bytes: 200_000, ..Config::default() };
    let mut session = server(&config);
    for offset in (1000..100_000).step_by(1000) {
        receive(&mut session, &data(offset, &[1; 1000]));
    }
    assert_eq!((session.ended(), session.held_bytes()), (None, 99_000));
    assert!(taken(&mut session).len() < 1000);
    receive(&mut session, &data(100_000, b"x"));
    assert_eq!(session.ended(), Some(Some(Fault::Credit)));

    // The window grew with a reader that kept up, and then stopped.
    let mut session = server(&config);
    let (mut sent, mut limit, mut out) = (0, 100_000, Vec::new());
    for round in 0..1000_u64 {
        while sent + 1000 <= limit {
            receive(&mut session, &data(sent, &[2; 1000]));
            sent += 1000;
        }
        assert!(session.held_bytes() <= 200_000 + 25 * 16, "{}", session.held_bytes());
        if round < 20 {
            session.read(usize::MAX, &mut out).unwrap();
            out.clear();
        }
        let acks = taken(&mut session);
        if let Some(last) = acks.rchunks(25).next() {
            assert_eq!((last[0], u64::from_be_bytes(*last[9..].first_chunk().unwrap())), (6, sent));
            limit = u64::from_be_bytes(*last[17..].first_chunk().unwrap());
        }
    }
    assert_eq!((session.ended(), session.held_bytes()), (None, 200_000));

    // A peer that sends and takes no acknowledgement.
    let mut session = server(&config);
    for _ in 0..100_000 {
        receive(&mut session, &data(0, b"x"));
        session.transmit(NOW, LEG, 0, &mut out);
    }
    assert!(session.held_bytes() < 20_000, "{}", session.held_bytes());

    // What a node ends for its memory holds none.
    let mut session = server(&config);
    receive(&mut session, &[data(0, b"abc"), data(5, b"xyz"), frame(7, &[8])].concat());
    session.write(&[1; 50_000]).unwrap();
    session.overload();
    assert_eq!(session.read(9, &mut out), Err(Fault::Overload));
    assert_eq!((taken(&mut session), session.held_bytes()), (vec![9], 0));
}

#[test]
fn a_client_hears_why_it_is_refused() {
    for (byte, refusal) in [(1, Refusal::Unknown), (2, Refusal::Sessions), (3, Refusal::Circuit)] {
        let mut session = Session::connect(&Config::client(), NOW, Nonce::from_bytes([1; 32])).unwrap();
        session.handle(NOW, Input::LegUp { leg: LEG, hello: None });
        receive(&mut session, &[4, byte]);
        assert_eq!(session.ended(), Some(Some(Fault::Refused(refusal))));
    }
    // One leg too many is no reason to give up the others.
    let mut session = Session::connect(&Config::client(), NOW, Nonce::from_bytes([1; 32])).unwrap();
    session.handle(NOW, Input::LegUp { leg: LEG, hello: None });
    assert_eq!(taken(&mut session)[0], 1, "the first leg opens");
    session.handle(NOW, Input::LegUp { leg: LegId(2), hello: None });
    receive(&mut session, &frame(3, &[0, 1 << 20]));
    session.handle(NOW, Input::Received { leg: LegId(2), bytes: &[4, 4] });
    assert_eq!(session.ended(), None);
    session.handle(NOW, Input::LegUp { leg: LegId(3), hello: None });
    let mut hello = Vec::new();
    session.transmit(NOW, LegId(3), usize::MAX, &mut hello);
    assert_eq!((hello[0], hello.len()), (2, Hello::BYTES), "later ones join");
    // One that is never answered.
    session.handle(NOW + Duration::from_secs(10), Input::Tick);
    let lost = Output::Lost { leg: LegId(3), fault: LegFault::Unanswered };
    assert!(std::iter::from_fn(|| session.poll()).any(|told| told == lost));
    assert_eq!(session.ended(), None);
}

/// A request goes with the first frame, and the answer with the first one back.
#[test]
fn the_first_bytes_wait_for_no_answer() {
    let mut pair = Pair::new(&Config::default());
    pair.sides[0].application.goal = 100_000;
    pair.run_applications();
    pair.up();
    pair.deliver(0, LegId(1), usize::MAX);
    pair.run_applications();
    assert!(pair.sides[1].application.received >= 16 << 10, "{}", pair.sides[1].application.received);
    while pair.sides[0].out[&LegId(1)].iter().next().is_some() {
        pair.deliver(0, LegId(1), usize::MAX);
    }
    pair.run_applications();
    let first = Config::FIRST_CREDIT_BYTES as u64;
    assert_eq!(pair.sides[1].application.received, first, "no more before the answer");
    pair.finish();
    assert_eq!(pair.sides[1].application.received, 100_000);
}

/// The other end waits for credit, and the leg that told of it breaks.
#[test]
fn credit_that_was_lost_with_a_leg_is_told_by_another() {
    let mut session = server(&Config::default());
    let hello = [&[2][..], &[3; 32], &0_u64.to_be_bytes(), &u64::MAX.to_be_bytes()].concat();
    let hello = Hello::read(hello.first_chunk().unwrap()).unwrap();
    let (other, mut told) = (LegId(2), Vec::new());
    session.handle(NOW, Input::LegUp { leg: other, hello: Some(&hello) });
    session.transmit(NOW, other, usize::MAX, &mut told);
    for offset in (0..512 << 10).step_by(4096) {
        receive(&mut session, &data(offset, &[1; 4096]));
    }
    taken(&mut session);
    session.read(usize::MAX, &mut Vec::new()).unwrap();
    let lost = taken(&mut session);
    assert_eq!(lost[17..], (1_u64 << 20 | 1 << 19).to_be_bytes());
    session.handle(NOW, Input::LegDown { leg: LEG });
    told.clear();
    session.transmit(NOW, other, usize::MAX, &mut told);
    assert_eq!(told, frame(6, &[0, 512 << 10, 1 << 20 | 1 << 19]));
}

#[test]
fn limits_that_do_not_work_are_refused() {
    let refused = |change: fn(&mut Config)| {
        let mut config = Config::default();
        change(&mut config);
        Session::accept(&config, NOW).map(|_| ()).unwrap_err()
    };
    let least = Config::FIRST_CREDIT_BYTES;
    assert_eq!(refused(|config| config.receive_bytes = 65_535), ConfigError::Receive { least });
    assert_eq!(refused(|config| config.receive_max_bytes = 1), ConfigError::Receive { least: 512 << 10 });
    assert_eq!(refused(|config| config.send_bytes = 1000), ConfigError::Send);
    assert_eq!(refused(|config| config.patience = Duration::ZERO), ConfigError::Zero("patience"));
    assert_eq!(refused(|config| config.sessions = 0), ConfigError::Zero("sessions"));
    assert_eq!(refused(|config| config.sessions_per_circuit = 0), ConfigError::Zero("sessions_per_circuit"));
}
