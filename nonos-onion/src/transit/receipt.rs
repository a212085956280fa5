use minicbor::{Decode, Encode};
use nonos_identity::wire::{self, DecodeError, Wire};
use nonos_identity::{
    Digest, Epoch, NetworkId, PublicKey, Signature, SignatureError, SigningKey, Unverified, Verified,
};

use super::tree::{self, Tree};
use super::{Commitment, MAX_BATCHES, Opening, Promise};
use crate::domains;

/// What a relay says it handed on in an epoch, by the challenges it opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Receipt {
    /// The epoch of all the circuits.
    #[n(0)]
    pub epoch: Epoch,
    /// Batches, each of [`super::BATCH_CELLS`] cells.
    #[n(1)]
    pub count: u32,
    /// Merkle root over the opened challenges.
    #[n(2)]
    pub root: Digest,
}

impl Wire for Receipt {
    const MAX_BYTES: usize = 64;
}

/// A receipt with the signature of whoever claims it: any key, so a pseudonym will do.
///
/// Wire form: `[[epoch, count, root], key, signature]`.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct SignedReceipt {
    #[n(0)]
    receipt: Receipt,
    #[n(1)]
    key: PublicKey,
    #[n(2)]
    signature: Signature,
}

impl Wire for SignedReceipt {
    const MAX_BYTES: usize = Receipt::MAX_BYTES + 112;
}

/// Why a receipt does not hold. The fault of whoever made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiptError {
    /// Altered, or of another network.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// Its shares leave out batches, count one twice, or count a commitment twice.
    #[error("shares do not make up the {0} batches of the receipt")]
    Count(u32),
    /// One of the shares does not hold.
    #[error("share {share}: {error}")]
    Share {
        /// Its place among them.
        share: usize,
        /// Why.
        error: ShareError,
    },
}

impl SignedReceipt {
    /// One receipt for circuits of one epoch, each with what opens its first batches, and their shares in the
    /// same order. Nothing is checked here: a relay that puts in what opens nothing makes a share that does not
    /// hold. [`Tally::settle`](super::Tally::settle) is this for what was checked when it came.
    #[must_use]
    pub fn settle(
        epoch: Epoch,
        circuits: &[(&Promise, &[Opening])],
        key: &SigningKey,
        network: &NetworkId,
    ) -> (Self, Vec<Share>) {
        let openings = circuits.iter().flat_map(|(_, openings)| *openings);
        let leaves: Vec<Digest> = openings.map(Opening::challenge).collect();
        let tree = Tree::new(&leaves);
        let count = u32::try_from(leaves.len()).unwrap_or(u32::MAX);
        let mut first = 0;
        let share = |(promise, openings): &(&Promise, &[Opening])| {
            let places = first..first + openings.len();
            first = places.end;
            Share {
                first: u32::try_from(places.start).unwrap_or(u32::MAX),
                openings: openings.to_vec(),
                promised: Tree::new(&promise.challenges).prove(0..openings.len()),
                counted: tree.prove(places),
            }
        };
        let shares = circuits.iter().map(share).collect();
        (Self::sign(Receipt { epoch, count, root: tree.root() }, key, network), shares)
    }

    pub(super) fn sign(receipt: Receipt, key: &SigningKey, network: &NetworkId) -> Self {
        let signature = key.sign(domains::TRANSIT_RECEIPT, network, &wire::to_bytes(&receipt));
        Self { receipt, key: key.public(), signature }
    }

    /// Parses received bytes; [`Self::check`] comes next.
    ///
    /// # Errors
    /// [`DecodeError`] if they are no canonical receipt.
    pub fn parse(bytes: &[u8]) -> Result<Unverified<Self>, DecodeError> {
        wire::from_bytes(bytes).map(Unverified::new)
    }

    /// Checks the signature.
    ///
    /// # Errors
    /// [`ReceiptError::Signature`].
    pub fn check(receipt: Unverified<Self>, network: &NetworkId) -> Result<Verified<Self>, ReceiptError> {
        receipt.check(|signed| {
            let message = wire::to_bytes(&signed.receipt);
            Ok(signed.key.verify(domains::TRANSIT_RECEIPT, network, &message, &signed.signature)?)
        })
    }

    /// What it says.
    #[must_use]
    pub const fn receipt(&self) -> &Receipt {
        &self.receipt
    }

    /// Who signed it.
    #[must_use]
    pub const fn key(&self) -> PublicKey {
        self.key
    }

    /// Checks that shares, in order and each with its payer's commitment, are all of the receipt: then its
    /// count is what it says.
    ///
    /// # Errors
    /// [`ReceiptError::Share`] and [`ReceiptError::Count`].
    pub fn check_all(&self, shares: &[(Commitment, Share)]) -> Result<(), ReceiptError> {
        let count = ReceiptError::Count(self.receipt.count);
        let mut next = 0;
        let mut seen = std::collections::BTreeSet::new();
        for (place, (commitment, share)) in shares.iter().enumerate() {
            share
                .check(&self.receipt, commitment)
                .map_err(|error| ReceiptError::Share { share: place, error })?;
            if share.first != next || !seen.insert(commitment.root) {
                return Err(count);
            }
            next += share.batches();
        }
        if next == self.receipt.count { Ok(()) } else { Err(count) }
    }
}

/// The part of a receipt that is about one circuit: its first batches, up to some.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Share {
    /// The place of the first one in the receipt.
    #[n(0)]
    pub(super) first: u32,
    #[n(1)]
    pub(super) openings: Vec<Opening>,
    /// From the challenges to the commitment.
    #[n(2)]
    pub(super) promised: Vec<Digest>,
    /// From the challenges to the receipt.
    #[n(3)]
    pub(super) counted: Vec<Digest>,
}

impl Wire for Share {
    /// A thousand openings, and at most two nodes a level.
    const MAX_BYTES: usize = 72 * MAX_BATCHES as usize + 4096;
}

/// Why a share does not show what it says. The fault of the relay that made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ShareError {
    /// The commitment is of another epoch than the receipt.
    #[error("commitment is of epoch {commitment}, the receipt of {receipt}")]
    Epoch {
        /// The client's.
        commitment: Epoch,
        /// The relay's.
        receipt: Epoch,
    },
    /// None, or more than the client promised.
    #[error("{batches} batches of {promised} that were promised")]
    Batches {
        /// In the share.
        batches: usize,
        /// In the commitment.
        promised: u16,
    },
    /// A batch is not opened, or another circuit's.
    #[error("openings are not of the commitment")]
    Promised,
    /// The receipt does not count them there.
    #[error("openings are not of the receipt")]
    Counted,
}

impl Share {
    /// Batches it shows.
    #[must_use]
    pub fn batches(&self) -> u32 {
        u32::try_from(self.openings.len()).unwrap_or(u32::MAX)
    }

    /// Checks that the receipt counts the first [`Self::batches`] batches of the circuit with this commitment,
    /// which must come from the client, say in what it pays with, and not from the relay.
    ///
    /// It shows that the relay had the key of its hop, and that the next hop counted so many cells from it or
    /// to it. Not that the cells were the client's: a relay can push its own at the next hop until the circuit
    /// breaks of it. Not against a next hop that works with the relay, which can release what it never
    /// counted: what a payer promised is all that the two can take, and more than that only if somebody pays
    /// for batches who is not the client. So traffic must never be paid for by new money. The last hop has no
    /// next, and proves nothing.
    ///
    /// # Errors
    /// [`ShareError`].
    pub fn check(&self, receipt: &Receipt, commitment: &Commitment) -> Result<(), ShareError> {
        let (promised, batches) = (commitment.batches, self.openings.len());
        if commitment.epoch != receipt.epoch {
            return Err(ShareError::Epoch { commitment: commitment.epoch, receipt: receipt.epoch });
        }
        if batches == 0 || batches > usize::from(promised) || promised > MAX_BATCHES {
            return Err(ShareError::Batches { batches, promised });
        }
        let challenges: Vec<Digest> = self.openings.iter().map(Opening::challenge).collect();
        tree::check(&commitment.root, usize::from(promised), 0, &challenges, &self.promised)
            .map_err(|_| ShareError::Promised)?;
        let place = |number| usize::try_from(number).unwrap_or(usize::MAX);
        tree::check(&receipt.root, place(receipt.count), place(self.first), &challenges, &self.counted)
            .map_err(|_| ShareError::Counted)
    }
}
