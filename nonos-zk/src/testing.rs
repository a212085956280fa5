//! For tests of this crate and of those who build on it: honest runs, proptest strategies, one
//! fuzz function for each decoder, and a conformance kit for other provers.
#![expect(clippy::missing_panics_doc, reason = "a kit for tests reports by panicking")]

use nonos_identity::wire::{self, Wire};
use nonos_identity::{Digest, Domain, Epoch, NetworkId, NodeId, SigningKey, Timestamp, WideDigest};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::{
    Enrolment, Gate, IdentitySecret, IdentityTree, PolicyLimits, Profile, Proof, ProveError, ProveRequest,
    Prover, Receipt, ReceiptBody, SLOTS_PER_EPOCH, Statement, Trace, Verifier, VerifyingKeyId, Witness,
    groth16,
};

const DOMAIN: Domain = Domain::new("nonos/zk/testing/v1");

/// A run that keeps its policy, with everything that is secret about it.
#[derive(Debug)]
pub struct Run {
    /// What can be proven.
    pub statement: Statement,
    /// What proves it.
    pub witness: Witness,
    /// The one-run execution key.
    pub exec_key: SigningKey,
    /// The operators, the prover among them.
    pub tree: IdentityTree,
}

impl Run {
    /// An honest run among `operators` of them, everything derived from `seed`.
    #[must_use]
    pub fn honest(seed: u64, operators: u32, slot: u32) -> Self {
        let bytes = |label: &str| *Digest::of(DOMAIN, &[label.as_bytes(), &seed.to_le_bytes()]).as_bytes();
        let wide = |label: &str| WideDigest::of(DOMAIN, &[label.as_bytes(), &seed.to_le_bytes()]);
        let secret = IdentitySecret::from_seed(&bytes("secret"));
        let mut tree = IdentityTree::new();
        let ours = operators / 2;
        for other in 0..operators {
            let stranger = IdentitySecret::from_seed(&bytes(&format!("stranger {other}")));
            let commitment = if other == ours { secret.commitment() } else { stranger.commitment() };
            tree.insert(commitment).expect("fresh commitments");
        }
        let exec_key = SigningKey::from_seed(&bytes("execution key"));
        let exec_hash = wide("exec hash");
        let epoch = Epoch::from_number(3_000_000 + seed % 1000);
        let policy = PolicyLimits {
            gas_limit: 1_000_000,
            pages_max: 256,
            host_calls_allowed: 0b1011,
            cpu_features_allowed: 0b011,
            isolation_required: 0b101,
        };
        let payload = wide("payload");
        let trace = Trace {
            gas_used: 999_999 - seed % 1000,
            peak_pages: 17,
            host_calls: 0b0011,
            cpu_features: 0b001,
            isolation: 0b101,
            payload,
            checkpoints: (0..4).map(|k| wide(&format!("checkpoint {k}"))).collect(),
            blind: bytes("blind"),
        };
        let statement = Statement {
            capsule_id: wide("capsule"),
            exec_hash,
            policy,
            exec_commit: trace.commit(&exec_hash),
            id_root: tree.root(),
            nullifier: secret.nullifier(epoch, slot),
            epoch,
            nonce: bytes("nonce"),
            network: NetworkId::from_name("testing"),
            exec_key: exec_key.public(),
            id_commit: Digest::from_bytes(bytes("id commit")),
            key_link: secret.key_link(&exec_key.public()),
            payload_commit: WideDigest::of_bytes(payload.as_ref()),
        };
        let path = tree.path(ours).expect("inserted above");
        Self { statement, witness: Witness { secret, path, trace, slot }, exec_key, tree }
    }

    /// A receipt for this run, made one second into its epoch.
    #[must_use]
    pub fn receipt(&self, proof: Proof, verifying_key: VerifyingKeyId) -> ReceiptBody {
        ReceiptBody {
            statement: self.statement.clone(),
            proof,
            verifying_key,
            timestamp: self.now(),
            publisher: NodeId::from_bytes([7; 32]),
            price_table: Digest::of(DOMAIN, &[b"prices"]),
            input_digest: Digest::of(DOMAIN, &[b"input"]),
            output_digest: Digest::of(DOMAIN, &[b"output"]),
            status: 0,
        }
    }

    /// One second into the epoch of the run.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        Timestamp::from_secs(self.statement.epoch.start().as_secs() + 1)
    }
}

/// Statements of honest runs, and witnesses for them.
pub fn run() -> impl Strategy<Value = Run> {
    (any::<u64>(), 1..5_u32, 0..SLOTS_PER_EPOCH)
        .prop_map(|(seed, operators, slot)| Run::honest(seed, operators, slot))
}

/// Well-formed receipt bodies; their proofs are noise.
pub fn receipt_body() -> impl Strategy<Value = ReceiptBody> {
    (run(), vec(any::<u8>(), 0..300), any::<[u8; 32]>(), any::<u32>()).prop_map(|(run, proof, id, status)| {
        let proof = Proof::new(Profile::Lite, proof).expect("below the limit");
        let id = VerifyingKeyId::from_digest(Digest::from_bytes(id));
        ReceiptBody { status, ..run.receipt(proof, id) }
    })
}

/// Bytes with a few of them changed, cut or added: what a decoder sees from a bad peer.
pub fn mutated(bytes: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    let len = bytes.len();
    (vec((0..=len, any::<u8>(), 0..3_u8), 1..4)).prop_map(move |edits| {
        let mut bytes = bytes.clone();
        for (at, value, kind) in edits {
            match (kind, bytes.get_mut(at)) {
                (0, Some(byte)) => *byte ^= value.max(1),
                (1, _) => bytes.truncate(at),
                _ => bytes.insert(at.min(bytes.len()), value),
            }
        }
        bytes
    })
}

fn fuzz_wire<T: Wire>(bytes: &[u8]) {
    if let Ok(value) = wire::from_bytes::<T>(bytes) {
        assert_eq!(wire::to_bytes(&value), bytes, "decoding accepted a second encoding");
    }
}

/// Decodes a statement from any bytes.
pub fn fuzz_statement(bytes: &[u8]) {
    fuzz_wire::<Statement>(bytes);
}

/// Decodes a request to a prover, and a witness, from any bytes.
pub fn fuzz_request(bytes: &[u8]) {
    if let Ok(ProveRequest { statement, witness, seed }) = ProveRequest::from_secret_bytes(bytes) {
        let again = ProveRequest::to_secret_bytes(&statement, &witness, &seed).expect("it was read");
        assert_eq!(**again, *bytes, "decoding accepted a second encoding");
    }
    if let Ok(witness) = Witness::from_secret_bytes(bytes) {
        let again = witness.to_secret_bytes().expect("it was read");
        assert_eq!(**again, *bytes, "decoding accepted a second encoding");
    }
}

/// Decodes a proof from any bytes.
pub fn fuzz_proof(bytes: &[u8]) {
    fuzz_wire::<Proof>(bytes);
}

/// Decodes a receipt body, and a receipt, from any bytes.
pub fn fuzz_receipt(bytes: &[u8]) {
    fuzz_wire::<ReceiptBody>(bytes);
    let _ = Receipt::parse(bytes);
}

/// Decodes an enrolment from any bytes.
pub fn fuzz_enrolment(bytes: &[u8]) {
    let _ = Enrolment::check(bytes, &NetworkId::from_name("testing"), Timestamp::from_secs(0));
}

/// Reads a verifying key and a key set from any bytes.
pub fn fuzz_keys(bytes: &[u8]) {
    if let Ok(key) = groth16::VerifyingKey::from_bytes(bytes) {
        assert_eq!(key.to_bytes(), bytes, "a second encoding of a verifying key");
    }
    let _ = groth16::KeySet::from_bytes(bytes);
}

/// Verifies any bytes as a Groth16 proof of an honest statement.
///
/// `verifier` is an argument because its key takes long to make.
pub fn fuzz_verify(verifier: &dyn Verifier, bytes: &[u8]) {
    let Ok(proof) = Proof::new(verifier.profile(), bytes.to_vec()) else { return };
    assert!(verifier.verify(&Run::honest(0, 1, 0).statement, &proof).is_err(), "forged by chance");
}

/// The contract of [`Prover`] and [`Verifier`], for a pair that belongs together.
pub fn check_prover(prover: &dyn Prover, verifier: &dyn Verifier) {
    assert_eq!(prover.profile(), verifier.profile());
    assert_eq!(prover.verifying_key_id(), verifier.verifying_key_id());

    let run = Run::honest(1, 3, 5);
    let proof = prover.prove(&run.statement, &run.witness, [1; 32]).expect("an honest run");
    assert_eq!(proof.profile(), prover.profile());
    assert_eq!(verifier.verify(&run.statement, &proof), Ok(()));

    for (name, statement) in altered(&run.statement) {
        assert!(verifier.verify(&statement, &proof).is_err(), "proof holds for another {name}");
    }
    for (gate, statement, witness) in unsatisfied(&run) {
        match prover.prove(&statement, &witness, [2; 32]) {
            Err(ProveError::Unsatisfied(found)) => assert_eq!(found, gate),
            other => panic!("{gate:?} not refused: {other:?}"),
        }
    }
    let other = altered(&run.statement).swap_remove(0).1;
    let empty = Proof::new(prover.profile(), Vec::new()).expect("no bytes");
    let batch =
        [(&run.statement, &proof), (&other, &proof), (&run.statement, &empty), (&run.statement, &proof)];
    let one_by_one: Vec<_> =
        batch.iter().map(|(statement, proof)| verifier.verify(statement, proof)).collect();
    assert_eq!(verifier.verify_batch(&batch), one_by_one, "a batch is its proofs");
    assert_eq!(verifier.verify_batch(&[]), []);
    assert!(verifier.verify(&run.statement, &empty).is_err(), "empty proof");
}

/// The statement with one field changed, for every field.
#[must_use]
pub fn altered(statement: &Statement) -> Vec<(&'static str, Statement)> {
    let other = Run::honest(u64::MAX, 2, 9).statement;
    let with = |edit: &dyn Fn(&mut Statement)| {
        let mut altered = statement.clone();
        edit(&mut altered);
        assert_ne!(altered, *statement);
        altered
    };
    vec![
        ("capsule", with(&|s| s.capsule_id = other.capsule_id)),
        ("exec_hash", with(&|s| s.exec_hash = other.exec_hash)),
        ("gas limit", with(&|s| s.policy.gas_limit += 1)),
        ("page limit", with(&|s| s.policy.pages_max += 1)),
        ("allowed calls", with(&|s| s.policy.host_calls_allowed ^= 1 << 63)),
        ("allowed features", with(&|s| s.policy.cpu_features_allowed ^= 1 << 31)),
        ("required isolation", with(&|s| s.policy.isolation_required ^= 1 << 15)),
        ("exec_commit", with(&|s| s.exec_commit = other.exec_commit)),
        ("id_root", with(&|s| s.id_root = other.id_root)),
        ("nullifier", with(&|s| s.nullifier = other.nullifier)),
        ("epoch", with(&|s| s.epoch = s.epoch.next())),
        ("nonce", with(&|s| s.nonce[31] ^= 1)),
        ("network", with(&|s| s.network = NetworkId::from_name("another"))),
        ("exec_key", with(&|s| s.exec_key = other.exec_key)),
        ("id_commit", with(&|s| s.id_commit = other.id_commit)),
        ("key_link", with(&|s| s.key_link = other.key_link)),
        ("payload_commit", with(&|s| s.payload_commit = other.payload_commit)),
    ]
}

/// For every gate a statement and a witness that miss this one alone.
#[must_use]
pub fn unsatisfied(run: &Run) -> Vec<(Gate, Statement, Witness)> {
    let with = |gate, edit: &dyn Fn(&mut Statement, &mut Witness)| {
        let (mut statement, mut witness) = (run.statement.clone(), run.witness.clone());
        edit(&mut statement, &mut witness);
        if gate != Gate::Execution {
            statement.exec_commit = witness.trace.commit(&statement.exec_hash);
        }
        if gate != Gate::Nullifier {
            statement.nullifier = witness.secret.nullifier(statement.epoch, witness.slot);
        }
        if gate != Gate::KeyLink {
            statement.key_link = witness.secret.key_link(&statement.exec_key);
        }
        if gate != Gate::Payload {
            statement.payload_commit = WideDigest::of_bytes(witness.trace.payload.as_ref());
        }
        (gate, statement, witness)
    };
    let stranger = IdentitySecret::from_seed(&[0x5a; 32]);
    let other = Run::honest(77, 2, 0);
    vec![
        with(Gate::Gas, &|s, w| w.trace.gas_used = s.policy.gas_limit + 1),
        with(Gate::Gas, &|_, w| w.trace.gas_used = u64::MAX),
        with(Gate::Pages, &|s, w| w.trace.peak_pages = s.policy.pages_max + 1),
        with(Gate::Pages, &|_, w| w.trace.peak_pages = u32::MAX),
        with(Gate::HostCalls, &|_, w| w.trace.host_calls |= 1 << 2),
        with(Gate::HostCalls, &|_, w| w.trace.host_calls = u64::MAX),
        with(Gate::CpuFeatures, &|_, w| w.trace.cpu_features |= 1 << 2),
        with(Gate::CpuFeatures, &|_, w| w.trace.cpu_features = u32::MAX),
        with(Gate::Isolation, &|_, w| w.trace.isolation = 0b001),
        with(Gate::Isolation, &|s, _| s.policy.isolation_required = u16::MAX),
        with(Gate::Execution, &|_, w| w.trace.gas_used -= 1),
        with(Gate::Execution, &|_, w| w.trace.blind[0] ^= 1),
        with(Gate::Execution, &|_, w| w.trace.checkpoints.truncate(3)),
        with(Gate::Execution, &|s, _| s.exec_hash = s.capsule_id),
        with(Gate::Execution, &|_, w| w.trace.cpu_features = 0),
        with(Gate::Execution, &|_, w| w.trace.isolation |= 1 << 9),
        with(Gate::Payload, &|_, w| w.trace.payload = other.witness.trace.payload),
        with(Gate::Payload, &|s, w| s.payload_commit = w.trace.payload),
        with(Gate::Slot, &|_, w| w.slot = SLOTS_PER_EPOCH),
        with(Gate::Slot, &|_, w| w.slot = u32::MAX),
        with(Gate::Membership, &|_, w| w.secret = stranger.clone()),
        with(Gate::Membership, &|s, _| s.id_root = other.statement.id_root),
        with(Gate::Nullifier, &|_, w| w.slot ^= 1),
        with(Gate::Nullifier, &|s, _| s.epoch = s.epoch.next()),
        with(Gate::KeyLink, &|s, _| s.key_link = other.statement.key_link),
        with(Gate::KeyLink, &|s, _| s.exec_key = other.statement.exec_key),
    ]
}
