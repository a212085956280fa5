//! The engine on wasmtime: Cranelift, pooled instances, canonical NaNs where there are floats.

use core::fmt;
use std::sync::{Arc, OnceLock};

use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, InstancePre, Linker, PoolingAllocationConfig,
    Strategy,
};

use nonos_capsule_aot::Artifact;

mod guest;
mod host_calls;
mod program;

use self::guest::Run;
use self::program::{Compiled, Fallback, Linked, LinkedPart};
use super::cache::{AotCache, ModuleKey};
use super::compile::Compiler;
use super::engine::{self, EngineError, Part, Prepared, Program};
use super::link::Shims;
use crate::instrument::{self, LEAF_SLOTS, Metered};
use crate::policy::Policy;
use crate::profile::Outline;

/// Native stack of a run, in bytes: 128 for each slot that a policy can grant or a frame takes
/// without counting. A slot is a value, at most 16 bytes; the rest is room for what a compiler
/// spills beside.
const STACK_BYTES: usize = (Policy::MAX_STACK_DEPTH as usize + LEAF_SLOTS as usize) * 128;

/// What host calls may use of the same stack, in bytes.
const HOST_STACK_BYTES: usize = 2 << 20;

/// Largest memory of a pooled instance.
const POOLED_MEMORY_BYTES: usize = Policy::MAX_MEMORY_PAGES as usize * 65_536;

/// The beginning of a pooled memory that is zeroed in place between runs, in bytes. A checkpoint
/// reads all of a memory, and pages given back to the system cost a fault each when it does.
const RESIDENT_BYTES: usize = 128 << 10;

/// Compiles with Cranelift; pools instances where the machine allows it.
pub(crate) struct WasmtimeEngine {
    exact: Flavour,
    canonical: Flavour,
    compiler: Compiler,
    cache: Option<AotCache>,
}

/// One compiler setting: with or without canonical NaNs.
struct Flavour {
    is_canonical: bool,
    pooled: Option<Host>,
    fresh: Host,
    compatibility: [u8; 32],
}

/// An engine and everything a module can import from it.
#[derive(Clone)]
struct Host {
    engine: Engine,
    linker: Linker<Run>,
}

impl WasmtimeEngine {
    pub(crate) fn new(
        pool_slots: u32,
        compiler: Compiler,
        cache: Option<AotCache>,
    ) -> Result<Self, EngineError> {
        let exact = Flavour::new(pool_slots, false)?;
        Ok(Self { exact, canonical: Flavour::new(pool_slots, true)?, compiler, cache })
    }

    const fn flavour(&self, has_floats: bool) -> &Flavour {
        if has_floats { &self.canonical } else { &self.exact }
    }

    fn compile(
        &self,
        flavour: &Flavour,
        key: &ModuleKey,
        module: &Metered,
        outline: &Outline,
    ) -> Result<Artifact, EngineError> {
        let artifact = self.compiler.compile(&flavour.fresh.engine, flavour.is_canonical, module.wasm())?;
        Ok(match &self.cache {
            Some(cache) => cache.keep(key, &flavour.compatibility, outline, artifact),
            None => artifact,
        })
    }

    fn link_part(&self, flavour: &Flavour, place: usize, part: &Part<'_>) -> Result<LinkedPart, EngineError> {
        let engine = &flavour.fresh.engine;
        let outline = part.module.facts.outline();
        let kept = self.cache.as_ref().and_then(|cache| cache.read(&part.key, &flavour.compatibility));
        let artifact = match kept {
            Some((_, artifact)) => artifact,
            None => self.compile(flavour, &part.key, part.module, &outline)?,
        };
        let shims = match Shims::new(place, part.module, &part.libraries) {
            Some(Shims { wasm, functions }) => {
                let artifact = self.compiler.compile(engine, flavour.is_canonical, &wasm)?;
                Some((artifact.load(engine).map_err(failed)?, functions))
            }
            None => None,
        };
        let module = artifact.load(engine).map_err(failed)?;
        Ok(LinkedPart { module, globals: global_exports(&outline), shims })
    }
}

impl Flavour {
    /// A machine that cannot reserve the pool runs without one.
    fn new(pool_slots: u32, is_canonical: bool) -> Result<Self, EngineError> {
        let pooled = match pool_slots {
            0 => None,
            slots => Host::new(Some(slots), is_canonical).ok(),
        };
        let fresh = Host::new(None, is_canonical).map_err(failed)?;
        let compatibility = nonos_capsule_aot::compatibility(&fresh.engine);
        Ok(Self { is_canonical, pooled, fresh, compatibility })
    }

    /// A program of compiled code; both allocators take the same code.
    fn program(&self, artifact: Artifact, globals: Vec<String>) -> Result<Arc<dyn Program>, EngineError> {
        let pooled = self.pooled.as_ref().and_then(|host| host.prepare(&artifact).ok());
        let program = Compiled {
            // A module that does not fit a slot of the pool runs in fresh mappings.
            fresh: match &pooled {
                Some(_) => OnceLock::new(),
                None => OnceLock::from(self.fresh.prepare(&artifact).map_err(failed)?),
            },
            pooled,
            fallback: Fallback { host: self.fresh.clone(), artifact },
            globals,
        };
        Ok(Arc::new(program))
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the shape of map_err")]
fn failed(error: wasmtime::Error) -> EngineError {
    EngineError::Failed(format!("{error:#}"))
}

/// The engine of a compiling process: its code fits the engines of the same flavour.
pub(super) fn compiler_engine(is_canonical: bool) -> wasmtime::Result<Engine> {
    Engine::new(&config(None, is_canonical))
}

fn config(pool_slots: Option<u32>, is_canonical: bool) -> Config {
    let mut config = Config::new();
    config
        .strategy(Strategy::Cranelift)
        .cranelift_nan_canonicalization(is_canonical)
        .max_wasm_stack(STACK_BYTES)
        .async_stack_size(STACK_BYTES + HOST_STACK_BYTES)
        .wasm_backtrace_max_frames(None)
        // The only hints a metered module has are its meter's.
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
            .linear_memory_keep_resident(RESIDENT_BYTES)
            .pagemap_scan(Enabled::Auto)
            .max_unused_warm_slots(slots);
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    }
    config
}

impl Host {
    fn new(pool_slots: Option<u32>, is_canonical: bool) -> wasmtime::Result<Self> {
        let engine = Engine::new(&config(pool_slots, is_canonical))?;
        let mut linker = Linker::<Run>::new(&engine);
        host_calls::define_all(&mut linker, &engine)?;
        Ok(Self { engine, linker })
    }

    fn prepare(&self, artifact: &Artifact) -> wasmtime::Result<InstancePre<Run>> {
        self.linker.instantiate_pre(&artifact.load(&self.engine)?)
    }
}

impl engine::Engine for WasmtimeEngine {
    fn name(&self) -> String {
        "wasmtime 48 cranelift".to_owned()
    }

    fn prepare(&self, key: &ModuleKey, module: &Metered) -> Result<Prepared, EngineError> {
        let flavour = self.flavour(module.has_floats());
        let outline = module.facts.outline();
        let artifact = self.compile(flavour, key, module, &outline)?;
        let program = flavour.program(artifact, global_exports(&outline))?;
        Ok(Prepared { outline: Arc::new(outline), program })
    }

    /// All modules of one program are of one flavour: one has floats, all have canonical NaNs.
    fn link(&self, parts: &[Part<'_>]) -> Result<Arc<dyn Program>, EngineError> {
        let flavour = self.flavour(parts.iter().any(|part| part.module.has_floats()));
        let linked = parts.iter().enumerate().map(|(place, part)| self.link_part(flavour, place, part));
        Ok(Arc::new(Linked { host: flavour.fresh.clone(), parts: linked.collect::<Result<_, _>>()? }))
    }

    fn recall(&self, key: &ModuleKey) -> Option<Prepared> {
        let cache = self.cache.as_ref()?;
        [&self.exact, &self.canonical].into_iter().find_map(|flavour| {
            let (outline, artifact) = cache.read(key, &flavour.compatibility)?;
            let program = flavour.program(artifact, global_exports(&outline)).ok()?;
            Some(Prepared { outline: Arc::new(outline), program })
        })
    }
}

fn global_exports(outline: &Outline) -> Vec<String> {
    outline.mutable_globals.iter().map(|index| instrument::global_export(*index)).collect()
}

impl fmt::Debug for WasmtimeEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WasmtimeEngine")
            .field("is_pooled", &self.exact.pooled.is_some())
            .finish_non_exhaustive()
    }
}
