use core::fmt;

use minicbor::{Decode, Encode};
use nonos_identity::wire::{self, DecodeError, Wire};
use nonos_identity::{Envelope, Epoch, NetworkId, SealError, SharedBox, StaticSecret, Verified};

use crate::domains;
use crate::identity::Nullifier;
use crate::receipt::{Receipt, ReceiptBody, ReceiptError, UnverifiedReceipt};

/// A signed receipt that some verifiers alone can read: statement, proof and signature are sealed to
/// their X25519 keys, and only network, epoch and nullifier are in the clear, so that anybody can
/// carry it, keep it once and drop it when it lapses.
///
/// Who only carries it cannot check it. The three open fields are bound to the sealed receipt, and a
/// verifier refuses it if they are not the receipt's own.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub struct SealedReceipt {
    #[n(0)]
    network: NetworkId,
    #[n(1)]
    epoch: Epoch,
    #[n(2)]
    nullifier: Nullifier,
    #[n(3)]
    sealed: SharedBox,
}

impl Wire for SealedReceipt {
    const MAX_BYTES: usize = SharedBox::MAX_BYTES + 128;
}

/// Why a receipt was not sealed. The caller's fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealReceiptError {
    /// The envelope holds no receipt.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The verifiers' keys or their number are not accepted.
    #[error(transparent)]
    Seal(#[from] SealError),
}

/// Why a sealed receipt gives no receipt.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenReceiptError {
    /// Sealed to others, or altered on the way; it does not say which.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// What was sealed is no receipt. The sender's fault.
    #[error(transparent)]
    Receipt(#[from] ReceiptError),
    /// Sealed under the network, epoch or nullifier of another receipt. The sender's fault.
    #[error("the sealed receipt is not the one announced")]
    Announced,
}

impl SealedReceipt {
    /// Seals a signed receipt to the X25519 keys of `verifiers`, at most
    /// [`SharedBox::MAX_RECIPIENTS`]. `ephemeral` is fresh and used for this one alone.
    ///
    /// # Errors
    /// [`SealReceiptError`].
    pub fn seal(
        receipt: &Verified<Envelope>,
        verifiers: &[[u8; 32]],
        ephemeral: &StaticSecret,
    ) -> Result<Self, SealReceiptError> {
        let ReceiptBody { statement, .. } = wire::from_bytes(receipt.body())?;
        let (network, epoch, nullifier) = (statement.network, statement.epoch, statement.nullifier);
        let aad = announced(&network, epoch, &nullifier);
        let domain = domains::SEALED_RECEIPT;
        let sealed = SharedBox::seal(verifiers, ephemeral, domain, &aad, receipt.as_bytes())?;
        Ok(Self { network, epoch, nullifier, sealed })
    }

    /// Opens it with a verifier's key; what comes out is as unchecked as any received receipt.
    ///
    /// # Errors
    /// [`OpenReceiptError`].
    pub fn open(&self, secret: &StaticSecret) -> Result<UnverifiedReceipt, OpenReceiptError> {
        let aad = announced(&self.network, self.epoch, &self.nullifier);
        let bytes = self.sealed.open(secret, domains::SEALED_RECEIPT, &aad)?;
        let receipt = Receipt::parse(&bytes)?;
        let statement = &receipt.body().statement;
        let found = (statement.network, statement.epoch, statement.nullifier);
        match found == (self.network, self.epoch, self.nullifier) {
            true => Ok(receipt),
            false => Err(OpenReceiptError::Announced),
        }
    }

    /// The mesh of the receipt.
    #[must_use]
    pub const fn network(&self) -> &NetworkId {
        &self.network
    }

    /// The epoch of the receipt.
    #[must_use]
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The id of the receipt.
    #[must_use]
    pub const fn id(&self) -> Nullifier {
        self.nullifier
    }
}

/// What is in the clear, as bytes.
fn announced(network: &NetworkId, epoch: Epoch, nullifier: &Nullifier) -> Vec<u8> {
    [&network.as_bytes()[..], &epoch.number().to_le_bytes(), nullifier.as_bytes()].concat()
}

impl fmt::Debug for SealedReceipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealedReceipt").field("nullifier", &self.nullifier).finish_non_exhaustive()
    }
}
