use std::collections::BTreeMap;

use nonos_identity::{Epoch, NetworkId, SigningKey};

use super::{Commitment, Opening, Promise, Share, SignedReceipt};
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
        let next = u16::try_from(entry.openings.len()).unwrap_or(u16::MAX);
        if !entry.promise.is_opened(next, &opening) {
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
        let proven = self.circuits.iter().filter(|(_, circuit)| !circuit.openings.is_empty());
        let circuits: Vec<_> =
            proven.map(|(&id, Circuit { promise, openings })| (id, promise, openings)).collect();
        let proofs: Vec<_> =
            circuits.iter().map(|&(_, promise, openings)| (promise, &openings[..])).collect();
        let (receipt, shares) = SignedReceipt::settle(self.epoch, &proofs, key, network);
        let circuits = circuits.into_iter().zip(shares);
        (receipt, circuits.map(|((id, promise, _), share)| (id, promise.commitment(), share)).collect())
    }
}
