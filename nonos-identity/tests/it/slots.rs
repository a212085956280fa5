//! Slots of a keystore: every kind, every change, backups, anchors.

use std::fs;

use nonos_identity::keystore::{
    AnchorError, Argon2Cost, ChangeError, CreateError, Entropy, FileAnchor, FileKeyStore, KekError,
    KekSource, KeyStore as _, Keystore, Label, NewSlot, OpenError, OpenKeystore, Passphrase, RecoveryKey,
    RecoveryPhrase, RollbackAnchor as _, SlotKind, StorageError,
};
use nonos_identity::testing::{
    Fault, MemoryAnchor, MemoryKeyStore, MemorySlotLog, SimulatedDisk, check_kek_source,
    check_rollback_anchor, check_slot_log,
};
use nonos_identity::{
    Epoch, FileSlotLog, Identity, Seed, SeedSource as _, SlotError, SlotLog as _, Timestamp,
};
use tempfile::TempDir;
use zeroize::Zeroizing;

fn entropy(byte: u8) -> Entropy {
    let mut entropy = Zeroizing::new([byte; Keystore::ENTROPY_BYTES]);
    entropy.iter_mut().zip(0_u8..).for_each(|(byte, at)| *byte ^= at);
    entropy
}

fn passphrase(text: &[u8]) -> Passphrase {
    Passphrase::with_cost(text, Argon2Cost::MIN)
}

fn phrase(byte: u8) -> RecoveryPhrase {
    let mut bytes = [byte; 32];
    bytes[0] ^= 1;
    RecoveryPhrase::from_entropy(&bytes).expect("not weak")
}

fn seed() -> Seed {
    Seed::from_bytes(&[7; 64])
}

fn created() -> Timestamp {
    Timestamp::from_secs(1_000_000)
}

fn label(text: &str) -> Option<Label> {
    Some(text.parse().expect("label"))
}

/// A store that opens with a recovery key, which costs nothing.
fn store(key: &RecoveryKey) -> MemoryKeyStore {
    let store = MemoryKeyStore::default();
    OpenKeystore::create(&store, &key.public(), &seed(), &entropy(1), created()).expect("create");
    store
}

fn new<'a>(source: &'a dyn KekSource, entropy: &'a Entropy) -> NewSlot<'a> {
    NewSlot { source, label: None, created: Some(created()), entropy }
}

#[test]
fn the_sources_keep_their_contract() {
    check_kek_source(&passphrase(b"correct horse"));
    check_kek_source(&phrase(5));
    check_kek_source(&RecoveryKey::from_bytes(&[9; 32]));
}

#[test]
fn anchors_and_slot_logs_keep_their_contract() {
    let dir = TempDir::new().expect("temporary directory");
    check_rollback_anchor(&MemoryAnchor::default());
    check_rollback_anchor(&FileAnchor::new(dir.path().join("anchor")));
    check_slot_log(&MemorySlotLog::default());
    let path = dir.path().join("slots");
    let log = FileSlotLog::create(&path, Epoch::from_number(90)).expect("create");
    check_slot_log(&log);
    drop(log);
    let again = FileSlotLog::open(&path).expect("open");
    assert_eq!(again.horizon().expect("horizon"), Epoch::from_number(102));
    assert!(matches!(again.take(Epoch::from_number(102), 31), Err(SlotError::Used)));
    assert!(matches!(again.take(Epoch::from_number(101), 0), Err(SlotError::Forgotten(_))));
}

#[test]
fn a_slot_log_is_never_replaced_shared_or_guessed() {
    let dir = TempDir::new().expect("temporary directory");
    let path = dir.path().join("slots");
    let missing = FileSlotLog::open(&path);
    assert!(matches!(missing, Err(SlotError::Storage(StorageError::Missing))), "{missing:?}");
    let log = FileSlotLog::create(&path, Epoch::from_number(0)).expect("create");
    log.take(Epoch::from_number(1), 1).expect("fresh");
    for second in [FileSlotLog::open(&path), FileSlotLog::create(&path, Epoch::from_number(0))] {
        assert!(matches!(second, Err(SlotError::Storage(StorageError::Locked))), "{second:?}");
    }
    drop(log);
    let created = FileSlotLog::create(&path, Epoch::from_number(0));
    assert!(matches!(created, Err(SlotError::Storage(StorageError::Exists))), "{created:?}");
    let bytes = fs::read(&path).expect("file");
    for damaged in [&b""[..], &bytes[..20], &[&bytes[..], &[0; 21]].concat()] {
        fs::write(&path, damaged).expect("write");
        assert!(matches!(FileSlotLog::open(&path), Err(SlotError::Damaged(_))));
        assert_eq!(fs::read(&path).expect("file"), damaged, "a damaged log was changed");
    }
}

#[test]
fn a_slot_log_stops_after_a_failed_write() {
    let disk = SimulatedDisk::new(1);
    drop(disk.create_slot_log("/d/slots", Epoch::from_number(0)).expect("create"));
    let epoch = Epoch::from_number(1);
    // The append fails, and then the sync.
    for (after, slot) in [(0, 1), (1, 2)] {
        let log = disk.open_slot_log("/d/slots").expect("open");
        disk.inject(after, Fault::Error);
        let failed = log.take(epoch, slot);
        assert!(matches!(failed, Err(SlotError::Storage(StorageError::Io(_)))), "{failed:?}");
        let next = log.take(epoch, 10 + slot);
        assert!(matches!(next, Err(SlotError::Broken)), "{next:?}");
        assert!(matches!(log.is_used(epoch, slot), Err(SlotError::Broken)));
        drop(log);
        let again = disk.open_slot_log("/d/slots").expect("open");
        again.take(epoch, 10 + slot).expect("the medium works again");
    }
}

#[test]
fn every_slot_opens_the_same_keystore() {
    let key = RecoveryKey::from_bytes(&[9; 32]);
    let store = store(&key);
    let node = Identity::from_seed(seed().as_bytes()).node_id();
    let sources: [&dyn KekSource; 3] = [&passphrase(b"one"), &phrase(5), &passphrase(b"two")];
    let mut open = OpenKeystore::open(&store, &key).expect("open");
    for (source, byte) in sources.iter().zip(2..) {
        let label = label(&format!("slot {byte}"));
        let id = open.add(&NewSlot { label, ..new(*source, &entropy(byte)) }).expect("add");
        assert_eq!(open.slots().last().expect("slots").id, id);
    }
    assert_eq!(open.generation(), 3);
    assert_eq!(open.seed().expect("seed").as_bytes(), seed().as_bytes());
    let listed = Keystore::slots(&store).expect("list");
    assert_eq!(listed, open.slots());
    let kinds: Vec<_> = listed.iter().map(|slot| slot.kind).collect();
    use SlotKind::{Passphrase as P, RecoveryKey as K, RecoveryPhrase as R};
    assert_eq!(kinds, [K, P, R, P]);
    assert_eq!(listed[1].label, label("slot 2"));
    assert_eq!((listed[0].created, listed[1].created), (None, Some(created())));
    for (source, slot) in sources.iter().zip(&listed[1..]) {
        let open = OpenKeystore::open(&store, *source).expect("open");
        assert_eq!((open.identity().node_id(), open.slot()), (node, slot.id));
    }
    let wrong: [&dyn KekSource; 3] = [&passphrase(b"three"), &phrase(6), &RecoveryKey::from_bytes(&[8; 32])];
    for source in wrong {
        let outcome = OpenKeystore::open(&store, source).map(|_| ());
        match source.kind() {
            P => assert!(matches!(outcome, Err(OpenError::Passphrase)), "{outcome:?}"),
            kind => {
                assert!(matches!(outcome, Err(OpenError::WrongKey(found)) if found == kind), "{outcome:?}");
            }
        }
    }
    let half = OpenKeystore::open(&store, &key.public()).map(|_| ());
    assert!(matches!(half, Err(OpenError::Source(KekError::PublicOnly))), "{half:?}");
}

#[test]
fn a_kind_without_a_slot_is_named() {
    let store = store(&RecoveryKey::from_bytes(&[9; 32]));
    let outcome = OpenKeystore::open(&store, &phrase(5)).map(|_| ());
    assert!(matches!(outcome, Err(OpenError::NoSlot(SlotKind::RecoveryPhrase))), "{outcome:?}");
}

#[test]
fn a_slot_that_was_taken_out_opens_nothing() {
    let key = RecoveryKey::from_bytes(&[9; 32]);
    let store = store(&key);
    let mut open = OpenKeystore::open(&store, &key).expect("open");
    let first = open.slot();
    let last = open.remove(first, &entropy(2));
    assert!(matches!(last, Err(ChangeError::LastSlot)), "{last:?}");
    let second = open.add(&new(&phrase(5), &entropy(3))).expect("add");
    let before = store.load().expect("load");
    open.remove(first, &entropy(4)).expect("remove");
    assert!(matches!(OpenKeystore::open(&store, &key), Err(OpenError::NoSlot(SlotKind::RecoveryKey))));
    assert!(OpenKeystore::open(&store, &phrase(5)).is_ok());
    for gone in [first, open.remove(first, &entropy(5)).map(|()| first).unwrap_or(first)] {
        assert!(matches!(open.remove(gone, &entropy(5)), Err(ChangeError::NoSuchSlot)));
        assert!(matches!(open.rewrap(gone, &new(&key, &entropy(5))), Err(ChangeError::NoSuchSlot)));
    }
    assert!(matches!(open.remove(second, &entropy(5)), Err(ChangeError::LastSlot)));
    // The copy from before still opens: that is what an anchor is for.
    let copy = MemoryKeyStore::default();
    copy.create(&before.expect("created")).expect("create");
    assert!(OpenKeystore::open(&copy, &key).is_ok());
}

#[test]
fn a_rewrapped_slot_keeps_its_place_and_label() {
    let key = RecoveryKey::from_bytes(&[9; 32]);
    let store = store(&key);
    let mut open = OpenKeystore::open(&store, &key).expect("open");
    let (words, fresh) = (phrase(5), entropy(2));
    let named = NewSlot { label: label("paper"), ..new(&words, &fresh) };
    let paper = open.add(&named).expect("add");
    let renewed = open.rewrap(paper, &new(&phrase(6), &entropy(3))).expect("rewrap");
    assert_ne!(renewed, paper);
    assert_eq!(open.slots()[1].label, label("paper"));
    assert!(OpenKeystore::open(&store, &phrase(6)).is_ok());
    assert!(OpenKeystore::open(&store, &phrase(5)).is_err());
    // The slot that opened may be the one that changes.
    let other = RecoveryKey::from_bytes(&[8; 32]);
    let mine = open.rewrap(open.slot(), &new(&other, &entropy(4))).expect("rewrap");
    assert_eq!(open.slot(), mine);
    assert!(OpenKeystore::open(&store, &key).is_err());
    assert_eq!(OpenKeystore::open(&store, &other).expect("open").slot(), mine);
}

#[test]
fn a_slower_writer_loses_and_breaks_nothing() {
    let key = RecoveryKey::from_bytes(&[9; 32]);
    let store = store(&key);
    let mut slow = OpenKeystore::open(&store, &key).expect("open");
    let mut fast = OpenKeystore::open(&store, &key).expect("open");
    let added = fast.add(&new(&phrase(5), &entropy(2))).expect("add");
    let late = slow.add(&new(&phrase(6), &entropy(3)));
    let is_late = matches!(late, Err(ChangeError::Create(CreateError::Storage(StorageError::Changed))));
    assert!(is_late, "{late:?}");
    assert_eq!(Keystore::slots(&store).expect("list")[1].id, added);
    fast.remove(added, &entropy(4)).expect("the faster one goes on");
}

#[test]
fn slots_are_bounded_and_entropy_is_used_once() {
    let key = RecoveryKey::from_bytes(&[9; 32]);
    let store = store(&key);
    let mut open = OpenKeystore::open(&store, &key).expect("open");
    let reused = open.add(&new(&phrase(5), &entropy(1)));
    assert!(matches!(reused, Err(ChangeError::Create(CreateError::ReusedEntropy))), "{reused:?}");
    let zero = Zeroizing::new([0; Keystore::ENTROPY_BYTES]);
    let none = open.add(&new(&phrase(5), &zero));
    assert!(matches!(none, Err(ChangeError::Create(CreateError::NoEntropy))), "{none:?}");
    for byte in 2..=u8::try_from(Keystore::MAX_SLOTS).expect("few") {
        open.add(&new(&phrase(5), &entropy(byte))).expect("add");
    }
    let full = open.add(&new(&phrase(5), &entropy(100)));
    assert!(matches!(full, Err(ChangeError::TooManySlots)), "{full:?}");
    assert_eq!(Keystore::slots(&store).expect("list").len(), Keystore::MAX_SLOTS);
}

#[test]
fn a_backup_can_open_with_the_phrase_alone() {
    let key = RecoveryKey::from_bytes(&[9; 32]);
    let store = store(&key);
    let mut open = OpenKeystore::open(&store, &key).expect("open");
    let paper = open.add(&new(&phrase(5), &entropy(2))).expect("add");
    let copy = open.copy(&[paper], &entropy(3)).expect("copy");
    assert_eq!(open.check_copy(&copy).expect("whole").len(), 1);
    let restored = MemoryKeyStore::default();
    restored.create(&copy).expect("create");
    assert!(matches!(OpenKeystore::open(&restored, &key), Err(OpenError::NoSlot(_))));
    let again = OpenKeystore::open(&restored, &phrase(5)).expect("open");
    assert_eq!(again.identity().node_id(), open.identity().node_id());
    assert_eq!(again.generation(), open.generation());
    assert!(matches!(open.copy(&[], &entropy(4)), Err(ChangeError::LastSlot)));

    // Bytes that are damaged, or hold another node's keys.
    for at in 0..copy.len() {
        let mut altered = copy.clone();
        altered[at] ^= 1;
        let altered_slot = open.check_copy(&altered).is_ok();
        assert!(!altered_slot, "byte {at}");
    }
    let other = MemoryKeyStore::default();
    let seed = Seed::from_bytes(&[8; 64]);
    OpenKeystore::create(&other, &key.public(), &seed, &entropy(5), created()).expect("create");
    let foreign = open.check_copy(&other.load().expect("load").expect("created"));
    assert!(matches!(foreign, Err(OpenError::Altered)), "{foreign:?}");
}

#[test]
fn an_older_copy_is_noticed_where_an_anchor_remembers() {
    let dir = TempDir::new().expect("temporary directory");
    let (path, key) = (dir.path().join("identity.nnks"), RecoveryKey::from_bytes(&[9; 32]));
    let (store, anchor) = (FileKeyStore::new(&path), FileAnchor::new(dir.path().join("anchor")));
    OpenKeystore::create(&store, &key.public(), &seed(), &entropy(1), created()).expect("create");
    let unknown = OpenKeystore::open_anchored(&store, &key, &anchor).map(|_| ());
    assert!(matches!(unknown, Err(OpenError::Anchor(AnchorError::Missing))), "{unknown:?}");
    let open = OpenKeystore::open(&store, &key).expect("open");
    let mut open = open.anchor_to(&anchor).expect("anchor");
    let old = fs::read(&path).expect("file");
    open.add(&new(&phrase(5), &entropy(2))).expect("add");
    let node = open.identity().node_id();
    assert_eq!(anchor.read(node).expect("read"), Some(1));
    let newer = fs::read(&path).expect("file");

    fs::write(&path, &old).expect("put back");
    let outcome = OpenKeystore::open_anchored(&store, &key, &anchor).map(|_| ());
    assert!(matches!(outcome, Err(OpenError::RolledBack { found: 0, expected: 1 })), "{outcome:?}");
    assert!(OpenKeystore::open(&store, &key).is_ok(), "without the anchor nobody notices");
    fs::write(&path, &newer).expect("put back");
    assert!(OpenKeystore::open_anchored(&store, &key, &anchor).is_ok());

    // A power cut between store and anchor leaves the store ahead; opening catches up.
    let mut ahead = OpenKeystore::open(&store, &key).expect("open");
    ahead.add(&new(&phrase(6), &entropy(3))).expect("add");
    assert!(OpenKeystore::open_anchored(&store, &key, &anchor).is_ok());
    assert_eq!(anchor.read(node).expect("read"), Some(2));

    let other = MemoryKeyStore::default();
    let seed = Seed::from_bytes(&[8; 64]);
    OpenKeystore::create(&other, &key.public(), &seed, &entropy(5), created()).expect("create");
    let foreign = OpenKeystore::open_anchored(&other, &key, &anchor).map(|_| ());
    assert!(matches!(foreign, Err(OpenError::Anchor(AnchorError::Foreign))), "{foreign:?}");
}

#[test]
fn the_process_can_be_closed_to_dumps() {
    nonos_identity::memory::deny_dumps().expect("Linux");
}
