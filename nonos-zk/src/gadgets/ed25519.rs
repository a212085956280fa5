//! The public key of an Ed25519 scalar (RFC 8032, section 5.1.5) as constraints, some 85 000.
//!
//! The scalar is cut into 32 windows of 8 bits. Each window picks a multiple of the base point from
//! a table, and 31 affine additions on the Montgomery form of the curve (RFC 7748, section 4.1) make
//! the key of them, with the formulas of distinct points. Those say nothing where two points have the
//! same `u`, so it matters that this never happens:
//!
//! - Window `w` picks `(j + 1) 2^8w` times the base for its digit `j`, and the last one takes off what
//!   was added too much. So no window picks the neutral element.
//! - A sum `S` of windows before the last is a number below `2^249`, and odd, because a clamped scalar
//!   has no low bits; the next point is an even multiple of the base. The order `l` is above `2^252`,
//!   so `S` and the next multiple are neither the same modulo `l` nor opposite.
//! - At the last window the two are opposite only if `l` divides the scalar: a multiple of 8 between
//!   `2^254` and `2^255` it does not, as `8 l` is larger. That they are not the same is a constraint
//!   of its own, which one scalar of about `2^250` fails.

use ark_ff::{Field as _, PrimeField};
use ark_relations::gr1cs::{ConstraintSystemRef, SynthesisError, Variable};
use ark_relations::lc;

use self::curve::{Fq, WINDOW_BITS, Window, to_edwards_factor, windows};
use self::field::{Element, enforce_product};
use super::Bit;

mod curve;
mod field;

/// Bytes of a scalar and of a public key.
pub const KEY_BYTES: usize = 32;

const KEY_BITS: usize = KEY_BYTES * 8;

/// A clamped scalar as wires: bits 0, 1, 2 and 255 are zero, bit 254 is one.
#[derive(Clone, Debug)]
pub struct Ed25519Scalar {
    bits: Vec<Bit>,
}

impl Ed25519Scalar {
    /// Wires for a scalar in little-endian bytes, which are clamped as RFC 8032 does.
    ///
    /// # Errors
    /// [`SynthesisError`] if a system with an assignment is given none.
    pub fn witness<F: PrimeField>(
        cs: &ConstraintSystemRef<F>,
        scalar: Option<&[u8; KEY_BYTES]>,
    ) -> Result<Self, SynthesisError> {
        let bit = |position: usize| match position {
            0..3 | 255 => Ok(Bit::constant(false)),
            254 => Ok(Bit::constant(true)),
            _ => {
                let byte = scalar.and_then(|scalar| scalar.get(position / 8));
                Bit::witness(cs, byte.map(|byte| (byte >> (position % 8)) & 1 == 1))
            }
        };
        Ok(Self { bits: (0..KEY_BITS).map(bit).collect::<Result<_, _>>()? })
    }

    /// The bits, the lowest first.
    #[must_use]
    pub fn bits(&self) -> &[Bit] {
        &self.bits
    }

    /// The public key in its encoding of 256 bits, the lowest bit of the first byte first: `y`
    /// below `2^255 - 19`, then the lowest bit of such an `x`.
    ///
    /// # Errors
    /// [`SynthesisError`] if a system with an assignment is given none.
    pub fn public_key<F: PrimeField>(&self, cs: &ConstraintSystemRef<F>) -> Result<Vec<Bit>, SynthesisError> {
        let mut sum: Option<Point<F>> = None;
        let tables = windows();
        for (position, (window, bits)) in tables.iter().zip(self.bits.chunks(WINDOW_BITS)).enumerate() {
            let picked = pick(cs, window, bits)?;
            sum = Some(match sum {
                None => picked,
                Some(sum) => {
                    if position + 1 == tables.len() {
                        enforce_distinct(cs, &sum, &picked)?;
                    }
                    add(cs, &sum, &picked)?
                }
            });
        }
        encode(cs, &sum.ok_or(SynthesisError::Unsatisfiable)?)
    }
}

/// A point of the Montgomery curve.
struct Point<F: PrimeField> {
    u: Element<F>,
    v: Element<F>,
}

/// The entry of a table that the bits number: each limb is a polynomial in the bits, linear in each.
fn pick<F: PrimeField>(
    cs: &ConstraintSystemRef<F>,
    window: &Window,
    bits: &[Bit],
) -> Result<Point<F>, SynthesisError> {
    let bits: Vec<Bit> = bits.iter().copied().filter(|bit| !bit.is_constant()).collect();
    // Products of all sets of bits, in the order of the numbers that have these bits set.
    let mut products = vec![Bit::constant(true)];
    for bit in &bits {
        let with = products.iter().map(|product| product.and(cs, *bit)).collect::<Result<Vec<_>, _>>()?;
        products.extend(with);
    }
    let number = bits.iter().rev().try_fold(0, |number, bit| Some(number << 1 | usize::from(bit.value()?)));
    let coordinate = |of: fn(&(Fq, Fq)) -> Fq| {
        let entries: Vec<Fq> = window.entries.iter().map(of).collect();
        Element::picked(cs, &entries, &products, number)
    };
    Ok(Point { u: coordinate(|(u, _)| *u)?, v: coordinate(|(_, v)| *v)? })
}

/// The sum of two points with different `u`:
///
/// ```text
/// m (u2 - u1) = v2 - v1     m^2 = u3 + A + u1 + u2     m (u1 - u3) = v3 + v1
/// ```
fn add<F: PrimeField>(
    cs: &ConstraintSystemRef<F>,
    a: &Point<F>,
    b: &Point<F>,
) -> Result<Point<F>, SynthesisError> {
    let native = || {
        let (u1, v1) = (a.u.native()?, a.v.native()?);
        let (u2, v2) = (b.u.native()?, b.v.native()?);
        let m = (v2 - v1) * (u2 - u1).inverse().unwrap_or_default();
        let u3 = m * m - Fq::from(curve::A) - u1 - u2;
        Some((m, u3, m * (u1 - u3) - v1))
    };
    let native = native();
    let m = Element::witness(cs, native.map(|(m, ..)| m))?.0;
    let u = Element::witness(cs, native.map(|(_, u, _)| u))?.0;
    let v = Element::witness(cs, native.map(|(.., v)| v))?.0;
    enforce_product(cs, &m, &b.u.minus(&a.u), &b.v.minus(&a.v))?;
    let a_constant = Element::constant(&Fq::from(curve::A));
    enforce_product(cs, &m, &m, &u.plus(&a_constant).plus(&a.u).plus(&b.u))?;
    enforce_product(cs, &m, &a.u.minus(&u), &v.plus(&a.v))?;
    Ok(Point { u, v })
}

/// The two have different `u`: the difference has an inverse.
fn enforce_distinct<F: PrimeField>(
    cs: &ConstraintSystemRef<F>,
    a: &Point<F>,
    b: &Point<F>,
) -> Result<(), SynthesisError> {
    let inverse = a.u.native().zip(b.u.native()).map(|(a, b)| (b - a).inverse().unwrap_or_default());
    let inverse = Element::witness(cs, inverse)?.0;
    enforce_product(cs, &inverse, &b.u.minus(&a.u), &Element::constant(&Fq::ONE))
}

/// Back to Edwards coordinates, `y (u + 1) = u - 1` and `x v = c u`, both below the modulus.
fn encode<F: PrimeField>(cs: &ConstraintSystemRef<F>, point: &Point<F>) -> Result<Vec<Bit>, SynthesisError> {
    let (u, v) = (point.u.native(), point.v.native());
    let one = Element::constant(&Fq::ONE);
    let y = u.map(|u| (u - Fq::ONE) * (u + Fq::ONE).inverse().unwrap_or_default());
    let (y, mut bits) = Element::witness(cs, y)?;
    enforce_product(cs, &y, &point.u.plus(&one), &point.u.minus(&one))?;
    enforce_canonical(cs, &bits)?;

    let factor = to_edwards_factor();
    let scaled = u.map(|u| factor * u);
    let x = scaled.zip(v).map(|(scaled, v)| scaled * v.inverse().unwrap_or_default());
    let scaled = Element::witness(cs, scaled)?.0;
    enforce_product(cs, &point.u, &Element::constant(&factor), &scaled)?;
    let (x, x_bits) = Element::witness(cs, x)?;
    enforce_product(cs, &x, &point.v, &scaled)?;
    enforce_canonical(cs, &x_bits)?;
    bits.extend(x_bits.first());
    Ok(bits)
}

/// A number of 255 bits is below `2^255 - 19`: not all of the bits from the fifth on are set, or the
/// low five are a number below 13.
fn enforce_canonical<F: PrimeField>(cs: &ConstraintSystemRef<F>, bits: &[Bit]) -> Result<(), SynthesisError> {
    let (low, high) = bits.split_at_checked(5).ok_or(SynthesisError::Unsatisfiable)?;
    let zeros = || {
        let count = F::from(high.len() as u64);
        high.iter().fold(lc!((count, Variable::One)), |sum, bit| sum - &bit.lc())
    };
    let zero_count: Option<u64> = high.iter().try_fold(0, |sum, bit| Some(sum + u64::from(!bit.value()?)));
    // `is_high` is 1 if there are none: zeros * inverse = 1 - is_high, zeros * is_high = 0.
    let inverse = || {
        let count = zero_count.ok_or(SynthesisError::AssignmentMissing)?;
        Ok(F::from(count).inverse().unwrap_or_default())
    };
    let inverse = cs.new_witness_variable(inverse)?;
    let is_high = Bit::witness(cs, zero_count.map(|count| count == 0))?;
    cs.enforce_r1cs_constraint(zeros, || inverse.into(), || is_high.not().lc())?;
    cs.enforce_r1cs_constraint(zeros, || is_high.lc(), || lc!())?;
    let &[b0, b1, b2, b3, b4] = low else { return Err(SynthesisError::Unsatisfiable) };
    // From 13 on: b4, or b3 and b2 and one of the others.
    let none = b0.not().and(cs, b1.not())?;
    let is_13_to_15 = b3.and(cs, b2)?.and(cs, none.not())?;
    let is_below = b4.not().and(cs, is_13_to_15.not())?;
    cs.enforce_r1cs_constraint(|| is_high.lc(), || is_below.not().lc(), || lc!())
}

#[cfg(test)]
mod tests;
