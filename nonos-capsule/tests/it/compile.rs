//! Compiling in a process of its own, and what is kept of it.

use std::path::Path;

use nonos_capsule::{
    AotCache, Caps, CompileError, CompileLimits, Compiler, Config, EngineError, LoadError, Runtime, Status,
};

use crate::support::{command, invocation, policy, run, signed, verified, wasm};

fn child(limits: CompileLimits) -> Compiler {
    Compiler::Child { program: env!("CARGO_BIN_EXE_nonos-capsule-compiler").into(), args: Vec::new(), limits }
}

fn runtime(compiler: Compiler, cache: Option<AotCache>) -> Runtime {
    Runtime::new(Config { pool_slots: 1, compiler, cache, ..Config::default() }).unwrap()
}

fn cache(directory: &Path) -> Option<AotCache> {
    Some(AotCache::open(directory, AotCache::DEFAULT_MAX_BYTES).unwrap())
}

/// A compiler that nobody can start: whoever still has a program took it from the cache.
fn nowhere() -> Compiler {
    Compiler::Child {
        program: "/nonexistent/compiler".into(),
        args: Vec::new(),
        limits: CompileLimits::default(),
    }
}

const COUNT: &str = "(local i32) (loop $l
    (i32.store (i32.const 64) (local.tee 0 (i32.add (local.get 0) (i32.const 1))))
    (br_if $l (i32.lt_u (local.get 0) (i32.const 1000))))";

#[test]
fn a_child_compiles_the_same_program() {
    for body in [COUNT, "(drop (f64.div (f64.const 0) (f64.const 0)))"] {
        let capsule = verified(signed(&wasm(&command("", body)), policy()));
        let executions = [Compiler::InProcess, child(CompileLimits::default())].map(|compiler| {
            let loaded = runtime(compiler, None).load(&capsule, &policy()).unwrap();
            run(&loaded, &invocation(b"")).unwrap()
        });
        assert_eq!(executions[0].status, Status::Exit(0));
        assert_eq!(executions[0], executions[1]);
    }
}

/// Hundred thousand functions: small, valid, and seconds and half a gigabyte for a compiler. The
/// caps would stop it; here they are lifted, so that the process has to.
#[test]
fn a_compile_bomb_costs_what_the_limits_say() {
    let functions = "(func)".repeat(100_000);
    let bomb = wasm(&format!(r#"(module {functions} (func (export "_start")))"#));
    let capsule = verified(signed(&bomb, policy()));
    assert!(matches!(
        runtime(nowhere(), None).load(&capsule, &policy()),
        Err(LoadError::Profile(nonos_capsule::ProfileError::Cap { what: "functions", .. }))
    ));

    let caps = Caps { functions_max: 1_000_000, ..Caps::default() };
    let base = CompileLimits { cpu_secs_per_mib: 0, memory_bytes_per_byte: 0, ..CompileLimits::default() };
    let tight = [
        base,
        CompileLimits { cpu_secs: 1, memory_bytes: 4 << 30, ..base },
        CompileLimits { cpu_secs: 60, memory_bytes: 64 << 20, ..base },
    ];
    for limits in tight {
        let runtime =
            Runtime::new(Config { pool_slots: 1, caps: caps.clone(), compiler: child(limits), cache: None })
                .unwrap();
        let refused = runtime.load(&capsule, &policy()).unwrap_err();
        assert!(
            matches!(refused, LoadError::Engine(EngineError::Compile(CompileError::Limit { .. }))),
            "{refused}"
        );
        // The runtime goes on.
        let small = verified(signed(&wasm(&command("", COUNT)), policy()));
        let generous = CompileLimits::default();
        assert!(self::runtime(child(generous), None).load(&small, &policy()).is_ok());
    }
}

#[test]
fn what_is_kept_is_not_compiled_again() {
    let directory = tempfile::tempdir().unwrap();
    let capsule = verified(signed(&wasm(&command("", COUNT)), policy()));
    let first = runtime(child(CompileLimits::default()), cache(directory.path()));
    let first = run(&first.load(&capsule, &policy()).unwrap(), &invocation(b"")).unwrap();
    let again = runtime(nowhere(), cache(directory.path()));
    let again = run(&again.load(&capsule, &policy()).unwrap(), &invocation(b"")).unwrap();
    assert_eq!(first, again);

    // Not found: another payload, other caps.
    let other = verified(signed(&wasm(&command("", "")), policy()));
    assert!(runtime(nowhere(), cache(directory.path())).load(&other, &policy()).is_err());
    let caps = Caps { functions_max: 10, ..Caps::default() };
    let config = Config { pool_slots: 1, caps, compiler: nowhere(), cache: cache(directory.path()) };
    assert!(Runtime::new(config).unwrap().load(&capsule, &policy()).is_err());
}

/// What is kept was checked under the policy of that time; a stricter one is applied to it.
#[test]
fn a_kept_module_meets_the_policy_of_today() {
    let directory = tempfile::tempdir().unwrap();
    let capsule = verified(signed(&wasm(&command("", COUNT)), policy()));
    assert!(runtime(Compiler::InProcess, cache(directory.path())).load(&capsule, &policy()).is_ok());
    let no_memory = nonos_capsule::Policy { memory_pages_max: 0, ..policy() };
    let refused = runtime(nowhere(), cache(directory.path())).load(&capsule, &no_memory).unwrap_err();
    assert!(matches!(refused, LoadError::Declared { what: "memory pages", .. }));
}

#[test]
fn altered_or_foreign_files_are_not_loaded() {
    let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let capsule = verified(signed(&wasm(&command("", COUNT)), policy()));
    for directory in [&ours, &theirs] {
        let runtime = runtime(Compiler::InProcess, cache(directory.path()));
        assert!(runtime.load(&capsule, &policy()).is_ok());
    }
    let kept = |directory: &tempfile::TempDir| {
        let entries = std::fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().path());
        entries.into_iter().find(|path| path.extension().is_some_and(|e| e == "aot")).unwrap()
    };
    let loads = || runtime(nowhere(), cache(ours.path())).load(&capsule, &policy()).is_ok();
    assert!(loads());

    let good = std::fs::read(kept(&ours)).unwrap();
    for place in [0, 4, 20, good.len() / 2, good.len() - 1] {
        let mut altered = good.clone();
        altered[place] ^= 1;
        std::fs::write(kept(&ours), altered).unwrap();
        assert!(!loads(), "byte {place}");
    }
    // A file that another machine compiled of the same module.
    std::fs::copy(kept(&theirs), kept(&ours)).unwrap();
    assert!(!loads());
    // It is compiled again and replaced.
    assert!(runtime(Compiler::InProcess, cache(ours.path())).load(&capsule, &policy()).is_ok());
    assert!(loads());
}

#[test]
fn a_key_that_others_can_read_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir().unwrap();
    drop(cache(directory.path()));
    let key = directory.path().join("seal.key");
    assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(AotCache::open(directory.path(), 1 << 20).is_err());
}

#[test]
fn the_cache_is_bounded() {
    let directory = tempfile::tempdir().unwrap();
    let bytes = || {
        let entries = std::fs::read_dir(directory.path()).unwrap();
        entries.map(|entry| entry.unwrap().metadata().unwrap().len()).sum::<u64>()
    };
    let limit = 128 << 10;
    for n in 0..12 {
        let body = format!("(drop (i32.const {n}))");
        let capsule = verified(signed(&wasm(&command("", &body)), policy()));
        let cache = AotCache::open(directory.path(), limit).unwrap();
        assert!(runtime(Compiler::InProcess, Some(cache)).load(&capsule, &policy()).is_ok());
        assert!(bytes() <= limit + 32, "{} bytes", bytes());
    }
}
