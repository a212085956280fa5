//! Circuits built by one message, and what happens where it fails.

use super::*;
use crate::config::ConfigError;
use crate::handshake::Suite;
use crate::records::{Create, Pending};

/// The cells of a command on a link, in order.
fn cells_of(mesh: &Mesh, from: u64, to: u64, command: Command) -> Vec<Vec<u8>> {
    let bytes = mesh.trace.iter().filter(|(a, b, _)| (*a, *b) == (from, to)).flat_map(|(_, _, cells)| cells);
    let bytes: Vec<u8> = bytes.copied().collect();
    let cells = bytes.chunks(CELL_BYTES).filter(|cell| cell[4] == command as u8);
    cells.map(<[u8]>::to_vec).collect()
}

/// CREATE messages that a node got from the one before it.
pub(super) fn creates(mesh: &Mesh, node: u64) -> usize {
    cells_of(mesh, node - 1, node, Command::Create).len() / MESSAGE_CELLS
}

/// Flips a bit of the `nth` cell of a command on a link.
fn flip(link: (u64, u64), command: Command, nth: usize, offset: usize) -> Change {
    let mut seen = 0;
    Box::new(move |from, to, cell| {
        if (from, to) == link && cell[4] == command as u8 {
            if seen == nth {
                cell[offset] ^= 1;
            }
            seen += 1;
        }
    })
}

/// Flips a bit in each message of a command on a link.
fn spoil(link: (u64, u64), command: Command) -> Change {
    let mut seen = 0;
    Box::new(move |from, to, cell| {
        if (from, to) == link && cell[4] == command as u8 {
            // One cell is less than a record, so that one is hit in each message.
            cell[500] ^= u8::from(seen % MESSAGE_CELLS == 3);
            seen += 1;
        }
    })
}

/// Bytes go to the last node and back.
pub(super) fn works(mesh: &mut Mesh, circuit: LocalCircuitId) {
    let (near, far) = mesh.open(circuit);
    let last = mesh.machines.len() - 1;
    mesh.machines[0].write(NOW, near, b"there");
    mesh.machines[last].write(NOW, far, b"back");
    mesh.run();
    for (number, stream, expected) in [(last, far, &b"there"[..]), (0, near, b"back")] {
        let mut out = Vec::new();
        mesh.machines[number].read(NOW, stream, usize::MAX, &mut out);
        assert_eq!(out, expected);
    }
}

#[test]
fn a_circuit_of_any_length_is_built_in_one_round_trip() {
    for hops in 1..=6_u8 {
        let mut mesh = Mesh::new(hops + 1, default);
        (0..u64::from(hops)).for_each(|node| mesh.link(node, node + 1));
        let path = mesh.path();
        let circuit = mesh.machines[0].build(NOW, &path).unwrap();
        let mut rounds = 0;
        while mesh.events[0].is_empty() && mesh.round() {
            rounds += 1;
        }
        // Each link once there and once back, and the round in which the event is taken.
        assert_eq!((rounds, &mesh.events[0][..]), (2 * hops + 1, &[Output::Built { circuit }][..]));
        for node in 1..=u64::from(hops) {
            assert_eq!(creates(&mesh, node), 1, "node {node}");
            let there = mesh.trace.iter().filter(|(from, to, _)| (*from, *to) == (node - 1, node));
            let bytes: usize = there.map(|(_, _, cells)| cells.len()).sum();
            assert_eq!(bytes, MESSAGE_CELLS * CELL_BYTES, "nothing but one message of one size");
            let back = cells_of(&mesh, node, node - 1, Command::Created);
            assert_eq!(back.len(), MESSAGE_CELLS);
        }
        mesh.events[0].clear();
        works(&mut mesh, circuit);
    }
}

#[test]
fn telescoping_messages_have_the_same_size_and_shape() {
    let mut mesh = Mesh::new(5, default);
    mesh.change = flip((3, 4), Command::Create, 2, 100);
    let circuit = mesh.build();
    for node in 1..=4 {
        let cells = cells_of(&mesh, node - 1, node, Command::Create);
        let fragments: Vec<_> = cells.iter().map(|cell| (cell[6], cell[7], cell[8])).collect();
        let (first, second) = fragments.split_at(MESSAGE_CELLS);
        assert_eq!(first, second, "node {node}");
    }
    // From the first hop on all but the first message travel inside of layers.
    let relayed = cells_of(&mesh, 0, 1, Command::Relay).len();
    assert_eq!(relayed, 3 * MESSAGE_CELLS);
    works(&mut mesh, circuit);
}

#[test]
fn no_body_of_a_build_is_seen_on_two_links() {
    let mut mesh = Mesh::new(7, default);
    mesh.build();
    let mut seen = BTreeSet::new();
    for (_, _, bytes) in &mesh.trace {
        for cell in bytes.chunks(CELL_BYTES) {
            // Pieces of 64 bytes: no part of a record is carried on, only the zeros at the end.
            for piece in cell[32..992].chunks(64).filter(|piece| piece.iter().any(|&byte| byte != 0)) {
                assert!(seen.insert(piece.to_vec()));
            }
        }
    }
}

#[test]
fn a_flipped_bit_makes_the_client_telescope_and_never_gives_wrong_keys() {
    for hop in 0..3 {
        for (link, command) in [((hop, hop + 1), Command::Create), ((hop + 1, hop), Command::Created)] {
            for nth in 0..MESSAGE_CELLS {
                let mut mesh = Mesh::new(4, default);
                mesh.change = flip(link, command, nth, 200 + 80 * nth);
                let circuit = mesh.build();
                assert_eq!(creates(&mesh, 1), 2, "link {link:?}, cell {nth}");
                works(&mut mesh, circuit);
            }
        }
    }
}

#[test]
fn who_spoils_every_message_is_found_by_telescoping() {
    for hop in 0..3 {
        let (near, far) = (hop, hop + 1);
        for (link, command) in [((near, far), Command::Create), ((far, near), Command::Created)] {
            let mut mesh = Mesh::new(4, default);
            mesh.change = spoil(link, command);
            let path = mesh.path();
            let circuit = mesh.machines[0].build(NOW, &path).unwrap();
            mesh.run();
            let expected = Closed { reason: DestroyReason::Handshake, blamed: Some(hop as usize) };
            assert_eq!(mesh.closed(circuit), expected, "link {link:?}");
            assert_eq!(creates(&mesh, 1), 2);
            assert!(!mesh.events[0].contains(&Output::Built { circuit }));
        }
    }
}

#[test]
fn a_hop_that_drops_all_is_blamed_by_the_clients_own_time() {
    let mut mesh = Mesh::new(4, default);
    mesh.stuck = Some((2, 3));
    let path = mesh.path();
    let circuit = mesh.machines[0].build(NOW, &path).unwrap();
    mesh.run();
    // The build has one timeout, then each hop.
    for tick in 1..=2 {
        assert!(mesh.events[0].is_empty());
        assert_eq!(mesh.machines[0].deadline(), Some(NOW + tick * Limits::default().hop_timeout));
        mesh.tick(0);
    }
    assert_eq!(mesh.closed(circuit), Closed { reason: DestroyReason::Timeout, blamed: Some(2) });
}

#[test]
fn a_circuit_is_rebuilt_once_and_one_hop_not_at_all() {
    for (hops, tries) in [(1, 1), (2, 2)] {
        let mut mesh = Mesh::new(hops + 1, default);
        mesh.change = spoil((0, 1), Command::Create);
        let path = mesh.path();
        let circuit = mesh.machines[0].build(NOW, &path).unwrap();
        mesh.run();
        let expected = Closed { reason: DestroyReason::Handshake, blamed: Some(0) };
        assert_eq!((mesh.closed(circuit), creates(&mesh, 1)), (expected, tries));
    }
}

#[test]
fn failed_builds_leave_nothing_behind() {
    for command in [Command::Create, Command::Created] {
        let mut mesh = Mesh::new(5, default);
        mesh.change = spoil(if command == Command::Create { (2, 3) } else { (3, 2) }, command);
        let path = mesh.path();
        let circuit = mesh.machines[0].build(NOW, &path).unwrap();
        mesh.run();
        assert_eq!(mesh.closed(circuit).blamed, Some(2));
        for machine in &mesh.machines {
            assert!(machine.circuits.is_empty() && machine.opening.values().all(Vec::is_empty));
            assert!(machine.links.values().all(|link| link.routes.is_empty() && link.created == 0));
            assert!(machine.timers.iter().all(|(_, timer)| *timer == Timer::Keys));
        }
    }
}

/// A CREATE message of a strange client through nodes of the mesh, as cells for node 1.
fn strange_create(mesh: &Mesh, nodes: &[usize], change: impl FnOnce(&mut Create)) -> Vec<u8> {
    let epoch = Epoch::at(Timestamp::from_secs(NOW.as_secs()));
    let hop = |&number: &usize| (node(number as u64), mesh.machines[number].onion_key(epoch).unwrap());
    let path: Vec<_> = nodes.iter().map(hop).collect();
    let network = NetworkId::from_name("mesh");
    let (_, mut create) = Pending::start(&network, epoch, &path, &[77; 32]).unwrap();
    change(&mut create);
    let message = create.to_bytes();
    cells_with(0x8000_0100, &message)
}

/// A CREATE message as cells of a circuit id.
pub(super) fn cells_with(id: u32, message: &[u8]) -> Vec<u8> {
    let fragments = crate::cell::Fragment::of(message).map(|fragment| {
        let mut body = [0; BODY_BYTES];
        fragment.write(&mut body);
        [&crate::cell::header(id, Command::Create)[..], &body].concat()
    });
    fragments.flatten().collect()
}

#[test]
fn a_record_leads_neither_back_nor_to_its_own_relay() {
    for nodes in [[1, 0], [1, 1]] {
        let mut mesh = Mesh::new(3, default);
        mesh.link(0, 1);
        let cells = strange_create(&mesh, &nodes, |_| {});
        assert_eq!(answer_to(&mut mesh, cells), (4, DestroyReason::Protocol as u8), "{nodes:?}");
        assert!(mesh.machines[1].circuits.is_empty());
    }
}

#[test]
fn a_message_is_opened_once_wherever_it_comes_from() {
    let mut mesh = Mesh::new(4, default);
    mesh.build();
    let before = mesh.machines[2].opened_messages().len();
    // The second hop's neighbour repeats what it has forwarded, under a new circuit id.
    let mut cells = cells_of(&mesh, 1, 2, Command::Create).concat();
    cells.chunks_mut(CELL_BYTES).for_each(|cell| cell[3] ^= 1);
    mesh.machines[2].handle(NOW, Input::Cells { link: LinkId(33), bytes: cells });
    let Some(Output::Cells { bytes, .. }) = mesh.machines[2].poll() else { panic!("no answer") };
    assert_eq!((bytes[4], bytes[6]), (Command::Destroy as u8, DestroyReason::Handshake as u8));
    assert_eq!(mesh.machines[2].opened_messages().len(), before);
}

#[test]
fn nothing_but_records_passes_a_relay_before_they_are_back() {
    // From both neighbours of node 1, which waits for the answer.
    for (circuit_of, link) in [((0, 1), LinkId(16)), ((1, 2), LinkId(18))] {
        let mut mesh = Mesh::new(4, default);
        mesh.stuck = Some((2, 3));
        let path = mesh.path();
        mesh.machines[0].build(NOW, &path).unwrap();
        mesh.run();
        let mut cell = cells_of(&mesh, circuit_of.0, circuit_of.1, Command::Create)[0].clone();
        cell[4] = Command::Relay as u8;
        mesh.machines[1].handle(NOW, Input::Cells { link, bytes: cell });
        assert!(mesh.machines[1].circuits.is_empty(), "{link:?}");
    }
}

#[test]
fn a_first_hop_that_speaks_before_it_answers_is_blamed() {
    let mut mesh = Mesh::new(3, default);
    mesh.stuck = Some((1, 2));
    let path = mesh.path();
    let circuit = mesh.machines[0].build(NOW, &path).unwrap();
    mesh.run();
    let mut cell = cells_of(&mesh, 0, 1, Command::Create)[0].clone();
    cell[4] = Command::Relay as u8;
    mesh.machines[0].handle(NOW, Input::Cells { link: LinkId(1), bytes: cell });
    mesh.run();
    assert_eq!(mesh.closed(circuit), Closed { reason: DestroyReason::Protocol, blamed: Some(0) });
}

#[test]
fn a_relay_that_opens_a_link_keeps_the_message_until_it_has_it() {
    let mut mesh = Mesh::new(3, default);
    mesh.link(0, 1);
    let path = mesh.path();
    let circuit = mesh.machines[0].build(NOW, &path).unwrap();
    for _ in 0..2 {
        while let Some(output) = mesh.machines[0].poll() {
            if let Output::Cells { link, bytes } = output {
                mesh.carry(0, link, bytes);
            }
        }
    }
    assert_eq!(mesh.machines[1].poll(), Some(Output::OpenLink { relay: node(2) }));
    assert_eq!(mesh.machines[1].poll(), None);
    mesh.link(1, 2);
    mesh.run();
    assert_eq!(mesh.events[0], [Output::Built { circuit }]);
}

#[test]
fn more_hops_than_records_are_no_configuration() {
    let limits = Limits { hops: 7, ..Limits::default() };
    assert_eq!(limits.check(), Err(ConfigError::Hops { hops: 7, max: 6 }));
    assert_eq!(Limits { hops: 6, ..Limits::default() }.check(), Ok(()));
}

/// The client's suite is every hop's; its messages cannot be told by their size.
#[test]
fn a_client_chooses_the_suite() {
    let build = |suite| {
        let mut mesh = Mesh::new(4, default);
        mesh.machines[0].config.suite = suite;
        let circuit = mesh.build();
        works(&mut mesh, circuit);
        let suites: Vec<u8> =
            (0..3).map(|hop| cells_of(&mesh, hop, hop + 1, Command::Create)[0][9]).collect();
        (suites, create_cells(&mesh).len())
    };
    let (hybrid, classical) = (build(Suite::Hybrid), build(Suite::Classical));
    assert_eq!((hybrid.0, classical.0), (vec![1; 3], vec![2; 3]));
    assert_eq!(hybrid.1, classical.1);
}

/// A relay that tells the next hop of the other suite gets no circuit, whichever the client chose.
#[test]
fn nobody_changes_the_suite_on_the_way() {
    for (suite, told) in [(Suite::Hybrid, 2), (Suite::Classical, 1), (Suite::Hybrid, 0), (Suite::Hybrid, 3)] {
        let mut mesh = Mesh::new(4, default);
        mesh.machines[0].config.suite = suite;
        mesh.change = Box::new(move |from, to, cell| {
            let first = cell[4] == Command::Create as u8 && cell[9] == suite as u8 && cell[10..16] == [0; 6];
            if (from, to) == (1, 2) && first {
                cell[9] = told;
            }
        });
        let path = mesh.path();
        let circuit = mesh.machines[0].build(NOW, &path).unwrap();
        mesh.run();
        assert!(
            mesh.events[0].iter().all(|event| *event != Output::Built { circuit }),
            "{suite:?} as {told}"
        );
    }
}
