use std::collections::BTreeSet;

use super::*;

const HOPS: u8 = 6;

fn network() -> NetworkId {
    NetworkId::from_name("records")
}

fn epoch() -> Epoch {
    Epoch::from_number(5)
}

fn relay(hop: u8) -> NodeId {
    NodeId::from_bytes([hop + 1; 32])
}

fn secret(hop: u8) -> [u8; 32] {
    [hop + 100; 32]
}

fn path(hops: u8) -> Vec<(NodeId, [u8; 32])> {
    (0..hops)
        .map(|hop| {
            let secret = x25519_dalek::StaticSecret::from(secret(hop));
            (relay(hop), x25519_dalek::PublicKey::from(&secret).to_bytes())
        })
        .collect()
}

fn start(hops: u8, seed: u8) -> (Pending, Create) {
    Pending::start(&network(), epoch(), &path(hops), &[seed; 32]).unwrap()
}

/// A hop does its part; yields its keys and where the message goes.
fn pass(hop: u8, create: &mut Create) -> Option<(LayerSeed, Routing)> {
    let responder = create.open(relay(hop), &network(), &secret(hop), &[hop; 32]).ok()?;
    let routing = Routing::read(responder.routing()).unwrap();
    let (reply, seed) = responder.reply().unwrap();
    create.answer(&reply, &routing.key);
    if let Some(onward) = routing.onward {
        assert_eq!(onward.relay, relay(hop + 1));
        (create.slot, create.nonce) = (onward.slot, onward.nonce);
    }
    Some((seed, routing))
}

/// The records as they pass the links there, and back; and the keys of both ends.
struct Walk {
    there: Vec<Create>,
    back: Vec<Records>,
    client: Result<Vec<LayerSeed>, HandshakeError>,
    relays: Vec<LayerSeed>,
}

/// Walks a path. Byte `.2` of link `.0` is changed, of the way back if `.1`; `None` if a hop refuses.
fn walk(hops: u8, seed: u8, change: Option<(u8, bool, usize)>) -> Option<Walk> {
    let spoil = |link: u8, way_back: bool, records: &mut Records| match change {
        Some((at, back, offset)) if at == link && back == way_back => {
            records.0.as_flattened_mut()[offset] ^= 1;
        }
        _ => {}
    };
    let (pending, mut create) = start(hops, seed);
    let (mut there, mut back, mut relays, mut keys) = (vec![], vec![], vec![], vec![]);
    for hop in 0..hops {
        spoil(hop, false, &mut create.records);
        there.push(create.clone());
        let (seed, routing) = pass(hop, &mut create)?;
        assert_eq!(routing.onward.is_none(), hop + 1 == hops);
        relays.push(seed);
        keys.push(routing.key);
    }
    let mut records = create.records;
    for hop in (0..hops).rev() {
        if hop + 1 < hops {
            records.pass_back(&keys[usize::from(hop)]);
        }
        spoil(hop, true, &mut records);
        back.push(records.clone());
    }
    Some(Walk { there, back, client: pending.finish(records.as_bytes()), relays })
}

#[test]
fn one_message_keys_a_path_of_every_length() {
    for hops in 1..=HOPS {
        let walk = walk(hops, 1, None).unwrap();
        assert_eq!(walk.client.unwrap(), walk.relays, "{hops} hops");
        let distinct: BTreeSet<_> = walk.relays.iter().map(|seed| **seed).collect();
        assert_eq!(distinct.len(), usize::from(hops));
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// RFC 8439 A.1, test vectors 1 and 2: the keystream of a zero key and nonce, blocks 0 and 1.
#[test]
fn the_keystream_is_chacha20() {
    let mut record = [0; RECORD_BYTES];
    RecordKey(Zeroizing::new([0; 32])).apply(Direction::Outward, Slot(0), &mut record);
    assert_eq!(
        hex(&record[..128]),
        "76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7\
         da41597c5157488d7724e03fb8d84a376a43b8f41518a11cc387b669b2ee6586\
         9f07e7be5551387a98ba977c732d080dcb0f29a048e3656912c6533e32ee7aed\
         29b721769ce64e43d57133b074d839d531ed1f28510afb45ace10a1f4b794d6f"
    );
}

const VECTORS: &str = include_str!("../../tests/vectors/records.txt");

/// To make the file anew after a change of the format that is meant: print `lines` here.
#[test]
fn a_build_has_its_pinned_bytes() {
    let walk = walk(3, 9, None).unwrap();
    let digest = |bytes: &[u8]| hex(&<sha3::Sha3_256 as sha3::Digest>::digest(bytes));
    let mut lines = Vec::new();
    for (hop, create) in walk.there.iter().enumerate() {
        lines.push(format!("create {hop} {}", digest(&create.to_bytes())));
    }
    for (hop, records) in (0..3).rev().zip(&walk.back) {
        lines.push(format!("created {hop} {}", digest(records.as_bytes())));
    }
    for (hop, seed) in walk.relays.iter().enumerate() {
        lines.push(format!("keys {hop} {}", digest(&**seed)));
    }
    let pinned: Vec<&str> = VECTORS.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(lines, pinned);
}

#[test]
fn every_message_has_one_size_and_no_record_is_seen_twice() {
    for hops in 1..=HOPS {
        let walk = walk(hops, 2, None).unwrap();
        let mut seen = BTreeSet::new();
        for create in &walk.there {
            let bytes = create.to_bytes();
            assert_eq!((bytes.len(), Create::read(&bytes)), (CREATE_BYTES, Ok(create.clone())));
        }
        for records in walk.there.iter().map(|create| &create.records).chain(&walk.back) {
            assert_eq!(records.as_bytes().len(), CREATED_BYTES);
            assert!(records.0.iter().all(|record| seen.insert(*record)), "{hops} hops");
        }
    }
}

/// Pearson's statistic against equal shares.
fn chi_square(counts: &[u32]) -> f64 {
    let expected = f64::from(counts.iter().sum::<u32>()) / counts.len() as f64;
    counts.iter().map(|&count| (f64::from(count) - expected).powi(2) / expected).sum()
}

#[test]
fn slots_are_uniform_and_tell_nothing_of_each_other() {
    let mut single = vec![vec![0; RECORDS]; usize::from(HOPS)];
    let mut pairs = [0; RECORDS * RECORDS];
    for round in 0..3000_u64 {
        let mut rng = ChaCha20Rng::seed_from_u64(round);
        let slots = Slot::shuffled(&mut rng).map(|slot| usize::from(slot.0));
        slots.iter().enumerate().for_each(|(hop, &slot)| single[hop][slot] += 1);
        pairs[slots[0] * RECORDS + slots[1]] += 1;
    }
    // The 0.999 quantiles of chi-square with 5 and with 29 degrees of freedom.
    for (hop, counts) in single.iter().enumerate() {
        assert!(chi_square(counts) < 20.52, "hop {hop}: {counts:?}");
    }
    let (equal, distinct): (Vec<_>, Vec<_>) =
        pairs.iter().enumerate().partition(|(i, _)| i % RECORDS == i / RECORDS);
    assert!(equal.iter().all(|(_, count)| **count == 0));
    let distinct: Vec<u32> = distinct.into_iter().map(|(_, count)| *count).collect();
    assert!(chi_square(&distinct) < 58.30, "{distinct:?}");
}

#[test]
fn a_build_takes_its_slots_from_the_permutation() {
    let mut first = vec![0; RECORDS];
    for seed in 0..240 {
        let (pending, create) = start(2, seed);
        assert_eq!(create.slot, pending.hops[0].slot);
        first[usize::from(create.slot.0)] += 1;
    }
    assert!(chi_square(&first) < 20.52, "{first:?}");
}

/// On every link and in every record but the one that is to be opened next, bits are set in about
/// half of the builds: no clear high bit of an X25519 key, no zeros, be it a request, a reply or filler.
#[test]
fn records_of_others_look_random() {
    const BUILDS: u8 = 48;
    // The high bits of the X25519 keys of a request and of a reply, and a bit of the zeros.
    const OFFSETS: [usize; 3] = [31, 1088 + 31, RECORD_BYTES - 1];
    let mut set = [[[0_u32; OFFSETS.len()]; RECORDS]; 6];
    for seed in 0..BUILDS {
        let (pending, _) = start(3, seed);
        let mut slots: Vec<Slot> = pending.hops.iter().map(|hop| hop.slot).collect();
        slots.extend(Slot::all().into_iter().filter(|slot| pending.hops.iter().all(|hop| hop.slot != *slot)));
        let walk = walk(3, seed, None).unwrap();
        let links = walk.there.iter().map(|create| &create.records).chain(&walk.back);
        for (records, set) in links.zip(&mut set) {
            for (slot, set) in slots.iter().zip(set) {
                let record = records.at(*slot);
                OFFSETS.iter().zip(set).for_each(|(at, set)| *set += u32::from(record[*at] >> 7));
            }
        }
    }
    // Chance leaves 48 fair bits outside 8..=40 once in a million.
    for (link, set) in set.iter().enumerate() {
        for (role, counts) in set.iter().enumerate().filter(|(role, _)| link > 2 || *role != link) {
            assert!(counts.iter().all(|count| (8..=40).contains(count)), "link {link}, {role}: {counts:?}");
        }
    }
}

#[test]
fn a_changed_bit_anywhere_fails_the_build() {
    let hops = 3;
    for link in 0..hops {
        for way_back in [false, true] {
            for slot in 0..RECORDS {
                // Keys, KEM, routing or reply, tag or padding.
                for at in [0, 31, 40, 1088, 1135, 1136, 1230, 1311] {
                    let change = Some((link, way_back, slot * RECORD_BYTES + at));
                    let failed = walk(hops, 3, change).is_none_or(|walk| walk.client.is_err());
                    assert!(failed, "link {link}, back {way_back}, slot {slot}, byte {at}");
                }
            }
        }
    }
}

#[test]
fn the_client_alone_finds_a_changed_record_that_nobody_opens() {
    let (pending, _) = start(2, 4);
    let unused = Slot::all().into_iter().filter(|slot| pending.hops.iter().all(|hop| hop.slot != *slot));
    for slot in unused {
        for link in 0..2 {
            let offset = usize::from(slot.0) * RECORD_BYTES + 700;
            let walk = walk(2, 4, Some((link, false, offset))).expect("no hop can know");
            assert_eq!(walk.client.err(), Some(HandshakeError));
        }
    }
}

#[test]
fn records_of_another_length_are_no_reply() {
    for len in [0, 1, RECORD_BYTES, CREATED_BYTES - 1, CREATED_BYTES + 1, CREATED_BYTES + RECORD_BYTES] {
        assert!(start(2, 1).0.finish(&vec![0; len]).is_err());
        assert_eq!(Records::read(&vec![0; len]), Err(RecordError));
    }
}

#[test]
fn a_request_opens_only_where_it_belongs() {
    let open = |change: fn(&mut Create), relay: NodeId, network: &NetworkId| {
        let (_, mut create) = start(1, 5);
        change(&mut create);
        create.open(relay, network, &secret(0), &[0; 32]).err()
    };
    let none: fn(&mut Create) = |_| {};
    assert_eq!(open(none, relay(0), &network()), None);
    let failed = Some(HandshakeError);
    assert_eq!(open(|create| create.suite = 2, relay(0), &network()), failed, "suite");
    assert_eq!(open(|create| create.epoch = create.epoch.next(), relay(0), &network()), failed, "epoch");
    assert_eq!(open(none, relay(1), &network()), failed, "relay");
    assert_eq!(open(none, relay(0), &NetworkId::from_name("another")), failed, "network");
    let moved: fn(&mut Create) = |create| {
        let request = *create.request();
        create.slot = Slot((create.slot.0 + 1) % 6);
        *create.records.at_mut(create.slot) = request;
    };
    assert_eq!(open(moved, relay(0), &network()), failed, "slot");
}

#[test]
fn routing_is_canonical() {
    let key = RecordKey(Zeroizing::new([7; 32]));
    let onward = |nonce| Some(Onward { relay: relay(3), slot: Slot(5), nonce: read_nonce([nonce; 8]) });
    for onward in [None, onward(0), onward(9)] {
        let bytes = Routing { onward, key: key.clone() }.to_bytes();
        let read = Routing::read(&bytes).unwrap();
        assert_eq!((read.onward, *read.key.0), (onward, [7; 32]));
        // The flags, the relay and slot of a last hop, the slot's range, the padding.
        let wrong: &[(usize, u8)] = match onward {
            None => &[(0, 2), (0, 3), (1, 1), (32, 1), (33, 1), (66, 1), (73, 1), (74, 1), (79, 1)],
            Some(_) => &[(0, 1), (0, 2), (33, 3), (33, 0x80), (74, 1), (79, 1)],
        };
        for &(at, with) in wrong {
            let mut changed = bytes.clone();
            changed[at] ^= with;
            assert_eq!(Routing::read(&changed).err(), Some(RecordError), "byte {at}");
        }
    }
}

#[test]
fn a_slot_beyond_the_records_is_refused() {
    let (_, create) = start(1, 6);
    let mut bytes = create.to_bytes();
    for slot in [6, 7, 255] {
        bytes[9] = slot;
        assert_eq!(Create::read(&bytes), Err(RecordError));
    }
    assert_eq!(Create::read(&[]), Err(RecordError));
    assert_eq!(Create::read(&bytes[..CREATE_BYTES - 1]), Err(RecordError));
}
