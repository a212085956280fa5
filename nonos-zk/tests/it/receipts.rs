use std::sync::OnceLock;
use std::time::Duration;

use nonos_identity::wire;
use nonos_identity::{Envelope, Epoch, NetworkId, SigningKey, Timestamp, Verified};
use nonos_zk::testing::{Run, altered, mutated};
use nonos_zk::{
    AcceptedRoots, NullifierSet, Proof, Prover, Receipt, ReceiptBody, ReceiptError, Reused, SignReceiptError,
    Verifier, VerifyError, VerifyingKeyId, domains,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

use crate::{prover, verifier};

const EPOCH_SECS: u64 = Epoch::LENGTH.as_secs();

struct Signed {
    run: Run,
    body: ReceiptBody,
    bytes: Vec<u8>,
    roots: AcceptedRoots,
}

fn signed() -> Signed {
    static PROOF: OnceLock<Proof> = OnceLock::new();
    let run = Run::honest(41, 5, 1);
    let prover = prover();
    let prove = || prover.prove(&run.statement, &run.witness, [0; 32]).unwrap();
    let body = run.receipt(PROOF.get_or_init(prove).clone(), prover.verifying_key_id());
    let bytes = Receipt::sign(&body, &run.exec_key).unwrap().as_bytes().to_vec();
    let mut roots = AcceptedRoots::new();
    roots.accept(run.tree.root(), run.statement.epoch);
    Signed { run, body, bytes, roots }
}

impl Signed {
    fn check_at(&self, bytes: &[u8], now: Timestamp) -> Result<Verified<Receipt>, ReceiptError> {
        Receipt::parse(bytes)?.check(verifier(), &self.roots, &self.run.statement.network, now)
    }

    fn check(&self, bytes: &[u8]) -> Result<Verified<Receipt>, ReceiptError> {
        self.check_at(bytes, self.run.now())
    }

    /// The name of the check that refuses this body, signed all the same.
    fn refused(&self, edit: impl FnOnce(&mut ReceiptBody)) -> &'static str {
        let mut body = self.body.clone();
        edit(&mut body);
        let bytes = seal(&body, &self.run.exec_key, body.timestamp);
        self.check(&bytes).unwrap_err().check_name()
    }
}

/// Signs whatever it is given, as a dishonest holder of the key would.
fn seal(body: &ReceiptBody, key: &SigningKey, now: Timestamp) -> Vec<u8> {
    let (network, day) = (&body.statement.network, Duration::from_secs(86_400));
    let bytes = wire::to_bytes(body);
    Envelope::seal(key, domains::RECEIPT, network, Receipt::KIND, 0, now, day, bytes)
        .unwrap()
        .as_bytes()
        .to_vec()
}

#[test]
fn honest_receipt_counts_once() {
    let signed = signed();
    let receipt = signed.check(&signed.bytes).unwrap();
    assert_eq!(receipt.body(), &signed.body);
    assert_eq!(receipt.id(), signed.run.statement.nullifier);
    assert_eq!(&receipt.as_bytes()[..], signed.bytes);

    let mut seen = NullifierSet::default();
    let statement = receipt.statement();
    assert_eq!(seen.insert(receipt.id(), statement.epoch), Ok(()));
    assert_eq!(seen.insert(receipt.id(), statement.epoch), Err(Reused::Seen));
}

#[test]
fn signing_asks_for_the_execution_key_and_the_epoch() {
    let Signed { run, mut body, .. } = signed();
    let other = SigningKey::from_seed(&[1; 32]);
    assert_eq!(Receipt::sign(&body, &other).unwrap_err(), SignReceiptError::WrongKey);
    body.timestamp = Timestamp::from_secs(run.statement.epoch.start().as_secs() - 1);
    assert_eq!(Receipt::sign(&body, &run.exec_key).unwrap_err(), SignReceiptError::Timestamp);
}

/// Noise, receipts that were cut, flipped and grown on the way, and receipts that the holder of the
/// execution key signed with another proof or over another statement: ten thousand of them.
#[test]
fn ten_thousand_bad_receipts_are_refused() {
    let signed = signed();
    let key = &signed.run.exec_key;
    let others = altered(&signed.body.statement);
    let mut runner = TestRunner::deterministic();
    let mut draw =
        |strategy: &dyn Fn() -> BoxedStrategy<Vec<u8>>| strategy().new_tree(&mut runner).unwrap().current();
    let mut counts = std::collections::BTreeMap::new();
    for round in 0..10_000 {
        let bytes = match round % 5 {
            0 => draw(&|| vec(any::<u8>(), 0..900).boxed()),
            1 | 2 => draw(&|| mutated(signed.bytes.clone()).boxed()),
            3 => {
                let proof = draw(&|| mutated(signed.body.proof.as_bytes().to_vec()).boxed());
                let proof = Proof::new(signed.body.proof.profile(), proof).unwrap();
                seal(&ReceiptBody { proof, ..signed.body.clone() }, key, signed.body.timestamp)
            }
            _ => {
                let (_, statement) = others[round / 5 % others.len()].clone();
                seal(&ReceiptBody { statement, ..signed.body.clone() }, key, signed.body.timestamp)
            }
        };
        match signed.check(&bytes) {
            Ok(_) => assert_eq!(bytes, signed.bytes, "accepted in round {round}"),
            Err(error) => *counts.entry(error.check_name()).or_insert(0) += 1,
        }
    }
    // All layers have refused some.
    for check in ["encoding", "signature", "proof", "wrong_network", "signer", "unknown_root"] {
        assert!(counts.contains_key(check), "{counts:?}");
    }
    assert!(counts["proof"] > 2000, "{counts:?}");
}

#[test]
fn every_altered_byte_is_refused() {
    let signed = signed();
    for at in 0..signed.bytes.len() {
        let mut bytes = signed.bytes.clone();
        bytes[at] ^= 1;
        assert!(signed.check(&bytes).is_err(), "byte {at}");
    }
    for len in 0..signed.bytes.len() {
        assert!(signed.check(&signed.bytes[..len]).is_err(), "{len} bytes");
    }
}

#[test]
fn errors_name_the_check() {
    let signed = signed();
    let statement = &signed.run.statement;
    assert_eq!(signed.check(b"noise").unwrap_err().check_name(), "encoding");
    assert_eq!(
        signed.refused(|body| body.verifying_key = VerifyingKeyId::from_digest(body.input_digest)),
        "verifying_key"
    );
    assert_eq!(signed.refused(|body| body.statement.network = NetworkId::from_name("b")), "wrong_network");
    assert_eq!(signed.refused(|body| body.timestamp = statement.epoch.end()), "future");
    assert_eq!(
        signed.refused(|body| body.timestamp = Timestamp::from_secs(statement.epoch.start().as_secs() - 1)),
        "timestamp"
    );
    assert_eq!(
        signed.refused(|body| body.statement.id_root = Run::honest(1, 1, 0).tree.root()),
        "unknown_root"
    );
    assert_eq!(signed.refused(|body| body.statement.nonce[0] ^= 1), "proof");
    assert_eq!(signed.refused(|body| body.statement.policy.gas_limit += 1), "proof");
    assert_eq!(
        signed.refused(|body| body.statement.nullifier = Run::honest(1, 1, 0).statement.nullifier),
        "proof"
    );
    assert_eq!(
        signed.refused(|body| body.proof = Proof::new(body.proof.profile(), vec![0; 128]).unwrap()),
        "proof"
    );

    // Another kind of envelope by the same key.
    let (network, hour) = (&statement.network, Duration::from_secs(3600));
    let body = wire::to_bytes(&signed.body);
    let kind = Receipt::KIND + 1;
    let key = &signed.run.exec_key;
    let other =
        Envelope::seal(key, domains::RECEIPT, network, kind, 0, signed.run.now(), hour, body).unwrap();
    assert_eq!(signed.check(other.as_bytes()).unwrap_err(), ReceiptError::Kind { found: kind });
}

/// Taking over somebody's proof: with one's own key as the signer, or as the execution key.
#[test]
fn a_receipt_cannot_be_claimed() {
    let signed = signed();
    let thief = SigningKey::from_seed(&[0x66; 32]);
    let now = signed.body.timestamp;
    assert_eq!(signed.check(&seal(&signed.body, &thief, now)).unwrap_err(), ReceiptError::Signer);

    let mut body = signed.body.clone();
    body.statement.exec_key = thief.public();
    let error = signed.check(&seal(&body, &thief, now)).unwrap_err();
    assert_eq!(error, ReceiptError::Proof(VerifyError::Refused));

    let mut body = signed.body.clone();
    body.statement.id_commit = body.price_table;
    assert_eq!(signed.refused(|b| *b = body), "proof");
}

/// A signature made for another purpose, or over the receipt of another mesh.
#[test]
fn signatures_do_not_cross_purposes_or_networks() {
    let signed = signed();
    let (key, hour, now) = (&signed.run.exec_key, Duration::from_secs(3600), signed.run.now());
    let seal = |domain, network: &NetworkId| {
        let body = wire::to_bytes(&signed.body);
        let sealed = Envelope::seal(key, domain, network, Receipt::KIND, 0, now, hour, body).unwrap();
        signed.check(sealed.as_bytes()).map(drop)
    };
    let network = signed.run.statement.network;
    assert_eq!(seal(domains::RECEIPT, &network), Ok(()));
    assert_eq!(seal(domains::ENROLMENT, &network), Err(ReceiptError::Signature));
    assert_eq!(seal(domains::RECEIPT, &NetworkId::from_name("another")), Err(ReceiptError::Signature));
}

#[test]
fn the_window_has_two_ends() {
    let signed = signed();
    let epoch = signed.run.statement.epoch;
    let at = |secs: u64| signed.check_at(&signed.bytes, Timestamp::from_secs(secs)).map(drop);
    let (made, skew) = (signed.body.timestamp.as_secs(), Timestamp::MAX_SKEW.as_secs());
    let last = epoch.end().as_secs() + Receipt::WINDOW * EPOCH_SECS;
    assert_eq!(at(made - skew), Ok(()));
    assert_eq!(at(made - skew - 1), Err(ReceiptError::Future(epoch)));
    assert_eq!(at(last - 1), Ok(()));
    assert_eq!(at(last), Err(ReceiptError::Expired(epoch)));
    assert_eq!(at(u64::MAX), Err(ReceiptError::Expired(epoch)));

    // An expiry of the signer's own choice does not stretch the window.
    let year = Duration::from_secs(365 * 86_400);
    let (key, network) = (&signed.run.exec_key, &signed.run.statement.network);
    let body = wire::to_bytes(&signed.body);
    let now = signed.body.timestamp;
    let long = Envelope::seal(key, domains::RECEIPT, network, Receipt::KIND, 0, now, year, body).unwrap();
    let error = signed.check_at(long.as_bytes(), Timestamp::from_secs(last)).unwrap_err();
    assert_eq!(error, ReceiptError::Expired(epoch));
}

#[test]
fn roots_lapse() {
    let Signed { run, bytes, .. } = signed();
    let epoch = run.statement.epoch;
    let before = Epoch::from_number(epoch.number() - 1);
    let check = |roots: &AcceptedRoots| {
        let receipt = Receipt::parse(&bytes).unwrap();
        receipt.check(verifier(), roots, &run.statement.network, run.now()).map(drop)
    };
    let mut roots = AcceptedRoots::new();
    assert_eq!(check(&roots), Err(ReceiptError::UnknownRoot));
    roots.accept(run.tree.root(), before);
    assert_eq!(check(&roots), Err(ReceiptError::UnknownRoot));
    roots.accept(run.tree.root(), epoch);
    roots.accept(run.tree.root(), before);
    assert_eq!(check(&roots), Ok(()));
    roots.prune(epoch.next());
    assert_eq!(check(&roots), Err(ReceiptError::UnknownRoot));
}

#[test]
fn accepted_roots_are_bounded() {
    let mut roots = AcceptedRoots::new();
    let root = |i: u64| {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&i.to_le_bytes());
        nonos_zk::IdentityRoot::from_bytes(bytes).unwrap()
    };
    for i in 0..=AcceptedRoots::MAX as u64 {
        roots.accept(root(i), Epoch::from_number(i));
    }
    assert_eq!(roots.len(), AcceptedRoots::MAX);
    assert!(!roots.contains(&root(0), Epoch::from_number(0)), "the first to lapse made room");
    assert!(roots.contains(&root(1), Epoch::from_number(1)));
}

#[test]
fn nullifiers_are_bounded_and_forgotten_by_epoch() {
    let (mut seen, epoch) = (NullifierSet::new(2), Epoch::from_number(5));
    let [a, b, c] = [0, 1, 2].map(|slot| Run::honest(1, 1, slot).statement.nullifier);
    assert_eq!(seen.insert(a, epoch), Ok(()));
    assert_eq!(seen.insert(b, epoch), Ok(()));
    assert_eq!(seen.insert(c, epoch), Err(Reused::Full));
    assert_eq!(seen.insert(a, epoch), Err(Reused::Seen));
    assert_eq!(seen.insert(c, epoch.next()), Ok(()));
    assert_eq!(seen.len(), 3);

    seen.prune(epoch.next());
    assert_eq!(seen.len(), 1);
    assert_eq!(seen.insert(a, epoch), Err(Reused::Forgotten));
    seen.prune(epoch);
    assert_eq!(seen.insert(a, epoch), Err(Reused::Forgotten), "pruning never goes back");
}

#[test]
fn verifier_is_dyn() {
    let boxed: Box<dyn Verifier> = Box::new(verifier().clone());
    let signed = signed();
    assert_eq!(boxed.verify(&signed.run.statement, &signed.body.proof), Ok(()));
}
