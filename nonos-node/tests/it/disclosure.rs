//! Receipts that are disclosed to authorised verifiers, through the same calls as the executor's.

use std::time::Duration;

use nonos_identity::{
    Certificate, Digest, Epoch, ExecutionSlots, FileSlotLog, Identity, NetworkId, NodeId, OnionAddress,
    OnionNetwork, Opening, OpeningError, Revocation, Role, SigningKey, StaticSecret, Timestamp, Unverified,
    Verified, WideDigest, wire,
};
use nonos_node::records::{Disclosure, DisclosureError, Sealed, public_run};
use nonos_zk::{
    IdentitySecret, IdentityTree, PolicyLimits, Profile, Proof, Receipt, ReceiptBody, Statement, Trace,
    VerifyingKeyId,
};

const EPOCH: Epoch = Epoch::from_number(3_000_000);

fn network() -> NetworkId {
    NetworkId::from_name("disclosure")
}

fn auditor(seed: u8) -> StaticSecret {
    Identity::from_seed(&[seed; 64]).static_secret(0)
}

/// One run of a node: its receipt, its execution key and its opening.
struct Run {
    body: ReceiptBody,
    key: SigningKey,
    opening: Opening,
}

fn run(identity: &Identity) -> Run {
    let dir = tempfile::tempdir().expect("a directory");
    let log = FileSlotLog::create(dir.path().join("slots.log"), EPOCH).expect("a log");
    let signer = identity.signing_key(Role::EpochSigner, 0);
    let root = identity.root_key();
    let day = Duration::from_secs(86_400);
    let certificate =
        Certificate::issue(&root, &signer, Role::EpochSigner, 7, EPOCH.start(), day, &network())
            .expect("in the rules");
    let mut slots = ExecutionSlots::new(identity.roles(), identity.node_id(), EPOCH);
    let head = slots.sign_head(&signer, &certificate, None, &network()).expect("in the rules");
    let slot = slots.take(&log).expect("a fresh slot");
    let onion = OnionAddress::new(OnionNetwork::Mesh, identity.signing_key(Role::Onion, 0).public());
    let run = slot.identity(onion, identity.transport_key(&network()).public());
    let shown = run.public(slot.key().public());

    let secret = IdentitySecret::from_seed(&identity.zk_secret(0));
    let mut tree = IdentityTree::new();
    tree.insert(secret.commitment()).expect("a fresh tree");
    let exec_hash = WideDigest::of_bytes(b"exec hash");
    let payload = WideDigest::of_bytes(b"payload");
    let trace = Trace {
        gas_used: 1,
        peak_pages: 1,
        host_calls: 0,
        cpu_features: 0,
        isolation: 0,
        payload,
        checkpoints: vec![exec_hash],
        blind: [3; 32],
    };
    let statement = Statement {
        capsule_id: WideDigest::of_bytes(b"capsule"),
        exec_hash,
        policy: PolicyLimits {
            gas_limit: 10,
            pages_max: 1,
            host_calls_allowed: 0,
            cpu_features_allowed: 0,
            isolation_required: 0,
        },
        exec_commit: trace.commit(&exec_hash),
        id_root: tree.root(),
        nullifier: secret.nullifier(EPOCH, slot.number()),
        epoch: EPOCH,
        nonce: [4; 32],
        network: network(),
        exec_key: shown.exec_key,
        id_commit: Digest::from_bytes(*shown.commitment.as_bytes()),
        key_link: secret.key_link(&shown.exec_key),
        payload_commit: WideDigest::of_bytes(payload.as_ref()),
    };
    let body = ReceiptBody {
        statement,
        proof: Proof::new(Profile::Lite, vec![0; 128]).expect("short"),
        verifying_key: VerifyingKeyId::from_digest(Digest::of_bytes(b"key")),
        timestamp: Timestamp::from_secs(EPOCH.start().as_secs() + 1),
        publisher: NodeId::from_bytes([7; 32]),
        price_table: Digest::of_bytes(b"prices"),
        input_digest: Digest::of_bytes(b"input"),
        output_digest: Digest::of_bytes(b"output"),
        status: 0,
    };
    let key = SigningKey::from_seed(&slot.key().to_seed());
    Run { body, key, opening: slot.opening(run, head, certificate) }
}

fn disclose(run: &Run) -> Disclosure {
    let receipt = Receipt::sign(&run.body, &run.key).expect("key and body fit");
    let to = [auditor(8).public(), auditor(9).public()];
    let shown = public_run(&run.body.statement);
    let ephemeral = StaticSecret::from_bytes(&[5; 32]);
    let opening = run.opening.seal_to_all(&to, &ephemeral, &shown, &network()).expect("honest keys");
    let bytes = wire::to_bytes(&Disclosure { receipt: Sealed(receipt.as_bytes().to_vec()), opening });
    wire::from_bytes(&bytes).expect("canonical, within its limit")
}

#[test]
fn every_auditor_learns_who_ran_and_nobody_else_does() {
    let identity = Identity::from_seed(&[1; 64]);
    let run = run(&identity);
    let disclosure = disclose(&run);
    for seed in [8, 9] {
        let (body, opening) = disclosure.open(&auditor(seed), &network(), None).expect("an auditor");
        assert_eq!((body, opening.run.node), (run.body.clone(), identity.node_id()));
    }
    assert!(matches!(disclosure.open(&auditor(7), &network(), None), Err(DisclosureError::Unseal(_))));
    let other = NetworkId::from_name("other");
    assert!(matches!(disclosure.open(&auditor(8), &other, None), Err(DisclosureError::Envelope(_))));
}

#[test]
fn an_opening_does_not_move_to_another_receipt() {
    let identity = Identity::from_seed(&[1; 64]);
    let (mine, other) = (run(&identity), run(&Identity::from_seed(&[2; 64])));
    let swapped = Disclosure { receipt: disclose(&other).receipt, opening: disclose(&mine).opening };
    assert!(matches!(swapped.open(&auditor(8), &network(), None), Err(DisclosureError::Unseal(_))));
}

#[test]
fn an_altered_receipt_discloses_nothing() {
    let disclosure = disclose(&run(&Identity::from_seed(&[1; 64])));
    for at in 0..disclosure.receipt.0.len() {
        let mut altered = disclosure.clone();
        altered.receipt.0[at] ^= 1;
        assert!(altered.open(&auditor(8), &network(), None).is_err(), "byte {at}");
    }
}

#[test]
fn a_revoked_signer_discloses_nothing() {
    let identity = Identity::from_seed(&[1; 64]);
    let disclosure = disclose(&run(&identity));
    let list = |serials: &[u64]| -> Verified<Revocation> {
        let (root, day) = (identity.root_key(), Duration::from_secs(86_400));
        let list = Revocation::issue(&root, None, serials.iter().copied(), EPOCH.start(), day, &network());
        Unverified::new(list.expect("in the rules")).check_issued(&network(), EPOCH.start()).expect("valid")
    };
    assert!(disclosure.open(&auditor(8), &network(), Some(&list(&[6]))).is_ok());
    let refused = disclosure.open(&auditor(8), &network(), Some(&list(&[7])));
    assert!(matches!(refused, Err(DisclosureError::Opening(OpeningError::Revoked(_)))), "{refused:?}");
}
