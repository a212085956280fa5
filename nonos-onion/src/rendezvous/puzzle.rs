use core::fmt;

use nonos_identity::{Digest, PublicKey};

use crate::domains::{RENDEZVOUS_INTRODUCTION, RENDEZVOUS_PUZZLE};

/// How much work a client did for an introduction: the leading zero bits of a SHA3-256 digest, which take
/// `2^effort` hashes on the average to find and one to check.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Effort(u8);

impl Effort {
    /// No work.
    pub const NONE: Self = Self(0);
    /// Least effort that is worth asking for: 256 hashes.
    pub(crate) const LEAST: Self = Self(8);
    /// Most that a hub asks for or a client does: a million hashes, about half a second. Against hubs that
    /// have clients work without end.
    pub const MOST: Self = Self(20);

    /// From its bits; `None` above [`Self::MOST`].
    #[must_use]
    pub const fn from_bits(bits: u8) -> Option<Self> {
        if bits <= Self::MOST.0 { Some(Self(bits)) } else { None }
    }

    /// Its bits.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// What outbids it.
    pub(crate) fn above(self) -> Self {
        Self(self.0.saturating_add(1)).clamp(Self::LEAST, Self::MOST)
    }
}

impl fmt::Display for Effort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bits", self.0)
    }
}

/// The name of an introduction to the service that a relay knows by `auth_key`.
pub(crate) fn name(auth_key: &PublicKey, sealed: &[u8]) -> Digest {
    Digest::of(RENDEZVOUS_INTRODUCTION, &[auth_key.as_bytes(), sealed])
}

/// Whether `nonce` is that much work on the introduction of that name.
pub(crate) fn is_solved(name: &Digest, effort: Effort, nonce: u64) -> bool {
    let work = Digest::of(RENDEZVOUS_PUZZLE, &[name.as_bytes(), &nonce.to_be_bytes()]);
    let (head, _) = work.as_bytes().split_first_chunk().expect("a digest is longer than eight bytes");
    u64::from_be_bytes(*head).leading_zeros() >= u32::from(effort.0)
}

/// Works on an introduction. Blocks: up to a second at [`Effort::MOST`].
pub(crate) fn solve(name: &Digest, effort: Effort) -> u64 {
    (0..u64::MAX).find(|&nonce| is_solved(name, effort, nonce)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nonos_identity::SigningKey;

    #[test]
    fn work_is_bound_to_the_service_and_to_every_byte() {
        let key = |number| SigningKey::from_seed(&[number; 32]).public();
        let effort = Effort::from_bits(12).unwrap();
        let ours = name(&key(1), b"introduction");
        let nonce = solve(&ours, effort);
        assert!(is_solved(&ours, effort, nonce) && is_solved(&ours, Effort::NONE, 0));
        // Each of these has one chance in 4096 to pass, and fixed inputs.
        for other in [name(&key(2), b"introduction"), name(&key(1), b"introductioN")] {
            assert!(!is_solved(&other, effort, nonce));
        }
        assert!((0..nonce).all(|earlier| !is_solved(&ours, effort, earlier)));
    }

    #[test]
    fn bids_go_up_to_the_most_and_no_further() {
        assert_eq!(Effort::NONE.above(), Effort::LEAST);
        assert_eq!(Effort::from_bits(12).unwrap().above().bits(), 13);
        assert_eq!(Effort::MOST.above(), Effort::MOST);
        assert_eq!(Effort::from_bits(21), None);
    }
}
