//! Transfers over pipes of a given delay and rate, under virtual time.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use nonos_onion::link::ByteLink;
use nonos_onion::multipath::{
    Code, FetchError, FrameError, IDLE_TIMEOUT, MAX_PATHS, Object, PathFault, PathReport, Progress,
    REQUEST_TIMEOUT, STRIPE_BYTES, ServeError, ShardFault, Sink, fetch, serve,
};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, duplex, split};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

use crate::multipath::{CODES, context, noise};

const PIPE_BYTES: usize = 64 * 1024;
const MIB: f64 = 1_048_576.0;

/// A path: bytes of the server take `delay` and come at `rate` a second, until `limit` is reached.
#[derive(Clone, Copy)]
struct Shape {
    delay: Duration,
    rate: f64,
    limit: usize,
    /// What happens at the limit: the stream ends, or nothing ever comes again.
    ends: bool,
}

const GOOD: Shape =
    Shape { delay: Duration::from_millis(75), rate: 4.0 * MIB, limit: usize::MAX, ends: true };

/// Carries bytes in one direction.
async fn carry(mut from: ReadHalf<DuplexStream>, mut to: WriteHalf<DuplexStream>, shape: Shape) {
    let (queue, mut due) = mpsc::channel::<(Instant, Vec<u8>)>(4096);
    let take = async move {
        let mut buffer = vec![0; 16 * 1024];
        let mut carried = 0;
        while let Ok(read @ 1..) = from.read(&mut buffer).await {
            sleep(Duration::from_secs_f64(read as f64 / shape.rate)).await;
            carried += read;
            if carried > shape.limit {
                if !shape.ends {
                    std::future::pending::<()>().await;
                }
                break;
            }
            if queue.send((Instant::now() + shape.delay, buffer[..read].to_vec())).await.is_err() {
                break;
            }
        }
    };
    let give = async move {
        while let Some((at, bytes)) = due.recv().await {
            sleep_until(at).await;
            if to.write_all(&bytes).await.is_err() {
                break;
            }
        }
        let _ = to.shutdown().await;
    };
    tokio::join!(take, give);
}

/// The client's and the server's end of a path.
fn pipe(shape: Shape) -> (Box<dyn ByteLink>, DuplexStream) {
    let (client, near) = duplex(PIPE_BYTES);
    let (far, server) = duplex(PIPE_BYTES);
    let ((near_read, near_write), (far_read, far_write)) = (split(near), split(far));
    tokio::spawn(carry(near_read, far_write, Shape { limit: usize::MAX, ..shape }));
    tokio::spawn(carry(far_read, near_write, shape));
    (Box::new(client), server)
}

/// Paths of these shapes, each to a server of its own object.
fn paths(objects: &[(Shape, &Arc<Object>)]) -> Vec<Box<dyn ByteLink>> {
    let path = |(shape, object): &(Shape, &Arc<Object>)| {
        let (client, server) = pipe(*shape);
        let object = Arc::clone(object);
        tokio::spawn(async move { serve(server, &object).await });
        client
    };
    objects.iter().map(path).collect()
}

fn object(code: Code, len: usize) -> (Vec<u8>, Arc<Object>) {
    let bytes = noise(len, 6);
    let object = Object::from_bytes(context(), code, bytes.clone()).unwrap();
    (bytes, Arc::new(object))
}

/// The same manifest over other bytes.
fn liar(object: &Object) -> Arc<Object> {
    let len = usize::try_from(object.manifest().object_bytes()).unwrap();
    Arc::new(Object::new(object.manifest().clone(), Box::new(noise(len, 77))))
}

async fn run(paths: Vec<Box<dyn ByteLink>>, object: &Object, expected: &[u8]) -> (Vec<PathReport>, Duration) {
    let begin = Instant::now();
    let mut sink = Vec::new();
    let manifest = Arc::new(object.manifest().clone());
    let report = fetch(paths, manifest, &BTreeSet::new(), &mut sink).await.unwrap();
    assert!(sink == expected);
    (report.paths, begin.elapsed())
}

const SLOW: Shape = Shape { rate: 0.4 * MIB, ..GOOD };

#[tokio::test(start_paused = true)]
async fn a_path_that_is_ten_times_slower_slows_nothing() {
    for code in CODES {
        let (bytes, object) = object(code, 16 << 20);
        let two = paths(&[(GOOD, &object), (GOOD, &object)]);
        let (_, two) = run(two, &object, &bytes).await;
        let three = paths(&[(GOOD, &object), (GOOD, &object), (SLOW, &object)]);
        let (reports, three) = run(three, &object, &bytes).await;
        let ratio = three.as_secs_f64() / two.as_secs_f64();
        println!("{code:?}: two good paths {two:?}, a slow third {three:?}: ratio {ratio:.3}");
        assert!(ratio <= 1.1, "{code:?} {ratio}");
        // Two good paths are kept busy: 16 MiB at 8 MiB a second and two round trips.
        assert!(two < Duration::from_millis(2400), "{two:?}");
        assert!(reports.iter().all(|report| report.fault.is_none()), "{reports:?}");

        let equal = paths(&[(GOOD, &object), (GOOD, &object), (GOOD, &object)]);
        let (_, equal) = run(equal, &object, &bytes).await;
        let gain = two.as_secs_f64() / equal.as_secs_f64();
        println!("{code:?}: a good third path is {gain:.2} times faster");
        assert!(gain > 1.35, "{code:?} {gain}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_path_that_dies_stalls_or_lies_is_no_loss() {
    for code in CODES {
        let (bytes, object) = object(code, 8 << 20);
        let liar = liar(&object);
        let dies = Shape { limit: 700_000, ..GOOD };
        let stalls = Shape { ends: false, ..dies };
        let (closed, forged) = ("stream ended: unexpected end of file", "wrong digest");
        for bad in 0..3 {
            for (shape, other, fault) in
                [(dies, &object, Some(closed)), (stalls, &object, None), (GOOD, &liar, Some(forged))]
            {
                let mut all = [(GOOD, &object); 3];
                all[bad] = (shape, other);
                let (reports, took) = run(paths(&all), &object, &bytes).await;
                assert!(took < Duration::from_secs(2), "{code:?} {took:?}");
                for (path, report) in reports.iter().enumerate() {
                    let found = report.fault.map(|fault| fault.to_string());
                    let expected = fault.filter(|_| path == bad);
                    assert_eq!(found.is_some(), expected.is_some(), "{code:?} path {path}: {found:?}");
                    assert!(found.unwrap_or_default().ends_with(expected.unwrap_or_default()));
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_transfer_that_lost_all_paths_goes_on_where_it_stopped() {
    #[derive(Default)]
    struct Counted(Vec<u8>, Vec<Progress>, usize);
    impl Sink for Counted {
        fn keep(&mut self, offset: u64, bytes: &[u8]) -> std::io::Result<()> {
            self.2 += bytes.len();
            self.0.keep(offset, bytes)
        }
        fn progress(&mut self, progress: Progress) {
            self.1.push(progress);
        }
    }
    let (bytes, object) = object(Code::Xor2of3, 6 * STRIPE_BYTES + 100);
    let manifest = Arc::new(object.manifest().clone());
    let mut sink = Counted::default();
    let dies = (Shape { limit: 4 << 20, ..GOOD }, &object);
    let stalls = (Shape { ends: false, limit: 100_000, ..GOOD }, &object);
    let begin = Instant::now();
    let lost = fetch(paths(&[dies, stalls]), manifest.clone(), &BTreeSet::new(), &mut sink).await;
    let lost = lost.unwrap_err();
    assert!(begin.elapsed() < 2 * REQUEST_TIMEOUT);
    let FetchError::PathsLost { paths: reports, .. } = &lost else { panic!("{lost}") };
    assert_eq!(reports[0].fault, Some(PathFault::Closed(std::io::ErrorKind::UnexpectedEof)));
    assert_eq!(reports[1].fault, Some(PathFault::Timeout));
    let got = lost.got();
    assert!(!got.is_empty() && got.len() < 6, "{got:?}");

    fetch(paths(&[(GOOD, &object)]), manifest.clone(), &got, &mut sink).await.unwrap();
    assert!(sink.0 == bytes);
    assert_eq!(sink.2, bytes.len(), "no stripe was written twice");
    assert_eq!(sink.1.last(), Some(&Progress { done: 7, stripes: 7, paths: 1 }));

    let too_many = paths(&[(GOOD, &object); MAX_PATHS + 1]);
    let refused = fetch(too_many, manifest, &got, &mut sink).await;
    assert!(matches!(refused, Err(FetchError::TooManyPaths(9))));
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_fails_ends_the_transfer() {
    struct Full;
    impl Sink for Full {
        fn keep(&mut self, offset: u64, _: &[u8]) -> std::io::Result<()> {
            if offset == 0 { Ok(()) } else { Err(std::io::ErrorKind::StorageFull.into()) }
        }
    }
    let (_, object) = object(Code::Xor2of3, 3 * STRIPE_BYTES);
    let manifest = Arc::new(object.manifest().clone());
    let failed = fetch(paths(&[(GOOD, &object)]), manifest, &BTreeSet::new(), &mut Full).await.unwrap_err();
    assert!(matches!(failed, FetchError::Sink { .. }));
    assert_eq!(failed.got(), BTreeSet::from([0]));
}

#[tokio::test(start_paused = true)]
async fn a_server_bears_what_clients_send() {
    let (_, object) = object(Code::Xor2of3, 1000);
    let (mut client, server) = duplex(PIPE_BYTES);
    client.write_all(&[9; 38]).await.unwrap();
    assert!(matches!(serve(server, &object).await, Err(ServeError::Frame(FrameError::Kind(9)))));

    let (mut client, server) = duplex(PIPE_BYTES);
    client.write_all(&[1; 37]).await.unwrap();
    drop(client);
    let eof = std::io::ErrorKind::UnexpectedEof;
    assert!(matches!(serve(server, &object).await, Err(ServeError::Stream(kind)) if kind == eof));

    let (client, server) = duplex(PIPE_BYTES);
    let begin = Instant::now();
    assert!(matches!(serve(server, &object).await, Err(ServeError::Idle)));
    assert_eq!(begin.elapsed(), IDLE_TIMEOUT);
    drop(client);

    let (client, server) = duplex(PIPE_BYTES);
    drop(client);
    assert_eq!(serve(server, &object).await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_object_that_is_not_there_is_refused() {
    let (_, asked) = object(Code::Xor2of3, 1000);
    let (_, held) = object(Code::Xor2of3, 1001);
    let manifest = Arc::new(asked.manifest().clone());
    let lost = fetch(paths(&[(GOOD, &held)]), manifest, &BTreeSet::new(), &mut Vec::new()).await;
    let Err(FetchError::PathsLost { paths, .. }) = lost else { panic!("{lost:?}") };
    assert!(matches!(paths[0].fault, Some(PathFault::Refused(_))), "{paths:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_server_may_answer_anything(
        kind in 0..5_u8,
        right: bool,
        noise in prop::collection::vec(any::<u8>(), 0..600),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let fault = runtime.block_on(async {
            let (_, object) = object(Code::Xor2of3, 1000);
            let (client, mut server) = duplex(PIPE_BYTES);
            // The right header for the first shard asked for, before the wrong bytes.
            let header = if right { vec![2, 0, 0, 0, 0, 0, 0, 0, 1, 0xf4] } else { vec![kind] };
            server.write_all(&[&header[..], &noise].concat()).await.unwrap();
            server.shutdown().await.unwrap();
            let manifest = Arc::new(object.manifest().clone());
            let lost = fetch(vec![Box::new(client)], manifest, &BTreeSet::new(), &mut Vec::new()).await;
            let Err(FetchError::PathsLost { paths, got }) = lost else { panic!("{lost:?}") };
            assert!(got.is_empty());
            paths[0].fault
        });
        let bad = matches!(fault, Some(PathFault::Shard { fault: ShardFault::Digest, .. }));
        prop_assert_eq!(bad, right && noise.len() >= 500, "{:?}", fault);
        prop_assert!(fault.is_some() && fault != Some(PathFault::Timeout));
    }
}
