//! The main job with real nodes on loopback.

use nonos_capsule::{CompileLimits, Compiler};
use nonos_node::Tamper;
use nonos_node::demo::{self, Options, Report};
use nonos_zk::Profile;

fn options() -> Options {
    Options {
        nodes: Options::NODES_MIN,
        capsule: None,
        input: Some(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md").into()),
        processes: false,
        tamper: None,
        kill_relay: false,
        profile: Profile::Lite,
        key_cache: Some(env!("CARGO_TARGET_TMPDIR").into()),
        compiler: Compiler::Child {
            program: env!("CARGO_BIN_EXE_nonos").into(),
            args: vec!["compile-worker".into()],
            limits: CompileLimits::default(),
        },
    }
}

/// The gates that the report says are proven.
fn proven(report: &Report) -> Vec<&str> {
    report.gates.iter().filter(|(_, view)| view.proven).map(|(gate, _)| *gate).collect()
}

fn run(options: &Options) -> Report {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let mut told = Vec::new();
    let outcome = runtime.block_on(demo::run(options, &mut |line| told.push(line.to_owned())));
    outcome.unwrap_or_else(|error| panic!("{error}\n{}", told.join("\n")))
}

#[test]
fn a_capsule_is_spread_run_proved_verified_scored_and_paid() {
    let report = run(&options());
    let (publisher, executor) = (&report.nodes[0].name, &report.nodes[1].name);
    assert_eq!(report.error, None);
    assert_eq!(report.status.as_deref(), Some("exit 0"));
    assert!(report.output.as_ref().is_some_and(|output| output.contains("node")), "{:?}", report.output);
    assert!(report.refused.is_empty(), "{:?}", report.refused);
    assert!(report.verified_by.len() >= report.nodes.len() - 2);
    assert!(report.digests_converged);
    for circuit in &report.circuits {
        assert_eq!(circuit.relays.len(), 3);
        assert!(
            !circuit.relays.contains(publisher) && !circuit.relays.contains(&circuit.owner),
            "{circuit:?}"
        );
    }
    let purposes: Vec<_> = report.circuits.iter().map(|circuit| circuit.purpose.as_str()).collect();
    assert_eq!(purposes, ["fetch 1", "fetch 2", "submit receipt", "claim fee"]);
    assert_eq!(report.ledger.sum, 0);
    assert!(report.ledger.chain_ok && report.ledger.balances[publisher] < 0);
    let trust = &report.trust[publisher][executor];
    assert!(trust.after > trust.before, "{trust:?}");
    assert_eq!(proven(&report), ["identity", "state"]);
}

/// Where there are six relays, no relay has both circuits of a fetch.
#[test]
fn the_circuits_of_a_fetch_share_no_relay() {
    let report = run(&Options { nodes: 9, ..options() });
    assert_eq!(report.error, None);
    let of = |purpose: &str| report.circuits.iter().find(|circuit| circuit.purpose == purpose);
    let (one, two) = (of("fetch 1").expect("a circuit"), of("fetch 2").expect("a circuit"));
    assert!(one.relays.iter().all(|relay| !two.relays.contains(relay)), "{:?} {:?}", one.relays, two.relays);
}

#[test]
fn profile_full_proves_all_three_gates() {
    let report = run(&Options { profile: Profile::Full, ..options() });
    assert_eq!(report.error, None);
    assert!(report.refused.is_empty(), "{:?}", report.refused);
    assert_eq!(proven(&report), ["hash", "identity", "state"]);
    let constraints: usize = report.gates.values().map(|view| view.constraints).sum();
    assert_eq!(constraints, nonos_zk::groth16::gate_sizes(Profile::Full).total());
    assert_eq!(report.receipt.map(|receipt| receipt.profile).as_deref(), Some("full"));
}

#[test]
fn equal_input_gives_equal_output_and_gas() {
    let (first, second) = (run(&options()), run(&options()));
    assert_eq!((first.output, first.gas), (second.output, second.gas));
    // Each job has a nonce of its own, so the runs are told apart.
    assert_ne!(first.exec_hash, second.exec_hash);
}

#[test]
fn a_forged_proof_is_refused_by_everybody_and_pays_nothing() {
    let report = run(&Options { tamper: Some(Tamper::Proof), ..options() });
    let (honest, culprit) = (report.nodes.len() - 1, &report.nodes[1].name);
    assert_eq!(report.refused.len(), honest, "{:?}", report.refused);
    for refusal in &report.refused {
        assert_eq!((refusal.check.as_str(), &refusal.culprit), ("proof", culprit));
        let trust = &report.trust[&refusal.by][culprit];
        assert!(trust.after < trust.before);
    }
    assert!(report.verified_by.is_empty() && proven(&report).is_empty());
    assert!(report.ledger.balances.values().all(|balance| *balance == 0), "{:?}", report.ledger);
}
