//! Runs 1 000 mesh nodes for 60 simulated seconds, twice with one seed, and compares the traces.
//!
//! `cargo run --release -p nonos-mesh --features testing --example sim [NODES] [SEED]`

#![expect(clippy::print_stdout, clippy::cast_possible_truncation, reason = "a command line program")]

use std::sync::Arc;
use std::time::Duration;

use nonos_identity::{NodeId, Timestamp};
use nonos_mesh::testing::{Report, SimConfig, Simulator};
use nonos_mesh::{BeaconBody, Capabilities, Check, Command, ItemKind, Verdict};

struct AcceptAll;

impl Check for AcceptAll {
    fn check(&self, _: ItemKind, _: &[u8], _: NodeId, _: Timestamp) -> Verdict {
        Verdict::Accept
    }
}

/// The process's CPU time so far, from the kernel's accounting in ticks of 10 ms.
fn cpu_secs() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|f| f.parse::<f64>().ok()).unwrap_or_default();
    (ticks(11) + ticks(12)) / 100.0
}

/// Items published in one run.
const ITEMS: u32 = 200;

fn run(nodes: usize, seed: u64) -> Report {
    let check: Arc<dyn Check> = Arc::new(AcceptAll);
    let config = SimConfig { nodes, seed, ..SimConfig::default() };
    let mut sim = Simulator::new(config, &check, |_, _| {});
    sim.run(Duration::from_secs(5));
    for node in 0..5 {
        let capabilities = Capabilities::VERIFIER.with_bandwidth_class(2);
        sim.command(node, Command::SetBeacon(BeaconBody { capabilities, ..BeaconBody::default() }));
    }
    let mut ids = Vec::new();
    for n in 0..ITEMS {
        let (kind, len) = match n % 10 {
            0..3 => (ItemKind::Receipt, 1500),
            3..8 => (ItemKind::Attestation, 600),
            _ => (ItemKind::Manifest, 8000),
        };
        let mut bytes = n.to_le_bytes().to_vec();
        bytes.resize(len, 0);
        ids.push(sim.publish(n as usize * 7919 % nodes, kind, bytes));
        sim.run(Duration::from_millis(200));
    }
    sim.run(Duration::from_secs(60).saturating_sub(sim.now()));
    let missing =
        (0..nodes).flat_map(|n| ids.iter().map(move |id| (n, id))).filter(|(n, id)| !sim.has(*n, id)).count();
    assert_eq!(missing, 0, "every item is at every node");
    sim.report()
}

fn main() {
    let mut arguments = std::env::args().skip(1).filter_map(|a| a.parse::<u64>().ok());
    let nodes = arguments.next().unwrap_or(1000) as usize;
    let seed = arguments.next().unwrap_or(1);
    let mut traces = Vec::new();
    for turn in 1..=2 {
        let before = cpu_secs();
        let report = run(nodes, seed);
        println!(
            "run {turn}: {nodes} nodes, {} s simulated, all {ITEMS} items at all nodes, {} events, {:.1} CPU s, \
             {:.2} bytes per delivered byte, p50 {} ms, p99 {} ms, trace {}",
            report.elapsed.as_secs(),
            report.events,
            cpu_secs() - before,
            report.sent_bytes as f64 / report.delivered_bytes as f64,
            report.p50.as_millis(),
            report.p99.as_millis(),
            report.trace,
        );
        traces.push(report.trace);
    }
    assert_eq!(traces.first(), traces.last(), "one seed, one trace");
    println!("traces are equal");
}
