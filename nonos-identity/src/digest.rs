use core::fmt;

use sha3::{Digest as _, Sha3_256, Sha3_512};

use crate::domain::Domain;
use crate::hex;

/// A SHA3-256 digest (FIPS 202), 32 bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

/// A SHA3-512 digest (FIPS 202), 64 bytes: capsule payloads, capsule ids, checkpoints.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WideDigest([u8; 64]);

/// Feeds `domain` and every field to the hash, each after its length as eight little-endian
/// bytes, so that no two different field lists hash the same bytes.
fn absorb(hash: &mut impl sha3::digest::Update, domain: Domain, fields: &[&[u8]]) {
    let name = domain.as_bytes();
    hash.update(&(name.len() as u64).to_le_bytes());
    hash.update(name);
    for field in fields {
        hash.update(&(field.len() as u64).to_le_bytes());
        hash.update(field);
    }
}

macro_rules! digest {
    ($name:ident, $len:literal, $hash:ty) => {
        impl $name {
            /// Length in bytes.
            pub const LEN: usize = $len;

            /// Hashes a list of fields under a domain; every field is length-prefixed.
            #[must_use]
            pub fn of(domain: Domain, fields: &[&[u8]]) -> Self {
                let mut hash = <$hash>::new();
                absorb(&mut hash, domain, fields);
                Self(hash.finalize().into())
            }

            /// Hashes plain bytes with no domain: only where a published format asks for it.
            #[must_use]
            pub fn of_bytes(bytes: &[u8]) -> Self {
                Self(<$hash>::digest(bytes).into())
            }

            /// Wraps digest bytes computed elsewhere.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; $len]) -> Self {
                Self(bytes)
            }

            /// The digest bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }
        }

        impl AsRef<[u8]> for $name {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }

        hex::text_form!($name, $len);
        crate::wire::fixed_bytes!($name, $len);
    };
}

digest!(Digest, 32, Sha3_256);
digest!(WideDigest, 64, Sha3_512);

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl fmt::Debug for WideDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WideDigest({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const D: Domain = Domain::new("nonos/identity/test/v1");

    #[test]
    fn empty_input_matches_fips_202() {
        assert_eq!(
            Digest::of_bytes(b"").to_string(),
            "a7ffc6f8bf1ed76651c14756a061d662f580ff4de43b49fa82d80a4b80f8434a"
        );
    }

    #[test]
    fn field_borders_matter() {
        assert_ne!(Digest::of(D, &[b"ab", b"c"]), Digest::of(D, &[b"a", b"bc"]));
        assert_ne!(WideDigest::of(D, &[b"ab"]), WideDigest::of(D, &[b"ab", b""]));
    }

    #[test]
    fn text_form_round_trips_and_refuses_the_rest() {
        let digest = Digest::of(D, &[]);
        assert_eq!(digest.to_string().parse::<Digest>(), Ok(digest));
        assert!("zz".parse::<Digest>().is_err());
        assert!(digest.to_string().to_uppercase().parse::<Digest>().is_err());
    }
}
