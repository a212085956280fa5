//! Arithmetic modulo `p = 2^255 - 19` in a circuit over another field.
//!
//! An element is three limbs to the base `2^88`, not always the smallest ones. A product is checked
//! as an equation of integers, `x y - z = q p`: modulo `2^264` by carries over the limbs, modulo the
//! circuit's own modulus `r` by one linear constraint. Both sides differ by less than `2^264 r`, so
//! they do not differ.
//!
//! Bounds, for limbs below `2^88` and differences of two: products of limbs sum up to `c_k` below
//! `2^179` with `z` and `q p`, carries are below `2^92`, the whole equation is below `2^515`.

use ark_ff::PrimeField;
use ark_relations::gr1cs::{ConstraintSystemRef, LinearCombination, SynthesisError, Variable};
use ark_relations::lc;
use num_bigint::{BigInt, BigUint};

use super::curve::Fq;
use crate::gadgets::Bit;

const LIMBS: usize = 3;
const BASE_BITS: usize = 88;
/// Bits of the limbs of a number below `2^255`.
const ELEMENT_BITS: [usize; LIMBS] = [88, 88, 79];
/// Bits of the limbs of a quotient, which is kept above zero by [`QUOTIENT_OFFSET_BITS`].
const QUOTIENT_BITS: [usize; LIMBS] = [88, 88, 81];
/// What is added to a quotient is two to this power.
const QUOTIENT_OFFSET_BITS: usize = 256;
/// What is added to a carry is two to this power; with it a carry has a bit more.
const CARRY_OFFSET_BITS: usize = 92;

/// A number modulo `p`: limbs as linear combinations, and their integers where there is an
/// assignment. They may be negative in differences.
#[derive(Clone)]
pub(super) struct Element<F: PrimeField> {
    limbs: [LinearCombination<F>; LIMBS],
    values: Option<[BigInt; LIMBS]>,
}

impl<F: PrimeField> Element<F> {
    pub(super) fn constant(value: &Fq) -> Self {
        let values = split(&BigUint::from(*value));
        let limbs = values.each_ref().map(|value| lc!((to_field(value), Variable::One)));
        Self { limbs, values: Some(values) }
    }

    /// A number below `2^255` of the prover's, and its bits.
    pub(super) fn witness(
        cs: &ConstraintSystemRef<F>,
        value: Option<Fq>,
    ) -> Result<(Self, Vec<Bit>), SynthesisError> {
        let values = value.map(|value| split(&BigUint::from(value)));
        let (limbs, bits) = ranged(cs, values.as_ref(), ELEMENT_BITS)?;
        Ok((Self { limbs, values }, bits))
    }

    /// The entry at `number` of some constants; `products` are those of all sets of the bits that
    /// make the number.
    pub(super) fn picked(
        cs: &ConstraintSystemRef<F>,
        entries: &[Fq],
        products: &[Bit],
        number: Option<usize>,
    ) -> Result<Self, SynthesisError> {
        let entries: Vec<_> = entries.iter().map(|entry| split(&BigUint::from(*entry))).collect();
        let values = number.and_then(|number| entries.get(number).cloned());
        let mut limbs = [const { LinearCombination(Vec::new()) }; LIMBS];
        for (position, limb) in limbs.iter_mut().enumerate() {
            let entry = |limbs: &[BigInt; LIMBS]| limbs.get(position).map(to_field).unwrap_or_default();
            let coefficients = multilinear(entries.iter().map(entry).collect());
            let value = values.as_ref().map(entry);
            let wire = cs.new_witness_variable(|| value.ok_or(SynthesisError::AssignmentMissing))?;
            let polynomial = || {
                let terms = coefficients.iter().zip(products);
                terms.fold(lc!(), |sum: LinearCombination<F>, (by, product)| sum + &(product.lc() * *by))
            };
            cs.enforce_r1cs_constraint(polynomial, || Variable::One.into(), || wire.into())?;
            *limb = wire.into();
        }
        Ok(Self { limbs, values })
    }

    /// The value modulo `p`.
    pub(super) fn native(&self) -> Option<Fq> {
        let p = BigInt::from(modulus());
        let value = whole(self.values.as_ref()?) % &p;
        let value = if value < BigInt::ZERO { value + p } else { value };
        Some(Fq::from(value.magnitude().clone()))
    }

    pub(super) fn plus(&self, other: &Self) -> Self {
        self.combine(other, 1)
    }

    pub(super) fn minus(&self, other: &Self) -> Self {
        self.combine(other, -1)
    }

    fn combine(&self, other: &Self, by: i8) -> Self {
        let factor = F::from(by);
        let mut limbs = self.limbs.clone();
        for (limb, other) in limbs.iter_mut().zip(&other.limbs) {
            *limb = &*limb + &(other * factor);
        }
        let values = self.values.clone().zip(other.values.as_ref()).map(|(mut values, others)| {
            values.iter_mut().zip(others).for_each(|(value, other)| *value += other * by);
            values
        });
        Self { limbs, values }
    }
}

/// `x y = z` modulo `p`.
pub(super) fn enforce_product<F: PrimeField>(
    cs: &ConstraintSystemRef<F>,
    x: &Element<F>,
    y: &Element<F>,
    z: &Element<F>,
) -> Result<(), SynthesisError> {
    const { assert!(F::MODULUS_BIT_SIZE > 251, "the bounds need a larger field") };
    let p = split(&modulus());
    let values = x.values.as_ref().zip(y.values.as_ref()).zip(z.values.as_ref());

    // Coefficients of the product as polynomials: two of degree 2 agree with it at five points.
    let products = values.map(|((x, y), _)| multiply(x, y));
    let products = wires(cs, products.as_ref())?;
    let at = |limbs: &[LinearCombination<F>], point: i64| {
        let mut power = F::one();
        limbs.iter().fold(lc!(), |sum: LinearCombination<F>, limb| {
            let sum = sum + &(limb * power);
            power *= F::from(point);
            sum
        })
    };
    for point in [0, 1, -1, 2] {
        cs.enforce_r1cs_constraint(|| at(&x.limbs, point), || at(&y.limbs, point), || at(&products, point))?;
    }
    let ([.., x_top], [.., y_top], [.., top]) = (&x.limbs, &y.limbs, &products);
    cs.enforce_r1cs_constraint(|| x_top.clone(), || y_top.clone(), || top.clone())?;

    // The quotient, above zero.
    let offset = BigInt::from(1) << QUOTIENT_OFFSET_BITS;
    let quotient = values.map(|((x, y), z)| {
        let quotient = (whole(x) * whole(y) - whole(z)) / BigInt::from(modulus());
        split((quotient + &offset).magnitude())
    });
    let (mut quotient_limbs, _) = ranged(cs, quotient.as_ref(), QUOTIENT_BITS)?;
    let offset_top: BigInt = offset >> (BASE_BITS * (LIMBS - 1));
    let [.., top] = &mut quotient_limbs;
    *top = &*top - &lc!((to_field::<F>(&offset_top), Variable::One));
    let quotient = quotient.map(|mut quotient| {
        let [.., top] = &mut quotient;
        *top -= offset_top;
        quotient
    });

    // x y - z - q p by powers of the base.
    let multiples = multiply_constant(&quotient_limbs, &p);
    let mut rest = products.clone();
    for (rest, multiple) in rest.iter_mut().zip(&multiples) {
        *rest = &*rest - multiple;
    }
    for (rest, limb) in rest.iter_mut().zip(&z.limbs) {
        *rest = &*rest - limb;
    }
    let rest_values = values.zip(quotient.as_ref()).map(|(((x, y), z), quotient)| {
        let mut rest = multiply(x, y);
        rest.iter_mut().zip(multiply(quotient, &p)).for_each(|(rest, multiple)| *rest -= multiple);
        rest.iter_mut().zip(z).for_each(|(rest, limb)| *rest -= limb);
        rest
    });

    // Modulo 2^264.
    let mut carry = (LinearCombination::<F>::new(), Some(BigInt::ZERO));
    let base = F::from(BigUint::from(1u8) << BASE_BITS);
    for (position, rest) in rest.iter().enumerate().take(LIMBS) {
        let sum = rest + &carry.0;
        let value = rest_values.as_ref().and_then(|rest| rest.get(position)).zip(carry.1);
        let value = value.map(|(rest, carry)| (rest + carry) >> BASE_BITS);
        let next = carry_wire(cs, value.as_ref())?;
        cs.enforce_r1cs_constraint(|| sum, || Variable::One.into(), || &next * base)?;
        carry = (next, value);
    }
    // Modulo r.
    let mut power = F::one();
    let whole = rest.iter().fold(lc!(), |sum: LinearCombination<F>, rest| {
        let sum = sum + &(rest * power);
        power *= base;
        sum
    });
    cs.enforce_r1cs_constraint(|| whole, || Variable::One.into(), || lc!())
}

/// A number between `-2^92` and `2^92`.
fn carry_wire<F: PrimeField>(
    cs: &ConstraintSystemRef<F>,
    value: Option<&BigInt>,
) -> Result<LinearCombination<F>, SynthesisError> {
    let offset = BigInt::from(1) << CARRY_OFFSET_BITS;
    let shifted = value.map(|value| [value + &offset]);
    let ([wire], _) = ranged(cs, shifted.as_ref(), [CARRY_OFFSET_BITS + 1])?;
    Ok(wire - &lc!((to_field::<F>(&offset), Variable::One)))
}

/// Wires for numbers of at most so many bits, and these bits.
fn ranged<F: PrimeField, const N: usize>(
    cs: &ConstraintSystemRef<F>,
    values: Option<&[BigInt; N]>,
    sizes: [usize; N],
) -> Result<([LinearCombination<F>; N], Vec<Bit>), SynthesisError> {
    let mut all = Vec::new();
    let mut limbs = [const { LinearCombination(Vec::new()) }; N];
    for (position, (limb, size)) in limbs.iter_mut().zip(sizes).enumerate() {
        let value = values.and_then(|values| values.get(position)).map(BigInt::magnitude);
        let bits = (0..size as u64)
            .map(|bit| Bit::witness(cs, value.map(|value| value.bit(bit))))
            .collect::<Result<Vec<_>, _>>()?;
        // What does not fit its bits is not taken for what does.
        let fitting = value.map(|value| value % (BigUint::from(1u8) << size));
        let wire =
            cs.new_witness_variable(|| fitting.map(F::from).ok_or(SynthesisError::AssignmentMissing))?;
        let sum = || {
            let mut power = F::one();
            bits.iter().fold(lc!(), |sum: LinearCombination<F>, bit| {
                let sum = sum + &(bit.lc() * power);
                power.double_in_place();
                sum
            })
        };
        cs.enforce_r1cs_constraint(sum, || Variable::One.into(), || wire.into())?;
        *limb = wire.into();
        all.extend(bits);
    }
    Ok((limbs, all))
}

/// Wires without a range.
fn wires<F: PrimeField, const N: usize>(
    cs: &ConstraintSystemRef<F>,
    values: Option<&[BigInt; N]>,
) -> Result<[LinearCombination<F>; N], SynthesisError> {
    let mut limbs = [const { LinearCombination(Vec::new()) }; N];
    for (position, limb) in limbs.iter_mut().enumerate() {
        let value = values.and_then(|values| values.get(position)).map(to_field);
        *limb = cs.new_witness_variable(|| value.ok_or(SynthesisError::AssignmentMissing))?.into();
    }
    Ok(limbs)
}

/// `p`.
fn modulus() -> BigUint {
    (BigUint::from(1u8) << 255) - BigUint::from(19u8)
}

fn split(value: &BigUint) -> [BigInt; LIMBS] {
    let mask = (BigUint::from(1u8) << BASE_BITS) - BigUint::from(1u8);
    core::array::from_fn(|position| {
        let rest = value >> (BASE_BITS * position);
        // The top takes what is left.
        BigInt::from(if position + 1 == LIMBS { rest } else { rest & &mask })
    })
}

fn whole(limbs: &[BigInt; LIMBS]) -> BigInt {
    limbs.iter().rev().fold(BigInt::ZERO, |sum, limb| (sum << BASE_BITS) + limb)
}

/// Coefficients of the product of two polynomials.
fn multiply(x: &[BigInt; LIMBS], y: &[BigInt; LIMBS]) -> [BigInt; 2 * LIMBS - 1] {
    let mut product = [BigInt::ZERO; 2 * LIMBS - 1];
    for (shift, x) in x.iter().enumerate() {
        for (to, y) in product.iter_mut().skip(shift).zip(y) {
            *to += x * y;
        }
    }
    product
}

/// The same where one is constant.
fn multiply_constant<F: PrimeField>(
    x: &[LinearCombination<F>; LIMBS],
    y: &[BigInt; LIMBS],
) -> [LinearCombination<F>; 2 * LIMBS - 1] {
    let mut product = [const { LinearCombination(Vec::new()) }; 2 * LIMBS - 1];
    for (shift, x) in x.iter().enumerate() {
        for (to, y) in product.iter_mut().skip(shift).zip(y) {
            *to = &*to + &(x * to_field::<F>(y));
        }
    }
    product
}

fn to_field<F: PrimeField>(value: &BigInt) -> F {
    let magnitude = F::from(value.magnitude().clone());
    if *value < BigInt::ZERO { -magnitude } else { magnitude }
}

/// Coefficients of the polynomial, linear in each bit, that takes these values.
fn multilinear<F: PrimeField>(mut values: Vec<F>) -> Vec<F> {
    let mut half = 1;
    while half < values.len() {
        for block in values.chunks_mut(2 * half) {
            if let Some((low, high)) = block.split_at_mut_checked(half) {
                low.iter().zip(high).for_each(|(low, high)| *high -= low);
            }
        }
        half *= 2;
    }
    values
}

#[cfg(test)]
mod tests {
    use ark_bn254::Fr;
    use ark_relations::gr1cs::ConstraintSystem;
    use proptest::prelude::*;

    use super::*;

    fn holds(x: Fq, y: Fq, z: Fq) -> bool {
        let cs = ConstraintSystem::<Fr>::new_ref();
        let [x, y, z] = [x, y, z].map(|value| Element::witness(&cs, Some(value)).unwrap().0);
        enforce_product(&cs, &x, &y, &z).unwrap();
        cs.is_satisfied().unwrap()
    }

    fn element() -> impl Strategy<Value = Fq> {
        let edge = prop::sample::select(vec![0u64, 1, 2, 19]).prop_map(Fq::from);
        let edge =
            (edge, any::<bool>()).prop_map(|(edge, is_negative)| if is_negative { -edge } else { edge });
        prop_oneof![any::<[u8; 32]>().prop_map(|bytes| Fq::from_le_bytes_mod_order(&bytes)), edge,]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn products_hold_and_nothing_else_does(x in element(), y in element(), by in element()) {
            prop_assert!(holds(x, y, x * y));
            prop_assert_eq!(holds(x, y, x * y + by), by == Fq::from(0));
        }

        #[test]
        fn a_picked_entry_is_that_of_the_bits(entries in prop::collection::vec(element(), 8), number in 0..8usize) {
            let cs = ConstraintSystem::<Fr>::new_ref();
            let bits = [0, 1, 2].map(|bit| Bit::witness(&cs, Some((number >> bit) & 1 == 1)).unwrap());
            let mut products = vec![Bit::constant(true)];
            for bit in bits {
                let with: Vec<Bit> = products.iter().map(|product| product.and(&cs, bit).unwrap()).collect();
                products.extend(with);
            }
            let picked = Element::picked(&cs, &entries, &products, Some(number)).unwrap();
            prop_assert_eq!(picked.native(), Some(entries[number]));
            prop_assert!(cs.is_satisfied().unwrap());
            let other = Element::picked(&cs, &entries, &products, Some(number ^ 1)).unwrap();
            let is_same = other.native() == picked.native();
            prop_assert_eq!(cs.is_satisfied().unwrap(), is_same);
        }
    }
}
