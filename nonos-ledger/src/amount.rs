use core::fmt;

use minicbor::decode;

/// A sum of money: a whole, non-negative number of nano-mod (10^-9 mod).
///
/// Arithmetic is checked and there are no fractions: whoever divides says where the remainder
/// goes. Wire form: 16 bytes, big-endian.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Amount(u128);

/// An arithmetic result outside the range of an [`Amount`], or a split by no weight at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AmountError {
    /// Beyond [`Amount::MAX`].
    #[error("amount exceeds the representable maximum")]
    Overflow,
    /// The weights of a split are all zero.
    #[error("the weights of a split are all zero")]
    NoWeight,
}

/// The parts of a divided amount: `shares` and `remainder` together are the whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// One share per weight, each rounded down.
    pub shares: Vec<Amount>,
    /// What rounding left over; it belongs on the account [`Rounding`](crate::SystemAccount::Rounding).
    pub remainder: Amount,
}

impl Amount {
    /// Nano-mod in one mod.
    pub const NANO_PER_MOD: u64 = 1_000_000_000;
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// The largest amount, 2^127 - 1 nano-mod, so that a difference of two always fits a [`Balance`].
    pub const MAX: Self = Self(i128::MAX.unsigned_abs());

    /// From nano-mod.
    #[must_use]
    pub const fn from_nano(nano: u64) -> Self {
        Self(nano as u128)
    }

    /// From whole mod.
    #[must_use]
    pub const fn from_mod(whole: u64) -> Self {
        Self(whole as u128 * Self::NANO_PER_MOD as u128)
    }

    /// In nano-mod.
    #[must_use]
    pub const fn as_nano(self) -> u128 {
        self.0
    }

    /// Whether it is nothing.
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// The sum.
    ///
    /// # Errors
    /// [`AmountError::Overflow`] beyond [`Self::MAX`].
    pub fn plus(self, other: Self) -> Result<Self, AmountError> {
        // Two values below 2^127 cannot wrap a u128.
        Self::try_from(self.0 + other.0)
    }

    /// The difference, or `None` if `other` is larger.
    #[must_use]
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }

    /// The amount `count` times.
    ///
    /// # Errors
    /// [`AmountError::Overflow`] beyond [`Self::MAX`].
    pub fn times(self, count: u64) -> Result<Self, AmountError> {
        self.0.checked_mul(count.into()).ok_or(AmountError::Overflow).and_then(Self::try_from)
    }

    /// Divides the amount in proportion to `weights`; every share is rounded down.
    ///
    /// # Errors
    /// [`AmountError::NoWeight`] if the weights are all zero.
    pub fn split(self, weights: &[u32]) -> Result<Split, AmountError> {
        let total: u128 = weights.iter().copied().map(u128::from).sum();
        if total == 0 {
            return Err(AmountError::NoWeight);
        }
        let (quotient, rest) = (self.0 / total, self.0 % total);
        // floor(amount * w / total) without the wide product: `rest * w` is below 2^96.
        let share = |weight: &u32| {
            let weight = u128::from(*weight);
            Self(quotient * weight + rest * weight / total)
        };
        let shares: Vec<Self> = weights.iter().map(share).collect();
        let given: u128 = shares.iter().map(|share| share.0).sum();
        Ok(Split { shares, remainder: Self(self.0 - given) })
    }

    pub(crate) const fn signed(self) -> i128 {
        self.0.cast_signed()
    }
}

impl TryFrom<u128> for Amount {
    type Error = AmountError;

    fn try_from(nano: u128) -> Result<Self, AmountError> {
        if nano > Self::MAX.0 { Err(AmountError::Overflow) } else { Ok(Self(nano)) }
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = u128::from(Self::NANO_PER_MOD);
        write!(f, "{}.{:09} mod", self.0 / unit, self.0 % unit)
    }
}

impl<C> minicbor::Encode<C> for Amount {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.bytes(&self.0.to_be_bytes())?.ok()
    }
}

impl<'b, C> minicbor::Decode<'b, C> for Amount {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, decode::Error> {
        let bytes = <[u8; 16]>::try_from(d.bytes()?).map_err(|_| decode::Error::message("wrong length"))?;
        Self::try_from(u128::from_be_bytes(bytes)).map_err(decode::Error::custom)
    }
}

/// What an account is worth: credits less debits, in nano-mod; negative is a debt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Balance(i128);

impl Balance {
    pub(crate) const fn between(credits: Amount, debits: Amount) -> Self {
        // Both lie in [0, 2^127), hence so does the magnitude of the difference.
        Self(credits.signed() - debits.signed())
    }

    /// In nano-mod.
    #[must_use]
    pub const fn as_nano(self) -> i128 {
        self.0
    }

    /// Whether it is a debt.
    #[must_use]
    pub const fn is_debt(self) -> bool {
        self.0 < 0
    }

    /// The amount without its sign.
    #[must_use]
    pub const fn magnitude(self) -> Amount {
        Amount(self.0.unsigned_abs())
    }
}

impl fmt::Display for Balance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.is_debt() { "-" } else { "" }, self.magnitude())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_is_checked() {
        assert_eq!(Amount::MAX.plus(Amount::from_nano(1)), Err(AmountError::Overflow));
        assert_eq!(Amount::MAX.times(2), Err(AmountError::Overflow));
        assert_eq!(Amount::from_nano(1).checked_sub(Amount::from_nano(2)), None);
        assert_eq!(Balance::between(Amount::ZERO, Amount::MAX).as_nano(), -i128::MAX);
    }

    #[test]
    fn a_split_names_its_remainder() {
        let split = Amount::from_nano(10).split(&[1, 1, 1]).expect("weights");
        assert_eq!(split.shares, [Amount::from_nano(3); 3]);
        assert_eq!(split.remainder, Amount::from_nano(1));
        assert_eq!(Amount::MAX.split(&[u32::MAX]).expect("weight").shares, [Amount::MAX]);
        assert_eq!(Amount::MAX.split(&[0]), Err(AmountError::NoWeight));
    }

    #[test]
    fn prints_whole_and_nano() {
        assert_eq!(Amount::from_nano(1_000_000_002).to_string(), "1.000000002 mod");
        assert_eq!(Balance::between(Amount::ZERO, Amount::from_mod(2)).to_string(), "-2.000000000 mod");
    }
}
