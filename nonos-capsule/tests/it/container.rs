//! The container: signatures, heads, chunks.

use nonos_capsule::{
    AssembleError, CHUNK_BYTES, Capsule, CheckSigned as _, Chunk, ChunkError, FormatError, Head, PackError,
    SignaturePolicy, SignerRole, VerifyError,
};
use nonos_identity::wire::{from_bytes, to_bytes};
use nonos_identity::{NetworkId, SigningKey, Timestamp, Unverified, Verified, WideDigest};
use sha3::{Digest as _, Sha3_512};

use crate::support::{DAY, NOW, author, network, packed, policy, signed, verified};

/// Five chunks, the last of them short.
fn payload() -> Vec<u8> {
    (0..=250).flat_map(|byte| [byte; 7]).cycle().take(4 * CHUNK_BYTES + 1_000).collect()
}

fn check(
    capsule: &Capsule,
    policy: &SignaturePolicy,
    now: Timestamp,
) -> Result<Verified<Capsule>, VerifyError> {
    Capsule::parse(&capsule.to_bytes()).unwrap().check_signed(policy, now)
}

fn verified_head(capsule: &Capsule) -> Verified<Head> {
    let head = Head::parse(&capsule.head().to_bytes()).unwrap();
    head.check_signed(&SignaturePolicy::new(network()), NOW).unwrap()
}

#[test]
fn bytes_round_trip() {
    let capsule = signed(&payload(), policy());
    let back = check(&capsule, &SignaturePolicy::new(network()), NOW).unwrap();
    assert_eq!(*back, capsule);
    assert_eq!(verified_head(&capsule).to_bytes(), capsule.head().to_bytes());
    assert_eq!(capsule.head().id(), capsule.id());
    assert_eq!(capsule.manifest().payload.digest, WideDigest::of_bytes(&payload()));
    assert!(capsule.head().to_bytes().len() <= Head::MAX_BYTES);
}

#[test]
fn the_magic_is_not_interchangeable() {
    let capsule = signed(&payload(), policy());
    assert_eq!(Head::parse(&capsule.to_bytes()[..600]).unwrap_err(), FormatError::Magic);
    assert_eq!(Capsule::parse(&capsule.head().to_bytes()).unwrap_err(), FormatError::Magic);
}

#[test]
fn signatures_do_not_move_the_id() {
    let mut capsule = packed(&payload(), policy());
    let id = capsule.id();
    capsule.sign(SignerRole::Author, &author(), &network(), NOW, DAY).unwrap();
    assert_eq!(capsule.id(), id);
    let other = nonos_capsule::Policy { gas_limit: 1, ..policy() };
    assert_ne!(packed(&payload(), other).id(), id);
    assert_ne!(packed(b"other", policy()).id(), id);
}

#[test]
fn signatures_bind_network_time_role_and_key() {
    let capsule = signed(&payload(), policy());
    let rule = SignaturePolicy::new(network());
    assert!(check(&capsule, &rule, NOW).is_ok());
    let elsewhere = SignaturePolicy::new(NetworkId::from_name("other"));
    assert_eq!(check(&capsule, &elsewhere, NOW).unwrap_err(), VerifyError::Signature(author().public()));
    let missing = VerifyError::Threshold { role: SignerRole::Author, found: 0, threshold: 1 };
    assert_eq!(check(&capsule, &rule, NOW.saturating_add(DAY)).unwrap_err(), missing);
    let early = Timestamp::from_secs(NOW.as_secs() - 121);
    assert_eq!(check(&capsule, &rule, early).unwrap_err(), missing);
    assert_eq!(check(&packed(&payload(), policy()), &rule, NOW).unwrap_err(), missing);

    let mut audited = packed(&payload(), policy());
    audited.sign(SignerRole::Auditor, &author(), &network(), NOW, DAY).unwrap();
    assert_eq!(check(&audited, &rule, NOW).unwrap_err(), missing);
}

#[test]
fn thresholds_count_distinct_keys() {
    let mut capsule = signed(&payload(), policy());
    capsule.sign(SignerRole::Author, &author(), &network(), NOW, DAY * 2).unwrap();
    assert_eq!(capsule.signatures().len(), 1, "a second signature of one key replaces the first");
    let two = SignaturePolicy { author_threshold: 2, ..SignaturePolicy::new(network()) };
    assert!(matches!(check(&capsule, &two, NOW), Err(VerifyError::Threshold { found: 1, .. })));
    capsule.sign(SignerRole::Author, &SigningKey::from_seed(&[8; 32]), &network(), NOW, DAY).unwrap();
    assert!(check(&capsule, &two, NOW).is_ok());
    // A threshold of nobody does not exist.
    let nobody = SignaturePolicy { author_threshold: 0, ..SignaturePolicy::new(network()) };
    assert!(check(&packed(&payload(), policy()), &nobody, NOW).is_err());
}

#[test]
fn another_payload_under_the_same_table_is_refused() {
    let capsule = signed(&payload(), policy());
    let mut bytes = capsule.to_bytes();
    // The payload comes before chunk table and signatures; a byte in its middle.
    let place = bytes.len() / 2;
    bytes[place] ^= 1;
    let parsed = Capsule::parse(&bytes).unwrap();
    assert_eq!(parsed.check_signed(&SignaturePolicy::new(network()), NOW).unwrap_err(), VerifyError::Payload);
}

#[test]
fn an_unpackable_payload_is_refused() {
    let manifest = nonos_capsule::Manifest::new("test", "1");
    assert_eq!(Capsule::pack(manifest.clone(), policy(), vec![]).unwrap_err(), PackError::Empty);
    let huge = vec![0; Capsule::MAX_PAYLOAD_BYTES + 1];
    assert!(matches!(Capsule::pack(manifest, policy(), huge), Err(PackError::TooLarge { .. })));
}

#[test]
fn chunks_assemble_in_any_order() {
    for len in [1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES, payload().len()] {
        let capsule = signed(&payload()[..len], policy());
        let head = verified_head(&capsule);
        let mut chunks = Vec::new();
        for (chunk, index) in capsule.chunks().zip(0..) {
            assert_eq!(Some(&chunk), capsule.chunk(index).as_ref());
            let chunk: Chunk = from_bytes(&to_bytes(&chunk)).unwrap();
            chunks.push(head.check_chunk(Unverified::new(chunk)).unwrap());
        }
        assert_eq!(chunks.len(), head.chunk_count() as usize);
        assert_eq!(capsule.chunk(head.chunk_count()), None);
        chunks.reverse();
        assert_eq!(*Head::assemble(&head, chunks.clone()).unwrap(), capsule);
        let missing = chunks.pop().unwrap();
        assert_eq!(missing.index, 0);
        assert_eq!(Head::assemble(&head, chunks).unwrap_err(), AssembleError::Missing(0));
    }
}

#[test]
fn false_chunks_are_refused() {
    let capsule = signed(&payload(), policy());
    let head = verified_head(&capsule);
    let refused = |chunk: Chunk| head.check_chunk(Unverified::new(chunk)).unwrap_err();
    let chunk = |index| capsule.chunk(index).unwrap();

    let mut data = chunk(1);
    data.data[100] ^= 1;
    assert_eq!(refused(data), ChunkError::Root);
    assert_eq!(refused(Chunk { index: 2, ..chunk(1) }), ChunkError::Root);
    assert_eq!(refused(Chunk { index: 5, ..chunk(1) }), ChunkError::Index { index: 5, count: 5 });
    let mut path = chunk(1);
    path.proof[0] = WideDigest::of_bytes(b"x");
    assert_eq!(refused(path), ChunkError::Root);
    let mut short = chunk(1);
    short.proof.pop();
    assert!(matches!(refused(short), ChunkError::Path { expected: 3, found: 2 }));
    let mut long = chunk(4);
    assert_eq!(long.proof.len(), 1, "the last of five stands alone on two levels");
    long.proof.push(WideDigest::of_bytes(b"x"));
    assert!(matches!(refused(long), ChunkError::Path { expected: 1, found: 2 }));
    let mut cut = chunk(1);
    cut.data.pop();
    assert!(matches!(refused(cut), ChunkError::Length { .. }));
}

/// Recomputes the tree by hand, and offers an inner node where a leaf is expected.
#[test]
fn inner_nodes_are_no_leaves() {
    let hash = |tag: u8, parts: &[&[u8]]| {
        let mut hash = Sha3_512::new();
        hash.update([tag]);
        parts.iter().for_each(|part| hash.update(part));
        <[u8; 64]>::from(hash.finalize())
    };
    let payload = &payload()[..4 * CHUNK_BYTES];
    let leaves: Vec<_> = payload
        .chunks(CHUNK_BYTES)
        .zip(0u32..)
        .map(|(data, index)| hash(0, &[&index.to_le_bytes(), &(data.len() as u64).to_le_bytes(), data]))
        .collect();
    let (left, right) = (hash(1, &[&leaves[0], &leaves[1]]), hash(1, &[&leaves[2], &leaves[3]]));
    let capsule = signed(payload, policy());
    let head = verified_head(&capsule);
    assert_eq!(head.chunk_root().as_bytes(), &hash(1, &[&left, &right]));

    // The preimage of an inner node as data, with the path of that node: the count is signed, so
    // length and path do not fit, and the tag would differ.
    let forged =
        Chunk { index: 0, data: [leaves[0], leaves[1]].concat(), proof: vec![WideDigest::from_bytes(right)] };
    assert!(matches!(head.check_chunk(Unverified::new(forged)), Err(ChunkError::Length { .. })));
    let forged =
        Chunk { index: 0, data: payload[..CHUNK_BYTES].to_vec(), proof: vec![WideDigest::from_bytes(right)] };
    assert!(matches!(head.check_chunk(Unverified::new(forged)), Err(ChunkError::Path { .. })));
}

#[test]
fn views_are_readable() {
    let capsule = verified(signed(&payload(), policy()));
    let inspection = capsule.inspect();
    assert_eq!(inspection.id, capsule.id());
    assert_eq!(inspection.chunk_count, 5);
    assert_eq!(capsule.signers().collect::<Vec<_>>(), [(SignerRole::Author, author().public())]);
    let text = toml::to_string(capsule.policy()).unwrap();
    assert_eq!(&toml::from_str::<nonos_capsule::Policy>(&text).unwrap(), capsule.policy());
}
