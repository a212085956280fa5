//! Functions whose gas is a constant that the caller pays with its own.

use wasmparser::{ConstExpr, ElementItems, ElementKind, FunctionBody, Operator, Parser, Payload};

use crate::operator;
use crate::profile::{Facts, ProfileError};

/// Largest frame, in stack slots, that does not count if its function calls nothing: there is at
/// most one such frame at a time, and the native stack has room for it beyond what policies
/// grant.
pub(crate) const LEAF_SLOTS: u32 = 1_024;

/// Most gas of a function that does not look whether the slice is overdrawn. Bounds how far a
/// stretch of calls, at most as many as a body has bytes, overdraws it.
pub(super) const UNCHECKED_GAS: u64 = 1_024;

/// The gas of every defined function that a caller can pay in advance: straight-line code that
/// calls nothing and that only direct calls reach.
pub(super) fn prepaid(wasm: &[u8], facts: &Facts) -> Result<Vec<Option<u64>>, ProfileError> {
    let imports = facts.import_count();
    let mut is_addressed = vec![false; facts.functions.len()];
    let mut address = |index: u32| {
        let defined = index.checked_sub(imports).and_then(|defined| is_addressed.get_mut(defined as usize));
        if let Some(is_addressed) = defined {
            *is_addressed = true;
        }
    };
    facts.function_exports.iter().for_each(|(_, index)| address(*index));
    let mut bodies = Vec::new();
    for payload in Parser::new(0).parse_all(wasm) {
        match payload? {
            Payload::StartSection { func, .. } => address(func),
            Payload::ElementSection(section) => {
                for element in section {
                    let element = element?;
                    if let ElementKind::Active { offset_expr, .. } = &element.kind {
                        functions_of(offset_expr, &mut address)?;
                    }
                    match element.items {
                        ElementItems::Functions(items) => {
                            for index in items {
                                address(index?);
                            }
                        }
                        ElementItems::Expressions(_, items) => {
                            for item in items {
                                functions_of(&item?, &mut address)?;
                            }
                        }
                    }
                }
            }
            Payload::CodeSectionEntry(body) => bodies.push(body),
            _ => {}
        }
    }
    bodies
        .iter()
        .zip(&facts.frame_slots)
        .zip(is_addressed)
        .map(
            |((body, slots), is_addressed)| {
                if is_addressed || *slots > LEAF_SLOTS { Ok(None) } else { straight_gas(body) }
            },
        )
        .collect()
}

fn functions_of(expression: &ConstExpr<'_>, address: &mut impl FnMut(u32)) -> Result<(), ProfileError> {
    for operator in expression.get_operators_reader() {
        if let Operator::RefFunc { function_index } = operator? {
            address(function_index);
        }
    }
    Ok(())
}

/// The gas of a body that runs from its first instruction to its last or traps.
fn straight_gas(body: &FunctionBody<'_>) -> Result<Option<u64>, ProfileError> {
    let mut gas = 0;
    for operator in body.get_operators_reader()? {
        let operator = operator?;
        let is_straight = match &operator {
            Operator::If { .. }
            | Operator::Else
            | Operator::Loop { .. }
            | Operator::Br { .. }
            | Operator::BrIf { .. }
            | Operator::BrTable { .. }
            | Operator::Return
            | Operator::Call { .. }
            | Operator::CallIndirect { .. } => false,
            operator => !operator::pays_by_operand(operator),
        };
        gas += operator::gas(&operator);
        if !is_straight || gas > UNCHECKED_GAS {
            return Ok(None);
        }
    }
    Ok(Some(gas))
}
