mod condition;
mod guest;

use core::fmt;
use std::sync::Arc;

use ::wasmi::errors::{ErrorKind, HostError, InstantiationError, MemoryError};
use ::wasmi::{
    AsContextMut as _, Caller, CompilationMode, Config, Engine, FuncType, Instance, Linker, Module, Store,
    TrapCode as Trap, Val, ValType,
};

use self::guest::{Exports, Run, StoreGuest, with_session};
use super::cache::ModuleKey;
use super::compile::CompileError;
use super::engine::{self, End, EngineError, Part, Prepared, Program, Stop};
use super::link::{CALLEES, ENTER, LEAVE, LINK_MODULE, Shim, Shims};
use super::session::Session;
use crate::execution::TrapCode;
use crate::host_call::HostCall;
use crate::instrument::{LEAF_SLOTS, Metered, START_EXPORT, TICK_MODULE, TICK_NAME};
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
    linker: Arc<Linker<Run>>,
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
        let linker = linker(&engine).map_err(|error| EngineError::Failed(error.to_string()))?;
        Ok(Self { engine, linker: Arc::new(linker) })
    }
}

fn linker(engine: &Engine) -> Result<Linker<Run>, ::wasmi::Error> {
    let mut linker = Linker::<Run>::new(engine);
    linker.func_wrap(TICK_MODULE, TICK_NAME, |mut caller: Caller<'_, Run>| {
        with_session(&mut caller.as_context_mut(), |session, guest| session.tick(guest))
            .map_err(::wasmi::Error::host)
    })?;
    linker.func_wrap(LINK_MODULE, ENTER, |mut caller: Caller<'_, Run>, _: u32, to: u32, slots: u32| {
        let mut store = caller.as_context_mut();
        with_session(&mut store, |session, guest| session.enter(to as usize, slots, guest))
            .map_err(::wasmi::Error::host)
    })?;
    linker.func_wrap(LINK_MODULE, LEAVE, |mut caller: Caller<'_, Run>, from: u32, _: u32, slots: u32| {
        let leave = with_session(&mut caller.as_context_mut(), |session, guest| {
            session.leave(from as usize, slots, guest);
            Ok(())
        });
        leave.map_err(::wasmi::Error::host)
    })?;
    for call in HostCall::ALL.iter().copied() {
        let params = call.params().bytes().map(|kind| if kind == b'I' { ValType::I64 } else { ValType::I32 });
        let has_result = call != HostCall::ProcExit;
        let ty = FuncType::new(params, has_result.then_some(ValType::I32));
        linker.func_new(call.module(), call.name(), ty, move |mut caller, params, results| {
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

    fn prepare(&self, _: &ModuleKey, module: &Metered) -> Result<Prepared, EngineError> {
        let parts = vec![self.part(module, None)?];
        let program = Interpreted { linker: Arc::clone(&self.linker), parts };
        Ok(Prepared::new(module, Arc::new(program)))
    }

    fn link(&self, parts: &[Part<'_>]) -> Result<Arc<dyn Program>, EngineError> {
        let mut interpreted = Vec::new();
        for (place, part) in parts.iter().enumerate() {
            let shims = Shims::new(place, part.module, &part.libraries);
            interpreted.push(self.part(part.module, shims)?);
        }
        Ok(Arc::new(Interpreted { linker: Arc::clone(&self.linker), parts: interpreted }))
    }
}

impl WasmiEngine {
    fn part(&self, module: &Metered, shims: Option<Shims>) -> Result<InterpretedPart, EngineError> {
        let wasm = condition::spilled(module).map_err(|error| EngineError::Failed(error.to_string()))?;
        let shims = match shims {
            Some(Shims { wasm, functions }) => Some((self.compile(&wasm)?, functions)),
            None => None,
        };
        Ok(InterpretedPart {
            module: self.compile(&wasm)?,
            globals: module.global_exports().collect(),
            shims,
        })
    }

    fn compile(&self, wasm: &[u8]) -> Result<Module, EngineError> {
        let module = Module::new(&self.engine, wasm);
        Ok(module.map_err(|error| CompileError::Refused(error.to_string()))?)
    }
}

impl fmt::Debug for WasmiEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WasmiEngine").finish_non_exhaustive()
    }
}

/// Modules that run together; a module that runs alone is the only one.
struct Interpreted {
    linker: Arc<Linker<Run>>,
    /// Each before its libraries.
    parts: Vec<InterpretedPart>,
}

struct InterpretedPart {
    module: Module,
    globals: Vec<String>,
    /// What it calls its libraries through.
    shims: Option<(Module, Vec<Shim>)>,
}

impl Interpreted {
    fn start(&self, store: &mut Store<Run>) -> Result<(), ::wasmi::Error> {
        // The last has no libraries.
        let mut instances: Vec<(Instance, &[String])> = Vec::new();
        for (place, part) in self.parts.iter().enumerate().rev() {
            let instance = match &part.shims {
                None => self.linker.instantiate_and_start(&mut *store, &part.module)?,
                Some((module, shims)) => {
                    let missing = |shim: &Shim| ::wasmi::Error::new(format!("no function {}", shim.name));
                    let mut linker = Linker::clone(&self.linker);
                    for (position, shim) in shims.iter().enumerate() {
                        let after = shim.callee.checked_sub(place + 1);
                        let callee = after.and_then(|after| instances.iter().rev().nth(after));
                        let callee = callee.and_then(|(callee, _)| callee.get_func(&*store, &shim.name));
                        let callee = callee.ok_or_else(|| missing(shim))?;
                        linker.define(CALLEES, &position.to_string(), callee)?;
                    }
                    let instance = linker.instantiate_and_start(&mut *store, module)?;
                    for (position, shim) in shims.iter().enumerate() {
                        let function = instance.get_func(&*store, &position.to_string());
                        linker.define(&shim.library, &shim.name, function.ok_or_else(|| missing(shim))?)?;
                    }
                    linker.instantiate_and_start(&mut *store, &part.module)?
                }
            };
            instances.push((instance, &part.globals));
        }
        instances.reverse();
        enter(store, &instances)
    }
}

/// Runs instances with the names of their globals: the start exports, the last first, and the
/// entry of the first.
fn enter(store: &mut Store<Run>, instances: &[(Instance, &[String])]) -> Result<(), ::wasmi::Error> {
    let mut exports = Exports::new();
    for (instance, globals) in instances {
        exports.add(instance, globals, store)?;
    }
    store.data_mut().exports = Some(exports);
    let entry = with_session(&mut store.as_context_mut(), |session, guest| {
        session.begin(guest);
        Ok(session.entry().to_owned())
    })
    .map_err(::wasmi::Error::host)?;
    for (place, (instance, _)) in instances.iter().enumerate().rev() {
        let Ok(start) = instance.get_typed_func::<(), ()>(&*store, START_EXPORT) else { continue };
        if place > 0 {
            with_session(&mut store.as_context_mut(), |session, guest| session.enter(place, 0, guest))
                .map_err(::wasmi::Error::host)?;
        }
        start.call(&mut *store, ())?;
        if place > 0 {
            let leave = with_session(&mut store.as_context_mut(), |session, guest| {
                session.leave(0, 0, guest);
                Ok(())
            });
            leave.map_err(::wasmi::Error::host)?;
        }
    }
    let (first, _) = instances.first().ok_or_else(|| ::wasmi::Error::new("no instance"))?;
    first.get_typed_func::<(), ()>(&*store, &entry)?.call(&mut *store, ())
}

impl Program for Interpreted {
    fn run(&self, session: Box<Session>) -> Box<Session> {
        let mut store = Store::new(self.linker.engine(), Run::new(session));
        store.limiter(|run| run);
        let end = match self.start(&mut store) {
            Ok(()) => End::Returned,
            Err(error) => end(&error, store.data_mut()),
        };
        let Some(mut session) = store.data_mut().session.take() else {
            unreachable!("every borrower of the session puts it back")
        };
        match store.data_mut().exports.take() {
            Some(mut exports) => {
                let mut guest = StoreGuest { store: store.as_context_mut(), exports: &mut exports };
                session.end(end, Some(&mut guest));
            }
            None => session.end(end, None),
        }
        session
    }
}

fn end(error: &::wasmi::Error, instance: &mut Run) -> End {
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
