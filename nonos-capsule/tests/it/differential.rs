//! Generated modules: metering keeps what they mean, and both engines give the same execution.

use std::fmt::Write as _;

use nonos_capsule::testing::{Differential, fuzz_differential};
use nonos_identity::Digest;

use crate::support::{command, run_wat};

/// Bytes of choices of one module.
const SEED_BYTES: usize = 8_192;

/// Choices that depend on the number only.
fn choices(number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    for block in 0u64.. {
        if bytes.len() >= SEED_BYTES {
            break;
        }
        let seed = [number.to_le_bytes(), block.to_le_bytes()].concat();
        bytes.extend_from_slice(Digest::of_bytes(&seed).as_bytes());
    }
    bytes
}

fn generated(first: u64, modules: u64) -> Differential {
    let mut sum = Differential::default();
    for number in first..first + modules {
        let outcome = std::panic::catch_unwind(|| fuzz_differential(&choices(number)));
        let outcome = outcome.unwrap_or_else(|_| panic!("module {number} differs"));
        sum.compared += outcome.compared;
        sum.unfinished += outcome.unfinished;
        sum.executed += outcome.executed;
        sum.trapped += outcome.trapped;
    }
    sum
}

/// `NONOS_MODULES` of them, from number `NONOS_FIRST`.
#[test]
fn generated_modules_do_not_differ() {
    let number = |name| std::env::var(name).ok().and_then(|value| value.parse().ok());
    let (first, modules) = (number("NONOS_FIRST").unwrap_or(0), number("NONOS_MODULES").unwrap_or(100));
    let sum = generated(first, modules);
    println!("{modules} modules: {sum:?}");
    // The generator gives something to compare.
    assert!(u64::from(sum.executed) > modules, "{sum:?}");
    assert!(sum.compared > sum.executed / 3, "{sum:?}");
    assert!(sum.trapped < sum.executed * 3 / 4, "{sum:?}");
}

/// Large offsets take other paths through an interpreter than small ones.
#[test]
fn lanes_go_where_they_should() {
    let mut body = String::new();
    for (width, lanes) in [(8, 16), (16, 8), (32, 4), (64, 2)] {
        for offset in [0, 16, 70_000] {
            for lane in [0, lanes - 1] {
                write!(
                    body,
                    "(v128.store{width}_lane offset={offset} {lane} (local.get 0) (local.get 1))
                     (v128.store{width}_lane offset={offset} {lane} (i32.load (i32.const 64)) (local.get 1))
                     (local.set 1 (v128.load{width}_lane offset={offset} {lane} (local.get 0) (local.get 1)))"
                )
                .unwrap();
            }
        }
    }
    let wat = format!(
        r#"(module (memory 2) (data (i32.const 0) "the quick brown fox jumps over the lazy dog")
           (func (export "_start") (local i32 v128) (local.set 1 (v128.load (i32.const 8))) {body}))"#
    );
    assert!(run_wat(&wat, b"").status.is_success());
}

/// Each divides by what a comparison of a local with zero selects, as compilers do.
#[test]
fn comparisons_with_zero_select() {
    for ty in ["i32", "i64"] {
        for (compare, order) in [
            (format!("({ty}.eqz (local.get 0))"), "1 0"),
            (format!("({ty}.eq (local.get 0) ({ty}.const 0))"), "1 0"),
            (format!("({ty}.ne (local.get 0) ({ty}.const 0))"), "0 1"),
        ] {
            let pick = |which| match which {
                '1' => format!("({ty}.const 1)"),
                _ => "(local.get 0)".to_owned(),
            };
            let operands: String =
                order.split(' ').map(|which| pick(which.chars().next().unwrap())).collect();
            for divided in [format!("({ty}.const 7)"), "(local.get 1)".to_owned()] {
                let body =
                    format!("(local {ty} {ty}) (drop ({ty}.rem_u {divided} (select {operands} {compare})))");
                assert!(run_wat(&command("", &body), b"").status.is_success(), "{body}");
            }
        }
    }
}
