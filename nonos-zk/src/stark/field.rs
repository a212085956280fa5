//! The AIR of a field that stays hidden: the preimage of a salted leaf is a template with holes.
//!
//! It has the columns of the sponge up to `block`, and its constraints but for the padding, which is part
//! of the template: a byte of the padded preimage is known, or of the salt, or a digit of the value.
//! These columns are added:
//!
//! - `prev`: the limbs of the state before this block, the same on all rows of a permutation.
//! - `out`, `msg`: the bits of three limbs of that state and of the message. Row `r` of a permutation is
//!   for the limbs 3r, 3r+1, 3r+2 of its block; together with the input they are tied by XOR.
//! - `place`: one flag for each block, 1 on the rows of that block: the binary form of `block`.
//! - `digits`: the digits of the value, four bits each, the same on all rows. A byte of the message
//!   that is a digit is 0x30 and the digit, and no digit exceeds nine.
//! - for a range, the digits of `max - value` and `value - min` (four bits each) with their borrows, of
//!   which the last is 0: so both differences are not negative, as integers.
//! - for a set, one flag for each member, of which one is 1: its member has the digits of the value.
#![expect(
    clippy::indexing_slicing,
    reason = "columns and limbs have fixed places; a row has the width of the AIR"
)]

use core::borrow::Borrow;

use p3_air::{Air, AirBuilder, BaseAir, WindowAccess};
use p3_field::{PrimeCharacteristicRing, PrimeField32};
use p3_keccak_air::{KeccakCols, NUM_KECCAK_COLS, NUM_ROUNDS};
use p3_matrix::dense::RowMajorMatrix;

use super::air::{
    ACTIVE, BLOCK, CORE_COLS, End, Hash, LIMB_BITS, MAX_DEGREE, STATE_LIMBS, SpongeAir, input, output, start,
};
use super::config::Val;
use super::trace::Absorbed;

const HASH: Hash = Hash::Sha3_256;
const RATE_LIMBS: usize = HASH.rate() / 2;

/// Limbs on one row.
const SLOTS: usize = RATE_LIMBS.div_ceil(NUM_ROUNDS);
const DIGIT_BITS: usize = 4;

const PREV: usize = CORE_COLS;
const OUT: usize = PREV + RATE_LIMBS;
const MSG: usize = OUT + SLOTS * LIMB_BITS;
const PLACE: usize = MSG + SLOTS * LIMB_BITS;

/// A byte of the padded preimage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cell {
    Known(u8),
    Salt,
    /// A digit of the value, the first one being the most significant.
    Digit(usize),
}

/// What the value is, in digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Bounds {
    Range { min: Vec<u8>, max: Vec<u8> },
    OneOf(Vec<Vec<u8>>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FieldAir {
    /// Whole blocks.
    pub(super) cells: Vec<Cell>,
    pub(super) digits: usize,
    pub(super) bounds: Bounds,
}

/// Four bits and a borrow in each of two differences.
const RANGE_COLS_PER_DIGIT: usize = 2 * (DIGIT_BITS + 1);

impl FieldAir {
    pub(super) const fn blocks(&self) -> usize {
        self.cells.len() / HASH.rate()
    }

    pub(super) const fn sponge(&self) -> SpongeAir {
        // The tail is of no interest without the sponge's own padding.
        SpongeAir { hash: HASH, end: End::Message { tail: 0 } }
    }

    const fn digit_bits(&self) -> usize {
        PLACE + self.blocks()
    }

    const fn bound_cols(&self) -> usize {
        self.digit_bits() + self.digits * DIGIT_BITS
    }

    /// The bits of the `digit`th digit of a difference (0: to the maximum, 1: to the minimum); its
    /// borrow follows.
    const fn difference(&self, which: usize, digit: usize) -> usize {
        self.bound_cols() + (which * self.digits + digit) * (DIGIT_BITS + 1)
    }

    fn cell(&self, block: usize, row: usize, slot: usize, byte: usize) -> Option<Cell> {
        let limb = row * SLOTS + slot;
        (limb < RATE_LIMBS).then(|| self.cells[block * HASH.rate() + limb * 2 + byte])
    }

    /// Ties the bits to state, input and template.
    fn eval_message<AB: AirBuilder>(&self, builder: &mut AB) {
        let main = builder.main();
        let (local, next) = (main.current_slice(), main.next_slice());
        let keccak: &KeccakCols<AB::Var> = local[..NUM_KECCAK_COLS].borrow();
        let final_step = keccak.step_flags[NUM_ROUNDS - 1];
        let start = start::<AB>(builder);
        for (limb, value) in start.iter().take(RATE_LIMBS).enumerate() {
            let column = PREV + limb;
            builder.when_first_row().assert_eq(local[column], value.clone());
            builder.when_transition().when(AB::Expr::ONE - final_step).assert_eq(local[column], next[column]);
            builder
                .when_transition()
                .when(final_step)
                .when(next[ACTIVE])
                .assert_eq(next[column], output(keccak, limb));
        }
        for bit in &local[OUT..PLACE] {
            builder.assert_bool(*bit);
        }
        for slot in 0..SLOTS {
            let out = &local[OUT + slot * LIMB_BITS..][..LIMB_BITS];
            let msg = &local[MSG + slot * LIMB_BITS..][..LIMB_BITS];
            let of_row = |of: &dyn Fn(usize) -> AB::Var| {
                let rows = (0..NUM_ROUNDS).filter(|row| row * SLOTS + slot < RATE_LIMBS);
                rows.map(|row| keccak.step_flags[row] * of(row * SLOTS + slot)).sum::<AB::Expr>()
            };
            let number = |bits: &mut dyn DoubleEndedIterator<Item = AB::Expr>| {
                bits.rev().fold(AB::Expr::ZERO, |number, bit| number.double() + bit)
            };
            let prev = of_row(&|limb| local[PREV + limb]);
            builder.assert_eq(number(&mut out.iter().map(|bit| (*bit).into())), prev);
            let mut xored = out.iter().zip(msg).map(|(a, b)| (*a).into().xor(&(*b).into()));
            builder.assert_eq(number(&mut xored), of_row(&|limb| input(keccak, limb)));

            for byte in 0..2 {
                let bits = &msg[byte * 8..][..8];
                let (mut known, mut expected) = (AB::Expr::ZERO, AB::Expr::ZERO);
                for block in 0..self.blocks() {
                    for row in 0..NUM_ROUNDS {
                        let here = || local[PLACE + block] * keccak.step_flags[row];
                        match self.cell(block, row, slot, byte) {
                            Some(Cell::Known(value)) => {
                                known += here();
                                expected += here() * AB::Expr::from_u8(value);
                            }
                            Some(Cell::Digit(digit)) => {
                                self.eval_digit(&mut builder.when(here()), bits, digit, local)
                            }
                            Some(Cell::Salt) | None => {}
                        }
                    }
                }
                builder.assert_eq(known * number(&mut bits.iter().map(|bit| (*bit).into())), expected);
            }
        }
    }

    /// A byte of the message is the ASCII of a digit.
    fn eval_digit<AB: AirBuilder>(
        &self,
        builder: &mut AB,
        byte: &[AB::Var],
        digit: usize,
        local: &[AB::Var],
    ) {
        let bits = &local[self.digit_bits() + digit * DIGIT_BITS..][..DIGIT_BITS];
        for (bit, of_digit) in byte.iter().zip(bits) {
            builder.assert_eq(*bit, *of_digit);
        }
        for (bit, of_zero) in byte[DIGIT_BITS..].iter().zip([true, true, false, false]) {
            builder.assert_eq(*bit, AB::Expr::from_bool(of_zero));
        }
    }

    fn eval_places<AB: AirBuilder>(&self, builder: &mut AB) {
        let main = builder.main();
        let local = main.current_slice();
        let places = &local[PLACE..][..self.blocks()];
        let (mut sum, mut block) = (AB::Expr::ZERO, AB::Expr::ZERO);
        for (index, place) in places.iter().enumerate() {
            builder.assert_bool(*place);
            sum += *place;
            block += *place * AB::Expr::from_usize(index);
        }
        builder.assert_eq(sum, local[ACTIVE]);
        builder.when(local[ACTIVE]).assert_eq(block, local[BLOCK]);
    }

    /// The digits, and what is said about them: on the first row, since they are the same on all.
    fn eval_value<AB: AirBuilder>(&self, builder: &mut AB) {
        let main = builder.main();
        let (local, next) = (main.current_slice(), main.next_slice());
        for column in self.digit_bits()..self.bound_cols() {
            builder.when_transition().assert_eq(local[column], next[column]);
        }
        for bit in &local[self.digit_bits()..] {
            builder.assert_bool(*bit);
        }
        let number = |bits: usize| {
            let bits = local[bits..][..DIGIT_BITS].iter().rev();
            bits.fold(AB::Expr::ZERO, |number, bit| number.double() + *bit)
        };
        let digit = |digit: usize| number(self.digit_bits() + digit * DIGIT_BITS);
        for digit in 0..self.digits {
            let bits = &local[self.digit_bits() + digit * DIGIT_BITS..][..DIGIT_BITS];
            builder.assert_zero(bits[3] * bits[1]);
            builder.assert_zero(bits[3] * bits[2]);
        }
        let mut builder = builder.when_first_row();
        match &self.bounds {
            Bounds::Range { min, max } => {
                for at in 0..self.digits {
                    let min = AB::Expr::from_u8(min[at]);
                    let max = AB::Expr::from_u8(max[at]);
                    for (which, difference) in [max - digit(at), digit(at) - min].into_iter().enumerate() {
                        let column = self.difference(which, at);
                        let lent = local[column + DIGIT_BITS] * AB::Expr::from_u8(10);
                        // The less significant digit, which may have borrowed, comes next.
                        let borrowed = if at + 1 < self.digits {
                            local[self.difference(which, at + 1) + DIGIT_BITS].into()
                        } else {
                            AB::Expr::ZERO
                        };
                        builder.assert_eq(difference + lent - borrowed, number(column));
                        if at == 0 {
                            builder.assert_zero(local[column + DIGIT_BITS]);
                        }
                    }
                }
            }
            Bounds::OneOf(members) => {
                let flags = &local[self.bound_cols()..][..members.len()];
                builder.assert_one(flags.iter().map(|flag| (*flag).into()).sum::<AB::Expr>());
                for at in 0..self.digits {
                    let members = flags.iter().zip(members);
                    let member = members.map(|(flag, member)| *flag * AB::Expr::from_u8(member[at]));
                    builder.assert_eq(member.sum::<AB::Expr>(), digit(at));
                }
            }
        }
    }

    /// The rows for a padded preimage that fits the template, and for the value in it.
    pub(super) fn rows(&self, absorbed: &Absorbed, value: &[u8], min_rows: usize) -> RowMajorMatrix<Val> {
        let width = BaseAir::<Val>::width(self);
        let mut rows = absorbed.core_rows(width, min_rows, 0);
        for (index, row) in rows.values.chunks_exact_mut(width).enumerate() {
            let (block, step) = (index / NUM_ROUNDS, index % NUM_ROUNDS);
            let active = block < self.blocks();
            let prev = if active { absorbed.before(block) } else { [0; 25] };
            let prev = super::trace::limbs(&prev);
            for slot in 0..SLOTS {
                let limb = step * SLOTS + slot;
                if limb < RATE_LIMBS {
                    let keccak: &KeccakCols<Val> = row[..NUM_KECCAK_COLS].borrow();
                    let (out, input) = (u32::from(prev[limb]), input(keccak, limb).as_canonical_u32());
                    set_bits(&mut row[OUT + slot * LIMB_BITS..][..LIMB_BITS], out);
                    set_bits(&mut row[MSG + slot * LIMB_BITS..][..LIMB_BITS], out ^ input);
                }
            }
            for (column, limb) in row[PREV..OUT].iter_mut().zip(prev) {
                *column = Val::from_u16(limb);
            }
            if active {
                row[PLACE + block] = Val::ONE;
            }
            for (digit, value) in value.iter().enumerate() {
                set_bits(&mut row[self.digit_bits() + digit * DIGIT_BITS..][..DIGIT_BITS], u32::from(*value));
            }
        }
        self.fill_bounds(&mut rows.values[..width], value);
        rows
    }

    fn fill_bounds(&self, row: &mut [Val], value: &[u8]) {
        match &self.bounds {
            Bounds::Range { min, max } => {
                for (which, (more, less)) in [(max.as_slice(), value), (value, min)].into_iter().enumerate() {
                    let mut borrowed = 0;
                    for at in (0..self.digits).rev() {
                        let difference = i32::from(more[at]) - i32::from(less[at]) - borrowed;
                        borrowed = i32::from(difference < 0);
                        let column = self.difference(which, at);
                        let difference = u32::try_from(difference + 10 * borrowed).unwrap_or(0);
                        set_bits(&mut row[column..][..DIGIT_BITS], difference);
                        row[column + DIGIT_BITS] = Val::from_bool(borrowed == 1);
                    }
                }
            }
            Bounds::OneOf(members) => {
                if let Some(index) = members.iter().position(|member| member == value) {
                    row[self.bound_cols() + index] = Val::ONE;
                }
            }
        }
    }
}

fn set_bits(columns: &mut [Val], number: u32) {
    for (bit, column) in columns.iter_mut().enumerate() {
        *column = Val::from_bool(number >> bit & 1 == 1);
    }
}

impl<F> BaseAir<F> for FieldAir {
    fn width(&self) -> usize {
        self.bound_cols()
            + match &self.bounds {
                Bounds::Range { .. } => self.digits * RANGE_COLS_PER_DIGIT,
                Bounds::OneOf(members) => members.len(),
            }
    }

    fn num_public_values(&self) -> usize {
        self.sponge().publics()
    }

    fn max_constraint_degree(&self) -> Option<usize> {
        Some(MAX_DEGREE)
    }
}

impl<AB: AirBuilder> Air<AB> for FieldAir {
    fn eval(&self, builder: &mut AB) {
        self.sponge().eval_core(builder);
        self.eval_message(builder);
        self.eval_places(builder);
        self.eval_value(builder);
    }
}

const _: () = assert!(SLOTS * NUM_ROUNDS >= RATE_LIMBS && RATE_LIMBS <= STATE_LIMBS);

#[cfg(test)]
mod tests {
    use p3_air::check_all_constraints;
    use p3_air::symbolic::{AirLayout, get_max_constraint_degree};

    use super::super::trace;
    use super::*;

    const VALUE: [u8; 4] = [1, 5, 0, 9];

    struct Case {
        air: FieldAir,
        rows: RowMajorMatrix<Val>,
        publics: Vec<Val>,
    }

    impl Case {
        /// A preimage of two blocks: known bytes, a salt, known bytes, and a value that lies over their border.
        fn new(bounds: Bounds, value: &[u8]) -> Self {
            let known = |len: u8| (0..len).map(Cell::Known);
            let salt = core::iter::repeat_n(Cell::Salt, 32);
            let cells = known(70).chain(salt).chain(known(31)).chain((0..4).map(Cell::Digit)).chain(known(3));
            let mut cells: Vec<_> = cells.collect();
            let preimage: Vec<_> = cells
                .iter()
                .map(|cell| match cell {
                    Cell::Known(byte) => *byte,
                    Cell::Salt => 0x77,
                    Cell::Digit(digit) => b'0' + value[*digit],
                })
                .collect();
            cells.extend(trace::padding(2 * HASH.rate() - cells.len()).into_iter().map(Cell::Known));
            let air = FieldAir { cells, digits: 4, bounds };
            let absorbed = Absorbed::new(HASH, [0; 25], &trace::pad(HASH, &preimage));
            Self { rows: air.rows(&absorbed, value, 64), publics: absorbed.publics(&air.sponge()), air }
        }

        fn holds(&self) -> bool {
            check_all_constraints(&self.air, &self.rows, &self.publics, Some(1)).is_ok()
        }

        /// Adds one to a cell, which must break a constraint.
        fn breaks(&mut self, row: usize, column: usize) {
            let at = row * self.rows.width + column;
            self.rows.values[at] += Val::ONE;
            assert!(!self.holds(), "row {row}, column {column}");
            self.rows.values[at] -= Val::ONE;
        }
    }

    fn range(min: [u8; 4], max: [u8; 4]) -> Bounds {
        Bounds::Range { min: min.to_vec(), max: max.to_vec() }
    }

    #[test]
    fn ranges_and_sets_hold_where_they_should() {
        for (bounds, holds) in [
            (range([1, 5, 0, 9], [1, 5, 0, 9]), true),
            (range([0; 4], [9; 4]), true),
            (range([0, 9, 9, 9], [2, 0, 0, 0]), true),
            (range([1, 5, 1, 0], [9; 4]), false),
            (range([0; 4], [1, 5, 0, 8]), false),
            (range([2, 0, 0, 0], [9; 4]), false),
            (range([9; 4], [0; 4]), false),
            (Bounds::OneOf(vec![vec![0; 4], VALUE.to_vec(), vec![9; 4]]), true),
            (Bounds::OneOf(vec![vec![1, 5, 0, 8], vec![1, 5, 1, 9]]), false),
        ] {
            assert_eq!(Case::new(bounds.clone(), &VALUE).holds(), holds, "{bounds:?}");
        }
    }

    /// What the prover may not choose: digits beyond nine, another value than that of the preimage.
    #[test]
    fn the_value_is_that_of_the_preimage_in_digits() {
        assert!(!Case::new(range([0; 4], [9; 4]), &[0, 0, 0, 10]).holds());
        let mut case = Case::new(range([0; 4], [9; 4]), &VALUE);
        let other = Case::new(range([0; 4], [9; 4]), &[1, 5, 0, 8]);
        let width = case.rows.width;
        let columns = case.air.digit_bits()..width;
        for (row, of_other) in
            case.rows.values.chunks_exact_mut(width).zip(other.rows.values.chunks_exact(width))
        {
            row[columns.clone()].copy_from_slice(&of_other[columns.clone()]);
        }
        assert!(!case.holds());
    }

    #[test]
    fn every_known_byte_is_compared() {
        let mut case = Case::new(range([0; 4], [9; 4]), &VALUE);
        assert!(case.holds());
        for at in 0..case.air.cells.len() {
            let honest = case.air.cells[at];
            let wrong = match honest {
                Cell::Known(byte) => Cell::Known(byte ^ 0x10),
                Cell::Digit(digit) => Cell::Digit((digit + 1) % 4),
                Cell::Salt => Cell::Known(0x76),
            };
            case.air.cells[at] = wrong;
            assert!(!case.holds(), "byte {at}");
            case.air.cells[at] = honest;
        }
    }

    #[test]
    fn every_family_of_columns_is_constrained() {
        for bounds in [range([1; 4], [2; 4]), Bounds::OneOf(vec![VALUE.to_vec(), vec![0; 4]])] {
            let mut case = Case::new(bounds, &VALUE);
            assert!(case.holds());
            for column in (PREV..OUT).step_by(9).chain(OUT..PLACE) {
                for row in [0, 22, 24, 46] {
                    case.breaks(row, column);
                }
            }
            for column in PLACE..case.air.digit_bits() {
                for row in [0, 23, 24, 47, 48, 63] {
                    case.breaks(row, column);
                }
            }
            for column in case.air.digit_bits()..case.rows.width {
                case.breaks(0, column);
            }
            for column in case.air.digit_bits()..case.air.bound_cols() {
                case.breaks(40, column);
                case.breaks(63, column);
            }
            for column in [ACTIVE, ACTIVE + 1, BLOCK] {
                case.breaks(30, column);
            }
        }
    }

    #[test]
    fn the_degree_is_what_the_hint_says() {
        for bounds in [range([1; 4], [2; 4]), Bounds::OneOf(vec![VALUE.to_vec()])] {
            let air = Case::new(bounds, &VALUE).air;
            let layout = AirLayout::from_air::<Val>(&air);
            assert_eq!(get_max_constraint_degree::<Val, _>(&air, layout, 1 << 8), MAX_DEGREE);
        }
    }
}
