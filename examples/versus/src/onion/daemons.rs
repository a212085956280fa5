//! Circuits between processes on this machine, beside those of a private Tor network on the same
//! loopback, in turn.
//!
//! Ours are a client, three relays and a server, a process each, with the links that `nonos-node`
//! has; the client counts what it receives and throws it away. Of Tor's all daemons count; who
//! fetches and who serves there is this process, which does not.

use std::path::Path;

use super::processes::{Process, cpu_of, link_all, path};
use super::tor::{Network, Scheduler, Way};
use crate::Failure;
use crate::report::{Better, Of, Row, count};

/// Circuits that a round builds: the time of a single one varies with each wakeup.
const BUILDS: usize = 40;
const MEGABYTE: f64 = 1e6;

/// Four links and four layers.
const FULL: &str = "3 relays and a server, processes";
/// Three links and three layers, as Tor has to an exit.
const SHORT: &str = "2 relays and a server, processes";

/// Transfers of one kind, round by round.
#[derive(Default)]
struct Transfers {
    /// MB/s.
    goodput: Vec<f64>,
    /// Milliseconds of processor time per MB, all processes.
    cpu: Vec<f64>,
    /// Milliseconds from asking for a stream to its first byte.
    first_byte: Vec<f64>,
}

impl Transfers {
    fn push(&mut self, bytes: usize, seconds: f64, cpu: f64, first_byte: f64) {
        let megabytes = count(bytes) / MEGABYTE;
        self.goodput.push(megabytes / seconds);
        self.cpu.push(cpu * 1e3 / megabytes);
        self.first_byte.push(first_byte * 1e3);
    }
}

/// Circuits that were built, round by round.
#[derive(Default)]
struct Builds {
    /// Milliseconds.
    wall: Vec<f64>,
    /// Milliseconds of processor time, all processes.
    cpu: Vec<f64>,
}

impl Builds {
    fn push(&mut self, seconds: &[f64], cpu: f64) {
        self.wall.push(seconds.iter().sum::<f64>() / count(seconds.len()) * 1e3);
        self.cpu.push(cpu / count(seconds.len()) * 1e3);
    }
}

/// Our five processes.
struct Ours {
    client: Process,
    hops: Vec<Process>,
    pids: Vec<u32>,
}

impl Ours {
    fn start() -> Result<Self, Failure> {
        let start = |number| Process::start(number, "/ip4/127.0.0.1/tcp/0", 0, None);
        let mut client = start(1)?;
        let mut hops: Vec<Process> = (2..=5).map(start).collect::<Result<_, _>>()?;
        let pids = [&client].into_iter().chain(&hops).map(Process::pid).collect();
        // A link for each two neighbours of the paths that are measured.
        client.dial(hops.first().ok_or("a path has hops")?)?;
        for at in 1..hops.len() {
            let (before, after) = hops.split_at_mut(at);
            if let (Some(near), Some(far)) = (before.last_mut(), after.first()) {
                near.dial(far)?;
            }
        }
        if let [_, second, _, server] = hops.as_mut_slice() {
            second.dial(server)?;
        }
        Ok(Self { client, hops, pids })
    }

    /// The descriptors of the first relays and of the server.
    fn path(&mut self, relays: usize) -> Result<Vec<String>, Failure> {
        let last = self.hops.len() - 1;
        let hops = self.hops.iter_mut().enumerate();
        path(hops.filter(|(at, _)| *at < relays || *at == last).map(|(_, hop)| hop))
    }

    fn builds(&mut self, builds: &mut Builds) -> Result<(), Failure> {
        let path = self.path(3)?;
        let before = cpu_of(&self.pids)?;
        let seconds: Vec<f64> =
            (0..BUILDS).map(|_| self.client.build(path.clone())).collect::<Result<_, _>>()?;
        builds.push(&seconds, cpu_of(&self.pids)? - before);
        Ok(())
    }

    fn transfer(&mut self, relays: usize, bytes: usize, into: &mut Transfers) -> Result<(), Failure> {
        let path = self.path(relays)?;
        self.client.build(path)?;
        self.client.fetch(1)?;
        let before = cpu_of(&self.pids)?;
        let fetched = self.client.fetch(bytes)?;
        into.push(bytes, fetched.seconds, cpu_of(&self.pids)? - before, fetched.first_byte);
        Ok(())
    }
}

/// A client, a service and the relays between them, linked each to each.
struct OurService {
    client: Process,
    /// It ends with the comparison.
    _server: Process,
    _relays: Vec<Process>,
    pids: Vec<u32>,
    address: String,
}

impl OurService {
    /// As with Tor: two relays and the rendezvous of the client's choice, three of the service's.
    fn start() -> Result<Self, Failure> {
        let start = |number| Process::start(number, "/ip4/127.0.0.1/tcp/0", 0, None);
        let mut all: Vec<Process> = (11..=18).map(start).collect::<Result<_, _>>()?;
        link_all(&mut all)?;
        let (mut client, mut server) = (all.remove(0), all.remove(0));
        let relays = path(all.iter_mut())?;
        client.learn(&relays, 2)?;
        server.learn(&relays, 3)?;
        let address = server.offer()?;
        let pids = [&client, &server].into_iter().chain(&all).map(Process::pid).collect();
        Ok(Self { client, _server: server, _relays: all, pids, address })
    }

    fn transfer(&mut self, bytes: usize, into: &mut Transfers) -> Result<(), Failure> {
        // The descriptor is at hand after that, as it is for the daemon.
        self.client.visit(&self.address, 1)?;
        let before = cpu_of(&self.pids)?;
        let fetched = self.client.visit(&self.address, bytes)?;
        into.push(bytes, fetched.seconds, cpu_of(&self.pids)? - before, fetched.first_byte);
        Ok(())
    }
}

fn transfer(network: &Network, way: Way, bytes: usize, into: &mut Transfers) -> Result<(), Failure> {
    // The circuit stands after that, as ours does.
    network.fetch(way, 1)?;
    let before = network.cpu()?;
    let fetched = network.fetch(way, bytes)?;
    into.push(bytes, fetched.seconds, network.cpu()? - before, fetched.first_byte);
    Ok(())
}

/// Compares transfers of so many bytes.
pub(super) fn compare(daemon: &Path, bytes: usize, rounds: usize) -> Result<Vec<Row>, Failure> {
    let network = Network::start(daemon)?;
    let mut ours = Ours::start()?;
    let (mut our_service, mut visits) = (OurService::start()?, Transfers::default());
    let (mut full, mut short) = (Transfers::default(), Transfers::default());
    let (mut exit, mut service) = (Transfers::default(), Transfers::default());
    let (mut vanilla_exit, mut vanilla_service) = (Transfers::default(), Transfers::default());
    let (mut builds, mut tor_builds) = (Builds::default(), Builds::default());
    for _ in 0..rounds {
        ours.builds(&mut builds)?;
        let before = network.cpu()?;
        let seconds = network.build(BUILDS)?;
        tor_builds.push(&seconds, network.cpu()? - before);

        ours.transfer(3, bytes, &mut full)?;
        ours.transfer(2, bytes, &mut short)?;
        our_service.transfer(bytes, &mut visits)?;
        for (scheduler, exit, service) in [
            (Scheduler::Default, &mut exit, &mut service),
            (Scheduler::Vanilla, &mut vanilla_exit, &mut vanilla_service),
        ] {
            network.schedule(scheduler)?;
            transfer(&network, Way::Exit, bytes, exit)?;
            transfer(&network, Way::Service, bytes, service)?;
        }
    }

    let tor = |what: &str| format!("{}, {what}", network.version());
    let mut rows = Vec::new();
    let beside = [
        (&exit, "3 relays to an exit, default scheduler"),
        (&vanilla_exit, "3 relays to an exit, Schedulers Vanilla"),
    ];
    for (theirs, what) in beside {
        let row = |path, figure, unit, better, ours: &[f64], theirs: &[f64]| {
            Row::paired(format!("{path}: {figure}"), unit, better, ours, tor(what), theirs)
        };
        rows.push(row(FULL, "CPU", "ms/MB", Better::Lower, &full.cpu, &theirs.cpu).target(Of::Ratio, 0.5));
        rows.push(row(FULL, "goodput", "MB/s", Better::Higher, &full.goodput, &theirs.goodput));
        rows.push(row(FULL, "first byte", "ms", Better::Lower, &full.first_byte, &theirs.first_byte));
        rows.push(row(SHORT, "CPU", "ms/MB", Better::Lower, &short.cpu, &theirs.cpu).target(Of::Ratio, 0.5));
        rows.push(row(SHORT, "goodput", "MB/s", Better::Higher, &short.goodput, &theirs.goodput));
    }
    let built = |figure, ours: &[f64], theirs: &[f64]| {
        let named = format!("circuit of 3 relays and a server: {figure}");
        Row::paired(named, "ms", Better::Lower, ours, tor("circuit of 3 relays by EXTENDCIRCUIT"), theirs)
    };
    rows.push(built("CPU", &builds.cpu, &tor_builds.cpu).target(Of::Ours, 4.0));
    rows.push(built("time", &builds.wall, &tor_builds.wall));
    let services = [(&service, "default scheduler"), (&vanilla_service, "Schedulers Vanilla")];
    for (theirs, what) in services {
        let row = |figure, unit, better, ours: &[f64], theirs: &[f64]| {
            Row::paired(format!("onion service: {figure}"), unit, better, ours, tor(what), theirs)
        };
        rows.push(row("CPU", "ms/MB", Better::Lower, &visits.cpu, &theirs.cpu).target(Of::Ratio, 0.25));
        rows.push(
            row("goodput", "MB/s", Better::Higher, &visits.goodput, &theirs.goodput).target(Of::Ratio, 10.0),
        );
        rows.push(row("first byte", "ms", Better::Lower, &visits.first_byte, &theirs.first_byte));
    }
    Ok(rows)
}
