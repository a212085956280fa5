use ark_bn254::Fr;
use ark_r1cs_std::fields::fp::{AllocatedFp, FpVar};
use ark_r1cs_std::prelude::*;
use ark_relations::gr1cs::{ConstraintSystemRef, LinearCombination, SynthesisError};
use ark_relations::lc;

use super::assignment::Assignment;
use crate::gadgets::Bit;
use crate::proof::Profile;

/// Allocates wires, with values where there is an assignment.
pub(super) struct Wires<'a> {
    pub(super) cs: &'a ConstraintSystemRef<Fr>,
    pub(super) assignment: Option<&'a Assignment>,
}

impl Wires<'_> {
    pub(super) fn value<T>(&self, read: impl FnOnce(&Assignment) -> T) -> Result<T, SynthesisError> {
        self.assignment.map(read).ok_or(SynthesisError::AssignmentMissing)
    }

    pub(super) fn public(&self, profile: Profile) -> Result<Vec<FpVar<Fr>>, SynthesisError> {
        let input = |position: usize| {
            let read = |a: &Assignment| a.public.get(position).copied().unwrap_or_default();
            FpVar::new_input(self.cs.clone(), || self.value(read))
        };
        (0..profile.public_inputs()).map(input).collect()
    }

    pub(super) fn witness(&self, read: impl FnOnce(&Assignment) -> Fr) -> Result<FpVar<Fr>, SynthesisError> {
        FpVar::new_witness(self.cs.clone(), || self.value(read))
    }

    pub(super) fn bits(
        &self,
        count: usize,
        read: impl Fn(&Assignment, usize) -> bool,
    ) -> Result<Vec<Bit>, SynthesisError> {
        let bit = |position| Bit::witness(self.cs, self.assignment.map(|a| read(a, position)));
        (0..count).map(bit).collect()
    }

    /// A number made of witnessed bits, which is what keeps it below two to their count.
    pub(super) fn number(
        &self,
        bits: usize,
        read: impl Fn(&Assignment) -> u64,
    ) -> Result<(Vec<Bit>, FpVar<Fr>), SynthesisError> {
        let bits = self.bits(bits, |a, position| (read(a) >> position) & 1 == 1)?;
        let number = self.pack(&bits, bits.len())?.into_iter().sum();
        Ok((bits, number))
    }

    /// Bits as little-endian numbers of so many each, without a constraint.
    pub(super) fn pack(&self, bits: &[Bit], each: usize) -> Result<Vec<FpVar<Fr>>, SynthesisError> {
        let number = |bits: &[Bit]| {
            let value = bits
                .iter()
                .rev()
                .try_fold(Fr::from(0), |sum: Fr, bit| Some(sum + sum + Fr::from(bit.value()?)));
            let sum = || {
                let mut power = Fr::from(1);
                bits.iter().fold(lc!(), |sum: LinearCombination<Fr>, bit| {
                    let sum = sum + &(bit.lc() * power);
                    power += power;
                    sum
                })
            };
            Ok(FpVar::Var(AllocatedFp::new(value, self.cs.new_lc(sum)?, self.cs.clone())))
        };
        bits.chunks(each).map(number).collect()
    }
}
