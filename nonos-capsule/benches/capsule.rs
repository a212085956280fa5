//! Instantiation, metering and checkpoints beside raw wasmtime in the same run.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use nonos_capsule::testing::MemoryNonceStore;
use nonos_capsule::{
    Caps, Capsule, CheckSigned as _, Config, Invocation, Loaded, Manifest, Policy, Runtime, SignaturePolicy,
    SignerRole, instrument, wasm_from_wat_or_wasm,
};
use nonos_identity::{NetworkId, NodeId, SigningKey, Timestamp};

const NOW: Timestamp = Timestamp::from_secs(1_790_000_000);

/// Recursion: the worst case for depth and flushes.
const FIB: &str = r#"(module
  (func $fib (param i32) (result i32)
    (if (result i32) (i32.lt_u (local.get 0) (i32.const 2))
      (then (local.get 0))
      (else (i32.add (call $fib (i32.sub (local.get 0) (i32.const 1)))
                     (call $fib (i32.sub (local.get 0) (i32.const 2)))))))
  (func (export "_start") (drop (call $fib (i32.const 30)))))"#;

/// Eight passes of a sieve over 1 MiB: loops with few instructions, and dirty pages.
const SIEVE: &str = r#"(module (memory (export "memory") 17)
  (func $pass (local $i i32) (local $j i32)
    (memory.fill (i32.const 0) (i32.const 0) (i32.const 1048576))
    (local.set $i (i32.const 2))
    (loop $outer
      (if (i32.eqz (i32.load8_u (local.get $i))) (then
        (local.set $j (i32.mul (local.get $i) (local.get $i)))
        (loop $inner
          (if (i32.lt_u (local.get $j) (i32.const 1048576)) (then
            (i32.store8 (local.get $j) (i32.const 1))
            (local.set $j (i32.add (local.get $j) (local.get $i)))
            (br $inner))))))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $outer (i32.lt_u (local.get $i) (i32.const 1024)))))
  (func (export "_start") (local $n i32)
    (loop $again
      (call $pass)
      (local.set $n (i32.add (local.get $n) (i32.const 1)))
      (br_if $again (i32.lt_u (local.get $n) (i32.const 8))))))"#;

fn loaded(wasm: &[u8], policy: &Policy) -> Loaded {
    let network = NetworkId::from_name("bench");
    let mut capsule =
        Capsule::pack(Manifest::new("bench", "1"), policy.clone(), wasm.to_vec()).expect("pack");
    let key = SigningKey::from_seed(&[7; 32]);
    capsule.sign(SignerRole::Author, &key, &network, NOW, Duration::from_secs(60)).expect("sign");
    let capsule = Capsule::parse(&capsule.to_bytes()).expect("parse");
    let capsule = capsule.check_signed(&SignaturePolicy::new(network), NOW).expect("verify");
    Runtime::new(Config::default()).expect("engine").load(&capsule, policy).expect("load")
}

fn run(loaded: &Loaded) {
    let invocation =
        Invocation::new(NodeId::from_bytes([1; 32]), [2; 32], NOW, NetworkId::from_name("bench"));
    let execution = loaded.run(&invocation, &MemoryNonceStore::default()).expect("run");
    assert!(execution.status.is_success(), "{}", execution.status);
    black_box(execution);
}

/// A module on plain wasmtime; the tick of a metered one does nothing.
fn raw(wasm: &[u8]) -> impl FnMut() + use<> {
    let engine = wasmtime::Engine::default();
    let module = wasmtime::Module::new(&engine, wasm).expect("compile");
    let mut linker = wasmtime::Linker::new(&engine);
    linker.func_wrap(instrument::TICK_MODULE, instrument::TICK_NAME, || {}).expect("link");
    let pre = linker.instantiate_pre(&module).expect("link");
    move || {
        let mut store = wasmtime::Store::new(&engine, ());
        let instance = pre.instantiate(&mut store).expect("instantiate");
        for (name, value) in [
            (instrument::DEPTH_EXPORT, wasmtime::Val::I32(i32::MAX)),
            (instrument::GAS_EXPORT, wasmtime::Val::I64(i64::MAX)),
        ] {
            if let Some(global) = instance.get_global(&mut store, name) {
                global.set(&mut store, value).expect("set");
            }
        }
        instance
            .get_typed_func::<(), ()>(&mut store, "_start")
            .expect("entry")
            .call(&mut store, ())
            .expect("run");
    }
}

/// The best of ten, in milliseconds: for ratios on a machine that others use too.
#[expect(clippy::disallowed_methods, reason = "a bench reads the clock")]
fn best_ms(mut body: impl FnMut()) -> f64 {
    let times = (0..10).map(|_| {
        let start = Instant::now();
        body();
        start.elapsed().as_secs_f64() * 1e3
    });
    times.fold(f64::INFINITY, f64::min)
}

#[expect(clippy::print_stdout, reason = "the ratios are the output of this bench")]
fn bench(c: &mut Criterion) {
    let empty = wasm_from_wat_or_wasm(br#"(module (memory 1) (func (export "_start")))"#).expect("wat");
    let loaded_empty = loaded(&empty, &Policy::default());
    c.bench_function("run::empty/checkpoints=2", |b| b.iter(|| run(&loaded_empty)));
    let mut raw_empty = raw(&empty);
    c.bench_function("run::empty/raw", |b| b.iter(&mut raw_empty));

    for (name, wat) in [("fib", FIB), ("sieve", SIEVE)] {
        let wasm = wasm_from_wat_or_wasm(wat.as_bytes()).expect("wat");
        let metered = instrument::meter(&wasm, &Caps::default()).expect("meter");
        let often = Policy { checkpoint_interval_gas: 1_000_000, ..Policy::default() };
        let (default, often) = (loaded(&wasm, &Policy::default()), loaded(&wasm, &often));
        let base = best_ms(raw(&wasm));
        println!(
            "{name}: raw {base:.2} ms, metered {:.2}x, run {:.2}x, run with 1 M gas slices {:.2}x",
            best_ms(raw(metered.wasm())) / base,
            best_ms(|| run(&default)) / base,
            best_ms(|| run(&often)) / base,
        );
        c.bench_function(&format!("run::execute/module={name}"), |b| b.iter(|| run(&default)));
    }
}

criterion_group!(benches, bench);
criterion_main!(benches);
