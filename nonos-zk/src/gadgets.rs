//! Parts of circuits over any field of a characteristic above 5, for circuits of one's own too.
//!
//! A gadget adds constraints to an R1CS that hold for one value of its output alone, whatever a
//! prover puts in. That is what its tests show, by solving and by changing every wire.

mod bit;
mod ed25519;
mod sha3;
#[cfg(test)]
pub(crate) mod testing;

pub use self::bit::Bit;
pub use self::ed25519::{Ed25519Scalar, KEY_BYTES};
pub use self::sha3::{DIGEST_BITS, sha3_512};
