use std::collections::BTreeMap;

use nonos_identity::{Digest, Epoch, NetworkId, SigningKey};

use super::tree::Tree;
use super::{Commitment, Opening, Promise, Receipt, Share, SignedReceipt};
use crate::circuit::LocalCircuitId;

/// What a relay has proven of the circuits of one epoch, until it settles.
#[derive(Clone, Debug)]
pub struct Tally {
    epoch: Epoch,
    circuits: BTreeMap<LocalCircuitId, Circuit>,
    batches: u32,
}

#[derive(Clone, Debug)]
struct Circuit {
    promise: Promise,
    openings: Vec<Opening>,
}

/// What does not belong into a tally. The fault of the caller, who mixes epochs or circuits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TallyError {
    /// Of another epoch.
    #[error("promise of epoch {0}")]
    Epoch(Epoch),
    /// The circuit has no promise here.
    #[error("circuit {} has promised nothing", .0.number())]
    Unknown(LocalCircuitId),
    /// Not the opening of the circuit's next batch.
    #[error("opening is not of the next batch of circuit {}", .0.number())]
    Opening(LocalCircuitId),
    /// Too many batches for one receipt.
    #[error("more batches than a receipt counts")]
    Full,
}

impl Tally {
    /// Most batches of one receipt: a terabyte. Bounds memory at 64 bytes each.
    pub const MAX_BATCHES: u32 = 1 << 22;

    /// Nothing yet.
    #[must_use]
    pub const fn new(epoch: Epoch) -> Self {
        Self { epoch, circuits: BTreeMap::new(), batches: 0 }
    }

    /// Batches proven so far.
    #[must_use]
    pub const fn batches(&self) -> u32 {
        self.batches
    }

    /// Takes [`Output::Promised`](crate::Output::Promised).
    ///
    /// # Errors
    /// [`TallyError::Epoch`].
    pub fn promised(&mut self, circuit: LocalCircuitId, promise: Promise) -> Result<(), TallyError> {
        if promise.epoch != self.epoch {
            return Err(TallyError::Epoch(promise.epoch));
        }
        self.circuits.entry(circuit).or_insert(Circuit { promise, openings: Vec::new() });
        Ok(())
    }

    /// Takes [`Output::Carried`](crate::Output::Carried).
    ///
    /// # Errors
    /// [`TallyError::Unknown`], [`TallyError::Opening`] and [`TallyError::Full`].
    pub fn carried(&mut self, circuit: LocalCircuitId, opening: Opening) -> Result<(), TallyError> {
        if self.batches >= Self::MAX_BATCHES {
            return Err(TallyError::Full);
        }
        let entry = self.circuits.get_mut(&circuit).ok_or(TallyError::Unknown(circuit))?;
        if entry.promise.challenges.get(entry.openings.len()) != Some(&opening.challenge()) {
            return Err(TallyError::Opening(circuit));
        }
        entry.openings.push(opening);
        self.batches += 1;
        Ok(())
    }

    /// One signed receipt for all of it, and for each circuit with a batch the client's commitment and the
    /// share that shows it; in the order of the receipt.
    #[must_use]
    pub fn settle(
        &self,
        key: &SigningKey,
        network: &NetworkId,
    ) -> (SignedReceipt, Vec<(LocalCircuitId, Commitment, Share)>) {
        let proven = || self.circuits.iter().filter(|(_, circuit)| !circuit.openings.is_empty());
        let openings = proven().flat_map(|(_, circuit)| &circuit.openings);
        let leaves: Vec<Digest> = openings.map(Opening::challenge).collect();
        let tree = Tree::new(&leaves);
        let receipt = Receipt { epoch: self.epoch, count: self.batches, root: tree.root() };
        let mut first = 0;
        let mut shares = Vec::new();
        for (&id, Circuit { promise, openings }) in proven() {
            let end = first + openings.len();
            let share = Share {
                first: u32::try_from(first).unwrap_or(u32::MAX),
                openings: openings.clone(),
                promised: Tree::new(&promise.challenges).prove(0..openings.len()),
                counted: tree.prove(first..end),
            };
            shares.push((id, promise.commitment(), share));
            first = end;
        }
        (SignedReceipt::sign(receipt, key, network), shares)
    }
}
