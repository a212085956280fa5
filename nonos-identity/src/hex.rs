//! Lower-case hexadecimal text forms and their serde views.

use data_encoding::HEXLOWER;

/// A text that is not the lower-case hexadecimal form of the expected length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected} lower-case hexadecimal digits")]
pub struct ParseHexError {
    /// Digits that a valid text has.
    pub expected: usize,
}

pub(crate) fn parse<const N: usize>(text: &str) -> Result<[u8; N], ParseHexError> {
    let error = ParseHexError { expected: 2 * N };
    if text.len() != 2 * N {
        return Err(error);
    }
    let mut bytes = [0; N];
    HEXLOWER.decode_mut(text.as_bytes(), &mut bytes).map_err(|_| error)?;
    Ok(bytes)
}

pub(crate) fn print(bytes: &[u8]) -> String {
    HEXLOWER.encode(bytes)
}

/// `Display`, `FromStr` and serde's string view for a newtype over `[u8; N]`.
macro_rules! text_form {
    ($name:ident, $len:literal) => {
        impl core::fmt::Display for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.pad(&crate::hex::print(&self.0))
            }
        }

        impl core::str::FromStr for $name {
            type Err = crate::ParseHexError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                crate::hex::parse::<$len>(text).map(Self)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <String as serde::Deserialize>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

pub(crate) use text_form;
