//! Onion services between node processes: a TCP server behind one node, its client behind another.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use nonos_node::{Config, Event, Forward, OnionService, Request, Response, Roles};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::command;
use crate::process::{Process, mesh};

/// The service's host, a visitor, a stranger, and relays enough for circuits between any two.
const NAMES: [&str; 7] = ["host", "visitor", "stranger", "one", "two", "three", "four"];
const BYTES: usize = 3 << 20;

fn config(onion_services: Vec<OnionService>) -> Config {
    Config { network: "services".into(), onion_services, ..Config::default() }
}

/// A server that sends back what it gets, until its client has ended.
async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut reader, mut writer) = stream.split();
                tokio::io::copy(&mut reader, &mut writer).await
            });
        }
    });
    address
}

async fn address(host: &Process, name: &str) -> String {
    let Response::Services { services, .. } = host.ask(Request::Services { of: None }).await else {
        panic!("no services")
    };
    services.into_iter().find(|service| service.name == name).expect("offered").address
}

async fn client_key(node: &Process, of: &str) -> String {
    match node.ask(Request::Services { of: Some(of.into()) }).await {
        Response::Services { client_key: Some(key), .. } => key,
        other => panic!("{other:?}"),
    }
}

async fn reach(node: &Process, target: &str) -> Result<u64, String> {
    match node.try_ask(&Request::Reach { target: target.into() }).await {
        Some(Response::Reached { elapsed_ms }) => Ok(elapsed_ms),
        Some(Response::Error { message }) => Err(message),
        other => panic!("{other:?}"),
    }
}

/// What goes through a connection and comes back.
async fn round_trip(through: SocketAddr, sent: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(through).await.expect("the forward listens");
    let (mut reader, mut writer) = stream.split();
    let mut received = Vec::new();
    let send = async {
        writer.write_all(sent).await.expect("sent");
        writer.shutdown().await.expect("ended");
    };
    let (_, read) = tokio::join!(send, reader.read_to_end(&mut received));
    read.expect("received to its end");
    received
}

#[test]
fn services_are_offered_found_and_visited_by_whom_they_allow() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(play());
}

#[expect(clippy::indexing_slicing, clippy::print_stdout, reason = "the body of the test above")]
async fn play() {
    let directory = tempfile::tempdir().expect("a directory");
    let root = directory.path();
    let to = echo().await;
    let service = |name: &str, clients| OnionService {
        name: name.into(),
        clients,
        forward: vec![Forward { port: 80, to }],
    };
    let offered = vec![service("public", Vec::new()), service("private", Vec::new())];
    let roles = Roles { relay: false, ..Roles::default() };
    let mut nodes = vec![Process::start(root, "host", Config { roles, ..config(offered) }).await];
    for name in NAMES.iter().skip(1) {
        nodes.push(Process::start(root, name, config(Vec::new())).await);
    }
    mesh(&nodes.iter().collect::<Vec<_>>()).await;

    // The key of a visitor depends on the address that it wants to visit.
    let private = address(&nodes[0], "private").await;
    let key = client_key(&nodes[1], &private).await;
    let host = nodes.remove(0).restart(|config| config.onion_services[1].clients = vec![key]).await;
    assert_eq!(address(&host, "private").await, private);
    let Response::Status(status) = nodes[0].ask(Request::Status).await else { panic!("no status") };
    assert_eq!(status.relays, NAMES.len() - 2, "the host is none");
    let Response::Ticket { ticket } = nodes[0].ask(Request::Ticket).await else { panic!("no ticket") };
    host.ask(Request::Join { ticket }).await;
    let [visitor, stranger, ..] = nodes.as_slice() else { panic!("six nodes") };
    for name in ["public", "private"] {
        host.until(
            "publication",
            |event| matches!(event, Event::ServicePublished { name: published, .. } if published == name),
        )
        .await;
    }
    let public = format!("{}:80", address(&host, "public").await);
    let private = format!("{private}:80");
    let refusal = reach(stranger, &private).await.expect_err("no key of the stranger is known");
    assert!(refusal.contains("not authorised"), "{refusal}");
    reach(visitor, &private).await.expect("its key is known");
    let cold = reach(visitor, &public).await.expect("a public service");
    let mut warm = Vec::new();
    for _ in 0..5 {
        warm.push(reach(visitor, &public).await.expect("again"));
    }
    println!("reached in {cold} ms, with the descriptor at hand in {warm:?} ms");

    let Response::Listening { listen } = visitor
        .ask(Request::Forward { target: public.clone(), listen: "127.0.0.1:0".parse().expect("an address") })
        .await
    else {
        panic!("no listener")
    };
    let sent: Vec<u8> = (0..BYTES).map(|at| u8::try_from(at * 31 % 251).unwrap_or_default()).collect();
    assert!(round_trip(listen, &sent).await == sent, "bytes were lost or changed");
    let closed = Request::Forward {
        target: public.replace(":80", ":81"),
        listen: "127.0.0.1:0".parse().expect("an address"),
    };
    let Response::Listening { listen } = visitor.ask(closed).await else { panic!("no listener") };
    let begin = Instant::now();
    assert!(round_trip(listen, b"anybody?").await.is_empty(), "nothing is behind that port");
    assert!(begin.elapsed() < Duration::from_secs(20), "the visitor was left waiting");

    let refused = command::refused(
        &visitor.data_dir,
        &["onion", "forward", &public, "--listen", "0.0.0.0:0", "--data-dir", "."],
    );
    assert!(refused.contains("loopback"), "{refused}");
}
