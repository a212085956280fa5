//! Wire formats and derivations, pinned byte for byte. A failure here is a breaking change: run
//! with `NONOS_BLESS=1` to print the new lines, and review them.

use core::fmt::Write as _;
use core::time::Duration;

use data_encoding::HEXLOWER;
use nonos_identity::keystore::{Argon2Cost, CreateParams, KeyStore as _, Keystore};
use nonos_identity::testing::MemoryKeyStore;
use nonos_identity::wire;
use nonos_identity::{
    Certificate, Domain, Envelope, Epoch, Identity, NetworkId, OnionAddress, OnionNetwork, Opening, Role,
    Seed, Timestamp,
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

fn opening() -> Opening {
    let (epoch, slot) = (Epoch::at(NOW), 5);
    let onion = identity().signing_key(Role::Onion, 0).public();
    Opening {
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

#[test]
fn nothing_has_changed() {
    let (identity, opening) = (identity(), opening());
    let exec_key = identity.execution_key(opening.epoch, opening.slot).public();
    let values: [(&str, Vec<u8>); 13] = [
        ("network", network().as_bytes().to_vec()),
        ("node", identity.node_id().as_bytes().to_vec()),
        ("transport", identity.transport_key(&network()).public().as_bytes().to_vec()),
        ("author-7", identity.signing_key(Role::Author, 7).public().as_bytes().to_vec()),
        ("static-0", identity.static_secret(0).public().to_vec()),
        ("zk-0", identity.zk_secret(0).to_vec()),
        ("execution", exec_key.as_bytes().to_vec()),
        ("onion", wire::to_bytes(&opening.onion)),
        ("certificate", wire::to_bytes(&certificate())),
        ("opening", wire::to_bytes(&opening)),
        ("id-commitment", opening.commit(&exec_key).as_bytes().to_vec()),
        ("envelope", envelope().as_bytes().to_vec()),
        ("keystore", keystore()),
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
