//! The identity gate: one secret, enrolled, makes nullifier and link.

use ark_r1cs_std::fields::fp::FpVar;
use ark_r1cs_std::prelude::*;
use ark_relations::gr1cs::SynthesisError;
use nonos_identity::PublicKey;
use zeroize::Zeroizing;

use super::wires::Wires;
use crate::gadgets::Ed25519Scalar;
use crate::identity::{IdentitySecret, SLOT_BITS, key_digest};
use crate::poseidon::{PoseidonField, Tag, hash_var};
use crate::tree::TREE_DEPTH;

const HALF_BITS: usize = 128;

/// Values of the identity gate.
#[derive(Clone)]
pub(super) struct Identity<F> {
    pub(super) slot: u32,
    pub(super) path: [(bool, F); TREE_DEPTH],
    pub(super) job: F,
    pub(super) exec_key: F,
    /// What `Full` computes the other two from.
    pub(super) scalar: Zeroizing<[u8; 32]>,
    pub(super) secret: [F; 2],
    pub(super) key_digest: F,
}

impl<F: PoseidonField> Identity<F> {
    pub(super) fn of(
        secret: &IdentitySecret,
        path: [(bool, F); TREE_DEPTH],
        slot: u32,
        job: F,
        exec_key: &PublicKey,
    ) -> Self {
        Self {
            slot,
            path,
            job,
            exec_key: key_digest(exec_key),
            scalar: secret.scalar().clone(),
            secret: secret.halves(),
            key_digest: key_digest(secret.key()),
        }
    }
}

type IdentityWires<'a, F> = Wires<'a, F, Identity<F>>;

/// The operator's secret and key, as far as the circuit knows them.
pub(super) struct Operator<F: PoseidonField> {
    /// Halves of the scalar.
    secret: [FpVar<F>; 2],
    key_digest: FpVar<F>,
}

impl<F: PoseidonField> Operator<F> {
    /// A secret of which only the hash is enrolled, beside some key.
    pub(super) fn enrolled(wires: &IdentityWires<'_, F>) -> Result<Self, SynthesisError> {
        let secret = [wires.witness(|a| a.secret[0])?, wires.witness(|a| a.secret[1])?];
        Ok(Self { secret, key_digest: wires.witness(|a| a.key_digest)? })
    }

    /// The scalar of the enrolled key.
    pub(super) fn of_scalar(wires: &IdentityWires<'_, F>) -> Result<Self, SynthesisError> {
        let scalar = Ed25519Scalar::witness(wires.cs, wires.assignment.map(|a| &*a.scalar))?;
        let key = scalar.public_key(wires.cs)?;
        let key = wires.pack(&key, HALF_BITS)?;
        let secret = wires.pack(scalar.bits(), HALF_BITS)?;
        let secret = secret.try_into().map_err(|_| SynthesisError::Unsatisfiable)?;
        Ok(Self { secret, key_digest: hash_var(wires.cs, Tag::Key, &key)? })
    }

    /// Secret and key are a leaf under the root.
    pub(super) fn is_member(
        &self,
        wires: &IdentityWires<'_, F>,
        id_root: &FpVar<F>,
    ) -> Result<(), SynthesisError> {
        let secret = hash_var(wires.cs, Tag::Secret, &self.secret)?;
        let mut node = hash_var(wires.cs, Tag::Leaf, &[secret, self.key_digest.clone()])?;
        for height in 0..TREE_DEPTH {
            let step = move |a: &Identity<F>| a.path.get(height).copied().unwrap_or_default();
            let is_right = Boolean::new_witness(wires.cs.clone(), || wires.value(|a| step(a).0))?;
            let sibling = wires.witness(|a| step(a).1)?;
            let left = is_right.select(&sibling, &node)?;
            let right = node + sibling - &left;
            node = hash_var(wires.cs, Tag::Node, &[left, right])?;
        }
        node.enforce_equal(id_root)
    }

    /// What nullifiers and links are made of.
    pub(super) fn mark(&self, wires: &IdentityWires<'_, F>) -> Result<Mark<F>, SynthesisError> {
        Ok(Mark(hash_var(wires.cs, Tag::Mark, &self.secret)?))
    }
}

/// The hash of a secret from which nobody can tell its leaf.
pub(super) struct Mark<F: PoseidonField>(FpVar<F>);

impl<F: PoseidonField> Mark<F> {
    /// The nullifier is that of a slot of this period.
    pub(super) fn makes_nullifier(
        &self,
        wires: &IdentityWires<'_, F>,
        tag: Tag,
        period: &FpVar<F>,
        nullifier: &FpVar<F>,
    ) -> Result<(), SynthesisError> {
        let (_, slot) = wires.number(SLOT_BITS, |a| a.slot.into())?;
        let place = period * F::from(crate::SLOTS_PER_EPOCH) + slot;
        hash_var(wires.cs, tag, &[self.0.clone(), place])?.enforce_equal(nullifier)
    }

    /// The link is to the key that the context names.
    pub(super) fn makes_link(
        &self,
        wires: &IdentityWires<'_, F>,
        context: &FpVar<F>,
        key_link: &FpVar<F>,
    ) -> Result<(), SynthesisError> {
        let job = wires.witness(|a| a.job)?;
        let exec_key = wires.witness(|a| a.exec_key)?;
        hash_var(wires.cs, Tag::Context, &[job, exec_key.clone()])?.enforce_equal(context)?;
        hash_var(wires.cs, Tag::Link, &[self.0.clone(), exec_key])?.enforce_equal(key_link)
    }
}
