//! The canonical codec: one byte string per value, everywhere.
//!
//! CBOR (RFC 8949) in its core deterministic form, by `minicbor` derive: structs are arrays with
//! append-only indices, integers have their shortest form, maps are sorted. A decoder accepts
//! exactly the bytes that its encoder makes: the value is encoded again and compared, so
//! over-long integers, unsorted or repeated keys, indefinite lengths and trailing bytes are all
//! refused by one rule.

use minicbor::{Decode, Encode};

/// A type with canonical bytes.
///
/// `MAX_BYTES` bounds the input before anything is parsed, which also bounds what a decoder can
/// allocate: a declared length never exceeds the bytes that carry it.
pub trait Wire: Encode<()> + for<'b> Decode<'b, ()> {
    /// Longest accepted encoding, in bytes.
    const MAX_BYTES: usize;
}

/// Why bytes are not the canonical form of a value. Always the fault of whoever made the bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Longer than the type allows.
    #[error("{len} bytes exceed the limit of {limit}")]
    TooLong {
        /// Bytes received.
        len: usize,
        /// [`Wire::MAX_BYTES`] of the type.
        limit: usize,
    },
    /// Not CBOR of the expected shape.
    #[error("malformed encoding")]
    Malformed,
    /// Another encoding of the same value, or trailing bytes.
    #[error("encoding is not canonical")]
    NotCanonical,
}

/// Encodes a value into its canonical bytes.
///
/// # Panics
/// Only if a hand-written `Encode` raises an error of its own, which none in the SDK does.
#[must_use]
pub fn to_bytes<T: Wire>(value: &T) -> Vec<u8> {
    encode(value)
}

/// Decodes canonical bytes.
///
/// # Errors
/// [`DecodeError`] if the bytes are too long, malformed or not canonical.
pub fn from_bytes<T: Wire>(bytes: &[u8]) -> Result<T, DecodeError> {
    if bytes.len() > T::MAX_BYTES {
        return Err(DecodeError::TooLong { len: bytes.len(), limit: T::MAX_BYTES });
    }
    let value = minicbor::decode(bytes).map_err(|_| DecodeError::Malformed)?;
    if encode(&value) != bytes {
        return Err(DecodeError::NotCanonical);
    }
    Ok(value)
}

fn encode<T: Encode<()>>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    minicbor::encode(value, &mut bytes).expect("a vector takes every write and our encoders raise no errors");
    bytes
}

/// Version 1 of a record: the number this crate writes and the only one it reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct V1;

impl<C> Encode<C> for V1 {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.u8(1)?.ok()
    }
}

impl<'b, C> Decode<'b, C> for V1 {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        match d.u8()? {
            1 => Ok(Self),
            _ => Err(minicbor::decode::Error::message("unknown version")),
        }
    }
}

/// CBOR byte string and `AsRef` for a newtype over `[u8; N]` with no rule beyond its length.
macro_rules! fixed_bytes {
    ($name:ident, $len:literal) => {
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
                let bytes = <[u8; $len]>::try_from(d.bytes()?)
                    .map_err(|_| minicbor::decode::Error::message("wrong length"))?;
                Ok(Self(bytes))
            }
        }
    };
}

pub(crate) use fixed_bytes;

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Encode, Decode)]
    struct Pair(#[n(0)] u64, #[cbor(n(1), with = "minicbor::bytes")] Vec<u8>);

    impl Wire for Pair {
        const MAX_BYTES: usize = 16;
    }

    #[test]
    fn accepts_only_the_bytes_it_makes() {
        let bytes = to_bytes(&Pair(7, vec![1, 2]));
        assert_eq!(bytes, [0x82, 7, 0x42, 1, 2]);
        assert_eq!(from_bytes::<Pair>(&bytes), Ok(Pair(7, vec![1, 2])));

        let trailing = [0x82, 7, 0x42, 1, 2, 0];
        let over_long = [0x82, 0x18, 7, 0x42, 1, 2];
        let indefinite = [0x9f, 7, 0x42, 1, 2, 0xff];
        for bytes in [&trailing[..], &over_long, &indefinite] {
            assert_eq!(from_bytes::<Pair>(bytes), Err(DecodeError::NotCanonical), "{bytes:02x?}");
        }
        assert_eq!(from_bytes::<Pair>(&[0x82, 7]), Err(DecodeError::Malformed));
        assert_eq!(from_bytes::<Pair>(&[0; 17]), Err(DecodeError::TooLong { len: 17, limit: 16 }));
    }

    #[test]
    fn a_declared_length_allocates_nothing() {
        // A byte string that claims 2^63 bytes.
        let bomb = [0x82, 7, 0x5b, 0x80, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(from_bytes::<Pair>(&bomb), Err(DecodeError::Malformed));
    }
}
