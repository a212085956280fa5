//! The sponge of SHA3 (FIPS 202) as an AIR: permutations one after another, linked by the state.
//!
//! A row is a round, 24 rows a permutation, a permutation a block of the message. The columns of
//! the permutation and their constraints are those of `p3-keccak-air`; these are added:
//!
//! - `active`, `last`, `block`: which permutations belong to the message. `active` is 1 on the first
//!   row and must be 0 on the last one; it falls only behind a permutation with `last`, and `last`
//!   holds only where `block`, which counts permutations from 0, is the public number of blocks
//!   less one. So permutations 0 to that number are absorbed, no fewer and no more, and the rest
//!   of the trace is filler that no other constraint looks at.
//! - `out_bits`, `in_bits`, `flip`: the border of message and padding in the last block.
//!
//! **Absorbing.** The capacity of a permutation's input is that of the state before it. The rate
//! is free: for every 16-bit limb of state and input there is exactly one limb of message that
//! makes one from the other, so the blocks of the message need no columns.
//!
//! **Length and padding.** The last block holds `tail` bytes of the message, then the byte 0x06 (the
//! domain bits 01 and the first bit of pad10*1), zeros, and 0x80 on its last byte. A byte that is 0
//! leaves its limb of the state as it was; the limb of the border is compared bit by bit; the top
//! bit of the block flips. `tail` is a part of the AIR itself, which the verifier makes from the
//! length; together with the number of blocks it pins the length in bytes.
//!
//! **Digest.** The output of the last permutation begins with the public limbs.
#![expect(
    clippy::indexing_slicing,
    reason = "columns and limbs have fixed places; a row has the width of the AIR"
)]

use core::borrow::Borrow;

use p3_air::{Air, AirBuilder, BaseAir, WindowAccess};
use p3_field::PrimeCharacteristicRing;
use p3_keccak_air::{KeccakAir, KeccakCols, NUM_KECCAK_COLS, NUM_ROUNDS, U64_LIMBS};
use p3_uni_stark::SubAirBuilder;

/// Limbs of 16 bits in a state of 1 600 bits.
pub(super) const STATE_LIMBS: usize = 25 * U64_LIMBS;

pub(super) const LIMB_BITS: usize = 16;

pub(super) const ACTIVE: usize = NUM_KECCAK_COLS;
pub(super) const LAST: usize = ACTIVE + 1;
pub(super) const BLOCK: usize = LAST + 1;
/// The columns of every sponge; those of the padding follow.
pub(super) const CORE_COLS: usize = BLOCK + 1;
pub(super) const OUT_BITS: usize = CORE_COLS;
pub(super) const IN_BITS: usize = OUT_BITS + LIMB_BITS;
pub(super) const FLIP: usize = IN_BITS + LIMB_BITS;
pub(super) const SPONGE_COLS: usize = FLIP + 1;

/// A member of the SHA3 family, by its rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hash {
    Sha3_256,
    Sha3_512,
}

impl Hash {
    /// Bytes of a block.
    pub(super) const fn rate(self) -> usize {
        200 - 2 * self.digest_bytes()
    }

    pub(super) const fn digest_bytes(self) -> usize {
        match self {
            Self::Sha3_256 => 32,
            Self::Sha3_512 => 64,
        }
    }

    const fn rate_limbs(self) -> usize {
        self.rate() / 2
    }
}

/// What stands at the end of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The end of the message, with this many bytes of it in the last block; public is the digest.
    Message { tail: usize },
    /// A whole block, after which another trace goes on; public is the state.
    Open,
}

/// Public values: the limbs of the state before the first block, the limbs of the digest or of the
/// state after the last block, and the number of blocks less one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SpongeAir {
    pub(super) hash: Hash,
    pub(super) end: End,
}

impl SpongeAir {
    pub(super) const fn end_limbs(&self) -> usize {
        match self.end {
            End::Message { .. } => self.hash.digest_bytes() / 2,
            End::Open => STATE_LIMBS,
        }
    }

    /// Number of public values.
    pub(super) const fn publics(&self) -> usize {
        STATE_LIMBS + self.end_limbs() + 1
    }

    /// The limb where the padding begins, and whether it begins on the limb's second byte.
    pub(super) const fn border(tail: usize) -> (usize, bool) {
        (tail / 2, tail % 2 == 1)
    }

    /// What the limb of the border is XORed with from its first byte of padding on.
    const fn border_word(&self, limb: usize, odd: bool) -> u16 {
        let start = if odd { 0x0600 } else { 0x0006 };
        if limb + 1 == self.hash.rate_limbs() { start | 0x8000 } else { start }
    }

    /// Everything but the padding: absorbing, the number of blocks, the end.
    pub(super) fn eval_core<AB: AirBuilder>(&self, builder: &mut AB) {
        KeccakAir {}.eval(&mut SubAirBuilder::<AB, KeccakAir, AB::Var>::new(builder, 0..NUM_KECCAK_COLS));

        let main = builder.main();
        let (local, next) = (main.current_slice(), main.next_slice());
        let keccak: &KeccakCols<AB::Var> = local[..NUM_KECCAK_COLS].borrow();
        let next_keccak: &KeccakCols<AB::Var> = next[..NUM_KECCAK_COLS].borrow();
        let publics: Vec<AB::Expr> = builder.public_values().iter().map(|value| (*value).into()).collect();
        let (start, rest) = publics.split_at(STATE_LIMBS);
        let (end, blocks) = rest.split_at(self.end_limbs());

        let final_step = keccak.step_flags[NUM_ROUNDS - 1];
        let inside = AB::Expr::ONE - final_step;

        for flag in [ACTIVE, LAST] {
            builder.assert_bool(local[flag]);
        }
        for column in [ACTIVE, LAST, BLOCK] {
            builder.when_transition().when(inside.clone()).assert_eq(local[column], next[column]);
        }
        builder.when_first_row().assert_one(local[ACTIVE]);
        builder.when_first_row().assert_zero(local[BLOCK]);
        let mut between = builder.when_transition();
        let mut between = between.when(final_step);
        between.assert_eq(next[BLOCK], local[BLOCK] + AB::Expr::ONE);
        between.assert_eq(next[ACTIVE], local[ACTIVE] - local[LAST]);
        builder.when(local[LAST]).assert_one(local[ACTIVE]);
        builder.when(local[LAST]).assert_eq(local[BLOCK], blocks[0].clone());
        builder.when_last_row().assert_zero(local[ACTIVE]);

        for (limb, value) in start.iter().enumerate().skip(self.hash.rate_limbs()) {
            builder.when_first_row().assert_eq(input(keccak, limb), value.clone());
            builder
                .when_transition()
                .when(final_step)
                .when(next[ACTIVE])
                .assert_eq(input(next_keccak, limb), output(keccak, limb));
        }
        for (limb, value) in end.iter().enumerate() {
            builder.when(final_step).when(local[LAST]).assert_eq(output(keccak, limb), value.clone());
        }
    }

    /// The padding, on the first row of the last block.
    fn eval_last_block<AB: AirBuilder>(&self, builder: &mut AB) {
        if let End::Message { tail } = self.end {
            let main = builder.main();
            let (local, next) = (main.current_slice(), main.next_slice());
            let keccak: &KeccakCols<AB::Var> = local[..NUM_KECCAK_COLS].borrow();
            let start = start::<AB>(builder);
            for bit in &local[OUT_BITS..=FLIP] {
                builder.assert_bool(*bit);
            }
            let mut first = builder.when_first_row();
            let mut first = first.when(local[LAST]);
            self.eval_padding(&mut first, tail, local, |limb| start[limb].clone());
            let mut between = builder.when_transition();
            let mut between = between.when(keccak.step_flags[NUM_ROUNDS - 1]);
            let mut between = between.when(next[LAST]);
            self.eval_padding(&mut between, tail, next, |limb| output(keccak, limb).into());
        }
    }

    /// The padding of the block whose first row is `row`; `before` is the state it is XORed into.
    /// Only linear constraints: the builder's gates have degree 2 already.
    fn eval_padding<AB: AirBuilder>(
        &self,
        builder: &mut AB,
        tail: usize,
        row: &[AB::Var],
        before: impl Fn(usize) -> AB::Expr,
    ) {
        let keccak: &KeccakCols<AB::Var> = row[..NUM_KECCAK_COLS].borrow();
        let (border, odd) = Self::border(tail);
        let word = self.border_word(border, odd);
        let limb_of = |bits: usize| {
            let bits = row[bits..bits + LIMB_BITS].iter().rev();
            bits.fold(AB::Expr::ZERO, |limb, bit| limb.double() + *bit)
        };
        builder.assert_eq(limb_of(OUT_BITS), before(border));
        builder.assert_eq(limb_of(IN_BITS), input(keccak, border));
        for bit in if odd { LIMB_BITS / 2 } else { 0 }..LIMB_BITS {
            let (out, input) = (row[OUT_BITS + bit], row[IN_BITS + bit]);
            if word >> bit & 1 == 1 {
                builder.assert_one(out + input);
            } else {
                builder.assert_eq(out, input);
            }
        }
        let top = self.hash.rate_limbs() - 1;
        for limb in border + 1..top {
            builder.assert_eq(input(keccak, limb), before(limb));
        }
        if border < top {
            // Both limbs have 16 bits (the AIR of the permutation says so), so `flip` is the top
            // bit of the state, whatever the prover wants.
            let flip = row[FLIP] * AB::Expr::from_u32(1 << LIMB_BITS);
            builder.assert_eq(input(keccak, top) + flip, before(top) + AB::Expr::from_u32(1 << 15));
        }
    }
}

/// The state before the first block.
pub(super) fn start<AB: AirBuilder>(builder: &AB) -> Vec<AB::Expr> {
    builder.public_values().iter().take(STATE_LIMBS).map(|value| (*value).into()).collect()
}

/// A limb of the input of the permutation that the row belongs to.
pub(super) fn input<T: Copy>(row: &KeccakCols<T>, limb: usize) -> T {
    let lane = limb / U64_LIMBS;
    row.preimage[lane / 5][lane % 5][limb % U64_LIMBS]
}

/// A limb of the output, on the last row of a permutation.
pub(super) fn output<T: Copy>(row: &KeccakCols<T>, limb: usize) -> T {
    let lane = limb / U64_LIMBS;
    row.a_prime_prime_prime(lane / 5, lane % 5, limb % U64_LIMBS)
}

impl<F> BaseAir<F> for SpongeAir {
    fn width(&self) -> usize {
        SPONGE_COLS
    }

    fn num_public_values(&self) -> usize {
        self.publics()
    }

    fn max_constraint_degree(&self) -> Option<usize> {
        Some(MAX_DEGREE)
    }
}

/// The highest degree of a constraint: decides how many chunks the quotient has.
pub(super) const MAX_DEGREE: usize = 3;

impl<AB: AirBuilder> Air<AB> for SpongeAir {
    fn eval(&self, builder: &mut AB) {
        self.eval_core(builder);
        self.eval_last_block(builder);
    }
}

#[cfg(test)]
mod tests {
    use p3_air::check_all_constraints;
    use p3_air::symbolic::{AirLayout, get_max_constraint_degree};
    use p3_keccak::KeccakF;
    use p3_matrix::dense::RowMajorMatrix;
    use p3_symmetric::Permutation;

    use super::super::config::Val;
    use super::super::trace::{self, Absorbed};
    use super::*;

    fn message(len: usize) -> Vec<u8> {
        (3..=u8::MAX).step_by(7).cycle().take(len).collect()
    }

    struct Case {
        air: SpongeAir,
        rows: RowMajorMatrix<Val>,
        publics: Vec<Val>,
    }

    impl Case {
        fn new(hash: Hash, end: End, blocks: &[u8]) -> Self {
            let air = SpongeAir { hash, end };
            let absorbed = Absorbed::new(hash, [0; 25], blocks);
            Self { air, rows: absorbed.rows(&air, 32, 0), publics: absorbed.publics(&air) }
        }

        fn whole(hash: Hash, message: &[u8]) -> Self {
            Self::new(hash, End::Message { tail: message.len() % hash.rate() }, &trace::pad(hash, message))
        }

        fn holds(&self) -> bool {
            check_all_constraints(&self.air, &self.rows, &self.publics, Some(1)).is_ok()
        }

        fn cell(&mut self, row: usize, column: usize) -> &mut Val {
            &mut self.rows.values[row * SPONGE_COLS + column]
        }

        /// Adds one to a cell, which must break a constraint.
        fn breaks(&mut self, row: usize, column: usize) {
            *self.cell(row, column) += Val::ONE;
            assert!(!self.holds(), "row {row}, column {column}");
            *self.cell(row, column) -= Val::ONE;
        }
    }

    #[test]
    fn honest_traces_hold() {
        for hash in [Hash::Sha3_256, Hash::Sha3_512] {
            for len in [0, 1, 2, 69, 70, 71, 72, 73, 134, 135, 136, 137, 143, 144] {
                assert!(Case::whole(hash, &message(len)).holds(), "{hash:?} of {len} bytes");
            }
            assert!(Case::new(hash, End::Open, &message(hash.rate() * 3)).holds());
        }
    }

    #[test]
    fn every_padding_position_holds_and_is_the_only_one() {
        for tail in 0..72 {
            let mut case = Case::whole(Hash::Sha3_512, &message(72 + tail));
            assert!(case.holds(), "{tail}");
            for wrong in [(tail + 1) % 72, (tail + 71) % 72, (tail + 36) % 72] {
                case.air.end = End::Message { tail: wrong };
                assert!(!case.holds(), "{tail} as {wrong}");
            }
        }
    }

    /// A digest of bytes whose last block is padded in another way, for every bit of the padding.
    #[test]
    fn wrong_padding_breaks() {
        for len in [0, 1, 66, 71, 72, 73, 140, 143] {
            let padded = trace::pad(Hash::Sha3_512, &message(len));
            for bit in len * 8..padded.len() * 8 {
                let mut wrong = padded.clone();
                wrong[bit / 8] ^= 1 << (bit % 8);
                let case = Case::new(Hash::Sha3_512, End::Message { tail: len % 72 }, &wrong);
                assert!(!case.holds(), "{len} bytes, bit {bit}");
            }
        }
    }

    #[test]
    fn wrong_publics_break() {
        let mut case = Case::whole(Hash::Sha3_512, &message(150));
        for at in 36..case.publics.len() {
            case.publics[at] += Val::ONE;
            assert!(!case.holds(), "public value {at}");
            case.publics[at] -= Val::ONE;
        }
        // The rate of the first state is only looked at where the first block is the last.
        let mut case = Case::whole(Hash::Sha3_512, &message(2));
        for at in 1..case.publics.len() {
            case.publics[at] += Val::ONE;
            assert!(!case.holds(), "public value {at}");
            case.publics[at] -= Val::ONE;
        }
        assert!(case.holds());
    }

    /// `export` is left out: nothing reads it, so on the last row of a permutation it is free.
    #[test]
    fn every_family_of_columns_is_constrained() {
        let mut case = Case::whole(Hash::Sha3_512, &message(100));
        assert!(case.holds());
        let (second, end) = (24, 47);
        let columns: Vec<usize> = (0..NUM_KECCAK_COLS).collect();
        let row: &KeccakCols<usize> = columns[..].borrow();
        for column in [
            row.step_flags[1],
            row.step_flags[23],
            row.preimage[0][0][0],
            row.preimage[4][4][3],
            row.a[2][2][2],
            row.c[1][7],
            row.c_prime[3][60],
            row.a_prime[2][4][33],
            row.a_prime_prime[3][3][1],
            row.a_prime_prime_0_0_bits[5],
            row.a_prime_prime_prime_0_0_limbs[2],
            ACTIVE,
            LAST,
            BLOCK,
        ] {
            for at in [0, 5, 23, second, 30, end] {
                case.breaks(at, column);
            }
        }
        for column in OUT_BITS..=FLIP {
            case.breaks(second, column);
        }
        for column in [ACTIVE, LAST] {
            case.breaks(end + 1, column);
            case.breaks(63, column);
        }
    }

    /// A flag moved as a whole, with all cells that depend on it in its own permutation.
    #[test]
    fn the_message_ends_where_the_public_number_says() {
        let mut longer = Case::whole(Hash::Sha3_512, &message(100));
        // Three blocks where two are public, and one.
        for row in 48..64 {
            *longer.cell(row, ACTIVE) = Val::ONE;
        }
        assert!(!longer.holds());
        let mut shorter = Case::whole(Hash::Sha3_512, &message(100));
        for row in 24..48 {
            *shorter.cell(row, ACTIVE) = Val::ZERO;
            *shorter.cell(row, LAST) = Val::ZERO;
        }
        assert!(!shorter.holds());
        for row in 0..24 {
            *shorter.cell(row, LAST) = Val::ONE;
        }
        assert!(!shorter.holds());
        let mut never = Case::whole(Hash::Sha3_512, &message(100));
        for row in 0..64 {
            *never.cell(row, LAST) = Val::ZERO;
            *never.cell(row, ACTIVE) = Val::ONE;
        }
        assert!(!never.holds());
    }

    /// A block absorbed into a state that is not the one before it.
    #[test]
    fn the_capacity_goes_on() {
        let hash = Hash::Sha3_512;
        let blocks = trace::pad(hash, &message(100));
        let honest = Absorbed::new(hash, [0; 25], &blocks);
        let air = SpongeAir { hash, end: End::Message { tail: 28 } };
        for (block, lane) in [(0, 9), (0, 24), (1, 9), (1, 24)] {
            let mut forged = honest.clone();
            forged.inputs[block][lane] ^= 1;
            if block == 0 {
                let state = KeccakF.permute(forged.inputs[0]);
                forged.inputs[1] = Absorbed::new(hash, state, &blocks[72..]).inputs[0];
            }
            forged.end = KeccakF.permute(forged.inputs[1]);
            let case = Case { air, rows: forged.rows(&air, 32, 0), publics: forged.publics(&air) };
            assert!(!case.holds(), "block {block}, lane {lane}");
        }
        let case = Case { air, rows: honest.rows(&air, 32, 0), publics: honest.publics(&air) };
        assert!(case.holds());
    }

    #[test]
    fn the_degree_is_what_the_hint_says() {
        for end in [End::Open, End::Message { tail: 0 }, End::Message { tail: 71 }] {
            let air = SpongeAir { hash: Hash::Sha3_512, end };
            let layout = AirLayout::from_air::<Val>(&air);
            assert_eq!(get_max_constraint_degree::<Val, _>(&air, layout, 1 << 16), MAX_DEGREE);
        }
    }
}
