//! For tests of this crate and of those built on it: stores in memory and on a disk that loses
//! power, the conformance checks of [`KeyStore`], [`KekSource`], [`RollbackAnchor`] and
//! [`SlotLog`], strategies, and one fuzz function per decoder.

mod disk;

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use proptest::prelude::*;

pub use self::disk::{Fault, SimulatedDisk};

use crate::address::{OnionAddress, OnionNetwork};
use crate::binding::Binding;
use crate::certificate::{Certificate, CertificateRequest};
use crate::domain::Domain;
use crate::domains::OPENING;
use crate::envelope::Envelope;
use crate::exec::{
    EpochHead, ExecutionSlots, HeadEquivocation, IdCommitment, Opening, PublicRun, RunIdentity,
};
use crate::hd::DerivationPath;
use crate::identity::{Identity, StaticSecret};
use crate::key::{NodeId, PublicKey, Signature, SignatureError, SigningKey};
use crate::keystore::{
    AnchorError, KekError, KekSource, KeyStore, Keystore, RecoveryPhrase, RollbackAnchor, Sealed,
    StorageError, fuzz_params,
};
use crate::network::NetworkId;
use crate::presigned::{Batch, Presigned};
use crate::revocation::{Revocation, RevocationEquivocation};
use crate::role::Role;
use crate::sealed_box::{SealedBox, SharedBox};
use crate::slot_log::{FileSlotLog, Records, SlotError, SlotLog};
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

    fn replace(&self, old: &[u8], new: &[u8]) -> Result<(), StorageError> {
        let mut stored = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match stored.as_deref() {
            None => return Err(StorageError::Missing),
            Some(stored) if stored != old => return Err(StorageError::Changed),
            Some(_) => *stored = Some(new.to_vec()),
        }
        Ok(())
    }
}

/// A rollback anchor in memory.
#[derive(Debug, Default)]
pub struct MemoryAnchor(Mutex<BTreeMap<NodeId, u64>>);

impl RollbackAnchor for MemoryAnchor {
    fn read(&self, root: NodeId) -> Result<Option<u64>, AnchorError> {
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&root).copied())
    }

    fn raise(&self, root: NodeId, generation: u64) -> Result<(), AnchorError> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = known.entry(root).or_default();
        *known = (*known).max(generation);
        Ok(())
    }
}

/// A slot log in memory. It forgets everything when it is dropped, so it is for tests only.
#[derive(Debug, Default)]
pub struct MemorySlotLog(Mutex<(Epoch, BTreeSet<(Epoch, u32)>)>);

impl SlotLog for MemorySlotLog {
    fn take(&self, epoch: Epoch, slot: u32) -> Result<(), SlotError> {
        let (horizon, used) = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if epoch < *horizon {
            return Err(SlotError::Forgotten(*horizon));
        }
        if used.len() >= FileSlotLog::MAX_RECORDS {
            return Err(SlotError::Full(used.len()));
        }
        if used.insert((epoch, slot)) { Ok(()) } else { Err(SlotError::Used) }
    }

    fn is_used(&self, epoch: Epoch, slot: u32) -> Result<bool, SlotError> {
        let (horizon, used) = &*self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(epoch < *horizon || used.contains(&(epoch, slot)))
    }

    fn horizon(&self) -> Result<Epoch, SlotError> {
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).0)
    }

    fn forget_before(&self, to: Epoch) -> Result<(), SlotError> {
        let (horizon, used) = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *horizon = (*horizon).max(to);
        used.retain(|(epoch, _)| *epoch >= *horizon);
        Ok(())
    }
}

/// Checks the contract of [`KeyStore`] on an empty store.
///
/// # Panics
/// If the contract is broken.
pub fn check_key_store(store: &dyn KeyStore) {
    let load = || store.load().expect("load");
    assert_eq!(load(), None, "the check needs an empty store");
    let early = store.replace(b"", b"early");
    assert!(matches!(early, Err(StorageError::Missing)), "replace on an empty store: {early:?}");
    assert_eq!(load(), None, "a refused replace stored something");
    store.create(b"first").expect("create");
    assert_eq!(load().as_deref(), Some(&b"first"[..]));
    let second = store.create(b"second");
    assert!(matches!(second, Err(StorageError::Exists)), "create over a store: {second:?}");
    assert_eq!(load().as_deref(), Some(&b"first"[..]), "a refused create changed the store");
    let mut stored = &b"first"[..];
    for bytes in [&b"a longer one than before"[..], b"short", b""] {
        let stale = store.replace(b"stale", bytes);
        assert!(matches!(stale, Err(StorageError::Changed)), "replace of other bytes: {stale:?}");
        assert_eq!(load().as_deref(), Some(stored), "a refused replace changed the store");
        store.replace(stored, bytes).expect("replace");
        assert_eq!(load().as_deref(), Some(bytes));
        stored = bytes;
    }
    let over_empty = store.create(b"third");
    assert!(matches!(over_empty, Err(StorageError::Exists)), "create over an empty store: {over_empty:?}");
}

/// Checks the contract of [`KekSource`] on a source that can also open.
///
/// # Panics
/// If the contract is broken.
pub fn check_kek_source(source: &dyn KekSource) {
    let root = NodeId::from_bytes([1; 32]);
    let new = source.fresh(root, &[3; 32]).expect("fresh");
    assert!(new.params.len() <= Keystore::MAX_PARAMS_BYTES, "{} bytes of params", new.params.len());
    for _ in 0..2 {
        let key = source.recover(root, &new.params).expect("recover");
        assert_eq!(key.as_bytes(), new.key.as_bytes(), "another key was recovered");
    }
    let holds_key = new.params.windows(32).any(|window| window == new.key.as_bytes());
    assert!(!holds_key, "the params, which are public, hold the key");
    let other = source.fresh(root, &[4; 32]).expect("fresh");
    assert_ne!(other.key.as_bytes(), new.key.as_bytes(), "two slots have one key");
    for bad in [&b""[..], b"\xff", &[0; Keystore::MAX_PARAMS_BYTES]] {
        let recovered = source.recover(root, bad);
        assert!(matches!(recovered, Err(KekError::Malformed | KekError::Foreign)), "{recovered:?}");
    }
}

/// Checks the contract of [`RollbackAnchor`] on an anchor that remembers nothing.
///
/// # Panics
/// If the contract is broken.
pub fn check_rollback_anchor(anchor: &dyn RollbackAnchor) {
    let root = NodeId::from_bytes([1; 32]);
    let read = || anchor.read(root).expect("read");
    assert_eq!(read(), None, "the check needs an empty anchor");
    for (raised, known) in [(0, 0), (7, 7), (7, 7), (3, 7), (u64::MAX, u64::MAX), (0, u64::MAX)] {
        anchor.raise(root, raised).expect("raise");
        assert_eq!(read(), Some(known), "after {raised}");
    }
}

/// Checks the contract of [`SlotLog`] within one process, on a log whose horizon is below 100.
///
/// # Panics
/// If the contract is broken.
pub fn check_slot_log(log: &dyn SlotLog) {
    let epoch = Epoch::from_number;
    let is_used = |number, slot| log.is_used(epoch(number), slot).expect("is_used");
    assert!(!is_used(100, 7));
    log.take(epoch(100), 7).expect("a fresh slot");
    assert!(is_used(100, 7) && !is_used(100, 8) && !is_used(101, 7));
    for _ in 0..2 {
        let again = log.take(epoch(100), 7);
        assert!(matches!(again, Err(SlotError::Used)), "a slot was taken twice: {again:?}");
    }
    let limits = [(100, 0), (100, u32::MAX), (u64::MAX, 0), (u64::MAX, u32::MAX)];
    for (number, slot) in limits {
        log.take(epoch(number), slot).expect("a fresh slot");
        assert!(matches!(log.take(epoch(number), slot), Err(SlotError::Used)));
    }
    // Of several threads that want one slot, one gets it.
    let winners: usize = std::thread::scope(|scope| {
        let take = || (0..32).filter(|slot| log.take(epoch(102), *slot).is_ok()).count();
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(take)).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).sum()
    });
    assert_eq!(winners, 32);

    log.forget_before(epoch(102)).expect("forget");
    assert_eq!(log.horizon().expect("horizon"), epoch(102));
    for slot in [7, 9] {
        let old = log.take(epoch(101), slot);
        assert!(matches!(old, Err(SlotError::Forgotten(at)) if at == epoch(102)), "{old:?}");
        assert!(is_used(101, slot), "a slot of a forgotten epoch");
    }
    assert!(is_used(102, 31) && is_used(u64::MAX, 0), "a slot after the horizon was forgotten");
    assert!(matches!(log.take(epoch(102), 31), Err(SlotError::Used)));
    log.take(epoch(102), 32).expect("a fresh slot after forgetting");
    log.forget_before(epoch(50)).expect("forget");
    assert_eq!(log.horizon().expect("horizon"), epoch(102), "the horizon was lowered");
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

/// The seed of BIP39 for a phrase and a password: published vectors have one, our phrases none.
#[must_use]
pub fn bip39_seed(phrase: &RecoveryPhrase, password: &str) -> [u8; 64] {
    phrase.seed_with_password(password)
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
    let mut slots = ExecutionSlots::new(identity.roles(), identity.node_id(), epoch);
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

/// [`EpochHead`] and [`HeadEquivocation`] from bytes.
///
/// # Panics
/// If a decoder accepts bytes that are not canonical.
pub fn fuzz_head(bytes: &[u8]) {
    fuzz_one::<EpochHead>(bytes);
    fuzz_one::<HeadEquivocation>(bytes);
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

/// [`Revocation`] and [`RevocationEquivocation`] from bytes.
///
/// # Panics
/// If a decoder accepts bytes that are not canonical.
pub fn fuzz_revocation(bytes: &[u8]) {
    fuzz_one::<Revocation>(bytes);
    fuzz_one::<RevocationEquivocation>(bytes);
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

/// The encrypted form of a keystore, up to the point where a key is asked for, and the parameters
/// of each kind of slot.
///
/// # Panics
/// If two files hold the same content.
pub fn fuzz_keystore(bytes: &[u8]) {
    if let Ok(sealed) = Sealed::parse(bytes) {
        assert_eq!(sealed.to_bytes(), bytes);
    }
    fuzz_params(bytes);
}

/// Text form of [`RecoveryPhrase`].
///
/// # Panics
/// If what is shown of a phrase is not that phrase.
pub fn fuzz_recovery_phrase(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    if let Ok(phrase) = RecoveryPhrase::parse(text) {
        let words = phrase.words();
        assert!(text.split_whitespace().map(str::to_ascii_lowercase).eq(words.split(' ')));
        let again = RecoveryPhrase::parse(&words).map(|again| again.words());
        assert_eq!(again.as_deref(), Ok(&*words));
    }
}

/// The file of a slot log, as it is read when it is opened.
///
/// # Panics
/// If more than one torn record is cut off.
pub fn fuzz_slot_log(bytes: &[u8]) {
    if let Ok(records) = Records::parse(bytes) {
        assert!(records.end() <= bytes.len());
        let whole = bytes.split_at(records.end()).0;
        assert_eq!(Records::parse(whole).map(|again| again.len()).ok(), Some(records.len()));
    }
}
