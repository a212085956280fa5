//! A dispute between node processes: one lies about a checkpoint, and is found, judged and shunned.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use nonos_identity::{Digest, NodeId};
use nonos_node::{Config, Event, Request, Response, Roles, Tamper, init, pack};
use serde_json::Value;

use crate::process::{PASSPHRASE, Process, mesh};

const NETWORK: &str = "dispute";
/// The checkpoint that the liar lies about.
const LIE: u32 = 37;

/// 6 G gas: a node takes a checkpoint every 50 M, so about 120 in a second or two.
const COUNT: &str = r#"(module
  (memory (export "memory") 1)
  (func (export "_start") (local $i i32)
    (loop $again
      (i32.store (i32.and (local.get $i) (i32.const 0xfff8)) (local.get $i))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $again (i32.lt_u (local.get $i) (i32.const 456000000))))))"#;

impl Process {
    /// `nonos capsule dispute` on this node.
    fn dispute(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nonos"));
        command.args(["capsule", "dispute", "--data-dir"]).arg(&self.data_dir).args(args);
        command.stdin(Stdio::null()).output().expect("the command runs")
    }

    fn dispute_json(&self, args: &[&str]) -> Value {
        let output = self.dispute(&[args, &["--json"]].concat());
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    async fn trust(&self, peer: &NodeId) -> (u32, String) {
        let Response::Books(books) = self.ask(Request::Books).await else { panic!("no books") };
        let trust = books.trust.get(peer).expect("known");
        (trust.permille, trust.state.clone())
    }
}

fn config(roles: Roles, tamper: Option<Tamper>) -> Config {
    Config { network: NETWORK.into(), roles, answer_disputes: true, tamper, ..Config::default() }
}

async fn publish(publisher: &Process, root: &Path) -> Digest {
    let author = init::identity(&publisher.data_dir, PASSPHRASE).expect("its own keys");
    let wasm = pack::to_wasm(COUNT.as_bytes()).expect("valid text");
    let bytes = pack::pack_and_sign("count", wasm, &author, NETWORK).expect("a capsule");
    let (capsule, input) = (root.join("count.mod"), root.join("input"));
    std::fs::write(&capsule, bytes).expect("written");
    std::fs::write(&input, b"some input").expect("written");
    let Response::Published { job, .. } = publisher.ask(Request::Publish { capsule, input }).await else {
        panic!("not published")
    };
    job
}

#[test]
fn a_node_that_lies_about_checkpoint_37_of_120_is_found_judged_and_shunned() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(play());
}

#[expect(clippy::indexing_slicing, clippy::print_stdout, reason = "the body of the test above")]
async fn play() {
    let root = tempfile::tempdir().expect("a directory");
    let (root, executor) = (root.path(), Roles { executor: true, ..Roles::default() });
    let publisher = Process::start(root, "publisher", config(Roles::default(), None)).await;
    let liar = Process::start(root, "liar", config(executor, Some(Tamper::Checkpoint(LIE)))).await;
    let honest = Process::start(root, "honest", config(executor, None)).await;
    // Between any two nodes stand the other three.
    let [relay, other] =
        ["relay", "other"].map(|name| Process::start(root, name, config(Roles::default(), None)));
    let (relay, other) = (relay.await, other.await);
    mesh(&[&publisher, &liar, &honest, &relay, &other]).await;

    let job = publish(&publisher, root).await;
    for node in [&liar, &honest] {
        node.until("the run", |event| matches!(event, Event::Executed { .. })).await;
    }
    let (job, liar_id, honest_id) = (job.to_string(), liar.id.to_string(), honest.id.to_string());

    // The publisher is the referee of the two.
    let before = publisher.trust(&liar.id).await;
    let output = publisher.dispute(&[&job, "--peer", &honest_id, "--peer", &liar_id]);
    println!("{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let after = publisher.trust(&liar.id).await;
    assert_eq!((after.0, after.1.as_str()), (0, "suspended"), "{before:?}");
    assert_ne!(publisher.trust(&honest.id).await.1, "suspended");

    // The honest executor disputes on its own, with its own chain.
    let report = honest.dispute_json(&[&job, "--peer", &liar_id]);
    let rounds = report["rounds"].as_array().expect("rounds");
    assert!(rounds.len() <= 7, "{report}");
    let parties = report["parties"].as_array().expect("parties");
    let count = parties[0]["checkpoints"].as_u64().expect("a count");
    assert!((118..=123).contains(&count), "{report}");
    let outcome = &report["outcome"];
    assert_eq!((&outcome["outcome"], outcome["position"].as_u64()), (&"judged".into(), Some(LIE.into())));
    assert_eq!(report["rerun_checkpoints"].as_u64(), Some(u64::from(LIE) + 1), "no further than the slice");
    let lost = outcome["lost"].as_array().expect("lost");
    assert_eq!(lost.len(), 1, "{report}");
    assert_eq!(lost[0]["node"], liar_id.as_str());
    assert_eq!(honest.trust(&liar.id).await.0, 0);

    // A third node, which has never run it, believes nobody: it fetches, runs again and convicts.
    let charge = lost[0]["charge"].as_str().expect("a charge");
    assert_ne!(relay.trust(&liar.id).await.1, "suspended");
    let judged = relay.dispute_json(&["--charge", charge]);
    println!("{judged}");
    assert_eq!((&judged["node"], judged["position"].as_u64()), (&liar_id.as_str().into(), Some(LIE.into())));
    assert_eq!((relay.trust(&liar.id).await.0, judged["is_new"].as_bool()), (0, Some(true)));
    assert_eq!(relay.dispute_json(&["--charge", charge])["is_new"].as_bool(), Some(false));

    // A charge that somebody altered convicts nobody.
    let mut bytes = std::fs::read(charge).expect("there");
    let last = bytes.last_mut().expect("not empty");
    *last ^= 1;
    let forged = root.join("forged.charge");
    std::fs::write(&forged, bytes).expect("written");
    let refused = other.dispute(&["--charge", forged.to_str().expect("text")]);
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    assert_ne!(other.trust(&liar.id).await.1, "suspended");

    // Who did not run it is no party.
    let refused = honest.dispute(&[&job, "--peer", &relay.id.to_string()]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("holds no run"), "{refused:?}");
}
