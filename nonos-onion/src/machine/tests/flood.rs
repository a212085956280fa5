//! Floods, under virtual time.

use super::build::cells_with;
use super::*;
use crate::records::Draft;
use crate::testing::{LinkShape, Simulation, valid_create};

const SHAPE: LinkShape = LinkShape { latency: Duration::from_millis(10), bytes_per_second: 20_000_000 };
const QUOTA: usize = 8 << 20;
const BITS: u8 = 8;
/// Floods last so many milliseconds.
const LAST_MS: u64 = 2000;

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// A client, three relays, a destination, and an attacker with a link to node 1.
fn simulation(adjust: impl Fn(usize, &mut Limits)) -> Simulation {
    let mut sim = Simulation::new(6, SHAPE, |node, config| {
        (config.limits.memory_bytes, config.limits.puzzle_bits) = (QUOTA, BITS);
        adjust(node, &mut config.limits);
    });
    sim.build(&[5, 1]);
    sim
}

/// A transfer through all relays.
fn transfer(sim: &mut Simulation) -> StreamId {
    let circuit = sim.build(&[0, 1, 2, 3, 4]);
    let near = sim.open(0, circuit);
    sim.send_all(0, near);
    sim.offered(4)[0]
}

/// Bytes that arrive while something is done each millisecond.
fn goodput(sim: &mut Simulation, far: StreamId, mut flood: impl FnMut(&mut Simulation)) -> u64 {
    sim.run_for(ms(1000));
    let before = sim.received(4, far);
    for _ in 0..LAST_MS {
        flood(sim);
        sim.run_for(ms(1));
        for node in 0..5 {
            assert!(sim.held_bytes(node) <= QUOTA);
            assert!(sim.circuits(node) <= Limits::default().circuits_per_link + 2);
            assert!(sim.streams(node) <= 3 * Limits::default().streams_per_circuit);
        }
    }
    sim.received(4, far) - before
}

fn calm() -> u64 {
    let mut sim = simulation(|_, _| {});
    let far = transfer(&mut sim);
    goodput(&mut sim, far, |_| {})
}

/// Messages for node 1, all different: in turn without a nonce, with one that is wrong, and with one that was
/// solved for, if it is worth it.
struct Creates {
    sent: u32,
    solves: bool,
    key: [u8; 32],
}

impl Creates {
    fn next(&mut self) -> Vec<u8> {
        self.sent += 1;
        let number = self.sent.to_be_bytes();
        // The id that the opener of a link may choose.
        let id = 0x8000_0000 | self.sent;
        if self.solves {
            let epoch = Epoch::from_number(1000);
            let network = NetworkId::from_name("simulation");
            let seed = core::array::from_fn(|i| number[i % 4]);
            let mut draft =
                Draft::new(&network, epoch, &[(NodeId::from_bytes([2; 32]), self.key)], BITS, &seed);
            assert_eq!(draft.work(u32::MAX), Ok(true));
            return cells_with(id, &draft.finish().1.to_bytes());
        }
        let junk: Vec<u8> = (0..8000_u32).flat_map(|i| (i ^ self.sent).to_be_bytes()).take(7922).collect();
        let mut message = valid_create(&junk);
        message[1..9].copy_from_slice(&1000_u64.to_be_bytes());
        if self.sent.is_multiple_of(2) {
            message[10..18].fill(0);
        }
        cells_with(id, &message)
    }
}

fn creates(sim: &Simulation, solves: bool) -> Creates {
    Creates { sent: 0, solves, key: sim.onion_key(1) }
}

/// Two messages each millisecond, a CREATE for each handshake of four cores.
#[test]
fn a_flood_of_creates_costs_a_bounded_number_of_handshakes() {
    for solves in [false, true] {
        let mut sim = simulation(|_, _| {});
        let mut flood = creates(&sim, solves);
        let far = transfer(&mut sim);
        let before = sim.handshakes(1);
        let arrived = goodput(&mut sim, far, |sim| {
            for _ in 0..2 {
                let cells = flood.next();
                sim.inject(5, 1, &cells);
            }
        });
        let (handshakes, limits) = (sim.handshakes(1) - before, Limits::default());
        let seconds = 1 + u32::try_from(LAST_MS / 1000).unwrap();
        let mut most = limits.create_burst + seconds * limits.creates_per_second;
        if solves {
            most += limits.puzzled_create_burst + seconds * limits.puzzled_creates_per_second;
        }
        println!("{} CREATEs, {handshakes} handshakes of at most {most}; {arrived} B arrived", flood.sent);
        assert!(flood.sent > 6 * most && handshakes <= u64::from(most), "{handshakes}");
        assert!(handshakes > u64::from(most) / 2, "the flood got through nowhere: {handshakes}");
        let calm = calm();
        assert!(arrived * 2 >= calm, "{arrived} of {calm}");
    }
}

/// Of ten circuits begun under a flood, those that are built, and how long that took at most.
fn built(honest: usize, bits: u8) -> (usize, Duration) {
    let mut sim = simulation(|_, limits| limits.puzzle_bits = bits);
    let mut flood = creates(&sim, false);
    let mut attack = |sim: &mut Simulation| {
        for _ in 0..2 {
            let cells = flood.next();
            sim.inject(5, 1, &cells);
        }
        sim.run_for(ms(1));
    };
    (0..500).for_each(|_| attack(&mut sim));
    let (mut count, mut slowest) = (0, Duration::ZERO);
    for _ in 0..10 {
        let (circuit, start) = (sim.start(&[honest, 1, 2, 3, 4]), sim.now());
        let is_over = |output: &Output| match output {
            Output::Built { circuit: id } | Output::Closed { circuit: id, .. } => *id == circuit,
            _ => false,
        };
        while !sim.outputs(honest).iter().any(is_over) {
            attack(&mut sim);
        }
        count += usize::from(sim.outputs(honest).contains(&Output::Built { circuit }));
        slowest = slowest.max(sim.now() - start);
    }
    (count, slowest)
}

/// The honest come over the attacker's link, and over their own. Without puzzles the attacker denies its link to
/// all who share it.
#[test]
fn honest_circuits_are_built_under_a_flood_of_creates() {
    let (denied, own, same) = (built(5, 0), built(0, BITS), built(5, BITS));
    println!("own link {own:?}, the attacker's {same:?}, without puzzles {denied:?}");
    assert!(denied.0 <= 3, "{denied:?}");
    assert_eq!((own.0, same.0), (10, 10));
    // Two round trips of 80 ms, as the first message is refused, and what the flood has put on the link.
    assert!(own.1 <= ms(200) && same.1 <= ms(500), "{own:?} {same:?}");
}

/// Eight BEGINs each millisecond over two circuits, far beyond what a circuit may have open.
#[test]
fn a_flood_of_streams_is_bounded_and_leaves_half_of_the_goodput() {
    let mut sim = simulation(|node, limits| {
        if node == 5 {
            limits.streams_per_circuit = 60_000;
        }
    });
    let far = transfer(&mut sim);
    let circuits = [sim.build(&[5, 1, 2, 3, 4]), sim.build(&[5, 1, 2, 3, 4])];
    let mut begun = 0;
    let arrived = goodput(&mut sim, far, |sim| {
        for _ in 0..4 {
            circuits.iter().for_each(|&circuit| sim.begin(5, circuit));
            begun += 2;
        }
    });
    let calm = calm();
    println!("{begun} BEGINs, {} streams; {arrived} B of {calm} B arrived", sim.streams(4));
    assert!(sim.streams(4) >= 2 * Limits::default().streams_per_circuit, "the flood did not arrive");
    assert!(arrived * 2 >= calm, "{arrived} of {calm}");
}
