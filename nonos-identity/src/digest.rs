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
    absorb_field(hash, domain.as_bytes());
    fields.iter().for_each(|field| absorb_field(hash, field));
}

fn absorb_field(hash: &mut impl sha3::digest::Update, field: &[u8]) {
    hash.update(&(field.len() as u64).to_le_bytes());
    hash.update(field);
}

/// [`Digest::of`] for fields that come one after another.
#[derive(Clone, Debug)]
pub struct RunningDigest(Sha3_256);

impl RunningDigest {
    /// No field yet.
    #[must_use]
    pub fn new(domain: Domain) -> Self {
        let mut hash = Sha3_256::new();
        absorb(&mut hash, domain, &[]);
        Self(hash)
    }

    /// One field more.
    pub fn field(&mut self, field: &[u8]) {
        absorb_field(&mut self.0, field);
    }

    /// The digest of the fields so far; more may follow.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest(self.0.clone().finalize().into())
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
    fn a_running_digest_is_that_of_all_fields_so_far() {
        let mut running = RunningDigest::new(D);
        assert_eq!(running.digest(), Digest::of(D, &[]));
        running.field(b"ab");
        assert_eq!(running.digest(), Digest::of(D, &[b"ab"]));
        running.field(&[7; 200]);
        assert_eq!(running.digest(), Digest::of(D, &[b"ab", &[7; 200]]));
    }

    #[test]
    fn text_form_round_trips_and_refuses_the_rest() {
        let digest = Digest::of(D, &[]);
        assert_eq!(digest.to_string().parse::<Digest>(), Ok(digest));
        assert!("zz".parse::<Digest>().is_err());
        assert!(digest.to_string().to_uppercase().parse::<Digest>().is_err());
    }
}
