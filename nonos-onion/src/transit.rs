//! Proof of transit: a relay shows that it handed batches of cells to the next hop of a circuit.
//!
//! ```text
//! K_i           = H(transit-key, layer seed of hop i)             client and hop i
//! own_{i,j}     = H(transit-own, K_i, j)                          client and hop i
//! ack_{i,j}     = H(transit-ack, K_i, j)                          client and hop i, until it is released
//! hint_{i,j}    = H(transit-hint, ack_{i+1,j})
//! challenge_j   = H(transit-challenge, own_{i,j}, hint_{i,j})
//! commitment_i  = {epoch, batches, Merkle root over the challenges}
//! ```
//! After the build the client sends each relay its hints. The relay makes the challenges and their root from them
//! by itself, so nothing about them is left to believe, and the client gives the same [`Commitment`] to whoever is
//! to judge. A hop that counted [`BATCH_CELLS`] cells on its link to the hop before releases the next ack there;
//! with it that hop has both halves of an [`Opening`]. Only hashes are spent on it, one signature per epoch
//! ([`Tally::settle`]), and a [`Share`] of it shows one payer its own circuit and no other.
//!
//! What it proves and to whom it does not is in [`Share::check`].

mod receipt;
mod tally;
mod tree;

use minicbor::{Decode, Encode};
use nonos_identity::wire::Wire;
use nonos_identity::{Digest, Epoch};
use zeroize::Zeroizing;

use crate::cgo::LAYER_SEED_BYTES;
use crate::domains;
use crate::transit::tree::Tree;

pub use crate::transit::receipt::{Receipt, ReceiptError, Share, ShareError, SignedReceipt};
pub use crate::transit::tally::{Tally, TallyError};

/// RELAY cells of a link, both directions, that one acknowledgement stands for: 256 KiB.
pub const BATCH_CELLS: u64 = 256;
/// Most batches that a circuit can promise; more would not fit an honest queue at once.
pub const MAX_BATCHES: u16 = 1024;

/// What a client promises for one relay of a circuit: who opens challenges under the root has handed as many
/// batches on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Commitment {
    /// The circuit's epoch.
    #[n(0)]
    pub epoch: Epoch,
    /// Challenges under the root, 1 to [`MAX_BATCHES`].
    #[n(1)]
    pub batches: u16,
    /// Merkle root over them.
    #[n(2)]
    pub root: Digest,
}

impl Wire for Commitment {
    const MAX_BYTES: usize = 64;
}

/// The challenges of a relay in a circuit, as it made them from the client's hints.
///
/// It has a wire form, `[epoch, [challenge*]]`, for a relay that keeps its proofs beyond its run.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Promise {
    #[n(0)]
    pub(crate) epoch: Epoch,
    #[n(1)]
    pub(crate) challenges: Vec<Digest>,
}

impl Wire for Promise {
    const MAX_BYTES: usize = 34 * MAX_BATCHES as usize + 32;
}

impl Promise {
    /// The circuit's epoch.
    #[must_use]
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Whether an opening is that of this batch, counted from 0.
    #[must_use]
    pub fn is_opened(&self, batch: u16, opening: &Opening) -> bool {
        self.challenges.get(usize::from(batch)) == Some(&opening.challenge())
    }

    /// What the client has promised; a payer that says another one has not.
    #[must_use]
    pub fn commitment(&self) -> Commitment {
        let batches = u16::try_from(self.challenges.len()).unwrap_or(u16::MAX);
        Commitment { epoch: self.epoch, batches, root: Tree::new(&self.challenges).root() }
    }
}

/// What opens the challenge of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Opening {
    /// The relay's own half.
    #[n(0)]
    pub own: Digest,
    /// The half that the next hop released.
    #[n(1)]
    pub ack: Digest,
}

impl Opening {
    /// The challenge that it opens.
    #[must_use]
    pub fn challenge(&self) -> Digest {
        challenge(&self.own, &hint(&self.ack))
    }
}

/// The key of a hop and the client for the proofs of one circuit.
#[derive(Clone)]
pub(crate) struct TransitKey(Zeroizing<[u8; 32]>);

impl TransitKey {
    pub(crate) fn of(seed: &[u8; LAYER_SEED_BYTES]) -> Self {
        Self(Zeroizing::new(*Digest::of(domains::TRANSIT_KEY, &[seed]).as_bytes()))
    }

    pub(crate) fn own(&self, batch: u16) -> Digest {
        Digest::of(domains::TRANSIT_OWN, &[&*self.0, &batch.to_be_bytes()])
    }

    pub(crate) fn ack(&self, batch: u16) -> Digest {
        Digest::of(domains::TRANSIT_ACK, &[&*self.0, &batch.to_be_bytes()])
    }

    /// The hints of the hop before the one with this key.
    pub(crate) fn hints(&self, batches: u16) -> Vec<Digest> {
        (0..batches).map(|batch| hint(&self.ack(batch))).collect()
    }

    /// The promise to the hop with this key.
    pub(crate) fn promise(&self, epoch: Epoch, hints: &[Digest]) -> Promise {
        let challenges = (0..).zip(hints).map(|(batch, hint)| challenge(&self.own(batch), hint)).collect();
        Promise { epoch, challenges }
    }
}

impl core::fmt::Debug for TransitKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("TransitKey(..)")
    }
}

pub(crate) fn hint(ack: &Digest) -> Digest {
    Digest::of(domains::TRANSIT_HINT, &[ack.as_bytes()])
}

fn challenge(own: &Digest, hint: &Digest) -> Digest {
    Digest::of(domains::TRANSIT_CHALLENGE, &[own.as_bytes(), hint.as_bytes()])
}

/// A TRANSIT message that no client makes. The fault of the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed transit message")]
pub(crate) struct HintsError;

/// What a client tells a hop: `batches u16 | hint[32]*`, one hint for each batch, or none for the last hop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hints {
    /// Acknowledgements that the hop owes to the one before.
    pub(crate) batches: u16,
    pub(crate) hints: Vec<Digest>,
}

impl Hints {
    pub(crate) const MAX_BYTES: usize = 2 + 32 * MAX_BATCHES as usize;

    pub(crate) fn read(bytes: &[u8]) -> Result<Self, HintsError> {
        let (batches, rest) = bytes.split_first_chunk().ok_or(HintsError)?;
        let batches = u16::from_be_bytes(*batches);
        let (hints, []) = rest.as_chunks::<32>() else { return Err(HintsError) };
        if !(1..=MAX_BATCHES).contains(&batches) || ![0, usize::from(batches)].contains(&hints.len()) {
            return Err(HintsError);
        }
        Ok(Self { batches, hints: hints.iter().map(|&hint| Digest::from_bytes(hint)).collect() })
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let hints = self.hints.iter().flat_map(|hint| hint.as_bytes());
        self.batches.to_be_bytes().iter().chain(hints).copied().collect()
    }
}

#[cfg(test)]
mod tests;
