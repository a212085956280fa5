use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nonos_identity::NodeId;
use tokio::process::{Child, Command};
use tokio::runtime::Runtime;

use crate::builder::NodeBuilder;
use crate::control::{Request, Response, SOCKET, Status};
use crate::control_socket::Client;
use crate::node::Node;

use super::DemoError;

/// How long a process gets until its control socket answers.
const BOOT_PATIENCE: Duration = Duration::from_secs(60);

/// One node of a demonstration: a task of this process, or a process of its own.
pub(super) struct Host {
    pub(super) id: NodeId,
    pub(super) name: String,
    pub(super) role: String,
    /// Next event to read.
    pub(super) cursor: u64,
    kind: Kind,
}

enum Kind {
    /// A node on a runtime of its own, so that ending the runtime ends it like a power cut.
    Task {
        node: Box<Node>,
        runtime: Box<Runtime>,
    },
    Process {
        child: Box<Child>,
        socket: PathBuf,
    },
    Killed,
}

impl Host {
    /// Starts a node in this process.
    pub(super) async fn task(name: String, role: String, builder: NodeBuilder) -> Result<Self, DemoError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name(&name)
            .enable_all()
            .build()
            .map_err(DemoError::Spawn)?;
        let started = runtime.spawn(builder.start()).await.map_err(|_| DemoError::Protocol)?;
        match started {
            Ok(node) => {
                let (id, node) = (node.id(), Box::new(node));
                Ok(Self { id, name, role, cursor: 0, kind: Kind::Task { node, runtime: Box::new(runtime) } })
            }
            Err(error) => {
                runtime.shutdown_background();
                Err(error.into())
            }
        }
    }

    /// Starts `nonos run` on a prepared data directory.
    pub(super) async fn process(
        id: NodeId,
        name: String,
        role: String,
        data_dir: &Path,
        passphrase_file: &Path,
    ) -> Result<Self, DemoError> {
        let program = std::env::current_exe().map_err(DemoError::Spawn)?;
        let log = std::fs::File::create(data_dir.join("log.txt")).map_err(DemoError::Spawn)?;
        let child = Command::new(program)
            .arg("run")
            .arg("--data-dir")
            .arg(data_dir)
            .arg("--passphrase-file")
            .arg(passphrase_file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .map_err(DemoError::Spawn)?;
        let socket = data_dir.join(SOCKET);
        let host = Self { id, name, role, cursor: 0, kind: Kind::Process { child: Box::new(child), socket } };
        let booted = tokio::time::timeout(BOOT_PATIENCE, async {
            while host.ask(Request::Status).await.is_err() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        booted.await.map_err(|_| DemoError::Timeout { phase: "start", waiting_for: host.name.clone() })?;
        Ok(host)
    }

    pub(super) const fn is_alive(&self) -> bool {
        !matches!(self.kind, Kind::Killed)
    }

    pub(super) async fn ask(&self, request: Request) -> Result<Response, DemoError> {
        let response = match &self.kind {
            Kind::Task { node, runtime } => {
                let node = node.clone();
                let answer = runtime.spawn(async move { node.handle(request).await }).await;
                answer.map_err(|_| DemoError::Killed(self.name.clone()))?
            }
            Kind::Process { socket, .. } => {
                let mut client = Client::connect(socket).await.map_err(DemoError::Control)?;
                client.ask(&request).await.map_err(DemoError::Control)?
            }
            Kind::Killed => return Err(DemoError::Killed(self.name.clone())),
        };
        match response {
            Response::Error { message } => Err(DemoError::Refused { node: self.name.clone(), message }),
            response => Ok(response),
        }
    }

    pub(super) async fn status(&self) -> Result<Status, DemoError> {
        match self.ask(Request::Status).await? {
            Response::Status(status) => Ok(status),
            _ => Err(DemoError::Protocol),
        }
    }

    /// Ends the node without a farewell, as a power cut would.
    pub(super) async fn kill(&mut self) -> Result<(), DemoError> {
        match std::mem::replace(&mut self.kind, Kind::Killed) {
            Kind::Task { runtime, .. } => runtime.shutdown_background(),
            Kind::Process { mut child, .. } => child.kill().await.map_err(DemoError::Spawn)?,
            Kind::Killed => {}
        }
        Ok(())
    }

    /// Ends the node in good order.
    pub(super) async fn stop(self) {
        match self.kind {
            Kind::Task { node, runtime } => {
                // A node that does not stop in time is ended with its runtime.
                let _ = tokio::time::timeout(Duration::from_secs(5), runtime.spawn(node.stop())).await;
                runtime.shutdown_background();
            }
            Kind::Process { ref socket, mut child } => {
                if let Ok(mut client) = Client::connect(socket).await {
                    // A node that is already gone has nothing left to stop.
                    let _ = client.ask(&Request::Stop).await;
                }
                if tokio::time::timeout(Duration::from_secs(5), child.wait()).await.is_err() {
                    let _ = child.kill().await;
                }
            }
            Kind::Killed => {}
        }
    }
}
