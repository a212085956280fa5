//! Stores on a disk that loses power: what was acknowledged is there, and what was in flight is
//! there as a whole or not at all.

use std::collections::BTreeSet;

use nonos_identity::keystore::{
    ChangeError, CreateError, Entropy, FileKeyStore, Kek, KekError, KekSource, KeyStore as _, Keystore,
    NewKek, NewSlot, OpenError, OpenKeystore, SlotInfo, SlotKind, StorageError,
};
use nonos_identity::testing::{Fault, SimulatedDisk};
use nonos_identity::{Digest, Epoch, FileSlotLog, NodeId, Seed, SlotError, SlotLog as _, Timestamp};
use zeroize::Zeroizing;

const CUTS: u64 = 10_000;
const CUTS_PER_DISK: u64 = 10;
const STORE: &str = "/d/identity.nnks";
const ANCHOR: &str = "/d/anchor";
const LOG: &str = "/d/slots";

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }

    fn pick(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).expect("below a length")
    }

    fn entropy(&mut self) -> Entropy {
        let mut entropy = Zeroizing::new([0; Keystore::ENTROPY_BYTES]);
        entropy.iter_mut().for_each(|byte| *byte = self.below(256).to_le_bytes()[0]);
        entropy
    }
}

/// A source of keys that costs one hash, so that the disk is what the test spends its time on.
struct Cheap(u64);

impl KekSource for Cheap {
    fn kind(&self) -> SlotKind {
        SlotKind::Token
    }

    fn fresh(&self, root: NodeId, random: &[u8; 32]) -> Result<NewKek, KekError> {
        Ok(NewKek { key: self.recover(root, random)?, params: random.to_vec() })
    }

    fn recover(&self, root: NodeId, params: &[u8]) -> Result<Kek, KekError> {
        let bytes = [&self.0.to_le_bytes()[..], root.as_bytes(), params].concat();
        Ok(Kek::from_bytes(Digest::of_bytes(&bytes).as_bytes()))
    }
}

/// What opens a store: the numbers of [`Cheap`] sources, also the labels of their slots.
type Keys = BTreeSet<u64>;

/// What a store may be: `None` where there is none.
#[derive(Debug)]
struct Known {
    acknowledged: Option<(u64, Keys)>,
    in_flight: Option<(u64, Keys)>,
    /// Whether the anchor acknowledged once: then it never says that it knows nothing.
    is_anchored: bool,
}

fn seed(disk: u64) -> Seed {
    let mut bytes = [7; 64];
    bytes[..8].copy_from_slice(&disk.to_le_bytes());
    Seed::from_bytes(&bytes)
}

fn number(slot: &SlotInfo) -> u64 {
    slot.label.as_ref().map_or(0, |label| label.as_str().parse().expect("a number"))
}

/// One random change. `Ok` is an acknowledgement.
fn change(
    store: &FileKeyStore,
    disk: &SimulatedDisk,
    random: &mut Random,
    known: &mut Known,
) -> Result<(), ()> {
    let anchor = disk.anchor(ANCHOR);
    let Some((generation, keys)) = known.acknowledged.clone() else {
        known.in_flight = Some((0, Keys::from([0])));
        let created = Timestamp::from_secs(1);
        let made = OpenKeystore::create(store, &Cheap(0), &seed(random.0), &random.entropy(), created);
        return made.map(|_| ()).map_err(|error| assert!(is_io(&error.into()), "create"));
    };
    let with = Cheap(*keys.iter().nth(random.pick(keys.len())).expect("a key"));
    let mut open = if known.is_anchored {
        OpenKeystore::open_anchored(store, &with, &anchor)
    } else {
        OpenKeystore::open(store, &with).and_then(|open| open.anchor_to(&anchor))
    }
    .map_err(|error| assert!(is_io(&error.into()), "open"))?;
    known.is_anchored = true;
    let (next, entropy) = (1 + random.below(1 << 40), random.entropy());
    let label = Some(next.to_string().parse().expect("label"));
    let new = NewSlot { source: &Cheap(next), label, created: None, entropy: &entropy };
    let target = open.slots().into_iter().nth(random.pick(keys.len())).expect("a slot of each key");
    let mut after = keys;
    let made = match random.below(3) {
        0 if after.len() < Keystore::MAX_SLOTS => {
            after.insert(next);
            known.in_flight = Some((generation + 1, after));
            open.add(&new).map(|_| ())
        }
        1 if after.len() > 1 => {
            after.remove(&number(&target));
            known.in_flight = Some((generation + 1, after));
            open.remove(target.id, &entropy)
        }
        _ => {
            after.remove(&number(&target));
            after.insert(next);
            known.in_flight = Some((generation + 1, after));
            open.rewrap(target.id, &new).map(|_| ())
        }
    };
    made.map_err(|error| assert!(is_io(&error), "{error:?}"))
}

/// The medium's fault, as opposed to a store that is not what it should be.
fn is_io(error: &ChangeError) -> bool {
    use nonos_identity::keystore::AnchorError;
    let storage = match error {
        ChangeError::Open(OpenError::Storage(error) | OpenError::Anchor(AnchorError::Storage(error)))
        | ChangeError::Create(CreateError::Storage(error))
        | ChangeError::Anchor(AnchorError::Storage(error)) => error,
        other => panic!("{other:?}"),
    };
    matches!(storage, StorageError::Io(_))
}

/// What the store is, held against what it may be.
fn settle(store: &FileKeyStore, node: NodeId, known: &mut Known, context: &str) {
    let found = store.load().expect("readable").map(|_| {
        let slots = Keystore::slots(store).unwrap_or_else(|error| panic!("{context}: {error}"));
        let keys: Keys = slots.iter().map(number).collect();
        let mut generation = 0;
        for key in &keys {
            let open = OpenKeystore::open(store, &Cheap(*key));
            let open = open.unwrap_or_else(|error| panic!("{context}: key {key}: {error}"));
            assert_eq!(open.identity().node_id(), node, "{context}");
            generation = open.generation();
        }
        (generation, keys)
    });
    let is_expected = found == known.acknowledged || (known.in_flight.is_some() && found == known.in_flight);
    assert!(is_expected, "{context}: found {found:?} of {known:?}");
    known.acknowledged = found;
    known.in_flight = None;
}

fn cut_keystores(fault: Fault) {
    for disk_seed in 0..CUTS / CUTS_PER_DISK {
        let disk = SimulatedDisk::new(disk_seed);
        let mut random = Random(disk_seed);
        let store = disk.key_store(STORE);
        let mut known = Known { acknowledged: None, in_flight: None, is_anchored: false };
        let mut node = None;
        for cut in 0..CUTS_PER_DISK {
            disk.inject(random.below(60), fault);
            loop {
                let creates = known.acknowledged.is_none();
                let state = random.0;
                let changed = change(&store, &disk, &mut random, &mut known);
                if creates {
                    let seed = seed(state);
                    node = Some(nonos_identity::Identity::from_seed(seed.as_bytes()).node_id());
                }
                match changed {
                    Ok(()) => known.acknowledged = known.in_flight.take(),
                    Err(()) => break,
                }
                // A failure to clean up is no failure of the change.
                if fault == Fault::Error && !disk.is_armed() {
                    break;
                }
            }
            if fault == Fault::PowerCut {
                assert!(disk.is_off());
                disk.restart();
            }
            settle(&store, node.expect("created"), &mut known, &format!("disk {disk_seed} cut {cut}"));
        }
    }
}

#[test]
fn a_keystore_survives_ten_thousand_power_cuts() {
    cut_keystores(Fault::PowerCut);
}

#[test]
fn a_keystore_survives_ten_thousand_failed_operations() {
    cut_keystores(Fault::Error);
}

#[test]
fn a_slot_is_never_given_twice_in_ten_thousand_power_cuts() {
    let mut taken_slots = 0;
    for disk_seed in 0..CUTS / CUTS_PER_DISK {
        let disk = SimulatedDisk::new(disk_seed);
        let mut random = Random(disk_seed);
        let mut log: Option<FileSlotLog> = None;
        let (mut exists, mut horizon) = (false, 0);
        let mut taken = BTreeSet::new();
        for cut in 0..CUTS_PER_DISK {
            let context = format!("disk {disk_seed} cut {cut}");
            let fault = if random.below(4) == 0 { Fault::Error } else { Fault::PowerCut };
            disk.inject(random.below(40), fault);
            // At most one change of the horizon is in flight when the power goes.
            let mut raised = horizon;
            loop {
                let outcome = match &log {
                    None if exists => disk.open_slot_log(LOG).map(|opened| log = Some(opened)),
                    None => disk.create_slot_log(LOG, Epoch::from_number(0)).map(|made| {
                        exists = true;
                        log = Some(made);
                    }),
                    Some(open) if random.below(12) == 0 => {
                        raised = horizon + random.below(3);
                        let done = open.forget_before(Epoch::from_number(raised));
                        done.map(|()| horizon = raised)
                    }
                    Some(open) => {
                        let (epoch, slot) = (horizon + random.below(4), random.below(16));
                        let slot = u32::try_from(slot).expect("small");
                        match open.take(Epoch::from_number(epoch), slot) {
                            Ok(()) => {
                                assert!(taken.insert((epoch, slot)), "{context}: {epoch} {slot} twice");
                                Ok(())
                            }
                            Err(SlotError::Used) => Ok(()),
                            Err(error) => Err(error),
                        }
                    }
                };
                match outcome {
                    Ok(()) if fault == Fault::Error && !disk.is_armed() => break,
                    Ok(()) => {}
                    // An earlier create got as far as the name.
                    Err(SlotError::Storage(StorageError::Exists)) => exists = true,
                    Err(SlotError::Storage(StorageError::Io(_))) => break,
                    Err(error) => panic!("{context}: {error:?}"),
                }
            }
            log = None;
            disk.restart();
            match disk.open_slot_log(LOG) {
                Ok(open) => {
                    exists = true;
                    let found = open.horizon().expect("horizon").number();
                    assert!(found == horizon || found == raised, "{context}: horizon {found}");
                    horizon = found;
                    for (epoch, slot) in &taken {
                        let is_used = open.is_used(Epoch::from_number(*epoch), *slot).expect("read");
                        assert!(is_used, "{context}: {epoch} {slot} was forgotten");
                    }
                }
                Err(SlotError::Storage(StorageError::Missing)) => assert!(!exists, "{context}: lost"),
                Err(error) => panic!("{context}: {error:?}"),
            }
        }
        taken_slots += taken.len();
    }
    assert!(taken_slots > 10_000, "the test took {taken_slots} slots only");
}

/// The simulation is worth nothing if it never loses anything.
#[test]
fn the_simulated_disk_loses_what_was_not_synced() {
    let mut outcomes = BTreeSet::new();
    for seed in 0..200 {
        let disk = SimulatedDisk::new(seed);
        let store = disk.key_store(STORE);
        store.create(b"old").expect("create");
        // The directory is synced by the last operation of a replacement.
        let before = disk.operations();
        store.replace(b"old", b"new").expect("replace");
        let operations = disk.operations() - before;
        let disk = SimulatedDisk::new(seed);
        let store = disk.key_store(STORE);
        store.create(b"old").expect("create");
        disk.inject(operations - 1, Fault::PowerCut);
        assert!(store.replace(b"old", b"new").is_err());
        disk.restart();
        outcomes.insert(disk.content(STORE));
    }
    assert_eq!(outcomes, BTreeSet::from([Some(b"old".to_vec()), Some(b"new".to_vec())]));
}
