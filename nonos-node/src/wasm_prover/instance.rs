//! A module, compiled, and an instance of it with its walls.

use core::fmt;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use nonos_zk::Proof;
use nonos_zk::groth16::KeySet;
use wasmtime::{Engine, Memory, Module, ResourceLimiter, Store, Trap, TypedFunc};

use super::{WasmLimits, WasmProverError};

/// Longest text of an error that is read from a module, in bytes: what it can put into our log.
const TEXT_BYTES_MAX: usize = 512;

/// Native stack of a module, in bytes. The rest of its stack is in its own memory.
const STACK_BYTES: usize = 512 << 10;

/// Largest table, in elements; a prover calls few functions by reference.
const TABLE_ELEMENTS_MAX: usize = 16 << 10;

/// How a module failed in a call. The module's fault, except [`Self::Machine`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ModuleFault {
    /// It trapped.
    #[error("the prover module trapped: {0}")]
    Trapped(String),
    /// It asked for more memory than it may have, and ended.
    #[error("the prover module needs more than its {limit} bytes of memory")]
    Memory {
        /// [`WasmLimits::memory_bytes_max`].
        limit: usize,
    },
    /// It did not return in time.
    #[error("the prover module did not return within {limit:?}")]
    Time {
        /// [`WasmLimits::call_time_max`].
        limit: Duration,
    },
    /// It named memory that it does not have, or more than an answer holds.
    #[error("the prover module named {len} bytes at {at}, where there is no such thing")]
    Address {
        /// The address.
        at: u32,
        /// The length.
        len: usize,
    },
    /// It has no room for its input.
    #[error("the prover module has no room for {len} bytes of input")]
    NoRoom {
        /// Bytes of input.
        len: usize,
    },
    /// It says itself that it failed.
    #[error("the prover module failed with status {status}: {text:?}")]
    Failed {
        /// Its number.
        status: i32,
        /// Its text, as far as it can be read.
        text: String,
    },
    /// This machine does not give what an instance needs; nobody's fault.
    #[error("no instance of the prover module: {0}")]
    Machine(String),
}

/// The walls of one instance.
struct Walls {
    memory_bytes_max: usize,
    /// Whether it ran into the wall of its memory.
    has_hit: bool,
}

impl ResourceLimiter for Walls {
    fn memory_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let allowed = desired <= self.memory_bytes_max;
        self.has_hit |= !allowed;
        Ok(allowed)
    }

    fn table_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        Ok(desired <= TABLE_ELEMENTS_MAX)
    }

    fn instances(&self) -> usize {
        1
    }

    fn memories(&self) -> usize {
        1
    }

    fn tables(&self) -> usize {
        1
    }
}

/// A compiled module without imports.
pub(super) struct Code {
    engine: Engine,
    module: Module,
    limits: WasmLimits,
}

/// An instance with keys.
pub(super) struct Instance {
    store: Store<Walls>,
    memory: Memory,
    input: TypedFunc<u32, u32>,
    load: TypedFunc<(), i32>,
    prove: TypedFunc<(), i32>,
    output: TypedFunc<(), u32>,
    output_len: TypedFunc<(), u32>,
    engine: Engine,
    limits: WasmLimits,
}

impl Code {
    pub(super) fn compile(wasm: &[u8], limits: WasmLimits) -> Result<Self, WasmProverError> {
        let mut config = wasmtime::Config::new();
        config
            .epoch_interruption(true)
            .max_wasm_stack(STACK_BYTES)
            .wasm_backtrace_max_frames(None)
            .wasm_wide_arithmetic(true)
            .wasm_relaxed_simd(false)
            .wasm_multi_memory(false)
            .wasm_memory64(false);
        let engine = Engine::new(&config).map_err(|error| WasmProverError::Engine(format!("{error:#}")))?;
        let module = Module::from_binary(&engine, wasm)
            .map_err(|error| WasmProverError::Invalid(format!("{error:#}")))?;
        if let Some(import) = module.imports().next() {
            return Err(WasmProverError::Import {
                module: import.module().into(),
                name: import.name().into(),
            });
        }
        let code = Self { engine, module, limits };
        code.check_exports()?;
        Ok(code)
    }

    /// Says what is missing before anything of the module runs.
    fn check_exports(&self) -> Result<(), WasmProverError> {
        use wasmtime::{ExternType, ValType};
        let is_function = |name, params: usize, results: usize| match self.module.get_export(name) {
            Some(ExternType::Func(function)) => {
                function.params().len() == params
                    && function.results().len() == results
                    && function.params().chain(function.results()).all(|it| matches!(it, ValType::I32))
            }
            _ => false,
        };
        if !matches!(self.module.get_export("memory"), Some(ExternType::Memory(_))) {
            return Err(WasmProverError::Export("memory"));
        }
        for (name, params) in [("input", 1), ("load", 0), ("prove", 0), ("output", 0), ("output_len", 0)] {
            if !is_function(name, params, 1) {
                return Err(WasmProverError::Export(name));
            }
        }
        Ok(())
    }

    /// An instance that holds the keys.
    pub(super) fn load(&self, keys: &KeySet) -> Result<Instance, ModuleFault> {
        let mut instance = self.instantiate()?;
        instance.give(&keys.to_bytes())?;
        let load = instance.load.clone();
        instance.call(&load)?;
        Ok(instance)
    }

    fn instantiate(&self) -> Result<Instance, ModuleFault> {
        let walls = Walls { memory_bytes_max: self.limits.memory_bytes_max, has_hit: false };
        let mut store = Store::new(&self.engine, walls);
        store.limiter(|walls| walls);
        // A module may have code that runs now.
        let made = guarded(&self.engine, self.limits, &mut store, |store| {
            wasmtime::Instance::new(store, &self.module, &[])
        })?;
        let machine = |error: wasmtime::Error| ModuleFault::Machine(format!("{error:#}"));
        let memory = made
            .get_memory(&mut store, "memory")
            .ok_or_else(|| ModuleFault::Machine("its memory is gone".to_owned()))?;
        Ok(Instance {
            memory,
            input: made.get_typed_func(&mut store, "input").map_err(machine)?,
            load: made.get_typed_func(&mut store, "load").map_err(machine)?,
            prove: made.get_typed_func(&mut store, "prove").map_err(machine)?,
            output: made.get_typed_func(&mut store, "output").map_err(machine)?,
            output_len: made.get_typed_func(&mut store, "output_len").map_err(machine)?,
            store,
            engine: self.engine.clone(),
            limits: self.limits,
        })
    }
}

impl Instance {
    pub(super) fn memory_bytes(&self) -> usize {
        self.memory.data_size(&self.store)
    }

    /// The module's proof of a request.
    pub(super) fn prove(&mut self, request: &[u8]) -> Result<Vec<u8>, ModuleFault> {
        self.give(request)?;
        let prove = self.prove.clone();
        self.call(&prove)?;
        self.answer(Proof::MAX_BYTES)
    }

    /// Writes input where the module wants it.
    fn give(&mut self, bytes: &[u8]) -> Result<(), ModuleFault> {
        let len = bytes.len();
        let no_room = || ModuleFault::NoRoom { len };
        let wanted = u32::try_from(len).map_err(|_| no_room())?;
        let input = self.input.clone();
        let at = guarded(&self.engine, self.limits, &mut self.store, |store| input.call(store, wanted))?;
        let start = usize::try_from(at).map_err(|_| no_room())?;
        let room =
            start.checked_add(len).and_then(|end| self.memory.data_mut(&mut self.store).get_mut(start..end));
        match room {
            Some(_) if at == 0 => Err(no_room()),
            Some(room) => {
                room.copy_from_slice(bytes);
                Ok(())
            }
            None => Err(ModuleFault::Address { at, len }),
        }
    }

    /// Lets the module work on its input.
    fn call(&mut self, function: &TypedFunc<(), i32>) -> Result<(), ModuleFault> {
        let status = guarded(&self.engine, self.limits, &mut self.store, |store| function.call(store, ()))?;
        if status == 0 {
            return Ok(());
        }
        let text = self.answer(TEXT_BYTES_MAX).unwrap_or_default();
        Err(ModuleFault::Failed { status, text: String::from_utf8_lossy(&text).into_owned() })
    }

    /// The bytes that the last call left.
    fn answer(&mut self, len_max: usize) -> Result<Vec<u8>, ModuleFault> {
        let (output, output_len) = (self.output.clone(), self.output_len.clone());
        let (at, len) = guarded(&self.engine, self.limits, &mut self.store, |mut store| {
            Ok((output.call(&mut store, ())?, output_len.call(store, ())?))
        })?;
        let nothing = |_| ModuleFault::Address { at, len: usize::MAX };
        let (start, len) = (usize::try_from(at).map_err(nothing)?, usize::try_from(len).map_err(nothing)?);
        let bytes = start.checked_add(len).and_then(|end| self.memory.data(&self.store).get(start..end));
        let bytes = bytes.filter(|bytes| bytes.len() <= len_max);
        Ok(bytes.ok_or(ModuleFault::Address { at, len })?.to_vec())
    }
}

/// Runs code of a module while a thread looks at the clock. The engine is the module's alone and one
/// call runs at a time, so its epoch moves for this call or not at all.
fn guarded<T>(
    engine: &Engine,
    limits: WasmLimits,
    store: &mut Store<Walls>,
    call: impl FnOnce(&mut Store<Walls>) -> wasmtime::Result<T>,
) -> Result<T, ModuleFault> {
    store.set_epoch_deadline(1);
    let result = thread::scope(|scope| {
        let (returned, wait) = mpsc::channel::<()>();
        let watch = move || {
            if wait.recv_timeout(limits.call_time_max) == Err(RecvTimeoutError::Timeout) {
                engine.increment_epoch();
            }
        };
        thread::Builder::new().name("prover-clock".to_owned()).spawn_scoped(scope, watch)?;
        let result = call(store);
        drop(returned);
        result
    });
    result.map_err(|error| match error.downcast_ref::<Trap>() {
        Some(Trap::Interrupt) => ModuleFault::Time { limit: limits.call_time_max },
        _ if store.data().has_hit => ModuleFault::Memory { limit: limits.memory_bytes_max },
        Some(trap) => ModuleFault::Trapped(trap.to_string()),
        None => ModuleFault::Machine(format!("{error:#}")),
    })
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Code").field("limits", &self.limits).finish_non_exhaustive()
    }
}
