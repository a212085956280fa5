//! Keystores in files and in memory.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::PathBuf;

use nonos_identity::keystore::{
    Argon2Cost, ChangeError, CreateError, CreateParams, Entropy, FileKeyStore, KeyStore, Keystore, OpenError,
    StorageError,
};
use nonos_identity::testing::{MemoryKeyStore, check_key_store};
use nonos_identity::{Identity, Seed, Timestamp};
use tempfile::TempDir;
use zeroize::Zeroizing;

const PASS: &[u8] = b"correct horse";

fn entropy(byte: u8) -> Entropy {
    let mut entropy = Zeroizing::new([byte; Keystore::ENTROPY_BYTES]);
    entropy.iter_mut().zip(0_u8..).for_each(|(byte, at)| *byte ^= at);
    entropy
}

fn params() -> CreateParams {
    CreateParams {
        seed: Seed::from_bytes(&[7; 64]),
        entropy: entropy(0xa5),
        cost: Argon2Cost::MIN,
        created: Timestamp::from_secs(1_000_000),
    }
}

fn place() -> (TempDir, PathBuf) {
    let dir = TempDir::new().expect("temporary directory");
    let path = dir.path().join("node.nnks");
    (dir, path)
}

/// A valid keystore's bytes.
fn sealed() -> Vec<u8> {
    let store = MemoryKeyStore::default();
    Keystore::create_in(&store, PASS, &params()).expect("create");
    store.load().expect("load").expect("created")
}

fn open(bytes: &[u8]) -> Result<Identity, OpenError> {
    let store = MemoryKeyStore::default();
    store.create(bytes).expect("empty store");
    Keystore::open_in(&store, PASS)
}

#[test]
fn both_storages_keep_the_contract() {
    check_key_store(&MemoryKeyStore::default());
    let (_dir, path) = place();
    check_key_store(&FileKeyStore::new(path));
}

#[test]
fn what_was_created_opens() {
    let (dir, path) = place();
    let created = Keystore::create(&path, PASS, &params()).expect("create");
    let opened = Keystore::open(&path, PASS).expect("open");
    assert_eq!(created.node_id(), opened.node_id());
    assert_eq!(opened.node_id(), Identity::from_seed(&[7; 64]).node_id());
    assert_eq!(*opened.zk_secret(0), *created.zk_secret(0));
    let mode = fs::metadata(&path).expect("file").permissions().mode() & 0o7777;
    assert_eq!(mode, 0o600);
    let mut names: Vec<_> =
        fs::read_dir(dir.path()).expect("list").map(|e| e.expect("entry").file_name()).collect();
    names.sort();
    assert_eq!(names, ["node.nnks", "node.nnks.lock"]);
}

#[test]
fn the_file_shows_no_secret() {
    let bytes = sealed();
    let holds = |secret: &[u8]| bytes.windows(secret.len()).any(|window| window == secret);
    let entropy = entropy(0xa5);
    assert!(!holds(&[7; 16]), "seed");
    assert!(!holds(&entropy[..16]), "data key");
    assert!(!holds(PASS), "passphrase");
    assert!(holds(&entropy[32..48]), "the search would find the salt");
}

#[test]
fn a_wrong_passphrase_is_refused() {
    let (_dir, path) = place();
    Keystore::create(&path, PASS, &params()).expect("create");
    let before = fs::read(&path).expect("file");
    for wrong in [&b""[..], b"correct hors", b"correct horse ", b"Correct horse"] {
        assert!(matches!(Keystore::open(&path, wrong), Err(OpenError::Passphrase)));
    }
    assert_eq!(fs::read(&path).expect("file"), before, "failing to open changes nothing");
}

#[test]
fn every_altered_byte_is_refused() {
    let bytes = sealed();
    for at in 0..bytes.len() {
        let mut altered = bytes.clone();
        altered[at] ^= 1 << (at % 8);
        assert!(open(&altered).is_err(), "byte {at}");
    }
    assert!(open(&bytes).is_ok());
}

#[test]
fn every_truncation_and_extension_is_refused() {
    let bytes = sealed();
    for len in 0..bytes.len() {
        let outcome = open(&bytes[..len]);
        assert!(matches!(outcome, Err(OpenError::Malformed)), "{len} bytes: {outcome:?}");
    }
    let longer = [&bytes[..], &[0]].concat();
    assert!(matches!(open(&longer), Err(OpenError::Malformed)));
}

#[test]
fn a_later_version_is_named() {
    let mut bytes = sealed();
    bytes[4] = 2;
    assert!(matches!(open(&bytes), Err(OpenError::Version(2))));
}

#[test]
fn a_cost_out_of_bounds_is_refused_on_both_sides() {
    let (min, max) = (Argon2Cost::MIN, Argon2Cost::MAX);
    let outside = [
        Argon2Cost { memory_kib: min.memory_kib - 1, ..min },
        Argon2Cost { memory_kib: max.memory_kib + 1, ..min },
        Argon2Cost { passes: 0, ..min },
        Argon2Cost { passes: max.passes + 1, ..min },
        Argon2Cost { lanes: 0, ..min },
        Argon2Cost { lanes: max.lanes + 1, ..min },
    ];
    for cost in outside {
        let store = MemoryKeyStore::default();
        let created = Keystore::create_in(&store, PASS, &CreateParams { cost, ..params() });
        assert!(matches!(created, Err(CreateError::Cost)), "{cost:?}");
        assert_eq!(store.load().expect("load"), None);
    }
    assert!(min.is_accepted() && max.is_accepted() && Argon2Cost::default().is_accepted());

    // 19456 KiB is 19 4c 00 in CBOR; 4c 00 -> 0c 00 is 3072 KiB.
    let mut cheap = sealed();
    let at = cheap.windows(3).position(|window| window == [0x19, 0x4c, 0x00]).expect("the cost");
    cheap[at + 1] = 0x0c;
    assert!(matches!(open(&cheap), Err(OpenError::Cost)));
}

#[test]
fn senseless_parameters_are_refused() {
    let store = MemoryKeyStore::default();
    let create = |pass: &[u8], params: &CreateParams| Keystore::create_in(&store, pass, params).map(|_| ());
    assert!(matches!(create(b"", &params()), Err(CreateError::EmptyPassphrase)));
    let no_seed = CreateParams { seed: Seed::from_bytes(&[0; 64]), ..params() };
    assert!(matches!(create(PASS, &no_seed), Err(CreateError::NoEntropy)));
    let no_entropy = CreateParams { entropy: Zeroizing::new([0; Keystore::ENTROPY_BYTES]), ..params() };
    assert!(matches!(create(PASS, &no_entropy), Err(CreateError::NoEntropy)));
    assert_eq!(store.load().expect("load"), None);
}

#[test]
fn nothing_is_created_over_anything() {
    let (dir, path) = place();
    let missing = Keystore::open(&path, PASS);
    assert!(matches!(missing, Err(OpenError::Storage(StorageError::Missing))), "{missing:?}");
    Keystore::create(&path, PASS, &params()).expect("create");
    let before = fs::read(&path).expect("file");
    let again = Keystore::create(&path, PASS, &params());
    assert!(matches!(again, Err(CreateError::Storage(StorageError::Exists))), "{again:?}");
    assert_eq!(fs::read(&path).expect("file"), before);

    // Damaged, empty, a directory, a dangling link: an error, and left as it was.
    for content in [&before[..20], b""] {
        fs::write(&path, content).expect("write");
        assert!(matches!(Keystore::open(&path, PASS), Err(OpenError::Malformed)));
        assert!(Keystore::create(&path, PASS, &params()).is_err());
        assert_eq!(fs::read(&path).expect("file"), content);
    }
    let directory = dir.path().join("directory");
    fs::create_dir(&directory).expect("directory");
    let link = dir.path().join("link");
    symlink(dir.path().join("nowhere"), &link).expect("link");
    for path in [&directory, &link] {
        let opened = Keystore::open(path, PASS);
        assert!(matches!(opened, Err(OpenError::Storage(StorageError::NotRegular))), "{opened:?}");
        assert!(Keystore::create(path, PASS, &params()).is_err());
        let forced = FileKeyStore::new(path).create(b"bytes");
        assert!(matches!(forced, Err(StorageError::Exists)), "{forced:?}");
    }
    assert!(!dir.path().join("nowhere").exists(), "the link was not followed");
}

#[test]
fn links_and_files_open_to_others_are_refused() {
    let (dir, path) = place();
    Keystore::create(&path, PASS, &params()).expect("create");
    let link = dir.path().join("link");
    symlink(&path, &link).expect("link");
    let opened = Keystore::open(&link, PASS);
    assert!(matches!(opened, Err(OpenError::Storage(StorageError::NotRegular))), "{opened:?}");
    for mode in [0o640, 0o620, 0o604, 0o602, 0o644] {
        fs::set_permissions(&path, Permissions::from_mode(mode)).expect("mode");
        let opened = Keystore::open(&path, PASS);
        let refused =
            matches!(opened, Err(OpenError::Storage(StorageError::Permissions(found))) if found == mode);
        assert!(refused, "{mode:o}: {opened:?}");
    }
    fs::set_permissions(&path, Permissions::from_mode(0o400)).expect("mode");
    assert!(Keystore::open(&path, PASS).is_ok());
}

#[test]
fn a_huge_file_is_not_read() {
    let (_dir, path) = place();
    let file = File::create(&path).expect("create");
    file.set_permissions(Permissions::from_mode(0o600)).expect("mode");
    file.set_len(1 << 40).expect("sparse");
    let opened = Keystore::open(&path, PASS);
    assert!(matches!(opened, Err(OpenError::Storage(StorageError::TooLong(len))) if len == 1 << 40));
}

/// A crash leaves a temporary file with any part of the bytes; the next start sees no store, and
/// the next writer is not in its way.
#[test]
fn a_crash_while_creating_leaves_no_store() {
    let bytes = sealed();
    for len in [0, 1, bytes.len() / 2, bytes.len()] {
        let (dir, path) = place();
        let temporary = dir.path().join("node.nnks.tmp");
        fs::write(&temporary, &bytes[..len]).expect("leftover");
        fs::write(dir.path().join("node.nnks.lock"), b"").expect("leftover");
        let opened = Keystore::open(&path, PASS);
        assert!(matches!(opened, Err(OpenError::Storage(StorageError::Missing))), "{opened:?}");
        Keystore::create(&path, PASS, &params()).expect("create");
        assert!(Keystore::open(&path, PASS).is_ok());
        assert!(!temporary.exists());
    }
}

/// A crash between link and clean-up leaves the store under both names.
#[test]
fn a_crash_after_creating_leaves_a_whole_store() {
    let (dir, path) = place();
    Keystore::create(&path, PASS, &params()).expect("create");
    let temporary = dir.path().join("node.nnks.tmp");
    fs::hard_link(&path, &temporary).expect("link");
    assert!(Keystore::open(&path, PASS).is_ok());
    Keystore::change_passphrase(&path, PASS, b"other", &entropy(1), Argon2Cost::MIN).expect("change");
    assert!(Keystore::open(&path, b"other").is_ok());
    assert!(!temporary.exists());
}

#[test]
fn a_planted_temporary_link_is_not_followed() {
    let (dir, path) = place();
    let victim = dir.path().join("victim");
    fs::write(&victim, b"precious").expect("write");
    symlink(&victim, dir.path().join("node.nnks.tmp")).expect("link");
    Keystore::create(&path, PASS, &params()).expect("create");
    assert_eq!(fs::read(&victim).expect("file"), b"precious");
    assert!(fs::symlink_metadata(&path).expect("file").is_file());
}

#[test]
fn writers_exclude_each_other() {
    let (dir, path) = place();
    let lock = File::create(dir.path().join("node.nnks.lock")).expect("lock file");
    lock.lock().expect("lock");
    let created = Keystore::create(&path, PASS, &params());
    assert!(matches!(created, Err(CreateError::Storage(StorageError::Locked))), "{created:?}");
    assert!(!path.exists());
    drop(lock);
    Keystore::create(&path, PASS, &params()).expect("create");
}

/// Many starts at once: one creates the store, and all others are told that they did not.
#[test]
fn of_many_creators_one_wins() {
    let (_dir, path) = place();
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let create = |seed: u8| {
            let store = FileKeyStore::new(&path);
            move || store.create(&[seed; 100]).map(|()| seed)
        };
        let threads: Vec<_> = (1..=8).map(|seed| scope.spawn(create(seed))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    let winners: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.as_ref().ok()).collect();
    let [winner] = winners[..] else { panic!("{outcomes:?}") };
    assert_eq!(fs::read(&path).expect("file"), [*winner; 100]);
    for outcome in outcomes.iter().filter_map(|outcome| outcome.as_ref().err()) {
        assert!(matches!(outcome, StorageError::Exists | StorageError::Locked), "{outcome:?}");
    }
}

#[test]
fn a_changed_passphrase_opens_the_same_identity() {
    let (_dir, path) = place();
    let node = Keystore::create(&path, PASS, &params()).expect("create").node_id();
    let change =
        |old: &[u8], new: &[u8], cost| Keystore::change_passphrase(&path, old, new, &entropy(1), cost);
    let before = fs::read(&path).expect("file");
    assert!(matches!(
        change(b"wrong", b"new", Argon2Cost::MIN),
        Err(ChangeError::Open(OpenError::Passphrase))
    ));
    let cheap = Argon2Cost { memory_kib: 1, ..Argon2Cost::MIN };
    assert!(matches!(change(PASS, b"new", cheap), Err(ChangeError::Create(CreateError::Cost))));
    assert!(matches!(
        change(PASS, b"", Argon2Cost::MIN),
        Err(ChangeError::Create(CreateError::EmptyPassphrase))
    ));
    assert_eq!(fs::read(&path).expect("file"), before);

    change(PASS, b"new", Argon2Cost { passes: 2, ..Argon2Cost::MIN }).expect("change");
    assert!(matches!(Keystore::open(&path, PASS), Err(OpenError::Passphrase)));
    assert_eq!(Keystore::open(&path, b"new").expect("open").node_id(), node);
    let mode = fs::metadata(&path).expect("file").permissions().mode() & 0o7777;
    assert_eq!(mode, 0o600);
}

/// The cost that users get.
#[test]
fn the_default_cost_works() {
    let store = MemoryKeyStore::default();
    let params = CreateParams { cost: Argon2Cost::default(), ..params() };
    Keystore::create_in(&store, PASS, &params).expect("create");
    assert!(Keystore::open_in(&store, PASS).is_ok());
}
