//! Attacks on the disclosure of a run, each by its name. A ran; B is the rival, and holds keys and
//! certificates of its own, every receipt, every head and, where it says so, A's opening.

use core::time::Duration;

use nonos_identity::domains::EXEC_LEAF;
use nonos_identity::exec::{HeadError, LOG2_SLOTS, SLOTS_PER_EPOCH};
use nonos_identity::testing::{MemorySlotLog, honest_run};
use nonos_identity::{AdmitError, Epoch};
use nonos_identity::{
    Certificate, CertificateError, Digest, EpochHead, ExecutionSlots, Identity, NetworkId, NodeId,
    OnionAddress, OnionNetwork, Opening, OpeningError, PublicKey, PublicRun, Revocation, Role, RunIdentity,
    SlotError, SlotLog as _, Timestamp, Unverified, Verified, wire,
};
use sha3::{Digest as _, Sha3_256};

const EPOCH: Epoch = Epoch::from_number(2_963_000);
const DAY: Duration = Duration::from_secs(86_400);

fn net() -> NetworkId {
    NetworkId::from_name("test")
}

fn a() -> Identity {
    Identity::from_seed(&[1; 64])
}

fn b() -> Identity {
    Identity::from_seed(&[2; 64])
}

fn certificate(of: &Identity, serial: u64) -> Certificate {
    let signer = of.signing_key(Role::EpochSigner, 0);
    let start = EPOCH.start();
    Certificate::issue(&of.root_key(), &signer, Role::EpochSigner, serial, start, DAY, &net())
        .expect("in the rules")
}

/// A head for any root, as a dishonest node can sign it.
fn head(of: &Identity, epoch: Epoch, root: Digest) -> (EpochHead, Certificate) {
    let certificate = certificate(of, 7);
    let signer = of.signing_key(Role::EpochSigner, 0);
    (EpochHead::sign(&signer, &certificate, epoch, root, None, &net()).expect("in the rules"), certificate)
}

/// The leaf as the documentation defines it.
fn leaf(run: &RunIdentity, key: &PublicKey) -> Digest {
    let (epoch, slot) = (run.epoch.number().to_le_bytes(), run.slot.to_le_bytes());
    let content = Digest::of(EXEC_LEAF, &[&epoch, &slot, key.as_bytes(), &run.blind]);
    Digest::from_bytes(Sha3_256::new().chain_update([0]).chain_update(content).finalize().into())
}

/// A tree of any depth that has one leaf of ours at an index: its root, and the path.
fn tree(index: u32, mut node: Digest, depth: u8) -> (Digest, Vec<Digest>) {
    let mut path = Vec::new();
    for level in 0..depth {
        let sibling = Digest::of_bytes(&[level]);
        let (left, right) = if index >> level & 1 == 0 { (node, sibling) } else { (sibling, node) };
        let hash = Sha3_256::new().chain_update([1]).chain_update(left).chain_update(right).finalize();
        node = Digest::from_bytes(hash.into());
        path.push(sibling);
    }
    (node, path)
}

/// A dishonest opening: any identity for any key, in a tree of `by` that has it at `index`.
fn forge(by: &Identity, run: &RunIdentity, key: &PublicKey, index: u32, depth: u8) -> Opening {
    let (root, path) = tree(index, leaf(run, key), depth);
    let (head, certificate) = head(by, run.epoch, root);
    Opening { run: run.clone(), path, head, certificate }
}

fn run_of(identity: &Identity, slot: u32) -> (RunIdentity, PublicKey) {
    let onion = identity.signing_key(Role::Onion, 0).public();
    let run = RunIdentity {
        node: identity.node_id(),
        onion: OnionAddress::new(OnionNetwork::Mesh, onion),
        peer: identity.transport_key(&net()).public(),
        epoch: EPOCH,
        slot,
        blind: [9; 32],
    };
    (run, identity.execution_key(EPOCH, slot).public())
}

fn check(opening: &Opening, shown: &PublicRun) -> Result<(), OpeningError> {
    opening.check(shown, &net(), None)
}

#[test]
fn the_forge_works_on_what_is_ones_own() {
    let (run, key) = run_of(&b(), 3);
    let opening = forge(&b(), &run, &key, 3, LOG2_SLOTS);
    assert_eq!(check(&opening, &run.public(key)), Ok(()), "or the tests below prove nothing");
}

/// A's execution key is public once its receipt is. B puts it into a tree of its own and signs.
#[test]
fn claim_jacking_a_published_run() {
    let (shown, theirs) = honest_run(&a(), EPOCH, &net());
    let (mine, _) = run_of(&b(), 3);
    let opening = forge(&b(), &mine, &shown.exec_key, 3, LOG2_SLOTS);
    assert_eq!(check(&opening, &shown), Err(OpeningError::Commitment));
    // The tree alone would not have told: it is the commitment that does.
    assert_eq!(check(&opening, &mine.public(shown.exec_key)), Ok(()));

    // With A's opening in hand: it still names A, and cannot be renamed.
    let renamed = RunIdentity { node: b().node_id(), ..theirs.run.clone() };
    let opening = forge(&b(), &renamed, &shown.exec_key, theirs.run.slot, LOG2_SLOTS);
    assert_eq!(check(&opening, &shown), Err(OpeningError::Commitment));
    let opening = forge(&b(), &theirs.run, &shown.exec_key, theirs.run.slot, LOG2_SLOTS);
    assert_eq!(check(&opening, &shown), Err(OpeningError::Node));
}

/// B runs something bad under its own key and commits to A's public identity.
#[test]
fn framing_another_node() {
    let (_, honest) = honest_run(&a(), EPOCH, &net());
    let key = b().execution_key(EPOCH, 3).public();
    let framing = RunIdentity { slot: 3, blind: [9; 32], ..honest.run.clone() };
    let shown = framing.public(key);
    // Under B's own head.
    let opening = forge(&b(), &framing, &key, 3, LOG2_SLOTS);
    assert_eq!(check(&opening, &shown), Err(OpeningError::Node));
    // Under A's head, which lacks the key.
    let opening = Opening { run: framing.clone(), ..honest.clone() };
    assert_eq!(check(&opening, &shown), Err(OpeningError::Path));
    // Under a head that A's signer did not sign.
    let forged = forge(&b(), &framing, &key, 3, LOG2_SLOTS);
    let opening = Opening { certificate: honest.certificate.clone(), ..forged.clone() };
    assert_eq!(check(&opening, &shown), Err(OpeningError::Node));
    let mut bytes = wire::to_bytes(&forged.head);
    let at = bytes.windows(32).position(|w| w == b().node_id().as_bytes()).expect("the node");
    bytes[at..at + 32].copy_from_slice(a().node_id().as_bytes());
    let at = bytes.windows(32).position(|w| w == forged.certificate.digest().as_bytes()).expect("digest");
    bytes[at..at + 32].copy_from_slice(honest.certificate.digest().as_bytes());
    let head = wire::from_bytes(&bytes).expect("canonical");
    let opening = Opening { head, certificate: honest.certificate, ..forged };
    assert_eq!(check(&opening, &shown), Err(HeadError::Signature.into()));
}

/// B certifies its own epoch signer in A's name.
#[test]
fn forging_the_certificate_of_another_node() {
    let (run, key) = run_of(&b(), 3);
    let framing = RunIdentity { node: a().node_id(), ..run };
    let forged = forge(&b(), &framing, &key, 3, LOG2_SLOTS);
    let rename = |bytes: Vec<u8>, old: &[u8; 32], new: &[u8; 32]| {
        let at = bytes.windows(32).position(|w| w == old).expect("there");
        [&bytes[..at], new, &bytes[at + 32..]].concat()
    };
    let (b, a) = (b().node_id(), a().node_id());
    let certificate = rename(wire::to_bytes(&forged.certificate), b.as_bytes(), a.as_bytes());
    let certificate: Certificate = wire::from_bytes(&certificate).expect("canonical");
    let head = rename(wire::to_bytes(&forged.head), b.as_bytes(), a.as_bytes());
    let (old, new) = (forged.certificate.digest(), certificate.digest());
    let head = rename(head, old.as_bytes(), new.as_bytes());
    let opening = Opening { certificate, head: wire::from_bytes(&head).expect("canonical"), ..forged };
    let refused = HeadError::Certificate(CertificateError::RootSignature);
    assert_eq!(check(&opening, &framing.public(key)), Err(refused.into()));
}

#[test]
fn opening_with_another_onion_address_or_peer() {
    let (shown, honest) = honest_run(&a(), EPOCH, &net());
    let (other, _) = run_of(&b(), 3);
    for run in [
        RunIdentity { onion: other.onion, ..honest.run.clone() },
        RunIdentity { peer: other.peer, ..honest.run.clone() },
        RunIdentity {
            onion: OnionAddress::new(OnionNetwork::Tor, honest.run.onion.key()),
            ..honest.run.clone()
        },
    ] {
        let opening = Opening { run, ..honest.clone() };
        assert_eq!(check(&opening, &shown), Err(OpeningError::Commitment));
    }
}

#[test]
fn opening_another_slot() {
    let (shown, honest) = honest_run(&a(), EPOCH, &net());
    let other = RunIdentity { slot: honest.run.slot ^ 1, ..honest.run.clone() };
    assert_eq!(check(&Opening { run: other, ..honest }, &shown), Err(OpeningError::Commitment));
    // A itself commits to one slot and has the key at another.
    let (run, key) = run_of(&a(), 3);
    let opening = forge(&a(), &run, &key, 2, LOG2_SLOTS);
    assert_eq!(check(&opening, &run.public(key)), Err(OpeningError::Path));
    // A commits to a slot that no epoch has: 3 again, to whoever looks at ten bits.
    let (run, key) = run_of(&a(), 3 + SLOTS_PER_EPOCH);
    let opening = forge(&a(), &run, &key, 3, LOG2_SLOTS);
    assert_eq!(check(&opening, &run.public(key)), Err(OpeningError::Slot(3 + SLOTS_PER_EPOCH)));
}

#[test]
fn opening_in_another_epoch() {
    let (shown, honest) = honest_run(&a(), EPOCH, &net());
    let later = PublicRun { epoch: EPOCH.next(), ..shown };
    assert_eq!(check(&honest, &later), Err(OpeningError::Epoch));
    // A commits to the next epoch and shows the head of this one.
    let (run, key) = run_of(&a(), 3);
    let (root, path) = tree(3, leaf(&run, &key), LOG2_SLOTS);
    let (head, certificate) = head(&a(), EPOCH.next(), root);
    let opening = Opening { run: run.clone(), path, head, certificate };
    assert_eq!(check(&opening, &run.public(key)), Err(OpeningError::Epoch));
}

#[test]
fn trees_of_another_depth() {
    let (run, key) = run_of(&a(), 3);
    for depth in [0, 1, LOG2_SLOTS - 1, LOG2_SLOTS + 1] {
        let opening = forge(&a(), &run, &key, 3, depth);
        assert_eq!(check(&opening, &run.public(key)), Err(OpeningError::PathLength(depth.into())));
    }
}

#[test]
fn paths_that_are_cut_stretched_or_swapped() {
    let (shown, honest) = honest_run(&a(), EPOCH, &net());
    let with = |path: Vec<Digest>| check(&Opening { path, ..honest.clone() }, &shown);
    assert_eq!(with(honest.path.clone()), Ok(()));
    assert_eq!(with(honest.path[1..].to_vec()), Err(OpeningError::PathLength(9)));
    assert_eq!(with(Vec::new()), Err(OpeningError::PathLength(0)));
    assert_eq!(with([&honest.path[..], &honest.path[..1]].concat()), Err(OpeningError::PathLength(11)));
    for at in 1..honest.path.len() {
        let mut path = honest.path.clone();
        path.swap(at - 1, at);
        assert_eq!(with(path), Err(OpeningError::Path));
    }
}

/// A shows the same tree under a certificate for another role, or of another time.
#[test]
fn another_certificate_than_the_head_was_signed_under() {
    let (shown, honest) = honest_run(&a(), EPOCH, &net());
    let signer = a().signing_key(Role::EpochSigner, 0);
    let root = a().root_key();
    let author = Certificate::issue(&root, &signer, Role::Author, 7, EPOCH.start(), DAY, &net());
    for other in [author.expect("in the rules"), certificate(&a(), 8)] {
        let opening = Opening { certificate: other, ..honest.clone() };
        assert_eq!(check(&opening, &shown), Err(HeadError::OtherCertificate.into()));
    }
}

#[test]
fn an_epoch_signer_that_was_revoked() {
    let (shown, honest) = honest_run(&a(), EPOCH, &net());
    let list = |root: &Identity, serials: &[u64]| -> Verified<Revocation> {
        let now = Timestamp::from_secs(EPOCH.start().as_secs());
        let serials = serials.iter().copied();
        let list = Revocation::issue(&root.root_key(), None, serials, now, DAY, &net());
        Unverified::new(list.expect("in the rules")).check_issued(&net(), now).expect("valid")
    };
    let check = |list| honest.check(&shown, &net(), Some(&list));
    assert_eq!(check(list(&a(), &[6, 8])), Ok(()));
    assert!(matches!(check(list(&a(), &[7])), Err(OpeningError::Revoked(_))));
    assert!(matches!(check(list(&b(), &[])), Err(OpeningError::Revoked(_))), "a list that cannot know");
}

/// With a key of small order everybody could sign the receipt.
#[test]
fn an_execution_key_of_small_order() {
    let mut identity_point = [0; 32];
    identity_point[0] = 1;
    assert_eq!(PublicKey::try_from(NodeId::from_bytes(identity_point)), Err(AdmitError::Torsion));
    let (shown, _) = honest_run(&a(), EPOCH, &net());
    let mut bytes = wire::to_bytes(&shown);
    let at = bytes.windows(32).position(|w| w == shown.exec_key.as_bytes()).expect("the key");
    bytes[at..at + 32].copy_from_slice(&identity_point);
    assert_eq!(wire::from_bytes::<PublicRun>(&bytes), Err(wire::DecodeError::Malformed));
}

#[test]
fn using_a_slot_twice() {
    let log = MemorySlotLog::default();
    let slots = || ExecutionSlots::new(a().roles(), a().node_id(), EPOCH);
    let first = slots().take(&log).expect("fresh").number();
    assert!(matches!(log.take(EPOCH, first), Err(SlotError::Used)));
    let second = slots().take(&log).expect("others are free").number();
    assert_ne!(first, second);
    assert!(log.is_used(EPOCH, first).unwrap() && !log.is_used(EPOCH.next(), first).unwrap());
}
