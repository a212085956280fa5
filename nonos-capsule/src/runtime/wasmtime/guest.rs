//! A run in a store: its limits, and its instances as the session sees them.

use wasmtime::{
    AsContextMut, Extern, Global, Instance, Memory, ResourceLimiter, Store, StoreContextMut, Val,
};

use crate::instrument::{DEPTH_EXPORT, GAS_EXPORT, MEMORY_EXPORT};
use crate::runtime::engine::{Guest, Stop};
use crate::runtime::session::Session;

/// The data of a store: one run.
pub(super) struct Run {
    pub(super) session: Option<Box<Session>>,
    pub(super) exports: Option<Exports>,
    memory_bytes_left: usize,
    table_elems_left: usize,
    /// Set when the host could not give what the policy grants.
    pub(super) failure: Option<String>,
}

/// What the host uses of every instance.
pub(super) struct Exports {
    selected: usize,
    instances: Vec<InstanceExports>,
}

struct InstanceExports {
    gas: Global,
    depth: Global,
    globals: Vec<Global>,
    memory: Option<Memory>,
}

impl Exports {
    pub(super) const fn new() -> Self {
        Self { selected: 0, instances: Vec::new() }
    }

    /// The next instance, with the names of its own globals.
    pub(super) fn add(
        &mut self,
        instance: &Instance,
        globals: &[String],
        store: &mut Store<Run>,
    ) -> wasmtime::Result<()> {
        let mut global = |name: &str| {
            let found = instance.get_global(&mut *store, name);
            found.ok_or_else(|| wasmtime::Error::msg(format!("no global {name}")))
        };
        self.instances.push(InstanceExports {
            gas: global(GAS_EXPORT)?,
            depth: global(DEPTH_EXPORT)?,
            globals: globals.iter().map(|name| global(name)).collect::<Result<_, _>>()?,
            memory: instance.get_export(&mut *store, MEMORY_EXPORT).and_then(Extern::into_memory),
        });
        Ok(())
    }

    fn selected(&self) -> Option<&InstanceExports> {
        self.instances.get(self.selected)
    }
}

impl Run {
    pub(super) fn new(session: Box<Session>) -> Self {
        Self {
            memory_bytes_left: session.memory_pages_max() as usize * 65_536,
            table_elems_left: session.table_elems_max() as usize,
            session: Some(session),
            exports: None,
            failure: None,
        }
    }
}

impl ResourceLimiter for Run {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let left = self.memory_bytes_left.checked_sub(desired.saturating_sub(current));
        match left.filter(|_| desired <= maximum.unwrap_or(usize::MAX)) {
            Some(left) => {
                self.memory_bytes_left = left;
                Ok(true)
            }
            None => Ok(false),
        }
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
pub(super) fn with_session<R>(
    store: &mut StoreContextMut<'_, Run>,
    body: impl FnOnce(&mut Session, &mut dyn Guest) -> Result<R, Stop>,
) -> Result<R, Stop> {
    let data = store.data_mut();
    let (Some(mut session), Some(mut exports)) = (data.session.take(), data.exports.take()) else {
        return Err(Stop);
    };
    let mut guest = StoreGuest { store: store.as_context_mut(), exports: &mut exports };
    let result = body(&mut session, &mut guest);
    let data = store.data_mut();
    data.session = Some(session);
    data.exports = Some(exports);
    result
}

pub(super) struct StoreGuest<'a> {
    pub(super) store: StoreContextMut<'a, Run>,
    pub(super) exports: &'a mut Exports,
}

impl Guest for StoreGuest<'_> {
    fn select(&mut self, instance: usize) {
        self.exports.selected = instance;
    }

    fn memory(&mut self) -> &mut [u8] {
        match self.exports.selected().and_then(|exports| exports.memory) {
            Some(memory) => memory.data_mut(&mut self.store),
            None => &mut [],
        }
    }

    fn gas(&mut self) -> i64 {
        let gas = self.exports.selected().map(|exports| exports.gas.get(&mut self.store));
        gas.and_then(|gas| gas.i64()).unwrap_or(i64::MIN)
    }

    fn set_gas(&mut self, gas: i64) {
        self.set(self.exports.selected().map(|exports| exports.gas), Val::I64(gas));
    }

    fn depth(&mut self) -> i32 {
        let depth = self.exports.selected().map(|exports| exports.depth.get(&mut self.store));
        depth.and_then(|depth| depth.i32()).unwrap_or(i32::MIN)
    }

    fn set_depth(&mut self, depth: i32) {
        self.set(self.exports.selected().map(|exports| exports.depth), Val::I32(depth));
    }

    fn globals(&mut self, out: &mut Vec<u8>) {
        for global in self.exports.selected().into_iter().flat_map(|exports| &exports.globals) {
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
    fn set(&mut self, global: Option<Global>, value: Val) {
        let set = global.map(|global| global.set(&mut self.store, value));
        if let Some(Err(error)) = set {
            self.store.data_mut().failure = Some(format!("{error:#}"));
        }
    }
}
