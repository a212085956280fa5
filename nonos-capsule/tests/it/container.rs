//! The container: signatures, heads, chunks.

use nonos_capsule::{
    AssembleError, AttestError, Attestation, CHUNK_BYTES, Capsule, CheckSigned as _, Chunk, ChunkError,
    FormatError, Head, HostCall, Manifest, PackError, PayloadDigest, SignaturePolicy, SignerRole, Thresholds,
    VerifyError,
};
use nonos_identity::wire::{from_bytes, to_bytes};
use nonos_identity::{NetworkId, SigningKey, Timestamp, Unverified, Verified, WideDigest};
use sha3::{Digest as _, Sha3_512};

use crate::support::{DAY, NOW, author, command, import, network, packed, policy, signed, verified, wasm};

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
    assert_eq!(capsule.manifest().payload.digest, PayloadDigest::Digest(WideDigest::of_bytes(&payload())));
    assert!(capsule.head().to_bytes().len() <= Head::MAX_BYTES);
}

#[test]
fn a_hidden_digest_is_in_no_byte_of_the_head() {
    let pack = |payload: Vec<u8>| {
        let mut manifest = Manifest::new("echo", "1.0.0");
        manifest.payload = manifest.payload.hidden();
        let mut capsule = Capsule::pack(manifest, policy(), payload).unwrap();
        capsule.sign(SignerRole::Author, &author(), &network(), NOW, DAY).unwrap();
        capsule
    };
    let holds = |bytes: &[u8], digest: &WideDigest| bytes.windows(64).any(|part| part == digest.as_bytes());
    let (capsule, digest) = (pack(payload()), WideDigest::of_bytes(&payload()));
    assert!(holds(&signed(&payload(), policy()).head().to_bytes(), &digest));
    assert!(!holds(&capsule.head().to_bytes(), &digest));
    assert!(holds(&capsule.head().to_bytes(), &WideDigest::of_bytes(digest.as_ref())));

    let back = check(&capsule, &SignaturePolicy::new(network()), NOW).unwrap();
    assert_eq!((&*back, back.payload_digest()), (&capsule, digest));
    assert_eq!(back.manifest().payload.digest.commit(), WideDigest::of_bytes(digest.as_ref()));
    // What the digest does not show it still binds.
    let head = verified_head(&capsule);
    let chunks = capsule.chunks().map(|chunk| head.check_chunk(Unverified::new(chunk)).unwrap()).collect();
    assert_eq!(*Head::assemble(&head, chunks).unwrap(), capsule);
    let mut bytes = capsule.to_bytes();
    let at = bytes.windows(1_000).position(|part| *part == payload()[..1_000]).unwrap();
    bytes[at] ^= 1;
    let altered = Capsule::parse(&bytes).unwrap().check_signed(&SignaturePolicy::new(network()), NOW);
    assert_eq!(altered.unwrap_err(), VerifyError::Payload);
    // Which of the two a manifest shows is signed.
    assert_ne!(capsule.id(), signed(&payload(), policy()).id());
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
    let authors = |author| SignaturePolicy {
        thresholds: Thresholds { author, ..Thresholds::default() },
        ..SignaturePolicy::new(network())
    };
    let two = authors(2);
    assert!(matches!(check(&capsule, &two, NOW), Err(VerifyError::Threshold { found: 1, .. })));
    capsule.sign(SignerRole::Author, &SigningKey::from_seed(&[8; 32]), &network(), NOW, DAY).unwrap();
    assert!(check(&capsule, &two, NOW).is_ok());
    // A threshold of nobody does not exist.
    assert!(check(&packed(&payload(), policy()), &authors(0), NOW).is_err());
}

/// The manifest's own demand is signed with it; a verifier may ask for more and not for less.
#[test]
fn an_author_may_insist_on_auditors() {
    let thresholds = Thresholds { author: 1, auditor: 1, operator: 0 };
    let manifest = Manifest { thresholds, ..Manifest::new("test", "1.0.0") };
    let mut capsule = Capsule::pack(manifest, policy(), payload()).unwrap();
    capsule.sign(SignerRole::Author, &author(), &network(), NOW, DAY).unwrap();
    let rule = SignaturePolicy::new(network());
    let missing = VerifyError::Threshold { role: SignerRole::Auditor, found: 0, threshold: 1 };
    assert_eq!(check(&capsule, &rule, NOW).unwrap_err(), missing);
    capsule.sign(SignerRole::Auditor, &SigningKey::from_seed(&[8; 32]), &network(), NOW, DAY).unwrap();
    assert!(check(&capsule, &rule, NOW).is_ok());
}

#[test]
fn only_trusted_keys_count() {
    let capsule = signed(&payload(), policy());
    let trusting = |keys: &[&SigningKey]| SignaturePolicy {
        trusted: [(SignerRole::Author, keys.iter().map(|key| key.public()).collect())].into(),
        ..SignaturePolicy::new(network())
    };
    let stranger = SigningKey::from_seed(&[8; 32]);
    assert!(check(&capsule, &trusting(&[&author(), &stranger]), NOW).is_ok());
    let missing = VerifyError::Threshold { role: SignerRole::Author, found: 0, threshold: 1 };
    assert_eq!(check(&capsule, &trusting(&[&stranger]), NOW).unwrap_err(), missing);
}

#[test]
fn attestations_are_added_after_signing_and_checked() {
    let mut capsule = signed(&payload(), policy());
    let id = capsule.id();
    let auditor = SigningKey::from_seed(&[8; 32]);
    capsule.attest(7, b"proof".to_vec(), &auditor, &network()).unwrap();
    capsule.attest(7, b"proof".to_vec(), &auditor, &network()).unwrap();
    capsule.attest(3, b"build log".to_vec(), &author(), &network()).unwrap();
    assert_eq!(capsule.id(), id);
    let checked = check(&capsule, &SignaturePolicy::new(network()), NOW).unwrap();
    let kinds: Vec<_> = checked.attestations().iter().map(|one| (one.kind, one.key)).collect();
    assert_eq!(kinds, [(3, author().public()), (7, auditor.public())]);

    // For another capsule, and for another network.
    let mut other = signed(b"other", policy());
    other.attest(7, b"proof".to_vec(), &auditor, &network()).unwrap();
    let bytes = capsule.to_bytes();
    let (own, foreign) = (capsule.attestations()[1].signature(), other.attestations()[0].signature());
    let place = bytes.windows(64).position(|window| window == own.as_bytes()).unwrap();
    let mut forged = bytes.clone();
    forged[place..place + 64].copy_from_slice(foreign.as_bytes());
    assert!(matches!(Capsule::parse(&forged), Err(FormatError::SectionDigest(7))));
    let mut elsewhere = signed(&payload(), policy());
    elsewhere.attest(7, b"proof".to_vec(), &auditor, &NetworkId::from_name("other")).unwrap();
    let refused = VerifyError::Attestation(auditor.public());
    assert_eq!(check(&elsewhere, &SignaturePolicy::new(network()), NOW).unwrap_err(), refused);
}

#[test]
fn attestations_are_bounded() {
    let mut capsule = signed(&payload(), policy());
    let long = vec![0; Attestation::MAX_BODY_BYTES + 1];
    assert_eq!(capsule.attest(1, long, &author(), &network()), Err(AttestError::TooLong(4_097)));
    let full = (0..100u8)
        .find_map(|n| capsule.attest(1, vec![n; 1_000], &author(), &network()).err())
        .expect("a section is bounded");
    assert_eq!(full, AttestError::Full(8 * 1_024));
    assert!(check(&capsule, &SignaturePolicy::new(network()), NOW).is_ok());
    assert!(capsule.head().to_bytes().len() <= Head::MAX_BYTES);
}

/// The author's tool lists what a payload imports and exports; a false list is refused by
/// whoever has the payload.
#[test]
fn the_interface_is_that_of_the_payload() {
    let module = wasm(&command(&import(HostCall::FdWrite), ""));
    let capsule = signed(&module, policy());
    let interface = capsule.head().interface().clone();
    assert_eq!(interface.imports[0].name, "fd_write");
    assert_eq!(interface.imports[0].signature, "iiii:i");
    assert_eq!(interface.exports[0].name, "_start");
    assert!(verified_head(&capsule).interface() == &interface);
}

mod dependencies {
    use nonos_capsule::testing::MemoryCapsuleStore;
    use nonos_capsule::{CapsuleStore as _, Dependency, Kind, ResolveError, Resolved};

    use super::*;

    fn library(name: &str, needs: &[(&str, &Capsule)]) -> Capsule {
        let manifest = Manifest::dependency(Kind::Library, name, "1.0.0");
        seal(manifest, needs.iter().map(|(name, capsule)| need(name, capsule, None)).collect())
    }

    fn need(name: &str, capsule: &Capsule, mount: Option<&str>) -> Dependency {
        Dependency { name: name.to_owned(), capsule: capsule.id(), mount: mount.map(str::to_owned) }
    }

    fn seal(manifest: Manifest, needs: Vec<Dependency>) -> Capsule {
        let mut capsule = Capsule::pack_with(manifest, policy(), needs, wasm("(module)")).unwrap();
        capsule.sign(SignerRole::Author, &author(), &network(), NOW, DAY).unwrap();
        capsule
    }

    fn command(needs: Vec<Dependency>) -> Verified<Capsule> {
        verified(seal(Manifest::new("main", "1.0.0"), needs))
    }

    fn resolve(capsule: Verified<Capsule>, store: &MemoryCapsuleStore) -> Result<Resolved, ResolveError> {
        Resolved::resolve(capsule, store, &SignaturePolicy::new(network()), NOW)
    }

    #[test]
    fn needs_are_read_from_the_store_and_shared_ones_once() {
        let bottom = library("bottom", &[]);
        let (left, right) = (library("left", &[("b", &bottom)]), library("right", &[("b", &bottom)]));
        let store = MemoryCapsuleStore::default();
        for capsule in [&bottom, &left] {
            store.put(&verified(capsule.clone())).unwrap();
        }
        let main = command(vec![need("right", &right, None), need("left", &left, None)]);
        let missing = resolve(main.clone(), &store).unwrap_err();
        assert!(
            matches!(missing, ResolveError::Missing { ref name, id } if name == "right" && id == right.id())
        );
        store.put(&verified(right.clone())).unwrap();
        let resolved = resolve(main, &store).unwrap();
        let names: Vec<_> = resolved.dependencies().iter().map(|(need, _)| need.name.as_str()).collect();
        assert_eq!(names, ["left", "right"]);
        let shared = |n: usize| std::sync::Arc::as_ptr(&resolved.dependencies()[n].1.dependencies()[0].1);
        assert_eq!(shared(0), shared(1));
    }

    #[test]
    fn an_id_covers_what_a_capsule_needs() {
        let (one, two) = (library("one", &[]), library("two", &[]));
        let (with_one, with_two) =
            (command(vec![need("lib", &one, None)]), command(vec![need("lib", &two, None)]));
        assert_ne!(with_one.id(), with_two.id());
        assert_ne!(with_one.id(), command(vec![]).id());
    }

    #[test]
    fn depth_is_limited() {
        let store = MemoryCapsuleStore::default();
        let mut last = library("l0", &[]);
        for depth in 1..=Resolved::MAX_DEPTH {
            store.put(&verified(last.clone())).unwrap();
            if depth == Resolved::MAX_DEPTH {
                assert!(resolve(command(vec![need("l", &last, None)]), &store).is_ok());
            }
            last = library(&format!("l{depth}"), &[("l", &last)]);
        }
        store.put(&verified(last.clone())).unwrap();
        let refused = resolve(command(vec![need("l", &last, None)]), &store).unwrap_err();
        assert!(matches!(refused, ResolveError::Depth { limit: Resolved::MAX_DEPTH }));
    }

    /// A store that answers every question with one capsule, which needs itself by that id.
    struct Looping(Capsule);

    impl nonos_capsule::CapsuleStore for Looping {
        fn put(&self, _: &Verified<Capsule>) -> Result<(), nonos_capsule::StoreError> {
            Ok(())
        }

        fn read(
            &self,
            _: &nonos_capsule::CapsuleId,
        ) -> Result<Option<Unverified<Capsule>>, nonos_capsule::StoreError> {
            Ok(Some(Unverified::new(self.0.clone())))
        }

        fn contains(&self, _: &nonos_capsule::CapsuleId) -> Result<bool, nonos_capsule::StoreError> {
            Ok(true)
        }

        fn ids(&self) -> Result<Vec<nonos_capsule::CapsuleId>, nonos_capsule::StoreError> {
            Ok(vec![self.0.id()])
        }

        fn remove(&self, _: &nonos_capsule::CapsuleId) -> Result<(), nonos_capsule::StoreError> {
            Ok(())
        }
    }

    #[test]
    fn a_store_cannot_close_a_cycle() {
        let bottom = library("bottom", &[]);
        let looping = library("loop", &[("b", &bottom)]);
        let main = command(vec![need("l", &looping, None)]);
        let rule = SignaturePolicy::new(network());
        let refused = Resolved::resolve(main, &Looping(looping), &rule, NOW).unwrap_err();
        assert!(matches!(refused, ResolveError::Store(nonos_capsule::StoreError::Damaged(_))), "{refused}");
    }

    #[test]
    fn a_dependency_must_verify_and_be_of_its_kind() {
        let store = MemoryCapsuleStore::default();
        let plain = library("plain", &[]);
        store.put(&verified(plain.clone())).unwrap();
        let mounted = resolve(command(vec![need("l", &plain, Some("/lib"))]), &store).unwrap_err();
        assert!(matches!(mounted, ResolveError::Kind { kind: Kind::Library, .. }));
        let main = command(vec![]);
        store.put(&main).unwrap();
        let command_as_library = resolve(command(vec![need("l", &main, None)]), &store).unwrap_err();
        assert!(matches!(command_as_library, ResolveError::Kind { kind: Kind::Command, .. }));
        let later = NOW.saturating_add(DAY);
        let main = command(vec![need("l", &plain, None)]);
        let expired = Resolved::resolve(main, &store, &SignaturePolicy::new(network()), later).unwrap_err();
        assert!(matches!(expired, ResolveError::Verify { error: VerifyError::Threshold { .. }, .. }));
    }
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
    let manifest = Manifest::new("test", "1");
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
