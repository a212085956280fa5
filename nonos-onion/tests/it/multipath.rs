use std::collections::BTreeSet;
use std::sync::Arc;

use nonos_identity::wire::{self, DecodeError};
use nonos_identity::{Digest, WideDigest};
use nonos_onion::domains;
use nonos_onion::multipath::{
    Code, EncodeError, Encoder, MAX_OPEN_STRIPES, Manifest, ManifestError, Object, Rebuild, RebuildError,
    STRIPE_BYTES, Shard, ShardError, ShardFault, ShardId,
};
use nonos_onion::testing::{fuzz_manifest, fuzz_multipath};
use proptest::collection::vec;
use proptest::prelude::*;

mod circuit;
mod transfer;

pub(crate) const CODES: [Code; 2] = [Code::Xor2of3, Code::ReedSolomon4of6];

pub(crate) fn context() -> WideDigest {
    WideDigest::of_bytes(b"a capsule")
}

/// Bytes that repeat nowhere (xorshift64).
pub(crate) fn noise(len: usize, salt: u8) -> Vec<u8> {
    let mut state = u64::from(salt) + 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        for shift in [13, -7, 17_i8] {
            state ^= if shift > 0 { state << shift } else { state >> -shift };
        }
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// The manifest of an object, and its shards by stripe.
fn encode(code: Code, object: &[u8]) -> (Arc<Manifest>, Vec<Vec<Vec<u8>>>) {
    let mut encoder = Encoder::new(context(), code);
    let mut rest = object;
    let mut stripes = Vec::new();
    while let Some(shards) = encoder.stripe(&mut rest).unwrap() {
        stripes.push(shards);
    }
    (Arc::new(encoder.finish()), stripes)
}

/// The subsets of `n` shards with `k` members, as bits.
fn subsets(n: usize, k: usize) -> impl Iterator<Item = u32> {
    (0..1_u32 << n).filter(move |set| set.count_ones() as usize == k)
}

fn id(stripe: usize, shard: usize) -> ShardId {
    ShardId { stripe: u32::try_from(stripe).unwrap(), shard: u8::try_from(shard).unwrap() }
}

/// The checked shards of one subset, the last stripe first.
fn chosen(manifest: &Manifest, stripes: &[Vec<Vec<u8>>], set: u32) -> Vec<Shard> {
    let mut all = Vec::new();
    for (stripe, shards) in stripes.iter().enumerate().rev() {
        for (shard, bytes) in shards.iter().enumerate().filter(|(shard, _)| set >> shard & 1 == 1) {
            all.push(manifest.check(0, id(stripe, shard), bytes.clone()).unwrap());
        }
    }
    all
}

fn rebuild(manifest: &Arc<Manifest>, shards: Vec<Shard>) -> (Rebuild, Vec<u8>) {
    let mut rebuild = Rebuild::new(manifest.clone(), &BTreeSet::new());
    let mut object = vec![0; usize::try_from(manifest.object_bytes()).unwrap()];
    for shard in shards {
        if let Some(stripe) = rebuild.add(shard).unwrap() {
            let start = usize::try_from(stripe.offset).unwrap();
            object[start..start + stripe.bytes.len()].copy_from_slice(&stripe.bytes);
        }
    }
    (rebuild, object)
}

#[test]
fn any_k_shards_make_the_object_and_fewer_never_do() {
    for code in CODES {
        for len in [0, 1, 2, 7, STRIPE_BYTES - 1, STRIPE_BYTES, STRIPE_BYTES + 1, 2 * STRIPE_BYTES + 12_345] {
            let object = noise(len, 9);
            let (manifest, stripes) = encode(code, &object);
            assert_eq!(stripes.len(), len.div_ceil(STRIPE_BYTES));
            for set in subsets(code.shards(), code.data()) {
                let (rebuild, bytes) = rebuild(&manifest, chosen(&manifest, &stripes, set));
                assert!(rebuild.is_done(), "{code:?} {len} {set:b}");
                assert!(bytes == object, "{code:?} {len} {set:b}");
            }
            for set in subsets(code.shards(), code.data() - 1).filter(|_| len > 0) {
                let (rebuild, _) = rebuild(&manifest, chosen(&manifest, &stripes, set));
                assert!(rebuild.done().is_empty(), "{code:?} {len} {set:b}");
                assert!((0..manifest.stripes()).all(|stripe| rebuild.needs(stripe) == 1));
            }
        }
    }
}

#[test]
fn an_object_answers_with_the_shards_of_the_encoder() {
    for code in CODES {
        let bytes = noise(STRIPE_BYTES + 5, 2);
        let (manifest, stripes) = encode(code, &bytes);
        let object = Object::from_bytes(context(), code, bytes).unwrap();
        assert_eq!(*object.digest(), manifest.digest());
        for (stripe, shards) in stripes.iter().enumerate() {
            for (shard, bytes) in shards.iter().enumerate() {
                assert!(object.shard(id(stripe, shard)).unwrap().as_ref() == Some(bytes), "{stripe} {shard}");
            }
        }
        assert_eq!(object.shard(id(0, code.shards())).unwrap(), None);
        assert_eq!(object.shard(id(2, 0)).unwrap(), None);
    }
}

#[test]
fn bad_shards_are_refused_and_name_their_path() {
    for code in CODES {
        let (manifest, stripes) = encode(code, &noise(STRIPE_BYTES + 9, 1));
        let good = &stripes[0][1];
        let refused = |at: ShardId, bytes: Vec<u8>, fault| {
            assert_eq!(manifest.check(5, at, bytes), Err(ShardError { path: 5, id: at, fault }));
        };
        for byte in [0, good.len() / 2, good.len() - 1] {
            let mut bad = good.clone();
            bad[byte] ^= 1;
            refused(id(0, 1), bad, ShardFault::Digest);
        }
        refused(id(0, 0), good.clone(), ShardFault::Digest);
        refused(id(0, 1), good[1..].to_vec(), ShardFault::Length);
        refused(id(1, 1), good.clone(), ShardFault::Length);
        refused(id(0, code.shards()), good.clone(), ShardFault::Unknown);
        refused(id(2, 0), good.clone(), ShardFault::Unknown);

        // The same bytes at the same place of an object of another context.
        let mut other = Encoder::new(WideDigest::of_bytes(b"another"), code);
        other.stripe(&mut &noise(STRIPE_BYTES, 1)[..]).unwrap();
        let other = other.finish();
        let shard = manifest.check(0, id(0, 1), good.clone()).unwrap();
        let mut rebuild = Rebuild::new(Arc::new(other), &BTreeSet::new());
        assert_eq!(rebuild.add(shard), Err(RebuildError::Foreign));
    }
}

#[test]
fn shards_beyond_need_are_ignored_and_open_stripes_are_bounded() {
    let object = noise((MAX_OPEN_STRIPES + 1) * STRIPE_BYTES, 4);
    let (manifest, stripes) = encode(Code::Xor2of3, &object);
    let shard = |stripe: usize, shard: usize| {
        manifest.check(0, id(stripe, shard), stripes[stripe][shard].clone()).unwrap()
    };
    let mut rebuild = Rebuild::new(manifest.clone(), &BTreeSet::new());
    for stripe in 0..MAX_OPEN_STRIPES {
        assert_eq!(rebuild.add(shard(stripe, 2)), Ok(None));
        assert_eq!(rebuild.add(shard(stripe, 2)), Ok(None), "the same again");
    }
    assert_eq!(rebuild.add(shard(MAX_OPEN_STRIPES, 0)), Err(RebuildError::Full));
    let stripe = rebuild.add(shard(3, 1)).unwrap().unwrap();
    assert_eq!((stripe.number, stripe.offset, stripe.rebuilt), (3, 3 * STRIPE_BYTES as u64, 1));
    assert_eq!(rebuild.add(shard(3, 0)), Ok(None), "the stripe is done");
    assert_eq!((rebuild.needs(3), rebuild.holds(id(3, 1))), (0, false));
    assert_eq!(rebuild.add(shard(MAX_OPEN_STRIPES, 0)), Ok(None), "there is room again");

    let have = (0..7).chain([1000]).collect();
    let rebuild = Rebuild::new(manifest, &have);
    assert_eq!((rebuild.done().len(), rebuild.needs(6), rebuild.needs(7)), (7, 0, 2));
}

/// The manifest with the digest of one shard replaced by that of other bytes.
fn relist(manifest: &Manifest, at: ShardId, bytes: &[u8]) -> Manifest {
    let place = [&at.stripe.to_le_bytes()[..], &[at.shard]].concat();
    let digest = Digest::of(domains::SHARD, &[context().as_bytes(), &place, bytes]);
    let mut encoded = wire::to_bytes(manifest);
    let old = manifest.shard_digest(at).unwrap().as_bytes();
    let start = encoded.windows(32).position(|window| window == old).unwrap();
    encoded[start..start + 32].copy_from_slice(digest.as_bytes());
    Manifest::read(&encoded, &context()).unwrap()
}

#[test]
fn parity_that_is_none_is_the_fault_of_the_manifest() {
    for code in CODES {
        let (manifest, stripes) = encode(code, &noise(1000, 1));
        let at = id(0, code.data());
        let bogus = vec![7; manifest.shard_bytes(0)];
        let manifest = Arc::new(relist(&manifest, at, &bogus));
        let mut rebuild = Rebuild::new(manifest.clone(), &BTreeSet::new());
        let bogus = manifest.check(0, at, bogus).unwrap();
        assert_eq!(rebuild.add(bogus), Ok(None));
        let mut outcome = Ok(None);
        for (shard, bytes) in stripes[0].iter().enumerate().take(code.data()).skip(1) {
            outcome = rebuild.add(manifest.check(0, id(0, shard), bytes.clone()).unwrap());
        }
        assert_eq!(outcome, Err(RebuildError::Inconsistent(0)), "{code:?}");
        let all_data = (1 << code.data()) - 1;
        let (rebuild, _) = self::rebuild(&manifest, chosen(&manifest, &stripes, all_data));
        assert!(rebuild.is_done());
    }
}

#[test]
fn manifests_keep_their_limits() {
    let (manifest, _) = encode(Code::Xor2of3, &noise(STRIPE_BYTES + 1, 1));
    let bytes = wire::to_bytes(&*manifest);
    assert_eq!(Manifest::read(&bytes, &context()).as_ref(), Ok(&*manifest));
    let other = WideDigest::of_bytes(b"another");
    assert_eq!(Manifest::read(&bytes, &other), Err(ManifestError::Context));

    let length = [0x1a, 0, 0x10, 0, 1];
    let at = bytes.windows(5).position(|window| window == length).unwrap();
    let with = |at: usize, byte: u8| {
        let mut changed = bytes.clone();
        changed[at] = byte;
        Manifest::read(&changed, &context())
    };
    let malformed = Err(ManifestError::Decode(DecodeError::Malformed));
    assert_eq!(with(at + 2, 0x20), malformed, "a stripe more");
    assert_eq!(with(at + 1, 0xff), malformed, "too many stripes");
    assert_eq!(with(at - 3, 0x20), malformed, "another stripe size");
    assert_eq!(with(at - 6, 2), malformed, "another code");
    assert!(with(at + 4, 2).is_ok(), "another length, which the shards will not have");
    let (empty, _) = encode(Code::ReedSolomon4of6, &[]);
    assert!(Rebuild::new(empty, &BTreeSet::new()).is_done());
}

#[test]
fn a_broken_reader_is_an_error() {
    struct Broken;
    impl std::io::Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::TimedOut.into())
        }
    }
    let manifest = Encoder::manifest_of(context(), Code::Xor2of3, &mut Broken);
    assert!(matches!(manifest, Err(EncodeError::Read(_))));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn objects_of_any_length_survive_any_loss(
        len in prop_oneof![0..5000_usize, STRIPE_BYTES - 9..STRIPE_BYTES + 9, 0..3 * STRIPE_BYTES],
        reed_solomon: bool,
        choice: prop::sample::Index,
        salt: u8,
    ) {
        let code = CODES[usize::from(reed_solomon)];
        let object = noise(len, salt);
        let (manifest, stripes) = encode(code, &object);
        let sets: Vec<u32> = subsets(code.shards(), code.data()).collect();
        let (rebuild, bytes) = rebuild(&manifest, chosen(&manifest, &stripes, *choice.get(&sets)));
        prop_assert!(rebuild.is_done() && bytes == object);
    }
}

proptest! {
    #[test]
    fn decoders_are_canonical(
        stripes in 0..3_usize,
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        noise in vec(any::<u8>(), 0..300),
        kind in 0..5_u8,
        len in 0..3_u8,
    ) {
        let (manifest, _) = encode(Code::Xor2of3, &vec![0; stripes * (STRIPE_BYTES - 9)]);
        let mut bytes = wire::to_bytes(&*manifest);
        fuzz_manifest(&bytes);
        for (at, with) in changes {
            let at = at.index(bytes.len());
            bytes[at] ^= with;
        }
        fuzz_manifest(&bytes);
        fuzz_manifest(&noise);
        fuzz_multipath(&noise);
        fuzz_multipath(&[&[kind][..], &noise].concat());
        fuzz_multipath(&[kind, 0, 0, 0, 1, 2, 0, 0, 0, len]);
    }
}
