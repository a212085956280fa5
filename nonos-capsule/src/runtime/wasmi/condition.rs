//! A detour around a fault of wasmi 2.0.0.
//!
//! It fuses a comparison of a local with zero into the `select` that follows, drops the
//! comparison, and then reads the condition from the register where the comparison would have
//! left it. A condition that has been through a local of its own is not fused.

use wasm_encoder::reencode::{Error, Reencode as _, RoundtripReencoder};
use wasm_encoder::{CodeSection, Function, Instruction, ValType};
use wasmparser::{FunctionBody, Operator};

use crate::instrument::{Metered, Sections};

/// The metered module, with a local between every condition and its `select`.
pub(super) fn spilled(module: &Metered) -> Result<Vec<u8>, Error> {
    let (mut sections, bodies) = Sections::read(&mut RoundtripReencoder, module.wasm())?;
    let mut code = CodeSection::new();
    let imports = module.facts.import_count();
    for (body, defined) in bodies.iter().zip(0..) {
        let params = module.facts.function_type(imports + defined).map_or(0, |ty| ty.params().len());
        code.function(&spilled_body(body, u32::try_from(params).unwrap_or(u32::MAX))?);
    }
    sections.code = code;
    Ok(sections.finish())
}

fn spilled_body(body: &FunctionBody<'_>, params: u32) -> Result<Function, Error> {
    let mut locals = Vec::new();
    let mut condition = params;
    for group in body.get_locals_reader()? {
        let (count, ty) = group?;
        locals.push((count, RoundtripReencoder.val_type(ty)?));
        condition = condition.saturating_add(count);
    }
    locals.push((1, ValType::I32));
    let mut function = Function::new(locals);
    for operator in body.get_operators_reader()? {
        let operator = operator?;
        if matches!(operator, Operator::Select | Operator::TypedSelect { .. }) {
            function.instruction(&Instruction::LocalSet(condition));
            function.instruction(&Instruction::LocalGet(condition));
        }
        function.instruction(&RoundtripReencoder.instruction(operator)?);
    }
    Ok(function)
}
