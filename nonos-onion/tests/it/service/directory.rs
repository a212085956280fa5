//! What directories keep, where, and what they refuse.

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
