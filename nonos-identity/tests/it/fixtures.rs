//! Wire formats and derivations, pinned byte for byte. A failure here is a breaking change: run
//! with `NONOS_BLESS=1` to print the new lines, and review them.

use core::fmt::Write as _;
use core::time::Duration;

use data_encoding::HEXLOWER;
use nonos_identity::keystore::{
    Argon2Cost, CreateParams, KekSource, KeyStore as _, Keystore, NewSlot, OpenKeystore, Passphrase,
    RecoveryKey, RecoveryPhrase,
};
use nonos_identity::testing::{MemoryKeyStore, SimulatedDisk, honest_run};
use nonos_identity::wire;
use nonos_identity::{
    Binding, Certificate, Domain, Envelope, Epoch, Identity, NetworkId, OnionAddress, OnionNetwork,
    Revocation, Role, RunIdentity, SealedBox, Seed, SlotLog as _, StaticSecret, Succession, Suicide,
    Timestamp,
};
use zeroize::Zeroizing;

const NOW: Timestamp = Timestamp::from_secs(1_777_777_777);
const HOUR: Duration = Duration::from_secs(3_600);
const PASS: &[u8] = b"correct horse";
const FIXTURES: &str = include_str!("../vectors/fixtures.txt");

fn counted<const N: usize>(start: u8) -> [u8; N] {
    let mut bytes = [start; N];
    bytes.iter_mut().zip(0_u8..).for_each(|(byte, at)| *byte = byte.wrapping_add(at));
    bytes
}

fn identity() -> Identity {
    Identity::from_seed(&counted(1))
}

fn run() -> RunIdentity {
    let (epoch, slot) = (Epoch::at(NOW), 5);
    let onion = identity().signing_key(Role::Onion, 0).public();
    RunIdentity {
        node: identity().node_id(),
        onion: OnionAddress::new(OnionNetwork::Mesh, onion),
        peer: identity().transport_key(&network()).public(),
        epoch,
        slot,
        blind: *identity().execution_blind(epoch, slot),
    }
}

fn network() -> NetworkId {
    NetworkId::from_name("fixture")
}

fn envelope() -> Envelope {
    let domain = Domain::new("nonos/identity/test/v1");
    let key = identity().signing_key(Role::Transport, 0);
    let body = b"body".to_vec();
    Envelope::seal(&key, domain, &network(), 300, 2, NOW, HOUR, body).expect("short").into_inner()
}

fn certificate() -> Certificate {
    let subject = identity().transport_key(&network());
    Certificate::issue(&identity().root_key(), &subject, Role::Transport, 1, NOW, HOUR, &network())
        .expect("within the rules")
}

fn revocation() -> Revocation {
    let root = identity().root_key();
    let first = Revocation::issue(&root, None, [], NOW, HOUR, &network()).expect("in the rules");
    Revocation::issue(&root, Some(&first), [1, 70_000], NOW, HOUR, &network()).expect("in the rules")
}

fn succession() -> Succession {
    let new = Identity::from_seed(&counted(2)).root_key();
    Succession::sign(&identity().root_key(), &new, Epoch::at(NOW), &network()).expect("two roots")
}

fn binding() -> Binding {
    let identity = identity();
    let (peer, onion) = (identity.transport_key(&network()), identity.signing_key(Role::Onion, 0));
    let mesh = OnionNetwork::Mesh;
    Binding::issue(&identity.root_key(), &peer, &onion, mesh, 1, NOW, HOUR, &network()).expect("in the rules")
}

fn sealed_box() -> SealedBox {
    let ephemeral = StaticSecret::from_bytes(&counted(200));
    let domain = Domain::new("nonos/identity/test/v1");
    SealedBox::seal(&identity().static_secret(0).public(), &ephemeral, domain, b"aad", b"plain")
        .expect("honest key")
}

fn keystore() -> Vec<u8> {
    let store = MemoryKeyStore::default();
    let params = CreateParams {
        seed: Seed::from_bytes(&counted(1)),
        entropy: Zeroizing::new(counted(100)),
        cost: Argon2Cost::MIN,
        created: NOW,
    };
    Keystore::create_in(&store, PASS, &params).expect("create");
    store.load().expect("load").expect("created")
}

fn phrase() -> RecoveryPhrase {
    RecoveryPhrase::from_entropy(&counted(30)).expect("not weak")
}

fn recovery_key() -> RecoveryKey {
    RecoveryKey::from_bytes(&counted(60))
}

/// The keystore above after a phrase and a recovery key were added.
fn keystore_with_slots() -> Vec<u8> {
    let store = MemoryKeyStore::default();
    store.create(&keystore()).expect("empty store");
    let mut open = OpenKeystore::open(&store, &Passphrase::new(PASS)).expect("open");
    let sources: [(&dyn KekSource, &str, u8); 2] =
        [(&phrase(), "paper", 140), (&recovery_key().public(), "safe", 7)];
    for (source, label, start) in sources {
        let (label, entropy) = (Some(label.parse().expect("label")), Zeroizing::new(counted(start)));
        open.add(&NewSlot { source, label, created: Some(NOW), entropy: &entropy }).expect("add");
    }
    store.load().expect("load").expect("created")
}

fn slot_log() -> Vec<u8> {
    let disk = SimulatedDisk::new(0);
    let log = disk.create_slot_log("/d/slots", Epoch::at(NOW)).expect("create");
    log.take(Epoch::at(NOW), 5).expect("fresh");
    log.take(Epoch::at(NOW).next(), u32::MAX).expect("fresh");
    disk.content("/d/slots").expect("created")
}

#[test]
fn nothing_has_changed() {
    let (identity, run) = (identity(), run());
    let exec_key = identity.execution_key(run.epoch, run.slot).public();
    let (shown, opening) = honest_run(&identity, run.epoch, &network());
    let suicide = Suicide::sign(&identity.root_key(), &network()).expect("software signs");
    let values: [(&str, Vec<u8>); 22] = [
        ("network", network().as_bytes().to_vec()),
        ("node", identity.node_id().as_bytes().to_vec()),
        ("transport", identity.transport_key(&network()).public().as_bytes().to_vec()),
        ("author-7", identity.signing_key(Role::Author, 7).public().as_bytes().to_vec()),
        ("static-0", identity.static_secret(0).public().to_vec()),
        ("zk-0", identity.zk_secret(0).to_vec()),
        ("execution", exec_key.as_bytes().to_vec()),
        ("onion", wire::to_bytes(&run.onion)),
        ("certificate", wire::to_bytes(&certificate())),
        ("run-identity", wire::to_bytes(&run)),
        ("id-commitment", run.commit(&exec_key).as_bytes().to_vec()),
        ("envelope", envelope().as_bytes().to_vec()),
        ("keystore", keystore()),
        ("revocation", wire::to_bytes(&revocation())),
        ("succession", wire::to_bytes(&succession())),
        ("suicide", wire::to_bytes(&suicide)),
        ("binding", wire::to_bytes(&binding())),
        ("public-run", wire::to_bytes(&shown)),
        ("opening", wire::to_bytes(&opening)),
        ("sealed-box", wire::to_bytes(&sealed_box())),
        ("keystore-slots", keystore_with_slots()),
        ("slot-log", slot_log()),
    ];
    let mut text = String::new();
    for (name, bytes) in &values {
        writeln!(text, "{name} {}", HEXLOWER.encode(bytes)).expect("a string takes every write");
    }
    if std::env::var_os("NONOS_BLESS").is_some() {
        print!("{text}");
    }
    let pinned: String =
        FIXTURES.lines().filter(|line| !line.starts_with('#')).map(|l| format!("{l}\n")).collect();
    assert_eq!(pinned, text);
}

#[test]
fn the_pinned_keystore_opens() {
    let line = FIXTURES.lines().find_map(|line| line.strip_prefix("keystore ")).expect("pinned");
    let store = MemoryKeyStore::default();
    store.create(&crate::vectors::hex(line)).expect("empty store");
    let opened = Keystore::open_in(&store, PASS).expect("open");
    assert_eq!(opened.node_id(), identity().node_id());
}

#[test]
fn the_pinned_slots_open() {
    let line = FIXTURES.lines().find_map(|line| line.strip_prefix("keystore-slots ")).expect("pinned");
    let store = MemoryKeyStore::default();
    store.create(&crate::vectors::hex(line)).expect("empty store");
    let sources: [&dyn KekSource; 3] = [&Passphrase::new(PASS), &phrase(), &recovery_key()];
    for source in sources {
        let open = OpenKeystore::open(&store, source).expect("open");
        assert_eq!((open.identity().node_id(), open.generation()), (identity().node_id(), 2));
    }
}
