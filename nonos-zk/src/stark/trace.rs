//! What the prover fills in.
#![expect(
    clippy::indexing_slicing,
    reason = "columns and limbs have fixed places; a row has the width of the AIR"
)]

use core::borrow::Borrow;

use p3_field::{PrimeCharacteristicRing, PrimeField32};
use p3_keccak::KeccakF;
use p3_keccak_air::{KeccakCols, NUM_KECCAK_COLS, NUM_ROUNDS, generate_trace_rows};
use p3_matrix::dense::RowMajorMatrix;
use p3_symmetric::Permutation;

use super::air::{
    ACTIVE, BLOCK, End, FLIP, Hash, IN_BITS, LAST, LIMB_BITS, OUT_BITS, SPONGE_COLS, STATE_LIMBS, SpongeAir,
    input,
};
use super::config::Val;

/// A state of the sponge: 25 lanes, `x + 5 y`.
pub(super) type State = [u64; 25];

/// Some blocks, absorbed.
#[derive(Clone, Debug)]
pub(super) struct Absorbed {
    start: State,
    /// The input of each permutation.
    pub(super) inputs: Vec<State>,
    /// The state after the last block.
    pub(super) end: State,
}

impl Absorbed {
    /// Absorbs whole blocks: the length of `blocks` is a multiple of the rate.
    pub(super) fn new(hash: Hash, start: State, blocks: &[u8]) -> Self {
        let mut inputs = Vec::with_capacity(blocks.len() / hash.rate());
        let mut state = start;
        for block in blocks.chunks_exact(hash.rate()) {
            for (lane, bytes) in state.iter_mut().zip(block.chunks_exact(8)) {
                *lane ^= bytes.iter().rev().fold(0, |lane, byte| lane << 8 | u64::from(*byte));
            }
            inputs.push(state);
            KeccakF.permute_mut(&mut state);
        }
        Self { start, inputs, end: state }
    }

    /// The public values of the trace.
    pub(super) fn publics(&self, air: &SpongeAir) -> Vec<Val> {
        publics(air, &self.start, &limbs(&self.end), self.inputs.len())
    }

    /// The rows, at least `min_rows` of them and a power of two. `spare_bits` more powers of two are
    /// allocated, which the prover fills.
    pub(super) fn rows(&self, air: &SpongeAir, min_rows: usize, spare_bits: usize) -> RowMajorMatrix<Val> {
        let mut rows = self.core_rows(SPONGE_COLS, min_rows, spare_bits);
        let (End::Message { tail }, Some(last)) = (air.end, self.inputs.len().checked_sub(1)) else {
            return rows;
        };
        let row = &mut rows.values[last * NUM_ROUNDS * SPONGE_COLS..][..SPONGE_COLS];
        let keccak: &KeccakCols<Val> = row[..NUM_KECCAK_COLS].borrow();
        let (border, _) = SpongeAir::border(tail);
        let before = limbs(&self.before(last));
        let input = input(keccak, border).as_canonical_u32();
        for bit in 0..LIMB_BITS {
            row[OUT_BITS + bit] = Val::from_bool(before[border] >> bit & 1 == 1);
            row[IN_BITS + bit] = Val::from_bool(input >> bit & 1 == 1);
        }
        row[FLIP] = Val::from_bool(before[air.hash.rate() / 2 - 1] >> 15 == 1);
        rows
    }

    /// The rows with the columns of the permutation and those that say what is part of the message;
    /// the others are zero.
    pub(super) fn core_rows(&self, width: usize, min_rows: usize, spare_bits: usize) -> RowMajorMatrix<Val> {
        let height = height(self.inputs.len(), min_rows);
        let mut inputs = self.inputs.clone();
        inputs.resize((height / NUM_ROUNDS).max(inputs.len()), [0; 25]);
        let keccak = generate_trace_rows::<Val>(inputs, 0);
        let mut values = Vec::with_capacity((height * width) << spare_bits);
        values.resize(height * width, Val::ZERO);
        let rows = values.chunks_exact_mut(width).zip(keccak.values.chunks_exact(NUM_KECCAK_COLS));
        for (index, (row, keccak)) in rows.enumerate() {
            let block = index / NUM_ROUNDS;
            row[..NUM_KECCAK_COLS].copy_from_slice(keccak);
            row[ACTIVE] = Val::from_bool(block < self.inputs.len());
            row[LAST] = Val::from_bool(block + 1 == self.inputs.len());
            row[BLOCK] = Val::from_usize(block);
        }
        RowMajorMatrix::new(values, width)
    }

    /// The state before a block.
    pub(super) fn before(&self, block: usize) -> State {
        let Some(previous) = block.checked_sub(1) else { return self.start };
        let mut state = self.inputs[previous];
        KeccakF.permute_mut(&mut state);
        state
    }
}

/// Rows of a trace of so many blocks.
pub(super) fn height(blocks: usize, min_rows: usize) -> usize {
    (blocks * NUM_ROUNDS).next_power_of_two().max(min_rows)
}

/// The public values of a trace; `end` may be longer than what the AIR shows of it.
pub(super) fn publics(air: &SpongeAir, start: &State, end: &[u16], blocks: usize) -> Vec<Val> {
    let end = end.iter().take(air.end_limbs());
    let limbs = limbs(start);
    let limbs = limbs.iter().chain(end).map(|limb| Val::from_u16(*limb));
    limbs.chain([Val::from_usize(blocks - 1)]).collect()
}

/// The message with the padding of SHA3: always at least one byte more, a multiple of the rate.
pub(super) fn pad(hash: Hash, message: &[u8]) -> Vec<u8> {
    let padding = padding(hash.rate() - message.len() % hash.rate());
    [message, &padding].concat()
}

/// So many bytes of padding, at least one: domain bits 01, then 1, zeros, 1.
pub(super) fn padding(len: usize) -> Vec<u8> {
    let mut padding = vec![0; len];
    padding[0] ^= 0x06;
    padding[len - 1] ^= 0x80;
    padding
}

/// A state that begins with the digest; the rest is not looked at.
pub(super) fn digest_state(digest: &[u8]) -> State {
    let mut state = [0; 25];
    for (lane, bytes) in state.iter_mut().zip(digest.as_chunks().0) {
        *lane = u64::from_le_bytes(*bytes);
    }
    state
}

/// The limbs of a state, lowest first.
pub(super) fn limbs(state: &State) -> [u16; STATE_LIMBS] {
    core::array::from_fn(|limb| {
        let bytes = state[limb / 4].to_le_bytes();
        u16::from_le_bytes([bytes[limb % 4 * 2], bytes[limb % 4 * 2 + 1]])
    })
}
