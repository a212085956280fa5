//! Laws over random values, and decoders on random and mutated bytes.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;

use nonos_capsule::dispute::CommittedChain;
use nonos_capsule::testing::{
    MemoryCapsuleStore, MemoryNonceStore, check_capsule_store, check_nonce_store, fuzz_capsule, fuzz_dispute,
    fuzz_head, fuzz_image, fuzz_meter, fuzz_wasi, fuzz_wire, policies,
};
use nonos_capsule::{
    Capsule, CapsuleStore as _, CheckSigned as _, FileCapsuleStore, FileNonceStore, Head, NonceError,
    NonceStore as _, Policy, SignaturePolicy, StoreError,
};
use nonos_identity::wire::{from_bytes, to_bytes};
use nonos_identity::{Digest, WideDigest};
use proptest::prelude::*;

use crate::support::{NOW, author, command, network, policy, signed, verified, wasm};

/// Whether everything that `narrow` allows, `wide` allows too.
fn is_within(narrow: &Policy, wide: &Policy) -> bool {
    narrow.gas_limit <= wide.gas_limit
        && narrow.memory_pages_max <= wide.memory_pages_max
        && narrow.stack_depth_max <= wide.stack_depth_max
        && narrow.table_elems_max <= wide.table_elems_max
        && narrow.wall_ms_max <= wide.wall_ms_max
        && narrow.checkpoint_interval_gas >= wide.checkpoint_interval_gas
        && narrow.host_calls.is_subset(wide.host_calls)
        && narrow.output_max_bytes <= wide.output_max_bytes
        && narrow.clock <= wide.clock
        && narrow.random <= wide.random
        && narrow.fs_max_bytes <= wide.fs_max_bytes
        && narrow.fs_max_files <= wide.fs_max_files
}

proptest! {
    #[test]
    fn intersection_only_narrows(a in policies(), b in policies(), c in policies()) {
        let both = a.intersect(&b);
        prop_assert!(is_within(&both, &a) && is_within(&both, &b));
        prop_assert_eq!(&both, &b.intersect(&a));
        prop_assert_eq!(&a.intersect(&a), &a);
        prop_assert_eq!(both.intersect(&c), a.intersect(&b.intersect(&c)));
        prop_assert_eq!(both.check(), Ok(()));
    }

    #[test]
    fn policies_have_one_encoding_and_digest(a in policies(), b in policies()) {
        prop_assert_eq!(from_bytes::<Policy>(&to_bytes(&a)), Ok(a.clone()));
        prop_assert_eq!(a == b, a.digest() == b.digest());
    }

    #[test]
    fn decoders_take_anything(bytes in prop::collection::vec(any::<u8>(), 0..2_000)) {
        fuzz_capsule(&bytes);
        fuzz_head(&bytes);
        fuzz_wire(&bytes);
        fuzz_dispute(&bytes);
        fuzz_meter(&bytes);
        fuzz_meter(&[b"\0asm\x01\0\0\0", &bytes[..]].concat());
        fuzz_image(&bytes);
    }

    #[test]
    fn host_calls_take_anything(bytes in prop::collection::vec(any::<u8>(), 0..2_000)) {
        fuzz_wasi(&bytes);
    }

    #[test]
    fn decoders_take_mutated_bytes(place in any::<prop::sample::Index>(), to in any::<u8>(), cut in any::<bool>()) {
        let capsule = signed(&wasm(&command("", "(drop (i32.load (i32.const 0)))")), policy());
        let mutate = |mut bytes: Vec<u8>| {
            let place = place.index(bytes.len());
            if cut { bytes.truncate(place) } else { bytes[place] = to }
            bytes
        };
        fuzz_capsule(&mutate(capsule.to_bytes()));
        fuzz_head(&mutate(capsule.head().to_bytes()));
        fuzz_meter(&mutate(capsule.payload().to_vec()));
        fuzz_wire(&mutate(to_bytes(&capsule.chunk(0).unwrap())));
        let chain = (0..9).map(|n| WideDigest::of_bytes(&[n])).collect();
        let input = WideDigest::of_bytes(b"input");
        let chain = CommittedChain::from_checkpoints(capsule.id(), input, input, chain).unwrap();
        fuzz_dispute(&mutate(to_bytes(&chain.open(5).unwrap())));
        fuzz_dispute(&mutate(to_bytes(chain.commitment())));
    }
}

/// What fuzzing begins with is a capsule of today: with NONOS_BLESS it is written anew.
#[test]
fn seeds_of_fuzzing_are_accepted() {
    // Beside the crates and in none of them.
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds");
    if !seeds.exists() {
        return;
    }
    let mut capsule = signed(&wasm(&command("", "(drop (i32.load (i32.const 0)))")), policy());
    capsule.attest(1, b"reviewed".to_vec(), &author(), &network()).unwrap();
    for (name, bytes) in
        [("capsule_capsule/load", capsule.to_bytes()), ("capsule_head/load", capsule.head().to_bytes())]
    {
        if std::env::var_os("NONOS_BLESS").is_some() {
            std::fs::write(seeds.join(name), &bytes).unwrap();
        }
        assert!(std::fs::read(seeds.join(name)).unwrap() == bytes, "{name}: NONOS_BLESS=1 writes it anew");
    }
    for image in std::fs::read_dir(seeds.join("capsule_image")).unwrap() {
        fuzz_image(&std::fs::read(image.unwrap().path()).unwrap());
    }
}

/// Every byte of header, table, manifest, policy, chunk table and signatures counts.
#[test]
fn no_byte_can_be_changed() {
    let capsule = signed(&wasm("(module)"), policy());
    let rule = SignaturePolicy::new(network());
    for (name, bytes) in [("capsule", capsule.to_bytes()), ("head", capsule.head().to_bytes())] {
        for place in 0..bytes.len() {
            for flip in [1, 0x80] {
                let mut bytes = bytes.clone();
                bytes[place] ^= flip;
                let accepted = match name {
                    "capsule" => Capsule::parse(&bytes).is_ok_and(|c| c.check_signed(&rule, NOW).is_ok()),
                    _ => Head::parse(&bytes).is_ok_and(|h| h.check_signed(&rule, NOW).is_ok()),
                };
                assert!(!accepted, "{name}, byte {place}");
            }
        }
        let trailing = [&bytes[..], &[0]].concat();
        assert!(Capsule::parse(&trailing).is_err() && Head::parse(&trailing).is_err());
    }
}

#[test]
fn capsule_stores_keep_their_contract() {
    let capsule = verified(signed(&wasm("(module)"), policy()));
    check_capsule_store(&MemoryCapsuleStore::default(), &capsule);
    let directory = tempfile::tempdir().unwrap();
    let store = FileCapsuleStore::open(directory.path().join("capsules")).unwrap();
    check_capsule_store(&store, &capsule);

    store.put(&capsule).unwrap();
    let path = directory.path().join("capsules").join(format!("{}.mod", capsule.id()));
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[20] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    assert!(matches!(store.read(&capsule.id()), Err(StoreError::Damaged(_))));
}

#[test]
fn nonce_stores_keep_their_contract() {
    check_nonce_store(Box::new(MemoryNonceStore::default()), |store| store);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("nonces");
    check_nonce_store(Box::new(FileNonceStore::open(&path).unwrap()), |store| {
        drop(store);
        Box::new(FileNonceStore::open(&path).unwrap())
    });
}

#[test]
fn a_torn_tail_is_cut_and_damage_before_it_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("nonces");
    let key = |n: u8| Digest::of_bytes(&[n]);
    let store = FileNonceStore::open(&path).unwrap();
    store.consume(&key(1)).unwrap();
    store.consume(&key(2)).unwrap();
    assert!(FileNonceStore::open(&path).is_err(), "the log is locked");
    drop(store);

    let whole = std::fs::read(&path).unwrap();
    for torn in [1, 20, 39] {
        std::fs::write(&path, &whole).unwrap();
        OpenOptions::new().append(true).open(&path).unwrap().write_all(&vec![0xab; torn]).unwrap();
        let store = FileNonceStore::open(&path).unwrap();
        assert!(matches!(store.consume(&key(1)), Err(NonceError::Used)));
        assert!(matches!(store.consume(&key(2)), Err(NonceError::Used)));
        store.consume(&key(3)).unwrap();
        drop(store);
        assert!(FileNonceStore::open(&path).unwrap().is_used(&key(3)).unwrap());
    }
    let mut damaged = whole;
    damaged[3] ^= 1;
    std::fs::write(&path, damaged).unwrap();
    assert!(matches!(FileNonceStore::open(&path), Err(StoreError::Damaged(_))));
}
