use core::fmt;

use ark_bn254::Fr;
use ark_ff::PrimeField;
use minicbor::{Decode, Encode};
use nonos_identity::{Epoch, PublicKey, ScalarError, SigningKey};
use zeroize::Zeroizing;

use crate::element::element;
use crate::poseidon::{PoseidonField, Tag, hash};

/// Runs one identity may prove in an epoch; each has its own slot and nullifier.
///
/// A power of two, because the circuit checks it as a number of bits. It stops one enrolled
/// operator from flooding verifiers with valid proofs.
pub const SLOTS_PER_EPOCH: u32 = 1 << SLOT_BITS;

/// Bits of a slot number.
pub(crate) const SLOT_BITS: usize = 10;

/// Bytes in each half of a scalar or key: 128 bits fit a field element with room to spare.
const HALF_BYTES: usize = 16;

element! {
    /// Poseidon hash of the scalar of an [`IdentitySecret`]; public, and says nothing about it.
    SecretDigest
}

element! {
    /// Poseidon hash of an [`OperatorKey`]: a leaf of the tree of operators.
    IdentityCommitment
}

element! {
    /// Root of an [`IdentityTree`](crate::IdentityTree).
    IdentityRoot
}

element! {
    /// Poseidon hash of secret, epoch and slot: the id of a receipt, one per identity, epoch and slot.
    ///
    /// It says nothing about the secret, and two of them cannot be told to be of one identity.
    Nullifier
}

element! {
    /// Poseidon hash of secret and one-run execution key: the operator's own mark on that key.
    ///
    /// It says nothing about the secret. Nobody else can compute it, so with the secret an operator can
    /// show later that a run was, or was not, its own.
    KeyLink
}

/// The secret behind an enrolled identity: the scalar of an Ed25519 key made for this purpose alone.
/// No `Debug` of its value, no `PartialEq`; wiped on drop.
#[derive(Clone)]
pub struct IdentitySecret {
    /// Clamped, in little-endian bytes.
    scalar: Zeroizing<[u8; 32]>,
    key: PublicKey,
}

/// What an operator enrols: its identity key and the hash of the scalar behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct OperatorKey {
    /// The Ed25519 identity key. Profile `Full` proves knowledge of its scalar.
    #[n(0)]
    pub key: PublicKey,
    /// Hash of the scalar. Profile `Lite` opens this alone.
    #[n(1)]
    pub secret: SecretDigest,
}

impl OperatorKey {
    /// The leaf of the tree.
    #[must_use]
    pub fn commitment(&self) -> IdentityCommitment {
        IdentityCommitment::wrap(&leaf(self.secret.unwrap(), &self.key))
    }
}

/// The leaf of an operator, from the digest of its secret.
pub(crate) fn leaf<F: PoseidonField>(secret: F, key: &PublicKey) -> F {
    hash(Tag::Leaf, &[secret, key_digest(key)])
}

impl IdentitySecret {
    /// From a seed of 32 secret bytes, as an Ed25519 key is made of one (RFC 8032 section 5.1.5).
    ///
    /// Derive it from the root seed for this purpose alone.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        let key = SigningKey::from_seed(seed);
        Self { scalar: key.to_scalar(), key: key.public() }
    }

    /// From the clamped scalar.
    pub(crate) fn from_scalar(scalar: &[u8; 32]) -> Result<Self, ScalarError> {
        Ok(Self { scalar: Zeroizing::new(*scalar), key: PublicKey::of_scalar(scalar)? })
    }

    /// What to enrol.
    #[must_use]
    pub fn operator_key(&self) -> OperatorKey {
        OperatorKey { key: self.key, secret: SecretDigest::wrap(&self.digest()) }
    }

    /// The leaf of the tree that [`Self::operator_key`] makes.
    #[must_use]
    pub fn commitment(&self) -> IdentityCommitment {
        self.operator_key().commitment()
    }

    /// The nullifier of one slot of one epoch, `slot` below [`SLOTS_PER_EPOCH`].
    ///
    /// A slot beyond the limit has a nullifier, but no proof.
    #[must_use]
    pub fn nullifier(&self, epoch: Epoch, slot: u32) -> Nullifier {
        Nullifier::wrap(&self.spent(Tag::Nullifier, Fr::from(epoch.number()), slot))
    }

    /// The nullifier of a batch of cells, `batch` below [`SLOTS_PER_EPOCH`] for each hop and epoch.
    pub(crate) fn transit_nullifier(&self, period: Fr, batch: u32) -> Nullifier {
        Nullifier::wrap(&self.spent(Tag::Transit, period, batch))
    }

    /// What one slot of a period is spent by.
    pub(crate) fn spent<F: PoseidonField>(&self, tag: Tag, period: F, slot: u32) -> F {
        let place = period * F::from(SLOTS_PER_EPOCH) + F::from(slot);
        hash(tag, &[self.mark(), place])
    }

    /// The mark on a one-run execution key.
    #[must_use]
    pub fn key_link(&self, exec_key: &PublicKey) -> KeyLink {
        KeyLink::wrap(&self.link(exec_key))
    }

    /// The same over any field.
    pub(crate) fn link<F: PoseidonField>(&self, exec_key: &PublicKey) -> F {
        hash(Tag::Link, &[self.mark(), key_digest(exec_key)])
    }

    /// What [`SecretDigest`] is over BN254.
    pub(crate) fn digest<F: PoseidonField>(&self) -> F {
        hash(Tag::Secret, &self.halves())
    }

    /// What nullifiers and links are made of; as secret as the scalar.
    fn mark<F: PoseidonField>(&self) -> F {
        hash(Tag::Mark, &self.halves())
    }

    pub(crate) fn halves<F: PrimeField>(&self) -> [F; 2] {
        halves(&self.scalar)
    }

    pub(crate) const fn scalar(&self) -> &Zeroizing<[u8; 32]> {
        &self.scalar
    }

    pub(crate) const fn key(&self) -> &PublicKey {
        &self.key
    }
}

/// A scalar or key as two numbers of 128 bits, the low one first.
pub(crate) fn halves<F: PrimeField>(bytes: &[u8; 32]) -> [F; 2] {
    let mut halves = bytes.chunks(HALF_BYTES).map(F::from_le_bytes_mod_order);
    core::array::from_fn(|_| halves.next().unwrap_or_default())
}

/// A public key as one element.
pub(crate) fn key_digest<F: PoseidonField>(key: &PublicKey) -> F {
    hash(Tag::Key, &halves(key.as_bytes()))
}

impl fmt::Debug for IdentitySecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdentitySecret(..)")
    }
}
