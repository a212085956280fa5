use ark_ff::PrimeField;
use ark_relations::gr1cs::{ConstraintSystemRef, LinearCombination, SynthesisError, Variable};
use ark_relations::lc;

/// A bit of a circuit: a constant, or a wire that its constraints keep at 0 or 1.
///
/// Its value is `None` where there is no assignment, that is in a setup.
#[derive(Clone, Copy, Debug)]
pub struct Bit(Inner);

#[derive(Clone, Copy, Debug)]
enum Inner {
    Constant(bool),
    Wire { variable: Variable, is_negated: bool, value: Option<bool> },
}

use Inner::{Constant, Wire};

impl Bit {
    /// A constant.
    #[must_use]
    pub const fn constant(value: bool) -> Self {
        Self(Constant(value))
    }

    /// A wire with a value of the prover's, kept at 0 or 1 by one constraint.
    ///
    /// # Errors
    /// [`SynthesisError`] if a system with an assignment is given none.
    pub fn witness<F: PrimeField>(
        cs: &ConstraintSystemRef<F>,
        value: Option<bool>,
    ) -> Result<Self, SynthesisError> {
        let bit = Self::output(cs, value)?;
        cs.enforce_r1cs_constraint(|| bit.lc(), || bit.not().lc(), || lc!())?;
        Ok(bit)
    }

    /// A wire that the caller's constraint keeps at 0 or 1.
    fn output<F: PrimeField>(
        cs: &ConstraintSystemRef<F>,
        value: Option<bool>,
    ) -> Result<Self, SynthesisError> {
        let assigned = || value.map(F::from).ok_or(SynthesisError::AssignmentMissing);
        Ok(Self(Wire { variable: cs.new_witness_variable(assigned)?, is_negated: false, value }))
    }

    /// The value, where there is one.
    #[must_use]
    pub const fn value(&self) -> Option<bool> {
        match self.0 {
            Constant(value) => Some(value),
            Wire { value, .. } => value,
        }
    }

    /// The other bit; costs nothing.
    #[must_use]
    pub const fn not(self) -> Self {
        Self(match self.0 {
            Constant(value) => Constant(!value),
            Wire { variable, is_negated, value } => {
                let value = match value {
                    Some(value) => Some(!value),
                    None => None,
                };
                Wire { variable, is_negated: !is_negated, value }
            }
        })
    }

    pub(super) const fn is_constant(&self) -> bool {
        matches!(self.0, Constant(_))
    }

    /// Whether both are set, in at most one constraint.
    ///
    /// # Errors
    /// [`SynthesisError`] if a system with an assignment is given none.
    pub fn and<F: PrimeField>(
        &self,
        cs: &ConstraintSystemRef<F>,
        other: Self,
    ) -> Result<Self, SynthesisError> {
        // a ^ (!b & c) of 0, !self and other.
        Self::chi(cs, [Self::constant(false), self.not(), other])
    }

    const fn not_if(self, condition: bool) -> Self {
        if condition { self.not() } else { self }
    }

    /// Value of the bit as a linear combination.
    pub fn lc<F: PrimeField>(&self) -> LinearCombination<F> {
        match self.0 {
            Constant(false) => lc!(),
            Constant(true) => Variable::One.into(),
            Wire { variable, is_negated: false, .. } => variable.into(),
            Wire { variable, .. } => lc!((F::one(), Variable::One), (-F::one(), variable)),
        }
    }

    /// A wire without its negation, and whether it had one; a constant is only negations.
    const fn split(self) -> (Option<Self>, bool) {
        match self.0 {
            Constant(value) => (None, value),
            Wire { is_negated, .. } => (Some(self.not_if(is_negated)), is_negated),
        }
    }

    /// `a + b + c` modulo 2, in at most one constraint:
    ///
    /// `(2s - 3)(2o - s) = -s` with `s = a + b + c`. The first factor is never 0 for `s` in 0..=3, so
    /// there is one `o`, and it is the parity of `s`.
    ///
    /// # Errors
    /// [`SynthesisError`] if a system with an assignment is given none.
    pub fn xor3<F: PrimeField>(
        cs: &ConstraintSystemRef<F>,
        [a, b, c]: [Self; 3],
    ) -> Result<Self, SynthesisError> {
        let parts = [a, b, c].map(Self::split);
        let is_odd = parts.iter().fold(false, |odd, (_, is_negated)| odd ^ is_negated);
        let parity = match parts.map(|(wire, _)| wire) {
            [None, None, None] => Self::constant(false),
            [Some(a), None, None] | [None, Some(a), None] | [None, None, Some(a)] => a,
            [Some(a), Some(b), None] | [Some(a), None, Some(b)] | [None, Some(a), Some(b)] => {
                let output = Self::output(cs, a.value().zip(b.value()).map(|(a, b)| a ^ b))?;
                // 2ab = a + b - o
                let double = || a.lc::<F>() + &a.lc();
                cs.enforce_r1cs_constraint(double, || b.lc(), || a.lc() + &b.lc() - &output.lc())?;
                output
            }
            [Some(a), Some(b), Some(c)] => {
                let value = || Some(a.value()? ^ b.value()? ^ c.value()?);
                let output = Self::output(cs, value())?;
                let sum = || a.lc::<F>() + &b.lc() + &c.lc();
                cs.enforce_r1cs_constraint(
                    || sum() * F::from(2u8) - (F::from(3u8), Variable::One),
                    || output.lc() * F::from(2u8) - &sum(),
                    || -sum(),
                )?;
                output
            }
        };
        Ok(parity.not_if(is_odd))
    }

    /// `a ^ (!b & c)`, the step chi of Keccak, in at most one constraint:
    ///
    /// `(1 - 4a + 4b + c)(4o + 4b + c) = -12a + 20b + 10c`. For bits the first factor is one of -3, -2,
    /// 1, 2, 5, 6, so there is one `o`.
    ///
    /// # Errors
    /// [`SynthesisError`] if a system with an assignment is given none.
    pub fn chi<F: PrimeField>(
        cs: &ConstraintSystemRef<F>,
        [a, b, c]: [Self; 3],
    ) -> Result<Self, SynthesisError> {
        let none = Self::constant(false);
        match (a.0, b.0, c.0) {
            (_, Constant(true), _) | (_, _, Constant(false)) => Ok(a),
            (_, Constant(false), _) => Self::xor3(cs, [a, c, none]),
            (_, _, Constant(true)) => Self::xor3(cs, [a, b.not(), none]),
            (Constant(a), ..) => {
                let output = Self::output(cs, b.value().zip(c.value()).map(|(b, c)| !b & c))?;
                cs.enforce_r1cs_constraint(|| b.not().lc(), || c.lc(), || output.lc())?;
                Ok(output.not_if(a))
            }
            _ => {
                let value = || Some(a.value()? ^ (!b.value()? & c.value()?));
                let output = Self::output(cs, value())?;
                let times = |bit: Self, by: u8| bit.lc::<F>() * F::from(by);
                cs.enforce_r1cs_constraint(
                    || times(b, 4) + &c.lc() + Variable::One - &times(a, 4),
                    || times(output, 4) + &times(b, 4) + &c.lc(),
                    || times(b, 20) + &times(c, 10) - &times(a, 12),
                )?;
                Ok(output)
            }
        }
    }
}

#[cfg(test)]
mod tests;
