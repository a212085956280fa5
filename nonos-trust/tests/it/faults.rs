use core::time::Duration;

use nonos_identity::{Digest, Envelope, EnvelopeError, Epoch, NetworkId};
use nonos_trust::testing::{TestJudge, attestation, false_run, key, network, node};
use nonos_trust::{
    Attestation, AttestationError, Evidence, Fault, FaultError, JudgeError, Merge, MergeError, RestoreError,
    State, TrustEngine,
};

use crate::{DAY, OBSERVER, engine, now};

fn epoch() -> Epoch {
    Epoch::at(now())
}

fn equivocation(culprit: u16, seq: u64) -> nonos_identity::Verified<Fault> {
    let (a, b) =
        (attestation(culprit, 9, epoch(), seq, (1, 0)), attestation(culprit, 9, epoch(), seq, (2, 0)));
    Fault::equivocation(a, b).expect("they contradict")
}

#[test]
fn one_equivocation_suspends_and_two_blacklist() {
    let mut engine = engine();
    for _ in 0..40 {
        engine.observe(node(1), Evidence::ProofAccepted, now());
    }
    assert_eq!(engine.merge(attestation(1, 9, epoch(), 1, (1, 0)), now()), Ok(Merge::Stored));
    let merge = engine.merge(attestation(1, 9, epoch(), 1, (2, 0)), now());
    let Ok(Merge::Equivocation(fault)) = merge else { panic!("{merge:?}") };
    assert_eq!(fault.culprit(), node(1));
    assert_eq!(engine.state(&node(1), now()), State::Suspended);
    assert!(!engine.submit_fault(*fault, now()), "one slip counts once");

    assert!(engine.submit_fault(equivocation(1, 2), now()));
    assert_eq!(engine.score(&node(1), now()).state, State::Blacklisted);
    assert_eq!(engine.score(&node(1), now()).permille(), 0);
    assert_eq!(engine.state(&node(1), now().saturating_add(1_000 * DAY)), State::Blacklisted);
    engine.pardon(&node(1));
    assert_eq!(engine.state(&node(1), now()), State::Good);
    assert!(engine.score(&node(1), now()).permille() > 900);
}

#[test]
fn evidence_convinces_others_and_survives_expiry() {
    let fault = equivocation(1, 1);
    let parsed = Fault::parse(&fault.to_bytes(), &network()).expect("anybody can check it");
    assert_eq!(parsed, fault);
    let mut other = TrustEngine::new(Default::default(), node(2)).expect("sound");
    assert!(other.submit_fault(parsed, now().saturating_add(100 * DAY)));
    assert_eq!(other.state(&node(1), now().saturating_add(100 * DAY)), State::Suspended);
}

#[test]
fn false_accusations_fail() {
    let same = attestation(1, 9, epoch(), 1, (1, 0));
    assert!(Fault::equivocation(same.clone(), same.clone()).is_none());
    assert!(Fault::equivocation(same.clone(), attestation(1, 9, epoch(), 2, (2, 0))).is_none());
    assert!(Fault::equivocation(same.clone(), attestation(1, 8, epoch(), 1, (2, 0))).is_none());
    assert!(Fault::equivocation(same.clone(), attestation(2, 9, epoch(), 1, (2, 0))).is_none());
    assert!(Fault::equivocation(same, attestation(1, 9, epoch().next(), 1, (2, 0))).is_none());

    let bytes = equivocation(1, 1).to_bytes();
    assert!(matches!(
        Fault::parse(&bytes, &NetworkId::from_name("other")),
        Err(FaultError::Evidence(AttestationError::Envelope(EnvelopeError::Signature(_))))
    ));
    for at in 0..bytes.len() {
        let mut bad = bytes.clone();
        bad[at] ^= 1;
        assert!(Fault::parse(&bad, &network()).is_err(), "byte {at}");
    }
}

/// The same two records the other way round are another encoding of the same fault.
#[test]
fn evidence_has_one_order() {
    let fault = equivocation(1, 1);
    let Fault::Equivocation { first, second, .. } = &*fault else { panic!("another fault") };
    let mut swapped = vec![0x83, 0x00];
    for envelope in [second.envelope(), first.envelope()] {
        let bytes = envelope.as_bytes();
        swapped.extend([0x58, u8::try_from(bytes.len()).expect("short")]);
        swapped.extend_from_slice(bytes);
    }
    assert_eq!(swapped.len(), fault.to_bytes().len());
    assert_eq!(Fault::parse(&swapped, &network()), Err(FaultError::NoContradiction));
}

#[test]
fn attestations_open_only_as_signed() {
    let signed = attestation(1, 9, epoch(), 1, (1, 0));
    let open = |bytes: &[u8], network: &NetworkId, at| {
        Attestation::open(Envelope::parse(bytes).expect("well-formed"), network, at)
            .map(|signed| signed.into_inner())
    };
    let bytes = signed.envelope().as_bytes();
    assert_eq!(open(bytes, &network(), now()).as_ref(), Ok(&*signed));
    let expired = open(bytes, &network(), now().saturating_add(2 * DAY));
    assert!(matches!(expired, Err(AttestationError::Envelope(EnvelopeError::Expired(_)))));
    let elsewhere = open(bytes, &NetworkId::from_name("other"), now());
    assert!(matches!(elsewhere, Err(AttestationError::Envelope(EnvelopeError::Signature(_)))));

    let record = *signed.attestation();
    let seal =
        |record: Attestation, signer| record.seal(&key(signer), &network(), now(), Duration::from_secs(60));
    assert_eq!(seal(record, 2), Err(AttestationError::Header));
    assert_eq!(seal(Attestation { subject: node(1), ..record }, 1), Err(AttestationError::SelfPraise));
    assert_eq!(seal(Attestation { epoch: epoch().next(), ..record }, 1), Err(AttestationError::Header));
    assert!(seal(Attestation { receipts_root: Digest::from_bytes([1; 32]), ..record }, 1).is_ok());
}

#[test]
fn old_epochs_and_a_full_store_are_told_apart() {
    let config = nonos_trust::Config { max_issuers: 2, ..Default::default() };
    let mut engine = TrustEngine::new(config, node(OBSERVER)).expect("sound");
    let old = Epoch::from_number(epoch().number() - 40);
    assert_eq!(engine.merge(attestation(1, 9, old, 1, (1, 0)), now()), Err(MergeError::TooOld(old)));
    for issuer in [1, 2] {
        assert_eq!(engine.merge(attestation(issuer, 9, epoch(), 1, (1, 0)), now()), Ok(Merge::Stored));
    }
    assert_eq!(engine.merge(attestation(3, 9, epoch(), 1, (1, 0)), now()), Err(MergeError::Full));
    // Somebody this node dealt with takes the place of a stranger.
    engine.observe(node(3), Evidence::ProofAccepted, now());
    assert_eq!(engine.merge(attestation(3, 9, epoch(), 1, (1, 0)), now()), Ok(Merge::Stored));
    assert_eq!(engine.attestations().len(), 2);
}

#[test]
fn a_snapshot_restores_everything() {
    let mut engine = engine();
    for peer in 1..6 {
        engine.observe(node(peer), Evidence::ProofAccepted, now());
        engine.observe(node(peer), Evidence::RelayFailed, now());
        let _ = engine.merge(attestation(peer, 9, epoch(), 1, (peer.into(), 1)), now()).expect("merges");
    }
    assert!(engine.submit_fault(equivocation(3, 5), now()));
    engine.pardon(&node(3));
    assert!(engine.submit_fault(equivocation(4, 5), now()));
    engine.refresh(now());
    let bytes = engine.snapshot();
    let restore = |observer, network: &NetworkId| {
        TrustEngine::restore(Default::default(), observer, network, &bytes, now())
    };
    let restored = restore(node(OBSERVER), &network()).expect("its own snapshot");
    assert_eq!(restored, engine);
    assert_eq!((restored.snapshot(), restored.digest()), (bytes.clone(), engine.digest()));
    assert_eq!(restore(node(1), &network()), Err(RestoreError::Observer));
    assert!(matches!(restore(node(OBSERVER), &NetworkId::from_name("x")), Err(RestoreError::Attestation(_))));
}

#[test]
fn the_digest_speaks_of_shared_state_alone() {
    let (mut a, mut b) = (engine(), TrustEngine::new(Default::default(), node(7)).expect("sound"));
    a.observe(node(1), Evidence::ProofInvalid, now());
    assert_eq!(a.digest(), b.digest());
    let _ = a.merge(attestation(1, 9, epoch(), 1, (1, 0)), now());
    assert_ne!(a.digest(), b.digest());
    let _ = b.merge(attestation(1, 9, epoch(), 1, (1, 0)), now());
    assert_eq!(a.digest(), b.digest());
    assert!(a.submit_fault(equivocation(2, 1), now()));
    assert_ne!(a.digest(), b.digest());
}

#[test]
fn a_judged_false_run_suspends_and_two_blacklist() {
    let mut engine = engine();
    for _ in 0..40 {
        engine.observe(node(1), Evidence::ProofAccepted, now());
    }
    let fault = |run| Fault::false_run(false_run(1, run), &TestJudge).expect("false");
    assert_eq!(fault(1).culprit(), node(1));
    assert!(engine.submit_fault(fault(1), now()));
    assert!(!engine.submit_fault(fault(1), now()), "one run counts once");
    assert_eq!(engine.state(&node(1), now()), State::Suspended);
    assert_eq!(engine.score(&node(1), now()).permille(), 0);
    // A run and an attestation are two faults.
    assert!(engine.submit_fault(equivocation(1, 1), now()));
    assert_eq!(engine.state(&node(1), now()), State::Blacklisted);
    engine.pardon(&node(1));
    assert_eq!(engine.state(&node(1), now()), State::Good);

    let mut engine = self::engine();
    assert!(engine.submit_fault(fault(1), now()) && engine.submit_fault(fault(2), now()));
    assert_eq!(engine.state(&node(1), now()), State::Blacklisted);
}

/// Every node judges for itself: what convinced another one is not believed.
#[test]
fn a_false_run_takes_a_judge() {
    let fault = Fault::false_run(false_run(1, 1), &TestJudge).expect("false");
    let bytes = fault.to_bytes();
    assert_eq!(Fault::parse(&bytes, &network()), Err(FaultError::Unjudged));
    assert_eq!(Fault::claim(&bytes), Ok(Some(false_run(1, 1))));
    assert_eq!(Fault::claim(&equivocation(1, 1).to_bytes()), Ok(None));
    assert_eq!(Fault::parse_judged(&bytes, &network(), &TestJudge), Ok(fault));
    let equivocation = equivocation(1, 1);
    assert_eq!(Fault::parse_judged(&equivocation.to_bytes(), &network(), &TestJudge), Ok(equivocation));

    let innocent = Fault::false_run(b"a true claim".to_vec(), &TestJudge);
    assert!(matches!(innocent, Err(FaultError::Judge(JudgeError::FalseAccusation(_)))), "{innocent:?}");
    let long = Fault::false_run(vec![0; Fault::MAX_EVIDENCE_BYTES + 1], &TestJudge);
    assert!(matches!(long, Err(FaultError::Decode(_))), "{long:?}");
}

#[test]
fn a_snapshot_keeps_what_was_judged() {
    let mut engine = engine();
    let fault = Fault::false_run(false_run(1, 1), &TestJudge).expect("false");
    assert!(engine.submit_fault(fault, now()) && engine.submit_fault(equivocation(2, 1), now()));
    let bytes = engine.snapshot();
    let restored = TrustEngine::restore(Default::default(), node(OBSERVER), &network(), &bytes, now());
    let restored = restored.expect("its own snapshot");
    assert_eq!((restored.snapshot(), restored.digest()), (bytes, engine.digest()));
    assert_eq!(restored.state(&node(1), now()), State::Suspended);
}
