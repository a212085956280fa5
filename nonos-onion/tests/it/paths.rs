use std::collections::{BTreeMap, BTreeSet};

use nonos_identity::{Epoch, NodeId};
use nonos_onion::{
    AnonymitySet, BandwidthClass, FamilyTag, HopClass, PathError, PathRules, PathSelector, RelayDescriptor,
    SubnetTag, anonymity_set,
};

const EPOCH: Epoch = Epoch::from_number(9);

fn relay(number: u8, family: u8, subnet: u8, class: u8) -> RelayDescriptor {
    RelayDescriptor {
        relay: NodeId::from_bytes([number; 32]),
        onion_key: [number; 32],
        epoch: EPOCH,
        family: FamilyTag::from_bytes([family; 16]),
        subnet: SubnetTag::from_bytes([subnet; 16]),
        bandwidth: BandwidthClass::new(class),
        expiry: EPOCH.end(),
    }
}

fn select(candidates: &[RelayDescriptor], seed: u8) -> Result<Vec<RelayDescriptor>, PathError> {
    PathSelector::default()
        .select(candidates, &[], HopClass::Three, EPOCH.start(), [seed; 32])
        .map(|selection| selection.relays)
}

#[test]
fn paths_are_distinct_diverse_and_repeatable() {
    // Two relays per family, two families per subnet.
    let candidates: Vec<_> = (0..24).map(|n| relay(n, n / 2, n / 4, n % 5)).collect();
    for seed in 0..200 {
        let path = select(&candidates, seed).unwrap();
        assert_eq!(path.len(), 3);
        assert_eq!(path.iter().map(|relay| relay.relay).collect::<BTreeSet<_>>().len(), 3);
        assert_eq!(path.iter().map(|relay| relay.family).collect::<BTreeSet<_>>().len(), 3);
        assert_eq!(path.iter().map(|relay| relay.subnet).collect::<BTreeSet<_>>().len(), 3);
        assert_eq!(select(&candidates, seed), Ok(path));
    }
    assert_ne!(select(&candidates, 1), select(&candidates, 2));
}

#[test]
fn the_error_names_what_lacks() {
    let three = [relay(1, 1, 1, 0), relay(2, 2, 2, 0), relay(3, 3, 3, 0)];
    assert!(select(&three, 0).is_ok());
    assert_eq!(select(&three[..2], 0), Err(PathError::Relays { live: 2, needed: 3 }));
    let same_operator = [relay(1, 1, 1, 0), relay(2, 2, 2, 0), relay(3, 1, 3, 0)];
    assert_eq!(select(&same_operator, 0), Err(PathError::Operators { operators: 2, needed: 3 }));
    let loopback = [relay(1, 1, 1, 0), relay(2, 2, 1, 0), relay(3, 3, 1, 0)];
    assert_eq!(select(&loopback, 0), Err(PathError::Subnets { subnets: 1, needed: 3 }));

    let relaxed = PathRules { distinct_families: false, distinct_subnets: false, ..PathRules::default() };
    let select_relaxed = |candidates: &[RelayDescriptor]| {
        PathSelector::new(relaxed).select(candidates, &[], HopClass::Three, EPOCH.start(), [0; 32])
    };
    assert!(select_relaxed(&loopback).is_ok() && select_relaxed(&same_operator).is_ok());
    let twice = [relay(1, 1, 1, 0), relay(1, 2, 2, 0), relay(2, 3, 3, 0)];
    assert_eq!(select_relaxed(&twice), Err(PathError::Relays { live: 2, needed: 3 }), "always distinct");
}

#[test]
fn the_dead_and_the_excluded_are_left_out() {
    let mut candidates: Vec<_> = (0..6).map(|n| relay(n, n, n, 0)).collect();
    candidates[0].expiry = EPOCH.start();
    candidates[1].epoch = EPOCH.next();
    let exclude = [NodeId::from_bytes([2; 32])];
    for seed in 0..50 {
        let selection = PathSelector::default()
            .select(&candidates, &exclude, HopClass::Three, EPOCH.start(), [seed; 32])
            .unwrap();
        assert!(selection.relays.iter().all(|relay| relay.relay.as_bytes()[0] >= 3));
    }
    let four = PathSelector::default().select(&candidates, &exclude, HopClass::Four, EPOCH.start(), [0; 32]);
    assert_eq!(four, Err(PathError::Relays { live: 3, needed: 4 }));
}

#[test]
fn no_operator_buys_most_paths() {
    // One operator claims 1024 times the bandwidth of each of 120 others.
    let mut candidates: Vec<_> = (1..=120).map(|n| relay(n, n, n, 0)).collect();
    candidates.push(relay(200, 200, 200, BandwidthClass::MAX));
    let mut hits = 0;
    for seed in 0..2000_u32 {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&seed.to_le_bytes());
        let path =
            PathSelector::default().select(&candidates, &[], HopClass::Three, EPOCH.start(), bytes).unwrap();
        hits += u32::from(path.relays.iter().any(|relay| relay.relay == candidates[120].relay));
    }
    // 1 % per hop, three hops: 60 expected, standard deviation 8.
    assert!((20..120).contains(&hits), "{hits} of 2000 paths");
}

#[test]
fn weights_matter_below_the_cap() {
    let candidates: Vec<_> = (0..200).map(|n| relay(n, n, n, u8::from(n < 100))).collect();
    let mut hits = BTreeMap::new();
    for seed in 0..=255 {
        for relay in select(&candidates, seed).unwrap() {
            *hits.entry(relay.bandwidth).or_insert(0) += 1;
        }
    }
    let (slow, fast) = (hits[&BandwidthClass::new(0)], hits[&BandwidthClass::new(1)]);
    assert!(fast > slow * 3 / 2 && fast < slow * 3, "fast {fast}, slow {slow}");
}

#[test]
fn a_small_mesh_is_never_called_anonymous() {
    let of = |count: u8| (0..count).map(|n| relay(n, n, n, 0)).collect::<Vec<_>>();
    assert_eq!(anonymity_set(&of(50), EPOCH.start()), AnonymitySet::Sufficient);
    assert_eq!(anonymity_set(&of(49), EPOCH.start()), AnonymitySet::Insufficient { operators: 49 });
    let one_operator: Vec<_> = (0..200).map(|n| relay(n, 1, n, 0)).collect();
    assert_eq!(anonymity_set(&one_operator, EPOCH.start()), AnonymitySet::Insufficient { operators: 1 });
    assert_eq!(anonymity_set(&of(200), EPOCH.end()), AnonymitySet::Insufficient { operators: 0 });
    let selection =
        PathSelector::default().select(&of(10), &[], HopClass::Two, EPOCH.start(), [0; 32]).unwrap();
    assert_eq!(selection.anonymity, AnonymitySet::Insufficient { operators: 10 });
}

#[test]
fn given_first_hops_are_kept_and_the_rest_is_diverse_against_them() {
    // Two relays per family, two families per subnet.
    let candidates: Vec<_> = (0..24).map(|n| relay(n, n / 2, n / 4, n % 5)).collect();
    let after = |start: &[RelayDescriptor], exclude: &[NodeId], hops, seed| {
        let selector = PathSelector::default();
        selector.select_after(start, &candidates, exclude, hops, EPOCH.start(), [seed; 32])
    };
    let start = [candidates[0].clone(), candidates[9].clone()];
    for seed in 0..200 {
        let relays = after(&start, &[], HopClass::Four, seed).unwrap().relays;
        assert_eq!(relays[..2], start);
        assert_eq!(relays.iter().map(|relay| relay.subnet).collect::<BTreeSet<_>>().len(), 4);
        assert_eq!(
            after(&[], &[], HopClass::Three, seed).unwrap().relays,
            select(&candidates, seed).unwrap()
        );
    }
    assert_eq!(after(&start, &[], HopClass::Two, 0).unwrap().relays, start);
    let old = [RelayDescriptor { expiry: EPOCH.start(), ..start[0].clone() }];
    assert_eq!(after(&old, &[], HopClass::Two, 0).unwrap().relays[0], start[0], "the live descriptor");
    let unfit = [
        after(&[candidates[0].clone(), candidates[3].clone()], &[], HopClass::Three, 0),
        after(&[candidates[0].clone(), candidates[0].clone()], &[], HopClass::Three, 0),
        after(&start, &[candidates[9].relay], HopClass::Three, 0),
        after(&[0, 4, 8].map(|at: usize| candidates[at].clone()), &[], HopClass::Two, 0),
        after(&[relay(99, 99, 99, 0)], &[], HopClass::Three, 0),
        after(&[relay(0, 0, 9, 0)], &[], HopClass::Three, 0),
    ];
    assert!(unfit.iter().all(|outcome| *outcome == Err(PathError::Start)), "{unfit:?}");
}
