//! The programs that the engines run: WAT text, each with an entry `_start` and a 64-bit result at
//! address 8 of its memory, so that what the engines computed can be compared.
//!
//! `kernels/NAME.wat` is what clang 14 makes of `kernels/NAME.c`, printed by `wasmprinter` 0.254:
//! ```text
//! clang --target=wasm32 -O2 -ffreestanding -nostdlib -c NAME.c -o NAME.o
//! lld -flavor wasm --entry=_start --strip-all NAME.o -o NAME.wasm
//! ```

use std::fmt::Write as _;

use nonos_zk::gadgets::keccak_round_constants;

/// A program.
pub(crate) struct Kernel {
    pub(crate) name: &'static str,
    pub(crate) wat: String,
}

/// What users run: programs that went through an optimising compiler.
pub(crate) fn compiled() -> Vec<Kernel> {
    [
        ("mandelbrot", include_str!("../../kernels/mandelbrot.wat")),
        (KECCAK, include_str!("../../kernels/keccak.wat")),
        ("sort", include_str!("../../kernels/sort.wat")),
        ("matmul", include_str!("../../kernels/matmul.wat")),
        ("fib", include_str!("../../kernels/fib.wat")),
    ]
    .map(|(name, wat)| Kernel { name, wat: wat.to_owned() })
    .into()
}

/// The hard case for metering: the same by hand, with loops as short as they can be.
pub(crate) fn tight() -> Vec<Kernel> {
    [
        ("mandelbrot", MANDELBROT.to_owned()),
        (KECCAK, permutations(PERMUTATIONS)),
        ("sort", SORT.to_owned()),
        ("matmul", MATMUL.to_owned()),
        ("fib", FIB.to_owned()),
    ]
    .map(|(name, wat)| Kernel { name, wat })
    .into()
}

/// The worst case for checkpoints: every page of 10 MiB is dirty at each of them.
pub(crate) fn sweep() -> Kernel {
    Kernel { name: "sweep of 10 MiB", wat: SWEEP.to_owned() }
}

/// The smallest program that uses its memory.
pub(crate) const NOOP: &str = r#"(module (memory (export "memory") 1)
  (func (export "_start") (i64.store (i32.const 8) (i64.const 7))))"#;

/// Escape times of 256 x 192 points, at most 300 iterations each, in f64.
const MANDELBROT: &str = r#"(module (memory (export "memory") 1)
  (func $escape (param $cx f64) (param $cy f64) (result i32)
    (local $x f64) (local $y f64) (local $xx f64) (local $yy f64) (local $i i32)
    (loop $again
      (local.set $y (f64.add
        (f64.mul (f64.add (local.get $x) (local.get $x)) (local.get $y)) (local.get $cy)))
      (local.set $x (f64.add (f64.sub (local.get $xx) (local.get $yy)) (local.get $cx)))
      (local.set $xx (f64.mul (local.get $x) (local.get $x)))
      (local.set $yy (f64.mul (local.get $y) (local.get $y)))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $again (i32.and
        (f64.le (f64.add (local.get $xx) (local.get $yy)) (f64.const 4))
        (i32.lt_u (local.get $i) (i32.const 300)))))
    (local.get $i))
  (func (export "_start") (local $row i32) (local $column i32) (local $sum i64)
    (loop $rows
      (local.set $column (i32.const 0))
      (loop $columns
        (local.set $sum (i64.add (local.get $sum) (i64.extend_i32_u (call $escape
          (f64.sub (f64.div (f64.convert_i32_u (local.get $column)) (f64.const 96)) (f64.const 2))
          (f64.sub (f64.div (f64.convert_i32_u (local.get $row)) (f64.const 96)) (f64.const 1))))))
        (local.set $column (i32.add (local.get $column) (i32.const 1)))
        (br_if $columns (i32.lt_u (local.get $column) (i32.const 256))))
      (local.set $row (i32.add (local.get $row) (i32.const 1)))
      (br_if $rows (i32.lt_u (local.get $row) (i32.const 192))))
    (i64.store (i32.const 8) (local.get $sum))))"#;

/// Quicksort (Hoare's partition) of 400 000 words from a linear congruential generator, then a
/// digest that depends on their order.
const SORT: &str = r#"(module (memory (export "memory") 26)
  (func $sort (param $low i32) (param $high i32)
    (local $i i32) (local $j i32) (local $pivot i32) (local $left i32) (local $right i32)
    (if (i32.ge_u (local.get $low) (local.get $high)) (then (return)))
    (local.set $pivot (i32.load (i32.and (i32.add (local.get $low)
      (i32.shr_u (i32.sub (local.get $high) (local.get $low)) (i32.const 1))) (i32.const -4))))
    (local.set $i (i32.sub (local.get $low) (i32.const 4)))
    (local.set $j (i32.add (local.get $high) (i32.const 4)))
    (block $parted (loop $part
      (loop $up
        (local.set $i (i32.add (local.get $i) (i32.const 4)))
        (br_if $up (i32.lt_u (local.tee $left (i32.load (local.get $i))) (local.get $pivot))))
      (loop $down
        (local.set $j (i32.sub (local.get $j) (i32.const 4)))
        (br_if $down (i32.gt_u (local.tee $right (i32.load (local.get $j))) (local.get $pivot))))
      (br_if $parted (i32.ge_u (local.get $i) (local.get $j)))
      (i32.store (local.get $i) (local.get $right))
      (i32.store (local.get $j) (local.get $left))
      (br $part)))
    (call $sort (local.get $low) (local.get $j))
    (call $sort (i32.add (local.get $j) (i32.const 4)) (local.get $high)))
  (func (export "_start") (local $at i32) (local $word i32) (local $digest i64)
    (local.set $at (i32.const 16))
    (local.set $word (i32.const 12345))
    (loop $fill
      (local.set $word (i32.add (i32.mul (local.get $word) (i32.const 1664525)) (i32.const 1013904223)))
      (i32.store (local.get $at) (local.get $word))
      (local.set $at (i32.add (local.get $at) (i32.const 4)))
      (br_if $fill (i32.lt_u (local.get $at) (i32.const 1600016))))
    (call $sort (i32.const 16) (i32.const 1600012))
    (local.set $at (i32.const 16))
    (loop $read
      (local.set $digest (i64.add (i64.mul (local.get $digest) (i64.const 31))
        (i64.load32_u (local.get $at))))
      (local.set $at (i32.add (local.get $at) (i32.const 4)))
      (br_if $read (i32.lt_u (local.get $at) (i32.const 1600016))))
    (i64.store (i32.const 8) (local.get $digest))))"#;

/// Product of two matrices of 240 x 240 in f32, rows by columns.
const MATMUL: &str = r#"(module (memory (export "memory") 11)
  (func (export "_start")
    (local $row i32) (local $column i32) (local $k i32) (local $a i32) (local $b i32)
    (local $sum f32) (local $total f64)
    (local.set $a (i32.const 16))
    (loop $fill
      (f32.store (local.get $a) (f32.convert_i32_u (i32.and (local.get $a) (i32.const 1023))))
      (local.set $a (i32.add (local.get $a) (i32.const 4)))
      (br_if $fill (i32.lt_u (local.get $a) (i32.const 460816))))
    (loop $rows
      (local.set $column (i32.const 0))
      (loop $columns
        (local.set $a (i32.add (i32.const 16) (i32.mul (local.get $row) (i32.const 960))))
        (local.set $b (i32.add (i32.const 230416) (i32.shl (local.get $column) (i32.const 2))))
        (local.set $k (i32.const 240))
        (local.set $sum (f32.const 0))
        (loop $dot
          (local.set $sum (f32.add (local.get $sum)
            (f32.mul (f32.load (local.get $a)) (f32.load (local.get $b)))))
          (local.set $a (i32.add (local.get $a) (i32.const 4)))
          (local.set $b (i32.add (local.get $b) (i32.const 960)))
          (br_if $dot (local.tee $k (i32.sub (local.get $k) (i32.const 1)))))
        (f32.store (i32.add (i32.const 460816) (i32.shl (i32.add (local.get $column)
          (i32.mul (local.get $row) (i32.const 240))) (i32.const 2))) (local.get $sum))
        (local.set $total (f64.add (local.get $total) (f64.promote_f32 (local.get $sum))))
        (local.set $column (i32.add (local.get $column) (i32.const 1)))
        (br_if $columns (i32.lt_u (local.get $column) (i32.const 240))))
      (local.set $row (i32.add (local.get $row) (i32.const 1)))
      (br_if $rows (i32.lt_u (local.get $row) (i32.const 240))))
    (f64.store (i32.const 8) (local.get $total))))"#;

/// The 32nd Fibonacci number, by seven million calls.
const FIB: &str = r#"(module (memory (export "memory") 1)
  (func $fib (param $n i32) (result i64)
    (if (result i64) (i32.lt_u (local.get $n) (i32.const 2))
      (then (i64.extend_i32_u (local.get $n)))
      (else (i64.add
        (call $fib (i32.sub (local.get $n) (i32.const 1)))
        (call $fib (i32.sub (local.get $n) (i32.const 2)))))))
  (func (export "_start") (i64.store (i32.const 8) (call $fib (i32.const 32)))))"#;

/// Adds to every word of 10 MiB, twenty times.
const SWEEP: &str = r#"(module (memory (export "memory") 160)
  (func (export "_start") (local $at i32) (local $pass i32)
    (loop $passes
      (local.set $at (i32.const 0))
      (loop $words
        (i64.store (local.get $at) (i64.add (i64.load (local.get $at))
          (i64.extend_i32_u (i32.add (local.get $at) (local.get $pass)))))
        (local.set $at (i32.add (local.get $at) (i32.const 8)))
        (br_if $words (i32.lt_u (local.get $at) (i32.const 10485760))))
      (local.set $pass (i32.add (local.get $pass) (i32.const 1)))
      (br_if $passes (i32.lt_u (local.get $pass) (i32.const 20))))))"#;

/// Applications of Keccak-f[1600] in a run.
const PERMUTATIONS: u32 = 40_000;

/// The kernel that both sets must agree on.
pub(crate) const KECCAK: &str = "keccak";

/// First lane of Keccak-f[1600] of the zero state (FIPS 202, known answer).
pub(crate) const KECCAK_FIRST_LANE: u64 = 0xf125_8f79_40e1_dde7;

/// Keccak-f[1600] (FIPS 202, section 3.3) applied `times` to the zero state: lanes in locals, a
/// round unrolled.
pub(crate) fn permutations(times: u32) -> String {
    let mut locals = String::new();
    let mut round = String::new();
    for lane in 0..25 {
        let _ = write!(locals, "(local $a{lane} i64) (local $b{lane} i64) ");
    }
    for column in 0..5 {
        let _ = write!(locals, "(local $c{column} i64) (local $d{column} i64) ");
        let [a, b, c, d, e] = [0, 5, 10, 15, 20].map(|row| row + column);
        let _ = writeln!(
            round,
            "(local.set $c{column} (i64.xor (i64.xor (i64.xor (local.get $a{a}) (local.get $a{b})) \
             (i64.xor (local.get $a{c}) (local.get $a{d}))) (local.get $a{e})))"
        );
    }
    for column in 0..5 {
        let (before, after) = ((column + 4) % 5, (column + 1) % 5);
        let _ = writeln!(
            round,
            "(local.set $d{column} (i64.xor (local.get $c{before}) \
             (i64.rotl (local.get $c{after}) (i64.const 1))))"
        );
    }
    // Rho and pi: the lane at (x, y) turns and goes to (y, 2x + 3y).
    let (mut x, mut y) = (1, 0);
    round.push_str("(local.set $b0 (i64.xor (local.get $a0) (local.get $d0)))\n");
    for step in 0..24 {
        let turn = (step + 1) * (step + 2) / 2 % 64;
        let (from, to) = (x + 5 * y, y + 5 * ((2 * x + 3 * y) % 5));
        let _ = writeln!(
            round,
            "(local.set $b{to} (i64.rotl (i64.xor (local.get $a{from}) (local.get $d{x})) (i64.const {turn})))"
        );
        (x, y) = (y, (2 * x + 3 * y) % 5);
    }
    for lane in 0..25 {
        let row = lane / 5 * 5;
        let (next, after) = (row + (lane + 1) % 5, row + (lane + 2) % 5);
        let _ = writeln!(
            round,
            "(local.set $a{lane} (i64.xor (local.get $b{lane}) (i64.and \
             (i64.xor (local.get $b{next}) (i64.const -1)) (local.get $b{after}))))"
        );
    }
    let constants: String = keccak_round_constants()
        .iter()
        .flat_map(|constant| constant.to_le_bytes())
        .fold(String::new(), |text, byte| text + &format!("\\{byte:02x}"));
    format!(
        r#"(module (memory (export "memory") 1) (data (i32.const 64) "{constants}")
  (func (export "_start") {locals} (local $at i32) (local $times i32)
    (loop $permutations
      (local.set $at (i32.const 64))
      (loop $rounds
        {round}
        (local.set $a0 (i64.xor (local.get $a0) (i64.load (local.get $at))))
        (local.set $at (i32.add (local.get $at) (i32.const 8)))
        (br_if $rounds (i32.lt_u (local.get $at) (i32.const 256))))
      (local.set $times (i32.add (local.get $times) (i32.const 1)))
      (br_if $permutations (i32.lt_u (local.get $times) (i32.const {times}))))
    (i64.store (i32.const 8) (local.get $a0))))"#
    )
}
