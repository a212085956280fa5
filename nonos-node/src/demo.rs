//! The main job, end to end: real nodes on loopback spread, run, prove, verify, score and pay
//! one signed capsule on an input of the user's choice.

mod host;
mod plan;
mod report;
mod table;
mod watch;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use nonos_capsule::Compiler;
use nonos_zk::Profile;
use nonos_zk::groth16::{CacheError, KeyCache};

use crate::clock::millis;
use crate::config::Tamper;
use crate::control::{Books, Request, Response};
use crate::control_socket::ClientError;
use crate::event::Event;
use crate::pack::PackError;
use crate::tasks::blocking;
use crate::{InitError, StartError};

use host::Host;
use plan::{Part, Plan};
use report::Names;

pub use report::{
    CircuitView, GateView, LedgerView, NodeView, Phases, Rebuilt, ReceiptView, Refusal, Report, TrustView,
};
pub use table::text;

/// What to demonstrate.
#[derive(Clone, Debug)]
pub struct Options {
    /// Nodes in all, at least [`Options::NODES_MIN`].
    pub nodes: usize,
    /// A WASI command as `.wasm` or `.wat`, or a signed `.mod`; the bundled capsule if none.
    pub capsule: Option<PathBuf>,
    /// Input of the capsule; the README if none.
    pub input: Option<PathBuf>,
    /// Every node as an operating-system process.
    pub processes: bool,
    /// The lie one node tells.
    pub tamper: Option<Tamper>,
    /// Kills a relay while chunks flow.
    pub kill_relay: bool,
    /// Which circuit proves the run.
    pub profile: Profile,
    /// Where proving keys are kept from one demonstration to the next; if none, they are made anew.
    pub key_cache: Option<PathBuf>,
    /// Where the nodes in this process compile capsules; processes compile in children of theirs.
    pub compiler: Compiler,
}

impl Options {
    /// An executor, a publisher and three relays between them, with one to spare.
    pub const NODES_MIN: usize = 6;
    /// Every pair of nodes holds a link; this many still start within a minute on two cores.
    pub const NODES_MAX: usize = 24;
}

/// Why a demonstration did not come to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DemoError {
    /// Too few or too many nodes.
    #[error(
        "--nodes must be between {} and {}: three relays must stand between executor and publisher",
        Options::NODES_MIN,
        Options::NODES_MAX
    )]
    Nodes,
    /// The capsule or its input cannot be used.
    #[error(transparent)]
    Pack(#[from] PackError),
    /// A file cannot be read or written.
    #[error("cannot access {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// A data directory could not be set up.
    #[error(transparent)]
    Init(#[from] InitError),
    /// A node did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A process could not be started or ended.
    #[error("cannot run a node process")]
    Spawn(#[source] std::io::Error),
    /// A node's control socket failed.
    #[error(transparent)]
    Control(#[from] ClientError),
    /// A node refused a request.
    #[error("{node}: {message}")]
    Refused {
        /// The node.
        node: String,
        /// Its reason.
        message: String,
    },
    /// A node answered with something else than asked.
    #[error("a node answered with something else than asked")]
    Protocol,
    /// A node that was killed cannot answer.
    #[error("{0} was killed")]
    Killed(String),
    /// A phase took too long.
    #[error("phase `{phase}` did not end in time; still waiting for {waiting_for}")]
    Timeout {
        /// The phase.
        phase: &'static str,
        /// What had not happened.
        waiting_for: String,
    },
}

/// Runs the demonstration; `progress` gets one line per step.
///
/// # Errors
/// [`DemoError`] if the mesh itself did not do its work. A capsule that traps or cannot be
/// loaded is no error of the mesh: it is told in [`Report::error`].
pub async fn run(options: &Options, progress: &mut dyn FnMut(&str)) -> Result<Report, DemoError> {
    let plan = Plan::prepare(options)?;
    let mut demo = Demo {
        plan,
        hosts: Vec::new(),
        names: Names::default(),
        report: Report::default(),
        events: Vec::new(),
        began: Instant::now(),
        progress,
    };
    let outcome = demo.play(options).await;
    for host in std::mem::take(&mut demo.hosts) {
        host.stop().await;
    }
    outcome.map(|()| demo.report)
}

struct Demo<'a> {
    plan: Plan,
    hosts: Vec<Host>,
    names: Names,
    report: Report,
    /// Everything the nodes told so far: host index and event.
    events: Vec<(usize, Event)>,
    began: Instant,
    progress: &'a mut dyn FnMut(&str),
}

/// Longest time a phase may take.
const PATIENCE: Duration = Duration::from_secs(90);
/// Pause between looks at the nodes.
const LOOK: Duration = Duration::from_millis(15);
/// How long refusals are collected after the last one came.
const QUIET: Duration = Duration::from_secs(3);

impl Demo<'_> {
    async fn play(&mut self, options: &Options) -> Result<(), DemoError> {
        let keys = Instant::now();
        self.make_keys().await?;
        self.end_phase("keys", keys);

        let start = Instant::now();
        self.start(options).await?;
        self.end_phase("start", start);

        let mesh = Instant::now();
        self.join().await?;
        let before = self.books().await?;
        self.end_phase("mesh", mesh);

        let publish = Instant::now();
        self.publish().await?;
        self.end_phase("publish", publish);

        if options.tamper == Some(Tamper::Payload) {
            self.refuse_payload().await?;
        } else {
            self.execute(options).await?;
        }
        let settle = Instant::now();
        self.settle().await?;
        self.end_phase("settle", settle);

        let after = self.books().await?;
        self.conclude(&before, &after).await;
        self.report.elapsed_ms.0.push(("total", millis(self.began.elapsed())));
        Ok(())
    }

    /// Makes the proving keys before the first node would, and says that this takes a while.
    async fn make_keys(&mut self) -> Result<(), DemoError> {
        let (profile, dir) = (self.plan.profile, self.plan.key_cache.clone());
        let failed = |error: CacheError| DemoError::Start(StartError::Keys(error.to_string()));
        let cache = KeyCache::open_or_create(&dir).map_err(failed)?;
        // The executor reads them, and makes a damaged file anew.
        if cache.path(profile).exists() {
            return Ok(());
        }
        self.say(&format!("making development keys of profile {profile}, kept in {}", dir.display()));
        match blocking(move || cache.dev_keys(profile)).await {
            Some(made) => made.map(drop).map_err(failed),
            None => Err(DemoError::Protocol),
        }
    }

    async fn start(&mut self, options: &Options) -> Result<(), DemoError> {
        let count = options.nodes;
        for index in 0..count {
            let host = self.plan.boot(index, options).await?;
            self.names.insert(host.id, host.name.clone());
            self.say(&format!("{} is {} ({})", host.name, host.id.short(), host.role));
            self.hosts.push(host);
        }
        Ok(())
    }

    async fn join(&mut self) -> Result<(), DemoError> {
        let ticket = match self.host(0).ask(Request::Ticket).await? {
            Response::Ticket { ticket } => ticket,
            _ => return Err(DemoError::Protocol),
        };
        for host in self.hosts.iter().skip(1) {
            host.ask(Request::Join { ticket: ticket.clone() }).await?;
        }
        let others = self.hosts.len() - 1;
        self.until("mesh", async |demo| {
            for host in &demo.hosts {
                let status = host.status().await?;
                if status.links.len() < others || status.relays < others || status.enrolled < others + 1 {
                    return Ok(Some(format!(
                        "{} to know all nodes: {} links, {} relays, {} enrolled",
                        host.name,
                        status.links.len(),
                        status.relays,
                        status.enrolled
                    )));
                }
            }
            Ok(None)
        })
        .await?;
        let anonymity = self.host(0).status().await?.anonymity;
        self.say(&format!("{} nodes are linked by one ticket; anonymity: {anonymity}", self.hosts.len()));
        Ok(())
    }

    async fn publish(&mut self) -> Result<(), DemoError> {
        let request = Request::Publish { capsule: self.plan.capsule.clone(), input: self.plan.input.clone() };
        let publisher = Part::Publisher.index();
        let Response::Published { capsule, job } = self.host(publisher).ask(request).await? else {
            return Err(DemoError::Protocol);
        };
        self.report.capsule_id = Some(capsule);
        self.until("publish", async |demo| {
            let missing = demo
                .others(publisher)
                .find(|&index| !demo.saw(index, |event| matches!(event, Event::JobSeen { .. })));
            Ok(missing.map(|index| format!("{} to see the job", demo.host(index).name)))
        })
        .await?;
        let (capsule, job) = (capsule.to_string(), job.to_string());
        self.say(&format!("capsule {capsule:.16}... and job {job:.8}... are known to all nodes"));
        Ok(())
    }

    /// The executor fetches, runs and proves; all others verify.
    async fn execute(&mut self, options: &Options) -> Result<(), DemoError> {
        let executor = Part::Executor.index();
        let phase = Instant::now();
        if options.kill_relay {
            self.kill_relay().await?;
        }
        let fetched = |event: &Event| matches!(event, Event::Executed { .. } | Event::Failed { .. });
        self.until_event("fetch and run", executor, fetched).await?;
        let run_ms = self.find(executor, |event| match event {
            Event::Executed { elapsed_ms, .. } => Some(*elapsed_ms),
            _ => None,
        });
        let fetch_ms = millis(phase.elapsed()).saturating_sub(run_ms.unwrap_or(0));
        self.report.elapsed_ms.0.push(("fetch", fetch_ms));
        if let Some(reason) = self.find(executor, failure) {
            self.report.error = Some(reason);
            return Ok(());
        }
        let status = self.report.status.clone().unwrap_or_default();
        self.report.elapsed_ms.0.push(("run", run_ms.unwrap_or(0)));
        self.say(&format!("executor fetched the capsule over circuits and ran it: {status}"));
        if status != "exit 0" {
            self.report.error = Some(format!("it ended with: {status}"));
        }

        let phase = Instant::now();
        self.until_event("prove", executor, |event| {
            matches!(event, Event::Proved { .. } | Event::Failed { .. })
        })
        .await?;
        self.end_phase("prove", phase);
        if let Some(reason) = self.find(executor, failure) {
            self.report.error = Some(reason);
            return Ok(());
        }

        let phase = Instant::now();
        if options.tamper.is_some() {
            self.collect_refusals().await?;
        } else {
            self.until("spread", async |demo| {
                let missing = demo
                    .others(executor)
                    .find(|&index| !demo.saw(index, |event| matches!(event, Event::ReceiptVerified { .. })));
                Ok(missing.map(|index| format!("{} to verify the receipt", demo.host(index).name)))
            })
            .await?;
            let count = self.report.verified_by.len();
            self.say(&format!("the receipt went into gossip through a circuit; {count} nodes verified it"));
        }
        self.end_phase("spread", phase);
        Ok(())
    }

    /// Every honest node tries to fetch from the lying seeder.
    async fn refuse_payload(&mut self) -> Result<(), DemoError> {
        let phase = Instant::now();
        let Some(capsule) = self.report.capsule_id else { return Err(DemoError::Protocol) };
        for index in self.others(Part::Publisher.index()).filter(|&index| index != Part::Executor.index()) {
            self.host(index).ask(Request::Fetch { capsule }).await?;
        }
        self.collect_refusals().await?;
        self.end_phase("fetch", phase);
        Ok(())
    }

    async fn collect_refusals(&mut self) -> Result<(), DemoError> {
        let culprit = self.plan.culprit();
        self.until("refuse", async |demo| {
            let missing = demo
                .others(culprit)
                .find(|&index| !demo.saw(index, |event| matches!(event, Event::Refused { .. })));
            Ok(missing.map(|index| format!("{} to refuse", demo.host(index).name)))
        })
        .await?;
        tokio::time::sleep(QUIET).await;
        self.look().await?;
        let count = self.report.refused.len();
        self.say(&format!("honest nodes refused {count} times"));
        Ok(())
    }

    /// Kills a relay of the executor's first circuit as soon as a chunk has come through.
    async fn kill_relay(&mut self) -> Result<(), DemoError> {
        let executor = Part::Executor.index();
        self.until_event("fetch", executor, |event| matches!(event, Event::ChunkFetched { .. })).await?;
        let relay = self.find(executor, |event| match event {
            Event::CircuitBuilt(circuit) => circuit.relays.get(1).copied(),
            _ => None,
        });
        let Some(relay) = relay else { return Err(DemoError::Protocol) };
        let name = self.names.of(&relay);
        for host in &mut self.hosts {
            if host.name == name {
                host.kill().await?;
            }
        }
        self.say(&format!("{name}, the middle relay of a circuit in use, was killed"));
        self.report.killed = Some(name);
        Ok(())
    }

    /// Waits until fees are posted on both sides and all honest nodes hold the same state.
    async fn settle(&mut self) -> Result<(), DemoError> {
        let executor = Part::Executor.index();
        let paid = self.report.error.is_none() || self.report.exec_hash.is_some();
        let expect_fee = paid && self.plan.tamper.is_none() && self.report.receipt.is_some();
        self.until("settle", async |demo| {
            if expect_fee {
                let posted =
                    |event: &Event| matches!(event, Event::Posted { code, .. } if code == "execution");
                for index in [Part::Publisher.index(), executor] {
                    if !demo.saw(index, posted) {
                        return Ok(Some(format!("{} to post the execution fee", demo.host(index).name)));
                    }
                }
                let verdicts = demo.others(executor).count() - 1;
                let publisher = Part::Publisher.index();
                let bounties = demo.count(publisher, |event| matches!(event, Event::VerdictSeen { .. }));
                if bounties < verdicts {
                    return Ok(Some(format!("verdicts at the publisher: {bounties} of {verdicts}")));
                }
            }
            let mut digests = Vec::new();
            // A liar keeps the lie that all others refused.
            let liar = demo.plan.tamper.map(|_| demo.plan.culprit());
            for (_, host) in demo.hosts.iter().enumerate().filter(|(index, _)| Some(*index) != liar) {
                if host.is_alive() {
                    digests.push(host.status().await?.digests);
                }
            }
            if !digests.windows(2).all(|pair| pair.first() == pair.last()) {
                return Ok(Some("state digests to converge".into()));
            }
            let positions = demo.books().await?;
            let sum: i64 = positions.iter().flatten().map(|books| books.position).sum();
            Ok((sum != 0).then(|| format!("fees to stand on both sides; {sum} nano-mod stand on one")))
        })
        .await?;
        self.report.digests_converged = true;
        self.say("every fee stands in two journals, and honest nodes hold the same items");
        Ok(())
    }

    async fn books(&self) -> Result<Vec<Option<Books>>, DemoError> {
        let mut all = Vec::new();
        for host in &self.hosts {
            let books = match host.is_alive() {
                true => match host.ask(Request::Books).await? {
                    Response::Books(books) => Some(books),
                    _ => return Err(DemoError::Protocol),
                },
                false => None,
            };
            all.push(books);
        }
        Ok(all)
    }

    async fn conclude(&mut self, before: &[Option<Books>], after: &[Option<Books>]) {
        for host in &self.hosts {
            let alive = host.is_alive() && host.status().await.is_ok();
            let (name, role) = (host.name.clone(), host.role.clone());
            self.report.nodes.push(NodeView { name, id: host.id, role, alive });
        }
        self.report.show_gates();
        self.report.ledger.unit = "nano-mod";
        self.report.ledger.chain_ok = true;
        for ((host, before), after) in self.hosts.iter().zip(before).zip(after) {
            let (Some(before), Some(after)) = (before, after) else { continue };
            let ledger = &mut self.report.ledger;
            ledger.balances.insert(host.name.clone(), after.position);
            ledger.sum += after.position;
            ledger.chain_ok &= after.chain_ok;
            ledger.journals.insert(host.name.clone(), after.balances.clone());
            let view = self.report.trust.entry(host.name.clone()).or_default();
            for (peer, trust) in &after.trust {
                let was = before.trust.get(peer).map_or(trust.permille, |trust| trust.permille);
                let trust = TrustView {
                    before: was,
                    after: trust.permille,
                    state: trust.state.clone(),
                    explain: trust.explain.clone(),
                };
                view.insert(self.names.of(peer), trust);
            }
        }
    }
}

fn failure(event: &Event) -> Option<String> {
    match event {
        Event::Failed { what, reason } => Some(format!("{what}: {reason}")),
        _ => None,
    }
}
