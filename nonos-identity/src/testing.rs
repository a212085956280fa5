//! For tests of this crate and of those built on it: an in-memory keystore, the conformance
//! check of [`KeyStore`], strategies, and one fuzz function per decoder.

use core::time::Duration;
use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use proptest::prelude::*;

use crate::address::{OnionAddress, OnionNetwork};
use crate::binding::Binding;
use crate::certificate::{Certificate, CertificateRequest};
use crate::domain::Domain;
use crate::domains::OPENING;
use crate::envelope::Envelope;
use crate::exec::{EpochHead, ExecutionSlots, HeadFork, IdCommitment, Opening, PublicRun, RunIdentity};
use crate::hd::DerivationPath;
use crate::identity::{Identity, StaticSecret};
use crate::key::{NodeId, PublicKey, Signature, SignatureError, SigningKey};
use crate::keystore::{KeyStore, Sealed, StorageError};
use crate::network::NetworkId;
use crate::presigned::{Batch, Presigned};
use crate::revocation::{Revocation, RevocationFork};
use crate::role::Role;
use crate::sealed_box::{SealedBox, SharedBox};
use crate::slot_log::{SlotError, SlotLog};
use crate::succession::Succession;
use crate::suicide::Suicide;
use crate::time::{Epoch, Timestamp};
use crate::wire::{self, Wire};

/// A keystore's bytes in memory.
#[derive(Debug, Default)]
pub struct MemoryKeyStore(Mutex<Option<Vec<u8>>>);

impl KeyStore for MemoryKeyStore {
    fn load(&self) -> Result<Option<Vec<u8>>, StorageError> {
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    fn create(&self, bytes: &[u8]) -> Result<(), StorageError> {
        let mut stored = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if stored.is_some() {
            return Err(StorageError::Exists);
        }
        *stored = Some(bytes.to_vec());
        Ok(())
    }

    fn replace(&self, bytes: &[u8]) -> Result<(), StorageError> {
        let mut stored = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if stored.is_none() {
            return Err(StorageError::Missing);
        }
        *stored = Some(bytes.to_vec());
        Ok(())
    }
}

/// Used slots in memory.
#[derive(Debug, Default)]
pub struct MemorySlotLog(Mutex<BTreeSet<(Epoch, u32)>>);

impl SlotLog for MemorySlotLog {
    fn take(&self, epoch: Epoch, slot: u32) -> Result<(), SlotError> {
        let mut used = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if used.insert((epoch, slot)) { Ok(()) } else { Err(SlotError::Used) }
    }

    fn is_used(&self, epoch: Epoch, slot: u32) -> Result<bool, SlotError> {
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(&(epoch, slot)))
    }
}

/// Checks the contract of [`KeyStore`] on an empty store.
///
/// # Panics
/// If the contract is broken.
pub fn check_key_store(store: &dyn KeyStore) {
    let load = || store.load().expect("load");
    assert_eq!(load(), None, "the check needs an empty store");
    let early = store.replace(b"early");
    assert!(matches!(early, Err(StorageError::Missing)), "replace on an empty store: {early:?}");
    assert_eq!(load(), None, "a refused replace stored something");
    store.create(b"first").expect("create");
    assert_eq!(load().as_deref(), Some(&b"first"[..]));
    let second = store.create(b"second");
    assert!(matches!(second, Err(StorageError::Exists)), "create over a store: {second:?}");
    assert_eq!(load().as_deref(), Some(&b"first"[..]), "a refused create changed the store");
    for bytes in [&b"a longer one than before"[..], b"short", b""] {
        store.replace(bytes).expect("replace");
        assert_eq!(load().as_deref(), Some(bytes));
    }
    let over_empty = store.create(b"third");
    assert!(matches!(over_empty, Err(StorageError::Exists)), "create over an empty store: {over_empty:?}");
}

/// Verifies a signature over exactly `message` under the rule of [`PublicKey`], but for the list
/// of published keys: published vectors are signed by published keys, and carry no domain.
///
/// # Errors
/// [`SignatureError`] if the key breaks the rule or the signature does not verify.
pub fn verify_untagged(key: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> Result<(), SignatureError> {
    let key = PublicKey::admit_point(key).map_err(|_| SignatureError)?;
    key.verify_untagged(message, &Signature::from_bytes(*signature))
}

/// Signing keys that are on no list of published keys.
pub fn signing_key() -> impl Strategy<Value = SigningKey> {
    any::<[u8; 32]>()
        .prop_filter("published", |seed| *seed != [0; 32])
        .prop_map(|seed| SigningKey::from_seed(&seed))
}

/// Network ids.
pub fn network_id() -> impl Strategy<Value = NetworkId> {
    any::<[u8; 32]>().prop_map(NetworkId::from_bytes)
}

/// Onion addresses of every network.
pub fn onion_address() -> impl Strategy<Value = OnionAddress> {
    (prop::sample::select(&OnionNetwork::ALL[..]), signing_key())
        .prop_map(|(network, key)| OnionAddress::new(network, key.public()))
}

/// Roles that a certificate can carry.
pub fn certified_role() -> impl Strategy<Value = Role> {
    prop::sample::select(&Role::ALL[..]).prop_filter("no certificate", |role| *role != Role::RootSign)
}

/// Certificates for a network, valid from some second before 2^40 on.
///
/// # Panics
/// Never: what is drawn is within the rules of [`Certificate::issue`].
pub fn certificate(network: NetworkId) -> impl Strategy<Value = Certificate> {
    let lifetime = 1..=Certificate::MAX_LIFETIME.as_secs();
    (signing_key(), signing_key(), certified_role(), any::<u64>(), 0..1u64 << 40, lifetime)
        .prop_filter("one key", |(root, subject, ..)| root.public() != subject.public())
        .prop_map(move |(root, subject, role, serial, not_before, lifetime)| {
            let not_before = Timestamp::from_secs(not_before);
            let lifetime = Duration::from_secs(lifetime);
            Certificate::issue(&root, &subject, role, serial, not_before, lifetime, &network)
                .expect("within the rules")
        })
}

/// Identities of runs, of any node and slot.
pub fn run_identity() -> impl Strategy<Value = RunIdentity> {
    (any::<[u8; 32]>(), onion_address(), signing_key(), any::<u64>(), any::<u32>(), any::<[u8; 32]>())
        .prop_map(|(node, onion, peer, epoch, slot, blind)| RunIdentity {
            node: NodeId::from_bytes(node),
            onion,
            peer: peer.public(),
            epoch: Epoch::from_number(epoch),
            slot,
            blind,
        })
}

/// A run of some slot of an epoch, and the opening that holds for it in a network.
///
/// # Panics
/// Never: what it issues is within the rules.
#[must_use]
pub fn honest_run(identity: &Identity, epoch: Epoch, network: &NetworkId) -> (PublicRun, Opening) {
    let signer = identity.signing_key(Role::EpochSigner, 0);
    let root = identity.root_key();
    let lifetime = Certificate::MAX_LIFETIME;
    let certificate =
        Certificate::issue(&root, &signer, Role::EpochSigner, 7, epoch.start(), lifetime, network)
            .expect("within the rules");
    let mut slots = ExecutionSlots::new(identity, epoch);
    let head = slots.sign_head(&signer, &certificate, None, network).expect("within the rules");
    let slot = slots.take(&MemorySlotLog::default()).expect("all are free");
    let onion = identity.signing_key(Role::Onion, 0).public();
    let run =
        slot.identity(OnionAddress::new(OnionNetwork::Mesh, onion), identity.transport_key(network).public());
    (run.public(slot.key().public()), slot.opening(run, head, certificate))
}

/// Envelopes with bodies up to 1 KiB, sealed for a domain and a network.
///
/// # Panics
/// Never: what is drawn is below [`Envelope::MAX_BODY_BYTES`].
pub fn envelope(domain: Domain, network: NetworkId) -> impl Strategy<Value = Envelope> {
    let body = prop::collection::vec(any::<u8>(), 0..1024);
    (signing_key(), any::<u16>(), any::<u64>(), 0..1u64 << 40, 1..1u64 << 30, body).prop_map(
        move |(key, kind, seq, now, lifetime, body)| {
            let (now, lifetime) = (Timestamp::from_secs(now), Duration::from_secs(lifetime));
            Envelope::seal(&key, domain, &network, kind, seq, now, lifetime, body)
                .expect("body below the limit")
                .into_inner()
        },
    )
}

/// What decodes must encode to the same bytes.
fn fuzz_one<T: Wire>(bytes: &[u8]) {
    if let Ok(value) = wire::from_bytes::<T>(bytes) {
        assert_eq!(wire::to_bytes(&value), bytes);
    }
}

/// Every small record of this crate.
///
/// # Panics
/// If a decoder accepts bytes that are not canonical.
pub fn fuzz_wire(bytes: &[u8]) {
    fuzz_one::<Role>(bytes);
    fuzz_one::<IdCommitment>(bytes);
    fuzz_one::<PublicRun>(bytes);
    fuzz_one::<RunIdentity>(bytes);
    fuzz_one::<OnionAddress>(bytes);
}

/// [`Opening`] from bytes.
///
/// # Panics
/// If the decoder accepts bytes that are not canonical, or an opening of nothing checks.
pub fn fuzz_opening(bytes: &[u8]) {
    fuzz_one::<Opening>(bytes);
    if let Ok(opening) = wire::from_bytes::<Opening>(bytes) {
        let network = NetworkId::from_bytes([0; 32]);
        let exec_key = opening.run.peer;
        assert!(opening.check(&opening.run.public(exec_key), &network, None).is_err());
    }
}

/// [`EpochHead`] and [`HeadFork`] from bytes.
///
/// # Panics
/// If a decoder accepts bytes that are not canonical.
pub fn fuzz_head(bytes: &[u8]) {
    fuzz_one::<EpochHead>(bytes);
    fuzz_one::<HeadFork>(bytes);
}

/// [`SealedBox`] and [`SharedBox`] from bytes, and opening them.
///
/// # Panics
/// If a decoder accepts bytes that are not canonical, or a box opens that nobody sealed.
pub fn fuzz_sealed_box(bytes: &[u8]) {
    fuzz_one::<SealedBox>(bytes);
    fuzz_one::<SharedBox>(bytes);
    let secret = StaticSecret::from_bytes(&[0x5a; 32]);
    if let Ok(sealed) = wire::from_bytes::<SealedBox>(bytes) {
        assert!(sealed.open(&secret, OPENING, b"").is_err());
    }
    if let Ok(shared) = wire::from_bytes::<SharedBox>(bytes) {
        assert!(shared.open(&secret, OPENING, b"").is_err());
    }
}

/// [`Revocation`] and [`RevocationFork`] from bytes.
///
/// # Panics
/// If a decoder accepts bytes that are not canonical.
pub fn fuzz_revocation(bytes: &[u8]) {
    fuzz_one::<Revocation>(bytes);
    fuzz_one::<RevocationFork>(bytes);
}

/// [`Succession`] and [`Suicide`] from bytes.
///
/// # Panics
/// If a decoder accepts bytes that are not canonical.
pub fn fuzz_succession(bytes: &[u8]) {
    fuzz_one::<Succession>(bytes);
    fuzz_one::<Suicide>(bytes);
}

/// [`Binding`] from bytes.
///
/// # Panics
/// If the decoder accepts bytes that are not canonical.
pub fn fuzz_binding(bytes: &[u8]) {
    fuzz_one::<Binding>(bytes);
}

/// [`Batch`] and [`Presigned`] from bytes.
///
/// # Panics
/// If a decoder accepts bytes that are not canonical.
pub fn fuzz_presigned(bytes: &[u8]) {
    fuzz_one::<Batch>(bytes);
    fuzz_one::<Presigned>(bytes);
}

/// [`Certificate`] and [`CertificateRequest`] from bytes.
///
/// # Panics
/// If a decoder accepts bytes that are not canonical.
pub fn fuzz_certificate(bytes: &[u8]) {
    fuzz_one::<Certificate>(bytes);
    fuzz_one::<CertificateRequest>(bytes);
}

/// [`Envelope::parse`].
///
/// # Panics
/// If the parser loses or changes a byte.
pub fn fuzz_envelope(bytes: &[u8]) {
    if let Ok(envelope) = Envelope::parse(bytes) {
        let kept =
            envelope.check(|envelope| if envelope.as_bytes()[..] == *bytes { Ok(()) } else { Err(()) });
        assert!(kept.is_ok(), "original bytes are kept");
    }
}

/// Text form of [`OnionAddress`].
///
/// # Panics
/// If two texts mean one address.
pub fn fuzz_onion_address(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    if let Ok(address) = text.parse::<OnionAddress>() {
        assert_eq!(address.to_string(), text);
        assert_eq!(OnionAddress::from_bytes(&address.to_bytes()), Ok(address));
    }
}

/// Text form of [`DerivationPath`].
///
/// # Panics
/// If two texts mean one path.
pub fn fuzz_derivation_path(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    if let Ok(path) = text.parse::<DerivationPath>() {
        assert_eq!(path.to_string(), text);
    }
}

/// The encrypted form of a keystore, up to the point where a passphrase is asked for.
///
/// # Panics
/// If two files hold the same content.
pub fn fuzz_keystore(bytes: &[u8]) {
    if let Ok(sealed) = Sealed::parse(bytes) {
        assert_eq!(sealed.to_bytes(), bytes);
    }
}
