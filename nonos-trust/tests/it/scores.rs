use core::time::Duration;

use nonos_identity::{Digest, Epoch, Timestamp};
use nonos_trust::testing::{evidence, node};
use nonos_trust::{Config, ConfigError, Evidence, Fixed, Source, State, TrustEngine};
use proptest::prelude::*;

use crate::{DAY, OBSERVER, engine, now};

fn observe(engine: &mut TrustEngine, times: u32, evidence: Evidence, at: Timestamp) {
    for _ in 0..times {
        engine.observe(node(1), evidence, at);
    }
}

#[test]
fn a_stranger_scores_the_prior_and_is_all_uncertainty() {
    let score = engine().score(&node(1), now());
    // 3/10 has no finite binary form and rounds down.
    assert_eq!((score.permille(), score.uncertainty, score.state), (299, Fixed::ONE, State::Good));
}

/// (40 + 4 * 0.3) / 44 = 0.9363...
#[test]
fn good_work_follows_the_formula() {
    let mut engine = engine();
    observe(&mut engine, 40, Evidence::ProofAccepted, now());
    let score = engine.score(&node(1), now());
    assert_eq!(score.permille(), 936);
    assert_eq!(score.uncertainty.permille(), 90);
    // Half of it after the half-life: (20 + 1.2) / 24 = 0.8833...
    let later = now().saturating_add(7 * DAY);
    assert_eq!(engine.score(&node(1), later).permille(), 883);
}

#[test]
fn a_burst_of_good_deeds_is_capped_and_does_not_shield() {
    let mut engine = engine();
    observe(&mut engine, 10_000, Evidence::RelayOk, now());
    // (64 + 1.2) / 68.
    assert_eq!(engine.score(&node(1), now()).permille(), 958);
    observe(&mut engine, 1, Evidence::ProofInvalid, now());
    // (64 + 1.2) / 88 = 0.74, then probation.
    let score = engine.score(&node(1), now());
    assert_eq!((score.state, score.permille()), (State::Probation, 349));
}

#[test]
fn standing_is_bounded_over_time() {
    let mut engine = engine();
    for epoch in 0..1_000 {
        let at = now().saturating_add(Epoch::LENGTH * epoch);
        observe(&mut engine, 64, Evidence::ProofAccepted, at);
    }
    let end = now().saturating_add(Epoch::LENGTH * 1_000);
    for _ in 0..20 {
        observe(&mut engine, 1, Evidence::RelayFailed, end);
        observe(&mut engine, 20, Evidence::ProofTimeout, end.saturating_add(Epoch::LENGTH));
    }
    // About (256 + 1) / (256 + 65 + 4); without the bound, a week of credit is forty thousand.
    assert!(engine.score(&node(1), end.saturating_add(Epoch::LENGTH)).permille() < 800);
}

#[test]
fn suspension_ends_by_itself_in_two_steps() {
    let mut engine = engine();
    observe(&mut engine, 40, Evidence::ProofAccepted, now());
    observe(&mut engine, 2, Evidence::BadIdentity, now());
    let score = engine.score(&node(1), now());
    assert_eq!((score.state, score.permille()), (State::Suspended, 0));
    let at = |days: u32| engine.state(&node(1), now().saturating_add(days * DAY));
    assert_eq!(
        [at(6), at(7), at(29), at(30)],
        [State::Suspended, State::Probation, State::Probation, State::Good]
    );
    engine.pardon(&node(1));
    assert_eq!(engine.state(&node(1), now()), State::Good);
}

#[test]
fn local_offences_never_blacklist() {
    let mut engine = engine();
    observe(&mut engine, 100, Evidence::BadNonce, now());
    assert_eq!(engine.state(&node(1), now()), State::Suspended);
}

#[test]
fn a_clock_that_goes_back_changes_nothing() {
    let mut engine = engine();
    observe(&mut engine, 10, Evidence::ProofAccepted, now());
    let before = engine.score(&node(1), now());
    assert_eq!(engine.score(&node(1), Timestamp::from_secs(5)).value, before.value);
    observe(&mut engine, 1, Evidence::HeartbeatOk, Timestamp::from_secs(5));
    observe(&mut engine, 1, Evidence::ProofAccepted, Timestamp::from_secs(5));
    assert!(engine.score(&node(1), now()).value > before.value);
}

#[test]
fn explanations_name_their_sources_and_add_up() {
    let mut engine = engine();
    observe(&mut engine, 10, Evidence::ProofAccepted, now());
    observe(&mut engine, 4, Evidence::RelayFailed, now());
    let parts = engine.explain(&node(1), now());
    let (good, bad) =
        parts.iter().fold((Fixed::ZERO, Fixed::ZERO), |(g, b), p| (g.plus(p.good), b.plus(p.bad)));
    let value = engine.score(&node(1), now()).value;
    assert!(good.scaled(Fixed::ONE, good.plus(bad)).to_bits().abs_diff(value.to_bits()) < 8);
    let text: Vec<_> = parts.iter().map(ToString::to_string).collect();
    assert_eq!(
        text,
        [
            "+1.199 -2.800  prior",
            "+10.000 -0.000  seen here: proof accepted x10",
            "+0.000 -4.000  seen here: relay failed x4"
        ]
    );
    observe(&mut engine, 1, Evidence::ProofInvalid, now());
    let parts = engine.explain(&node(1), now());
    assert!(matches!(
        parts.last().map(|part| part.source),
        Some(Source::Cap { state: State::Probation, .. })
    ));
}

#[test]
fn peers_are_bounded_and_offenders_are_kept() {
    let config = Config { max_peers: 3, ..Config::default() };
    let mut engine = TrustEngine::new(config, node(OBSERVER)).expect("sound");
    engine.observe(node(1), Evidence::ProofInvalid, now());
    engine.observe(node(2), Evidence::ProofAccepted, now());
    for stranger in 3..200 {
        engine.observe(node(stranger), Evidence::HeartbeatOk, now());
    }
    assert_eq!(engine.peers().count(), 3);
    assert_eq!(engine.state(&node(1), now()), State::Probation);
    assert!(engine.score(&node(2), now()).permille() > 299);
}

#[test]
fn nobody_rates_oneself() {
    let mut engine = engine();
    engine.observe(node(OBSERVER), Evidence::ProofAccepted, now());
    assert_eq!(engine.peers().count(), 0);
}

#[test]
fn attests_to_what_it_saw_in_the_epoch() {
    let mut engine = engine();
    observe(&mut engine, 3, Evidence::ProofAccepted, now());
    observe(&mut engine, 1, Evidence::RelayFailed, now());
    let (epoch, root) = (Epoch::at(now()), Digest::from_bytes([0; 32]));
    let attestation = engine.attest(node(1), epoch, 4, root).expect("they dealt");
    assert_eq!((attestation.pos, attestation.neg, attestation.issuer), (3, 1, node(OBSERVER)));
    assert_eq!(engine.attest(node(1), epoch.next(), 1, root), None);
    assert_eq!(engine.attest(node(2), epoch, 1, root), None);
}

#[test]
fn senseless_configurations_are_refused() {
    let refused = |config| TrustEngine::new(config, node(OBSERVER)).expect_err("senseless");
    assert_eq!(refused(Config { prior_mass: Fixed::ZERO, ..Config::default() }), ConfigError::Prior);
    assert_eq!(
        refused(Config { work_half_life: Duration::ZERO, ..Config::default() }),
        ConfigError::HalfLife
    );
    assert_eq!(
        refused(Config { referral_share: Fixed::ONE, ..Config::default() }),
        ConfigError::ReferralShare
    );
    assert_eq!(refused(Config { max_peers: 0, ..Config::default() }), ConfigError::Limit);
}

proptest! {
    /// A score is a share whatever happened, and time only fades it towards the prior.
    #[test]
    fn scores_stay_in_range(deeds in prop::collection::vec((evidence(), 0u64..10_000_000), 0..200), after in 0u64..20_000_000) {
        let mut engine = engine();
        for (evidence, at) in deeds {
            engine.observe(node(1), evidence, Timestamp::from_secs(at));
        }
        let score = engine.score(&node(1), Timestamp::from_secs(after));
        prop_assert!(score.value <= Fixed::ONE && score.uncertainty <= Fixed::ONE);
        let ages = Timestamp::from_secs(u64::MAX / 2);
        prop_assert_eq!(engine.score(&node(1), ages).permille(), 299);
    }

    /// Good evidence never lowers a score, bad evidence never raises it.
    #[test]
    fn evidence_moves_scores_its_own_way(deeds in prop::collection::vec(evidence(), 0..50), last in evidence()) {
        let mut engine = engine();
        for evidence in deeds {
            engine.observe(node(1), evidence, now());
        }
        let before = engine.score(&node(1), now()).value;
        engine.observe(node(1), last, now());
        let after = engine.score(&node(1), now()).value;
        let moved = if last.is_positive() { after >= before } else { after <= before };
        prop_assert!(moved);
    }
}
