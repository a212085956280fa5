//! The host calls as functions of a linker.

use wasmtime::{AsContextMut, Caller, Engine, FuncType, Linker, Val, ValType};

use super::guest::{Run, with_session};
use crate::host_call::HostCall;
use crate::instrument::{TICK_MODULE, TICK_NAME};
use crate::runtime::link::{ENTER, LEAVE, LINK_MODULE};

/// Defines the host calls, the tick of metered modules, and what shims between instances call.
pub(super) fn define_all(linker: &mut Linker<Run>, engine: &Engine) -> wasmtime::Result<()> {
    linker.func_wrap(TICK_MODULE, TICK_NAME, |mut caller: Caller<'_, Run>| {
        let mut store = caller.as_context_mut();
        with_session(&mut store, |session, guest| session.tick(guest)).map_err(wasmtime::Error::new)
    })?;
    linker.func_wrap(LINK_MODULE, ENTER, |mut caller: Caller<'_, Run>, _: u32, to: u32, slots: u32| {
        let mut store = caller.as_context_mut();
        with_session(&mut store, |session, guest| session.enter(to as usize, slots, guest))
            .map_err(wasmtime::Error::new)
    })?;
    linker.func_wrap(LINK_MODULE, LEAVE, |mut caller: Caller<'_, Run>, from: u32, _: u32, slots: u32| {
        let mut store = caller.as_context_mut();
        let leave = with_session(&mut store, |session, guest| {
            session.leave(from as usize, slots, guest);
            Ok(())
        });
        leave.map_err(wasmtime::Error::new)
    })?;
    HostCall::ALL.iter().try_for_each(|call| define(linker, engine, *call))
}

/// A host call as wasmtime calls it fastest, by the types of its parameters.
macro_rules! define_typed {
    ($linker:ident, $call:ident, $($types:literal ($($arg:ident: $ty:ty),*)),* $(,)?) => {
        match $call.params() {
            $($types => {
                $linker.func_wrap(
                    $call.module(),
                    $call.name(),
                    move |mut caller: Caller<'_, Run>, $($arg: $ty),*| {
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

fn define(linker: &mut Linker<Run>, engine: &Engine, call: HostCall) -> wasmtime::Result<()> {
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
    linker.func_new(call.module(), call.name(), ty, move |mut caller, params, results| {
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
fn answer(caller: &mut Caller<'_, Run>, call: HostCall, args: &[u64]) -> wasmtime::Result<u32> {
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
