use minicbor::{Decode, Encode};
use nonos_identity::wire::{self, Wire};
use nonos_identity::{
    CertificateError, Digest, Epoch, NetworkId, NodeId, Role, SigningKey, Timestamp, Unverified,
};
use nonos_ledger::Code;
use nonos_onion::transit::{BATCH_CELLS, Commitment, ReceiptError, ShareError, SignedReceipt};

use super::{KEPT_EPOCHS, Shown};
use crate::domains;
use crate::promises::Promise;
use crate::records::Voucher;

/// Batches beyond the payer's own count that it pays for: cells can be under way when a circuit closes.
const GRACE_BATCHES: u64 = 1;

/// What a payer owes a relay of one circuit, if the relay proves it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Debt {
    #[n(0)]
    pub(super) relay: NodeId,
    /// What the relay can prove of the circuit.
    #[n(1)]
    pub(super) commitment: Commitment,
    /// Nano-mod.
    #[n(2)]
    nano_per_batch: u64,
    /// The most that the payer pays for: what it counted itself. Neighbours who release to one another what
    /// they never carried gain no more than that.
    #[n(3)]
    batches_max: u16,
    /// Of the one-time key that promises the fee: drawn once, so that the fee has one name in both journals.
    #[cbor(n(4), with = "minicbor::bytes")]
    seed: [u8; 32],
    /// What the relay has proven, once it has; it does not change any more.
    #[n(5)]
    pub(super) proven: Option<Proven>,
}

impl Wire for Debt {
    const MAX_BYTES: usize = 256;
}

/// What a debt comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) struct Proven {
    /// Of the receipt that showed it.
    #[n(0)]
    pub(super) receipt: Digest,
    #[n(1)]
    pub(super) batches: u16,
}

/// Why a relay is owed nothing for what it showed. Its fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ProofError {
    #[error("the certificate does not hold: {0}")]
    Certificate(#[from] CertificateError),
    #[error("the receipt is signed by another node")]
    Signer,
    #[error(transparent)]
    Receipt(#[from] ReceiptError),
    #[error(transparent)]
    Share(#[from] ShareError),
}

impl ProofError {
    /// The check that failed.
    pub(super) const fn check(&self) -> &'static str {
        match self {
            Self::Certificate(_) => "certificate",
            Self::Signer => "signer",
            Self::Receipt(_) => "signature",
            Self::Share(_) => "share",
        }
    }
}

impl Debt {
    /// Nothing if the circuit is too short to prove anything of, or nothing is to be paid.
    pub(crate) fn new(
        relay: NodeId,
        commitment: Commitment,
        nano_per_batch: u64,
        cells: u64,
        seed: [u8; 32],
    ) -> Option<Self> {
        let counted = cells / BATCH_CELLS;
        if counted == 0 || nano_per_batch == 0 {
            return None;
        }
        let batches_max = u16::try_from(counted.saturating_add(GRACE_BATCHES)).unwrap_or(u16::MAX);
        Some(Self { relay, commitment, nano_per_batch, batches_max, seed, proven: None })
    }

    /// When nobody expects it to be proven any more.
    pub(super) fn expiry(&self) -> Timestamp {
        Epoch::from_number(self.commitment.epoch.number().saturating_add(KEPT_EPOCHS)).end()
    }

    /// Checks what the relay shows, and says what it comes to.
    pub(super) fn judge(
        &self,
        shown: Shown,
        network: &NetworkId,
        now: Timestamp,
    ) -> Result<Proven, ProofError> {
        let Shown { certificate, receipt, share } = shown;
        let certificate = Unverified::new(certificate).check_issued(Role::EpochSigner, network, now)?;
        if certificate.node() != self.relay || certificate.subject() != receipt.key() {
            return Err(ProofError::Signer);
        }
        let receipt = SignedReceipt::check(Unverified::new(receipt), network)?;
        share.check(receipt.receipt(), &self.commitment)?;
        let batches = u16::try_from(share.batches()).unwrap_or(u16::MAX).min(self.batches_max);
        let receipt = Digest::of(domains::RECORD_ID, &[&wire::to_bytes(&*receipt)]);
        Ok(Proven { receipt, batches })
    }

    /// The same with what it comes to.
    pub(super) fn settled(&self, proven: Proven) -> Self {
        Self { proven: Some(proven), ..self.clone() }
    }

    /// The fee for what was proven: always the same promise.
    pub(super) fn promise(&self, proven: &Proven, network: &NetworkId) -> Promise {
        let payer = SigningKey::from_seed(&self.seed);
        let amount = self.nano_per_batch.saturating_mul(proven.batches.into());
        let voucher = Voucher::sign(&payer, self.relay, amount, network);
        Promise { payee: self.relay, voucher, code: Code::Relay }
    }
}
