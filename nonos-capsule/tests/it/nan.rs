//! The bits of every NaN are the same on every machine: arithmetic gives the canonical one, and
//! what only moves bits keeps them.

use std::fmt::Write as _;

use nonos_capsule::{HostCall, Policy};

use crate::support::{import, interpreter, invocation, policy, run, runtime, signed, verified, wasm};

const CANONICAL: [u64; 2] = [0x7fc0_0000, 0x7ff8_0000_0000_0000];

/// Numbers, signed zeros, infinities, and NaNs: canonical, negative, with payload, signalling.
const F32: [u64; 9] = [
    0x3f80_0000,
    0x8000_0000,
    0,
    0x7f80_0000,
    0xff80_0000,
    CANONICAL[0],
    0xffc0_0000,
    0x7fd0_1234,
    0xff81_2345,
];
const F64: [u64; 9] = [
    0x3ff0_0000_0000_0000,
    0x8000_0000_0000_0000,
    0,
    0x7ff0_0000_0000_0000,
    0xfff0_0000_0000_0000,
    CANONICAL[1],
    0xfff8_0000_0000_0000,
    0x7ff9_2345_6789_abcd,
    0xfff4_3210_0000_0001,
];

/// Arithmetic: a NaN that comes out is canonical.
const UNARY: [&str; 5] = ["ceil", "floor", "trunc", "nearest", "sqrt"];
const BINARY: [&str; 6] = ["add", "sub", "mul", "div", "min", "max"];
/// These move bits; a NaN comes out as it went in, but for its sign. `pmin` and `pmax` choose.
const MOVES: [&str; 2] = ["abs", "neg"];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Lanes {
    F32,
    F64,
    F32x4,
    F64x2,
}

impl Lanes {
    const ALL: [Self; 4] = [Self::F32, Self::F64, Self::F32x4, Self::F64x2];

    fn name(self) -> &'static str {
        ["f32", "f64", "f32x4", "f64x2"][self as usize]
    }

    fn is_wide(self) -> bool {
        matches!(self, Self::F64 | Self::F64x2)
    }

    fn is_vector(self) -> bool {
        matches!(self, Self::F32x4 | Self::F64x2)
    }

    fn ty(self) -> &'static str {
        if self.is_vector() { "v128" } else { self.name() }
    }

    /// An operand out of pattern `index`, as a constant or as a load of the same bits.
    fn operand(self, index: usize, is_constant: bool) -> String {
        let pattern =
            |shift: usize| if self.is_wide() { F64[(index + shift) % 9] } else { F32[(index + shift) % 9] };
        if !is_constant {
            return format!("({}.load (i32.const {}))", self.ty(), (self as usize * 9 + index) * 16);
        }
        match self {
            Self::F32 => format!("(f32.reinterpret_i32 (i32.const {:#x}))", pattern(0)),
            Self::F64 => format!("(f64.reinterpret_i64 (i64.const {:#x}))", pattern(0)),
            Self::F32x4 => {
                let lanes = [0, 1, 2, 3].map(|lane| format!("{:#x}", pattern(lane)));
                format!("(v128.const i32x4 {})", lanes.join(" "))
            }
            Self::F64x2 => format!("(v128.const i64x2 {:#x} {:#x})", pattern(0), pattern(1)),
        }
    }
}

/// An operation, its operand and result, and whether it is arithmetic.
struct Operation {
    name: String,
    arity: usize,
    from: Lanes,
    to: Lanes,
    is_arithmetic: bool,
}

fn operations() -> Vec<Operation> {
    let mut all = Vec::new();
    for lanes in Lanes::ALL {
        let mut push = |names: &[&str], arity, is_arithmetic| {
            all.extend(names.iter().map(|name| Operation {
                name: format!("{}.{name}", lanes.name()),
                arity,
                from: lanes,
                to: lanes,
                is_arithmetic,
            }));
        };
        push(&UNARY, 1, true);
        push(&BINARY, 2, true);
        push(&MOVES, 1, false);
        if lanes.is_vector() { push(&["pmin", "pmax"], 2, false) } else { push(&["copysign"], 2, false) }
    }
    for (name, from, to) in [
        ("f64.promote_f32", Lanes::F32, Lanes::F64),
        ("f32.demote_f64", Lanes::F64, Lanes::F32),
        ("f64x2.promote_low_f32x4", Lanes::F32x4, Lanes::F64x2),
        ("f32x4.demote_f64x2_zero", Lanes::F64x2, Lanes::F32x4),
    ] {
        all.push(Operation { name: name.to_owned(), arity: 1, from, to, is_arithmetic: true });
    }
    all
}

/// Where results begin; 16 bytes each, from memory and from constants in turn.
const RESULTS_AT: usize = 65_536;

fn module(operations: &[Operation]) -> (String, usize) {
    let (mut functions, mut calls, mut at) = (String::new(), String::new(), RESULTS_AT);
    for (number, operation) in operations.iter().enumerate() {
        write!(functions, "(func $f{number}").unwrap();
        for a in 0..9 {
            for b in 0..if operation.arity == 2 { 9 } else { 1 } {
                for is_constant in [false, true] {
                    let mut operands = operation.from.operand(a, is_constant);
                    if operation.arity == 2 {
                        operands += &operation.from.operand(b, is_constant);
                    }
                    write!(
                        functions,
                        "({}.store (i32.const {at}) ({} {operands}))",
                        operation.to.ty(),
                        operation.name
                    )
                    .unwrap();
                    at += 16;
                }
            }
        }
        functions.push(')');
        write!(calls, "(call $f{number})").unwrap();
    }
    // The operands in memory are those in the constants.
    let mut operands = String::new();
    for lanes in Lanes::ALL {
        for index in 0..9 {
            let address = (lanes as usize * 9 + index) * 16;
            let value = lanes.operand(index, true);
            write!(operands, "({}.store (i32.const {address}) {value})", lanes.ty()).unwrap();
        }
    }
    let (pages, len) = (at.div_ceil(65_536), at - RESULTS_AT);
    let wat = format!(
        r#"(module {} (memory {pages}) {functions} (func (export "_start") {operands} {calls}
             (i32.store (i32.const 1024) (i32.const {RESULTS_AT}))
             (i32.store (i32.const 1028) (i32.const {len}))
             (drop (call $fd_write (i32.const 1) (i32.const 1024) (i32.const 1) (i32.const 1032)))))"#,
        import(HostCall::FdWrite)
    );
    (wat, len)
}

#[test]
fn every_nan_has_the_same_bits_everywhere() {
    let operations = operations();
    let (wat, len) = module(&operations);
    let (payload, policy) = (wasm(&wat), Policy { output_max_bytes: 1 << 20, ..policy() });
    let [compiled, interpreted] = [runtime(), interpreter()].map(|runtime| {
        let loaded = runtime.load(&verified(signed(&payload, policy.clone())), &policy).unwrap();
        run(&loaded, &invocation(b"")).unwrap()
    });
    assert!(compiled.status.is_success(), "{}", compiled.status);
    assert_eq!(compiled.output.len(), len);
    let mut nans = 0;
    let mut results = compiled.output.chunks(16).zip(interpreted.output.chunks(16));
    for operation in &operations {
        for pair in 0..if operation.arity == 2 { 81 } else { 9 } {
            let mut bits = Vec::new();
            for _ in 0..2 {
                let (compiled, interpreted) = results.next().unwrap();
                assert_eq!(compiled, interpreted, "{} of pair {pair}", operation.name);
                bits.push(u128::from_le_bytes(compiled.try_into().unwrap()));
            }
            assert_eq!(bits[0], bits[1], "{} of pair {pair}: of memory and of constants", operation.name);
            if !operation.is_arithmetic {
                continue;
            }
            let width = if operation.to.is_wide() { 64 } else { 32 };
            for lane in 0..128 / width {
                let bits = (bits[0] >> (lane * width)) as u64 & (u64::MAX >> (64 - width));
                let infinity = if width == 64 { 0x7ff0 << 48 } else { 0x7f80_0000 };
                if bits & (u64::MAX >> (65 - width)) > infinity {
                    nans += 1;
                    assert_eq!(
                        bits,
                        CANONICAL[usize::from(width == 64)],
                        "{} of pair {pair}",
                        operation.name
                    );
                }
            }
        }
    }
    assert!(nans > 1_000, "{nans} NaNs were looked at");
    assert_eq!(compiled, interpreted);
}
