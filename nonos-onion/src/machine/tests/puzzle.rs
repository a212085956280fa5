//! What gets in where CREATEs are refused.

use nonos_identity::NetworkId;

use super::build::{cells_with, creates, works};
use super::*;
use crate::records::Draft;

const BITS: u8 = 8;

/// A node takes one CREATE, and then none for a second.
fn busy(number: u8) -> impl Fn(u8, &mut Limits) {
    move |node, limits| {
        limits.puzzle_bits = BITS;
        if node == number {
            (limits.creates_per_second, limits.create_burst) = (1, 1);
        }
    }
}

/// Lets a client solve its puzzles and carries what comes of it; yields in how many pieces.
fn solve(mesh: &mut Mesh) -> usize {
    let mut pieces = 0;
    while mesh.machines[0].deadline() == Some(NOW) {
        mesh.machines[0].handle(NOW, Input::Tick);
        mesh.run();
        pieces += 1;
    }
    pieces
}

/// Builds through all nodes; yields how many pieces of a puzzle it took.
fn build(mesh: &mut Mesh) -> (LocalCircuitId, usize) {
    let path = mesh.path();
    let circuit = mesh.machines[0].build(NOW, &path).unwrap();
    mesh.run();
    (circuit, solve(mesh))
}

#[test]
fn a_puzzle_gets_past_a_busy_hop_wherever_it_is() {
    for hops in [1, 3, 6] {
        for hop in 1..=hops {
            let mut mesh = Mesh::new(hops + 1, busy(hop));
            mesh.build();
            let (circuit, pieces) = build(&mut mesh);
            assert!(pieces > 0, "{hop} of {hops}");
            assert_eq!(mesh.events[0], [Output::Built { circuit }], "{hop} of {hops}");
            // Still one message for all hops: one that was refused, one with puzzles.
            assert_eq!(creates(&mesh, 1), 3);
            mesh.events.iter_mut().for_each(Vec::clear);
            works(&mut mesh, circuit);
        }
    }
}

#[test]
fn nobody_solves_before_it_is_told_to() {
    let mut mesh = Mesh::new(4, |_, limits| limits.puzzle_bits = BITS);
    assert_eq!(build(&mut mesh).1, 0);
}

/// A relay that asks for more than a client spends, and one that takes no puzzles.
#[test]
fn a_hop_that_is_busy_all_the_same_is_named_by_telescoping() {
    for bits in [0, 20] {
        let adjust = |node: u8, limits: &mut Limits| {
            busy(2)(node, limits);
            if node == 2 {
                limits.puzzle_bits = bits;
            }
        };
        let mut mesh = Mesh::new(4, adjust);
        mesh.build();
        let (circuit, _) = build(&mut mesh);
        assert_eq!(mesh.closed(circuit), Closed { reason: DestroyReason::Busy, blamed: Some(1) });
        // Each way once.
        assert_eq!(creates(&mesh, 1), 1 + 3);
        assert!(mesh.machines.iter().all(|machine| machine.solving.is_empty()));
    }
}

/// One that says so at once, and again: the client spends no more than two messages' puzzles.
#[test]
fn a_client_without_puzzles_fails_as_busy() {
    let adjust = |node: u8, limits: &mut Limits| {
        busy(1)(node, limits);
        if node == 0 {
            limits.puzzle_bits = 0;
        }
    };
    let mut mesh = Mesh::new(2, adjust);
    mesh.build();
    let (circuit, pieces) = build(&mut mesh);
    let expected = Closed { reason: DestroyReason::Busy, blamed: Some(0) };
    assert_eq!((mesh.closed(circuit), pieces), (expected, 0));
}

/// A message for node 1 with a puzzle of so many bits.
fn puzzled(mesh: &Mesh, bits: u8, seed: u8) -> Vec<u8> {
    let epoch = Epoch::at(Timestamp::from_secs(NOW.as_secs()));
    let path = [(node(1), mesh.machines[1].onion_key(epoch).unwrap())];
    let mut draft = Draft::new(&NetworkId::from_name("mesh"), epoch, &path, bits, &[seed; 32]);
    assert_eq!(draft.work(u32::MAX), Ok(true));
    draft.finish().1.to_bytes()
}

/// The first byte of the answer to a message, a reason if it is a DESTROY, and the handshakes it cost.
fn ask(mesh: &mut Mesh, id: u32, message: &[u8]) -> (u8, u8, u64) {
    let before = mesh.machines[1].handshakes();
    let (command, first) = answer_to(mesh, cells_with(id, message));
    let link = LinkId(16);
    mesh.machines[1].handle(NOW, Input::Sent { link, buffer: Vec::new() });
    while let Some(output) = mesh.machines[1].poll() {
        if let Output::Cells { link, bytes } = output {
            mesh.machines[1].handle(NOW, Input::Sent { link, buffer: bytes });
        }
    }
    let cost = mesh.machines[1].handshakes() - before;
    (command, if command == Command::Destroy as u8 { first } else { 0 }, cost)
}

const TAKEN: (u8, u8, u64) = (Command::Created as u8, 0, 1);
const REFUSED: (u8, u8, u64) = (Command::Destroy as u8, DestroyReason::Busy as u8, 0);

/// A node 1 whose bucket is empty.
fn exhausted() -> Mesh {
    let mut mesh = Mesh::new(2, busy(1));
    mesh.build();
    mesh
}

#[test]
fn what_does_not_solve_the_puzzle_costs_one_hash_and_is_refused() {
    let message = puzzled(&exhausted(), BITS, 1);
    assert_eq!(ask(&mut exhausted(), 0x8000_0100, &message), TAKEN);
    // The epoch, the nonce and the key of the head; all that a solution is bound to and a message carries.
    for (at, what) in [(8, "epoch"), (17, "nonce"), (18, "key"), (49, "key")] {
        for bit in 0..8 {
            let mut changed = message.clone();
            changed[at] ^= 1 << bit;
            let answer = ask(&mut exhausted(), 0x8000_0100, &changed);
            // A changed bit solves it by chance once in 256 times: these do not.
            assert_eq!(answer, REFUSED, "{what}, bit {bit} of byte {at}");
        }
    }
    let mut none = message.clone();
    none[10..18].fill(0);
    assert_eq!(ask(&mut exhausted(), 0x8000_0100, &none), REFUSED);
    let easy = (0..20).filter(|&seed| {
        let message = puzzled(&exhausted(), BITS - 4, seed);
        ask(&mut exhausted(), 0x8000_0100, &message) == TAKEN
    });
    assert!(easy.count() < 8, "four bits less pass once in sixteen times");
}

/// The same keys everywhere, so that only the puzzle can tell.
#[test]
fn a_solution_for_another_relay_is_none() {
    let taken = (0..20_u8).filter(|&seed| {
        let mut mesh = exhausted();
        let message = puzzled(&mesh, BITS, seed);
        mesh.machines[1].config.node = node(2);
        ask(&mut mesh, 0x8000_0100, &message) != REFUSED
    });
    assert!(taken.count() <= 1, "by chance once in 256 times");
}

#[test]
fn a_solution_works_once() {
    let mut mesh = exhausted();
    let message = puzzled(&mesh, BITS, 1);
    assert_eq!(ask(&mut mesh, 0x8000_0100, &message), TAKEN);
    assert_eq!(ask(&mut mesh, 0x8000_0200, &message), REFUSED);
    // Not even one that was spent on a request which was none, and never entered the replay set.
    let mut junk = puzzled(&mesh, BITS, 2);
    let request = 50 + usize::from(junk[9]) * RECORD_BYTES;
    junk[request + 100] ^= 1;
    let failed = (Command::Destroy as u8, DestroyReason::Handshake as u8, 1);
    assert_eq!(ask(&mut mesh, 0x8000_0300, &junk), failed);
    assert_eq!(ask(&mut mesh, 0x8000_0400, &junk), REFUSED);
    junk[request + 100] ^= 1;
    assert_eq!(ask(&mut mesh, 0x8000_0500, &junk), REFUSED);
}

#[test]
fn solutions_have_a_rate_of_their_own() {
    let mut mesh = Mesh::new(2, |node, limits| {
        busy(1)(node, limits);
        (limits.puzzled_creates_per_second, limits.puzzled_create_burst) = (2, 3);
    });
    mesh.build();
    let taken = |mesh: &mut Mesh, round: u32| {
        (0..6)
            .filter(|n| {
                let message = puzzled(mesh, BITS, u8::try_from(round * 6 + n).unwrap());
                ask(mesh, 0x8000_0100 + ((round * 6 + n) << 4), &message) == TAKEN
            })
            .count()
    };
    assert_eq!(taken(&mut mesh, 0), 3);
    mesh.machines[1].handle(NOW + Duration::from_secs(1), Input::Tick);
    // One by the bucket for everybody, two by the other.
    assert_eq!(taken(&mut mesh, 1), 3);
}

/// Two links, each within its own limit, and a third that has sent nothing.
#[test]
fn many_links_together_make_all_solve() {
    let few = |_: u8, limits: &mut Limits| {
        limits.puzzle_bits = BITS;
        limits.all_creates_per_second = 2;
    };
    let mut mesh = Mesh::new(4, few);
    let path = mesh.path();
    for (client, must_solve) in [(2, false), (3, false), (0, true)] {
        let circuit = mesh.machines[client].build(NOW, &path[..1]).unwrap();
        mesh.run();
        let is_solving = !mesh.machines[client].solving.is_empty();
        assert_eq!(is_solving, must_solve, "client {client}");
        solve(&mut mesh);
        assert_eq!(mesh.events[client], [Output::Built { circuit }], "client {client}");
    }
    assert!(Limits { all_creates_per_second: 0, ..Limits::default() }.check().is_err());
}

/// Who holds what it gets fills three quarters; the rest is for who solves.
#[test]
fn circuits_that_are_held_leave_room_for_who_solves() {
    let few = |_: u8, limits: &mut Limits| {
        limits.puzzle_bits = BITS;
        limits.circuits_per_link = 4;
    };
    let mut mesh = Mesh::new(2, few);
    for (held, must_solve) in [(0, false), (1, false), (2, false), (3, true)] {
        let (circuit, pieces) = build(&mut mesh);
        assert_eq!(
            (mesh.events[0].last(), pieces > 0),
            (Some(&Output::Built { circuit }), must_solve),
            "{held}"
        );
    }
    let (circuit, _) = build(&mut mesh);
    assert_eq!(mesh.closed(circuit).reason, DestroyReason::Busy);
}

#[test]
fn an_epoch_whose_handshakes_are_used_up_still_takes_solutions() {
    let few = |_: u8, limits: &mut Limits| {
        limits.puzzle_bits = BITS;
        limits.creates_per_epoch = 2;
    };
    let mut mesh = Mesh::new(2, few);
    for must_solve in [false, false, true, true] {
        let (circuit, pieces) = build(&mut mesh);
        assert_eq!((mesh.events[0].last(), pieces > 0), (Some(&Output::Built { circuit }), must_solve));
    }
    let (circuit, _) = build(&mut mesh);
    assert_eq!(mesh.closed(circuit).reason, DestroyReason::Busy);
}

#[test]
fn a_puzzle_that_no_client_would_wait_for_is_no_configuration() {
    let limits = Limits { puzzle_bits: 25, ..Limits::default() };
    assert!(limits.check().is_err());
}
