use std::sync::Arc;
use std::time::Duration;

use nonos_mesh::testing::{SimConfig, Simulator};
use nonos_mesh::{BeaconBody, Check, Command, Config, Event, ItemId, ItemKind, Verdict};

use crate::support::{Always, Honest};

const SECOND: Duration = Duration::from_secs(1);

fn honest() -> Arc<dyn Check> {
    Arc::new(Honest)
}

fn publish_some(sim: &mut Simulator, nodes: usize, count: u32, from: u32) -> Vec<ItemId> {
    (from..from + count)
        .map(|n| {
            let kind = if n % 3 == 0 { ItemKind::Receipt } else { ItemKind::App(7) };
            let bytes = [&n.to_le_bytes()[..], &[0; 500]].concat();
            let id = sim.publish(n as usize * 31 % nodes, kind, bytes);
            sim.run(Duration::from_millis(50));
            id
        })
        .collect()
}

fn missing(sim: &Simulator, nodes: impl Iterator<Item = usize> + Clone, ids: &[ItemId]) -> usize {
    ids.iter().map(|id| nodes.clone().filter(|n| !sim.has(*n, id)).count()).sum()
}

#[test]
fn one_seed_one_trace_and_every_item_everywhere() {
    let run = |seed| {
        let config = SimConfig { nodes: 60, seed, ..SimConfig::default() };
        let mut sim = Simulator::new(config, &honest(), |_, _| {});
        sim.run(3 * SECOND);
        let ids = publish_some(&mut sim, 60, 40, 0);
        sim.run(5 * SECOND);
        assert_eq!(missing(&sim, 0..60, &ids), 0, "seed {seed}");
        sim.report()
    };
    let (first, second) = (run(1), run(1));
    assert_eq!(first, second, "seed 1");
    assert_ne!(first.trace, run(2).trace);
    assert_eq!(first.deliveries, 40 * 59);
    assert!(first.p99 < 2 * SECOND, "p99 {:?}", first.p99);
}

#[test]
fn lost_frames_are_repaired() {
    let config = SimConfig { nodes: 30, loss_per_million: 100_000, seed: 3, ..SimConfig::default() };
    let mut sim =
        Simulator::new(config, &honest(), |_, config: &mut Config| config.sync.interval = 2 * SECOND);
    sim.run(3 * SECOND);
    let ids = publish_some(&mut sim, 30, 30, 0);
    sim.run(40 * SECOND);
    assert_eq!(missing(&sim, 0..30, &ids), 0, "seed 3");
}

#[test]
fn a_partition_heals_by_anti_entropy() {
    let config = SimConfig { nodes: 40, seed: 4, ..SimConfig::default() };
    let mut sim = Simulator::new(config, &honest(), |_, _| {});
    sim.run(3 * SECOND);
    sim.partition(|node| u32::from(node >= 20));
    let ids = publish_some(&mut sim, 40, 60, 0);
    sim.run(8 * SECOND);
    assert!(missing(&sim, 0..40, &ids) >= 60 * 20, "nothing crosses a partition");
    (0..40).for_each(|n| drop(sim.take_events(n)));
    sim.heal();
    sim.run(60 * SECOND);
    assert_eq!(missing(&sim, 0..40, &ids), 0, "seed 4");
    let first = sim.mesh(0).digests();
    for node in 1..40 {
        assert_eq!(sim.mesh(node).digests(), first);
    }
    let converged = (0..40).flat_map(|n| sim.take_events(n)).any(|e| matches!(e, Event::Converged { .. }));
    assert!(converged);
}

#[test]
fn black_holes_do_not_stop_items() {
    let config = SimConfig { nodes: 50, seed: 5, ..SimConfig::default() };
    let mut sim = Simulator::new(config, &honest(), |_, _| {});
    // Three in ten take everything in and pass nothing on.
    let hole = |n: usize| n % 10 < 3;
    let ignore: Arc<dyn Check> = Arc::new(Always(Verdict::Ignore));
    (0..50).filter(|n| hole(*n)).for_each(|n| sim.set_check(n, ignore.clone()));
    sim.run(3 * SECOND);
    let ids: Vec<_> = (0..20u32)
        .map(|n| {
            let id = sim.publish(3 + n as usize % 7, ItemKind::Receipt, n.to_le_bytes().to_vec());
            sim.run(Duration::from_millis(100));
            id
        })
        .collect();
    sim.run(30 * SECOND);
    assert_eq!(missing(&sim, (0..50).filter(|n| !hole(*n)), &ids), 0, "seed 5");
}

#[test]
fn a_spammer_is_dropped_and_its_items_go_nowhere() {
    let config = SimConfig { nodes: 20, seed: 6, ..SimConfig::default() };
    let mut sim = Simulator::new(config, &honest(), |_, _| {});
    sim.set_check(0, Arc::new(Always(Verdict::Accept)));
    sim.run(3 * SECOND);
    let neighbours = sim.mesh(0).links().len();
    assert!(neighbours > 4);
    let spammer = sim.mesh(0).node();
    let ids: Vec<_> = (0..60u32)
        .map(|n| {
            let id = sim.publish(0, ItemKind::Receipt, [b"bad", &n.to_le_bytes()[..]].concat());
            sim.run(Duration::from_millis(100));
            id
        })
        .collect();
    sim.run(20 * SECOND);
    assert_eq!(missing(&sim, 1..20, &ids), 60 * 19, "no honest node stores a bad item");
    assert!(sim.mesh(0).links().len() < neighbours, "those who were pushed bad items closed the link");
    for node in 1..20 {
        for event in sim.take_events(node) {
            if let Event::Rejected { from, reason, .. } = event {
                assert_eq!((from, reason), (spammer, "content"), "only the spammer is blamed");
            }
        }
    }
    let good = sim.publish(1, ItemKind::Receipt, b"good".to_vec());
    sim.run(15 * SECOND);
    assert_eq!(missing(&sim, 1..20, &[good]), 0, "the others go on");
}

#[test]
fn crashed_neighbours_are_noticed_and_replaced_by_dialling() {
    let config = SimConfig { nodes: 12, dials_per_node: 1, seed: 7, ..SimConfig::default() };
    let mut sim = Simulator::new(config, &honest(), |_, config: &mut Config| {
        config.links.target_links = 16;
        config.links.silence_timeout = 8 * SECOND;
        config.links.ping_interval = 2 * SECOND;
        config.links.exchange_interval = SECOND;
    });
    // One ring makes sure that the random graph is connected.
    (0..12).for_each(|n| sim.connect(n, (n + 1) % 12));
    sim.run(20 * SECOND);
    for node in 0..12 {
        assert_eq!(sim.mesh(node).links().len(), 11, "a small mesh is a full mesh");
    }
    sim.crash(3);
    sim.run(20 * SECOND);
    for node in (0..12).filter(|n| *n != 3) {
        assert_eq!(sim.mesh(node).links().len(), 10);
    }
}

#[test]
fn beacons_reach_everybody_and_grow_rare() {
    let config = SimConfig { nodes: 20, seed: 8, ..SimConfig::default() };
    let mut sim = Simulator::new(config, &honest(), |_, _| {});
    sim.run(2 * SECOND);
    for node in 0..20 {
        let body = BeaconBody { onion: vec![node as u8; 35], ..BeaconBody::default() };
        sim.command(node, Command::SetBeacon(body));
    }
    sim.run(10 * SECOND);
    for node in 0..20 {
        let peers = sim.mesh(node).peers();
        assert_eq!(peers.iter().filter(|p| p.beacon.is_some()).count(), 19, "node {node}");
    }
    let count = |sim: &mut Simulator| -> usize {
        let events = (0..20).flat_map(|n| sim.take_events(n));
        events.filter(|e| matches!(e, Event::Beacon { .. })).count()
    };
    count(&mut sim);
    sim.run(600 * SECOND);
    let refreshes = count(&mut sim) / 19;
    assert!(refreshes < 20 * 6, "{refreshes} refreshes in ten minutes");
    sim.crash(0);
    let gone = sim.take_events(0);
    drop(gone);
    sim.run(2 * 3600 * SECOND);
    assert_eq!(
        sim.mesh(1).peers().iter().filter(|p| p.beacon.is_some()).count(),
        18,
        "the crashed one expired"
    );
}

#[test]
fn forgotten_items_do_not_come_back() {
    let config = SimConfig { nodes: 10, seed: 9, ..SimConfig::default() };
    let mut sim = Simulator::new(config, &honest(), |_, config: &mut Config| config.sync.interval = SECOND);
    sim.run(2 * SECOND);
    let id = sim.publish(0, ItemKind::Manifest, b"old".to_vec());
    sim.run(5 * SECOND);
    assert!(sim.has(5, &id));
    sim.command(5, Command::Forget(id));
    sim.run(20 * SECOND);
    assert!(!sim.has(5, &id));
    assert!(sim.has(6, &id));
}
