//! In-memory stores, generators, conformance kits and fuzz entries for integrators.

#[cfg(feature = "wasmi")]
mod differential;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use nonos_identity::wire;
use nonos_identity::{Digest, NetworkId, Timestamp, Unverified, Verified};
use proptest::prelude::*;

use crate::container::{CAPSULE_MAGIC, HEAD_MAGIC, with_fitting_table};
use crate::dispute::{Accusation, ChainCommitment, CheckpointOpening, SignedChain};
use crate::runtime::wasi;
use crate::{
    Caps, Capsule, CapsuleId, CapsuleStore, CheckSigned as _, Chunk, ClockMode, Execution, Field,
    FieldOpening, Head, HiddenFields, HostCall, Image, Manifest, NonceError, NonceStore, Policy, RandomMode,
    Release, SignaturePolicy, StoreError, instrument,
};

#[cfg(feature = "wasmi")]
pub use self::differential::{Differential, fuzz_differential};

/// When signatures of fuzzed capsules are checked.
const FUZZ_TIME: Timestamp = Timestamp::from_secs(1_790_000_000);

/// Capsules in memory.
#[derive(Debug, Default)]
pub struct MemoryCapsuleStore(Mutex<BTreeMap<CapsuleId, Capsule>>);

impl CapsuleStore for MemoryCapsuleStore {
    fn put(&self, capsule: &Verified<Capsule>) -> Result<(), StoreError> {
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        map.insert(capsule.id(), Capsule::clone(capsule));
        Ok(())
    }

    fn read(&self, id: &CapsuleId) -> Result<Option<Unverified<Capsule>>, StoreError> {
        let map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(map.get(id).cloned().map(Unverified::new))
    }

    fn contains(&self, id: &CapsuleId) -> Result<bool, StoreError> {
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).contains_key(id))
    }

    fn ids(&self) -> Result<Vec<CapsuleId>, StoreError> {
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).keys().copied().collect())
    }

    fn remove(&self, id: &CapsuleId) -> Result<(), StoreError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
        Ok(())
    }
}

/// Nonces in memory: forgets them with the process, so only for tests.
#[derive(Debug, Default)]
pub struct MemoryNonceStore(Mutex<BTreeSet<Digest>>);

impl NonceStore for MemoryNonceStore {
    fn consume(&self, key: &Digest) -> Result<(), NonceError> {
        let mut set = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if set.insert(*key) { Ok(()) } else { Err(NonceError::Used) }
    }

    fn is_used(&self, key: &Digest) -> Result<bool, StoreError> {
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(key))
    }
}

/// Checks that a [`CapsuleStore`] keeps its contract; `store` must be empty.
///
/// # Panics
/// If it does not.
pub fn check_capsule_store(store: &dyn CapsuleStore, capsule: &Verified<Capsule>) {
    let id = capsule.id();
    assert!(!store.contains(&id).expect("contains"), "an empty store contains nothing");
    assert!(store.read(&id).expect("read").is_none());
    store.remove(&id).expect("removing what is not there is no error");
    for _ in 0..2 {
        store.put(capsule).expect("put, also again");
        assert!(store.contains(&id).expect("contains"));
        assert_eq!(store.ids().expect("ids"), [id]);
    }
    let read = store.read(&id).expect("read").expect("what was put is there");
    let same = read.check(|read| if read == &**capsule { Ok(()) } else { Err(()) });
    assert!(same.is_ok(), "what is read is what was put");
    store.remove(&id).expect("remove");
    assert!(!store.contains(&id).expect("contains"));
    assert_eq!(store.ids().expect("ids"), []);
}

/// Checks that a [`NonceStore`] keeps its contract; `reopen` gives the same store as after a
/// restart, so it drops the one it is given before it opens another.
///
/// # Panics
/// If it does not.
pub fn check_nonce_store(
    store: Box<dyn NonceStore>,
    reopen: impl FnOnce(Box<dyn NonceStore>) -> Box<dyn NonceStore>,
) {
    let key = |n: u8| Digest::of_bytes(&[n]);
    assert!(!store.is_used(&key(1)).expect("is_used"));
    store.consume(&key(1)).expect("the first time");
    assert!(matches!(store.consume(&key(1)), Err(NonceError::Used)));
    assert!(store.is_used(&key(1)).expect("is_used"));
    assert!(!store.is_used(&key(2)).expect("is_used"));
    let winners: usize = std::thread::scope(|scope| {
        let race = || usize::from(store.consume(&key(3)).is_ok());
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(race)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or(0)).sum()
    });
    assert_eq!(winners, 1, "of racing threads one wins");
    let store = reopen(store);
    for used in [1, 3] {
        assert!(matches!(store.consume(&key(used)), Err(NonceError::Used)), "a restart forgets nothing");
    }
    store.consume(&key(2)).expect("what was free is free");
}

/// A policy within its bounds.
pub fn policies() -> impl Strategy<Value = Policy> {
    let limits = (
        1..=Policy::MAX_GAS,
        0..=Policy::MAX_MEMORY_PAGES,
        1..=Policy::MAX_STACK_DEPTH,
        0..=Policy::MAX_TABLE_ELEMS,
        1..=Policy::MAX_WALL_MS,
        Policy::MIN_CHECKPOINT_INTERVAL_GAS..=Policy::MAX_GAS,
        0..=Policy::MAX_OUTPUT_BYTES,
        0..=Policy::MAX_FS_BYTES,
        0..=Policy::MAX_FS_FILES,
    );
    (limits, any::<u64>(), any::<bool>(), any::<bool>()).prop_map(|(limits, calls, is_logical, is_seeded)| {
        Policy {
            gas_limit: limits.0,
            memory_pages_max: limits.1,
            stack_depth_max: limits.2,
            table_elems_max: limits.3,
            wall_ms_max: limits.4,
            checkpoint_interval_gas: limits.5,
            output_max_bytes: limits.6,
            fs_max_bytes: limits.7,
            fs_max_files: limits.8,
            host_calls: HostCall::ALL
                .iter()
                .copied()
                .filter(|call| calls >> (*call as u8) & 1 == 1)
                .collect(),
            clock: if is_logical { ClockMode::Logical } else { ClockMode::Frozen },
            random: if is_seeded { RandomMode::Seeded } else { RandomMode::None },
            ..Policy::default()
        }
    })
}

/// Feeds bytes to the capsule decoder, as they are and with a section table made to fit them: what
/// it takes, it gives back byte for byte, and checking its signatures ends with an answer.
///
/// # Panics
/// If the decoder is wrong.
pub fn fuzz_capsule(bytes: &[u8]) {
    for bytes in [Some(bytes.to_vec()), with_fitting_table(bytes, CAPSULE_MAGIC)].into_iter().flatten() {
        let Ok(capsule) = Capsule::parse(&bytes) else { continue };
        let same = capsule.check(|capsule| (capsule.to_bytes() == bytes).then_some(()).ok_or(()));
        assert!(same.is_ok(), "a capsule has one encoding");
        let rule = SignaturePolicy::new(NetworkId::from_name("fuzz"));
        let _ = Capsule::parse(&bytes).map(|capsule| capsule.check_signed(&rule, FUZZ_TIME));
    }
}

/// As [`fuzz_capsule`], for heads.
///
/// # Panics
/// If the decoder is wrong.
pub fn fuzz_head(bytes: &[u8]) {
    for bytes in [Some(bytes.to_vec()), with_fitting_table(bytes, HEAD_MAGIC)].into_iter().flatten() {
        let Ok(head) = Head::parse(&bytes) else { continue };
        let same = head.check(|head| (head.to_bytes() == bytes).then_some(()).ok_or(()));
        assert!(same.is_ok(), "a head has one encoding");
        let rule = SignaturePolicy::new(NetworkId::from_name("fuzz"));
        let _ = Head::parse(&bytes).map(|head| head.check_signed(&rule, FUZZ_TIME));
    }
}

/// Feeds bytes to the decoders of chunks, policies, manifests, executions and hidden fields.
///
/// # Panics
/// If an opening of no field passes its check.
pub fn fuzz_wire(bytes: &[u8]) {
    if let Ok(fields) = wire::from_bytes::<HiddenFields>(bytes) {
        let _ = fields.commit();
    }
    if let Ok(opening) = wire::from_bytes::<FieldOpening>(bytes) {
        let field = Field { name: "x".to_owned(), value: String::new(), release: Release::Public };
        let hidden = HiddenFields::new([7; 32], vec![field]).and_then(|fields| fields.commit());
        assert!(hidden.is_ok_and(|hidden| opening.check(&hidden).is_err()), "nobody found the seed");
    }
    let _ = wire::from_bytes::<Chunk>(bytes);
    let _ = wire::from_bytes::<Policy>(bytes);
    let _ = wire::from_bytes::<Manifest>(bytes);
    let _ = wire::from_bytes::<Execution>(bytes);
}

/// Feeds bytes to the decoders of a dispute: what they take, they give back byte for byte.
///
/// # Panics
/// If a decoder is wrong.
pub fn fuzz_dispute(bytes: &[u8]) {
    let network = NetworkId::from_name("fuzz");
    if let Ok(opening) = wire::from_bytes::<CheckpointOpening>(bytes) {
        assert_eq!(wire::to_bytes(&opening), bytes, "an opening has one encoding");
    }
    if let Ok(commitment) = wire::from_bytes::<ChainCommitment>(bytes) {
        assert_eq!(wire::to_bytes(&commitment), bytes, "a commitment has one encoding");
    }
    if let Ok(chain) = SignedChain::open_expired(bytes, &network) {
        assert_eq!(&chain.envelope().as_bytes()[..], bytes, "a signed chain has one encoding");
    }
    if let Ok(accusation) = Accusation::parse(bytes, &network) {
        assert_eq!(accusation.to_bytes(), bytes, "an accusation has one encoding");
    }
}

/// Reads bytes as host calls of a hostile guest and makes them: none panics, each is charged, and
/// output and files stay within their quotas.
///
/// # Panics
/// If the host side of a call is wrong.
pub fn fuzz_wasi(bytes: &[u8]) {
    wasi::fuzz::drive(bytes);
}

/// Feeds bytes to the reader of file images: what it takes, it gives back file by file.
///
/// # Panics
/// If the reader is wrong.
pub fn fuzz_image(bytes: &[u8]) {
    if let Ok(image) = Image::from_tar(bytes) {
        assert!(image.entry_count() <= Image::MAX_ENTRIES && image.bytes() <= Image::MAX_BYTES);
        let held: u64 = image.paths().filter_map(|path| image.read(path)).map(|file| file.len() as u64).sum();
        assert_eq!(held, image.bytes());
        let clean = |path: &str| path.split('/').all(|name| !["", ".", ".."].contains(&name));
        assert!(image.paths().all(clean), "paths are plain names");
    }
}

/// Feeds bytes to the metering: what it takes, it turns into a valid module.
pub fn fuzz_meter(bytes: &[u8]) {
    // Validation of the result is a part of `meter`.
    let _ = instrument::meter(bytes, &Caps::default());
}
