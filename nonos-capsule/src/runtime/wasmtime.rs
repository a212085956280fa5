//! The engine on wasmtime: Cranelift, pooled instances, canonical NaNs where there are floats.

use core::fmt;
use core::future::Future as _;
use core::pin::pin;
use core::task::{Context, Poll, Waker};
use std::sync::{Arc, OnceLock};

use wasmtime::{
    AsContextMut, Caller, Config, Engine, Extern, FuncType, Global, InstanceAllocationStrategy, InstancePre,
    Linker, Memory, Module, PoolConcurrencyLimitError, PoolingAllocationConfig, ResourceLimiter, Store,
    StoreContextMut, Strategy, Trap, TypedFunc, Val, ValType,
};

use super::engine::{self, End, EngineError, Guest, Program, Stop};
use super::session::Session;
use crate::execution::TrapCode;
use crate::host_call::HostCall;
use crate::instrument::{
    DEPTH_EXPORT, GAS_EXPORT, LEAF_SLOTS, MEMORY_EXPORT, Metered, START_EXPORT, TICK_MODULE, TICK_NAME,
};
use crate::policy::Policy;

/// Native stack of a run, in bytes: 128 for each slot that a policy can grant or a frame takes
/// without counting. A slot is a value, at most 16 bytes; the rest is room for what a compiler
/// spills beside.
const STACK_BYTES: usize = (Policy::MAX_STACK_DEPTH as usize + LEAF_SLOTS as usize) * 128;

/// What host calls may use of the same stack, in bytes.
const HOST_STACK_BYTES: usize = 2 << 20;

/// Largest memory of a pooled instance.
const POOLED_MEMORY_BYTES: usize = Policy::MAX_MEMORY_PAGES as usize * 65_536;

/// Compiles with Cranelift; pools instances where the machine allows it.
pub(crate) struct WasmtimeEngine {
    exact: Flavour,
    canonical: Flavour,
}

/// One compiler setting: with or without canonical NaNs.
struct Flavour {
    pooled: Option<Host>,
    fresh: Host,
}

/// An engine and everything a module can import from it.
struct Host {
    engine: Engine,
    linker: Linker<Instance>,
}

impl WasmtimeEngine {
    pub(crate) fn new(pool_slots: u32) -> Result<Self, EngineError> {
        Ok(Self { exact: Flavour::new(pool_slots, false)?, canonical: Flavour::new(pool_slots, true)? })
    }
}

impl Flavour {
    /// A machine that cannot reserve the pool runs without one.
    fn new(pool_slots: u32, is_canonical: bool) -> Result<Self, EngineError> {
        let pooled = match pool_slots {
            0 => None,
            slots => Host::new(Some(slots), is_canonical).ok(),
        };
        let fresh = Host::new(None, is_canonical).map_err(|error| EngineError(error.to_string()))?;
        Ok(Self { pooled, fresh })
    }
}

fn config(pool_slots: Option<u32>, is_canonical: bool) -> Config {
    let mut config = Config::new();
    config
        .strategy(Strategy::Cranelift)
        .cranelift_nan_canonicalization(is_canonical)
        .max_wasm_stack(STACK_BYTES)
        .async_stack_size(STACK_BYTES + HOST_STACK_BYTES)
        .wasm_backtrace_max_frames(None)
        .wasm_branch_hinting(true)
        .wasm_relaxed_simd(false)
        .wasm_multi_memory(false)
        .wasm_memory64(false)
        .wasm_tail_call(false)
        .wasm_extended_const(false);
    if let Some(slots) = pool_slots {
        let mut pool = PoolingAllocationConfig::default();
        pool.total_core_instances(slots)
            .total_stacks(slots)
            .total_memories(slots)
            .total_tables(slots.saturating_mul(4))
            .max_tables_per_module(4)
            .table_elements(Policy::MAX_TABLE_ELEMS as usize)
            .max_core_instance_size(1 << 20)
            .max_memory_size(POOLED_MEMORY_BYTES)
            .max_unused_warm_slots(slots);
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    }
    config
}

impl Host {
    fn new(pool_slots: Option<u32>, is_canonical: bool) -> wasmtime::Result<Self> {
        let engine = Engine::new(&config(pool_slots, is_canonical))?;
        let mut linker = Linker::<Instance>::new(&engine);
        linker.func_wrap(TICK_MODULE, TICK_NAME, |mut caller: Caller<'_, Instance>| {
            let mut store = caller.as_context_mut();
            with_session(&mut store, |session, guest| session.tick(guest)).map_err(wasmtime::Error::new)
        })?;
        for call in HostCall::ALL.iter().copied() {
            define(&mut linker, &engine, call)?;
        }
        Ok(Self { engine, linker })
    }

    fn prepare(&self, wasm: &[u8]) -> wasmtime::Result<InstancePre<Instance>> {
        self.linker.instantiate_pre(&Module::new(&self.engine, wasm)?)
    }
}

/// A host call as wasmtime calls it fastest, by the types of its parameters.
macro_rules! define_typed {
    ($linker:ident, $call:ident, $($types:literal ($($arg:ident: $ty:ty),*)),* $(,)?) => {
        match $call.params() {
            $($types => {
                $linker.func_wrap(
                    HostCall::MODULE,
                    $call.name(),
                    move |mut caller: Caller<'_, Instance>, $($arg: $ty),*| {
                        // Zero-extended bits, whatever the type.
                        answer(&mut caller, $call, &[$($arg.into()),*])
                    },
                )?;
                return Ok(());
            })*
            _ => {}
        }
    };
}

fn define(linker: &mut Linker<Instance>, engine: &Engine, call: HostCall) -> wasmtime::Result<()> {
    if call != HostCall::ProcExit {
        define_typed!(
            linker, call,
            "i" (a: u32),
            "ii" (a: u32, b: u32),
            "iii" (a: u32, b: u32, c: u32),
            "iiii" (a: u32, b: u32, c: u32, d: u32),
            "iiiii" (a: u32, b: u32, c: u32, d: u32, e: u32),
            "iIi" (a: u32, b: u64, c: u32),
            "iIii" (a: u32, b: u64, c: u32, d: u32),
            "iiiIi" (a: u32, b: u32, c: u32, d: u64, e: u32),
            "iiiiiIIii" (a: u32, b: u32, c: u32, d: u32, e: u32, f: u64, g: u64, h: u32, i: u32),
        );
    }
    let params = call.params().chars().map(|kind| if kind == 'I' { ValType::I64 } else { ValType::I32 });
    let result = (call != HostCall::ProcExit).then_some(ValType::I32);
    let ty = FuncType::new(engine, params, result);
    linker.func_new(HostCall::MODULE, call.name(), ty, move |mut caller, params, results| {
        let args: Vec<u64> = params.iter().map(bits).collect();
        let errno = answer(&mut caller, call, &args)?;
        for result in results {
            *result = Val::I32(errno.cast_signed());
        }
        Ok(())
    })?;
    Ok(())
}

/// The errno of a call, zero for the one that has none.
fn answer(caller: &mut Caller<'_, Instance>, call: HostCall, args: &[u64]) -> wasmtime::Result<u32> {
    let mut store = caller.as_context_mut();
    let answer = with_session(&mut store, |session, guest| session.call(call, args, guest));
    answer.map(Option::unwrap_or_default).map_err(wasmtime::Error::new)
}

/// The bits of a numeric operand, zero-extended; imports have no others.
fn bits(value: &Val) -> u64 {
    match value {
        Val::I32(value) => u64::from(value.cast_unsigned()),
        Val::I64(value) => value.cast_unsigned(),
        _ => 0,
    }
}

impl engine::Engine for WasmtimeEngine {
    fn name(&self) -> String {
        "wasmtime 48 cranelift".to_owned()
    }

    fn prepare(&self, module: &Metered) -> Result<Arc<dyn Program>, EngineError> {
        let flavour = if module.has_floats() { &self.canonical } else { &self.exact };
        let refused = |error: wasmtime::Error| EngineError(format!("{error:#}"));
        let pooled = flavour.pooled.as_ref().and_then(|host| host.prepare(module.wasm()).ok());
        let program = Compiled {
            // A module that does not fit a slot of the pool runs in fresh mappings.
            fresh: match &pooled {
                Some(_) => OnceLock::new(),
                None => OnceLock::from(flavour.fresh.prepare(module.wasm()).map_err(refused)?),
            },
            pooled,
            fallback: Fallback { engine: flavour.fresh.engine.clone(), linker: flavour.fresh.linker.clone() },
            wasm: module.wasm().to_vec(),
            globals: module.global_exports().collect(),
        };
        Ok(Arc::new(program))
    }
}

/// What a program needs to compile itself again when the pool is full.
struct Fallback {
    engine: Engine,
    linker: Linker<Instance>,
}

struct Compiled {
    pooled: Option<InstancePre<Instance>>,
    fresh: OnceLock<InstancePre<Instance>>,
    fallback: Fallback,
    wasm: Vec<u8>,
    globals: Vec<String>,
}

impl Compiled {
    fn fresh(&self) -> wasmtime::Result<&InstancePre<Instance>> {
        if let Some(fresh) = self.fresh.get() {
            return Ok(fresh);
        }
        let module = Module::new(&self.fallback.engine, &self.wasm)?;
        let fresh = self.fallback.linker.instantiate_pre(&module)?;
        Ok(self.fresh.get_or_init(|| fresh))
    }

    fn start(&self, session: Box<Session>) -> (Store<Instance>, wasmtime::Result<()>) {
        let attempt = |pre: &InstancePre<Instance>, session| {
            let mut store = Store::new(pre.module().engine(), Instance::new(session));
            store.limiter(|instance| instance);
            let instance = pre.instantiate(&mut store);
            (store, instance)
        };
        // The second compilation happens only when it is needed.
        let first = self.pooled.as_ref().map_or_else(|| self.fresh(), Ok);
        let (mut store, mut instance) = match first {
            Ok(pre) => attempt(pre, session),
            Err(error) => return (Store::new(&self.fallback.engine, Instance::new(session)), Err(error)),
        };
        if instance.as_ref().is_err_and(|error| error.is::<PoolConcurrencyLimitError>()) {
            let Some(session) = store.data_mut().session.take() else { return (store, Ok(())) };
            (store, instance) = match self.fresh() {
                Ok(fresh) => attempt(fresh, session),
                Err(error) => {
                    return (Store::new(&self.fallback.engine, Instance::new(session)), Err(error));
                }
            };
        }
        let result = instance.and_then(|instance| self.enter(&mut store, instance));
        (store, result)
    }

    fn enter(&self, store: &mut Store<Instance>, instance: wasmtime::Instance) -> wasmtime::Result<()> {
        let mut global = |name: &str| {
            let found = instance.get_global(&mut *store, name);
            found.ok_or_else(|| wasmtime::Error::msg(format!("no global {name}")))
        };
        let exports = Exports {
            gas: global(GAS_EXPORT)?,
            depth: global(DEPTH_EXPORT)?,
            globals: self.globals.iter().map(|name| global(name)).collect::<Result<_, _>>()?,
            memory: instance.get_export(&mut *store, MEMORY_EXPORT).and_then(Extern::into_memory),
        };
        store.data_mut().exports = Some(exports);
        let mut context = store.as_context_mut();
        let entry = with_session(&mut context, |session, guest| {
            session.begin(guest);
            Ok(session.entry().to_owned())
        })?;
        if let Ok(start) = instance.get_typed_func::<(), ()>(&mut *store, START_EXPORT) {
            on_own_stack(&start, store)?;
        }
        on_own_stack(&instance.get_typed_func::<(), ()>(&mut *store, &entry)?, store)
    }
}

/// Calls on a stack of the engine's, whatever is left of the caller's.
fn on_own_stack(function: &TypedFunc<(), ()>, store: &mut Store<Instance>) -> wasmtime::Result<()> {
    let call = pin!(function.call_async(store, ()));
    match call.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        // No host function waits for anything.
        Poll::Pending => Err(wasmtime::Error::msg("a call was left unfinished")),
    }
}

impl Program for Compiled {
    fn run(&self, session: Box<Session>) -> Box<Session> {
        let (mut store, result) = self.start(session);
        let end = match result {
            Ok(()) => End::Returned,
            Err(error) if error.is::<Stop>() => End::Stopped,
            Err(error) => match (store.data().failure.clone(), error.downcast_ref::<Trap>()) {
                (Some(failure), _) => End::Failed(failure),
                (None, Some(trap)) => match trap_code(*trap) {
                    Some(code) => End::Trapped(code),
                    None => End::Failed(trap.to_string()),
                },
                (None, None) => End::Failed(format!("{error:#}")),
            },
        };
        let mut session = match store.data_mut().session.take() {
            Some(session) => session,
            None => unreachable!("every borrower of the session puts it back"),
        };
        match store.data_mut().exports.take() {
            Some(exports) => {
                let mut guest = StoreGuest { store: store.as_context_mut(), exports: &exports };
                session.end(end, Some(&mut guest));
            }
            None => session.end(end, None),
        }
        session
    }
}

/// The codes that are results of the guest; the rest are failures of the host.
fn trap_code(trap: Trap) -> Option<TrapCode> {
    Some(match trap {
        Trap::MemoryOutOfBounds => TrapCode::MemoryOutOfBounds,
        Trap::TableOutOfBounds => TrapCode::TableOutOfBounds,
        Trap::IndirectCallToNull => TrapCode::IndirectCallToNull,
        Trap::BadSignature => TrapCode::BadSignature,
        Trap::IntegerOverflow => TrapCode::IntegerOverflow,
        Trap::IntegerDivisionByZero => TrapCode::IntegerDivisionByZero,
        Trap::BadConversionToInteger => TrapCode::BadConversionToInteger,
        Trap::UnreachableCodeReached => TrapCode::Unreachable,
        _ => return None,
    })
}

/// The data of a store.
struct Instance {
    session: Option<Box<Session>>,
    exports: Option<Exports>,
    memory_bytes_max: usize,
    table_elems_left: usize,
    /// Set when the host could not give what the policy grants.
    failure: Option<String>,
}

struct Exports {
    gas: Global,
    depth: Global,
    globals: Vec<Global>,
    memory: Option<Memory>,
}

impl Instance {
    fn new(session: Box<Session>) -> Self {
        Self {
            memory_bytes_max: session.memory_pages_max() as usize * 65_536,
            table_elems_left: session.table_elems_max() as usize,
            session: Some(session),
            exports: None,
            failure: None,
        }
    }
}

impl ResourceLimiter for Instance {
    fn memory_growing(&mut self, _: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        Ok(desired <= self.memory_bytes_max.min(maximum.unwrap_or(usize::MAX)))
    }

    /// Refusals above never come here, so this is the host's lack of memory and no result.
    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        self.failure = Some(format!("{error:#}"));
        Err(error)
    }

    fn table_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        match self.table_elems_left.checked_sub(desired.saturating_sub(current)) {
            Some(left) => {
                self.table_elems_left = left;
                Ok(true)
            }
            None => Ok(false),
        }
    }
}

/// Lends session and guest to a host function; the session is out of the store meanwhile.
fn with_session<R>(
    store: &mut StoreContextMut<'_, Instance>,
    body: impl FnOnce(&mut Session, &mut dyn Guest) -> Result<R, Stop>,
) -> Result<R, Stop> {
    let data = store.data_mut();
    let (Some(mut session), Some(exports)) = (data.session.take(), data.exports.take()) else {
        return Err(Stop);
    };
    let mut guest = StoreGuest { store: store.as_context_mut(), exports: &exports };
    let result = body(&mut session, &mut guest);
    let data = store.data_mut();
    data.session = Some(session);
    data.exports = Some(exports);
    result
}

struct StoreGuest<'a> {
    store: StoreContextMut<'a, Instance>,
    exports: &'a Exports,
}

impl Guest for StoreGuest<'_> {
    fn memory(&mut self) -> &mut [u8] {
        match self.exports.memory {
            Some(memory) => memory.data_mut(&mut self.store),
            None => &mut [],
        }
    }

    fn gas(&mut self) -> i64 {
        self.exports.gas.get(&mut self.store).i64().unwrap_or(i64::MIN)
    }

    fn set_gas(&mut self, gas: i64) {
        self.set(self.exports.gas, Val::I64(gas));
    }

    fn depth(&mut self) -> i32 {
        self.exports.depth.get(&mut self.store).i32().unwrap_or(i32::MIN)
    }

    fn set_depth(&mut self, depth: i32) {
        self.set(self.exports.depth, Val::I32(depth));
    }

    fn globals(&mut self, out: &mut Vec<u8>) {
        for global in &self.exports.globals {
            match global.get(&mut self.store) {
                Val::I32(value) => out.extend_from_slice(&value.to_le_bytes()),
                Val::I64(value) => out.extend_from_slice(&value.to_le_bytes()),
                Val::F32(value) => out.extend_from_slice(&value.to_le_bytes()),
                Val::F64(value) => out.extend_from_slice(&value.to_le_bytes()),
                Val::V128(value) => out.extend_from_slice(&value.as_u128().to_le_bytes()),
                _ => {}
            }
        }
    }
}

impl StoreGuest<'_> {
    fn set(&mut self, global: Global, value: Val) {
        let set = global.set(&mut self.store, value);
        if let Err(error) = set {
            self.store.data_mut().failure = Some(format!("{error:#}"));
        }
    }
}

impl fmt::Debug for WasmtimeEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WasmtimeEngine")
            .field("is_pooled", &self.exact.pooled.is_some())
            .finish_non_exhaustive()
    }
}
