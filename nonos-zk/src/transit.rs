use core::fmt;

use ark_bn254::Fr;
use ark_ff::PrimeField as _;
use minicbor::{Decode, Encode};
use nonos_identity::wire::Wire;
use nonos_identity::{Digest, Epoch, NetworkId, PublicKey};
use zeroize::Zeroize as _;

use crate::domains;
use crate::element::element;
use crate::identity::{IdentityRoot, IdentitySecret, KeyLink, Nullifier, SLOTS_PER_EPOCH, key_digest};
use crate::poseidon::{Tag, hash};
use crate::trace::power;
use crate::tree::TreePath;

/// Bits of a hop's number.
const HOP_BITS: u32 = 3;

element! {
    /// Hiding Poseidon commitment to what a relay received and forwarded.
    CarryCommit
}

/// What a relay claims without saying who it is: it is enrolled, and as this hop it carried so many cells
/// of a batch of this epoch. Every field is public.
///
/// As a trace, the numbers behind [`Self::carry_commit`] are the relay's word. What ties them to the
/// world is the batch: the vouchers or tags that its clients gave.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct TransitStatement {
    /// The tree of operators the relay is in.
    #[n(0)]
    pub id_root: IdentityRoot,
    /// Spends one batch of the relay's hop and epoch: whoever pays, pays each once.
    #[n(1)]
    pub nullifier: Nullifier,
    /// When it carried.
    #[n(2)]
    pub epoch: Epoch,
    /// Its place in the circuits, 1 for a guard, at most [`Self::HOP_MAX`].
    #[n(3)]
    pub hop: u8,
    /// Cells it wants to be paid for.
    #[n(4)]
    pub cells: u64,
    /// Commitment to what it received and forwarded.
    #[n(5)]
    pub carry_commit: CarryCommit,
    /// Digest of what its clients gave for the batch.
    #[n(6)]
    pub batch: Digest,
    /// The mesh.
    #[n(7)]
    pub network: NetworkId,
    /// The one-time key that claims the payment.
    #[n(8)]
    pub claim_key: PublicKey,
    /// The relay's mark on that key.
    #[n(9)]
    pub key_link: KeyLink,
}

impl Wire for TransitStatement {
    const MAX_BYTES: usize = 384;
}

impl TransitStatement {
    /// Largest number of a hop.
    pub const HOP_MAX: u8 = (1 << HOP_BITS) - 1;

    /// The public inputs, in the circuit's order: root, nullifier, epoch and hop, cells, commitment, context,
    /// link.
    pub(crate) fn inputs(&self) -> Vec<Fr> {
        vec![
            self.id_root.unwrap(),
            self.nullifier.unwrap(),
            self.period(),
            Fr::from(self.cells),
            self.carry_commit.unwrap(),
            hash(Tag::Context, &[self.job(), key_digest(&self.claim_key)]),
            self.key_link.unwrap(),
        ]
    }

    /// Epoch and hop as one number.
    pub(crate) fn period(&self) -> Fr {
        Fr::from(self.epoch.number()) * power::<Fr>(HOP_BITS) + Fr::from(self.hop)
    }

    pub(crate) fn job(&self) -> Fr {
        let digest = Digest::of(domains::TRANSIT, &[self.batch.as_ref(), self.network.as_bytes()]);
        Fr::from_le_bytes_mod_order(digest.as_bytes())
    }
}

/// What only the relay knows.
#[derive(Clone)]
pub struct TransitWitness {
    /// The enrolled secret.
    pub secret: IdentitySecret,
    /// The way from its leaf to the root in the statement.
    pub path: TreePath,
    /// The number of the batch, below [`SLOTS_PER_EPOCH`] for each hop and epoch.
    pub number: u32,
    /// Cells that came in.
    pub received: u64,
    /// Cells that went out.
    pub forwarded: u64,
    /// 32 fresh random bytes that make the commitment hiding.
    pub blind: [u8; 32],
}

/// A condition that a transit witness does not meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TransitFault {
    /// More cells claimed than forwarded.
    #[error("more cells claimed than forwarded")]
    Cells,
    /// More cells forwarded than received: a relay makes none.
    #[error("more cells forwarded than received")]
    Forwarded,
    /// The numbers do not open the commitment.
    #[error("the numbers do not open the commitment")]
    Commitment,
    /// A hop of 0 or above [`TransitStatement::HOP_MAX`].
    #[error("no such hop")]
    Hop,
    /// A batch beyond the limit of the epoch.
    #[error("batch beyond the limit of the epoch")]
    Batch,
    /// The secret's leaf is not under the root.
    #[error("not a member of the tree")]
    Membership,
    /// The nullifier is not that of secret, epoch, hop and batch.
    #[error("nullifier of another secret, epoch, hop or batch")]
    Nullifier,
    /// The link is not that of secret and claim key.
    #[error("link of another secret or claim key")]
    KeyLink,
}

impl TransitWitness {
    /// The commitment to what was carried.
    #[must_use]
    pub fn commit(&self) -> CarryCommit {
        let carried = Fr::from(self.received) + Fr::from(self.forwarded) * power::<Fr>(64);
        CarryCommit::wrap(&hash(Tag::Carried, &[carried, self.blind()]))
    }

    /// The nullifier of this batch for a statement's epoch and hop.
    #[must_use]
    pub fn nullifier(&self, epoch: Epoch, hop: u8) -> Nullifier {
        let period = Fr::from(epoch.number()) * power::<Fr>(HOP_BITS) + Fr::from(hop);
        self.secret.transit_nullifier(period, self.number)
    }

    /// Checks every condition natively, as the prover does before the costly part.
    ///
    /// # Errors
    /// The first [`TransitFault`].
    pub fn check(&self, statement: &TransitStatement) -> Result<(), TransitFault> {
        let conditions = [
            (TransitFault::Cells, statement.cells <= self.forwarded),
            (TransitFault::Forwarded, self.forwarded <= self.received),
            (TransitFault::Commitment, self.commit() == statement.carry_commit),
            (TransitFault::Hop, (1..=TransitStatement::HOP_MAX).contains(&statement.hop)),
            (TransitFault::Batch, self.number < SLOTS_PER_EPOCH),
            (TransitFault::Membership, self.path.root(&self.secret.commitment()) == statement.id_root),
            (TransitFault::Nullifier, self.nullifier(statement.epoch, statement.hop) == statement.nullifier),
            (TransitFault::KeyLink, self.secret.key_link(&statement.claim_key) == statement.key_link),
        ];
        conditions.into_iter().find(|(_, holds)| !holds).map_or(Ok(()), |(fault, _)| Err(fault))
    }

    pub(crate) fn blind(&self) -> Fr {
        Fr::from_le_bytes_mod_order(&self.blind)
    }
}

impl Drop for TransitWitness {
    fn drop(&mut self) {
        self.blind.zeroize();
    }
}

impl fmt::Debug for TransitWitness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TransitWitness(..)")
    }
}
