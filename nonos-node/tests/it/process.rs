//! Nodes as processes of their own.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nonos_identity::NodeId;
use nonos_node::{Client, Config, Event, Request, Response, SOCKET, init};

pub(crate) const PASSPHRASE: &str = "a passphrase";
const PATIENCE: Duration = Duration::from_secs(180);

/// A node as a process of its own; it ends with the test.
pub(crate) struct Process {
    pub(crate) id: NodeId,
    pub(crate) data_dir: PathBuf,
    child: Child,
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Process {
    /// Starts a node with settings for one machine; `config` has the rest.
    pub(crate) async fn start(root: &Path, name: &str, config: Config) -> Self {
        let data_dir = root.join(name);
        let config = Config {
            operator: name.into(),
            sync_interval_secs: 1,
            beacon_min_ms: 250,
            allow_insecure_dev_keys: true,
            key_cache: Some(root.join("keys")),
            ..config
        };
        let id = init::create(&data_dir, PASSPHRASE, &config).expect("a fresh directory").node_id();
        Self::spawn(id, data_dir).await
    }

    /// Ends the node as a power cut does, and starts it with other settings.
    pub(crate) async fn restart(self, change: impl FnOnce(&mut Config)) -> Self {
        let (id, data_dir) = (self.id, self.data_dir.clone());
        drop(self);
        let mut config = Config::load(&data_dir).expect("its settings");
        change(&mut config);
        config.save(&data_dir).expect("saved");
        Self::spawn(id, data_dir).await
    }

    async fn spawn(id: NodeId, data_dir: PathBuf) -> Self {
        let log = File::options().create(true).append(true).open(data_dir.join("log.txt")).expect("a log");
        let child = Command::new(env!("CARGO_BIN_EXE_nonos"))
            .args(["run", "--data-dir"])
            .arg(&data_dir)
            .env("NONOS_PASSPHRASE", PASSPHRASE)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the node starts");
        let node = Self { id, data_dir, child };
        let begin = Instant::now();
        while node.try_ask(&Request::Status).await.is_none() {
            assert!(begin.elapsed() < PATIENCE, "{id} does not answer");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        node
    }

    pub(crate) async fn try_ask(&self, request: &Request) -> Option<Response> {
        Client::connect(&self.data_dir.join(SOCKET)).await.ok()?.ask(request).await.ok()
    }

    pub(crate) async fn ask(&self, request: Request) -> Response {
        let response = self.try_ask(&request).await.expect("the node runs");
        assert!(!matches!(response, Response::Error { .. }), "{response:?}");
        response
    }

    pub(crate) async fn until(&self, what: &str, happened: impl Fn(&Event) -> bool) {
        let (begin, mut since) = (Instant::now(), 0);
        loop {
            let Response::Events { entries } = self.ask(Request::Events { since, wait_ms: 1_000 }).await
            else {
                panic!("no events")
            };
            if entries.iter().any(|entry| happened(&entry.event)) {
                return;
            }
            since = entries.last().map_or(since, |entry| entry.seq + 1);
            assert!(begin.elapsed() < PATIENCE, "{what} did not happen");
        }
    }
}

/// Joins the nodes to the first one, until all know all.
pub(crate) async fn mesh(nodes: &[&Process]) {
    let (first, rest) = nodes.split_first().expect("nodes");
    let Response::Ticket { ticket } = first.ask(Request::Ticket).await else { panic!("no ticket") };
    for node in rest {
        node.ask(Request::Join { ticket: ticket.clone() }).await;
    }
    let (begin, others) = (Instant::now(), rest.len());
    for node in nodes {
        loop {
            let Response::Status(status) = node.ask(Request::Status).await else { panic!("no status") };
            if status.links.len() == others && status.peers.len() == others && status.enrolled == others + 1 {
                break;
            }
            assert!(begin.elapsed() < PATIENCE, "{} does not know all nodes: {status:?}", node.id);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}
