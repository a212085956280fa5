//! Runs: WASI, determinism, checkpoints, replay, nonces, policies.

use nonos_capsule::testing::MemoryNonceStore;
use nonos_capsule::{
    ClockMode, Execution, HostCall, HostCallSet, LoadError, NonceStore as _, Policy, RandomMode, ReplayError,
    RunError, Status, TrapCode, replay,
};
use nonos_identity::{NodeId, WideDigest};

use crate::support::{
    command, import, invocation, load, policy, run, run_wat, runtime, signed, verified, wasm,
};

/// Copies standard input to standard output through a 16-byte buffer.
const CAT: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    (loop $again
      (i32.store (i32.const 0) (i32.const 16))
      (i32.store (i32.const 4) (i32.const 16))
      (drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
      (if (i32.load (i32.const 8)) (then
        (i32.store (i32.const 4) (i32.load (i32.const 8)))
        (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
        (br $again))))))"#;

/// Counts to a million, so that there are checkpoints on the way; the sum ends in memory.
const COUNT: &str = r#"(module
  (memory (export "memory") 1)
  (global $sum (mut i64) (i64.const 0))
  (func (export "_start") (local $i i32)
    (loop $again
      (global.set $sum (i64.add (global.get $sum) (i64.extend_i32_u (local.get $i))))
      (i64.store (i32.and (local.get $i) (i32.const 0xfff8)) (global.get $sum))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $again (i32.lt_u (local.get $i) (i32.const 100000))))))"#;

#[test]
fn input_becomes_output() {
    let input = b"the quick brown fox jumps over the lazy dog";
    let execution = run_wat(CAT, input);
    assert_eq!(execution.status, Status::Exit(0));
    assert_eq!(execution.output, input);
    assert_eq!(execution.output_digest, WideDigest::of_bytes(input));
    assert_eq!(execution.peak_pages, 1);
    assert_eq!(execution.host_calls, HostCallSet::of(&[HostCall::FdRead, HostCall::FdWrite]));
    assert_eq!(execution.exec_hash, execution.compute_hash());
    assert_eq!(execution.checkpoints.len(), 2, "beginning and end");
}

#[test]
fn the_same_invocation_gives_the_same_execution() {
    let first = run(&load(COUNT, policy()), &invocation(b"x")).unwrap();
    let second = run(&load(COUNT, policy()), &invocation(b"x")).unwrap();
    assert_eq!(first, second);
    assert!(first.checkpoints.len() > 10, "{} checkpoints", first.checkpoints.len());
    assert!(first.status.is_success());
}

#[test]
fn everything_that_enters_moves_the_whole_chain() {
    let loaded = load(COUNT, policy());
    let base = invocation(b"x");
    let first = run(&loaded, &base).unwrap();
    let others = [
        nonos_capsule::Invocation { nonce: [2; 32], ..base.clone() },
        nonos_capsule::Invocation { input: b"y".to_vec(), ..base.clone() },
        nonos_capsule::Invocation { caller: NodeId::from_bytes([8; 32]), ..base.clone() },
        nonos_capsule::Invocation { args: vec!["a".to_owned()], ..base.clone() },
        nonos_capsule::Invocation { env: vec![("a".to_owned(), String::new())], ..base.clone() },
        nonos_capsule::Invocation { clock: nonos_identity::Timestamp::from_secs(1), ..base.clone() },
        nonos_capsule::Invocation { network: nonos_identity::NetworkId::from_name("other"), ..base },
    ];
    for other in others {
        let second = run(&loaded, &other).unwrap();
        assert_ne!(first.exec_hash, second.exec_hash);
        let links = first.checkpoints.iter().zip(&second.checkpoints);
        assert!(links.into_iter().all(|(a, b)| a != b), "{other:?}");
    }
}

#[test]
fn replay_confirms_and_names_the_first_difference() {
    let loaded = load(COUNT, policy());
    let invocation = invocation(b"x");
    let execution = run(&loaded, &invocation).unwrap();
    replay(&loaded, &invocation, &execution).unwrap();

    let diverges = |forged: &Execution| match replay(&loaded, &invocation, forged) {
        Err(ReplayError::Diverged { checkpoint }) => checkpoint as usize,
        other => panic!("{other:?}"),
    };
    let count = execution.checkpoints.len();
    for place in [0, 5, count - 1] {
        let mut forged = execution.clone();
        forged.checkpoints[place] = WideDigest::of_bytes(b"forged");
        assert_eq!(diverges(&forged), place);
    }
    let forged = Execution { output: b"more".to_vec(), ..execution.clone() };
    assert_eq!(diverges(&forged), count);
    let forged = Execution { gas_used: execution.gas_used - 1, ..execution };
    assert_eq!(diverges(&forged), count);
}

#[test]
fn a_nonce_runs_once() {
    let loaded = load(CAT, policy());
    let nonces = MemoryNonceStore::default();
    let invocation = invocation(b"x");
    let key = invocation.nonce_key(&loaded.capsule_id());
    assert!(!nonces.is_used(&key).unwrap());
    loaded.run(&invocation, &nonces).unwrap();
    assert!(nonces.is_used(&key).unwrap());
    assert!(matches!(loaded.run(&invocation, &nonces), Err(RunError::NonceUsed)));
    // Another caller has nonces of its own.
    let other = nonos_capsule::Invocation { caller: NodeId::from_bytes([8; 32]), ..invocation };
    loaded.run(&other, &nonces).unwrap();
}

#[test]
fn a_run_that_traps_spends_its_nonce_too() {
    let loaded = load(&command("", "unreachable"), policy());
    let nonces = MemoryNonceStore::default();
    let invocation = invocation(b"");
    let execution = loaded.run(&invocation, &nonces).unwrap();
    assert_eq!(execution.status, Status::Trap(TrapCode::Unreachable));
    assert!(matches!(loaded.run(&invocation, &nonces), Err(RunError::NonceUsed)));
}

#[test]
fn a_call_outside_the_policy_ends_the_run() {
    let allowed = Policy { host_calls: HostCallSet::of(&[HostCall::FdRead]), ..policy() };
    let execution = run(&load(CAT, allowed), &invocation(b"x")).unwrap();
    assert_eq!(execution.status, Status::HostDenied(HostCall::FdWrite as u8));
    assert_eq!(execution.host_calls, HostCallSet::of(&[HostCall::FdRead]));
    assert!(execution.output.is_empty());
}

#[test]
fn the_operator_narrows_the_policy() {
    let capsule = verified(signed(&wasm(CAT), policy()));
    let operator = Policy { host_calls: HostCallSet::EMPTY, gas_limit: 5_000, ..policy() };
    let loaded = runtime().load(&capsule, &operator).unwrap();
    assert_eq!(loaded.policy().gas_limit, 5_000);
    let execution = run(&loaded, &invocation(b"x")).unwrap();
    assert_eq!(execution.status, Status::HostDenied(HostCall::FdRead as u8));
    let no_gas = Policy { gas_limit: 0, ..policy() };
    assert!(matches!(runtime().load(&capsule, &no_gas), Err(LoadError::Policy(_))));
}

#[test]
fn too_much_output_is_a_quota_and_keeps_what_was_written() {
    let limit = Policy { output_max_bytes: 20, ..policy() };
    let execution = run(&load(CAT, limit), &invocation(&[b'x'; 64])).unwrap();
    assert_eq!(execution.status, Status::Quota);
    assert_eq!(execution.output, [b'x'; 16]);
}

#[test]
fn exit_codes_pass() {
    let execution = run_wat(&command(&import(HostCall::ProcExit), "(call $proc_exit (i32.const 42))"), b"");
    assert_eq!(execution.status, Status::Exit(42));
    assert!(!execution.status.is_success());
}

/// Runs a call, then writes the first 64 bytes of memory to standard output.
fn dump(call: HostCall, call_text: &str, policy: Policy) -> Execution {
    let wat = command(
        &(import(call) + &import(HostCall::FdWrite)),
        &format!(
            "{call_text}
             (i32.store (i32.const 100) (i32.const 0)) (i32.store (i32.const 104) (i32.const 64))
             (drop (call $fd_write (i32.const 1) (i32.const 100) (i32.const 1) (i32.const 108)))"
        ),
    );
    let mut invocation = invocation(b"input");
    invocation.args = vec!["cat".to_owned(), "-v".to_owned()];
    invocation.env = vec![("HOME".to_owned(), "/".to_owned())];
    run(&load(&wat, policy), &invocation).unwrap()
}

#[test]
fn arguments_and_environment() {
    let sizes = "(drop (call $args_sizes_get (i32.const 0) (i32.const 4)))";
    assert_eq!(dump(HostCall::ArgsSizesGet, sizes, policy()).output[..8], [2, 0, 0, 0, 7, 0, 0, 0]);
    let args = "(drop (call $args_get (i32.const 0) (i32.const 16)))";
    let output = dump(HostCall::ArgsGet, args, policy()).output;
    assert_eq!(output[..8], [16, 0, 0, 0, 20, 0, 0, 0]);
    assert_eq!(output[16..23], *b"cat\0-v\0");
    let environ = "(drop (call $environ_get (i32.const 0) (i32.const 16)))";
    assert_eq!(dump(HostCall::EnvironGet, environ, policy()).output[16..23], *b"HOME=/\0");
}

#[test]
fn the_clock_is_logical() {
    let clock = "(drop (call $clock_time_get (i32.const 0) (i64.const 0) (i32.const 0)))";
    let start = crate::support::NOW.as_secs() * 1_000_000_000;
    let at = |mode| {
        let output = dump(HostCall::ClockTimeGet, clock, Policy { clock: mode, ..policy() }).output;
        u64::from_le_bytes(*output.first_chunk().unwrap())
    };
    assert_eq!(at(ClockMode::Frozen), start);
    let logical = at(ClockMode::Logical);
    assert!((start + 1..start + 10_000).contains(&logical), "{}", logical - start);
}

#[test]
fn random_bytes_follow_the_invocation() {
    let random = "(drop (call $random_get (i32.const 0) (i32.const 32)))";
    let first = dump(HostCall::RandomGet, random, policy());
    assert_ne!(first.output[..32], [0; 32]);
    assert_eq!(first, dump(HostCall::RandomGet, random, policy()));
    let wat = command(
        &(import(HostCall::RandomGet) + &import(HostCall::ProcExit)),
        "(call $proc_exit (call $random_get (i32.const 0) (i32.const 32)))",
    );
    let none = Policy { random: RandomMode::None, ..policy() };
    assert_eq!(run(&load(&wat, none), &invocation(b"")).unwrap().status, Status::Exit(58));
}

#[test]
fn a_sleep_moves_the_clock_and_costs_no_time() {
    let imports =
        import(HostCall::PollOneoff) + &import(HostCall::ClockTimeGet) + &import(HostCall::ProcExit);
    let body = "
        (drop (call $clock_time_get (i32.const 1) (i64.const 0) (i32.const 200)))
        (i32.store (i32.const 16) (i32.const 1))
        (i64.store (i32.const 24) (i64.const 3600000000000))
        (drop (call $poll_oneoff (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128)))
        (drop (call $clock_time_get (i32.const 1) (i64.const 0) (i32.const 208)))
        (call $proc_exit (i32.wrap_i64 (i64.div_u
          (i64.sub (i64.load (i32.const 208)) (i64.load (i32.const 200))) (i64.const 1000000000))))";
    assert_eq!(run_wat(&command(&imports, body), b"").status, Status::Exit(3_600));
}

#[test]
fn there_are_no_files_and_no_sockets() {
    let exits_with = |call: HostCall, args: &str| {
        let imports = import(call) + &import(HostCall::ProcExit);
        let body = format!("(call $proc_exit (call ${call} {args}))");
        run_wat(&command(&imports, &body), b"").status
    };
    let zeros = |call: HostCall, fd: u32| {
        let zero = |kind| if kind == 'I' { " (i64.const 0)" } else { " (i32.const 0)" };
        format!("(i32.const {fd})") + &call.params().chars().skip(1).map(zero).collect::<String>()
    };
    let errno = |call: HostCall, fd: u32| exits_with(call, &zeros(call, fd));
    assert_eq!(errno(HostCall::FdPrestatGet, 3), Status::Exit(8));
    assert_eq!(errno(HostCall::PathOpen, 3), Status::Exit(8));
    assert_eq!(errno(HostCall::PathOpen, 0), Status::Exit(54));
    assert_eq!(errno(HostCall::SockSend, 0), Status::Exit(57));
    assert_eq!(errno(HostCall::SockShutdown, 3), Status::Exit(8));
    assert_eq!(errno(HostCall::FdSeek, 1), Status::Exit(70));
    assert_eq!(errno(HostCall::FdRead, 1), Status::Exit(8));
    assert_eq!(errno(HostCall::FdClose, 1), Status::Exit(0));
}

#[test]
fn a_start_function_runs_first_and_is_metered() {
    let wat = r#"(module
      (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
      (global $seen (mut i32) (i32.const 0))
      (func $init (global.set $seen (i32.const 5)))
      (start $init)
      (func (export "_start") (call $proc_exit (global.get $seen))))"#;
    assert_eq!(run_wat(wat, b"").status, Status::Exit(5));
    let endless = r#"(module (func $init (loop $l (br $l))) (start $init) (func (export "_start")))"#;
    assert_eq!(run_wat(endless, b"").status, Status::Trap(TrapCode::OutOfGas));
}

#[test]
fn full_pools_fall_back() {
    let loaded = load(COUNT, policy());
    let reference = run(&loaded, &invocation(b"x")).unwrap();
    std::thread::scope(|scope| {
        let runs: Vec<_> = (0..6).map(|_| scope.spawn(|| run(&loaded, &invocation(b"x")))).collect();
        for run in runs {
            assert_eq!(run.join().unwrap().unwrap(), reference);
        }
    });
}

/// Pooled memories are used again; nothing of one run is there in the next.
#[test]
fn a_run_finds_nothing_of_the_one_before() {
    let body = "(local i32) (local.set 0 (i32.or (i32.load (i32.const 8)) (i32.load (i32.const 190000))))
        (i32.store (i32.const 8) (i32.const 1)) (i32.store (i32.const 190000) (i32.const 2))
        (call $proc_exit (local.get 0))";
    let import = import(HostCall::ProcExit);
    let loaded = load(&format!(r#"(module {import} (memory 3) (func (export "_start") {body}))"#), policy());
    for _ in 0..8 {
        assert_eq!(run(&loaded, &invocation(b"")).unwrap().status, Status::Exit(0));
    }
}
