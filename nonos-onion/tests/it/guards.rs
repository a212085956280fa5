//! Which guards a client takes, and for how long.

use std::collections::BTreeSet;
use std::time::Duration;

use nonos_identity::wire::DecodeError;
use nonos_identity::{NodeId, Timestamp, wire};
use nonos_onion::testing::relays;
use nonos_onion::{
    BandwidthClass, FamilyTag, GuardError, GuardSet, HopClass, PathError, PathRequest, PathSelector,
    RelayDescriptor, Selection, SubnetTag, anonymity_set,
};

pub(crate) const DAY: Duration = Duration::from_secs(24 * 3600);
pub(crate) const START: Timestamp = Timestamp::from_secs(20_000 * 24 * 3600);

pub(crate) fn day(number: u32) -> Timestamp {
    START.saturating_add(DAY * number)
}

pub(crate) fn seed(number: u32) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[..4].copy_from_slice(&number.to_le_bytes());
    bytes
}

/// A client that is none of the relays.
pub(crate) fn new_client() -> GuardSet {
    GuardSet::new(NodeId::from_bytes([0xff; 32]))
}

/// A destination that is none of the relays.
pub(crate) fn outside(now: Timestamp) -> RelayDescriptor {
    let mut end = relays(1, now).remove(0);
    end.relay = NodeId::from_bytes([0xee; 32]);
    end.family = FamilyTag::from_bytes([0xee; 16]);
    end.subnet = SubnetTag::from_bytes([0xee; 16]);
    end
}

fn path_to(
    guards: &mut GuardSet,
    candidates: &[RelayDescriptor],
    destination: &RelayDescriptor,
    now: Timestamp,
    number: u32,
) -> Result<Selection, GuardError> {
    let request =
        PathRequest { candidates, destination, exclude: &[], hops: HopClass::Three, reachable: None };
    guards.path(&PathSelector::default(), &request, now, seed(number))
}

/// The guard of a path to a destination outside.
pub(crate) fn guard(
    guards: &mut GuardSet,
    candidates: &[RelayDescriptor],
    now: Timestamp,
    number: u32,
) -> Result<NodeId, GuardError> {
    path_to(guards, candidates, &outside(now), now, number).map(|path| path.relays[0].relay)
}

fn listed(guards: &GuardSet) -> Vec<NodeId> {
    guards.guards().collect()
}

#[test]
fn all_circuits_begin_at_one_pinned_guard() {
    let mut guards = new_client();
    let first = guard(&mut guards, &relays(29, START), START, 0).unwrap();
    guards.answered(&first, START);
    let before = listed(&guards);
    assert_eq!((before.len(), before[0]), (GuardSet::SIZE, first));
    let mut rest = BTreeSet::new();
    for number in 0..59 {
        let (now, candidates) = (day(number), relays(30, day(number)));
        let destination = &candidates[29];
        let path = path_to(&mut guards, &candidates[..29], destination, now, number).unwrap();
        assert_eq!(path.relays[0].relay, first);
        assert_eq!(path.anonymity, anonymity_set(&candidates[..29], now));
        rest.extend(path.relays[1..].iter().map(|relay| relay.relay));
    }
    assert!(rest.len() > 20, "only the first hop is pinned");
    assert_eq!(listed(&guards), before);
}

#[test]
fn guards_are_drawn_by_capped_weight() {
    let mut candidates = relays(121, START);
    candidates[120].bandwidth = BandwidthClass::new(BandwidthClass::MAX);
    let fat = candidates[120].relay;
    let drawn = |candidates: &[RelayDescriptor], number| {
        let mut guards = new_client();
        guard(&mut guards, candidates, START, number).unwrap();
        listed(&guards)
    };
    let hits = (0..2000).filter(|&number| drawn(&candidates, number).contains(&fat)).count();
    // 1 % for each of three guards: 60 expected, standard deviation 8.
    assert!((30..95).contains(&hits), "{hits} of 2000 clients");

    let mut candidates = relays(200, START);
    candidates[..100].iter_mut().for_each(|relay| relay.bandwidth = BandwidthClass::new(1));
    let fast: BTreeSet<_> = candidates[..100].iter().map(|relay| relay.relay).collect();
    let hits = (0..600).filter(|&number| fast.contains(&drawn(&candidates, number)[0])).count();
    // Two thirds: 400 expected, standard deviation 12.
    assert!((350..450).contains(&hits), "{hits} of 600 clients");
}

#[test]
fn lifetimes_are_random_and_within_bounds() {
    let mut lifetimes = Vec::new();
    for number in 0..150 {
        let mut guards = new_client();
        let first = guard(&mut guards, &relays(8, START), START, number).unwrap();
        guards.answered(&first, START);
        let gone = (1..200)
            .find(|&days| guard(&mut guards, &relays(8, day(days)), day(days), days).unwrap() != first);
        lifetimes.push(gone.unwrap());
        assert_eq!(listed(&guards).len(), GuardSet::SIZE);
    }
    let (min, max) = (lifetimes.iter().min().unwrap(), lifetimes.iter().max().unwrap());
    assert!((60..=62).contains(min) && (118..=120).contains(max), "{min} to {max} days");
    let mean = lifetimes.iter().sum::<u32>() / 150;
    assert!((85..=95).contains(&mean), "{mean} days");
}

#[test]
fn a_guard_that_never_answered_does_not_age() {
    let mut guards = new_client();
    let first = guard(&mut guards, &relays(8, START), START, 0).unwrap();
    guards.answered(&first, START);
    let backup = listed(&guards)[2];
    guard(&mut guards, &relays(8, day(150)), day(150), 1).unwrap();
    assert!(!listed(&guards).contains(&first) && listed(&guards)[1] == backup, "the others moved up");
}

#[test]
fn failures_move_down_the_set_and_answers_back_up() {
    let candidates = relays(20, START);
    let mut guards = new_client();
    let at = |secs| START.saturating_add(Duration::from_secs(secs));
    let order = [0, 1, 2].map(|number| {
        let chosen = guard(&mut guards, &candidates, START, number).unwrap();
        guards.failed(&chosen, Some(0), START, seed(number));
        chosen
    });
    assert_eq!(order.to_vec(), listed(&guards), "two primaries, then the backup");
    let Err(GuardError::Unreachable(wait)) = guard(&mut guards, &candidates, START, 3) else { panic!() };
    assert!((30..=45).contains(&wait.as_secs()), "{wait:?}");
    assert_eq!(listed(&guards), order, "nothing is drawn in their place");
    assert_eq!(guard(&mut guards, &candidates, at(45), 4), Ok(order[0]));

    guards.failed(&order[0], Some(0), at(45), seed(5));
    guards.answered(&order[1], at(45));
    assert_eq!(guard(&mut guards, &candidates, at(104), 6), Ok(order[1]), "twice the wait");
    assert_eq!(guard(&mut guards, &candidates, at(45 + 90), 7), Ok(order[0]));
    guards.answered(&order[0], at(45 + 90));
    guards.failed(&order[0], Some(0), at(200), seed(8));
    assert_eq!(guard(&mut guards, &candidates, at(245), 9), Ok(order[0]), "an answer resets the wait");
    guards.failed(&order[0], Some(0), at(245), seed(10));
    guards.retry_all();
    assert_eq!(guard(&mut guards, &candidates, at(245), 11), Ok(order[0]));
}

#[test]
fn waits_grow_to_their_limit() {
    let mut guards = new_client();
    let mut now = START;
    let only = |now| relays(20, now);
    let first = guard(&mut guards, &only(now), now, 0).unwrap();
    let mut waits = Vec::new();
    for number in 0..10 {
        guards.failed(&first, Some(0), now, seed(number));
        // Others that fail meanwhile do not count.
        guards.failed(&first, Some(0), now, seed(number + 100));
        let failed_at = now;
        while guard(&mut guards, &only(now), now, 1) != Ok(first) {
            now = now.saturating_add(Duration::from_secs(5));
        }
        waits.push(now.saturating_since(failed_at).as_secs());
    }
    assert!(waits.windows(2).take(6).all(|pair| pair[0] < pair[1]), "{waits:?}");
    assert!(waits.iter().all(|&wait| wait <= 45 * 60) && waits[9] >= 30 * 60, "{waits:?}");
}

#[test]
fn only_blame_of_the_guard_counts() {
    let candidates = relays(20, START);
    let mut guards = new_client();
    let first = guard(&mut guards, &candidates, START, 0).unwrap();
    for blamed in [None, Some(1), Some(2), Some(3)] {
        guards.failed(&first, blamed, START, seed(1));
        assert_eq!(guard(&mut guards, &candidates, START, 2), Ok(first));
    }
    guards.failed(&candidates[0].relay, Some(0), START, seed(1));
    guards.failed(&first, Some(0), START, seed(1));
    assert_ne!(guard(&mut guards, &candidates, START, 2), Ok(first));
}

#[test]
fn a_destination_rules_out_its_guard_and_draws_nothing() {
    let mut candidates = relays(20, START);
    let mut guards = new_client();
    guard(&mut guards, &candidates, START, 0).unwrap();
    let order = listed(&guards);
    let find = |id: NodeId| candidates.iter().find(|relay| relay.relay == id).cloned().unwrap();
    let [first, second] = [find(order[0]), find(order[1])];
    let begin = |guards: &mut GuardSet, end: &RelayDescriptor| {
        path_to(guards, &candidates, end, START, 1).unwrap().relays[0].relay
    };
    assert_eq!(begin(&mut guards, &first), order[1], "itself");
    let mut end = outside(START);
    end.family = first.family;
    assert_eq!(begin(&mut guards, &end), order[1], "its operator");
    end.subnet = second.subnet;
    assert_eq!(begin(&mut guards, &end), order[2], "its operator and another one's subnet");
    guards.failed(&order[2], Some(0), START, seed(0));
    assert!(matches!(path_to(&mut guards, &candidates, &end, START, 1), Err(GuardError::Unreachable(_))));
    assert_eq!(listed(&guards), order);
    candidates.retain(|relay| relay.relay != order[2]);
    assert_eq!(path_to(&mut guards, &candidates, &end, START, 1), Err(GuardError::Excluded));
}

#[test]
fn legs_share_the_guards_and_nothing_else() {
    let candidates = relays(20, START);
    let (mut guards, end) = (new_client(), outside(START));
    let request = PathRequest {
        candidates: &candidates,
        destination: &end,
        exclude: &[],
        hops: HopClass::Three,
        reachable: None,
    };
    let legs = |guards: &mut GuardSet, count| {
        guards.paths(count, &PathSelector::default(), &request, START, seed(7)).map(|paths| {
            let hops = paths.iter().flat_map(|path| path.relays.iter().map(|relay| relay.relay));
            hops.collect::<Vec<_>>()
        })
    };
    let hops = legs(&mut guards, 3).unwrap();
    assert_eq!(hops.iter().collect::<BTreeSet<_>>().len(), 9);
    assert_eq!([hops[0], hops[3], hops[6]].to_vec(), listed(&guards));
    guards.failed(&hops[3], Some(0), START, seed(0));
    let again = legs(&mut guards, 3).unwrap();
    assert_eq!([again[0], again[3], again[6]], [hops[0], hops[6], hops[0]], "two take turns");
    assert_eq!(again.iter().collect::<BTreeSet<_>>().len(), 8);
    assert_eq!(legs(&mut guards, 10), Err(GuardError::Path(PathError::Relays { live: 1, needed: 3 })));
    assert_eq!(legs(&mut guards, 0), Ok(Vec::new()));
}

#[test]
fn a_restart_keeps_the_guards() {
    let mut guards = new_client();
    let candidates = relays(20, START);
    let first = guard(&mut guards, &candidates, START, 0).unwrap();
    guards.answered(&first, START);
    guards.failed(&first, Some(0), START, seed(0));
    let bytes = wire::to_bytes(&guards);
    // A version, the client, three guards and three days; times are days.
    assert!(bytes.len() < 330, "{} bytes", bytes.len());
    let later = START.saturating_add(DAY - Duration::from_secs(1));
    let mut other = new_client();
    let same = guard(&mut other, &relays(20, later), later, 0).unwrap();
    other.answered(&same, later);
    other.failed(&same, Some(0), later, seed(9));
    assert_eq!(wire::to_bytes(&other), bytes, "the record does not tell the time of day");

    let mut restored: GuardSet = wire::from_bytes(&bytes).unwrap();
    assert_eq!((listed(&restored), restored.client()), (listed(&guards), guards.client()));
    assert_eq!(guard(&mut restored, &relays(20, day(50)), day(50), 77), Ok(first));
    assert_eq!(format!("{restored:?}"), "GuardSet { guards: 3, .. }");
}

#[test]
fn records_beyond_the_bounds_are_refused() {
    let mut guards = new_client();
    guard(&mut guards, &relays(20, START), START, 0).unwrap();
    let bytes = wire::to_bytes(&guards);
    let at = |id: &NodeId| bytes.windows(32).position(|window| window == id.as_bytes()).unwrap();
    let [first, second] = [0, 1].map(|index| at(&listed(&guards)[index]));
    let with = |at: usize, new: &[u8]| {
        let mut bytes = bytes.clone();
        bytes[at..at + new.len()].copy_from_slice(new);
        wire::from_bytes::<GuardSet>(&bytes)
    };
    // A lifetime follows an id, a family and a subnet with their heads, and its own head.
    let lifetime = first + 32 + 17 + 17 + 1;
    assert!(with(lifetime, &[60]).is_ok() && with(lifetime, &[120]).is_ok());
    assert_eq!(with(lifetime, &[59]), Err(DecodeError::Malformed));
    assert_eq!(with(lifetime, &[121]), Err(DecodeError::Malformed));
    assert_eq!(with(1, &[2]), Err(DecodeError::Malformed), "version");
    assert_eq!(with(second, &bytes[first..first + 32]), Err(DecodeError::Malformed), "one twice");
    // Four guards: the first one again under another id.
    let mut four = bytes.clone();
    let another: Vec<u8> = [&bytes[first - 4..first], &[0xaa; 32], &bytes[first + 32..second - 4]].concat();
    four[first - 5] += 1;
    four.splice(first - 4..first - 4, another);
    assert_eq!(wire::from_bytes::<GuardSet>(&four), Err(DecodeError::Malformed), "four");
    // Ten draws.
    let mut ten = bytes[..bytes.len() - 10].to_vec();
    ten.push(0x8a);
    ten.extend([0; 10]);
    assert_eq!(wire::from_bytes::<GuardSet>(&ten), Err(DecodeError::Malformed));
    *ten.iter_mut().nth_back(10).unwrap() = 0x89;
    assert!(wire::from_bytes::<GuardSet>(&ten[..ten.len() - 1]).is_ok());
}

#[test]
fn a_client_that_knows_few_relays_draws_none() {
    let mut guards = new_client();
    let few = relays(2, START);
    let outcome = guard(&mut guards, &few, START, 0);
    assert_eq!(outcome, Err(GuardError::Path(PathError::Relays { live: 2, needed: 3 })));
    assert_eq!(listed(&guards), []);
    // Itself it never draws.
    let three = relays(3, START);
    let mut guards = GuardSet::new(three[0].relay);
    assert!(matches!(guard(&mut guards, &three, START, 0), Err(GuardError::Path(_))));
    let four = relays(4, START);
    guard(&mut guards, &four, START, 0).unwrap();
    assert_eq!(listed(&guards).len(), 3);
    assert!(!listed(&guards).contains(&four[0].relay));
}

#[test]
fn a_clock_that_goes_back_changes_nothing() {
    let mut guards = new_client();
    let first = guard(&mut guards, &relays(20, day(300)), day(300), 0).unwrap();
    guards.answered(&first, day(300));
    let order = listed(&guards);
    for number in 0..250 {
        let candidates = relays(20, day(number));
        assert_eq!(guard(&mut guards, &candidates, day(number), number), Ok(first));
        guards.answered(&first, day(number));
    }
    for number in 0..250 {
        // Back and forth between two days: they count once.
        let now = day(250 + number % 2);
        let hidden: Vec<_> = relays(20, now).into_iter().filter(|relay| relay.relay != first).collect();
        assert_eq!(guard(&mut guards, &hidden, now, number), Ok(order[1]));
    }
    assert_eq!(listed(&guards), order);
    assert_eq!(guards.sampled(day(0)), 3, "draws in the future count");
    // A wait that began later is no wait.
    guards.failed(&first, Some(0), day(301), seed(0));
    assert_eq!(guard(&mut guards, &relays(20, day(1)), day(1), 1), Ok(first));
    assert_eq!(guard(&mut guards, &relays(20, day(359)), day(359), 1), Ok(first), "its time runs on");
}

#[test]
fn guards_are_drawn_from_whom_the_client_reaches_and_kept_when_it_does_not() {
    let (mut guards, candidates) = (new_client(), relays(40, START));
    let path = |guards: &mut GuardSet, reachable: &[NodeId], number| {
        let destination = outside(START);
        let request = PathRequest {
            candidates: &candidates,
            destination: &destination,
            exclude: &[],
            hops: HopClass::Three,
            reachable: Some(reachable),
        };
        guards.path(&PathSelector::default(), &request, START, seed(number))
    };
    assert_eq!(path(&mut guards, &[], 0).unwrap_err(), GuardError::Unlisted);
    let near: Vec<NodeId> = candidates.iter().skip(7).take(4).map(|relay| relay.relay).collect();
    for number in 0..20 {
        let relays = path(&mut guards, &near, number).unwrap().relays;
        assert!(near.contains(&relays[0].relay));
    }
    let drawn = listed(&guards);
    assert!(drawn.len() == GuardSet::SIZE && drawn.iter().all(|guard| near.contains(guard)));
    let other: Vec<NodeId> = candidates.iter().take(7).map(|relay| relay.relay).collect();
    assert_eq!(path(&mut guards, &other, 20).unwrap().relays[0].relay, drawn[0]);
    assert_eq!(listed(&guards), drawn);
}
