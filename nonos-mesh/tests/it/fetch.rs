use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use nonos_mesh::fetch::{Bitmap, Config, Fetch, FetchError, Input, Output, ProviderId};

const SEED: [u8; 32] = [1; 32];

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Good,
    Silent,
    Wrong,
}

/// Answers requests after 100 ms; returns how often each chunk was asked for and who was banned.
fn drive(fetch: &mut Fetch, kinds: &[Kind]) -> (BTreeMap<u32, usize>, BTreeSet<u64>) {
    let mut now = Duration::ZERO;
    let (mut asked, mut banned) = (BTreeMap::new(), BTreeSet::new());
    for (n, _) in kinds.iter().enumerate() {
        fetch.handle(now, Input::ProviderUp { provider: ProviderId(n as u64), have: None });
    }
    for _ in 0..10_000 {
        let mut inputs = Vec::new();
        while let Some(output) = fetch.poll() {
            match output {
                Output::Request { provider, index } => {
                    *asked.entry(index).or_insert(0) += 1;
                    match kinds[provider.0 as usize] {
                        Kind::Good => inputs.push(Input::Chunk { provider, index, bytes: vec![1] }),
                        Kind::Wrong => inputs.push(Input::Chunk { provider, index, bytes: vec![0] }),
                        Kind::Silent => {}
                    }
                }
                Output::Verify { provider, index, bytes } => inputs.push(match bytes[0] {
                    1 => Input::Verified { index },
                    _ => Input::Invalid { provider, index },
                }),
                Output::Banned { provider } => drop(banned.insert(provider.0)),
                Output::Done => return (asked, banned),
                _ => {}
            }
        }
        now += Duration::from_millis(100);
        if inputs.is_empty() {
            now = now.max(fetch.deadline().expect("something is in flight"));
            inputs.push(Input::Tick);
        }
        inputs.into_iter().for_each(|input| fetch.handle(now, input));
    }
    panic!("the fetch does not end");
}

#[test]
fn chunks_come_once_from_good_providers() {
    let mut fetch = Fetch::new(Config::default(), b"id", 200, SEED).expect("few chunks");
    let (asked, banned) = drive(&mut fetch, &[Kind::Good; 3]);
    assert!(fetch.progress().is_full());
    assert_eq!(asked.len(), 200);
    let extra: usize = asked.values().map(|n| n - 1).sum();
    assert!(extra <= Config::default().endgame_chunks, "{extra} duplicates");
    assert!(banned.is_empty());
}

#[test]
fn liars_and_black_holes_are_dropped() {
    let mut fetch = Fetch::new(Config::default(), b"id", 100, SEED).expect("few chunks");
    let (_, banned) = drive(&mut fetch, &[Kind::Wrong, Kind::Good, Kind::Silent]);
    assert!(fetch.progress().is_full());
    assert!(banned.contains(&0), "who sends a wrong chunk is dropped at once");
    assert!(!banned.contains(&1));
    fetch.handle(Duration::ZERO, Input::ProviderUp { provider: ProviderId(0), have: None });
    assert_eq!(fetch.poll(), None, "and stays dropped");
}

#[test]
fn a_fetch_resumes_and_asks_only_holders() {
    let mut done = Bitmap::all(10);
    assert_eq!(Fetch::resume(Config::default(), b"", 11, done.clone(), SEED).err(), Some(FetchError::Resume));
    let mut fetch = Fetch::resume(Config::default(), b"", 10, done.clone(), SEED).expect("complete");
    assert_eq!(fetch.poll(), Some(Output::Done));
    done = Bitmap::none(10);
    (0..8).for_each(|i| done.set(i));
    let mut fetch = Fetch::resume(Config::default(), b"", 10, done, SEED).expect("fits");
    let mut have = Bitmap::none(10);
    have.set(9);
    fetch.handle(Duration::ZERO, Input::ProviderUp { provider: ProviderId(1), have: Some(have) });
    assert_eq!(fetch.poll(), Some(Output::Request { provider: ProviderId(1), index: 9 }));
    assert_eq!(fetch.poll(), None, "nobody holds chunk 8");
    let unasked = Input::Chunk { provider: ProviderId(1), index: 8, bytes: vec![1] };
    fetch.handle(Duration::ZERO, unasked);
    assert_eq!(fetch.poll(), None, "what was not asked for costs no check");
    fetch.handle(Duration::ZERO, Input::Refused { provider: ProviderId(1), index: 9 });
    assert_eq!(fetch.poll(), None);
    fetch.handle(Duration::ZERO, Input::ProviderUp { provider: ProviderId(2), have: None });
    let next: BTreeSet<_> =
        std::iter::from_fn(|| fetch.poll()).collect::<Vec<_>>().iter().map(|o| format!("{o:?}")).collect();
    assert_eq!(next.len(), 2, "{next:?}");
}

#[test]
fn rare_chunks_come_first() {
    let mut fetch = Fetch::new(Config { window_start: 1, ..Config::default() }, b"", 8, SEED).expect("fits");
    let mut common = Bitmap::all(8);
    common = {
        let mut without = Bitmap::none(8);
        (0..8).filter(|i| *i != 5 && common.contains(*i)).for_each(|i| without.set(i));
        without
    };
    for provider in 1..=2 {
        fetch.handle(
            Duration::ZERO,
            Input::ProviderUp { provider: ProviderId(provider), have: Some(common.clone()) },
        );
    }
    while fetch.poll().is_some() {}
    fetch.handle(Duration::ZERO, Input::ProviderUp { provider: ProviderId(3), have: None });
    assert_eq!(fetch.poll(), Some(Output::Request { provider: ProviderId(3), index: 5 }));
}
