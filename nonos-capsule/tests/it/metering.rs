//! Metering keeps the meaning of a module: raw and metered give the same results.

use nonos_capsule::{Caps, instrument};

/// Modules with the control flow and types that compilers emit; each exports `run: i32 -> i64`.
const MODULES: &[&str] = &[
    // Recursion.
    r#"(module (func $fib (export "run") (param i32) (result i64)
      (if (result i64) (i32.lt_u (local.get 0) (i32.const 2))
        (then (i64.extend_i32_u (local.get 0)))
        (else (i64.add (call $fib (i32.sub (local.get 0) (i32.const 1)))
                       (call $fib (i32.sub (local.get 0) (i32.const 2))))))))"#,
    // Early returns from nested blocks, a switch, and branches to the function's own label.
    r#"(module (func (export "run") (param i32) (result i64)
      (block $c (block $b (block $a
        (br_table $a $b $c (i32.rem_u (local.get 0) (i32.const 4))))
        (return (i64.const 100)))
        (if (i32.gt_u (local.get 0) (i32.const 9)) (then (br 2 (i64.const 200))))
        (return (i64.const 201)))
      (br_if 0 (i64.const 300) (i32.eq (local.get 0) (i32.const 6)))
      (drop) (i64.const 301)))"#,
    // Several results, from a function, a block and a loop.
    r#"(module (func $pair (param i32) (result i64 i64)
        (if (local.get 0) (then (return (i64.const 3) (i64.const 4))))
        (i64.const 5) (i64.const 6))
      (func (export "run") (param i32) (result i64)
        (call $pair (i32.and (local.get 0) (i32.const 1)))
        (block (param i64 i64) (result i64 i64) (i64.mul) (i64.const 7))
        (i64.add)))"#,
    // Indirect calls.
    r#"(module (type $t (func (param i64) (result i64)))
      (table funcref (elem $double $square))
      (func $double (type $t) (i64.mul (local.get 0) (i64.const 2)))
      (func $square (type $t) (i64.mul (local.get 0) (local.get 0)))
      (func (export "run") (param i32) (result i64)
        (call_indirect (type $t) (i64.extend_i32_u (local.get 0)) (i32.and (local.get 0) (i32.const 1)))))"#,
    // Memory, bulk operations, passive data, growth that fails and growth that does not.
    r#"(module (memory 1 3) (data $d "\01\02\03\04\05\06\07\08")
      (func (export "run") (param i32) (result i64)
        (memory.init $d (local.get 0) (i32.const 0) (i32.const 8))
        (memory.copy (i32.const 4096) (local.get 0) (i32.const 8))
        (memory.fill (i32.const 4098) (i32.const 9) (i32.const 2))
        (drop (memory.grow (i32.const 1)))
        (i64.add (i64.load (i32.const 4096))
          (i64.extend_i32_s (memory.grow (i32.const 5))))))"#,
    // Loops, floats, code after an endless branch.
    r#"(module (func (export "run") (param i32) (result i64) (local f64)
      (loop $l (result i64)
        (local.set 1 (f64.add (local.get 1) (f64.sqrt (f64.convert_i32_u (local.get 0)))))
        (local.set 0 (i32.sub (local.get 0) (i32.const 1)))
        (br_if $l (i32.gt_s (local.get 0) (i32.const 0)))
        (br 1 (i64.reinterpret_f64 (local.get 1)))
        (memory.grow) (drop) (i64.const 1))) (memory 1))"#,
    // Floats of every type that live through two loops and the ticks at their heads.
    r#"(module (func (export "run") (param i32) (result i64)
      (local $i i32) (local $a f32) (local $b f64) (local $c v128) (local $d f64) (local $e f32)
      (local.set $b (f64.const nan:0x4000000000001))
      (local.set $c (v128.const i32x4 1 2 3 4))
      (loop $outer
        (local.set $i (i32.const 3))
        (local.set $d (f64.add (local.get $d) (f64.const 0.75)))
        (loop $inner
          (local.set $a (f32.sub (local.get $a) (f32.const 1.5)))
          (local.set $e (f32.mul (local.get $a) (f32.const 3)))
          (local.set $c (i32x4.add (local.get $c) (f32x4.splat (local.get $e))))
          (local.set $b (local.get $b))
          (br_if $inner (local.tee $i (i32.sub (local.get $i) (i32.const 1)))))
        (br_if $outer (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
      (i64.xor (i64.reinterpret_f64 (local.get $b))
        (i64.xor (i64.reinterpret_f64 (local.get $d))
          (i64.xor (i64x2.extract_lane 0 (local.get $c)) (i64x2.extract_lane 1 (local.get $c)))))))"#,
];

fn results(wasm: &[u8], metered: bool) -> Vec<i64> {
    let engine = wasmtime::Engine::default();
    let module = wasmtime::Module::new(&engine, wasm).unwrap();
    let mut linker = wasmtime::Linker::new(&engine);
    linker.func_wrap(instrument::TICK_MODULE, instrument::TICK_NAME, || {}).unwrap();
    (1..12)
        .map(|argument| {
            let mut store = wasmtime::Store::new(&engine, ());
            let instance = linker.instantiate(&mut store, &module).unwrap();
            if metered {
                let depth = instance.get_global(&mut store, instrument::DEPTH_EXPORT).unwrap();
                depth.set(&mut store, wasmtime::Val::I32(10_000)).unwrap();
            }
            let run = instance.get_typed_func::<i32, i64>(&mut store, "run").unwrap();
            let result = run.call(&mut store, argument).unwrap();
            if metered {
                let depth = instance.get_global(&mut store, instrument::DEPTH_EXPORT).unwrap();
                assert_eq!(depth.get(&mut store).i32(), Some(10_000), "frames are given back");
                let gas = instance.get_global(&mut store, instrument::GAS_EXPORT).unwrap();
                assert!(gas.get(&mut store).i64().unwrap() < 0, "gas is charged");
            }
            result
        })
        .collect()
}

#[test]
fn raw_and_metered_agree() {
    for wat in MODULES {
        let raw = wat::parse_str(wat).unwrap();
        let metered =
            instrument::meter(&raw, &Caps::default()).unwrap_or_else(|error| panic!("{error}: {wat}"));
        assert_eq!(results(&raw, false), results(metered.wasm(), true), "{wat}");
    }
}

#[test]
fn floats_are_seen() {
    let has_floats = |body: &str| {
        let wat = format!(r#"(module (memory 1) (func (export "_start") {body}))"#);
        instrument::meter(&wat::parse_str(wat).unwrap(), &Caps::default()).unwrap().has_floats()
    };
    assert!(has_floats("(drop (f32.add (f32.const 1) (f32.const 2)))"));
    assert!(has_floats("(drop (f64x2.mul (v128.const i64x2 0 0) (v128.const i64x2 0 0)))"));
    assert!(!has_floats("(f32.store (i32.const 0) (f32.load (i32.const 4)))"));
}

/// The exact gas of a counted loop: pins schedule 1. The body of the
/// loop is seven instructions of one unit.
#[test]
fn gas_is_pinned() {
    let wat = r#"(module (func (export "_start") (local i32)
      (loop $l (br_if $l (i32.lt_u (local.tee 0 (i32.add (local.get 0) (i32.const 1))) (i32.const 1000))))))"#;
    let execution = crate::support::run_wat(wat, b"");
    assert_eq!(execution.gas_used, 1_000 * 7);
}

/// What ticks save and restore grows with the body, not with how its loops are nested.
#[test]
fn nested_loops_of_floats_stay_small() {
    let count = 500;
    let uses: String = (0..16).map(|local| format!("(drop (local.get {local}))")).collect();
    let wat = format!(
        r#"(module (func (export "_start") (local {}) {}{uses}{}))"#,
        "f64 ".repeat(16),
        "(loop ".repeat(count),
        ")".repeat(count)
    );
    let raw = wat::parse_str(&wat).unwrap();
    let metered = instrument::meter(&raw, &Caps::default()).unwrap();
    assert!(metered.wasm().len() < 40 * raw.len(), "{} of {}", metered.wasm().len(), raw.len());
}
