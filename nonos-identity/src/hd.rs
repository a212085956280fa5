//! Hardened key derivation (SLIP-0010).

use core::fmt;
use core::str::FromStr;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha512;
use sha3::{Digest as _, Sha3_256};
use zeroize::{Zeroize as _, Zeroizing};

use crate::domain::Domain;

/// The first hardened index of BIP32; SLIP-0010 knows no other kind for our two curves.
const HARDENED: u32 = 1 << 31;

/// Index that announces a number too large for one path component; see [`HdNode::descend`].
const ESCAPE: u32 = HARDENED - 1;

/// The curve a tree of keys belongs to: one seed gives unrelated trees (SLIP-0010 master key
/// generation).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Curve {
    /// Signing keys.
    Ed25519,
    /// Key agreement.
    Curve25519,
}

impl Curve {
    const fn hmac_key(self) -> &'static [u8] {
        match self {
            Self::Ed25519 => b"ed25519 seed",
            Self::Curve25519 => b"curve25519 seed",
        }
    }
}

/// A node of a SLIP-0010 tree: a private key and the chain code that leads to its children.
///
/// Hardened derivation only, so a leaked child says nothing about its parent or siblings.
/// Wiped on drop; no `Debug` of its content, no `Eq`, no serialisation.
pub struct HdNode {
    key: Zeroizing<[u8; 32]>,
    chain_code: Zeroizing<[u8; 32]>,
}

impl HdNode {
    /// The root of the tree of a seed (SLIP-0010: 16 to 64 bytes).
    #[must_use]
    pub fn master(curve: Curve, seed: &[u8]) -> Self {
        Self::step(curve.hmac_key(), &[seed])
    }

    /// The hardened child `index'`; `None` if the index exceeds 2^31 - 1.
    #[must_use]
    pub fn child(&self, index: u32) -> Option<Self> {
        (index < HARDENED).then(|| self.hardened(index))
    }

    /// The descendant at a path.
    #[must_use]
    pub fn derive(&self, path: &DerivationPath) -> Self {
        path.0.iter().fold(self.copy(), |node, &index| node.hardened(index))
    }

    /// The private key: an Ed25519 seed or an X25519 scalar.
    #[must_use]
    pub fn key(&self) -> &Zeroizing<[u8; 32]> {
        &self.key
    }

    /// The chain code. With it and the key, all descendants are known.
    #[must_use]
    pub fn chain_code(&self) -> &Zeroizing<[u8; 32]> {
        &self.chain_code
    }

    /// The descendant for a number of any size. Numbers below 2^31 - 1 take one component;
    /// larger ones take the component 2^31 - 1 and three with 31 bits each. The code is
    /// prefix-free, so different numbers never share a key.
    pub(crate) fn descend(&self, number: u64) -> Self {
        match u32::try_from(number) {
            Ok(index) if index < ESCAPE => self.hardened(index),
            _ => [62, 31, 0].iter().fold(self.hardened(ESCAPE), |node, shift| {
                let part = (number >> shift) & u64::from(HARDENED - 1);
                node.hardened(u32::try_from(part).unwrap_or(ESCAPE))
            }),
        }
    }

    /// A secret of this node for a purpose that is no key of the tree: SHA3-256 over key and
    /// chain code. Whoever learns the key alone does not learn it.
    pub(crate) fn secret(&self, domain: Domain, context: &[u8]) -> Zeroizing<[u8; 32]> {
        let mut hash = Sha3_256::new();
        for field in [domain.as_bytes(), &*self.key, &*self.chain_code, context] {
            hash.update((field.len() as u64).to_le_bytes());
            hash.update(field);
        }
        let mut secret = Zeroizing::new([0; 32]);
        hash.finalize_into((&mut *secret).into());
        secret
    }

    fn hardened(&self, index: u32) -> Self {
        Self::step(&*self.chain_code, &[&[0], &*self.key, &(HARDENED | index).to_be_bytes()])
    }

    fn step(hmac_key: &[u8], parts: &[&[u8]]) -> Self {
        let mut mac = Hmac::<Sha512>::new_from_slice(hmac_key).expect("HMAC takes a key of any length");
        for part in parts {
            mac.update(part);
        }
        let mut output = mac.finalize().into_bytes();
        let (left, right) = output.split_at(32);
        let mut node = Self { key: Zeroizing::new([0; 32]), chain_code: Zeroizing::new([0; 32]) };
        node.key.copy_from_slice(left);
        node.chain_code.copy_from_slice(right);
        output.as_mut_slice().zeroize();
        node
    }

    fn copy(&self) -> Self {
        Self { key: self.key.clone(), chain_code: self.chain_code.clone() }
    }
}

impl fmt::Debug for HdNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HdNode(..)")
    }
}

/// A path of hardened children such as `m/20047'/0'/3'/0'`: one to six components, each below
/// 2^31, in exactly the text form it prints.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DerivationPath(Vec<u32>);

/// Why a text is no derivation path. The caller's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathError {
    /// Not the form that [`DerivationPath`] prints.
    #[error("malformed derivation path")]
    Malformed,
    /// A component without `'`.
    #[error("component {0} is not hardened")]
    NotHardened(u32),
    /// No component, or more than [`DerivationPath::MAX_DEPTH`].
    #[error("path has {0} components")]
    Depth(usize),
}

impl DerivationPath {
    /// Most components of a path.
    pub const MAX_DEPTH: usize = 6;

    /// Longest text form, in bytes, which bounds the parser's work.
    const MAX_TEXT_BYTES: usize = 1 + Self::MAX_DEPTH * "/2147483647'".len();
}

impl FromStr for DerivationPath {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        if text.len() > Self::MAX_TEXT_BYTES {
            return Err(PathError::Malformed);
        }
        let parsed: bip32::DerivationPath = text.parse().map_err(|_| PathError::Malformed)?;
        // The parser also takes `+1'`, `01'` and `1h`; a path has one text form.
        if parsed.to_string() != text {
            return Err(PathError::Malformed);
        }
        if parsed.is_empty() || parsed.len() > Self::MAX_DEPTH {
            return Err(PathError::Depth(parsed.len()));
        }
        parsed
            .iter()
            .map(|child| {
                if child.is_hardened() {
                    Ok(child.index())
                } else {
                    Err(PathError::NotHardened(child.index()))
                }
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

impl fmt::Display for DerivationPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("m")?;
        self.0.iter().try_for_each(|index| write!(f, "/{index}'"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn master() -> HdNode {
        HdNode::master(Curve::Ed25519, &[7; 64])
    }

    #[test]
    fn a_path_has_one_text_form() {
        for good in ["m/0'", "m/20047'/0'/5'/2147483647'/7'", "m/0'/1'/2'/3'/4'/5'"] {
            assert_eq!(good.parse::<DerivationPath>().expect(good).to_string(), good);
        }
        for bad in
            ["", "m/", "0'", "m/+1'", "m/01'", "m/1h", "m/1H", "m/-1'", "m/ 1'", "M/1'", "m/1'/", "m//1'"]
        {
            assert_eq!(bad.parse::<DerivationPath>(), Err(PathError::Malformed), "{bad:?}");
        }
        assert_eq!("m/2147483648'".parse::<DerivationPath>(), Err(PathError::Malformed));
        assert_eq!("m".parse::<DerivationPath>(), Err(PathError::Depth(0)));
        assert_eq!("m/0'/1'/2'/3'/4'/5'/6'".parse::<DerivationPath>(), Err(PathError::Depth(7)));
        assert_eq!("m/0'/1".parse::<DerivationPath>(), Err(PathError::NotHardened(1)));
        assert_eq!("m/0'".repeat(1_000).parse::<DerivationPath>(), Err(PathError::Malformed));
    }

    #[test]
    fn a_path_is_a_walk_over_children() {
        let path: DerivationPath = "m/44'/0'/9'".parse().expect("path");
        let walked = [44, 0, 9].iter().fold(master(), |node, index| node.child(*index).expect("below 2^31"));
        assert_eq!(*master().derive(&path).key(), *walked.key());
        assert_eq!(*master().derive(&path).chain_code(), *walked.chain_code());
        assert!(master().child(HARDENED).is_none());
    }

    #[test]
    fn numbers_of_any_size_have_keys_of_their_own() {
        let small = u64::from(ESCAPE) - 1;
        assert_eq!(*master().descend(small).key(), *master().child(ESCAPE - 1).expect("index").key());
        let escape = master().child(ESCAPE).expect("index");
        assert_ne!(*master().descend(ESCAPE.into()).key(), *escape.key(), "the escape is no number");
        let numbers = [
            0,
            1,
            small,
            small + 1,
            1 << 31,
            (1 << 31) + 1,
            1 << 32,
            3 << 31,
            (1 << 62) - 1,
            1 << 62,
            u64::MAX - 1,
            u64::MAX,
        ];
        let mut keys: Vec<_> = numbers.iter().map(|n| **master().descend(*n).key()).collect();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), numbers.len());
    }

    #[test]
    fn a_secret_depends_on_everything() {
        let (a, b) = (Domain::new("nonos/identity/test/v1"), Domain::new("nonos/identity/other-test/v1"));
        let base = master().secret(a, b"x");
        assert_eq!(*base, *master().secret(a, b"x"));
        assert_ne!(*base, *master().secret(b, b"x"));
        assert_ne!(*base, *master().secret(a, b"y"));
        assert_ne!(*base, *master().descend(0).secret(a, b"x"));
        let same_key = HdNode { key: master().key.clone(), chain_code: Zeroizing::new([0; 32]) };
        assert_ne!(*base, *same_key.secret(a, b"x"), "the key alone must not tell");
    }

    #[test]
    fn debug_shows_no_secret() {
        assert_eq!(format!("{:?}", master()), "HdNode(..)");
    }
}
