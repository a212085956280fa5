//! What a crowd of invented identities can do to one observer.

use nonos_identity::Epoch;
use nonos_trust::testing::{attestation, node};
use nonos_trust::{Config, Evidence, Fixed, Source, State, TrustEngine};
use proptest::prelude::*;

use crate::{OBSERVER, now};

const HONEST: u16 = 12;
const ATTACKER: u16 = 100;
const FIRST_SYBIL: u16 = 1_000;

#[derive(Clone, Copy, Debug)]
enum Shape {
    Star,
    Chain,
    Clique,
}

fn engine() -> TrustEngine {
    let config = Config { max_issuers: 4_096, max_attestations_per_issuer: 4_096, ..Config::default() };
    TrustEngine::new(config, node(OBSERVER)).expect("sound")
}

/// Twelve honest direct peers that know each other and four strangers, and an attacker that really
/// did the same work as each of them.
fn honest_world() -> TrustEngine {
    let mut engine = engine();
    let epoch = Epoch::at(now());
    for peer in (0..HONEST).chain([ATTACKER]) {
        for _ in 0..40 {
            engine.observe(node(peer), Evidence::ProofAccepted, now());
        }
    }
    for peer in 0..HONEST {
        for subject in (1..5).map(|step| (peer + step) % HONEST).chain(20..24) {
            let _ = engine.merge(attestation(peer, subject, epoch, 1, (10, 0)), now()).expect("merges");
        }
    }
    engine
}

fn with_sybils(sybils: u16, shape: Shape, (pos, neg): (u32, u32), target: Option<u16>) -> TrustEngine {
    let mut engine = honest_world();
    let epoch = Epoch::at(now());
    let mut say = |issuer, subject, counts| {
        let _ = engine.merge(attestation(issuer, subject, epoch, 1, counts), now()).expect("merges");
    };
    let all = FIRST_SYBIL..FIRST_SYBIL + sybils;
    for sybil in all.clone() {
        if matches!(shape, Shape::Star | Shape::Clique) || sybil == FIRST_SYBIL {
            say(ATTACKER, sybil, (1_000_000, 0));
        }
        match shape {
            Shape::Star => say(sybil, ATTACKER, (1_000_000, 0)),
            Shape::Chain => say(sybil, sybil + 1, (1_000_000, 0)),
            Shape::Clique => all.clone().filter(|other| *other != sybil).take(20).for_each(|other| {
                say(sybil, other, (1_000_000, 0));
            }),
        }
        if let Some(target) = target {
            say(sybil, target, (pos, neg));
        }
    }
    if let Some(target) = target {
        say(ATTACKER, target, (pos, neg));
    }
    engine.refresh(now());
    engine
}

fn hearsay(engine: &TrustEngine, peer: u16) -> Fixed {
    let parts = engine.explain(&node(peer), now());
    let referrals = parts.iter().filter(|part| matches!(part.source, Source::Referral { .. }));
    referrals.fold(Fixed::ZERO, |sum, part| sum.plus(part.good).plus(part.bad))
}

/// What the whole cluster gets out of hearsay is bounded by what the attacker earned itself,
/// 40 * 0.4 / 0.6, however many identities it makes and however they praise each other.
#[test]
fn the_sum_of_referrals_does_not_grow_with_the_crowd() {
    let bound = Fixed::whole(40).scaled(Fixed::ratio(2, 5), Fixed::ratio(3, 5));
    for shape in [Shape::Star, Shape::Chain, Shape::Clique] {
        for sybils in [1, 10, 100, 300] {
            let engine = with_sybils(sybils, shape, (0, 0), None);
            let cluster = (FIRST_SYBIL..=FIRST_SYBIL + sybils).chain([ATTACKER]);
            let sum = cluster.fold(Fixed::ZERO, |sum, id| sum.plus(hearsay(&engine, id)));
            assert!(sum <= bound, "{shape:?} {sybils}: {sum} > {bound}");
            for sybil in FIRST_SYBIL..FIRST_SYBIL + sybils {
                let score = engine.score(&node(sybil), now());
                assert!(score.permille() < 500, "{shape:?} {sybils}: {}", score.permille());
            }
        }
    }
}

/// The share of the routing weight above a stranger's, with Sybils over without.
#[test]
fn a_crowd_gains_little() {
    let weight = |engine: &TrustEngine, ids: &mut dyn Iterator<Item = u16>| -> u64 {
        ids.map(|id| u64::from(engine.score(&node(id), now()).permille()).saturating_sub(299)).sum()
    };
    let share = |sybils| {
        let engine = with_sybils(sybils, Shape::Star, (0, 0), None);
        let cluster = weight(&engine, &mut (FIRST_SYBIL..FIRST_SYBIL + sybils).chain([ATTACKER]));
        let honest = weight(&engine, &mut (0..HONEST).chain(20..24));
        (1_000 * cluster / (cluster + honest), cluster)
    };
    let (alone, crowd) = (share(0).0, share(300).0);
    assert!(alone > 0);
    assert!(10 * crowd <= 25 * alone, "{alone} -> {crowd} permille");
    // What one Sybil gains, three hundred do not gain three hundred times.
    assert!(share(300).1 <= 3 * share(1).1);
}

/// One direct peer and everybody it invents cannot make a stranger look better than even, also when
/// the praise comes over many paths.
#[test]
fn one_endorser_cannot_make_a_stranger_trusted() {
    for sybils in [0, 1, 10, 100] {
        let engine = with_sybils(sybils, Shape::Star, (1_000_000, 0), Some(50));
        let score = engine.score(&node(50), now());
        assert!(score.permille() < 500, "{sybils}: {}", score.permille());
    }
}

#[test]
fn slander_does_not_stick() {
    let honest = {
        let mut engine = honest_world();
        engine.refresh(now());
        engine
    };
    for (victim, limit) in [(3, 20), (20, 100)] {
        let before = honest.score(&node(victim), now());
        let engine = with_sybils(100, Shape::Star, (0, 1_000_000), Some(victim));
        let after = engine.score(&node(victim), now());
        assert!(
            after.permille() + limit >= before.permille(),
            "{} -> {}",
            before.permille(),
            after.permille()
        );
        assert_eq!(after.state, State::Good);
    }
    // Somebody nobody speaks for stays at the prior.
    let engine = with_sybils(100, Shape::Star, (0, 1_000_000), Some(50));
    assert_eq!(engine.score(&node(50), now()).permille(), 299);
}

/// The control: hearsay of honest peers does help a stranger, so the bounds above bound something.
#[test]
fn honest_referrals_help() {
    let mut engine = honest_world();
    assert_eq!(engine.score(&node(20), now()).permille(), 299);
    engine.refresh(now());
    assert!(engine.score(&node(20), now()).permille() > 500);
    let parts = engine.explain(&node(20), now());
    assert_eq!(parts.len(), 1 + usize::from(HONEST));

    // Endorsers that stand suspended are not heard.
    for peer in 0..HONEST {
        engine.observe(node(peer), Evidence::BadIdentity, now());
        engine.observe(node(peer), Evidence::BadIdentity, now());
    }
    engine.refresh(now());
    assert_eq!(engine.score(&node(20), now()).permille(), 299);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// The bound on any graph: all hearsay together stays below what the direct peers earned, times
    /// the referral share over one minus it.
    #[test]
    fn the_bound_holds_on_random_graphs(
        direct in prop::collection::btree_map(0u16..30, 1u32..200, 1..6),
        edges in prop::collection::btree_map((0u16..30, 0u16..30), (any::<u32>(), any::<u32>()), 0..60),
    ) {
        let (mut engine, epoch) = (engine(), Epoch::at(now()));
        let mut earned = Fixed::ZERO;
        for (peer, times) in direct {
            for _ in 0..times {
                engine.observe(node(peer), Evidence::ProofAccepted, now());
            }
            earned = earned.plus(Fixed::whole(times.min(64)));
        }
        for ((issuer, subject), counts) in edges {
            if issuer != subject {
                let _ = engine.merge(attestation(issuer, subject, epoch, 1, counts), now()).expect("merges");
            }
        }
        engine.refresh(now());
        let sum = (0..30).fold(Fixed::ZERO, |sum, id| sum.plus(hearsay(&engine, id)));
        prop_assert!(sum <= earned.scaled(Fixed::ratio(2, 5), Fixed::ratio(3, 5)));
    }
}
