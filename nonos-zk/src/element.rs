use ark_bn254::Fr;
use ark_ff::{BigInteger, PrimeField};

/// Bytes that are not a field element below the modulus.
///
/// Accepting two encodings of one element would let a nullifier be spent twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a canonical field element")]
pub struct NotCanonical;

/// Reads 32 little-endian bytes as an element below the modulus.
pub(crate) fn parse(bytes: &[u8; 32]) -> Result<Fr, NotCanonical> {
    let element = Fr::from_le_bytes_mod_order(bytes);
    if print(&element) == *bytes { Ok(element) } else { Err(NotCanonical) }
}

/// The 32 little-endian bytes of an element.
pub(crate) fn print(element: &impl PrimeField) -> [u8; 32] {
    let mut bytes = [0; 32];
    for (to, from) in bytes.iter_mut().zip(element.into_bigint().to_bytes_le()) {
        *to = from;
    }
    bytes
}

/// A public newtype over the canonical bytes of one field element.
macro_rules! element {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        ///
        /// 32 little-endian bytes of an element of the BN254 scalar field, below its modulus.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 32]);

        impl $name {
            /// From its canonical bytes.
            ///
            /// # Errors
            /// [`NotCanonical`](crate::NotCanonical) if they are not below the modulus.
            pub fn from_bytes(bytes: [u8; 32]) -> Result<Self, crate::NotCanonical> {
                crate::element::parse(&bytes).map(|_| Self(bytes))
            }

            /// Its canonical bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }

            #[allow(dead_code, reason = "every element has the pair, not every gate reads both")]
            pub(crate) fn wrap(element: &ark_bn254::Fr) -> Self {
                Self(crate::element::print(element))
            }

            #[allow(dead_code, reason = "every element has the pair, not every gate reads both")]
            pub(crate) fn unwrap(&self) -> ark_bn254::Fr {
                ark_ff::PrimeField::from_le_bytes_mod_order(&self.0)
            }
        }

        impl core::fmt::Display for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl core::fmt::Debug for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl<C> minicbor::Encode<C> for $name {
            fn encode<W: minicbor::encode::Write>(
                &self,
                e: &mut minicbor::Encoder<W>,
                _: &mut C,
            ) -> Result<(), minicbor::encode::Error<W::Error>> {
                e.bytes(&self.0)?.ok()
            }
        }

        impl<'b, C> minicbor::Decode<'b, C> for $name {
            fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
                let bytes = <[u8; 32]>::try_from(d.bytes()?)
                    .map_err(|_| minicbor::decode::Error::message("wrong length"))?;
                Self::from_bytes(bytes).map_err(minicbor::decode::Error::custom)
            }
        }
    };
}

pub(crate) use element;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_modulus_and_above_are_refused() {
        let mut modulus = [0; 32];
        modulus.copy_from_slice(&Fr::MODULUS.to_bytes_le());
        assert_eq!(parse(&modulus), Err(NotCanonical));
        assert_eq!(parse(&[0xff; 32]), Err(NotCanonical));
        modulus[0] -= 1;
        assert_eq!(print(&parse(&modulus).unwrap()), modulus);
    }
}
