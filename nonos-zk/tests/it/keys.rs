use std::fs;

use nonos_zk::groth16::{
    Groth16Prover, Groth16Verifier, KeyCache, KeyError, KeySet, Provenance, TransitVerifier, VerifyingKey,
};
use nonos_zk::testing::Run;
use nonos_zk::{Profile, Prover, Verifier, VerifyError};

use crate::transit::transit_keys;
use crate::{dev_keys, full_prover_keys, prover, verifier};

/// Offsets in the bytes of a key set or verifying key: magic, digest, then the label.
const PROFILE: usize = 40;
const CIRCUIT: usize = 41;
const SEED: usize = 74;
const MATERIAL: usize = 106;

/// Changes bytes and mends the integrity digest, as someone who means it would.
fn relabelled(mut bytes: Vec<u8>, edit: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    edit(&mut bytes);
    let magic: [u8; 8] = bytes[..8].try_into().unwrap();
    let digest = nonos_identity::Digest::of(nonos_zk::domains::KEY_SET, &[&magic, &bytes[40..]]);
    bytes[8..40].copy_from_slice(digest.as_bytes());
    bytes
}

#[test]
fn dev_keys_are_refused_until_allowed() {
    let bytes = dev_keys().to_bytes();
    let keys = KeySet::from_bytes(&bytes).unwrap();
    assert!(matches!(keys.provenance(), Provenance::InsecureDev { .. }));
    assert_eq!(Groth16Prover::new(keys.clone()).unwrap_err(), KeyError::InsecureDev);
    assert_eq!(Groth16Verifier::new(keys.verifying_key().clone()).unwrap_err(), KeyError::InsecureDev);

    let key = VerifyingKey::from_bytes(&keys.verifying_key().to_bytes()).unwrap();
    assert_eq!(Groth16Verifier::new(key.clone()).unwrap_err(), KeyError::InsecureDev);
    assert!(Groth16Verifier::new(key.allow_insecure_dev()).is_ok());
    assert!(Groth16Prover::new(keys.allow_insecure_dev()).is_ok());
}

#[test]
fn bytes_round_trip() {
    let keys = dev_keys();
    let again = KeySet::from_bytes(&keys.to_bytes()).unwrap();
    assert_eq!(again.verifying_key().id(), keys.verifying_key().id());
    assert_eq!(again.to_bytes(), keys.to_bytes());

    let bytes = keys.verifying_key().to_bytes();
    assert_eq!(bytes.len(), VerifyingKey::bytes(Profile::Lite));
    let key = VerifyingKey::from_bytes(&bytes).unwrap();
    assert_eq!(key.id(), keys.verifying_key().id());

    // Proofs of the keys read back verify with the verifying key read back.
    let run = Run::honest(31, 1, 0);
    let prover = Groth16Prover::new(again.allow_insecure_dev()).unwrap();
    let proof = prover.prove(&run.statement, &run.witness, [0; 32]).unwrap();
    let verifier = Groth16Verifier::new(key.allow_insecure_dev()).unwrap();
    assert_eq!(verifier.verify(&run.statement, &proof), Ok(()));
}

#[test]
fn every_altered_part_is_found() {
    for bytes in [dev_keys().to_bytes(), dev_keys().verifying_key().to_bytes()] {
        let is_verifying = bytes.starts_with(b"NNZKVK");
        let read = |bytes: &[u8]| match is_verifying {
            true => VerifyingKey::from_bytes(bytes).map(drop),
            false => KeySet::from_bytes(bytes).map(drop),
        };
        assert_eq!(read(&bytes), Ok(()));
        for at in [0, 7, 8, 39, PROFILE, CIRCUIT, SEED, MATERIAL, bytes.len() / 2, bytes.len() - 1] {
            let mut bytes = bytes.clone();
            bytes[at] ^= 0x10;
            assert_eq!(read(&bytes), Err(KeyError::Corrupt), "byte {at}");
        }
        for len in [0, 7, 39, 105, bytes.len() - 1] {
            assert_eq!(read(&bytes[..len]), Err(KeyError::Corrupt), "{len} bytes");
        }
        // Past the integrity digest: the circuit, the profile and trailing bytes are checked.
        let edited = relabelled(bytes.clone(), |bytes| bytes[CIRCUIT] ^= 1);
        assert_eq!(read(&edited), Err(KeyError::Circuit));
        let edited = relabelled(bytes.clone(), |bytes| bytes[PROFILE] = 9);
        assert_eq!(read(&edited), Err(KeyError::Circuit));
        let edited = relabelled(bytes.clone(), |bytes| bytes.push(0));
        assert_eq!(read(&edited), Err(KeyError::Corrupt));
    }
}

/// A key that only changes its label has another id, so pinning an id pins the provenance.
#[test]
fn provenance_is_part_of_the_id() {
    let bytes = dev_keys().verifying_key().to_bytes();
    let other = VerifyingKey::from_bytes(&relabelled(bytes, |bytes| bytes[SEED] ^= 1)).unwrap();
    assert_ne!(other.id(), dev_keys().verifying_key().id());
}

/// Keys of a ceremony need no permission, and say which ceremony it was. Calling dev keys so is possible,
/// for labels are not signed: it is the id that one pins.
#[test]
fn keys_of_a_ceremony_are_allowed_and_named() {
    let bytes = dev_keys().verifying_key().to_bytes();
    let key = VerifyingKey::from_bytes(&relabelled(bytes.clone(), |bytes| bytes[SEED - 1] = 1)).unwrap();
    let transcript = bytes[SEED..MATERIAL].try_into().unwrap();
    assert_eq!(key.provenance(), Provenance::Ceremony { transcript });
    assert_ne!(key.id(), dev_keys().verifying_key().id());
    assert!(Groth16Verifier::new(key.clone()).is_ok());
    assert_eq!(VerifyingKey::from_bytes(&key.to_bytes()).unwrap().id(), key.id());
    assert!(key.to_solidity().contains("ceremony"));
    let unknown = VerifyingKey::from_bytes(&relabelled(bytes, |bytes| bytes[SEED - 1] = 2));
    assert_eq!(unknown.map(drop), Err(KeyError::Corrupt));
}

/// Alpha, beta, gamma, delta and the inputs' points, each replaced.
#[test]
fn unsound_verifying_keys_are_refused() {
    const ALPHA: usize = MATERIAL;
    const BETA: usize = ALPHA + 32;
    const GAMMA: usize = BETA + 64;
    const DELTA: usize = GAMMA + 64;
    const INPUTS: usize = DELTA + 64 + 8;
    let bytes = dev_keys().verifying_key().to_bytes();
    let read = |edit: &dyn Fn(&mut Vec<u8>)| {
        VerifyingKey::from_bytes(&relabelled(bytes.clone(), edit)).map(drop).unwrap_err()
    };
    // The compressed identity has one flag bit and no coordinate.
    let identity = |bytes: &mut [u8]| {
        bytes.fill(0);
        *bytes.last_mut().unwrap() = 0x40;
    };
    assert_eq!(read(&|b| identity(&mut b[ALPHA..ALPHA + 32])), KeyError::Unsound);
    assert_eq!(read(&|b| identity(&mut b[BETA..BETA + 64])), KeyError::Unsound);
    assert_eq!(read(&|b| identity(&mut b[GAMMA..GAMMA + 64])), KeyError::Unsound);
    assert_eq!(read(&|b| identity(&mut b[DELTA..DELTA + 64])), KeyError::Unsound);
    assert_eq!(read(&|b| identity(&mut b[INPUTS + 32..INPUTS + 64])), KeyError::Unsound);
    assert_eq!(read(&|b| b.copy_within(GAMMA..DELTA, DELTA)), KeyError::Unsound, "gamma = delta");
    assert_eq!(read(&|b| b[ALPHA..ALPHA + 32].fill(0xff)), KeyError::Unsound, "no point");
    assert_eq!(read(&|b| b[INPUTS - 8] += 1), KeyError::Unsound, "length of the inputs");
}

/// A verifying key of a second setup: its own proofs hold, those of the first do not.
#[test]
fn the_wrong_verifying_key_refuses() {
    // Gamma and delta swapped: sound in form, but of no setup that we know.
    let bytes = dev_keys().verifying_key().to_bytes();
    let swapped = relabelled(bytes, |bytes| {
        let (gamma, delta) = (MATERIAL + 96, MATERIAL + 160);
        let held = bytes[gamma..gamma + 64].to_vec();
        bytes.copy_within(delta..delta + 64, gamma);
        bytes[delta..delta + 64].copy_from_slice(&held);
    });
    let key = VerifyingKey::from_bytes(&swapped).unwrap().allow_insecure_dev();
    assert_ne!(key.id(), dev_keys().verifying_key().id());
    let run = Run::honest(32, 1, 0);
    let proof = prover().prove(&run.statement, &run.witness, [0; 32]).unwrap();
    assert_eq!(verifier().verify(&run.statement, &proof), Ok(()));
    let other = Groth16Verifier::new(key).unwrap();
    assert_eq!(other.verify(&run.statement, &proof), Err(VerifyError::Refused));
}

/// Keys whose proving half was damaged make proofs that nobody accepts; the prover notices.
#[test]
fn a_damaged_proving_key_makes_no_proof() {
    let bytes = relabelled(dev_keys().to_bytes(), |bytes| {
        // Exchanges two points near the end: all well formed, in the wrong places.
        let end = bytes.len();
        let held = bytes[end - 64..].to_vec();
        bytes.copy_within(end - 128..end - 64, end - 64);
        bytes[end - 128..end - 64].copy_from_slice(&held);
    });
    let keys = KeySet::from_bytes(&bytes).unwrap().allow_insecure_dev();
    let run = Run::honest(33, 1, 0);
    let result = Groth16Prover::new(keys).unwrap().prove(&run.statement, &run.witness, [0; 32]);
    assert!(matches!(result, Err(nonos_zk::ProveError::Engine(_))), "{result:?}");
}

#[test]
fn cache_serves_whole_files_and_makes_damaged_ones_anew() {
    let dir = tempfile::tempdir().unwrap();
    let cache = KeyCache::open_or_create(&dir.path().join("a/b")).unwrap();
    let path = cache.path(Profile::Lite);
    let whole = dev_keys().to_bytes();

    // A hit does not write: the file keeps its time.
    fs::write(&path, &whole).unwrap();
    let made = fs::metadata(&path).unwrap().modified().unwrap();
    assert_eq!(cache.dev_keys(Profile::Lite).unwrap().to_bytes(), whole);
    assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), made);

    let mut damaged = whole.clone();
    damaged[whole.len() / 2] ^= 1;
    fs::write(&path, &damaged).unwrap();
    assert_eq!(cache.dev_keys(Profile::Lite).unwrap().to_bytes(), whole);
    assert_eq!(fs::read(&path).unwrap(), whole);
    let files = fs::read_dir(path.parent().unwrap()).unwrap().count();
    assert_eq!(files, 1, "no drafts left behind");
}

/// Who proves nothing needs no setup: the verifying keys that come with the crate are those of the sets.
#[test]
fn the_development_verifying_keys_are_those_of_the_setup() {
    let sets = [dev_keys(), full_prover_keys(), transit_keys()];
    for (profile, set) in Profile::ALL.into_iter().zip(sets) {
        let key = VerifyingKey::dev(profile);
        assert_eq!((key.profile(), key.to_bytes()), (profile, set.verifying_key().to_bytes()));
        let refused = match profile {
            Profile::Transit => TransitVerifier::new(key).map(drop),
            _ => Groth16Verifier::new(key).map(drop),
        };
        assert_eq!(refused, Err(KeyError::InsecureDev));
    }
}

/// Threads that find the cache empty at once all get the keys, and one whole file stays.
#[test]
fn cache_is_shared_by_threads() {
    let dir = tempfile::tempdir().unwrap();
    let cache = KeyCache::open_or_create(dir.path()).unwrap();
    let ids = std::thread::scope(|scope| {
        let keys = || cache.dev_keys(Profile::Lite).map(|keys| keys.verifying_key().id());
        let threads = [scope.spawn(keys), scope.spawn(keys)];
        threads.map(|thread| thread.join().unwrap().unwrap())
    });
    assert_eq!(ids, [dev_keys().verifying_key().id(); 2]);
    let files: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files, [cache.path(Profile::Lite)]);
}
