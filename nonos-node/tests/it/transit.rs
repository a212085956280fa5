//! Relays paid for what they prove, between node processes that are cut off on the way.

use std::path::Path;
use std::time::{Duration, Instant};

use nonos_identity::{NodeId, WideDigest};
use nonos_ledger::AccountId;
use nonos_node::{
    Books, Circuits, Config, Event, Request, Response, Status, Tamper, TransitView, init, pack,
};
use nonos_zk::Profile;

use crate::process::{PASSPHRASE, Process, mesh};

const NETWORK: &str = "transit";
/// Far more than the circuits of the test carry.
const DEMANDED: u16 = 64;
/// 1 nano-mod for each KiB, at the default price.
const NANO_PER_BATCH: i64 = 256;
const CAPSULE_BYTES: usize = 4 << 20;
const PATIENCE: Duration = Duration::from_secs(120);

fn config(circuits: Circuits, tamper: Option<Tamper>) -> Config {
    Config { network: NETWORK.into(), profile: Profile::Lite, circuits, tamper, ..Config::default() }
}

fn proving() -> Circuits {
    Circuits { prove_transit: true, ..Circuits::default() }
}

/// Publishes a capsule whose data do not compress.
async fn publish(publisher: &Process, root: &Path) -> WideDigest {
    let author = init::identity(&publisher.data_dir, PASSPHRASE).expect("its own keys");
    let mut state = 1_u32;
    let byte = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        format!("\\{:02x}", state >> 24)
    };
    let data: String = (0..CAPSULE_BYTES).map(byte).collect();
    let text = format!(
        r#"(module (memory (export "memory") 80) (data (i32.const 0) "{data}") (func (export "_start")))"#
    );
    let wasm = pack::to_wasm(text.as_bytes()).expect("valid text");
    let bytes = pack::pack_and_sign("large", wasm, &author, NETWORK).expect("a capsule");
    let (capsule, input) = (root.join("large.mod"), root.join("input"));
    std::fs::write(&capsule, bytes).expect("written");
    std::fs::write(&input, b"some input").expect("written");
    let Response::Published { capsule, .. } = publisher.ask(Request::Publish { capsule, input }).await else {
        panic!("not published")
    };
    capsule
}

impl Process {
    async fn status(&self) -> Status {
        match self.ask(Request::Status).await {
            Response::Status(status) => status,
            other => panic!("{other:?}"),
        }
    }

    async fn transit(&self) -> TransitView {
        self.status().await.transit.expect("the settings ask for it")
    }

    async fn books(&self) -> Books {
        match self.ask(Request::Books).await {
            Response::Books(books) => books,
            other => panic!("{other:?}"),
        }
    }

    /// What the journal of this node says that it owes another one.
    async fn owes(&self, node: &NodeId) -> i64 {
        let books = self.books().await;
        assert!(books.chain_ok);
        let account = AccountId::Node(*node).to_string();
        books.balances.get(&account).copied().unwrap_or_default()
    }

    async fn join(&self, ticket: &str) {
        self.ask(Request::Join { ticket: ticket.into() }).await;
    }
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let begin = Instant::now();
    while !holds().await {
        assert!(begin.elapsed() < PATIENCE, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[test]
fn relays_are_paid_exactly_for_what_they_prove_across_power_cuts_and_a_liar_nothing() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(play());
}

#[expect(clippy::print_stdout, reason = "the body of the test above")]
async fn play() {
    let root = tempfile::tempdir().expect("a directory");
    let root = root.path();
    let demanding = Circuits { transit_batches: DEMANDED, ..Circuits::default() };
    let client = Process::start(root, "client", config(demanding, None)).await;
    let publisher = Process::start(root, "publisher", config(Circuits::default(), None)).await;
    // All three are in every circuit between the two.
    let honest = Process::start(root, "honest", config(proving(), None)).await;
    let other = Process::start(root, "other", config(proving(), None)).await;
    let liar = Process::start(root, "liar", config(proving(), Some(Tamper::Transit))).await;
    mesh(&[&publisher, &client, &honest, &other, &liar]).await;
    assert_eq!(publisher.status().await.transit, None);
    assert!(!publisher.data_dir.join("transit.redb").exists(), "off by default");

    let capsule = publish(&publisher, root).await;
    client.until("the job", |event| matches!(event, Event::JobSeen { .. })).await;
    client.ask(Request::Fetch { capsule }).await;
    // Two circuits of three relays each, written down before anybody is asked.
    until("debts", async || client.transit().await.debts == 6).await;
    let proven = |view: TransitView| i64::try_from(view.proven_batches).expect("few");
    let (first, second) = (proven(honest.transit().await), proven(other.transit().await));
    assert!(first >= 15 && second >= 15, "{first} and {second} batches of 4 MiB over two circuits");

    // The power of the payer and of a relay fails before any of it is settled.
    assert_eq!(client.transit().await.paid_batches, 0);
    let client = client.restart(|_| {}).await;
    let honest = honest.restart(|_| {}).await;
    assert_eq!(client.transit().await.debts, 6);
    assert_eq!(proven(honest.transit().await), first);
    let Response::Ticket { ticket } = publisher.ask(Request::Ticket).await else { panic!("no ticket") };
    client.join(&ticket).await;
    honest.join(&ticket).await;
    until("settlement", async || client.transit().await.debts == 0).await;

    let view = client.transit().await;
    println!("proven {first} and {second} batches; {view:?}");
    assert_eq!(i64::try_from(view.paid_batches), Ok(first + second));
    assert_eq!((view.refused, view.lapsed), (2, 0), "one proof for each circuit");
    for (relay, batches) in [(&honest, first), (&other, second), (&liar, 0)] {
        let (earned, owed) = (relay.books().await.position, client.owes(&relay.id).await);
        assert_eq!((earned, owed), (batches * NANO_PER_BATCH, batches * NANO_PER_BATCH));
    }
    let id = liar.id;
    client
        .until("the refusal", |event| {
            matches!(event, Event::Refused { what, check, from }
                if what == "proof of transit" && check == "share" && *from == id)
        })
        .await;

    // Nothing is owed any more, so another power cut pays nothing twice.
    let client = client.restart(|_| {}).await;
    client.join(&ticket).await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    let view = client.transit().await;
    assert_eq!((view.debts, view.paid_batches), (0, 0), "{view:?}");
    assert_eq!(client.owes(&honest.id).await, first * NANO_PER_BATCH);
    assert_eq!(honest.books().await.position, first * NANO_PER_BATCH);
}
