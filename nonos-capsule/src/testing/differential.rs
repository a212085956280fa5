//! Two ways to run one module that must not differ: raw and metered, and one engine and another.

use std::sync::{Arc, OnceLock};

use arbitrary::Unstructured;
use nonos_identity::{NetworkId, NodeId, Timestamp, WideDigest};
use wasm_encoder::reencode::{Reencode as _, RoundtripReencoder};
use wasm_encoder::{CodeSection, ConstExpr, ExportKind, Function, GlobalType, Instruction, ValType};
use wasm_smith::{InstructionKind, InstructionKinds, MemoryOffsetChoices};
use wasmtime::{Caller, Config, Engine, Error, Linker, Store, Trap, Val};

use crate::instrument::{self, DEPTH_EXPORT, GAS_EXPORT, Metered, Sections};
use crate::profile;
use crate::runtime::wasmi::WasmiEngine;
use crate::runtime::wasmtime::WasmtimeEngine;
use crate::{
    Caps, CapsuleId, Compiler, Engine as _, Execution, Invocation, Loaded, ModuleKey, Policy, Program,
};

/// Entries of a generated module that are run.
const ENTRIES_MAX: u32 = 4;
/// Gas of a run of a generated module.
const GAS: u64 = 500_000;
const STACK_SLOTS: u32 = 10_000;
const MEMORY_PAGES: u32 = 20;

/// What came of a generated module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Differential {
    /// Entries whose raw and metered run were compared.
    pub compared: u32,
    /// Entries that one of them did not finish within its fuel, gas or stack.
    pub unfinished: u32,
    /// Entries that both engines ran.
    pub executed: u32,
    /// Of these, ended by something else than a return.
    pub trapped: u32,
}

/// Makes a module of profile v1 out of the bytes, meters it, and runs it raw and metered, on
/// wasmtime and on wasmi. Nothing may differ.
///
/// # Panics
/// If something does.
pub fn fuzz_differential(bytes: &[u8]) -> Differential {
    let mut outcome = Differential::default();
    let Some((raw, entries)) = generate(bytes) else { return outcome };
    let metered = instrument::meter(&raw, &Caps::default()).expect("generated within the profile");
    for entry in entries {
        check_metering(&raw, &metered, &entry, &mut outcome);
        let execution = check_engines(&metered, &entry);
        outcome.executed += 1;
        outcome.trapped += u32::from(!execution.status.is_success());
    }
    outcome
}

/// A module of the profile, and its entries without parameters and results.
fn generate(bytes: &[u8]) -> Option<(Vec<u8>, Vec<String>)> {
    let mut unstructured = Unstructured::new(bytes);
    let is_calm = unstructured.arbitrary().ok()?;
    let config = wasm_smith::Config {
        allowed_instructions: InstructionKinds::new(&[
            InstructionKind::Numeric,
            InstructionKind::Vector,
            InstructionKind::Parametric,
            InstructionKind::Variable,
            InstructionKind::Memory,
            InstructionKind::Control,
        ]),
        disallow_traps: is_calm,
        exceptions_enabled: false,
        extended_const_enabled: false,
        gc_enabled: false,
        max_funcs: 12,
        max_imports: 0,
        max_instructions: 300,
        max_memory32_bytes: u64::from(MEMORY_PAGES) << 16,
        max_table_elements: 100,
        memory64_enabled: false,
        memory_offset_choices: MemoryOffsetChoices(95, 4, 1),
        min_exports: 1,
        min_funcs: 2,
        min_types: 2,
        reference_types_enabled: false,
        relaxed_simd_enabled: false,
        tail_call_enabled: false,
        threads_enabled: false,
        ..wasm_smith::Config::default()
    };
    let module = wasm_smith::Module::new(config, &mut unstructured).ok()?.to_bytes();
    // What is left outside the profile is its refusal, which has tests of its own.
    let facts = profile::check(&module, &Caps::default()).ok()?;
    let (mut sections, bodies) = Sections::read(&mut RoundtripReencoder, &module).ok()?;

    // An entry for some of the functions: constants in, results to globals that checkpoints see.
    let kinds = [ValType::I32, ValType::I64, ValType::F32, ValType::F64, ValType::V128];
    for (ty, initial) in kinds.iter().zip([
        ConstExpr::i32_const(0),
        ConstExpr::i64_const(0),
        ConstExpr::f32_const(0.0.into()),
        ConstExpr::f64_const(0.0.into()),
        ConstExpr::v128_const(0),
    ]) {
        sections.globals.global(GlobalType { val_type: *ty, mutable: true, shared: false }, &initial);
    }
    for global in 0..facts.global_count + 5 {
        sections.exports.export(&format!("global {global}"), ExportKind::Global, global);
    }
    if facts.memory_pages_min.is_some() {
        sections.exports.export("whole memory", ExportKind::Memory, 0);
    }
    let mut code = CodeSection::new();
    for body in bodies {
        RoundtripReencoder.parse_function_body(&mut code, body).ok()?;
    }
    let entry_type = sections.types.len();
    sections.types.ty().function([], []);
    let count = u32::try_from(facts.functions.len()).ok()?;
    let mut entries = Vec::new();
    for target in 0..count.min(ENTRIES_MAX) {
        let ty = facts.function_type(target)?;
        let mut entry = Function::new([]);
        for (param, place) in ty.params().iter().zip(0..) {
            entry.instruction(&constant(RoundtripReencoder.val_type(*param).ok()?, target + place)?);
        }
        entry.instruction(&Instruction::Call(target));
        for result in ty.results().iter().rev() {
            let result = RoundtripReencoder.val_type(*result).ok()?;
            let place = kinds.iter().position(|kind| *kind == result)?;
            entry.instruction(&Instruction::GlobalSet(facts.global_count + u32::try_from(place).ok()?));
        }
        entry.instruction(&Instruction::End);
        code.function(&entry);
        sections.functions.function(entry_type);
        let name = format!("entry {target}");
        sections.exports.export(&name, ExportKind::Func, count + target);
        entries.push(name);
    }
    sections.code = code;
    Some((sections.finish(), entries))
}

fn constant(ty: ValType, seed: u32) -> Option<Instruction<'static>> {
    Some(match ty {
        ValType::I32 => Instruction::I32Const(seed.cast_signed().wrapping_mul(0x1234_5679)),
        ValType::I64 => Instruction::I64Const(i64::from(seed).wrapping_mul(0x1234_5678_9abc_def1)),
        ValType::F32 => Instruction::F32Const((f32::from(u8::try_from(seed).ok()?) / 3.0).into()),
        ValType::F64 => Instruction::F64Const((f64::from(seed) / 3.0).into()),
        ValType::V128 => Instruction::V128Const(i128::from(seed) * 0x0001_0203_0405_0607_0809_0a0b_0c0d_0e0f),
        ValType::Ref(_) => return None,
    })
}

/// Runs an entry raw and metered on wasmtime; compares ending, memory and globals.
fn check_metering(raw: &[u8], metered: &Metered, entry: &str, outcome: &mut Differential) {
    let (raw, metered) = (observe(raw, entry, false), observe(metered.wasm(), entry, true));
    match (raw, metered) {
        (Some(raw), Some(metered)) => {
            assert_eq!(raw, metered, "{entry}: raw and metered");
            outcome.compared += 1;
        }
        _ => outcome.unfinished += 1,
    }
}

/// What a run leaves: how it ended, the memory, the bits of the globals.
type Observed = (Option<Trap>, Vec<u8>, Vec<String>);

/// Nothing if the run did not finish.
fn observe(wasm: &[u8], entry: &str, is_metered: bool) -> Option<Observed> {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    let engine = ENGINE.get_or_init(|| {
        let mut config = Config::new();
        config.cranelift_nan_canonicalization(true).consume_fuel(true);
        Engine::new(&config).expect("an engine")
    });
    let module = wasmtime::Module::new(engine, wasm).expect("a valid module");
    let mut linker = Linker::<u64>::new(engine);
    linker
        .func_wrap(instrument::TICK_MODULE, instrument::TICK_NAME, |mut caller: Caller<'_, u64>| {
            let gas = caller.get_export(GAS_EXPORT).and_then(wasmtime::Extern::into_global);
            let gas = gas.ok_or_else(|| Error::msg("no gas"))?;
            *caller.data_mut() += 1;
            if *caller.data() > 50 { Err(Error::msg("gas")) } else { gas.set(caller, Val::I64(10_000)) }
        })
        .expect("one tick");
    let mut store = Store::new(engine, 0u64);
    store.set_fuel(10_000_000).expect("fuel");
    let nothing = |error: Error| ended(&error).map(|trap| (Some(trap), Vec::new(), Vec::new()));
    let instance = match linker.instantiate(&mut store, &module) {
        Ok(instance) => instance,
        // A segment that does not fit, or the start function of the raw module.
        Err(error) => return nothing(error),
    };
    let depth = instance.get_global(&mut store, DEPTH_EXPORT);
    if let Some(depth) = depth {
        depth.set(&mut store, Val::I32(STACK_SLOTS.cast_signed())).expect("a mutable i32");
    }
    let mut call = |name: &str| match instance.get_typed_func::<(), ()>(&mut store, name) {
        Ok(function) => function.call(&mut store, ()),
        Err(_) => Ok(()),
    };
    let started = if is_metered { call(instrument::START_EXPORT) } else { Ok(()) };
    let has_started = started.is_ok();
    let result = started.and_then(|()| call(entry));
    if let Some(depth) = depth.and_then(|depth| depth.get(&mut store).i32()) {
        assert!(result.is_err() || depth == STACK_SLOTS.cast_signed(), "frames are given back");
        if depth < 0 {
            return None;
        }
    }
    let trap = match result {
        Ok(()) => None,
        Err(error) if has_started => Some(ended(&error)?),
        Err(error) => return nothing(error),
    };
    let mut global = |index: u32| {
        let global = instance.get_global(&mut store, &format!("global {index}"))?;
        Some(format!("{:?}", global.get(&mut store)))
    };
    let globals = (0..).map_while(&mut global).collect();
    let memory = instance.get_memory(&mut store, "whole memory").map(|memory| memory.data(&store).to_vec());
    Some((trap, memory.unwrap_or_default(), globals))
}

/// The trap, if it is a result of the module.
fn ended(error: &Error) -> Option<Trap> {
    let trap = error.downcast_ref::<Trap>().copied();
    trap.filter(|trap| !matches!(trap, Trap::OutOfFuel | Trap::StackOverflow))
}

/// Runs an entry of a metered module without imports on both engines; the executions are equal.
fn check_engines(metered: &Metered, entry: &str) -> Execution {
    static ENGINES: OnceLock<(WasmtimeEngine, WasmiEngine)> = OnceLock::new();
    let (wasmtime, wasmi) = ENGINES.get_or_init(|| {
        (
            WasmtimeEngine::new(0, Compiler::InProcess, None).expect("wasmtime starts"),
            WasmiEngine::new().expect("wasmi starts"),
        )
    });
    let policy = Policy {
        gas_limit: GAS,
        memory_pages_max: MEMORY_PAGES,
        stack_depth_max: STACK_SLOTS,
        checkpoint_interval_gas: Policy::MIN_CHECKPOINT_INTERVAL_GAS,
        ..Policy::default()
    };
    let invocation = Invocation::new(
        NodeId::from_bytes([0; 32]),
        [0; 32],
        Timestamp::from_secs(1),
        NetworkId::from_name("differential"),
    );
    let run = |program: Arc<dyn Program>| {
        let loaded = Loaded::of(
            CapsuleId::from_digest(WideDigest::of_bytes(&[])),
            metered.facts.cpu_features,
            policy.clone(),
            entry.to_owned(),
            program,
        );
        loaded.execute(&invocation).expect("a result")
    };
    let key = ModuleKey::of(&WideDigest::of_bytes(metered.wasm()), &Caps::default());
    let [compiled, interpreted] = [wasmtime.prepare(&key, metered), wasmi.prepare(&key, metered)]
        .map(|prepared| run(prepared.expect("compiles").program));
    assert_eq!(compiled, interpreted, "{entry}: the engines agree");
    compiled
}
