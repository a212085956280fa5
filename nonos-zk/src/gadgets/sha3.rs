//! SHA3-512 (FIPS 202): Keccak-f\[1600\] with a rate of 576 bits, in 92 160 constraints for each full
//! permutation.
//!
//! Theta takes 640 constraints for the parities of columns and one for each bit, chi one for each bit;
//! rho, pi and iota only move and negate. What is known before the first wire is folded away.

use ark_ff::PrimeField;
use ark_relations::gr1cs::{ConstraintSystemRef, SynthesisError};

use super::Bit;

/// Bits of a digest.
pub const DIGEST_BITS: usize = 512;

const DIGEST_LANES: usize = DIGEST_BITS / LANE_BITS;
const LANES: usize = 25;
const LANE_BITS: usize = 64;
const ROUNDS: usize = 24;
const RATE_BITS: usize = 576;

type Lane = [Bit; LANE_BITS];

/// The digest of a message as constraints. Of each byte, in message and digest, the lowest bit comes
/// first.
///
/// # Errors
/// [`SynthesisError`] if a system with an assignment is given none.
pub fn sha3_512<F: PrimeField>(
    cs: &ConstraintSystemRef<F>,
    message: &[Bit],
) -> Result<Vec<Bit>, SynthesisError> {
    let mut padded = message.to_vec();
    // The domain of SHA3, then pad10*1 (FIPS 202, sections 6.1 and 5.1).
    padded.extend([false, true, true].map(Bit::constant));
    let blocks = padded.len() / RATE_BITS + 1;
    padded.resize(blocks * RATE_BITS - 1, Bit::constant(false));
    padded.push(Bit::constant(true));

    let mut state = [[Bit::constant(false); LANE_BITS]; LANES];
    for (position, block) in padded.chunks(RATE_BITS).enumerate() {
        for (lane, bits) in state.iter_mut().zip(block.chunks(LANE_BITS)) {
            for (to, bit) in lane.iter_mut().zip(bits) {
                *to = Bit::xor3(cs, [*to, *bit, Bit::constant(false)])?;
            }
        }
        for (number, constant) in (1..).zip(keccak_round_constants()) {
            let is_last = number == ROUNDS && position + 1 == blocks;
            state = round(cs, &state, constant, if is_last { DIGEST_LANES } else { LANES })?;
        }
    }
    Ok(state.as_flattened().iter().take(DIGEST_BITS).copied().collect())
}

/// One round of Keccak-f (FIPS 202, section 3.2), of which the first `wanted` lanes are used. The
/// lane at `(x, y)` is number `x + 5y`.
#[expect(clippy::indexing_slicing, reason = "coordinates are taken modulo 5")]
fn round<F: PrimeField>(
    cs: &ConstraintSystemRef<F>,
    state: &[Lane; LANES],
    constant: u64,
    wanted: usize,
) -> Result<[Lane; LANES], SynthesisError> {
    let zero = [Bit::constant(false); LANE_BITS];
    let (mut sums, mut parity) = ([zero; 5], [zero; 5]);
    for x in 0..5 {
        sums[x] = combine(cs, Bit::xor3, [state[x], state[x + 5], state[x + 10]])?;
        parity[x] = combine(cs, Bit::xor3, [sums[x], state[x + 15], state[x + 20]])?;
    }
    // Theta, with rho and pi: the lane at (x, y) turns and goes to (y, 2x + 3y).
    let mut moved = [zero; LANES];
    for (place, lane) in state.iter().enumerate() {
        let (x, y) = (place % 5, place / 5);
        let to = y + 5 * ((2 * x + 3 * y) % 5);
        // Chi stays within a row.
        if to >= wanted.next_multiple_of(5) {
            continue;
        }
        let turned = turn(&parity[(x + 1) % 5], 1);
        let mixed = combine(cs, Bit::xor3, [*lane, parity[(x + 4) % 5], turned])?;
        moved[to] = turn(&mixed, OFFSETS[place]);
    }
    // Chi and iota.
    let mut next = [zero; LANES];
    for (place, to) in next.iter_mut().enumerate().take(wanted) {
        let row = place - place % 5;
        let right = |by: usize| moved[row + (place + by) % 5];
        *to = combine(cs, Bit::chi, [moved[place], right(1), right(2)])?;
    }
    for (position, bit) in next[0].iter_mut().enumerate() {
        if (constant >> position) & 1 == 1 {
            *bit = bit.not();
        }
    }
    Ok(next)
}

type Gate<F> = fn(&ConstraintSystemRef<F>, [Bit; 3]) -> Result<Bit, SynthesisError>;

/// A gate on each bit of three lanes.
fn combine<F: PrimeField>(
    cs: &ConstraintSystemRef<F>,
    gate: Gate<F>,
    [a, b, c]: [Lane; 3],
) -> Result<Lane, SynthesisError> {
    let mut out = a;
    for ((out, b), c) in out.iter_mut().zip(b).zip(c) {
        *out = gate(cs, [*out, b, c])?;
    }
    Ok(out)
}

/// A lane turned towards its high end.
fn turn(lane: &Lane, by: usize) -> Lane {
    let mut turned = *lane;
    turned.rotate_right(by);
    turned
}

/// Offsets of rho, by lane (FIPS 202, table 2).
const OFFSETS: [usize; LANES] =
    [0, 1, 62, 28, 27, 36, 44, 6, 55, 20, 3, 10, 43, 25, 39, 41, 45, 15, 21, 8, 18, 2, 61, 56, 14];

/// Constants of iota, by round, from their shift register (FIPS 202, section 3.2.5).
#[must_use]
pub fn keccak_round_constants() -> [u64; ROUNDS] {
    let mut register: u8 = 1;
    core::array::from_fn(|_| {
        let mut constant = 0;
        for bit in 0..7 {
            constant |= u64::from(register & 1) << ((1 << bit) - 1);
            register = (register << 1) ^ if register & 0x80 == 0 { 0 } else { 0x71 };
        }
        constant
    })
}

#[cfg(test)]
mod tests;
