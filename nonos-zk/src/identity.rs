use core::fmt;

use ark_bn254::Fr;
use ark_ff::PrimeField;
use nonos_identity::Epoch;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::element::element;
use crate::poseidon::{Tag, hash};

/// Runs one identity may prove in an epoch; each has its own slot and nullifier.
///
/// A power of two, because the circuit checks it as a number of bits. It stops one enrolled
/// operator from flooding verifiers with valid proofs.
pub const SLOTS_PER_EPOCH: u32 = 1 << SLOT_BITS;

/// Bits of a slot number.
pub(crate) const SLOT_BITS: usize = 10;

element! {
    /// Poseidon hash of an [`IdentitySecret`]: what an operator enrols.
    IdentityCommitment
}

element! {
    /// Root of an [`IdentityTree`](crate::IdentityTree).
    IdentityRoot
}

element! {
    /// `Poseidon(secret, epoch, slot)`: the id of a receipt, one per identity, epoch and slot.
    ///
    /// It says nothing about the secret, and two of them cannot be told to be of one identity.
    Nullifier
}

/// The secret behind an enrolled identity. No `Debug` of its value, no `PartialEq`; wiped on drop.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct IdentitySecret([u8; 32]);

impl IdentitySecret {
    /// From 32 secret bytes, read as a little-endian integer and reduced modulo the field.
    ///
    /// Derive them from the root seed for this purpose alone.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        Self(crate::element::print(&Fr::from_le_bytes_mod_order(bytes)))
    }

    /// The commitment to enrol.
    #[must_use]
    pub fn commitment(&self) -> IdentityCommitment {
        IdentityCommitment::wrap(&hash(Tag::Leaf, &[self.element()]))
    }

    /// The nullifier of one slot of one epoch, `slot` below [`SLOTS_PER_EPOCH`].
    ///
    /// A slot beyond the limit has a nullifier, but no proof.
    #[must_use]
    pub fn nullifier(&self, epoch: Epoch, slot: u32) -> Nullifier {
        let inputs = [self.element(), Fr::from(epoch.number()), Fr::from(slot)];
        Nullifier::wrap(&hash(Tag::Nullifier, &inputs))
    }

    pub(crate) fn element(&self) -> Fr {
        Fr::from_le_bytes_mod_order(&self.0)
    }
}

impl fmt::Debug for IdentitySecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdentitySecret(..)")
    }
}
