//! The client puzzle of a CREATE: a nonce by which a digest over the request's key begins with zero bits.
//!
//! ```text
//! digest = SHA3-256(domain, network, relay, epoch u64, ephemeral key of the request, nonce u64)
//! ```
//! Checking costs one hash and no secret. A solution is of one relay, one epoch and one request. That it works
//! once only is for [`crate::EpochKeys`].

use core::num::NonZeroU64;

use nonos_identity::{Epoch, NetworkId, NodeId, RunningDigest};

use crate::domains;

/// The solution of a puzzle; on the wire, none is zero.
pub(crate) type Nonce = Option<NonZeroU64>;

/// Length of a nonce, in bytes.
pub(crate) const NONCE_BYTES: usize = 8;

/// A nonce of the wire.
pub(crate) const fn read_nonce(bytes: [u8; NONCE_BYTES]) -> Nonce {
    NonZeroU64::new(u64::from_be_bytes(bytes))
}

/// A nonce for the wire.
pub(crate) fn write_nonce(nonce: Nonce) -> [u8; NONCE_BYTES] {
    nonce.map_or(0, NonZeroU64::get).to_be_bytes()
}

/// A nonce that does not solve its puzzle. The fault of who sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("puzzle is not solved")]
pub(crate) struct PuzzleError;

/// What a nonce is sought for.
#[derive(Clone, Debug)]
pub(crate) struct Puzzle(RunningDigest);

impl Puzzle {
    /// The puzzle of a request to `relay` with this ephemeral key.
    pub(crate) fn new(network: &NetworkId, relay: NodeId, epoch: Epoch, key: &[u8; 32]) -> Self {
        let mut digest = RunningDigest::new(domains::PUZZLE);
        digest.field(network.as_bytes());
        digest.field(relay.as_bytes());
        digest.field(&epoch.number().to_be_bytes());
        digest.field(key);
        Self(digest)
    }

    /// Checks that the digest begins with so many zero bits.
    pub(crate) fn check(&self, nonce: NonZeroU64, bits: u8) -> Result<(), PuzzleError> {
        let mut digest = self.0.clone();
        digest.field(&write_nonce(Some(nonce)));
        let digest = digest.digest();
        let (head, _) = digest.as_bytes().split_first_chunk().ok_or(PuzzleError)?;
        if u64::from_be_bytes(*head).leading_zeros() >= u32::from(bits) { Ok(()) } else { Err(PuzzleError) }
    }
}

/// A search for a nonce, in pieces.
#[derive(Debug)]
pub(crate) struct Solver {
    puzzle: Puzzle,
    bits: u8,
    next: NonZeroU64,
}

impl Solver {
    pub(crate) const fn new(puzzle: Puzzle, bits: u8) -> Self {
        Self { puzzle, bits, next: NonZeroU64::MIN }
    }

    /// Tries until it finds one, or until `hashes` are spent.
    pub(crate) fn work(&mut self, hashes: &mut u32) -> Nonce {
        while *hashes > 0 {
            *hashes -= 1;
            let nonce = self.next;
            self.next = nonce.saturating_add(1);
            if self.puzzle.check(nonce, self.bits).is_ok() {
                return Some(nonce);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BITS: u8 = 10;

    fn puzzle(network: &str, relay: u8, epoch: u64, key: u8) -> Puzzle {
        let (network, relay) = (NetworkId::from_name(network), NodeId::from_bytes([relay; 32]));
        Puzzle::new(&network, relay, Epoch::from_number(epoch), &[key; 32])
    }

    fn solve(puzzle: Puzzle, bits: u8) -> NonZeroU64 {
        let mut hashes = u32::MAX;
        Solver::new(puzzle, bits).work(&mut hashes).unwrap()
    }

    #[test]
    fn a_solution_is_of_one_request_to_one_relay_in_one_epoch() {
        // Each of the others is solved by chance once in 1024 times.
        let mut by_chance = 0;
        for key in 0..64 {
            let nonce = solve(puzzle("puzzle", 1, 2, key), BITS);
            assert_eq!(puzzle("puzzle", 1, 2, key).check(nonce, BITS), Ok(()));
            let next = nonce.saturating_add(1);
            assert!(puzzle("puzzle", 1, 2, key).check(next, 30).is_err());
            for other in [
                puzzle("another", 1, 2, key),
                puzzle("puzzle", 2, 2, key),
                puzzle("puzzle", 1, 3, key),
                puzzle("puzzle", 1, 2, key + 64),
            ] {
                by_chance += usize::from(other.check(nonce, BITS).is_ok());
            }
        }
        assert!(by_chance <= 4, "{by_chance}");
    }

    #[test]
    fn a_bit_more_costs_twice_as_much() {
        let cost = |bits| -> u64 { (0..64).map(|key| solve(puzzle("cost", 1, 2, key), bits).get()).sum() };
        let (few, many) = (cost(6), cost(8));
        // Means of 64 and 256 tries over 64 searches; an eighth off each is one deviation.
        assert!((64 * 32..64 * 128).contains(&few) && (64 * 128..64 * 512).contains(&many), "{few} {many}");
    }

    #[test]
    fn a_search_stops_and_goes_on() {
        let (expected, mut pieces) = (solve(puzzle("a", 1, 2, 3), BITS), 0);
        let mut solver = Solver::new(puzzle("a", 1, 2, 3), BITS);
        let found = loop {
            let mut hashes = 7;
            if let Some(nonce) = solver.work(&mut hashes) {
                break Some(nonce);
            }
            assert_eq!(hashes, 0);
            pieces += 1;
        };
        assert_eq!((found, pieces), (Some(expected), (expected.get() - 1) / 7));
    }

    #[test]
    fn none_is_zero() {
        assert_eq!((read_nonce([0; 8]), write_nonce(None)), (None, [0; 8]));
        let nonce = NonZeroU64::new(0x0102);
        assert_eq!((write_nonce(nonce), read_nonce(write_nonce(nonce))), ([0, 0, 0, 0, 0, 0, 1, 2], nonce));
    }
}
