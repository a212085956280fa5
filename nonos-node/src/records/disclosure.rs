use minicbor::{Decode, Encode};
use nonos_identity::exec::UnsealError;
use nonos_identity::wire::{self, DecodeError, Wire};
use nonos_identity::{
    Digest, Envelope, EnvelopeError, Epoch, IdCommitment, NetworkId, Opening, OpeningError, PublicRun,
    Revocation, SharedBox, StaticSecret, Verified,
};
use nonos_zk::{Receipt, ReceiptBody, Statement};

use super::Sealed;

/// A receipt, and who is behind it for the eyes of authorised verifiers alone.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Disclosure {
    /// The signed receipt.
    #[n(0)]
    pub receipt: Sealed,
    /// The sealed opening.
    #[n(1)]
    pub opening: SharedBox,
}

impl Wire for Disclosure {
    const MAX_BYTES: usize = 16 * 1024;
}

/// Why a disclosure discloses nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DisclosureError {
    /// The receipt is none.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The receipt's signature does not hold in this network.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// Another key than the execution key signed the receipt.
    #[error("the receipt is not signed by its execution key")]
    Signer,
    /// It is of another receipt.
    #[error("the disclosure is of another receipt")]
    OtherReceipt,
    /// Not sealed to this key.
    #[error(transparent)]
    Unseal(#[from] UnsealError),
    /// The opening does not hold for the receipt.
    #[error(transparent)]
    Opening(#[from] OpeningError),
}

/// What a statement shows of the identity behind it.
#[must_use]
pub fn public_run(statement: &Statement) -> PublicRun {
    PublicRun {
        commitment: IdCommitment::from_bytes(*statement.id_commit.as_bytes()),
        exec_key: statement.exec_key,
        epoch: statement.epoch,
    }
}

impl Disclosure {
    /// Checks that it is of the receipt with this id, signed by its execution key in this network.
    /// What is sealed stays sealed.
    ///
    /// # Errors
    /// [`DisclosureError`] names the first check that failed.
    pub fn check_receipt(&self, id: &Digest, network: &NetworkId) -> Result<ReceiptBody, DisclosureError> {
        let body = self.body(network)?;
        match body.statement.nullifier.as_bytes() == id.as_bytes() {
            true => Ok(body),
            false => Err(DisclosureError::OtherReceipt),
        }
    }

    /// Opens it with an authorised verifier's key: the receipt's signature and the whole chain from
    /// its execution key to the root key of the node are checked, and the epoch signer's
    /// certificate against a revocation list of that root, if given. It does not check the
    /// receipt's proof.
    ///
    /// # Errors
    /// [`DisclosureError`] names the first check that failed.
    pub fn open(
        &self,
        secret: &StaticSecret,
        network: &NetworkId,
        revocation: Option<&Verified<Revocation>>,
    ) -> Result<(ReceiptBody, Verified<Opening>), DisclosureError> {
        let body = self.body(network)?;
        let shown = public_run(&body.statement);
        let opening = Opening::unseal_shared(&self.opening, secret, &shown, network)?;
        let opening = opening.check_run(&shown, network, revocation)?;
        Ok((body, opening))
    }

    fn body(&self, network: &NetworkId) -> Result<ReceiptBody, DisclosureError> {
        // When it was made, by its own word: an auditor who comes later asks about that time.
        let mut made = Epoch::default();
        Envelope::parse(&self.receipt.0)?.check(|envelope| {
            made = envelope.header().epoch;
            Ok::<_, DecodeError>(())
        })?;
        let domain = nonos_zk::domains::RECEIPT;
        let signed =
            Envelope::parse(&self.receipt.0)?.check_signed(domain, network, Receipt::KIND, made.start())?;
        let body: ReceiptBody = wire::from_bytes(signed.body())?;
        match signed.header().key == body.statement.exec_key {
            true => Ok(body),
            false => Err(DisclosureError::Signer),
        }
    }
}
