//! What is left to read of a stream whose circuit has gone.

use super::*;

const BYTES: usize = 20_000;

fn gone(mesh: &Mesh, number: usize) -> Vec<&Output> {
    mesh.events[number].iter().filter(|event| !matches!(event, Output::Readable { .. })).collect()
}

/// A circuit that its client closes after it has sent, and ended the stream if `ends`.
fn sent_and_closed(ends: bool, adjust: impl Fn(u8, &mut Limits)) -> (Mesh, StreamId) {
    let mut mesh = Mesh::new(4, adjust);
    let circuit = mesh.build();
    let (near, far) = mesh.open(circuit);
    assert_eq!(mesh.machines[0].write(NOW, near, &[7; BYTES]), BYTES);
    if ends {
        mesh.machines[0].finish(NOW, near);
    }
    mesh.machines[0].close(NOW, circuit);
    mesh.run();
    (mesh, far)
}

#[test]
fn a_stream_that_had_ended_is_read_to_its_end() {
    let (mut mesh, far) = sent_and_closed(true, default);
    let events = gone(&mesh, 3);
    assert!(
        matches!(events[..], [Output::Closed { .. }, Output::Stopped { stream }] if *stream == far),
        "{events:?}"
    );
    let machine = &mut mesh.machines[3];
    assert!(machine.is_readable(far) && machine.held_bytes() >= BYTES);
    assert_eq!(machine.write(NOW, far, b"nobody reads this"), 0);
    let mut out = Vec::new();
    let first = machine.read(NOW, far, BYTES / 2, &mut out);
    assert!(first.more && !first.end);
    let last = machine.read(NOW, far, BYTES, &mut out);
    assert!(last.end && out == [7; BYTES]);
    assert!(!machine.is_readable(far) && machine.circuits.is_empty());
    assert_eq!(machine.held_bytes(), 0);
}

#[test]
fn one_that_had_not_is_broken() {
    let (mut mesh, far) = sent_and_closed(false, default);
    assert!(matches!(gone(&mesh, 3)[..], [Output::Closed { .. }]));
    let machine = &mut mesh.machines[3];
    let mut out = Vec::new();
    machine.read(NOW, far, BYTES, &mut out);
    assert!(!machine.is_readable(far) && out.is_empty() && machine.circuits.is_empty());
    assert_eq!(machine.held_bytes(), 0);
}

#[test]
fn a_reader_that_gives_up_frees_it() {
    let (mut mesh, far) = sent_and_closed(true, default);
    mesh.machines[3].reset(NOW, far);
    assert!(mesh.machines[3].circuits.is_empty() && mesh.machines[3].held_bytes() == 0);
}

#[test]
fn the_quota_counts_it_and_takes_it_back() {
    const KIB: usize = 1024;
    let tight = |number: u8, limits: &mut Limits| {
        if number == 3 {
            limits.memory_bytes = 256 * KIB;
        }
    };
    let mut mesh = Mesh::new(4, tight);
    let circuits = [mesh.build(), mesh.build()];
    let [(first, far), (second, other)] = circuits.map(|circuit| mesh.open(circuit));
    let fill = |mesh: &mut Mesh, stream, bytes: usize| {
        let mut sent = 0;
        while sent < bytes {
            sent += mesh.machines[0].write(NOW, stream, &vec![8; bytes - sent]);
            mesh.run();
        }
    };
    fill(&mut mesh, first, 180 * KIB);
    mesh.machines[0].finish(NOW, first);
    mesh.machines[0].close(NOW, circuits[0]);
    mesh.run();
    assert!(mesh.machines[3].is_readable(far));
    fill(&mut mesh, second, 100 * KIB);
    assert!(mesh.events[3].contains(&Output::Reset { stream: far }), "{:?}", mesh.events[3]);
    let machine = &mut mesh.machines[3];
    assert!(!machine.is_readable(far) && machine.held_bytes() <= 256 * KIB);
    let mut out = Vec::new();
    machine.read(NOW, other, usize::MAX, &mut out);
    assert_eq!(out.len(), 100 * KIB);
}
