//! Disputes about real runs: what a referee finds, and what convinces a third party.

use nonos_capsule::dispute::{
    Accusation, Ask, Claimed, CommitError, CommittedChain, Dispute, Finding, JudgeError, Outcome, Pair,
    Party, RefereeError, Ruling, Slice, referee,
};
use nonos_capsule::{Execution, Invocation, Loaded, MeshPolicy, Policy, replay_until};
use nonos_identity::{Certificate, Role, SigningKey, Verified, WideDigest, wire};

use crate::support::{
    DAY, NOW, command, import, interpreter, invocation, load, network, policy, run, signed, verified, wasm,
};

/// Ten instructions a round: 12 M gas make 120 checkpoints of 100 000.
const COUNT: &str = r#"(module
  (memory (export "memory") 1)
  (func (export "_start") (local $i i32)
    (loop $again
      (i32.store (i32.and (local.get $i) (i32.const 0xfff8)) (local.get $i))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $again (i32.lt_u (local.get $i) (i32.const 912000))))))"#;

fn long() -> Policy {
    Policy { gas_limit: 100_000_000, ..policy() }
}

fn node(seed: u8) -> (SigningKey, Certificate) {
    let (root, key) = (SigningKey::from_seed(&[seed; 32]), SigningKey::from_seed(&[seed | 0x80; 32]));
    let certificate = Certificate::issue(&root, &key, Role::EpochSigner, 1, NOW, DAY, &network()).unwrap();
    (key, certificate)
}

/// What a liar makes of an execution: from a checkpoint on everything is another, and the result
/// follows from that.
fn lie(mut execution: Execution, at: usize) -> Execution {
    for checkpoint in execution.checkpoints.iter_mut().skip(at) {
        *checkpoint = WideDigest::of_bytes(checkpoint.as_bytes());
    }
    execution.exec_hash = execution.compute_hash();
    execution
}

fn shorten(mut execution: Execution, count: usize) -> Execution {
    execution.checkpoints.truncate(count);
    execution.exec_hash = execution.compute_hash();
    execution
}

fn dispute(first: &Execution, second: &Execution) -> (Finding, usize) {
    let chains =
        Pair { first: CommittedChain::of(first).unwrap(), second: CommittedChain::of(second).unwrap() };
    let sign = |party, seed| {
        let (key, certificate) = node(seed);
        chains.of(party).sign(&key, &certificate, &network(), NOW).unwrap()
    };
    let mut dispute = Dispute::new(sign(Party::First, 1), sign(Party::Second, 2)).unwrap();
    while dispute.outcome().is_none() {
        for Ask { party, position } in dispute.asks().collect::<Vec<_>>() {
            let opening = chains.of(party).open(position).unwrap();
            dispute.answer(party, &wire::to_bytes(&opening)).unwrap();
        }
    }
    let Some(Outcome::Found(finding)) = dispute.outcome() else { panic!("{:?}", dispute.outcome()) };
    (Finding::clone(finding), dispute.rounds().len())
}

/// Everything that a wrong party is shown by convinces a third party, and nothing else does.
fn convicts(ruling: &Ruling, loaded: &Loaded, invocation: &Invocation) {
    for proven in ruling.accusations() {
        let bytes = proven.to_bytes();
        let accusation = Accusation::parse(&bytes, &network()).unwrap();
        assert_eq!(accusation.accused(), proven.accused());
        assert!(bytes.len() <= Accusation::MAX_BYTES);
        let judged: Verified<Accusation> = accusation.judge(loaded, invocation).unwrap();
        assert_eq!(judged, *proven);
    }
}

fn wrong(ruling: &Ruling) -> [bool; 2] {
    Party::BOTH.map(|party| ruling.accusation(party).is_some())
}

#[test]
fn a_lie_about_checkpoint_37_of_120_costs_seven_rounds_and_a_run_up_to_it() {
    let (loaded, asked) = (load(COUNT, long()), invocation(b""));
    let truth = run(&loaded, &asked).unwrap();
    assert!((118..=123).contains(&truth.checkpoints.len()), "{}", truth.checkpoints.len());
    let (finding, rounds) = dispute(&truth, &lie(truth.clone(), 37));
    assert!(rounds <= 7, "{rounds} rounds");
    assert_eq!(finding.slice(), Slice::Until(37));
    let ruling = referee(&loaded, &asked, finding).unwrap();
    assert_eq!(wrong(&ruling), [false, true]);
    assert_eq!(ruling.truth(), Some(Claimed::Checkpoint(truth.checkpoints[37])));
    let (checkpoints, gas) = ruling.cost();
    assert_eq!(checkpoints, 38, "genesis, and not one checkpoint beyond the slice");
    assert!(gas < truth.gas_used / 3, "{gas} of {}", truth.gas_used);
    convicts(&ruling, &loaded, &asked);
    // The other engine is a referee as good.
    let other = interpreter().load(&verified(signed(&wasm(COUNT), long())), &long()).unwrap();
    convicts(&ruling, &other, &asked);
}

#[test]
fn lies_anywhere_are_judged_right() {
    let (loaded, asked) =
        (load(COUNT, Policy { checkpoint_interval_gas: 1_000_000, ..long() }), invocation(b""));
    let truth = run(&loaded, &asked).unwrap();
    let count = truth.checkpoints.len();
    assert!(count > 5);
    let judge = |first: &Execution, second: &Execution| {
        let ruling = referee(&loaded, &asked, dispute(first, second).0).unwrap();
        convicts(&ruling, &loaded, &asked);
        wrong(&ruling)
    };
    let longer = |mut execution: Execution| {
        execution.checkpoints.push(WideDigest::of_bytes(b"one more"));
        execution.exec_hash = execution.compute_hash();
        execution
    };
    let result = Execution { exec_hash: WideDigest::of_bytes(b"another"), ..truth.clone() };
    for at in 1..count {
        assert_eq!(judge(&lie(truth.clone(), at), &truth), [true, false], "{at}");
        assert_eq!(judge(&truth, &shorten(truth.clone(), at)), [false, true], "{at}");
        // Both lie, and both end in time.
        assert_eq!(judge(&lie(truth.clone(), at), &shorten(truth.clone(), at)), [true, true], "{at}");
        // Who lies about the end alone is right where the other one lies before.
        assert_eq!(judge(&lie(truth.clone(), at), &result), [true, false], "{at}");
    }
    assert_eq!(judge(&truth, &longer(truth.clone())), [false, true]);
    assert_eq!(judge(&longer(truth.clone()), &longer(longer(truth.clone()))), [true, true]);
    assert_eq!(judge(&result, &truth), [true, false]);
    assert_eq!(judge(&shorten(truth.clone(), 1), &truth), [true, false]);
    // They agree on a lie, and part later: what is before the slice shows it.
    let common = lie(truth.clone(), 2);
    assert_eq!(judge(&common, &lie(common.clone(), 4)), [true, true]);
    let back = |mut execution: Execution| {
        execution.checkpoints[4] = truth.checkpoints[4];
        execution
    };
    let mut apart = common.clone();
    apart.checkpoints[3] = WideDigest::of_bytes(b"apart");
    assert_eq!(judge(&back(common.clone()), &lie(apart, 4)), [true, true]);
}

#[test]
fn one_result_by_two_ways_takes_a_whole_run() {
    let (loaded, asked) =
        (load(COUNT, Policy { checkpoint_interval_gas: 2_000_000, ..long() }), invocation(b""));
    let truth = run(&loaded, &asked).unwrap();
    let mut detour = truth.clone();
    detour.checkpoints[2] = WideDigest::of_bytes(b"elsewhere");
    let (finding, rounds) = dispute(&detour, &truth);
    assert_eq!((finding.slice(), rounds), (Slice::Whole, 0));
    let ruling = referee(&loaded, &asked, finding).unwrap();
    assert_eq!(wrong(&ruling), [true, false]);
    assert_eq!(ruling.cost(), (truth.checkpoints.len(), truth.gas_used));
    convicts(&ruling, &loaded, &asked);
}

#[test]
fn an_honest_node_is_never_convicted() {
    let (loaded, asked) =
        (load(COUNT, Policy { checkpoint_interval_gas: 2_000_000, ..long() }), invocation(b""));
    let truth = run(&loaded, &asked).unwrap();
    let (key, certificate) = node(1);
    let chain = CommittedChain::of(&truth).unwrap();
    let signed = chain.sign(&key, &certificate, &network(), NOW).unwrap();
    let accuse = |opening: Option<u32>| {
        let opening = opening.map(|position| chain.open(position).unwrap());
        let mut bytes = vec![if opening.is_some() { 0x82 } else { 0x81 }, 0x59];
        let envelope = signed.envelope().as_bytes();
        bytes.extend(u16::try_from(envelope.len()).unwrap().to_be_bytes());
        bytes.extend_from_slice(envelope);
        bytes.extend(opening.map(|opening| wire::to_bytes(&opening)).unwrap_or_default());
        Accusation::parse(&bytes, &network()).unwrap()
    };
    let openings = (0..u32::try_from(truth.checkpoints.len()).unwrap()).map(Some);
    for opening in openings.chain([None]) {
        let judged = accuse(opening).judge(&loaded, &asked);
        assert!(matches!(judged, Err(JudgeError::Innocent)), "{opening:?}: {judged:?}");
    }
    // Nor by a run that is another one.
    let other = accuse(None).judge(&loaded, &invocation(b"other input"));
    assert!(matches!(other, Err(JudgeError::Undecided(RefereeError::OtherRun))), "{other:?}");
    let other = accuse(None).judge(&load(COUNT, long()), &asked);
    assert!(matches!(other, Err(JudgeError::Undecided(RefereeError::OtherRun))), "{other:?}");
}

#[test]
fn an_altered_accusation_accuses_nobody() {
    let (loaded, asked) =
        (load(COUNT, Policy { checkpoint_interval_gas: 2_000_000, ..long() }), invocation(b""));
    let truth = run(&loaded, &asked).unwrap();
    let ruling = referee(&loaded, &asked, dispute(&truth, &lie(truth.clone(), 3)).0).unwrap();
    let bytes = ruling.accusations().next().unwrap().to_bytes();
    for at in 0..bytes.len() {
        let mut bad = bytes.clone();
        bad[at] ^= 1;
        assert!(Accusation::parse(&bad, &network()).is_err(), "byte {at}");
    }
}

#[test]
fn a_rerun_stops_where_it_is_told_and_not_later() {
    let text = command(&import(nonos_capsule::HostCall::Checkpoint), &"(drop (call $checkpoint))".repeat(4));
    let checkpoints = |loaded: &Loaded| {
        let asked = invocation(b"");
        let whole = replay_until(loaded, &asked, None).unwrap();
        let execution = whole.execution.unwrap();
        assert_eq!(whole.checkpoints, execution.checkpoints);
        let last = execution.checkpoints.len() - 1;
        for at in 0..=last + 2 {
            let rerun = replay_until(loaded, &asked, Some(u32::try_from(at).unwrap())).unwrap();
            let until = at.min(last);
            assert_eq!(rerun.checkpoints, execution.checkpoints[..=until]);
            assert_eq!(rerun.execution.is_some(), at >= last, "the end is at {last}");
            assert!(rerun.gas_used <= execution.gas_used);
        }
        execution.checkpoints
    };
    let asked = checkpoints(&load(&text, policy()));
    assert_eq!(asked.len(), 6, "genesis, four that the guest asks for, and the end");
    let other = interpreter().load(&verified(signed(&wasm(&text), policy())), &policy()).unwrap();
    assert_eq!(checkpoints(&other), asked);
    checkpoints(&load(COUNT, Policy { checkpoint_interval_gas: 2_000_000, ..long() }));
}

#[test]
fn a_run_that_may_talk_to_the_mesh_is_not_disputed() {
    let mesh = MeshPolicy { messages_max: 1, ..MeshPolicy::default() };
    let loaded = load(&command("", ""), Policy { mesh, ..policy() });
    let execution = run(&loaded, &invocation(b"")).unwrap();
    assert_eq!(CommittedChain::of(&execution).err(), Some(CommitError::Mesh));
}
