//! Pinned second hops.

use std::collections::BTreeSet;

use nonos_identity::{NodeId, Timestamp, wire};
use nonos_onion::testing::relays;
use nonos_onion::{GuardError, GuardSet, HopClass, PathRequest, PathSelector, RelayDescriptor, Vanguards};

use crate::guards::{START, day, new_client, outside, seed};

fn path(
    (guards, vanguards): (&mut GuardSet, &mut Vanguards),
    candidates: &[RelayDescriptor],
    exclude: &[NodeId],
    now: Timestamp,
    number: u32,
) -> Result<Vec<NodeId>, GuardError> {
    let destination = &outside(now);
    let request = PathRequest { candidates, destination, exclude, hops: HopClass::Three, reachable: None };
    let selection = vanguards.path(guards, &PathSelector::default(), &request, now, seed(number))?;
    Ok(selection.relays.iter().map(|relay| relay.relay).collect())
}

#[test]
fn second_hops_are_pinned_and_third_ones_are_not() {
    let (mut guards, mut vanguards) = (new_client(), Vanguards::default());
    let candidates = relays(40, START);
    let (mut seconds, mut thirds) = (BTreeSet::new(), BTreeSet::new());
    for number in 0..200 {
        let hops = path((&mut guards, &mut vanguards), &candidates, &[], START, number).unwrap();
        assert_eq!(guards.guards().next(), Some(hops[0]));
        assert!(hops[1] != hops[0] && hops[2] != hops[0] && hops[2] != hops[1]);
        seconds.insert(hops[1]);
        thirds.insert(hops[2]);
        vanguards = wire::from_bytes(&wire::to_bytes(&vanguards)).unwrap();
    }
    let set: BTreeSet<_> = vanguards.relays().collect();
    assert_eq!(set.len(), Vanguards::SIZE);
    assert!(seconds.is_subset(&set) && seconds.len() >= 3, "{} second hops", seconds.len());
    assert!(thirds.len() > 30, "{} third hops", thirds.len());
    assert_eq!(format!("{vanguards:?}"), "Vanguards { relays: 4, .. }");
}

#[test]
fn lifetimes_are_the_larger_of_two_draws() {
    let mut lifetimes = Vec::new();
    for number in 0..300 {
        let (mut guards, mut vanguards) = (new_client(), Vanguards::default());
        path((&mut guards, &mut vanguards), &relays(12, START), &[], START, number).unwrap();
        let mut left: BTreeSet<_> = vanguards.relays().collect();
        for days in 1..=22 {
            path((&mut guards, &mut vanguards), &relays(12, day(days)), &[], day(days), number).unwrap();
            let now: BTreeSet<_> = vanguards.relays().collect();
            assert_eq!(now.len(), Vanguards::SIZE);
            lifetimes.extend(left.iter().filter(|relay| !now.contains(relay)).map(|_| days));
            left.retain(|relay| now.contains(relay));
        }
    }
    // Some are drawn again on the day they expire and look as if they had stayed.
    let mean = f64::from(lifetimes.iter().sum::<u32>()) / lifetimes.len() as f64;
    assert!((14.0..16.0).contains(&mean), "{mean} days");
    assert!(lifetimes.contains(&22) && lifetimes.iter().any(|&days| days < 5));
}

#[test]
fn nobody_makes_a_node_draw_vanguards() {
    let (mut guards, mut vanguards) = (new_client(), Vanguards::default());
    path((&mut guards, &mut vanguards), &relays(40, START), &[], START, 0).unwrap();
    let set: Vec<_> = vanguards.relays().collect();
    assert!(guards.guards().all(|guard| !set.contains(&guard)), "with this seed");
    let mut via = |candidates: &[RelayDescriptor], exclude: &[NodeId]| {
        path((&mut guards, &mut vanguards), candidates, exclude, START, 1)
    };
    let hidden: Vec<_> = relays(40, START).into_iter().filter(|relay| !set.contains(&relay.relay)).collect();
    assert_eq!(via(&hidden, &[]), Err(GuardError::Vanguards));
    assert_eq!(via(&relays(40, START), &set), Err(GuardError::Vanguards));
    assert_eq!(via(&relays(40, START), &set[1..]).unwrap()[1], set[0], "the one that is left");
    assert!(vanguards.relays().eq(set.iter().copied()));
}

#[test]
fn a_second_hop_is_diverse_against_the_guard() {
    for number in 0..50 {
        let (mut guards, mut vanguards) = (new_client(), Vanguards::default());
        // Two relays per operator.
        let mut candidates = relays(12, START);
        for pair in candidates.chunks_mut(2) {
            pair[1].family = pair[0].family;
        }
        let family = |id: NodeId| candidates.iter().find(|relay| relay.relay == id).unwrap().family;
        for turn in 0..8 {
            let hops =
                path((&mut guards, &mut vanguards), &candidates, &[], START, number * 8 + turn).unwrap();
            assert_eq!(hops.iter().map(|&hop| family(hop)).collect::<BTreeSet<_>>().len(), 3);
        }
        assert_eq!(vanguards.relays().map(family).collect::<BTreeSet<_>>().len(), Vanguards::SIZE);
    }
}
