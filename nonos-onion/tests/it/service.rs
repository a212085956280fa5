//! Descriptors of onion services between a service, honest and lying directories, and clients.

use nonos_identity::domains::ONION_CHECKSUM;
use nonos_identity::wire::{self, DecodeError, Wire};
use nonos_identity::{
    AdmitError, Digest, Epoch, NetworkId, NodeId, OnionAddress, OnionAddressError, OnionNetwork, PublicKey,
    SignatureError, SigningKey, StaticSecret, Timestamp,
};
use nonos_onion::service::{
    Access, Client, DescriptorError, DirectoryIndex, IntroductionPoint, Issue, IssueError, MAX_CLIENTS,
    MAX_COPIES, MemoryDirectory, MemoryLimits, Opened, PeriodKeys, PointsError, RecordError, Service,
    ServiceDescriptor, SharedRandom, SignedDescriptor, StoreError, TimePeriod, WrongNetwork,
    validate_for_store,
};
use nonos_onion::testing::{arb_service_descriptor, check_directory, fuzz_service_descriptor};
use proptest::collection::vec;
use proptest::prelude::*;

mod directory;

const RANDOM: SharedRandom = SharedRandom::from_bytes([0x5a; 32]);
const SEED: [u8; 32] = [9; 32];
const PINNED: &str = include_str!("../vectors/service.txt");

/// A quarter of an hour after noon of some day: an epoch has just begun.
fn now() -> Timestamp {
    Timestamp::from_secs(20_000 * 86_400 + 12 * 3_600 + 900)
}

fn period() -> TimePeriod {
    TimePeriod::at(now())
}

fn network() -> NetworkId {
    NetworkId::from_name("test")
}

fn service() -> Service {
    Service::new(network(), &SigningKey::from_seed(&[1; 32])).unwrap()
}

fn client(key: Option<u8>) -> Client {
    Client::new(network(), &service().address(), key.map(secret)).unwrap()
}

fn secret(number: u8) -> StaticSecret {
    StaticSecret::from_bytes(&[number; 32])
}

fn publics(numbers: &[u8]) -> Vec<[u8; 32]> {
    numbers.iter().map(|number| secret(*number).public()).collect()
}

fn point(number: u8) -> IntroductionPoint {
    IntroductionPoint {
        relay: NodeId::from_bytes([number; 32]),
        onion_key: [number.wrapping_add(50); 32],
        epoch: Epoch::at(now()),
        auth_key: SigningKey::from_seed(&[number; 32]).public(),
        encryption_key: secret(number.wrapping_add(100)).public(),
    }
}

fn content(points: u8) -> ServiceDescriptor {
    ServiceDescriptor::new((1..=points).map(point).collect()).unwrap()
}

fn issue(access: Access<'_>) -> Issue<'_> {
    let expiry = Epoch::from_number(Epoch::at(now()).number() + SignedDescriptor::MAX_LIFETIME_EPOCHS);
    Issue { period: period(), revision: 7, expiry, access }
}

fn public_descriptor() -> Vec<u8> {
    service().descriptor(&content(3), &issue(Access::Public), &SEED).unwrap()
}

fn revision(number: u64) -> Vec<u8> {
    let issue = Issue { revision: number, ..issue(Access::Public) };
    service().descriptor(&content(3), &issue, &SEED).unwrap()
}

fn open(client: &Client, bytes: &[u8]) -> Result<Opened, DescriptorError> {
    client.open(period(), bytes, now(), None)
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[test]
fn who_knows_the_address_reads_a_public_descriptor() {
    let opened = open(&client(None), &public_descriptor()).unwrap();
    assert_eq!(opened.descriptor, content(3));
    assert_eq!((opened.revision, opened.expiry), (7, issue(Access::Public).expiry));
    assert_eq!(opened.keys, PeriodKeys::of(&network(), &service().address().key(), period()));
    assert_eq!(open(&client(Some(1)), &public_descriptor()).unwrap().descriptor, content(3));
}

#[test]
fn of_a_closed_service_only_authorised_clients_read() {
    let all = publics(&[1, 2, 3]);
    let bytes = service().descriptor(&content(3), &issue(Access::Clients(&all)), &SEED).unwrap();
    for number in [1, 2, 3] {
        assert_eq!(open(&client(Some(number)), &bytes).unwrap().descriptor, content(3));
    }
    for key in [None, Some(4)] {
        assert_eq!(open(&client(key), &bytes), Err(DescriptorError::NotAuthorised), "{key:?}");
    }
}

#[test]
fn a_revoked_client_reads_the_next_descriptor_no_more() {
    let both = publics(&[1, 2]);
    let before = service().descriptor(&content(3), &issue(Access::Clients(&both)), &SEED).unwrap();
    assert!(open(&client(Some(1)), &before).is_ok());
    let next = Issue { revision: 8, ..issue(Access::Clients(&both[1..])) };
    let after = service().descriptor(&content(3), &next, &SEED).unwrap();
    assert_eq!(open(&client(Some(1)), &after), Err(DescriptorError::NotAuthorised));
    assert!(open(&client(Some(2)), &after).is_ok());
    // Who revokes the last client has not opened the service to all.
    let nobody = service().descriptor(&content(3), &issue(Access::Clients(&[])), &SEED).unwrap();
    for key in [None, Some(1), Some(2)] {
        assert_eq!(open(&client(key), &nobody), Err(DescriptorError::NotAuthorised), "{key:?}");
    }
}

#[test]
fn another_address_opens_nothing() {
    let other = Service::new(network(), &SigningKey::from_seed(&[2; 32])).unwrap();
    let stranger = Client::new(network(), &other.address(), None).unwrap();
    assert_eq!(open(&stranger, &public_descriptor()), Err(DescriptorError::Foreign));
}

/// All the words that a directory sees are those it must see, and what it could hash from them is no key.
#[test]
fn a_directory_reads_nothing_but_the_header() {
    let listed = publics(&[1]);
    let bytes = service().descriptor(&content(3), &issue(Access::Clients(&listed)), &SEED).unwrap();
    let hidden = content(3);
    let point = &hidden.points()[0];
    let address = service().address();
    let identity = address.key();
    let secrets = [
        identity.as_bytes(),
        point.relay.as_bytes(),
        &point.onion_key,
        point.auth_key.as_bytes(),
        &point.encryption_key,
        &listed[0],
    ];
    for secret in secrets {
        for part in secret.chunks(8) {
            assert!(!contains(&bytes, part));
        }
    }
    // A directory that takes the blinded key for the identity finds neither record nor layer.
    let record =
        SignedDescriptor::check(SignedDescriptor::parse(&bytes).unwrap(), &network(), now()).unwrap();
    let guess = OnionAddress::new(OnionNetwork::Mesh, record.blinded());
    let guess = Client::new(network(), &guess, Some(secret(1))).unwrap();
    assert_eq!(open(&guess, &bytes), Err(DescriptorError::Foreign));
}

#[test]
fn no_altered_byte_is_accepted() {
    let bytes = public_descriptor();
    let random = |_| Some(RANDOM);
    let index = service().indices(period(), &RANDOM)[0];
    for at in 0..bytes.len() {
        let mut altered = bytes.clone();
        altered[at] ^= 1 << (at % 8);
        assert!(open(&client(None), &altered).is_err(), "byte {at}");
        let stored = validate_for_store(&network(), now(), &random, index, &altered);
        assert!(stored.is_err(), "byte {at}");
    }
}

/// A shorter outer layer would tell how much is in it.
#[test]
fn an_outer_layer_has_one_length() {
    let bytes = public_descriptor();
    let at = bytes.windows(3).position(|window| window == [0x59, 0x3c, 0]).unwrap();
    let shorter = [&bytes[..at], &[0x59, 0x3b, 0xff], &bytes[at + 4..]].concat();
    assert_eq!(SignedDescriptor::parse(&shorter).err(), Some(DecodeError::Malformed));
}

/// Only the signature stands between an altered outer layer and a directory.
#[test]
fn an_altered_outer_layer_breaks_the_signature() {
    let mut bytes = public_descriptor();
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    let record = SignedDescriptor::check(SignedDescriptor::parse(&bytes).unwrap(), &network(), now());
    assert_eq!(record, Err(RecordError::Signature(SignatureError)));
}

#[test]
fn another_network_refuses_the_record() {
    let elsewhere = NetworkId::from_name("elsewhere");
    let foreign = Client::new(elsewhere, &service().address(), None).unwrap();
    let refused = DescriptorError::Record(RecordError::Signature(SignatureError));
    assert_eq!(open(&foreign, &public_descriptor()), Err(refused));
    let tor = OnionAddress::new(OnionNetwork::Tor, service().address().key());
    assert_eq!(Client::new(network(), &tor, None).err(), Some(WrongNetwork));
}

#[test]
fn a_rollback_is_noticed() {
    let (client, bytes) = (client(None), revision(7));
    let with = |last| client.open(period(), &bytes, now(), Some(last)).map(|opened| opened.revision);
    assert_eq!(with(6), Ok(7));
    assert_eq!(with(7), Ok(7));
    assert_eq!(with(8), Err(DescriptorError::Rollback { seen: 8, served: 7 }));
}

#[test]
fn one_honest_directory_is_enough() {
    let newest = |copies: &[Vec<u8>], last| client(None).open_newest(period(), copies, now(), last);
    let copies = [revision(3), vec![0; 10], revision(5), revision(4)];
    assert_eq!(newest(&copies, None).unwrap().revision, 5);
    assert_eq!(newest(&copies, Some(5)).unwrap().revision, 5);
    let rolled_back = Err(DescriptorError::Rollback { seen: 6, served: 3 });
    assert_eq!(newest(&copies[..2], Some(6)), rolled_back, "noise does not hide a rollback");
    assert_eq!(newest(&[], None), Err(DescriptorError::NotFound));
    let flood = [vec![vec![0]; MAX_COPIES], vec![revision(5)]].concat();
    assert!(newest(&flood, None).is_err() && newest(&flood[1..], None).is_ok());
}

#[test]
fn an_expired_descriptor_is_refused() {
    let (client, bytes) = (client(None), public_descriptor());
    let expiry = issue(Access::Public).expiry;
    let at = |secs| client.open(period(), &bytes, Timestamp::from_secs(secs), None).err();
    assert_eq!(at(expiry.start().as_secs() - 1), None);
    let expired = RecordError::Expired(expiry);
    assert_eq!(at(expiry.start().as_secs()), Some(DescriptorError::Record(expired)));
}

#[test]
fn nobody_issues_for_ever_or_for_periods_not_in_use() {
    let refusal = |change: fn(&mut Issue<'_>)| {
        let mut issue = issue(Access::Public);
        change(&mut issue);
        let bytes = service().descriptor(&content(1), &issue, &SEED).unwrap();
        SignedDescriptor::check(SignedDescriptor::parse(&bytes).unwrap(), &network(), now()).err()
    };
    assert_eq!(refusal(|_| {}), None);
    let beyond = issue(Access::Public).expiry.next();
    assert_eq!(refusal(|issue| issue.expiry = issue.expiry.next()), Some(RecordError::Lifetime(beyond)));
    let before = TimePeriod::from_number(period().number() - 1);
    assert_eq!(refusal(|issue| issue.period = TimePeriod::from_number(issue.period.number() - 1)), None);
    for unused in [TimePeriod::from_number(before.number() - 1), period().next()] {
        let mut issue = issue(Access::Public);
        issue.period = unused;
        let bytes = service().descriptor(&content(1), &issue, &SEED).unwrap();
        let checked = SignedDescriptor::check(SignedDescriptor::parse(&bytes).unwrap(), &network(), now());
        assert_eq!(checked.err(), Some(RecordError::Period(unused)));
    }
}

#[test]
fn a_client_takes_no_other_period_than_it_asked_for() {
    let before = TimePeriod::from_number(period().number() - 1);
    let bytes =
        service().descriptor(&content(3), &Issue { period: before, ..issue(Access::Public) }, &SEED).unwrap();
    assert!(client(None).open(before, &bytes, now(), None).is_ok());
    assert_eq!(open(&client(None), &bytes), Err(DescriptorError::Foreign));
}

#[test]
fn all_descriptors_have_one_size() {
    let clients: Vec<u8> = (1..=160).collect();
    let clients = publics(&clients);
    let size = |points, access| service().descriptor(&content(points), &issue(access), &SEED).unwrap().len();
    let expected = size(1, Access::Public);
    assert!(expected <= 15_700, "{expected} bytes");
    for points in 1..=10 {
        assert_eq!(size(points, Access::Public), expected, "{points} points");
    }
    for count in (0..=16).chain([17, MAX_CLIENTS]) {
        assert_eq!(size(10, Access::Clients(&clients[..count])), expected, "{count} clients");
    }
}

/// What is accepted at most must fit in what is read at most.
#[test]
fn the_largest_descriptor_opens() {
    let clients: Vec<u8> = (1..=160).collect();
    let clients = publics(&clients);
    let points = |mut point: IntroductionPoint| {
        point.epoch = Epoch::from_number(u64::MAX);
        point
    };
    let content = ServiceDescriptor::new((1..=10).map(point).map(points).collect()).unwrap();
    let issue = Issue { revision: u64::MAX, ..issue(Access::Clients(&clients)) };
    let bytes = service().descriptor(&content, &issue, &SEED).unwrap();
    assert_eq!(open(&client(Some(160)), &bytes).unwrap().descriptor, content);
    assert!(bytes.len() <= SignedDescriptor::MAX_BYTES);
}

#[test]
fn a_service_refuses_clients_it_cannot_serve() {
    let many = vec![[9; 32]; MAX_CLIENTS + 1];
    let with = |clients: &[[u8; 32]]| {
        service().descriptor(&content(1), &issue(Access::Clients(clients)), &SEED).err()
    };
    assert_eq!(with(&many), Some(IssueError::Clients(MAX_CLIENTS + 1)));
    assert_eq!(with(&[[0; 32]]), Some(IssueError::ClientKey));
    let published = Service::new(network(), &SigningKey::from_seed(&[0; 32]));
    assert_eq!(published.err(), Some(AdmitError::PublishedTestKey));
}

#[test]
fn points_are_some_and_share_nothing() {
    let with = |points: Vec<IntroductionPoint>| ServiceDescriptor::new(points).err();
    assert_eq!(with(vec![]), Some(PointsError::Count(0)));
    assert_eq!(with((1..=11).map(point).collect()), Some(PointsError::Count(11)));
    let repeated = [
        IntroductionPoint { relay: point(1).relay, ..point(2) },
        IntroductionPoint { auth_key: point(1).auth_key, ..point(2) },
        IntroductionPoint { encryption_key: point(1).encryption_key, ..point(2) },
    ];
    for second in repeated {
        assert_eq!(with(vec![point(1), second]), Some(PointsError::Repeated));
    }
    // A decoder holds to the same: an empty list, and the bytes of one point twice.
    let one = wire::to_bytes(&content(1));
    let twice = [&[0x81, 0x82], &one[2..], &one[2..]].concat();
    for bytes in [&[0x81, 0x80][..], &twice] {
        assert_eq!(wire::from_bytes::<ServiceDescriptor>(bytes), Err(DecodeError::Malformed));
    }
}

/// A small-order component would survive the blinding and link the periods.
#[test]
fn identity_keys_with_torsion_are_refused() {
    let order_8 =
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a".parse::<Digest>().unwrap();
    let order_2 =
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f".parse::<Digest>().unwrap();
    let mut identity = [0; 32];
    identity[0] = 1;
    let honest = CompressedPoint::of(&service().address().key());
    let keys = [*order_8.as_bytes(), *order_2.as_bytes(), identity, [0; 32], honest.plus(order_8.as_bytes())];
    for key in keys {
        let version = OnionNetwork::Mesh.version();
        let checksum = Digest::of(ONION_CHECKSUM, &[&key, &[version]]);
        let bytes = [&key[..], &checksum.as_bytes()[..2], &[version]].concat();
        let address = OnionAddress::from_bytes(&bytes.try_into().unwrap());
        assert_eq!(address, Err(OnionAddressError::Key(AdmitError::Torsion)), "{key:02x?}");
    }
}

/// Adds points, to make keys that no honest party has.
struct CompressedPoint(curve25519_dalek::EdwardsPoint);

impl CompressedPoint {
    fn of(key: &PublicKey) -> Self {
        Self(curve25519_dalek::edwards::CompressedEdwardsY(*key.as_bytes()).decompress().unwrap())
    }

    fn plus(&self, other: &[u8; 32]) -> [u8; 32] {
        let other = curve25519_dalek::edwards::CompressedEdwardsY(*other).decompress().unwrap();
        (self.0 + other).compress().to_bytes()
    }
}

#[test]
fn nothing_secret_is_printed() {
    let listed = publics(&[1]);
    let opened = open(&client(None), &public_descriptor()).unwrap();
    assert!(format!("{:?}", opened.keys).contains("Subcredential(..)"));
    assert!(format!("{:?}", client(Some(1))).ends_with("authorised: true, .. }"));
    assert_eq!(format!("{:?}", Access::Clients(&listed)), "Clients(1)");
}

/// A seed that was used before must not encrypt other content under the same key.
#[test]
fn a_repeated_seed_repeats_no_key() {
    let descriptor = |points, access| service().descriptor(&content(points), &issue(access), &SEED).unwrap();
    let listed = publics(&[1, 2]);
    let all = [
        descriptor(1, Access::Public),
        descriptor(2, Access::Public),
        descriptor(1, Access::Clients(&[])),
        descriptor(1, Access::Clients(&listed)),
        descriptor(1, Access::Clients(&listed[1..])),
    ];
    for (at, one) in all.iter().enumerate() {
        for two in &all[at + 1..] {
            // Header and length of the outer layer are equal but for the salt; the tails share no word.
            let (one, two) = (&one[200..one.len() - 70], &two[200..two.len() - 70]);
            assert!(one.chunks(8).zip(two.chunks(8)).all(|(one, two)| one != two));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn descriptors_round_trip(content in arb_service_descriptor(), seed: [u8; 32], revision: u64, count in 0..40_u8) {
        let listed = publics(&(1..=count).collect::<Vec<_>>());
        let access = if count == 0 { Access::Public } else { Access::Clients(&listed) };
        let issue = Issue { revision, ..issue(access) };
        let bytes = service().descriptor(&content, &issue, &seed).unwrap();
        let opened = open(&client(Some(count.max(1))), &bytes).unwrap();
        prop_assert_eq!((opened.descriptor, opened.revision), (content.clone(), revision));
        prop_assert_eq!(wire::from_bytes::<ServiceDescriptor>(&wire::to_bytes(&content)), Ok(content));
        fuzz_service_descriptor(&bytes);
    }

    #[test]
    fn noise_is_no_descriptor(noise in vec(any::<u8>(), 0..400), at: usize, cut: usize) {
        fuzz_service_descriptor(&noise);
        let mut bytes = public_descriptor();
        let at = at % bytes.len();
        bytes.iter_mut().skip(at).zip(&noise).for_each(|(byte, noise)| *byte ^= noise);
        fuzz_service_descriptor(&bytes);
        fuzz_service_descriptor(&bytes[..cut % bytes.len()]);
        let content = wire::to_bytes(&content(3));
        fuzz_service_descriptor(&content[..cut % (content.len() + 1)]);
    }
}

/// What identity key, network, period, and shared random value of the tests above come to.
fn vector() -> String {
    let keys = PeriodKeys::of(&network(), &service().address().key(), period());
    let subcredential = Digest::from_bytes(*keys.subcredential.as_bytes());
    let indices = service().indices(period(), &RANDOM);
    let listed = publics(&[1, 2]);
    let closed = service().descriptor(&content(3), &issue(Access::Clients(&listed)), &SEED).unwrap();
    let lines = [
        ("identity", service().address().key().to_string()),
        ("period", period().to_string()),
        ("blinded", keys.blinded.to_string()),
        ("subcredential", subcredential.to_string()),
        ("index-0", Digest::from_bytes(*indices[0].as_bytes()).to_string()),
        ("index-1", Digest::from_bytes(*indices[1].as_bytes()).to_string()),
        ("public-descriptor-sha3-256", Digest::of_bytes(&public_descriptor()).to_string()),
        ("closed-descriptor-sha3-256", Digest::of_bytes(&closed).to_string()),
    ];
    lines.map(|(name, value)| format!("{name} {value}\n")).concat()
}

#[test]
fn keys_indices_and_records_are_pinned() {
    let pinned: String =
        PINNED.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect();
    assert_eq!(vector(), pinned);
}

#[test]
#[ignore = "rewrites the fixture: a change of it is a change of the wire format"]
fn regenerate_the_fixture() {
    let source = "# Blinded keys, places and records of an onion service: ours, v1. Rewritten by\n\
                  # `cargo test -p nonos-onion --test it -- --ignored regenerate_the_fixture`.\n";
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/service.txt");
    std::fs::write(path, format!("{source}{}", vector())).unwrap();
}
