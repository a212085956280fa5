mod condition;

use core::fmt;
use std::sync::Arc;

use ::wasmi::errors::{ErrorKind, HostError, InstantiationError, MemoryError};
use ::wasmi::{
    AsContextMut as _, Caller, CompilationMode, Config, Engine, Extern, FuncType, Global, Linker, Memory,
    Module, ResourceLimiter, Store, StoreContextMut, TrapCode as Trap, Val, ValType,
};
use ::wasmi_core::LimiterError;

use super::engine::{self, End, EngineError, Guest, Program, Stop};
use super::session::Session;
use crate::execution::TrapCode;
use crate::host_call::HostCall;
use crate::instrument::{
    DEPTH_EXPORT, GAS_EXPORT, LEAF_SLOTS, MEMORY_EXPORT, Metered, START_EXPORT, TICK_MODULE, TICK_NAME,
};
use crate::policy::Policy;
use crate::profile::FRAME_SLOTS;

/// Most frames that a policy's stack depth allows, and the host's own.
const FRAMES_MAX: usize = (Policy::MAX_STACK_DEPTH / FRAME_SLOTS) as usize + 16;

/// Bytes for each stack slot that a policy can grant: a value is at most 16, the rest is what the
/// interpreter keeps beside.
const BYTES_PER_SLOT: usize = 64;

/// Interprets with wasmi: the second implementation, with nothing in common with the first but
/// the metered module and the host.
///
/// It needs no pool and compiles a hundred times faster than Cranelift, and runs some five to ten
/// times slower. NaNs are always canonical; that is a property of the build of wasmi.
pub struct WasmiEngine {
    engine: Engine,
    linker: Arc<Linker<Instance>>,
}

impl WasmiEngine {
    /// Sets the interpreter up.
    ///
    /// # Errors
    /// [`EngineError`] if a host function cannot be defined.
    pub fn new() -> Result<Self, EngineError> {
        let mut config = Config::default();
        config
            .compilation_mode(CompilationMode::Eager)
            .ignore_custom_sections(true)
            .wasm_relaxed_simd(false)
            .wasm_multi_memory(false)
            .wasm_memory64(false)
            .wasm_tail_call(false)
            .wasm_extended_const(false);
        config.set_max_recursion_depth(FRAMES_MAX);
        config.set_max_stack_height((Policy::MAX_STACK_DEPTH + LEAF_SLOTS) as usize * BYTES_PER_SLOT);
        let engine = Engine::new(&config);
        let linker = linker(&engine).map_err(|error| EngineError(error.to_string()))?;
        Ok(Self { engine, linker: Arc::new(linker) })
    }
}

fn linker(engine: &Engine) -> Result<Linker<Instance>, ::wasmi::Error> {
    let mut linker = Linker::<Instance>::new(engine);
    linker.func_wrap(TICK_MODULE, TICK_NAME, |mut caller: Caller<'_, Instance>| {
        with_session(&mut caller.as_context_mut(), |session, guest| session.tick(guest))
            .map_err(::wasmi::Error::host)
    })?;
    for call in HostCall::ALL.iter().copied() {
        let params = call.params().bytes().map(|kind| if kind == b'I' { ValType::I64 } else { ValType::I32 });
        let has_result = call != HostCall::ProcExit;
        let ty = FuncType::new(params, has_result.then_some(ValType::I32));
        linker.func_new(HostCall::MODULE, call.name(), ty, move |mut caller, params, results| {
            let args: Vec<u64> = params.iter().map(bits).collect();
            let mut store = caller.as_context_mut();
            let answer = with_session(&mut store, |session, guest| session.call(call, &args, guest))
                .map_err(::wasmi::Error::host)?;
            for (result, errno) in results.iter_mut().zip(answer) {
                *result = Val::I32(errno.cast_signed());
            }
            Ok(())
        })?;
    }
    Ok(linker)
}

/// The bits of a numeric operand, zero-extended; imports have no others.
fn bits(value: &Val) -> u64 {
    match value {
        Val::I32(value) => u64::from(value.cast_unsigned()),
        Val::I64(value) => value.cast_unsigned(),
        _ => 0,
    }
}

impl engine::Engine for WasmiEngine {
    fn name(&self) -> String {
        "wasmi 2".to_owned()
    }

    fn prepare(&self, module: &Metered) -> Result<Arc<dyn Program>, EngineError> {
        let wasm = condition::spilled(module).map_err(|error| EngineError(error.to_string()))?;
        let compiled = Module::new(&self.engine, &wasm).map_err(|error| EngineError(error.to_string()))?;
        let linker = Arc::clone(&self.linker);
        Ok(Arc::new(Interpreted { module: compiled, linker, globals: module.global_exports().collect() }))
    }
}

impl fmt::Debug for WasmiEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WasmiEngine").finish_non_exhaustive()
    }
}

struct Interpreted {
    module: Module,
    linker: Arc<Linker<Instance>>,
    globals: Vec<String>,
}

impl Interpreted {
    fn start(&self, store: &mut Store<Instance>) -> Result<(), ::wasmi::Error> {
        let instance = self.linker.instantiate_and_start(&mut *store, &self.module)?;
        let global = |name: &str| {
            let found = instance.get_global(&*store, name);
            found.ok_or_else(|| ::wasmi::Error::new(format!("no global {name}")))
        };
        let exports = Exports {
            gas: global(GAS_EXPORT)?,
            depth: global(DEPTH_EXPORT)?,
            globals: self.globals.iter().map(|name| global(name)).collect::<Result<_, _>>()?,
            memory: instance.get_export(&*store, MEMORY_EXPORT).and_then(Extern::into_memory),
        };
        store.data_mut().exports = Some(exports);
        let entry = with_session(&mut store.as_context_mut(), |session, guest| {
            session.begin(guest);
            Ok(session.entry().to_owned())
        })
        .map_err(::wasmi::Error::host)?;
        if let Ok(start) = instance.get_typed_func::<(), ()>(&*store, START_EXPORT) {
            start.call(&mut *store, ())?;
        }
        instance.get_typed_func::<(), ()>(&*store, &entry)?.call(&mut *store, ())
    }
}

impl Program for Interpreted {
    fn run(&self, session: Box<Session>) -> Box<Session> {
        let mut store = Store::new(self.module.engine(), Instance::new(session));
        store.limiter(|instance| instance);
        let end = match self.start(&mut store) {
            Ok(()) => End::Returned,
            Err(error) => end(&error, store.data_mut()),
        };
        let Some(mut session) = store.data_mut().session.take() else {
            unreachable!("every borrower of the session puts it back")
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

fn end(error: &::wasmi::Error, instance: &mut Instance) -> End {
    if error.downcast_ref::<Stop>().is_some() {
        return End::Stopped;
    }
    if let Some(failure) = instance.failure.take() {
        return End::Failed(failure);
    }
    let code = match error.kind() {
        ErrorKind::TrapCode(trap) => trap_code(*trap),
        // A data or element segment that does not fit.
        ErrorKind::Memory(MemoryError::OutOfBoundsAccess) => Some(TrapCode::MemoryOutOfBounds),
        ErrorKind::Instantiation(InstantiationError::ElementSegmentDoesNotFit { .. }) => {
            Some(TrapCode::TableOutOfBounds)
        }
        _ => None,
    };
    code.map_or_else(|| End::Failed(error.to_string()), End::Trapped)
}

/// The codes that are results of the guest; the rest are failures of the host.
const fn trap_code(trap: Trap) -> Option<TrapCode> {
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

impl HostError for Stop {}

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
    fn memory_growing(
        &mut self,
        _: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> Result<bool, LimiterError> {
        Ok(desired <= self.memory_bytes_max.min(maximum.unwrap_or(usize::MAX)))
    }

    /// Refusals above never come here, so this is the host's lack of memory and no result.
    fn memory_grow_failed(&mut self, error: &MemoryError) -> Result<(), LimiterError> {
        self.failure = Some(error.to_string());
        Err(LimiterError::ResourceLimiterDeniedAllocation)
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _: Option<usize>,
    ) -> Result<bool, LimiterError> {
        match self.table_elems_left.checked_sub(desired.saturating_sub(current)) {
            Some(left) => {
                self.table_elems_left = left;
                Ok(true)
            }
            None => Ok(false),
        }
    }

    fn instances(&self) -> usize {
        1
    }

    fn tables(&self) -> usize {
        usize::MAX
    }

    fn memories(&self) -> usize {
        1
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
        self.exports.gas.get(&self.store).i64().unwrap_or(i64::MIN)
    }

    fn set_gas(&mut self, gas: i64) {
        self.set(self.exports.gas, Val::I64(gas));
    }

    fn depth(&mut self) -> i32 {
        self.exports.depth.get(&self.store).i32().unwrap_or(i32::MIN)
    }

    fn set_depth(&mut self, depth: i32) {
        self.set(self.exports.depth, Val::I32(depth));
    }

    fn globals(&mut self, out: &mut Vec<u8>) {
        for global in &self.exports.globals {
            match global.get(&self.store) {
                Val::I32(value) => out.extend_from_slice(&value.to_le_bytes()),
                Val::I64(value) => out.extend_from_slice(&value.to_le_bytes()),
                Val::F32(value) => out.extend_from_slice(&value.to_bits().to_le_bytes()),
                Val::F64(value) => out.extend_from_slice(&value.to_bits().to_le_bytes()),
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
            self.store.data_mut().failure = Some(error.to_string());
        }
    }
}
