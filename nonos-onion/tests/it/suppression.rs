//! Guards under an adversary who makes relays disappear.

use std::collections::BTreeSet;
use std::ops::Range;

use nonos_identity::{NodeId, wire};
use nonos_onion::testing::relays;
use nonos_onion::{FamilyTag, GuardError, GuardSet, RelayDescriptor, SubnetTag};

use crate::guards::{DAY, day, guard, new_client, seed};

/// Lives for some days with so many relays, four circuits and a restart a day. Returns all guards
/// that were drawn.
fn live(
    guards: &mut GuardSet,
    days: Range<u32>,
    count: u16,
    answers: impl Fn(&NodeId) -> bool,
) -> BTreeSet<NodeId> {
    let mut drawn = BTreeSet::new();
    for number in days {
        for quarter in 0..4 {
            let now = day(number).saturating_add(DAY / 4 * quarter);
            while let Ok(first) = guard(guards, &relays(count, now), now, number * 4 + quarter) {
                drawn.extend(guards.guards());
                if answers(&first) {
                    guards.answered(&first, now);
                    break;
                }
                guards.failed(&first, Some(0), now, seed(number));
            }
        }
        *guards = wire::from_bytes(&wire::to_bytes(guards)).unwrap();
    }
    drawn
}

/// What a client sees whose guards are hidden from it.
fn hidden(hide: &[NodeId], number: u32) -> Vec<RelayDescriptor> {
    relays(30, day(number)).into_iter().filter(|relay| !hide.contains(&relay.relay)).collect()
}

#[test]
fn suppression_draws_at_most_the_named_number() {
    // Every fifth of a hundred relays is the adversary's; the others never answer.
    let hostile: BTreeSet<NodeId> = relays(100, day(0)).iter().step_by(5).map(|relay| relay.relay).collect();
    let mut most = 0;
    for client in 0..20 {
        let days = client * 1000..client * 1000 + 180;
        let drawn = live(&mut new_client(), days, 100, |relay| hostile.contains(relay));
        assert!(drawn.len() <= GuardSet::MAX_SAMPLES, "{} guards drawn", drawn.len());
        most = most.max(drawn.len());
    }
    assert!(most > GuardSet::SIZE, "what never answers is replaced in the end");
}

#[test]
fn withholding_descriptors_draws_at_most_the_named_number() {
    let (mut guards, mut drawn) = (new_client(), BTreeSet::new());
    for number in 0..180 {
        // Whatever is a guard is hidden from then on, until that is what it fails at.
        let hide: Vec<_> = guards.guards().collect();
        let outcome = guard(&mut guards, &hidden(&hide, number), day(number), number);
        drawn.extend(guards.guards());
        assert!(outcome.is_ok() || drawn.len() <= GuardSet::MAX_SAMPLES);
    }
    assert_eq!(drawn.len(), GuardSet::MAX_SAMPLES);
    let hide: Vec<_> = guards.guards().collect();
    let outcome = guard(&mut guards, &hidden(&hide, 179), day(179), 0);
    assert_eq!(outcome, Err(GuardError::Samples(day(180))));
}

#[test]
fn where_nobody_answers_the_lost_stay_once_the_limit_is_reached() {
    let mut guards = new_client();
    let drawn = live(&mut guards, 0..179, 200, |_| false);
    assert_eq!((drawn.len(), guards.sampled(day(179))), (GuardSet::MAX_SAMPLES, GuardSet::MAX_SAMPLES));
    let kept: Vec<_> = guards.guards().collect();
    assert_eq!(kept.len(), GuardSet::SIZE);
    assert_eq!(guard(&mut guards, &relays(200, day(179)), day(179), 0), Ok(kept[0]));
    guard(&mut guards, &relays(200, day(180)), day(180), 0).unwrap();
    assert!(!guards.guards().any(|guard| kept.contains(&guard)), "the first draws no longer count");
    assert!(guards.sampled(day(180)) <= GuardSet::MAX_SAMPLES);
}

#[test]
fn expiry_alone_never_reaches_the_limit() {
    for client in 0..20 {
        let mut guards = new_client();
        for number in client * 1000..client * 1000 + 400 {
            guard(&mut guards, &relays(30, day(number)), day(number), number).unwrap();
            assert_eq!(guards.guards().count(), GuardSet::SIZE, "day {number}");
            // All three age.
            let all: Vec<_> = guards.guards().collect();
            all.iter().for_each(|one| guards.answered(one, day(number)));
        }
    }
}

#[test]
fn the_unlisted_are_kept_for_the_named_time() {
    let mut guards = new_client();
    let first = guard(&mut guards, &relays(30, day(0)), day(0), 0).unwrap();
    guards.answered(&first, day(0));
    let order: Vec<_> = guards.guards().collect();
    let days = u32::from(GuardSet::LOST_AFTER_DAYS);
    for number in 1..days {
        assert_eq!(guard(&mut guards, &hidden(&[first], number), day(number), number), Ok(order[1]));
    }
    assert_eq!(guard(&mut guards, &relays(30, day(days)), day(days), 0), Ok(first), "it came back");
    for number in days + 1..=2 * days {
        assert_eq!(guards.guards().collect::<Vec<_>>(), order);
        assert_eq!(guard(&mut guards, &hidden(&[first], number), day(number), number), Ok(order[1]));
    }
    let after: Vec<_> = guards.guards().collect();
    assert_eq!(after[..2], order[1..], "the others move up");
    assert!(after.len() == GuardSet::SIZE && !order.contains(&after[2]));
    assert_eq!(guard(&mut guards, &relays(30, day(50)), day(50), 0), Ok(order[1]), "gone is gone");
}

#[test]
fn a_client_without_a_mesh_keeps_its_guards() {
    let mut guards = new_client();
    guard(&mut guards, &relays(30, day(0)), day(0), 0).unwrap();
    let order: Vec<_> = guards.guards().collect();
    for number in 1..100 {
        let few = &hidden(&order, number)[..3];
        assert_eq!(guard(&mut guards, few, day(number), 0), Err(GuardError::Unlisted));
    }
    assert_eq!(guards.guards().collect::<Vec<_>>(), order);
}

#[test]
fn guards_are_diverse_even_when_they_move() {
    let mesh = |number: u32| {
        let mut mesh = relays(24, day(number));
        for (at, relay) in mesh.iter_mut().enumerate() {
            // Two relays per operator, four per subnet.
            relay.family = FamilyTag::from_bytes([u8::try_from(at / 2).unwrap(); 16]);
            relay.subnet = SubnetTag::from_bytes([u8::try_from(at / 4).unwrap(); 16]);
        }
        mesh
    };
    for number in 0..100 {
        let mut guards = new_client();
        let first = guard(&mut guards, &mesh(number), day(number), number).unwrap();
        let order: Vec<_> = guards.guards().collect();
        let place = |mesh: &[RelayDescriptor], id: &NodeId| {
            let relay = mesh.iter().find(|relay| relay.relay == *id).unwrap();
            (relay.family, relay.subnet)
        };
        let places: Vec<_> = order.iter().map(|id| place(&mesh(number), id)).collect();
        assert_eq!(places.iter().map(|(family, _)| family).collect::<BTreeSet<_>>().len(), 3);
        assert_eq!(places.iter().map(|(_, subnet)| subnet).collect::<BTreeSet<_>>().len(), 3);

        // The first guard declares itself of the second one's operator: it puts out itself alone.
        let mut moved = mesh(number);
        moved.iter_mut().find(|relay| relay.relay == first).unwrap().family = places[1].0;
        assert_eq!(guard(&mut guards, &moved, day(number), number), Ok(order[1]));
        // It moves to where nobody is, and stays a guard.
        let mut moved = mesh(number);
        moved.iter_mut().find(|relay| relay.relay == first).unwrap().subnet = SubnetTag::from_bytes([99; 16]);
        assert_eq!(guard(&mut guards, &moved, day(number), number), Ok(first));
        assert_eq!(guards.guards().collect::<Vec<_>>(), order);
    }
}
