//! Hostile payloads: each ends as a named error or a deterministic result within its gas.

use std::fmt::Write as _;

use nonos_capsule::{Aborted, HostCall, LoadError, Policy, ProfileError, RunError, Status, TrapCode};

use crate::support::{command, import, invocation, load, policy, run, run_wat, try_load, wasm};

fn refused(wat: &str) -> LoadError {
    try_load(&wasm(wat), policy()).unwrap_err()
}

fn trap(body: &str) -> TrapCode {
    match run_wat(&command("", body), b"").status {
        Status::Trap(code) => code,
        other => panic!("{other}"),
    }
}

#[test]
fn endless_loops_run_out_of_gas() {
    assert_eq!(trap("(loop $l (br $l))"), TrapCode::OutOfGas);
    let execution = run_wat(&command("", "(loop $l (br $l))"), b"");
    assert_eq!(execution.gas_used, policy().gas_limit, "nobody pays beyond the signed limit");
}

#[test]
fn an_endless_start_function_runs_out_of_gas() {
    let wat = r#"(module (func $f (loop $l (br $l))) (start $f) (func (export "_start")))"#;
    let execution = run_wat(wat, b"");
    assert_eq!(execution.status, Status::Trap(TrapCode::OutOfGas));
    assert_eq!(execution.gas_used, policy().gas_limit);
}

/// A stretch of calls has no check of its own; the functions it calls must not let it run far.
#[test]
fn calls_in_a_row_do_not_outrun_the_limit() {
    let work = "(drop (i32.add (i32.const 1) (i32.const 2)))".repeat(10_000);
    let calls = "(call $long)".repeat(20_000);
    let execution =
        run_wat(&format!(r#"(module (func $long {work}) (func (export "_start") {calls}))"#), b"");
    assert_eq!(execution.status, Status::Trap(TrapCode::OutOfGas));
    // The limit is a hundred checkpoints away; without looks inside there would be none on the way.
    assert!(execution.checkpoints.len() > 70, "{}", execution.checkpoints.len());
}

#[test]
fn endless_recursion_meets_the_stack_limit_on_every_frame_size() {
    let recursion = r#"(module (func $f (export "_start") (call $f)))"#;
    assert_eq!(run_wat(recursion, b"").status, Status::Trap(TrapCode::StackLimit));
    // Large frames whose locals are all alive across the call.
    let mut set = String::new();
    for local in 0..1_000 {
        write!(set, "(local.set {} (i64.add (local.get 0) (i64.const {local})))", local + 1).unwrap();
    }
    // A flat sum keeps nesting of the text out of the way.
    let mut flat = "(i64.const 0)".to_owned();
    for local in 0..1_000 {
        write!(flat, "(local.get {}) (i64.add)", local + 1).unwrap();
    }
    let wide = format!(
        r#"(module (func $f (param i64) (result i64) (local {}) {set}
             (drop (call $f (i64.add (local.get 0) (i64.const 1)))) {flat})
           (func (export "_start") (drop (call $f (i64.const 0)))))"#,
        "i64 ".repeat(1_000)
    );
    assert_eq!(run_wat(&wide, b"").status, Status::Trap(TrapCode::StackLimit));
}

#[test]
fn memory_bombs_get_minus_one_and_then_run_out_of_gas() {
    let execution = run_wat(&command("", "(loop $l (drop (memory.grow (i32.const 1))) (br $l))"), b"");
    assert_eq!(execution.status, Status::Trap(TrapCode::OutOfGas));
    assert_eq!(execution.peak_pages, policy().memory_pages_max);
    let all_at_once = "(call $proc_exit (i32.add (i32.const 7) (memory.grow (i32.const -1))))";
    assert_eq!(run_wat(&command(&import(HostCall::ProcExit), all_at_once), b"").status, Status::Exit(6));
}

#[test]
fn bulk_operations_pay_per_byte() {
    let fill = "(loop $l (memory.fill (i32.const 0) (i32.const 1) (i32.const 65536)) (br $l))";
    let execution = run_wat(&command("", fill), b"");
    assert_eq!(execution.status, Status::Trap(TrapCode::OutOfGas));
    assert_eq!(trap("(memory.fill (i32.const 0) (i32.const 1) (i32.const -1))"), TrapCode::OutOfGas);
    assert_eq!(
        trap("(memory.copy (i32.const 0) (i32.const 1) (i32.const 65536))"),
        TrapCode::MemoryOutOfBounds
    );
}

#[test]
fn declared_sizes_beyond_the_policy_do_not_load() {
    let memory = r#"(module (memory 65536) (func (export "_start")))"#;
    assert!(matches!(refused(memory), LoadError::Declared { what: "memory pages", declared: 65_536, .. }));
    let table = r#"(module (table 10000000 funcref) (func (export "_start")))"#;
    assert!(matches!(refused(table), LoadError::Declared { what: "table entries", .. }));
}

#[test]
fn unknown_imports_are_named() {
    let error = refused(r#"(module (import "env" "evil" (func)) (func (export "_start")))"#);
    assert!(error.to_string().contains("env.evil"), "{error}");
    let typed = r#"(module (import "wasi_snapshot_preview1" "fd_read" (func)) (func (export "_start")))"#;
    assert_eq!(refused(typed), LoadError::ImportType { name: "fd_read".to_owned() });
    let memory = r#"(module (import "env" "memory" (memory 1)) (func (export "_start")))"#;
    assert!(matches!(refused(memory), LoadError::Profile(ProfileError::Feature { .. })));
}

#[test]
fn the_entry_must_be_there() {
    assert_eq!(refused("(module)"), LoadError::Entry("_start".to_owned()));
    let typed = r#"(module (func (export "_start") (param i32)))"#;
    assert_eq!(refused(typed), LoadError::Entry("_start".to_owned()));
}

#[test]
fn truncated_modules_do_not_load() {
    // Without names in the text there is no custom section, which a cut could drop unnoticed.
    let module = wasm(&command("", "(drop (i32.load (i32.const 0)))"));
    for len in 1..module.len() {
        // A cut between two sections may leave a valid module, but none with an entry.
        match try_load(&module[..len], policy()) {
            Err(LoadError::Profile(_) | LoadError::Entry(_)) => {}
            other => panic!("{len}: {other:?}"),
        }
    }
}

/// Machine code of wasmtime, a packed module, another magic: nothing but a module is a payload.
#[test]
fn what_is_no_module_does_not_load() {
    let module = wasm(&command("", "(nop)"));
    let compiled = wasmtime::Engine::default().precompile_module(&module).unwrap();
    let gzip = [&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3][..], &module].concat();
    let component = [&b"\0asm\x0d\0\x01\0"[..], &module[8..]].concat();
    for payload in [compiled, gzip, component, b"\0wasm".to_vec()] {
        match try_load(&payload, policy()) {
            Err(LoadError::Profile(ProfileError::Invalid { .. })) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn what_is_outside_the_profile_is_named() {
    let of = |wat: &str| match refused(wat) {
        LoadError::Profile(error) => error.to_string(),
        other => panic!("{other}"),
    };
    let shared = of(r#"(module (memory 1 1 shared) (func (export "_start")))"#);
    assert!(shared.contains("shared"), "{shared}");
    let memories = of(r#"(module (memory 1) (memory 1) (func (export "_start")))"#);
    assert!(memories.contains("second memory"), "{memories}");
    for (body, name) in [
        ("(atomic.fence)", "atomic_fence in function 0"),
        ("(table.set 0 (i32.const 0) (ref.null func))", "ref_null in function 0"),
        ("(table.copy (i32.const 0) (i32.const 0) (i32.const 0))", "table_copy in function 0"),
        ("(drop (i32x4.relaxed_trunc_f32x4_s (v128.const i64x2 0 0)))", "i32x4_relaxed_trunc_f32x4_s"),
        ("(return_call 0)", "return_call in function 0"),
        ("(drop (ref.i31 (i32.const 0)))", "ref_i31 in function 0"),
    ] {
        let error = of(&format!(r#"(module (table 1 funcref) (func (export "_start") {body}))"#));
        assert!(error.contains(name), "{error}");
    }
    assert!(of(r#"(module (tag) (func (export "_start")))"#).contains("exception"));
    assert!(of(r#"(module (memory i64 1) (func (export "_start")))"#).contains("64-bit"));
}

#[test]
fn reserved_names_are_refused() {
    for wat in [
        r#"(module (func (export "_start")) (func (export "__nonos_start")))"#,
        r#"(module (import "nonos" "tick" (func)) (func (export "_start")))"#,
        r#"(module (func (export "_start")) (global (export "__nonos_gas") (mut i64) (i64.const 0)))"#,
    ] {
        assert!(matches!(refused(wat), LoadError::Profile(ProfileError::ReservedName(_))), "{wat}");
    }
}

#[test]
fn caps_hold_before_anything_is_compiled() {
    let cap = |wat: &str| match refused(wat) {
        LoadError::Profile(ProfileError::Cap { what, .. }) => what,
        other => panic!("{other}"),
    };
    for count in [50_000, 100_000] {
        let functions = format!(r#"(module (func (export "_start")) {})"#, "(func)".repeat(count));
        assert_eq!(cap(&functions), "functions");
    }
    let nested =
        format!(r#"(module (func (export "_start") {} {}))"#, "block ".repeat(20_000), "end ".repeat(20_000));
    assert_eq!(cap(&nested), "nesting of blocks");
    let loops = "(loop)".repeat(2_000);
    let locals = format!(r#"(module (func (export "_start") (local {}) {loops}))"#, "i32 ".repeat(50_000));
    assert_eq!(cap(&locals), "parameters and locals");
    let body = format!(r#"(module (func (export "_start") {}))"#, "nop ".repeat(300_000));
    assert_eq!(cap(&body), "bytes of code");
    let targets =
        format!(r#"(module (func (export "_start") (br_table {} (i32.const 0))))"#, "0 ".repeat(20_000));
    assert_eq!(cap(&targets), "br_table targets");
}

#[test]
fn hostile_pointers_trap_in_every_call() {
    for call in HostCall::ALL.iter().copied().filter(|call| *call != HostCall::ProcExit) {
        for number in [-1i64, 65_535, 0x7fff_ffff] {
            let args: String = call
                .params()
                .chars()
                .map(|kind| {
                    if kind == 'I' {
                        format!("(i64.const {number})")
                    } else {
                        format!("(i32.const {number})")
                    }
                })
                .collect();
            // With every operand hostile, and with a valid descriptor and count before.
            for args in [args.clone(), args.replacen(&format!("(i32.const {number})"), "(i32.const 1)", 1)] {
                let body = format!("(drop (call ${call} {args}))");
                let status = run_wat(&command(&import(call), &body), b"input").status;
                assert!(
                    matches!(
                        status,
                        Status::Exit(0) | Status::Trap(TrapCode::BadPointer | TrapCode::OutOfGas)
                    ),
                    "{call} {args}: {status}"
                );
            }
        }
    }
    let random = "(drop (call $random_get (i32.const 65530) (i32.const 7)))";
    let execution = run_wat(&command(&import(HostCall::RandomGet), random), b"");
    assert_eq!(execution.status, Status::Trap(TrapCode::BadPointer));
    // A vector that lies beyond memory, in a list that does not.
    let write = "(i32.store (i32.const 0) (i32.const 65535)) (i32.store (i32.const 4) (i32.const 2))
        (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))";
    let execution = run_wat(&command(&import(HostCall::FdWrite), write), b"");
    assert_eq!(execution.status, Status::Trap(TrapCode::BadPointer));
}

#[test]
fn traps_have_our_codes() {
    assert_eq!(trap("(unreachable)"), TrapCode::Unreachable);
    assert_eq!(trap("(drop (i32.load (i32.const 65533)))"), TrapCode::MemoryOutOfBounds);
    assert_eq!(trap("(drop (i32.div_u (i32.const 1) (i32.const 0)))"), TrapCode::IntegerDivisionByZero);
    assert_eq!(trap("(drop (i32.div_s (i32.const 0x80000000) (i32.const -1)))"), TrapCode::IntegerOverflow);
    assert_eq!(trap("(drop (i32.trunc_f32_s (f32.const nan)))"), TrapCode::BadConversionToInteger);
    let indirect = |index: u32| {
        let wat = format!(
            r#"(module (table 2 funcref) (elem (i32.const 0) $f) (func $f (param i32))
                 (func (export "_start") (call_indirect (i32.const {index}))))"#
        );
        run_wat(&wat, b"").status
    };
    assert_eq!(indirect(0), Status::Trap(TrapCode::BadSignature));
    assert_eq!(indirect(1), Status::Trap(TrapCode::IndirectCallToNull));
    assert_eq!(indirect(2), Status::Trap(TrapCode::TableOutOfBounds));
    let segment = r#"(module (memory 1) (data (i32.const 65535) "xy") (func (export "_start")))"#;
    assert_eq!(run_wat(segment, b"").status, Status::Trap(TrapCode::MemoryOutOfBounds));
}

#[test]
fn the_wall_clock_aborts_and_is_no_result() {
    let patient = Policy { gas_limit: Policy::MAX_GAS, wall_ms_max: 20, ..policy() };
    let loaded = load(&command("", "(loop $l (br $l))"), patient);
    match run(&loaded, &invocation(b"")) {
        Err(RunError::Aborted(Aborted::WallClock(ms))) => assert!(ms >= 20),
        other => panic!("{other:?}"),
    }
}
