//! Laws that hold for all values, and decoders that hold out against all bytes.

use core::time::Duration;
use std::sync::LazyLock;

use nonos_identity::keystore::{
    Argon2Cost, CreateParams, KekSource as _, KeyStore as _, Keystore, NewSlot, OpenKeystore, Passphrase,
    RecoveryKey, RecoveryPhrase,
};
use nonos_identity::testing::{self, MemoryKeyStore, SimulatedDisk, honest_run};
use nonos_identity::wire::{self, Wire};
use nonos_identity::{
    Batch, Binding, Certificate, CertificateRequest, Domain, Envelope, Epoch, Identity, NetworkId, NodeId,
    OnionAddress, OnionNetwork, Opening, Revocation, Role, RunIdentity, SealedBox, Seed, SharedBox,
    SlotLog as _, StaticSecret, Succession, Suicide, Timestamp, Unverified,
};
use proptest::prelude::*;
use zeroize::Zeroizing;

const D: Domain = Domain::new("nonos/identity/test/v1");

static KEYSTORE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let store = MemoryKeyStore::default();
    let params = CreateParams {
        seed: Seed::from_bytes(&[7; 64]),
        entropy: Zeroizing::new([9; Keystore::ENTROPY_BYTES]),
        cost: Argon2Cost::MIN,
        created: Timestamp::from_secs(1_000_000),
    };
    Keystore::create_in(&store, b"passphrase", &params).expect("create");
    let mut open = OpenKeystore::open(&store, &Passphrase::new(b"passphrase")).expect("open");
    let entropy = Zeroizing::new([8; Keystore::ENTROPY_BYTES]);
    let (source, created) = (RecoveryKey::from_bytes(&[9; 32]).public(), Some(params.created));
    let label = Some("safe".parse().expect("label"));
    open.add(&NewSlot { source: &source, label, created, entropy: &entropy }).expect("add");
    store.load().expect("load").expect("created")
});

/// Parameters of a recovery-key slot, words, and a slot log of three records.
static SLOTS: LazyLock<[Vec<u8>; 3]> = LazyLock::new(|| {
    let params = RecoveryKey::from_bytes(&[9; 32]).fresh(NodeId::from_bytes([1; 32]), &[3; 32]);
    let mut entropy = [5; 32];
    entropy[0] = 6;
    let words = RecoveryPhrase::from_entropy(&entropy).expect("not weak").words();
    let disk = SimulatedDisk::new(0);
    let log = disk.create_slot_log("/d/slots", Epoch::from_number(7)).expect("create");
    (0..3).for_each(|slot| log.take(Epoch::from_number(7), slot).expect("fresh"));
    let log = disk.content("/d/slots").expect("created");
    [params.expect("fresh").params, words.as_bytes().to_vec(), log]
});

fn network() -> NetworkId {
    NetworkId::from_name("test")
}

/// Small damage to valid bytes: flips, cuts, insertions, doubled parts.
fn damage(mut bytes: Vec<u8>, edits: &[(u8, u16, u8)]) -> Vec<u8> {
    for &(kind, at, value) in edits {
        let at = usize::from(at) % (bytes.len() + 1);
        match kind % 4 {
            0 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= value;
                }
            }
            1 => bytes.truncate(at),
            2 => bytes.insert(at, value),
            _ => bytes.extend_from_within(at..),
        }
    }
    bytes
}

fn edits() -> impl Strategy<Value = Vec<(u8, u16, u8)>> {
    prop::collection::vec(any::<(u8, u16, u8)>(), 1..4)
}

fn round_trip<T: Wire + PartialEq + core::fmt::Debug>(value: &T) {
    let bytes = wire::to_bytes(value);
    assert!(bytes.len() <= T::MAX_BYTES);
    assert_eq!(wire::from_bytes::<T>(&bytes).as_ref(), Ok(value));
}

fn fuzz_all(bytes: &[u8]) {
    testing::fuzz_wire(bytes);
    testing::fuzz_certificate(bytes);
    testing::fuzz_envelope(bytes);
    testing::fuzz_keystore(bytes);
    testing::fuzz_onion_address(bytes);
    testing::fuzz_derivation_path(bytes);
    testing::fuzz_opening(bytes);
    testing::fuzz_head(bytes);
    testing::fuzz_sealed_box(bytes);
    testing::fuzz_revocation(bytes);
    testing::fuzz_succession(bytes);
    testing::fuzz_binding(bytes);
    testing::fuzz_presigned(bytes);
    testing::fuzz_recovery_phrase(bytes);
    testing::fuzz_slot_log(bytes);
}

/// One valid value of every record that a lifecycle knows.
static RECORDS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let (now, day) = (Timestamp::from_secs(1_777_777_200), Duration::from_secs(86_400));
    let (a, b) = (Identity::from_seed(&[1; 64]), Identity::from_seed(&[2; 64]));
    let (root, signer, network) = (a.root_key(), a.signing_key(Role::EpochSigner, 0), network());
    let first = Revocation::issue(&root, None, [1], now, day, &network).expect("in the rules");
    let request = CertificateRequest::new(root.public(), &signer, Role::EpochSigner, 1, now, day, &network)
        .expect("in the rules");
    let batch = Batch::new(vec![request.clone(), request.clone()]).expect("few");
    let presigned = batch.clone().sign(&root, &network).expect("its root");
    let (peer, onion) = (a.transport_key(&network), a.signing_key(Role::Onion, 0));
    let binding = Binding::issue(&root, &peer, &onion, OnionNetwork::Tor, 1, now, day, &network);
    let (shown, opening) = honest_run(&a, Epoch::at(now), &network);
    let (to, secret) = (b.static_secret(0).public(), StaticSecret::from_bytes(&[3; 32]));
    vec![
        wire::to_bytes(
            &Revocation::issue(&root, Some(&first), [1, 9], now, day, &network).expect("in the rules"),
        ),
        wire::to_bytes(
            &Succession::sign(&root, &b.root_key(), Epoch::at(now), &network).expect("in the rules"),
        ),
        wire::to_bytes(&Suicide::sign(&root, &network).expect("in the rules")),
        wire::to_bytes(&binding.expect("in the rules")),
        wire::to_bytes(&request),
        wire::to_bytes(&batch),
        wire::to_bytes(&presigned),
        wire::to_bytes(&shown),
        wire::to_bytes(&opening.head),
        wire::to_bytes(&opening),
        wire::to_bytes(&opening.seal(&to, &secret, &shown, &network).expect("in the rules")),
        wire::to_bytes(&opening.seal_to_all(&[to, to], &secret, &shown, &network).expect("in the rules")),
    ]
});

proptest! {
    #[test]
    fn decoders_survive_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        fuzz_all(&bytes);
    }

    #[test]
    fn text_parsers_survive_any_text(text in ".{0,80}", path in "m(/[+0-9]{0,11}['hH]?){0,8}") {
        fuzz_all(text.as_bytes());
        fuzz_all(path.as_bytes());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn records_round_trip(
        certificate in testing::certificate(network()),
        run in testing::run_identity(),
        onion in testing::onion_address(),
    ) {
        round_trip::<Certificate>(&certificate);
        round_trip::<RunIdentity>(&run);
        round_trip::<OnionAddress>(&onion);
        prop_assert_eq!(onion.to_string().parse(), Ok(onion));
        let json = serde_json::to_string(&onion).expect("text");
        prop_assert_eq!(serde_json::from_str::<OnionAddress>(&json).expect("text"), onion);
    }

    #[test]
    fn issued_certificates_check(certificate in testing::certificate(network())) {
        let (role, start) = (certificate.role(), certificate.not_before());
        let verified = Unverified::new(certificate.clone()).check_issued(role, &network(), start);
        prop_assert_eq!(verified.expect("valid").into_inner(), certificate);
    }

    #[test]
    fn envelopes_round_trip_and_damaged_ones_never_check(
        envelope in testing::envelope(D, network()),
        edits in edits(),
    ) {
        let kind = envelope.header().kind;
        let now = envelope.header().epoch.start();
        let check = |bytes: &[u8]| match Envelope::parse(bytes) {
            Ok(parsed) => parsed.check_signed(D, &network(), kind, now).ok(),
            Err(_) => None,
        };
        let bytes = envelope.as_bytes().to_vec();
        prop_assert_eq!(check(&bytes).expect("valid").into_inner(), envelope);
        let damaged = damage(bytes.clone(), &edits);
        fuzz_all(&damaged);
        prop_assert!(damaged == bytes || check(&damaged).is_none());
    }

    #[test]
    fn decoders_survive_damaged_values(
        certificate in testing::certificate(network()),
        run in testing::run_identity(),
        onion in testing::onion_address(),
        edits in edits(),
    ) {
        fuzz_all(&damage(wire::to_bytes(&certificate), &edits));
        fuzz_all(&damage(wire::to_bytes(&run), &edits));
        fuzz_all(&damage(wire::to_bytes(&onion), &edits));
        fuzz_all(&damage(onion.to_string().into_bytes(), &edits));
        fuzz_all(&damage(b"m/20047'/0'/5'/2963000'/9'".to_vec(), &edits));
        fuzz_all(&damage(KEYSTORE.clone(), &edits));
        for bytes in &*SLOTS {
            fuzz_all(bytes);
            fuzz_all(&damage(bytes.clone(), &edits));
        }
    }

    #[test]
    fn decoders_survive_damaged_lifecycle_records(
        record in prop::sample::select(&RECORDS[..]),
        edits in edits(),
    ) {
        fuzz_all(&record);
        fuzz_all(&damage(record, &edits));
    }

    #[test]
    fn commitments_are_to_one_identity(
        a in testing::run_identity(),
        b in testing::run_identity(),
        key in testing::signing_key(),
    ) {
        let key = key.public();
        prop_assert_eq!(a == b, a.commit(&key) == b.commit(&key));
    }

    #[test]
    fn boxes_open_to_what_was_sealed(
        secrets in prop::collection::vec(any::<[u8; 32]>(), 1..5),
        ephemeral in any::<[u8; 32]>(),
        plain in prop::collection::vec(any::<u8>(), 0..300),
        aad in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let secrets: Vec<_> = secrets.iter().map(StaticSecret::from_bytes).collect();
        let to: Vec<_> = secrets.iter().map(StaticSecret::public).collect();
        let ephemeral = StaticSecret::from_bytes(&ephemeral);
        let shared = SharedBox::seal(&to, &ephemeral, D, &aad, &plain).expect("honest keys");
        round_trip::<SharedBox>(&shared);
        for (secret, to) in secrets.iter().zip(&to) {
            prop_assert_eq!(&shared.open(secret, D, &aad).expect("a recipient")[..], &plain[..]);
            let sealed = SealedBox::seal(to, &ephemeral, D, &aad, &plain).expect("honest key");
            round_trip::<SealedBox>(&sealed);
            prop_assert_eq!(&sealed.open(secret, D, &aad).expect("the recipient")[..], &plain[..]);
        }
    }
}

#[test]
fn the_valid_records_are_valid() {
    let opening: Opening = wire::from_bytes(&RECORDS[9]).expect("canonical");
    let shown = wire::from_bytes(&RECORDS[7]).expect("canonical");
    assert_eq!(opening.check(&shown, &network(), None), Ok(()));
}
