//! Libraries: capsules whose functions other capsules call. Every run is on both engines.

use nonos_capsule::testing::{MemoryCapsuleStore, MemoryNonceStore};
use nonos_capsule::{
    AotCache, Capsule, CapsuleStore as _, Compiler, Config, Dependency, Execution, HostCall, HostCallSet,
    Kind, LoadError, Loaded, Manifest, Policy, Resolved, Runtime, SignaturePolicy, SignerRole, Status,
    TrapCode, replay,
};

use crate::support::{
    DAY, NOW, author, command, import, interpreter, invocation, network, policy, run, runtime, verified, wasm,
};

fn seal(manifest: Manifest, policy: Policy, needs: &[(&str, &Capsule)], payload: Vec<u8>) -> Capsule {
    let need = |(name, capsule): &(&str, &Capsule)| Dependency {
        name: (*name).to_owned(),
        capsule: capsule.id(),
        mount: (capsule.manifest().kind == Kind::Image).then(|| "/data".to_owned()),
    };
    let mut capsule =
        Capsule::pack_with(manifest, policy, needs.iter().map(need).collect(), payload).unwrap();
    capsule.sign(SignerRole::Author, &author(), &network(), NOW, DAY).unwrap();
    capsule
}

fn library_with(needs: &[(&str, &Capsule)], wat: &str) -> Capsule {
    // The policy of a library plays no part.
    let nothing = Policy { gas_limit: 1, memory_pages_max: 0, host_calls: HostCallSet::EMPTY, ..policy() };
    seal(Manifest::dependency(Kind::Library, "library", "1.0.0"), nothing, needs, wasm(wat))
}

fn library(wat: &str) -> Capsule {
    library_with(&[], wat)
}

fn resolved(needs: &[(&str, &Capsule)], others: &[&Capsule], wat: &str, policy: Policy) -> Resolved {
    let store = MemoryCapsuleStore::default();
    for capsule in needs.iter().map(|(_, capsule)| *capsule).chain(others.iter().copied()) {
        store.put(&verified(capsule.clone())).unwrap();
    }
    let main = verified(seal(Manifest::new("main", "1.0.0"), policy, needs, wasm(wat)));
    Resolved::resolve(main, &store, &SignaturePolicy::new(network()), NOW).unwrap()
}

/// A graph as both engines load it.
fn try_load(resolved: &Resolved, policy: &Policy) -> Result<[Loaded; 2], LoadError> {
    let compiled = runtime().load_resolved(resolved, policy);
    let interpreted = interpreter().load_resolved(resolved, policy);
    match (compiled, interpreted) {
        (Ok(compiled), Ok(interpreted)) => Ok([compiled, interpreted]),
        (Err(error), Err(other)) => {
            assert_eq!(error, other, "the engines agree");
            Err(error)
        }
        (compiled, interpreted) => panic!("{compiled:?} and {interpreted:?}"),
    }
}

fn run_resolved(resolved: &Resolved, policy: &Policy) -> Execution {
    let [compiled, interpreted] = try_load(resolved, policy).unwrap_or_else(|error| panic!("{error}"));
    let execution = run(&compiled, &invocation(b"")).unwrap();
    assert_eq!(execution, run(&interpreted, &invocation(b"")).unwrap(), "the engines agree");
    replay(&interpreted, &invocation(b""), &execution).unwrap();
    replay(&compiled, &invocation(b""), &execution).unwrap();
    execution
}

/// Runs a command with libraries under the test policy.
fn run_with(needs: &[(&str, &Capsule)], others: &[&Capsule], wat: &str) -> Execution {
    run_resolved(&resolved(needs, others, wat, policy()), &policy())
}

fn refusal(needs: &[(&str, &Capsule)], others: &[&Capsule], wat: &str) -> LoadError {
    let refused = try_load(&resolved(needs, others, wat, policy()), &policy());
    refused.map(|_| ()).expect_err("loads")
}

/// A command that ends with the value of a body as its code.
fn exits_with(imports: &str, body: &str) -> String {
    command(&format!("{imports} {}", import(HostCall::ProcExit)), &format!("(call $proc_exit {body})"))
}

const COUNTER: &str = r#"(module (global $n (mut i32) (i32.const 0))
    (func (export "next") (result i32)
      (global.set $n (i32.add (global.get $n) (i32.const 1))) (global.get $n)))"#;

/// A function that loops for ever, and two that recurse: for ever, and some times.
const DEEP: &str = r#"(module
    (func (export "loop") (loop $l (br $l)))
    (func $down (export "down") (call $down))
    (func $times (export "times") (param i32)
      (if (local.get 0) (then (call $times (i32.sub (local.get 0) (i32.const 1)))))))"#;

const IMPORT_DEEP: &str = r#"(import "deep" "loop" (func $loop)) (import "deep" "down" (func $down))
    (import "deep" "times" (func $lib_times (param i32)))"#;

#[test]
fn a_function_of_a_library_is_called() {
    let sum = library(
        r#"(module (func (export "sum") (param i32 i32) (result i32)
        (i32.add (local.get 0) (local.get 1))))"#,
    );
    let imports = r#"(import "sum" "sum" (func $sum (param i32 i32) (result i32)))"#;
    let execution =
        run_with(&[("sum", &sum)], &[], &exits_with(imports, "(call $sum (i32.const 40) (i32.const 2))"));
    assert_eq!(execution.status, Status::Exit(42));
}

#[test]
fn every_type_of_number_crosses_both_ways() {
    let echo = library(
        r#"(module (func (export "echo") (param i32 i64 f32 f64 v128) (result v128 f64 f32 i64 i32)
             (local.get 4) (local.get 3) (local.get 2) (local.get 1) (local.get 0)))"#,
    );
    let imports =
        r#"(import "echo" "echo" (func $echo (param i32 i64 f32 f64 v128) (result v128 f64 f32 i64 i32)))"#;
    let body = r"(local i32 i64 f32 f64 v128)
        (call $echo (i32.const -7) (i64.const -8) (f32.const nan:0x200001) (f64.const -0.5) (v128.const i64x2 3 -4))
        (local.set 0) (local.set 1) (local.set 2) (local.set 3) (local.set 4)
        (call $proc_exit (i32.add (i32.add
          (i32.and (i32.eq (local.get 0) (i32.const -7)) (i64.eq (local.get 1) (i64.const -8)))
          (i32.and (i32.eq (i32.reinterpret_f32 (local.get 2)) (i32.const 0x7fa00001))
                   (f64.eq (local.get 3) (f64.const -0.5))))
          (i32x4.all_true (i64x2.eq (local.get 4) (v128.const i64x2 3 -4)))))";
    let wat = command(&format!("{imports} {}", import(HostCall::ProcExit)), body);
    assert_eq!(run_with(&[("echo", &echo)], &[], &wat).status, Status::Exit(3));
}

/// The command has no floats, so it alone would be compiled without canonical NaNs.
#[test]
fn nans_of_a_library_are_canonical() {
    let nan = library(
        r#"(module (func (export "nan") (param i32) (result i32)
             (i32.reinterpret_f32 (f32.mul (f32.reinterpret_i32 (local.get 0)) (f32.const 2)))))"#,
    );
    let imports = r#"(import "nan" "nan" (func $nan (param i32) (result i32)))"#;
    let body = "(i32.eq (call $nan (i32.const 0xffc12345)) (i32.const 0x7fc00000))";
    assert_eq!(run_with(&[("nan", &nan)], &[], &exits_with(imports, body)).status, Status::Exit(1));
}

#[test]
fn gas_is_one_for_all() {
    let deep = library(DEEP);
    let execution = run_with(&[("deep", &deep)], &[], &command(IMPORT_DEEP, "(call $loop)"));
    assert_eq!(execution.status, Status::Trap(TrapCode::OutOfGas));
    assert_eq!(execution.gas_used, policy().gas_limit);
    assert!(execution.checkpoints.len() > 10, "taken inside the library too");

    // What the library used is missing afterwards, and a call is not free.
    let used = |body: &str| run_with(&[("deep", &deep)], &[], &command(IMPORT_DEEP, body)).gas_used;
    let (none, one, many) =
        (used(""), used("(call $lib_times (i32.const 0))"), used("(call $lib_times (i32.const 100))"));
    assert!(one >= none + 200, "{none} {one}");
    assert!(many > one + 500, "{one} {many}");
}

#[test]
fn the_stack_is_one_for_all() {
    let deep = library(DEEP);
    let status = |stack: u32, body: &str| {
        let policy = Policy { stack_depth_max: stack, ..policy() };
        let imports = format!(
            r"{IMPORT_DEEP} (func $times (param i32) (param i32) (if (local.get 0)
                (then (call $times (i32.sub (local.get 0) (i32.const 1)) (local.get 1)))
                (else (call $lib_times (local.get 1)))))"
        );
        run_resolved(&resolved(&[("deep", &deep)], &[], &command(&imports, body), policy.clone()), &policy)
            .status
    };
    assert_eq!(status(2_000, "(call $down)"), Status::Trap(TrapCode::StackLimit));
    assert_eq!(status(2_000, "(call $times (i32.const 60) (i32.const 0))"), Status::Exit(0));
    assert_eq!(status(2_000, "(call $times (i32.const 0) (i32.const 60))"), Status::Exit(0));
    let both = "(call $times (i32.const 60) (i32.const 60))";
    assert_eq!(status(2_000, both), Status::Trap(TrapCode::StackLimit));
    assert_eq!(status(4_000, both), Status::Exit(0));
    // The frame between the two counts, and is given back.
    assert_eq!(status(30, "(call $lib_times (i32.const 0))"), Status::Trap(TrapCode::StackLimit));
    let often = "(local i32) (loop $l (call $lib_times (i32.const 1)) \
        (br_if $l (i32.lt_u (local.tee 0 (i32.add (local.get 0) (i32.const 1))) (i32.const 1000))))";
    assert_eq!(status(200, often), Status::Exit(0));
}

#[test]
fn a_trap_in_a_library_is_the_runs() {
    let traps = library(
        r#"(module (memory 1) (func (export "trap") (param i32) (result i32)
             (if (i32.eqz (local.get 0)) (then (return (i32.div_u (i32.const 1) (local.get 0)))))
             (if (i32.eq (local.get 0) (i32.const 1)) (then (unreachable)))
             (i32.load (i32.const -1))))"#,
    );
    let imports = r#"(import "traps" "trap" (func $trap (param i32) (result i32)))"#;
    for (code, trap) in
        [(0, TrapCode::IntegerDivisionByZero), (1, TrapCode::Unreachable), (2, TrapCode::MemoryOutOfBounds)]
    {
        let wat = command(imports, &format!("(drop (call $trap (i32.const {code})))"));
        assert_eq!(run_with(&[("traps", &traps)], &[], &wat).status, Status::Trap(trap));
    }
}

/// A library that two others need is there once, and libraries call libraries.
#[test]
fn a_diamond_shares_its_end() {
    let counter = library(COUNTER);
    let next = r#"(import "counter" "next" (func $next (result i32)))"#;
    let twice =
        format!(r#"(module {next} (func (export "go") (result i32) (drop (call $next)) (call $next)))"#);
    // The name that each gives it is its own, and a function may be passed on.
    let once = r#"(module (import "c" "next" (func $next (result i32))) (export "go" (func $next)))"#;
    let left = library_with(&[("counter", &counter)], &twice);
    let right = library_with(&[("c", &counter)], once);
    let imports =
        r#"(import "left" "go" (func $left (result i32))) (import "right" "go" (func $right (result i32)))"#;
    let body = "(i32.add (i32.mul (call $left) (i32.const 100)) (i32.add (i32.mul (call $right) (i32.const 10)) (call $left)))";
    let execution = run_with(&[("left", &left), ("right", &right)], &[&counter], &exits_with(imports, body));
    assert_eq!(execution.status, Status::Exit(2 * 100 + 3 * 10 + 5));
}

#[test]
fn start_functions_run_callees_first() {
    let counter = library(COUNTER);
    let next = r#"(import "counter" "next" (func $next (result i32)))"#;
    let place = |module: &str, rest: &str| {
        format!(
            r#"(module {module} {next} (global $at (mut i32) (i32.const 0))
               (func $start (global.set $at (call $next))) (start $start)
               (func (export "at") (result i32) (global.get $at)) {rest})"#
        )
    };
    let inner = library_with(&[("counter", &counter)], &place("", ""));
    let outer = library_with(&[("counter", &counter), ("inner", &inner)], &place("", ""));
    let at = r#"(import "inner" "at" (func $inner (result i32))) (import "outer" "at" (func $outer (result i32)))"#;
    let body = "(i32.add (i32.add (i32.mul (call $inner) (i32.const 100)) (i32.mul (call $outer) (i32.const 10))) (global.get $at))";
    let entry = format!(r#"(func (export "_start") (call $proc_exit {body}))"#);
    let main = place(&format!("{at} {}", import(HostCall::ProcExit)), &entry);
    let needs = [("counter", &counter), ("inner", &inner), ("outer", &outer)];
    assert_eq!(run_with(&needs, &[], &main).status, Status::Exit(123));
}

#[test]
fn buffers_cross_by_two_calls() {
    let calls = [HostCall::LibraryRead, HostCall::LibraryWrite, HostCall::FdWrite].map(import).concat();
    // Makes lower-case letters capitals, in its own memory.
    let upper = library(
        r#"(module (memory 1) (func (export "upper") (param i32 i32)
             (loop $l
               (i32.store8 (local.get 0) (i32.sub (i32.load8_u (local.get 0)) (i32.const 32)))
               (local.set 0 (i32.add (local.get 0) (i32.const 1)))
               (br_if $l (local.tee 1 (i32.sub (local.get 1) (i32.const 1)))))))"#,
    );
    let body = r#"
      (if (call $library_write (i32.const 1) (i32.const 100) (i32.const 512) (i32.const 5)) (then (unreachable)))
      (call $upper (i32.const 100) (i32.const 5))
      (if (call $library_read (i32.const 1) (i32.const 100) (i32.const 1024) (i32.const 5)) (then (unreachable)))
      (i32.store (i32.const 8) (i32.const 1024)) (i32.store (i32.const 12) (i32.const 5))
      (drop (call $fd_write (i32.const 1) (i32.const 8) (i32.const 1) (i32.const 0)))"#;
    let wat = command(&format!(r#"(import "upper" "upper" (func $upper (param i32 i32))) {calls}"#), body)
        .replace("(func (export", r#"(data (i32.const 512) "hello") (func (export"#);
    // Libraries are numbered by name: `counter` is 0.
    let counter = library(COUNTER);
    let execution = run_with(&[("counter", &counter), ("upper", &upper)], &[], &wat);
    assert_eq!((execution.status, &execution.output[..]), (Status::Exit(0), &b"HELLO"[..]));
    assert!(execution.host_calls.contains(HostCall::LibraryRead));

    // A library reads from its own libraries by the same calls, more than one copy's worth.
    let data = library(
        r#"(module (memory 4) (func (export "fill") (memory.fill (i32.const 9) (i32.const 7) (i32.const 200000))))"#,
    );
    let middle = format!(
        r#"(module (import "data" "fill" (func $fill)) {} (memory 4) (func (export "get") (result i32)
             (call $fill)
             (if (call $library_read (i32.const 0) (i32.const 8) (i32.const 0) (i32.const 200002)) (then (unreachable)))
             (i32.add (i32.add (i32.load8_u (i32.const 0)) (i32.load8_u (i32.const 1)))
                      (i32.add (i32.load8_u (i32.const 200000)) (i32.load8_u (i32.const 200001))))))"#,
        import(HostCall::LibraryRead)
    );
    let middle = library_with(&[("data", &data)], &middle);
    let imports = r#"(import "middle" "get" (func $get (result i32)))"#;
    let execution = run_with(&[("middle", &middle)], &[&data], &exits_with(imports, "(call $get)"));
    assert_eq!(execution.status, Status::Exit(14));
    assert!(execution.gas_used > 200_000);
}

#[test]
fn pointers_of_the_hostile_end_the_run() {
    let (memory, bare) = (library("(module (memory 1))"), library("(module)"));
    let calls = [HostCall::LibraryRead, HostCall::LibraryWrite].map(import).concat();
    let status =
        |body: &str| run_with(&[("memory", &memory), ("none", &bare)], &[], &exits_with(&calls, body)).status;
    let bad = Status::Trap(TrapCode::BadPointer);
    for call in ["$library_read", "$library_write"] {
        let with = |library: i32, there: i32, here: i32, len: i32| {
            status(&format!(
                "(call {call} (i32.const {library}) (i32.const {there}) (i32.const {here}) (i32.const {len}))"
            ))
        };
        assert_eq!(with(0, 65_536, 65_536, 0), Status::Exit(0));
        assert_eq!(with(0, 0, 0, 65_536), Status::Exit(0));
        for (there, here, len) in
            [(65_536, 0, 1), (0, 65_536, 1), (-1, 0, 2), (0, -1, 2), (1, 0, 65_536), (65_537, 0, 0)]
        {
            assert_eq!(with(0, there, here, len), bad, "{there} {here} {len}");
        }
        assert_eq!(with(1, 0, 0, 1), bad, "a library without memory");
        // Four gigabytes are paid before they are looked for.
        assert_eq!(with(0, 0, 0, -1), Status::Trap(TrapCode::OutOfGas));
        for number in [2, -1, i32::MIN] {
            assert_eq!(with(number, 0, 0, 1), Status::Exit(28), "there is no such library");
        }
    }
}

#[test]
fn without_libraries_there_is_nothing_to_read() {
    let body = "(call $library_read (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 1))";
    let wat = exits_with(&import(HostCall::LibraryRead), body);
    assert_eq!(crate::support::run_wat(&wat, b"").status, Status::Exit(28));
    let denied = Policy { host_calls: HostCallSet::of(&[HostCall::LibraryWrite]), ..policy() };
    let memory = library("(module (memory 1))");
    let execution = run_resolved(&resolved(&[("memory", &memory)], &[], &wat, denied.clone()), &denied);
    assert_eq!(execution.status, Status::HostDenied(HostCall::LibraryRead as u8));
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let counter = library(COUNTER);
    let refused = |imports: &str| refusal(&[("counter", &counter)], &[], &command(imports, ""));
    assert_eq!(
        refused(r#"(import "counter" "next" (func (param i32)))"#),
        LoadError::LibrarySignature {
            library: "counter".to_owned(),
            function: "next".to_owned(),
            import: "i:".to_owned(),
            export: ":i".to_owned(),
        }
    );
    for name in ["previous", "n", ""] {
        assert_eq!(
            refused(&format!(r#"(import "counter" "{name}" (func (result i32)))"#)),
            LoadError::LibraryFunction { library: "counter".to_owned(), function: name.to_owned() }
        );
    }
    let nobody = refused(r#"(import "other" "next" (func (result i32)))"#);
    assert!(matches!(nobody, LoadError::UnknownImport { module, .. } if module == "other"));
    let no_entry = refusal(&[("counter", &counter)], &[], "(module)");
    assert_eq!(no_entry, LoadError::Entry("_start".to_owned()));
    // One alone does not run, and nothing resolves itself.
    let alone = runtime().load(&verified(counter.clone()), &policy());
    assert!(matches!(alone, Err(LoadError::Kind(Kind::Library))));
}

#[test]
fn a_library_has_no_host_but_its_libraries() {
    let counter = library(COUNTER);
    let imports = |module: &str, name: &str, kind: &str| {
        let inner = library_with(
            &[("counter", &counter)],
            &format!(r#"(module (import "{module}" "{name}" (func {kind})))"#),
        );
        refusal(&[("inner", &inner)], &[&counter], &command("", ""))
    };
    let unwanted = |module: &str, name: &str| LoadError::Library {
        name: "inner".to_owned(),
        error: Box::new(LoadError::LibraryImport { module: module.to_owned(), name: name.to_owned() }),
    };
    for call in HostCall::ALL.iter().filter(|call| !call.name().starts_with("library_")) {
        let kind = import(*call);
        let kind = kind.split_once(&format!("${call}")).unwrap().1.strip_suffix("))").unwrap();
        assert_eq!(imports(call.module(), call.name(), kind), unwanted(call.module(), call.name()));
    }
    // A library of the command is not one of the library's.
    assert_eq!(imports("inner", "x", ""), unwanted("inner", "x"));
    let missing = imports("counter", "previous", "");
    assert!(
        matches!(missing, LoadError::Library { error, .. } if matches!(*error, LoadError::LibraryFunction { .. }))
    );
    let profile = library("(module (table 1 externref))");
    let refused = refusal(&[("inner", &profile)], &[], &command("", ""));
    assert!(matches!(refused, LoadError::Library { error, .. } if matches!(*error, LoadError::Profile(_))));
}

#[test]
fn a_library_has_no_files() {
    let manifest = Manifest::dependency(Kind::Image, "files", "1.0.0");
    let image = seal(manifest, policy(), &[], vec![0; 1_024]);
    let inner = library_with(&[("files", &image)], "(module)");
    let refused = refusal(&[("inner", &inner)], &[&image], &command("", ""));
    assert_eq!(refused, LoadError::LibraryImage { name: "files".to_owned() });
    // The command's own images are mounted beside its libraries.
    let needs = [("files", &image), ("inner", &library("(module)"))];
    assert_eq!(run_with(&needs, &[], &command("", "")).status, Status::Exit(0));
}

#[test]
fn limits_are_for_all_instances_together() {
    let big = library(
        r#"(module (memory 30) (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0))))"#,
    );
    let imports = r#"(import "big" "grow" (func $grow (param i32) (result i32)))"#;
    let main = |pages: u32, body: &str| {
        exits_with(imports, body).replace(r#"(memory (export "memory") 1)"#, &format!("(memory {pages})"))
    };
    // The policy grants 64 pages.
    let refused = refusal(&[("big", &big)], &[], &main(35, "(i32.const 0)"));
    assert_eq!(refused, LoadError::Declared { what: "memory pages", declared: 65, allowed: 64 });
    let execution = |body| run_with(&[("big", &big)], &[], &main(30, body));
    let full = execution("(i32.add (call $grow (i32.const 2)) (memory.grow (i32.const 2)))");
    assert_eq!((full.status, full.peak_pages), (Status::Exit(60), 64));
    let beyond = execution("(i32.add (call $grow (i32.const 3)) (memory.grow (i32.const 2)))");
    assert_eq!((beyond.status, beyond.peak_pages), (Status::Exit(29), 63));
    let refused = execution("(i32.add (call $grow (i32.const 5)) (memory.grow (i32.const 5)))");
    assert_eq!((refused.status, refused.peak_pages), (Status::Exit(u32::MAX - 1), 60));

    let tables = library("(module (table 6 funcref))");
    let narrow = Policy { table_elems_max: 10, ..policy() };
    let with = |elems: u32| {
        let main = command(&format!("(table {elems} funcref)"), "");
        try_load(&resolved(&[("tables", &tables)], &[], &main, narrow.clone()), &narrow).map(|_| ())
    };
    assert_eq!(with(4), Ok(()));
    assert_eq!(with(5), Err(LoadError::Declared { what: "table entries", declared: 11, allowed: 10 }));
}

#[test]
fn libraries_are_limited_in_number() {
    let leaf = |number: usize| library(&format!("(module (global i32 (i32.const {number})))"));
    let leaves: Vec<Capsule> = (0..63).map(leaf).collect();
    let names: Vec<String> = (0..16).map(|number| format!("n{number:02}")).collect();
    let middle = |leaves: &[Capsule]| {
        let needs: Vec<_> = names.iter().map(|name| &name[..]).zip(leaves).collect();
        library_with(&needs, "(module)")
    };
    let middles: Vec<Capsule> = leaves.chunks(16).map(middle).collect();
    let needs =
        |count: usize| names.iter().map(|name| &name[..]).zip(&middles).take(count).collect::<Vec<_>>();
    let others: Vec<&Capsule> = leaves.iter().collect();
    let main = command("", "");
    // 63 leaves and the four between.
    assert_eq!(refusal(&needs(4), &others, &main), LoadError::TooManyLibraries { limit: 64 });
    assert_eq!(run_with(&needs(3), &others, &main).status, Status::Exit(0));
}

/// Code for calls is ours to write, so its size is limited.
#[test]
fn calls_of_libraries_are_limited_in_size() {
    let params = "i32 ".repeat(900);
    let wide = library(&format!(r#"(module (func (export "f") (param {params})))"#));
    let imports = |count: usize| {
        (0..count).map(|_| format!(r#"(import "wide" "f" (func (param {params})))"#)).collect::<String>()
    };
    let refused = refusal(&[("wide", &wide)], &[], &command(&imports(40), ""));
    assert!(matches!(refused, LoadError::LibraryCalls { limit: 65_536, .. }), "{refused}");
    assert_eq!(run_with(&[("wide", &wide)], &[], &command(&imports(30), "")).status, Status::Exit(0));
}

#[test]
fn linked_modules_are_kept_one_by_one() {
    let directory = tempfile::tempdir().unwrap();
    let counter = library(COUNTER);
    let imports = r#"(import "counter" "next" (func $next (result i32)))"#;
    let resolved = resolved(&[("counter", &counter)], &[], &exits_with(imports, "(call $next)"), policy());
    let execution = || {
        let cache = AotCache::open(directory.path(), AotCache::DEFAULT_MAX_BYTES).unwrap();
        let config =
            Config { pool_slots: 0, cache: Some(cache), compiler: Compiler::default(), ..Config::default() };
        let loaded = Runtime::new(config).unwrap().load_resolved(&resolved, &policy()).unwrap();
        loaded.run(&invocation(b""), &MemoryNonceStore::default()).unwrap()
    };
    let first = execution();
    let files = || std::fs::read_dir(directory.path()).unwrap().count();
    assert_eq!(files(), 3, "the key and two modules");
    assert_eq!(first, execution());
    assert_eq!((first.status, files()), (Status::Exit(1), 3));
}
