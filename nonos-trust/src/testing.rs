//! Strategies and decoder fuzzing, for this crate's tests and for embedders.

use core::time::Duration;

use nonos_identity::wire;
use nonos_identity::{Digest, Envelope, Epoch, NetworkId, NodeId, SigningKey, Timestamp, Verified};
use proptest::prelude::*;

use crate::attestation::{Attestation, SignedAttestation};
use crate::config::Config;
use crate::engine::TrustEngine;
use crate::evidence::Evidence;
use crate::fault::{Conviction, Fault, Judge, JudgeError};

/// The network of the records made here.
#[must_use]
pub fn network() -> NetworkId {
    NetworkId::from_name("nonos-trust testing")
}

/// The key of a test node.
#[must_use]
pub fn key(number: u16) -> SigningKey {
    let mut seed = [0x54; 32];
    let [low, high] = number.to_le_bytes();
    seed[0] = low;
    seed[1] = high;
    SigningKey::from_seed(&seed)
}

/// The id of a test node.
#[must_use]
pub fn node(number: u16) -> NodeId {
    key(number).public().node_id()
}

/// A signed attestation between test nodes, made in the first second of its epoch, valid for a day.
///
/// # Panics
/// If issuer and subject are the same.
#[must_use]
pub fn attestation(
    issuer: u16,
    subject: u16,
    epoch: Epoch,
    seq: u64,
    (pos, neg): (u32, u32),
) -> Verified<SignedAttestation> {
    let (key, receipts_root) = (key(issuer), Digest::from_bytes([0; 32]));
    let record = Attestation {
        issuer: key.public().node_id(),
        subject: node(subject),
        epoch,
        seq,
        pos,
        neg,
        receipts_root,
    };
    let sealed = record.seal(&key, &network(), epoch.start(), Duration::from_secs(86_400));
    sealed.expect("a well-formed record about somebody else")
}

/// Records of a few issuers about a few subjects in which sequence numbers often meet.
pub fn attestations(max_len: usize) -> impl Strategy<Value = Vec<Verified<SignedAttestation>>> {
    let record = (0u16..3, 3u16..6, 0u64..3, 0u64..3, 0u32..2);
    prop::collection::vec(record, 0..max_len).prop_map(|records| {
        let make = |(issuer, subject, epoch, seq, pos)| {
            attestation(issuer, subject, Epoch::from_number(epoch), seq, (pos, 0))
        };
        records.into_iter().map(make).collect()
    })
}

/// Any kind of evidence.
pub fn evidence() -> impl Strategy<Value = Evidence> {
    prop::sample::select(&Evidence::ALL[..])
}

/// Feeds bytes to the decoder of attestations.
///
/// # Panics
/// If a decoder accepts two encodings of one value; a decoder that panics is the finding.
pub fn fuzz_attestation(bytes: &[u8]) {
    if let Ok(record) = wire::from_bytes::<Attestation>(bytes) {
        assert_eq!(wire::to_bytes(&record), bytes, "an accepted encoding is the only one");
    }
    if let Ok(envelope) = Envelope::parse(bytes) {
        let _ = Attestation::open(envelope, &network(), Timestamp::from_secs(0));
    }
}

/// A judge for whom a claim is false if it is its culprit's id and the number of a run, 34 bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct TestJudge;

impl Judge for TestJudge {
    fn judge(&self, evidence: &[u8]) -> Result<Conviction, JudgeError> {
        match evidence.split_first_chunk() {
            Some((culprit, run)) if run.len() == 2 => {
                Ok(Conviction { culprit: NodeId::from_bytes(*culprit), run: Digest::of_bytes(run) })
            }
            _ => Err(JudgeError::FalseAccusation("the claim is true".into())),
        }
    }
}

/// Evidence that convinces [`TestJudge`].
#[must_use]
pub fn false_run(culprit: u16, run: u16) -> Vec<u8> {
    [&node(culprit).as_bytes()[..], &run.to_le_bytes()].concat()
}

/// Feeds bytes to the decoder of faults.
///
/// # Panics
/// As [`fuzz_attestation`].
pub fn fuzz_fault(bytes: &[u8]) {
    let parsed = [Fault::parse(bytes, &network()), Fault::parse_judged(bytes, &network(), &TestJudge)];
    for fault in parsed.into_iter().flatten() {
        assert_eq!(fault.to_bytes(), bytes, "an accepted encoding is the only one");
    }
}

/// Feeds bytes to the decoder of snapshots, and asks whatever engine comes out.
///
/// # Panics
/// As [`fuzz_attestation`].
pub fn fuzz_snapshot(bytes: &[u8]) {
    let now = Timestamp::from_secs(0);
    if let Ok(engine) = TrustEngine::restore(Config::default(), node(0), &network(), bytes, now) {
        for peer in engine.peers() {
            let _ = (engine.score(&peer, now), engine.explain(&peer, now));
        }
        let _ = engine.digest();
    }
}
