use core::time::Duration;

use nonos_identity::wire::{self, Wire as _};
use nonos_identity::{Certificate, Domain, NetworkId, Role, SigningKey, Timestamp, Verified, WideDigest};
use proptest::prelude::*;

use super::*;
use crate::capsule::CapsuleId;

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
const D: Domain = Domain::new("nonos/capsule/test/v1");

fn network() -> NetworkId {
    NetworkId::from_name("dispute")
}

/// A node's epoch signer and its certificate.
struct Node {
    key: SigningKey,
    certificate: Certificate,
}

impl Node {
    fn new(seed: u8) -> Self {
        let (root, key) = (SigningKey::from_seed(&[seed; 32]), SigningKey::from_seed(&[seed | 0x80; 32]));
        let (role, day) = (Role::EpochSigner, Duration::from_secs(86_400));
        let certificate = Certificate::issue(&root, &key, role, 1, NOW, day, &network()).unwrap();
        Self { key, certificate }
    }

    fn sign(&self, chain: &CommittedChain) -> Verified<SignedChain> {
        chain.sign(&self.key, &self.certificate, &network(), NOW).unwrap()
    }
}

/// The truth, or what a liar says: from one position on, everything is another.
fn checkpoints(count: u32, lie: Option<u32>) -> Vec<WideDigest> {
    let value = |position: u32| {
        let is_lie = lie.is_some_and(|from| from <= position);
        WideDigest::of(D, &[&position.to_le_bytes(), &[u8::from(is_lie)]])
    };
    (0..count).map(value).collect()
}

fn committed(checkpoints: Vec<WideDigest>) -> CommittedChain {
    let last = checkpoints.last().copied().unwrap();
    let (capsule, input) = (WideDigest::of_bytes(b"capsule"), WideDigest::of_bytes(b"input"));
    let exec_hash = WideDigest::of(D, &[last.as_bytes(), &(checkpoints.len() as u64).to_le_bytes()]);
    CommittedChain::from_checkpoints(CapsuleId::from_digest(capsule), input, exec_hash, checkpoints).unwrap()
}

fn chain(count: u32, lie: Option<u32>) -> CommittedChain {
    committed(checkpoints(count, lie))
}

/// Plays a dispute in which both parties open what they are asked for.
fn play(mut dispute: Dispute, chains: Pair<&CommittedChain>) -> (Outcome, usize) {
    while dispute.outcome().is_none() {
        let asks: Vec<Ask> = dispute.asks().collect();
        assert!(!asks.is_empty(), "without an outcome something is owed");
        for Ask { party, position } in asks {
            let opening = chains.of(party).open(position).expect("only what is there is asked for");
            dispute.answer(party, &wire::to_bytes(&opening)).unwrap();
        }
    }
    assert_eq!(dispute.asks().count(), 0);
    (dispute.outcome().cloned().unwrap(), dispute.rounds().len())
}

fn found(outcome: Outcome) -> Finding {
    match outcome {
        Outcome::Found(finding) => *finding,
        outcome => panic!("{outcome:?}"),
    }
}

fn log2_ceil(count: u32) -> usize {
    count.next_power_of_two().trailing_zeros() as usize
}

/// A lie about a checkpoint of a chain, or about its result if it is at the chain's end.
fn lies_at(count: u32, at: u32) -> CommittedChain {
    let truth = chain(count, None);
    let ChainCommitment { capsule_id, input_digest, .. } = *truth.commitment();
    let result = WideDigest::of_bytes(b"another result");
    match at < count {
        true => chain(count, Some(at)),
        false => {
            let checkpoints = checkpoints(count, None);
            CommittedChain::from_checkpoints(capsule_id, input_digest, result, checkpoints).unwrap()
        }
    }
}

fn finds_a_lie_at_every_index(counts: impl Iterator<Item = u32>) {
    let (honest, liar) = (Node::new(1), Node::new(2));
    for count in counts {
        let truth = chain(count, None);
        let first = honest.sign(&truth);
        // A lie about genesis is about another run.
        for at in 1..=count {
            let lies = lies_at(count, at);
            let dispute = Dispute::new(first.clone(), liar.sign(&lies)).unwrap();
            let (outcome, rounds) = play(dispute, Pair { first: &truth, second: &lies });
            let finding = found(outcome);
            assert_eq!(finding.slice(), Slice::Until(at), "count {count}");
            assert!(rounds <= log2_ceil(count), "{rounds} rounds for {count} checkpoints");
            assert_eq!(finding.before, Some(checkpoints(count, None)[at as usize - 1]));
            assert_ne!(finding.claimed(Party::First), finding.claimed(Party::Second));
            let is_open = finding.openings.first.is_some() && finding.openings.second.is_some();
            assert_eq!(is_open, at < count, "what is found was opened");
        }
    }
}

#[test]
fn a_lie_at_any_index_is_found_in_logarithmic_rounds() {
    finds_a_lie_at_every_index((1..=20).chain([31, 32, 33, 63, 64, 65, 120, 200]));
}

#[test]
#[ignore = "twenty thousand disputes take a minute"]
fn a_lie_at_any_index_of_any_chain_up_to_200_is_found_in_logarithmic_rounds() {
    finds_a_lie_at_every_index(1..=200);
}

#[test]
fn chains_of_different_lengths_differ_at_the_latest_where_the_shorter_one_ends() {
    let (honest, liar) = (Node::new(1), Node::new(2));
    for long in 2..20 {
        let truth = chain(long, None);
        for short in 1..long {
            for lie in (1..=short).map(|lie| (lie < short).then_some(lie)) {
                let lies = chain(short, lie);
                let chains = Pair { first: &lies, second: &truth };
                let dispute = Dispute::new(liar.sign(&lies), honest.sign(&truth)).unwrap();
                let (outcome, rounds) = play(dispute, chains);
                let (finding, at) = (found(outcome), lie.unwrap_or(short));
                assert_eq!(finding.slice(), Slice::Until(at), "{short} of {long}");
                assert!(rounds <= log2_ceil(long), "{rounds} rounds for {long} checkpoints");
                assert!(finding.openings.second.is_some());
                let ended = Claimed::Ended(lies.commitment().exec_hash);
                assert_eq!(finding.claimed(Party::First) == Some(ended), at == short);
            }
        }
    }
}

#[test]
fn equal_chains_are_no_dispute_and_equal_results_need_a_whole_run() {
    let (a, b) = (Node::new(1), Node::new(2));
    let truth = chain(9, None);
    let dispute = Dispute::new(a.sign(&truth), b.sign(&truth)).unwrap();
    assert_eq!(dispute.outcome(), Some(&Outcome::Agreed));

    let mut detour = checkpoints(9, None);
    detour[4] = WideDigest::of_bytes(b"elsewhere");
    let detour = committed(detour);
    assert_eq!(detour.commitment().exec_hash, truth.commitment().exec_hash);
    let dispute = Dispute::new(a.sign(&truth), b.sign(&detour)).unwrap();
    let finding = found(dispute.outcome().cloned().unwrap());
    assert_eq!((finding.slice(), finding.rounds()), (Slice::Whole, 0));
    assert_eq!(finding.claimed(Party::First), None);
}

#[test]
fn only_two_nodes_dispute_and_only_about_one_run() {
    let (a, b) = (Node::new(1), Node::new(2));
    let (truth, other) = (chain(9, None), chain(9, Some(0)));
    let refused = Dispute::new(a.sign(&truth), b.sign(&other)).err();
    assert_eq!(refused, Some(DisputeError::OtherRun));
    assert_eq!(Dispute::new(a.sign(&truth), a.sign(&truth)).err(), Some(DisputeError::SameNode));
}

fn disputed() -> (Dispute, CommittedChain, CommittedChain) {
    let (truth, lies) = (chain(120, None), chain(120, Some(37)));
    let dispute = Dispute::new(Node::new(1).sign(&truth), Node::new(2).sign(&lies)).unwrap();
    (dispute, truth, lies)
}

#[test]
fn who_refuses_has_lost_and_is_named() {
    let (mut dispute, truth, _) = disputed();
    let opening = wire::to_bytes(&truth.open(60).unwrap());
    dispute.answer(Party::First, &opening).unwrap();
    // Nobody answers twice, and nobody loses by being asked twice.
    assert_eq!(dispute.answer(Party::First, &opening), Err(DisputeError::NotAsked));
    assert_eq!(dispute.refuse(Party::First), Err(DisputeError::NotAsked));
    dispute.refuse(Party::Second).unwrap();
    let forfeits = Pair { first: None, second: Some(Forfeit::Refused(60)) };
    assert_eq!(dispute.outcome(), Some(&Outcome::Forfeited(forfeits)));
    assert_eq!(dispute.refuse(Party::Second), Err(DisputeError::NotAsked));

    let (mut dispute, ..) = disputed();
    dispute.refuse(Party::Second).unwrap();
    dispute.refuse(Party::First).unwrap();
    let both = Some(Forfeit::Refused(60));
    let both = Pair { first: both.clone(), second: both };
    assert_eq!(dispute.outcome(), Some(&Outcome::Forfeited(both)));
}

/// What a party signed binds it: it cannot open its chain in another way when asked.
#[test]
fn a_bad_opening_loses() {
    let (_, truth, lies) = disputed();
    let good = lies.open(60).unwrap();
    let short = CheckpointOpening { path: good.path[1..].to_vec(), ..good.clone() };
    let swapped = CheckpointOpening { checkpoint: truth.open(60).unwrap().checkpoint, ..good.clone() };
    let root = CheckpointOpeningError::Root;
    let bad = [
        (wire::to_bytes(&truth.open(60).unwrap()), root.clone()),
        (wire::to_bytes(&swapped), root),
        (wire::to_bytes(&short), CheckpointOpeningError::Path { expected: 7, found: 6 }),
        (
            wire::to_bytes(&lies.open(61).unwrap()),
            CheckpointOpeningError::Position { expected: 60, found: 61 },
        ),
        (Vec::new(), CheckpointOpeningError::Decode(wire::DecodeError::Malformed)),
        (
            vec![0; CheckpointOpening::MAX_BYTES + 1],
            CheckpointOpeningError::Decode(wire::DecodeError::TooLong {
                len: CheckpointOpening::MAX_BYTES + 1,
                limit: CheckpointOpening::MAX_BYTES,
            }),
        ),
    ];
    for (bytes, expected) in bad {
        let (mut dispute, ..) = disputed();
        dispute.answer(Party::Second, &bytes).unwrap();
        assert_eq!(dispute.outcome(), None, "the other party still owes its answer");
        dispute.answer(Party::First, &wire::to_bytes(&truth.open(60).unwrap())).unwrap();
        let forfeit = Some(Forfeit::Opening { position: 60, error: expected });
        let forfeits = Pair { first: None, second: forfeit };
        assert_eq!(dispute.outcome(), Some(&Outcome::Forfeited(forfeits)));
    }
}

/// An inner node of the tree is no checkpoint, whatever count its path is made for.
#[test]
fn no_position_beyond_the_chain_and_no_inner_node_opens() {
    let truth = chain(5, None);
    let commitment = truth.commitment();
    let opening = truth.open(4).unwrap();
    for position in [5, 6, u32::MAX] {
        let opening = CheckpointOpening { position, ..opening.clone() };
        let refused = commitment.check(Unverified::new(opening));
        assert_eq!(refused, Err(CheckpointOpeningError::Position { expected: 4, found: position }));
    }
    let shifted = CheckpointOpening { position: 3, ..truth.open(2).unwrap() };
    assert_eq!(commitment.check(Unverified::new(shifted)), Err(CheckpointOpeningError::Root));
    assert!(truth.open(5).is_none());
}

#[test]
fn a_chain_is_signed_by_a_certified_key_for_one_network_and_a_time() {
    let (node, truth) = (Node::new(1), chain(5, None));
    let signed = node.sign(&truth);
    let bytes = signed.envelope().as_bytes();
    assert!(bytes.len() <= SignedChain::MAX_BYTES);
    assert_eq!(signed.node(), SigningKey::from_seed(&[1; 32]).public().node_id());
    assert_eq!(SignedChain::open(bytes, &network(), NOW), Ok(signed.clone()));
    let elsewhere = SignedChain::open(bytes, &NetworkId::from_name("other"), NOW);
    assert!(matches!(elsewhere, Err(ChainError::Envelope(_))));
    let later = NOW.saturating_add(ChainCommitment::LIFETIME);
    assert!(matches!(SignedChain::open(bytes, &network(), later), Err(ChainError::Envelope(_))));
    assert_eq!(SignedChain::open_expired(bytes, &network()), Ok(signed.clone()));

    let foreign = Node { certificate: Node::new(2).certificate, ..Node::new(1) };
    let refused = truth.sign(&foreign.key, &foreign.certificate, &network(), NOW);
    assert_eq!(refused, Err(ChainError::Signer));
    for count in [0, ChainCommitment::MAX_CHECKPOINTS + 1] {
        let commitment = ChainCommitment { count, ..*truth.commitment() };
        assert!(!commitment.is_bounded());
    }
    for at in 0..bytes.len() {
        let mut bad = bytes.to_vec();
        bad[at] ^= 1;
        assert!(SignedChain::open(&bad, &network(), NOW).is_err(), "byte {at}");
    }
}

#[test]
fn the_longest_path_fits() {
    let path = vec![WideDigest::of_bytes(b"node"); 20];
    let opening = CheckpointOpening { position: u32::MAX, checkpoint: path[0], path };
    assert!(wire::from_bytes::<CheckpointOpening>(&wire::to_bytes(&opening)).is_ok());
}

proptest! {
    /// Both lie, each in its own way and at its own place, even about the length: the bisection
    /// still ends in time, at a place where they agree before and differ.
    #[test]
    fn two_liars_part_somewhere(
        (a, b) in (1u32..200, 1u32..200),
        lies in prop::collection::vec((any::<bool>(), any::<prop::sample::Index>(), any::<u8>()), 1..20),
    ) {
        let mut values = Pair { first: checkpoints(a, None), second: checkpoints(b, None) };
        for (is_first, at, to) in lies {
            let party = if is_first { Party::First } else { Party::Second };
            let values = values.of_mut(party);
            let at = at.index(values.len());
            if at > 0 {
                values[at] = WideDigest::of(D, &[&[to]]);
            }
        }
        let chains = Pair { first: committed(values.first), second: committed(values.second) };
        let signed = (Node::new(1).sign(&chains.first), Node::new(2).sign(&chains.second));
        let dispute = Dispute::new(signed.0, signed.1).unwrap();
        let (outcome, rounds) = play(dispute, Pair { first: &chains.first, second: &chains.second });
        prop_assert!(rounds <= log2_ceil(a.max(b)));
        if let Outcome::Found(finding) = outcome {
            match finding.slice() {
                Slice::Until(at) => {
                    let before = |party| chains.of(party).open(at - 1).map(|opening| opening.checkpoint);
                    prop_assert_eq!(before(Party::First), before(Party::Second));
                    prop_assert_eq!(before(Party::First), finding.before);
                    prop_assert_ne!(finding.claimed(Party::First), finding.claimed(Party::Second));
                }
                Slice::Whole => prop_assert_eq!(a, b),
            }
        } else {
            prop_assert_eq!(outcome, Outcome::Agreed);
        }
    }

    /// Whatever bytes come, the machine ends: with a finding, or with the culprit's name.
    #[test]
    fn garbage_loses(at in 0usize..7, is_first: bool, bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let (mut dispute, truth, lies) = disputed();
        let (chains, culprit) = (Pair { first: truth, second: lies }, [Party::Second, Party::First][usize::from(is_first)]);
        while dispute.outcome().is_none() {
            let asks: Vec<Ask> = dispute.asks().collect();
            for Ask { party, position } in asks {
                let opening = wire::to_bytes(&chains.of(party).open(position).unwrap());
                let is_garbage = party == culprit && dispute.rounds().len() == at;
                dispute.answer(party, if is_garbage { &bytes } else { &opening }).unwrap();
            }
        }
        match dispute.outcome().unwrap() {
            Outcome::Forfeited(forfeits) => {
                prop_assert!(forfeits.of(culprit).is_some());
                prop_assert!(forfeits.first.is_none() || forfeits.second.is_none());
            }
            Outcome::Found(finding) => prop_assert!(finding.rounds() <= at),
            Outcome::Agreed => prop_assert!(false, "they differ"),
        }
    }

    #[test]
    fn a_changed_byte_of_an_opening_loses(at in any::<prop::sample::Index>(), flip in 1u8..) {
        let (mut dispute, truth, _) = disputed();
        let mut bytes = wire::to_bytes(&truth.open(60).unwrap());
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        dispute.answer(Party::First, &bytes).unwrap();
        dispute.refuse(Party::Second).unwrap();
        let Some(Outcome::Forfeited(forfeits)) = dispute.outcome() else { panic!("{:?}", dispute.outcome()) };
        let is_named = matches!(forfeits.first, Some(Forfeit::Opening { .. }));
        prop_assert!(is_named);
    }
}
