//! Compiled modules, and runs of them.

use core::future::Future as _;
use core::pin::pin;
use core::task::{Context, Poll, Waker};
use std::sync::OnceLock;

use nonos_capsule_aot::Artifact;
use wasmtime::{
    AsContextMut, Instance, InstancePre, Module, PoolConcurrencyLimitError, Store, Trap, TypedFunc,
};

use super::Host;
use super::guest::{Exports, Run, StoreGuest, with_session};
use crate::execution::TrapCode;
use crate::instrument::START_EXPORT;
use crate::runtime::engine::{End, Program, Stop};
use crate::runtime::link::{CALLEES, Shim};
use crate::runtime::session::Session;

/// What a program needs to be there once more when the pool is full.
pub(super) struct Fallback {
    pub(super) host: Host,
    pub(super) artifact: Artifact,
}

/// A module that runs alone.
pub(super) struct Compiled {
    pub(super) pooled: Option<InstancePre<Run>>,
    pub(super) fresh: OnceLock<InstancePre<Run>>,
    pub(super) fallback: Fallback,
    pub(super) globals: Vec<String>,
}

impl Compiled {
    fn fresh(&self) -> wasmtime::Result<&InstancePre<Run>> {
        if let Some(fresh) = self.fresh.get() {
            return Ok(fresh);
        }
        let fresh = self.fallback.host.prepare(&self.fallback.artifact)?;
        Ok(self.fresh.get_or_init(|| fresh))
    }

    fn start(&self, session: Box<Session>) -> (Store<Run>, wasmtime::Result<()>) {
        let attempt = |pre: &InstancePre<Run>, session| {
            let mut store = new_store(pre.module().engine(), session);
            let instance = pre.instantiate(&mut store);
            (store, instance)
        };
        // The code is made executable a second time only when that is needed.
        let first = self.pooled.as_ref().map_or_else(|| self.fresh(), Ok);
        let (mut store, mut instance) = match first {
            Ok(pre) => attempt(pre, session),
            Err(error) => return (new_store(&self.fallback.host.engine, session), Err(error)),
        };
        if instance.as_ref().is_err_and(|error| error.is::<PoolConcurrencyLimitError>()) {
            let Some(session) = store.data_mut().session.take() else { return (store, Ok(())) };
            (store, instance) = match self.fresh() {
                Ok(fresh) => attempt(fresh, session),
                Err(error) => return (new_store(&self.fallback.host.engine, session), Err(error)),
            };
        }
        let result = instance.and_then(|instance| enter(&mut store, &[(instance, &self.globals)]));
        (store, result)
    }
}

impl Program for Compiled {
    fn run(&self, session: Box<Session>) -> Box<Session> {
        let (store, result) = self.start(session);
        finish(store, result)
    }
}

/// Modules that run together, in fresh mappings.
pub(super) struct Linked {
    pub(super) host: Host,
    /// Each before its libraries.
    pub(super) parts: Vec<LinkedPart>,
}

pub(super) struct LinkedPart {
    pub(super) module: Module,
    pub(super) globals: Vec<String>,
    /// What it calls its libraries through.
    pub(super) shims: Option<(Module, Vec<Shim>)>,
}

impl Linked {
    fn start(&self, store: &mut Store<Run>) -> wasmtime::Result<()> {
        // The last has no libraries.
        let mut instances: Vec<(Instance, &[String])> = Vec::new();
        for (place, part) in self.parts.iter().enumerate().rev() {
            let mut linker = self.host.linker.clone();
            if let Some((module, shims)) = &part.shims {
                let missing = |shim: &Shim| wasmtime::Error::msg(format!("no function {}", shim.name));
                for (position, shim) in shims.iter().enumerate() {
                    let callee = shim
                        .callee
                        .checked_sub(place + 1)
                        .and_then(|after| instances.iter().rev().nth(after));
                    let callee = callee.and_then(|(callee, _)| callee.get_func(&mut *store, &shim.name));
                    let callee = callee.ok_or_else(|| missing(shim))?;
                    linker.define(&*store, CALLEES, &position.to_string(), callee)?;
                }
                let instance = linker.instantiate(&mut *store, module)?;
                for (position, shim) in shims.iter().enumerate() {
                    let function = instance.get_func(&mut *store, &position.to_string());
                    let function = function.ok_or_else(|| missing(shim))?;
                    linker.define(&*store, &shim.library, &shim.name, function)?;
                }
            }
            instances.push((linker.instantiate(&mut *store, &part.module)?, &part.globals));
        }
        instances.reverse();
        enter(store, &instances)
    }
}

impl Program for Linked {
    fn run(&self, session: Box<Session>) -> Box<Session> {
        let mut store = new_store(&self.host.engine, session);
        let result = self.start(&mut store);
        finish(store, result)
    }
}

fn new_store(engine: &wasmtime::Engine, session: Box<Session>) -> Store<Run> {
    let mut store = Store::new(engine, Run::new(session));
    store.limiter(|run| run);
    store
}

/// Runs instances with the names of their globals: the start exports, the last first, and the
/// entry of the first.
fn enter(store: &mut Store<Run>, instances: &[(Instance, &[String])]) -> wasmtime::Result<()> {
    let mut exports = Exports::new();
    for (instance, globals) in instances {
        exports.add(instance, globals, store)?;
    }
    store.data_mut().exports = Some(exports);
    let entry = with_session(&mut store.as_context_mut(), |session, guest| {
        session.begin(guest);
        Ok(session.entry().to_owned())
    })?;
    for (place, (instance, _)) in instances.iter().enumerate().rev() {
        let Ok(start) = instance.get_typed_func::<(), ()>(&mut *store, START_EXPORT) else { continue };
        if place > 0 {
            with_session(&mut store.as_context_mut(), |session, guest| session.enter(place, 0, guest))?;
        }
        on_own_stack(&start, store)?;
        if place > 0 {
            with_session(&mut store.as_context_mut(), |session, guest| {
                session.leave(0, 0, guest);
                Ok(())
            })?;
        }
    }
    let first = instances.first().ok_or_else(|| wasmtime::Error::msg("no instance"))?.0;
    on_own_stack(&first.get_typed_func::<(), ()>(&mut *store, &entry)?, store)
}

/// Calls on a stack of the engine's, whatever is left of the caller's.
fn on_own_stack(function: &TypedFunc<(), ()>, store: &mut Store<Run>) -> wasmtime::Result<()> {
    let call = pin!(function.call_async(store, ()));
    match call.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        // No host function waits for anything.
        Poll::Pending => Err(wasmtime::Error::msg("a call was left unfinished")),
    }
}

/// Tells the session how the run ended.
fn finish(mut store: Store<Run>, result: wasmtime::Result<()>) -> Box<Session> {
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
        Some(mut exports) => {
            let mut guest = StoreGuest { store: store.as_context_mut(), exports: &mut exports };
            session.end(end, Some(&mut guest));
        }
        None => session.end(end, None),
    }
    session
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
