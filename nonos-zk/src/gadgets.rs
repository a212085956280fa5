//! Parts of circuits over any field of a characteristic above 5, for circuits of one's own too.
//!
//! A gadget adds constraints to an R1CS that are meant to hold for one value of its output alone,
//! whatever a prover puts in. Its documentation argues why. Its tests solve every gate of bits and change
//! every wire alone; that no change of many wires together passes is not a thing that tests show.

mod bit;
mod ed25519;
mod sha3;
#[cfg(test)]
pub(crate) mod testing;

pub use self::bit::Bit;
pub use self::ed25519::{Ed25519Scalar, KEY_BYTES};
pub use self::sha3::{DIGEST_BITS, keccak_round_constants, sha3_512};
