//! Nodes as processes, and what processes cost.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use nonos_identity::NodeId;

use super::node::{Answer, Ask, Fetched, Reached};
use super::switch::Switch;
use crate::Failure;

/// Processor time that the threads of processes have used so far, in seconds.
pub(super) fn cpu_of(pids: &[u32]) -> Result<f64, Failure> {
    let mut nanos = 0;
    for pid in pids {
        for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
            // What `stat` has is in ticks of 10 ms, and a transfer takes a relay few of them.
            // A thread that ended meanwhile is none of those that carry cells.
            let Ok(times) = fs::read_to_string(thread?.path().join("schedstat")) else { continue };
            nanos += times.split_whitespace().next().unwrap_or_default().parse::<u64>()?;
        }
    }
    Ok(nanos as f64 / 1e9)
}

/// A node, which ends with this value.
pub(super) struct Process {
    child: Child,
    /// Until the end: its end of file is what ends the child.
    asks: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    node: NodeId,
    ticket: String,
}

impl Process {
    /// Starts a node: of which number, where it listens, with how long an object, and in which
    /// network namespace if not in this one.
    pub(super) fn start(
        number: u8,
        listen: &str,
        object_bytes: usize,
        namespace: Option<&str>,
    ) -> Result<Self, Failure> {
        let program = std::env::current_exe()?;
        let mut command = match namespace {
            Some(namespace) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", namespace]).arg(program);
                command
            }
            None => Command::new(program),
        };
        command.args(["node", "--listen", listen]);
        command.args(["--number", &number.to_string(), "--object-bytes", &object_bytes.to_string()]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let asks = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().ok_or("the child has an output")?);
        let (node, ticket) = (NodeId::from_bytes([0; 32]), String::new());
        let mut process = Self { child, asks, answers, node, ticket };
        match process.hear()? {
            Answer::Ready { node, ticket } => (process.node, process.ticket) = (node, ticket),
            other => return Err(format!("the node is not ready: {other:?}").into()),
        }
        Ok(process)
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    fn hear(&mut self) -> Result<Answer, Failure> {
        let mut line = String::new();
        if self.answers.read_line(&mut line)? == 0 {
            return Err("a node ended".into());
        }
        match serde_json::from_str(&line)? {
            Answer::Failed(reason) => Err(reason.into()),
            answer => Ok(answer),
        }
    }

    fn ask(&mut self, ask: &Ask) -> Result<Answer, Failure> {
        let asks = self.asks.as_mut().ok_or("the node runs")?;
        serde_json::to_writer(&mut *asks, ask)?;
        writeln!(asks)?;
        asks.flush()?;
        self.hear()
    }

    /// Links this node to another.
    pub(super) fn dial(&mut self, other: &Self) -> Result<(), Failure> {
        self.ask(&Ask::Dial { node: other.node, ticket: other.ticket.clone() }).map(drop)
    }

    /// The seconds of a round trip to another host.
    pub(super) fn round_trip(&mut self, host: usize) -> Result<f64, Failure> {
        match self.ask(&Ask::RoundTrip { address: Switch::address(host) })? {
            Answer::RoundTrip { seconds } => Ok(seconds),
            other => Err(unexpected(&other)),
        }
    }

    fn describe(&mut self) -> Result<String, Failure> {
        match self.ask(&Ask::Describe)? {
            Answer::Descriptor(descriptor) => Ok(descriptor),
            other => Err(unexpected(&other)),
        }
    }

    /// Builds a circuit; yields the seconds that took.
    pub(super) fn build(&mut self, path: Vec<String>) -> Result<f64, Failure> {
        match self.ask(&Ask::Build { path })? {
            Answer::Built { seconds } => Ok(seconds),
            other => Err(unexpected(&other)),
        }
    }

    /// Fetches bytes over the circuit.
    pub(super) fn fetch(&mut self, bytes: usize) -> Result<Fetched, Failure> {
        match self.ask(&Ask::Fetch { bytes })? {
            Answer::Fetched(fetched) => Ok(fetched),
            other => Err(unexpected(&other)),
        }
    }

    /// Fetches the object over several circuits; yields the seconds that took, and the shards that
    /// came by each.
    pub(super) fn fetch_object(
        &mut self,
        bytes: usize,
        paths: Vec<Vec<String>>,
    ) -> Result<(f64, Vec<u64>), Failure> {
        match self.ask(&Ask::FetchObject { bytes, paths })? {
            Answer::FetchedObject { seconds, shards } => Ok((seconds, shards)),
            other => Err(unexpected(&other)),
        }
    }
}

impl Process {
    pub(super) const fn node(&self) -> NodeId {
        self.node
    }

    /// Has a node link to any of the others when a circuit wants to.
    pub(super) fn know<'a>(&mut self, others: impl IntoIterator<Item = &'a Self>) -> Result<(), Failure> {
        let nodes = others.into_iter().map(|other| (other.node, other.ticket.clone())).collect();
        self.ask(&Ask::Know { nodes }).map(drop)
    }

    /// Tells a node the relays, and how many of them its circuits have before their end.
    pub(super) fn learn(&mut self, relays: &[String], hops: u8) -> Result<(), Failure> {
        self.ask(&Ask::Learn { relays: relays.to_vec(), hops }).map(drop)
    }

    /// Reaches an onion service in four ways.
    pub(super) fn reach(&mut self, address: &str) -> Result<Reached, Failure> {
        match self.ask(&Ask::Reach { address: address.into() })? {
            Answer::Reached(reached) => Ok(reached),
            other => Err(unexpected(&other)),
        }
    }

    /// The relays at which a node's circuits begin.
    pub(super) fn guards(&mut self) -> Result<Vec<NodeId>, Failure> {
        match self.ask(&Ask::Guards)? {
            Answer::Guards(guards) => Ok(guards),
            other => Err(unexpected(&other)),
        }
    }

    /// The ports at which streams came to a node.
    pub(super) fn ports(&mut self) -> Result<BTreeSet<u16>, Failure> {
        match self.ask(&Ask::Ports)? {
            Answer::Ports(ports) => Ok(ports),
            other => Err(unexpected(&other)),
        }
    }

    /// Offers an onion service; yields its address.
    pub(super) fn offer(&mut self) -> Result<String, Failure> {
        match self.ask(&Ask::Offer)? {
            Answer::Offered(address) => Ok(address),
            other => Err(unexpected(&other)),
        }
    }

    /// Fetches bytes from an onion service.
    pub(super) fn visit(&mut self, address: &str, bytes: usize) -> Result<Fetched, Failure> {
        match self.ask(&Ask::Visit { address: address.into(), bytes })? {
            Answer::Fetched(fetched) => Ok(fetched),
            other => Err(unexpected(&other)),
        }
    }
}

fn unexpected(answer: &Answer) -> Failure {
    format!("a node answered {answer:?}").into()
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.asks.take());
        // It may be in the middle of something that it would finish first.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The descriptors of a path's hops, of this epoch.
pub(super) fn path<'a>(hops: impl IntoIterator<Item = &'a mut Process>) -> Result<Vec<String>, Failure> {
    hops.into_iter().map(Process::describe).collect()
}

/// Links each node to each other.
pub(super) fn link_all(nodes: &mut [Process]) -> Result<(), Failure> {
    for at in 1..nodes.len() {
        let (before, after) = nodes.split_at_mut(at);
        let Some(next) = after.first() else { break };
        before.iter_mut().try_for_each(|node| node.dial(next))?;
    }
    Ok(())
}
