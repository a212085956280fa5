use core::fmt;
use core::time::Duration;

use minicbor::{Decode, Encode};

/// A non-negative number with 32 whole and 32 fractional bits (Q32.32).
///
/// Scores must agree between machines to the last bit, which floats do not promise. Arithmetic
/// saturates at [`Fixed::MAX`] and rounds down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct Fixed(#[n(0)] u64);

/// `2^(-2^-i)` for i = 1..=16 in units of 2^-63, rounded down: the factors of a binary power.
const ROOTS_OF_HALF: [u64; 16] = roots_of_half();

const fn roots_of_half() -> [u64; 16] {
    let mut roots = [0; 16];
    // Square roots of one half, by integer square root: sqrt(x * 2^63).
    let mut value: u64 = 1 << 62;
    let mut i = 0;
    while i < roots.len() {
        value = integer_sqrt((value as u128) << 63);
        #[expect(clippy::indexing_slicing, reason = "`i` is below the length")]
        {
            roots[i] = value;
        }
        i += 1;
    }
    roots
}

/// The largest integer whose square is at most `n`; `n` is below 2^126, so the result fits.
#[expect(clippy::cast_possible_truncation, reason = "the square root of a number below 2^126 is below 2^63")]
const fn integer_sqrt(n: u128) -> u64 {
    let (mut low, mut high) = (0u128, 1u128 << 63);
    while high - low > 1 {
        let middle = (low + high) / 2;
        if middle * middle <= n {
            low = middle;
        } else {
            high = middle;
        }
    }
    low as u64
}

impl Fixed {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// One.
    pub const ONE: Self = Self(1 << 32);
    /// The largest number, just below 2^32.
    pub const MAX: Self = Self(u64::MAX);

    /// A whole number.
    #[must_use]
    pub const fn whole(number: u32) -> Self {
        Self((number as u64) << 32)
    }

    /// `numerator / denominator`, rounded down; zero if the denominator is.
    #[must_use]
    pub const fn ratio(numerator: u32, denominator: u32) -> Self {
        if denominator == 0 {
            return Self::ZERO;
        }
        Self(((numerator as u64) << 32) / denominator as u64)
    }

    /// The raw number, in units of 2^-32.
    #[must_use]
    pub const fn to_bits(self) -> u64 {
        self.0
    }

    /// From units of 2^-32.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// In thousandths, rounded down.
    #[must_use]
    pub const fn permille(self) -> u64 {
        let (whole, fraction) = (self.0 >> 32, self.0 & 0xffff_ffff);
        whole * 1_000 + ((fraction * 1_000) >> 32)
    }

    /// The sum.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// The difference, zero if `other` is larger.
    #[must_use]
    pub const fn minus(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// The product.
    #[must_use]
    pub fn times(self, other: Self) -> Self {
        let product = (u128::from(self.0) * u128::from(other.0)) >> 32;
        Self(u64::try_from(product).unwrap_or(u64::MAX))
    }

    /// `self * numerator / denominator` without an intermediate rounding; zero if the denominator is.
    #[must_use]
    pub fn scaled(self, numerator: Self, denominator: Self) -> Self {
        let product = u128::from(self.0) * u128::from(numerator.0);
        let quotient = product.checked_div(denominator.0.into()).unwrap_or(0);
        Self(u64::try_from(quotient).unwrap_or(u64::MAX))
    }

    /// What is left of it after `elapsed`, halving every `half_life`: `self * 2^(-elapsed / half_life)`.
    #[must_use]
    pub fn decayed(self, elapsed: Duration, half_life: Duration) -> Self {
        let (elapsed, half_life) = (elapsed.as_secs(), half_life.as_secs().max(1));
        let halvings = elapsed / half_life;
        if halvings >= 64 {
            return Self::ZERO;
        }
        // The fraction of a half-life in units of 2^-16.
        let fraction = (u128::from(elapsed % half_life) << 16) / u128::from(half_life);
        let mut value = u128::from(self.0 >> halvings);
        for (i, root) in ROOTS_OF_HALF.iter().enumerate() {
            if fraction >> (15 - i) & 1 == 1 {
                value = (value * u128::from(*root)) >> 63;
            }
        }
        Self(u64::try_from(value).unwrap_or(u64::MAX))
    }
}

/// Three decimals, rounded down.
impl fmt::Display for Fixed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let permille = self.permille();
        f.pad(&format!("{}.{:03}", permille / 1_000, permille % 1_000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    #[test]
    fn decay_halves_and_composes() {
        let mass = Fixed::whole(64);
        assert_eq!(mass.decayed(DAY, DAY), Fixed::whole(32));
        assert_eq!(mass.decayed(Duration::ZERO, DAY), mass);
        assert_eq!(mass.decayed(100 * DAY, DAY), Fixed::ZERO);
        // 64 * 2^-0.5 = 45.2548... in units of 2^-32, checked to 2^-20.
        let half = mass.decayed(DAY / 2, DAY).to_bits();
        assert!(half.abs_diff(194_368_031_998) < 1 << 12, "{half}");
        // 64 * 2^-0.3 = 51.9841...; the fraction of 16 bits bounds the error.
        let third = mass.decayed(DAY * 3 / 10, DAY).to_bits();
        assert!(third.abs_diff(223_270_238_620) < 1 << 23, "{third}");
    }

    #[test]
    fn arithmetic_saturates() {
        assert_eq!(Fixed::MAX.plus(Fixed::ONE), Fixed::MAX);
        assert_eq!(Fixed::MAX.times(Fixed::MAX), Fixed::MAX);
        assert_eq!(Fixed::ONE.minus(Fixed::whole(2)), Fixed::ZERO);
        assert_eq!(Fixed::ONE.scaled(Fixed::ONE, Fixed::ZERO), Fixed::ZERO);
        assert_eq!(Fixed::ratio(3, 10).permille(), 299);
        assert_eq!(Fixed::ratio(1, 2).to_string(), "0.500");
    }
}
