//! What directories keep, where, and what they refuse.

use core::time::Duration;

use nonos_onion::testing::{LinkShape, Simulation};

use super::*;

#[test]
fn an_index_differs_by_every_input() {
    let (blinded, other) = (point(1).auth_key, point(2).auth_key);
    let index = |name, blinded: PublicKey, replica, period: u64, random: u8| {
        let period = TimePeriod::from_number(period);
        DirectoryIndex::of(
            &NetworkId::from_name(name),
            &blinded,
            replica,
            period,
            &SharedRandom::from_bytes([random; 32]),
        )
    };
    let mut all = vec![
        index("a", blinded, 0, 1, 1),
        index("b", blinded, 0, 1, 1),
        index("a", other, 0, 1, 1),
        index("a", blinded, 1, 1, 1),
        index("a", blinded, 0, 2, 1),
        index("a", blinded, 0, 1, 2),
    ];
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 6);
}

#[test]
fn service_and_client_meet_at_the_same_indices() {
    let indices = service().indices(period(), &RANDOM);
    assert_eq!(indices, client(None).indices(period(), &RANDOM));
    assert_ne!(indices[0], indices[1]);
}

fn directory(limits: MemoryLimits) -> MemoryDirectory {
    let directory = MemoryDirectory::new(network(), limits);
    directory.advance(now(), [(period(), RANDOM)]);
    directory
}

#[tokio::test]
async fn a_directory_in_memory_keeps_the_contract() {
    let indices = service().indices(period(), &RANDOM);
    let elsewhere = DirectoryIndex::from_bytes([1; 32]);
    let directory = directory(MemoryLimits::default());
    check_directory(&directory, indices[0], elsewhere, revision(1), revision(2)).await;
    assert_eq!(directory.put(indices[1], revision(1)), Ok(()));
}

#[test]
fn a_directory_says_why_it_refuses() {
    let (index, directory) = (service().indices(period(), &RANDOM)[0], directory(MemoryLimits::default()));
    assert_eq!(directory.put(DirectoryIndex::from_bytes([1; 32]), revision(5)), Err(StoreError::Index));
    let too_long = vec![0; SignedDescriptor::MAX_BYTES + 1];
    let limit = SignedDescriptor::MAX_BYTES;
    let refused = RecordError::Decode(DecodeError::TooLong { len: limit + 1, limit });
    assert_eq!(directory.put(index, too_long), Err(StoreError::Record(refused)));
    assert_eq!(directory.put(index, revision(5)), Ok(()));
    assert_eq!(directory.put(index, revision(5)), Ok(()));
    let other = service().descriptor(&content(4), &Issue { revision: 5, ..issue(Access::Public) }, &SEED);
    let refused = StoreError::Revision { offered: 5, stored: 5 };
    assert_eq!(directory.put(index, other.unwrap()), Err(refused));
    assert_eq!(directory.put(index, revision(4)), Err(StoreError::Revision { offered: 4, stored: 5 }));
    let before = TimePeriod::from_number(period().number() - 1);
    let issue = Issue { period: before, ..issue(Access::Public) };
    let bytes = service().descriptor(&content(1), &issue, &SEED).unwrap();
    assert_eq!(directory.put(index, bytes), Err(StoreError::NoRandom(before)));
    assert_eq!(directory.find(index), Some(revision(5)));
}

#[test]
fn a_directory_is_bounded_and_forgets() {
    let index = |service: &Service| service.indices(period(), &RANDOM)[0];
    let other = Service::new(network(), &SigningKey::from_seed(&[2; 32])).unwrap();
    let other_bytes = other.descriptor(&content(1), &issue(Access::Public), &SEED).unwrap();
    let len = other_bytes.len();
    let bounds = [(1, usize::MAX), (usize::MAX, 2 * len - 1)];
    for (entries, bytes) in bounds {
        let directory = directory(MemoryLimits { entries, bytes });
        assert_eq!(directory.put(index(&service()), revision(1)), Ok(()));
        assert_eq!(directory.put(index(&other), other_bytes.clone()), Err(StoreError::Full));
        assert_eq!(directory.put(index(&service()), revision(2)), Ok(()), "in the place of the old one");
        let later = issue(Access::Public).expiry.start();
        directory.advance(Timestamp::from_secs(later.as_secs() - 1), []);
        assert_eq!(directory.find(index(&service())), Some(revision(2)));
        directory.advance(later, []);
        assert_eq!(directory.find(index(&service())), None);
        let expired = RecordError::Expired(issue(Access::Public).expiry);
        assert_eq!(directory.put(index(&service()), revision(3)), Err(StoreError::Record(expired)));
        let renewed = Issue { expiry: Epoch::at(later).next(), ..issue(Access::Public) };
        let renewed = other.descriptor(&content(1), &renewed, &SEED).unwrap();
        assert_eq!(directory.put(index(&other), renewed), Ok(()), "what is forgotten takes no room");
    }
    let full = directory(MemoryLimits { entries: 2, bytes: 2 * len });
    assert_eq!(full.put(index(&service()), revision(1)), Ok(()));
    assert_eq!(full.put(index(&other), other_bytes), Ok(()));
}

/// Records that a directory keeps at a time, in the flood.
const ENTRIES: usize = 64;
const QUOTA: usize = 8 << 20;

/// A valid record of each of many services, and where it belongs.
fn records(count: u8) -> Vec<(DirectoryIndex, Vec<u8>)> {
    let record = |number| {
        let service = Service::new(network(), &SigningKey::from_seed(&[number; 32])).unwrap();
        let bytes = service.descriptor(&content(3), &issue(Access::Public), &[number; 32]).unwrap();
        (service.indices(period(), &RANDOM)[0], bytes)
    };
    (1..=count).map(record).collect()
}

/// Milliseconds of a flood until it has sent as much of late as the upload beside it: until then its circuit goes first.
const SETTLE_MS: u64 = 3000;
const MEASURE_MS: u64 = 1000;

/// Bytes that a client's upload to a directory's node brings in a second, which begins so long after somebody began to
/// upload a record in each of so many milliseconds over the same relays; and how many of these the directory was given,
/// kept and refused.
fn beside_a_flood(records: &[(DirectoryIndex, Vec<u8>)], every_ms: u64, settle_ms: u64) -> (u64, [usize; 3]) {
    let shape = LinkShape { latency: Duration::from_millis(10), bytes_per_second: 20_000_000 };
    let mut sim = Simulation::new(6, shape, |_, config| config.limits.memory_bytes = QUOTA);
    let honest = sim.build(&[0, 1, 2, 3, 4]);
    let near = sim.open(0, honest);
    sim.send_all(0, near);
    let attack = sim.build(&[5, 1, 2, 3, 4]);
    let flood = sim.open(5, attack);
    let [far, arriving] = *sim.offered(4) else { panic!("two streams") };
    let record_bytes = records[0].1.len();
    let directory = directory(MemoryLimits { entries: ENTRIES, bytes: ENTRIES * record_bytes });
    sim.run_for(Duration::from_secs(1));
    let (mut before, mut waiting, mut next, mut told) = (0, Vec::new(), 0, [0; 3]);
    for ms in 0..settle_ms + MEASURE_MS {
        if ms == settle_ms {
            before = sim.received(4, far);
        }
        if ms.is_multiple_of(every_ms) {
            waiting.extend_from_slice(&records[next % records.len()].1);
            next += 1;
        }
        let sent = sim.send(5, flood, &waiting);
        waiting.drain(..sent);
        sim.run_for(Duration::from_millis(1));
        let whole = usize::try_from(sim.received(4, arriving)).unwrap() / record_bytes;
        for (index, bytes) in records.iter().cycle().take(whole).skip(told[0]) {
            match directory.put(*index, bytes.clone()) {
                Ok(()) => told[1] += 1,
                Err(error) => {
                    assert_eq!(error, StoreError::Full);
                    told[2] += 1;
                }
            }
        }
        told[0] = whole;
        assert!((0..5).all(|node| sim.held_bytes(node) <= QUOTA));
    }
    assert!(records.iter().filter(|(index, _)| directory.find(*index).is_some()).count() <= ENTRIES);
    (sim.received(4, far) - before, told)
}

#[test]
fn a_flood_of_descriptors_is_bounded_and_leaves_half_of_the_goodput() {
    let records = records(200);
    let (calm, [one, ..]) = beside_a_flood(&records, u64::MAX, 0);
    assert!(one <= 1);
    // Eight megabytes a second from its first moment, and sixteen of the twenty that the links carry.
    for (every_ms, settle_ms) in [(2, 0), (1, SETTLE_MS)] {
        let (beside, [given, kept, refused]) = beside_a_flood(&records, every_ms, settle_ms);
        println!("{given} records, {kept} kept, {refused} refused; {beside} B of {calm} B arrived");
        assert!(given > 400 && refused > given / 2, "the flood did not arrive: {given}, {refused} refused");
        assert!(beside * 2 >= calm, "{beside} of {calm}");
    }
}
