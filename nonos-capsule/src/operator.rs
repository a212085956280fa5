//! What the profile and the price table say about each WASM instruction.

use wasmparser::{Operator, ValType};

/// An instruction's proposal and name.
pub(crate) struct Description {
    pub(crate) proposal: &'static str,
    pub(crate) name: &'static str,
}

macro_rules! define_describe {
    ($( @$proposal:ident $op:ident $({ $($arg:ident: $argty:ty),* })? => $visit:ident ($($ann:tt)*) )*) => {
        pub(crate) fn describe(operator: &Operator<'_>) -> Description {
            let (proposal, visit) = match operator {
                $( Operator::$op { .. } => (stringify!($proposal), stringify!($visit)), )*
                _ => ("unknown", "unknown"),
            };
            Description { proposal, name: visit.strip_prefix("visit_").unwrap_or(visit) }
        }
    };
}

wasmparser::for_each_operator!(define_describe);

/// Why an instruction is outside profile v1, or nothing if it is inside.
pub(crate) fn refusal(operator: &Operator<'_>, about: &Description) -> Option<&'static str> {
    let is_numeric = |ty: &ValType| !matches!(ty, ValType::Ref(_));
    match about.proposal {
        "mvp" | "sign_extension" | "saturating_float_to_int" | "simd" => None,
        "bulk_memory" => match operator {
            Operator::TableInit { .. } | Operator::TableCopy { .. } | Operator::ElemDrop { .. } => {
                Some("tables are constant; fill them with active element segments")
            }
            _ => None,
        },
        "reference_types" => match operator {
            Operator::TypedSelect { ty } if is_numeric(ty) => None,
            _ => Some("tables are constant and references are no values; build without reference types"),
        },
        "threads" | "shared_everything_threads" => Some("one thread only; build without atomics"),
        "exceptions" | "legacy_exceptions" => Some("build with panics that abort, without exceptions"),
        "tail_call" => Some("build without the tail-call feature"),
        "relaxed_simd" => Some("its results differ between machines; build without relaxed-simd"),
        "gc" | "function_references" => Some("build without garbage collection and typed references"),
        _ => Some("not a part of profile v1"),
    }
}

/// Whether the result may hold a NaN whose bits depend on the machine. Loads, stores,
/// constants and reinterpretations move bits unchanged.
pub(crate) fn is_float(about: &Description) -> bool {
    let moves_bits = ["load", "store", "const", "reinterpret", "splat", "lane"];
    (about.name.contains("f32") || about.name.contains("f64"))
        && !moves_bits.iter().any(|word| about.name.contains(word))
}

/// Gas of growing memory by one page of 64 KiB, charged when it succeeds: the page is zeroed and
/// hashed at a checkpoint.
pub(crate) const GAS_PER_PAGE: i64 = 16_384;
/// A bulk operation costs one unit of gas per this power of two of bytes, charged before it runs.
pub(crate) const BULK_BYTES_SHIFT: i64 = 3;

/// Whether an operand decides what the instruction costs beside its own gas.
pub(crate) const fn pays_by_operand(operator: &Operator<'_>) -> bool {
    matches!(
        operator,
        Operator::MemoryGrow { .. }
            | Operator::MemoryCopy { .. }
            | Operator::MemoryFill { .. }
            | Operator::MemoryInit { .. }
    )
}

/// Gas of one instruction (schedule 1), without the surcharge by operand.
pub(crate) fn gas(operator: &Operator<'_>) -> u64 {
    match operator {
        Operator::Nop
        | Operator::Drop
        | Operator::Block { .. }
        | Operator::Loop { .. }
        | Operator::Unreachable
        | Operator::Return
        | Operator::Else
        | Operator::End => 0,
        Operator::I32DivS
        | Operator::I32DivU
        | Operator::I32RemS
        | Operator::I32RemU
        | Operator::I64DivS
        | Operator::I64DivU
        | Operator::I64RemS
        | Operator::I64RemU
        | Operator::F32Div
        | Operator::F64Div
        | Operator::F32Sqrt
        | Operator::F64Sqrt
        | Operator::F32x4Div
        | Operator::F64x2Div
        | Operator::F32x4Sqrt
        | Operator::F64x2Sqrt => 4,
        Operator::Call { .. } => 2,
        Operator::CallIndirect { .. } => 4,
        Operator::MemoryGrow { .. } => 200,
        Operator::MemoryCopy { .. }
        | Operator::MemoryFill { .. }
        | Operator::MemoryInit { .. }
        | Operator::DataDrop { .. } => 20,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_floats() {
        let about = describe(&Operator::F64Sqrt);
        assert_eq!((about.proposal, about.name), ("mvp", "f64_sqrt"));
        assert!(is_float(&about));
        assert!(is_float(&describe(&Operator::F32x4Add)));
        assert!(!is_float(&describe(&Operator::I64ReinterpretF64)));
        assert!(!is_float(&describe(&Operator::I32Add)));
    }

    #[test]
    fn the_profile_refuses_what_differs_between_machines() {
        for operator in [
            Operator::I32x4RelaxedTruncF32x4S,
            Operator::AtomicFence,
            Operator::TableSet { table: 0 },
            Operator::ElemDrop { elem_index: 0 },
            Operator::ReturnCall { function_index: 0 },
            Operator::RefI31,
        ] {
            assert!(refusal(&operator, &describe(&operator)).is_some(), "{operator:?}");
        }
        let fill = Operator::MemoryFill { mem: 0 };
        assert_eq!(refusal(&fill, &describe(&fill)), None);
    }
}
