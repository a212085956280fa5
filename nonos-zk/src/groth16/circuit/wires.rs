use ark_ff::PrimeField;
use ark_r1cs_std::fields::fp::{AllocatedFp, FpVar};
use ark_r1cs_std::prelude::*;
use ark_relations::gr1cs::{ConstraintSystemRef, LinearCombination, SynthesisError};
use ark_relations::lc;

use crate::gadgets::Bit;

/// Allocates wires, with values where there is an assignment.
pub(super) struct Wires<'a, F: PrimeField, A> {
    pub(super) cs: &'a ConstraintSystemRef<F>,
    pub(super) assignment: Option<&'a A>,
}

impl<'a, F: PrimeField, A> Wires<'a, F, A> {
    /// For a gate that knows a part of the values alone.
    pub(super) fn part<B>(&self, part: impl FnOnce(&'a A) -> &'a B) -> Wires<'a, F, B> {
        Wires { cs: self.cs, assignment: self.assignment.map(part) }
    }

    pub(super) fn value<T>(&self, read: impl FnOnce(&A) -> T) -> Result<T, SynthesisError> {
        self.assignment.map(read).ok_or(SynthesisError::AssignmentMissing)
    }

    pub(super) fn public(
        &self,
        count: usize,
        read: impl Fn(&A) -> &[F],
    ) -> Result<Vec<FpVar<F>>, SynthesisError> {
        let input = |position: usize| {
            let value = || self.value(|a| read(a).get(position).copied().unwrap_or_default());
            FpVar::new_input(self.cs.clone(), value)
        };
        (0..count).map(input).collect()
    }

    pub(super) fn witness(&self, read: impl FnOnce(&A) -> F) -> Result<FpVar<F>, SynthesisError> {
        FpVar::new_witness(self.cs.clone(), || self.value(read))
    }

    pub(super) fn bits(
        &self,
        count: usize,
        read: impl Fn(&A, usize) -> bool,
    ) -> Result<Vec<Bit>, SynthesisError> {
        let bit = |position| Bit::witness(self.cs, self.assignment.map(|a| read(a, position)));
        (0..count).map(bit).collect()
    }

    /// A number made of witnessed bits, which is what keeps it below two to their count.
    pub(super) fn number(
        &self,
        bits: usize,
        read: impl Fn(&A) -> u64,
    ) -> Result<(Vec<Bit>, FpVar<F>), SynthesisError> {
        let bits = self.bits(bits, |a, position| (read(a) >> position) & 1 == 1)?;
        let number = self.pack(&bits, bits.len())?.into_iter().sum();
        Ok((bits, number))
    }

    /// Bits as little-endian numbers of so many each, without a constraint.
    pub(super) fn pack(&self, bits: &[Bit], each: usize) -> Result<Vec<FpVar<F>>, SynthesisError> {
        let number = |bits: &[Bit]| {
            let value =
                bits.iter().rev().try_fold(F::zero(), |sum, bit| Some(sum + sum + F::from(bit.value()?)));
            let sum = || {
                let mut power = F::one();
                bits.iter().fold(lc!(), |sum: LinearCombination<F>, bit| {
                    let sum = sum + &(bit.lc() * power);
                    power.double_in_place();
                    sum
                })
            };
            Ok(FpVar::Var(AllocatedFp::new(value, self.cs.new_lc(sum)?, self.cs.clone())))
        };
        bits.chunks(each).map(number).collect()
    }
}
