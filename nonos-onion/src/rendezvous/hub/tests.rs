use core::time::Duration;

use nonos_identity::SigningKey;
use tokio::io::{DuplexStream, duplex};
use tokio::task::JoinHandle;

use super::*;
use crate::rendezvous::frame::{
    ANSWER_BYTES, Answer, CHALLENGE_BYTES, ESTABLISHED, Establish, GRANT, Introduce,
};
use crate::rendezvous::handshake::INTRODUCTION_BYTES;
use crate::rendezvous::puzzle::{self, Effort};

type Served = JoinHandle<Result<(), HubError>>;

fn network() -> NetworkId {
    NetworkId::from_name("hub")
}

fn relay(number: u8) -> NodeId {
    NodeId::from_bytes([number; 32])
}

fn key(number: u8) -> SigningKey {
    SigningKey::from_seed(&[number; 32])
}

fn hub(adjust: impl FnOnce(&mut HubLimits)) -> Hub {
    let mut limits = HubLimits::default();
    adjust(&mut limits);
    Hub::new(network(), relay(1), limits, &[7; 32])
}

/// A stream to the hub, with little room in between.
fn open(hub: &Hub, circuit: u64, port: u16) -> (DuplexStream, Served) {
    let ((near, far), hub) = (duplex(4096), hub.clone());
    (near, tokio::spawn(async move { hub.serve(LocalCircuitId(circuit), port, far).await }))
}

async fn read<const N: usize>(stream: &mut DuplexStream) -> [u8; N] {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).await.unwrap();
    bytes
}

async fn establish(hub: &Hub, circuit: u64, key: &SigningKey) -> (DuplexStream, Served) {
    let (mut stream, served) = open(hub, circuit, ports::ESTABLISH);
    let challenge = read::<CHALLENGE_BYTES>(&mut stream).await;
    let establish = Establish::sign(key, &network(), relay(1), &challenge);
    stream.write_all(&establish.write()).await.unwrap();
    assert_eq!(read(&mut stream).await, [ESTABLISHED]);
    (stream, served)
}

fn sealed(number: u8) -> [u8; INTRODUCTION_BYTES] {
    [number; INTRODUCTION_BYTES]
}

fn request(service: &SigningKey, number: u8, effort: u8) -> Introduce {
    let sealed = Box::new(sealed(number));
    let effort = Effort::from_bits(effort).unwrap();
    let nonce = puzzle::solve(&puzzle::name(&service.public(), &sealed[..]), effort);
    Introduce { auth_key: *service.public().as_bytes(), effort, nonce, sealed }
}

/// Sends a request on a stream of its own; the answer comes when it comes.
fn introduce(hub: &Hub, circuit: u64, request: &Introduce) -> JoinHandle<Option<Answer>> {
    let ((mut stream, _), bytes) = (open(hub, circuit, ports::INTRODUCE), request.write());
    tokio::spawn(async move {
        stream.write_all(&bytes).await.ok()?;
        let mut answer = [0; ANSWER_BYTES];
        stream.read_exact(&mut answer).await.ok()?;
        Answer::read(&answer).ok()
    })
}

/// Lets everything happen that does not need time.
async fn settle() {
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
}

fn sign(network: &NetworkId, relay: NodeId, challenge: &[u8; CHALLENGE_BYTES]) -> Vec<u8> {
    Establish::sign(&key(1), network, relay, challenge).write()
}

/// The hub refuses what a service signed: for another relay, for a challenge of another stream, for another
/// network, or with a key that it does not hold.
#[tokio::test]
async fn a_signature_counts_on_its_own_stream_at_its_own_relay() {
    let hub = hub(|_| {});
    let (mut earlier, _) = open(&hub, 1, ports::ESTABLISH);
    let old: [u8; CHALLENGE_BYTES] = read(&mut earlier).await;
    let other = NetworkId::from_name("other");
    type Sign<'a> = Box<dyn Fn(&[u8; CHALLENGE_BYTES]) -> Vec<u8> + 'a>;
    let cases: [(&str, Sign<'_>); 4] = [
        ("another relay", Box::new(|challenge| sign(&network(), relay(2), challenge))),
        ("another stream", Box::new(|_| sign(&network(), relay(1), &old))),
        ("another network", Box::new(|challenge| sign(&other, relay(1), challenge))),
        (
            "another key",
            Box::new(|challenge| {
                let signed = sign(&network(), relay(1), challenge);
                [key(2).public().as_bytes(), &signed[32..]].concat()
            }),
        ),
    ];
    for (what, sign) in cases {
        let (mut stream, served) = open(&hub, 2, ports::ESTABLISH);
        let challenge = read(&mut stream).await;
        stream.write_all(&sign(&challenge)).await.unwrap();
        assert!(matches!(served.await.unwrap(), Err(HubError::Signature(_))), "{what}");
        assert_eq!(hub.load().services, 0, "{what}");
    }
    let (_stream, _served) = establish(&hub, 2, &key(1)).await;
    assert_eq!(hub.load().services, 1);
}

#[tokio::test]
async fn an_introduction_reaches_its_service_once_it_asks() {
    let hub = hub(|_| {});
    let (mut service, served) = establish(&hub, 1, &key(1)).await;
    let answer = introduce(&hub, 2, &request(&key(1), 5, 0));
    settle().await;
    assert_eq!(hub.load().introductions, 1, "nothing is sent that was not asked for");
    service.write_all(&[GRANT]).await.unwrap();
    assert_eq!(read(&mut service).await, sealed(5));
    assert_eq!(answer.await.unwrap(), Some(Answer::Passed));
    let unknown = introduce(&hub, 2, &request(&key(2), 5, 0));
    assert_eq!(unknown.await.unwrap(), Some(Answer::Unknown));
    drop(service);
    assert!(served.await.unwrap().is_ok());
    let gone = introduce(&hub, 2, &request(&key(1), 6, 0));
    assert_eq!(gone.await.unwrap(), Some(Answer::Unknown));
    settle().await;
    assert_eq!(hub.load(), HubLoad::default(), "nothing stays");
}

#[tokio::test]
async fn the_most_work_goes_first_and_the_least_has_to_go() {
    let hub = hub(|limits| limits.queue = 3);
    let (mut service, _served) = establish(&hub, 1, &key(1)).await;
    let mut answers = Vec::new();
    for (number, effort) in [(1, 0), (2, 9), (3, 8)] {
        answers.push(introduce(&hub, u64::from(number), &request(&key(1), number, effort)));
        settle().await;
    }
    let none = introduce(&hub, 4, &request(&key(1), 4, 0));
    assert_eq!(none.await.unwrap(), Some(Answer::Busy(Effort::from_bits(8).unwrap())));
    let outbids = introduce(&hub, 5, &request(&key(1), 5, 8));
    settle().await;
    assert_eq!(answers.remove(0).await.unwrap(), Some(Answer::Busy(Effort::from_bits(9).unwrap())));
    assert_eq!(hub.load().introductions, 3);
    service.write_all(&[GRANT; 3]).await.unwrap();
    for number in [2, 3, 5] {
        assert_eq!(read(&mut service).await, sealed(number));
    }
    assert_eq!(outbids.await.unwrap(), Some(Answer::Passed));
}

#[tokio::test]
async fn work_that_was_not_done_is_no_work() {
    let hub = hub(|_| {});
    let (_service, _served) = establish(&hub, 1, &key(1)).await;
    let solved = request(&key(1), 1, 10);
    let lies = [
        Introduce { effort: Effort::MOST, ..solved.clone() },
        Introduce { sealed: Box::new(sealed(2)), ..solved.clone() },
    ];
    for lie in lies {
        let (mut stream, served) = open(&hub, 2, ports::INTRODUCE);
        stream.write_all(&lie.write()).await.unwrap();
        assert!(matches!(served.await.unwrap(), Err(HubError::Frame(FrameError::Effort(_)))));
    }
    assert_eq!(hub.load().introductions, 0);
}

/// Work is worth one introduction: the hub knows those that wait and those that went.
#[tokio::test]
async fn an_introduction_is_passed_on_once() {
    let hub = hub(|_| {});
    let (mut service, _served) = establish(&hub, 1, &key(1)).await;
    let first = introduce(&hub, 2, &request(&key(1), 1, 0));
    settle().await;
    let while_waiting = introduce(&hub, 3, &request(&key(1), 1, 8));
    assert_eq!(while_waiting.await.unwrap(), Some(Answer::Repeated));
    service.write_all(&[GRANT; 2]).await.unwrap();
    assert_eq!(first.await.unwrap(), Some(Answer::Passed));
    let later = introduce(&hub, 3, &request(&key(1), 1, 0));
    assert_eq!(later.await.unwrap(), Some(Answer::Repeated));
}

/// A client whose introduction was outbid may come again with more work.
#[tokio::test]
async fn an_outbid_introduction_may_come_again() {
    let hub = hub(|limits| limits.queue = 1);
    let (mut service, _served) = establish(&hub, 1, &key(1)).await;
    let (mut stream, _) = open(&hub, 2, ports::INTRODUCE);
    stream.write_all(&request(&key(1), 1, 0).write()).await.unwrap();
    settle().await;
    let other = introduce(&hub, 3, &request(&key(1), 2, 8));
    let busy = Answer::read(&read(&mut stream).await);
    assert_eq!(busy, Ok(Answer::Busy(Effort::from_bits(9).unwrap())));
    stream.write_all(&request(&key(1), 1, 9).write()).await.unwrap();
    settle().await;
    service.write_all(&[GRANT]).await.unwrap();
    assert_eq!(read(&mut service).await, sealed(1));
    assert_eq!(other.await.unwrap(), Some(Answer::Busy(Effort::from_bits(10).unwrap())));
}

#[tokio::test]
async fn a_flood_of_introductions_is_bounded() {
    let hub = hub(|limits| (limits.queue, limits.streams) = (4, 40));
    let (_service, _served) = establish(&hub, 0, &key(1)).await;
    let flood: Vec<_> =
        (1..100).map(|number| introduce(&hub, u64::from(number), &request(&key(1), number, 0))).collect();
    settle().await;
    let load = hub.load();
    assert_eq!(load.introductions, 4);
    assert!(load.streams <= 40);
    let mut refused = 0;
    for answer in flood.into_iter().filter(JoinHandle::is_finished) {
        assert_ne!(answer.await.unwrap(), Some(Answer::Passed));
        refused += 1;
    }
    assert!(refused >= 59, "only {refused} of 99 were refused");
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_cookies_is_bounded_and_passes() {
    let hub = hub(|limits| limits.cookies = 5);
    let mut flood = Vec::new();
    for number in 0..20 {
        let (mut stream, served) = open(&hub, u64::from(number), ports::RENDEZVOUS);
        stream.write_all(&[number; 32]).await.unwrap();
        flood.push((stream, served));
    }
    settle().await;
    assert_eq!(hub.load().cookies, 5);
    tokio::time::sleep(HubLimits::default().wait + Duration::from_secs(1)).await;
    assert_eq!(hub.load(), HubLoad::default());
    for (number, (_, served)) in flood.into_iter().enumerate() {
        let expected = if number < 5 { HubError::Timeout } else { HubError::Full("cookies") };
        assert_eq!(served.await.unwrap(), Err(expected), "{number}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_circuit_has_few_streams_and_silent_ones_end() {
    let hub = hub(|limits| limits.streams_per_circuit = 2);
    let (one, two) = (open(&hub, 1, ports::INTRODUCE), open(&hub, 1, ports::ESTABLISH));
    settle().await;
    let (_stream, third) = open(&hub, 1, ports::RENDEZVOUS);
    assert_eq!(third.await.unwrap(), Err(HubError::Full("streams of one circuit")));
    let (_stream, other) = open(&hub, 2, ports::RENDEZVOUS);
    tokio::time::sleep(HubLimits::default().message_timeout + Duration::from_secs(1)).await;
    for served in [one.1, two.1, other] {
        assert_eq!(served.await.unwrap(), Err(HubError::Timeout));
    }
    assert_eq!(hub.load(), HubLoad::default());
    let (_stream, port) = open(&hub, 1, 80);
    assert_eq!(port.await.unwrap(), Err(HubError::Port(80)));
}

#[tokio::test]
async fn services_are_bounded_and_an_established_one_may_come_anew() {
    let hub = hub(|limits| limits.services = 1);
    let (mut old, _) = establish(&hub, 1, &key(1)).await;
    let answer = introduce(&hub, 2, &request(&key(1), 1, 0));
    settle().await;
    // What waits goes to the new stream, and the old one ends.
    let (mut new, _) = establish(&hub, 3, &key(1)).await;
    assert_eq!(old.read(&mut [0; 1]).await.unwrap(), 0);
    new.write_all(&[GRANT]).await.unwrap();
    assert_eq!(read(&mut new).await, sealed(1));
    assert_eq!(answer.await.unwrap(), Some(Answer::Passed));
    let (mut stream, served) = open(&hub, 4, ports::ESTABLISH);
    let challenge = read(&mut stream).await;
    stream.write_all(&Establish::sign(&key(2), &network(), relay(1), &challenge).write()).await.unwrap();
    assert_eq!(served.await.unwrap(), Err(HubError::Full("services")));
    assert_eq!(hub.load().services, 1, "the old stream's end takes nothing along");
}

#[tokio::test]
async fn a_service_that_asks_for_too_much_or_nonsense_is_given_up() {
    let hub = hub(|_| {});
    let (mut greedy, served) = establish(&hub, 1, &key(1)).await;
    greedy.write_all(&[GRANT; 65]).await.unwrap();
    assert_eq!(served.await.unwrap(), Err(HubError::Credit));
    let (mut odd, served) = establish(&hub, 1, &key(1)).await;
    odd.write_all(&[GRANT, 2]).await.unwrap();
    assert_eq!(served.await.unwrap(), Err(HubError::Frame(FrameError::Code(2))));
    assert_eq!(hub.load().services, 0);
}

async fn spliced(hub: &Hub) -> (DuplexStream, DuplexStream, Served) {
    let (mut one, first) = open(hub, 1, ports::RENDEZVOUS);
    one.write_all(&[9; 32]).await.unwrap();
    settle().await;
    let (mut other, second) = open(hub, 2, ports::RENDEZVOUS);
    other.write_all(&[9; 32]).await.unwrap();
    assert_eq!(second.await.unwrap(), Ok(()));
    (one, other, first)
}

#[tokio::test]
async fn two_with_one_cookie_are_spliced_whoever_comes_first() {
    let hub = hub(|_| {});
    let (mut one, mut other, served) = spliced(&hub).await;
    assert_eq!((hub.load().cookies, hub.load().streams), (0, 2));
    one.write_all(b"there").await.unwrap();
    assert_eq!(&read::<5>(&mut other).await, b"there");
    one.shutdown().await.unwrap();
    assert_eq!(other.read(&mut [0; 1]).await.unwrap(), 0, "the end of a half passes");
    other.write_all(b"back").await.unwrap();
    other.shutdown().await.unwrap();
    assert_eq!(&read::<4>(&mut one).await, b"back", "and the other half goes on");
    assert_eq!(served.await.unwrap(), Ok(()));
    assert_eq!(hub.load(), HubLoad::default());
}

#[tokio::test]
async fn what_came_before_the_second_one_is_not_lost() {
    let hub = hub(|_| {});
    let (mut one, _first) = open(&hub, 1, ports::RENDEZVOUS);
    one.write_all(&[9; 32]).await.unwrap();
    one.write_all(&[1; 3000]).await.unwrap();
    settle().await;
    let (mut other, _) = open(&hub, 2, ports::RENDEZVOUS);
    other.write_all(&[9; 32]).await.unwrap();
    assert_eq!(read::<3000>(&mut other).await, [1; 3000]);
}

#[tokio::test(start_paused = true)]
async fn one_with_another_cookie_waits_in_vain() {
    let hub = hub(|_| {});
    let (mut one, first) = open(&hub, 1, ports::RENDEZVOUS);
    one.write_all(&[9; 32]).await.unwrap();
    let (mut other, second) = open(&hub, 2, ports::RENDEZVOUS);
    other.write_all(&[8; 32]).await.unwrap();
    for served in [first, second] {
        assert_eq!(served.await.unwrap(), Err(HubError::Timeout));
    }
    assert_eq!(one.read(&mut [0; 1]).await.unwrap(), 0);
}

#[tokio::test]
async fn whoever_leaves_while_waiting_leaves_room() {
    let hub = hub(|_| {});
    let (mut one, served) = open(&hub, 1, ports::RENDEZVOUS);
    one.write_all(&[9; 32]).await.unwrap();
    settle().await;
    assert_eq!(hub.load().cookies, 1);
    drop(one);
    assert!(matches!(served.await.unwrap(), Err(HubError::Stream(_))));
    assert_eq!(hub.load(), HubLoad::default());
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_stops_stops_the_sender_and_idle_streams_end() {
    let hub = hub(|_| {});
    let (mut one, mut other, served) = spliced(&hub).await;
    let flood = async {
        let mut sent = 0;
        while let Ok(Ok(count)) = timeout(Duration::from_secs(1), one.write(&[0; 1024])).await {
            sent += count;
        }
        sent
    };
    let sent = flood.await;
    assert!((1..=64 * 1024).contains(&sent), "{sent} bytes are under way");
    assert_eq!(served.await.unwrap(), Err(HubError::Timeout));
    assert_eq!(hub.load(), HubLoad::default());
    let mut rest = Vec::new();
    other.read_to_end(&mut rest).await.unwrap();
    assert!(rest.len() <= sent);
}

/// One direction alone keeps a rendezvous alive.
#[tokio::test(start_paused = true)]
async fn a_busy_direction_keeps_the_quiet_one() {
    let hub = hub(|_| {});
    let (mut one, mut other, served) = spliced(&hub).await;
    for _ in 0..5 {
        tokio::time::sleep(HubLimits::default().idle / 2).await;
        one.write_all(b"x").await.unwrap();
        assert_eq!(&read::<1>(&mut other).await, b"x");
    }
    other.write_all(b"y").await.unwrap();
    assert_eq!(&read::<1>(&mut one).await, b"y");
    assert!(!served.is_finished());
}

#[tokio::test]
async fn a_rendezvous_carries_a_bounded_number_of_bytes() {
    let hub = hub(|limits| limits.splice_bytes = 1000);
    let (mut one, mut other, served) = spliced(&hub).await;
    one.write_all(&[1; 1000]).await.unwrap();
    assert_eq!(read::<1000>(&mut other).await, [1; 1000]);
    other.write_all(&[1]).await.unwrap();
    assert_eq!(served.await.unwrap(), Err(HubError::Full("bytes of one rendezvous")));
}
