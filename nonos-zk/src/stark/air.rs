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
#![expect(clippy::indexing_slicing, reason = "columns and limbs have fixed places; a row has the width of the AIR")]

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
pub(super) const OUT_BITS: usize = BLOCK + 1;
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

        for limb in self.hash.rate_limbs()..STATE_LIMBS {
            builder.when_first_row().assert_eq(input(keccak, limb), start[limb].clone());
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
            for column in OUT_BITS..=FLIP {
                builder.assert_bool(local[column]);
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
