//! Fees of relays for what they prove to have carried.
//!
//! A payer that demands proof promises nothing on the way. It keeps a [`Debt`] for each relay of a circuit, and
//! asks the relay afterwards, over a circuit that ends there, what it can prove of that one. The relay shows its
//! receipt of the epoch, signed, and the payer's share of it. What holds is written down before it is paid, so
//! that a payer that is cut off pays the same amount by the same promise when it comes back, and never twice.

mod debt;
mod file;
mod payer;
mod relay;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use minicbor::{Decode, Encode};
use nonos_identity::wire::Wire;
use nonos_identity::{Certificate, Epoch};
use nonos_onion::transit::{Share, SignedReceipt};
use tokio::sync::Mutex;

use self::debt::Debt;
use self::file::TransitFile;
pub(crate) use self::payer::{Owed, settle_debts};
pub(crate) use self::relay::{keep, serve};
use crate::control::TransitView;
use crate::hops::Circuits;
use crate::tasks::blocking;

/// Name of the file in a data directory.
pub(crate) const FILE: &str = "transit.redb";
/// Epochs after its own for which a relay keeps proofs and a payer its debts, about an hour. Bounds both.
const KEPT_EPOCHS: u64 = 6;

/// What a relay answers to a commitment: its proof, or nothing.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(transparent)]
struct Answer(#[n(0)] Option<Shown>);

impl Wire for Answer {
    const MAX_BYTES: usize = Certificate::MAX_BYTES + SignedReceipt::MAX_BYTES + Share::MAX_BYTES + 64;
}

/// A relay's receipt of an epoch, the share of one circuit, and who signed.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
struct Shown {
    #[n(0)]
    certificate: Certificate,
    #[n(1)]
    receipt: SignedReceipt,
    #[n(2)]
    share: Share,
}

/// Proofs and debts of a node.
#[derive(Debug)]
pub(crate) struct Transit {
    file: Arc<TransitFile>,
    /// The receipt that was made last.
    made: Mutex<Option<relay::Made>>,
    paid_batches: AtomicU64,
    refused: AtomicU64,
    lapsed: AtomicU64,
}

impl Transit {
    /// Nothing for a node whose settings never asked for it. Debts outlive the setting: they were incurred.
    pub(crate) fn open(data_dir: &Path, settings: &Circuits) -> Result<Option<Self>, redb::Error> {
        let path = data_dir.join(FILE);
        if settings.transit_batches == 0 && !settings.prove_transit && !path.exists() {
            return Ok(None);
        }
        Ok(Some(Self {
            file: Arc::new(TransitFile::open(&path)?),
            made: Mutex::new(None),
            paid_batches: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            lapsed: AtomicU64::new(0),
        }))
    }

    /// Drops the proofs that no payer asks for any more.
    pub(crate) async fn advance(&self, epoch: Epoch) {
        let file = self.file.clone();
        let oldest = Epoch::from_number(epoch.number().saturating_sub(KEPT_EPOCHS));
        if let Some(Err(error)) = blocking(move || file.forget_before(oldest)).await {
            tracing::warn!(%error, "old proofs of transit were not dropped");
        }
    }

    pub(crate) async fn view(&self, settings: &Circuits) -> Option<TransitView> {
        let file = self.file.clone();
        let (proven, debts) = blocking(move || file.counts()).await?.ok()?;
        Some(TransitView {
            demanded_batches: settings.transit_batches,
            proves: settings.prove_transit,
            proven_batches: proven,
            debts,
            paid_batches: self.paid_batches.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
            lapsed: self.lapsed.load(Ordering::Relaxed),
        })
    }
}

#[cfg(test)]
mod tests;
