use core::time::Duration;
use std::sync::Arc;

use minicbor::{Decode, Encode};
use nonos_identity::wire::{self, DecodeError, Wire};
use nonos_identity::{
    Digest, Envelope, EnvelopeError, Epoch, NetworkId, NodeId, SigningKey, Timestamp, Unverified, Verified,
};

use crate::domains;
use crate::identity::Nullifier;
use crate::proof::{Proof, VerifyingKeyId};
use crate::prover::{Verifier, VerifyError};
use crate::roots::AcceptedRoots;
use crate::statement::Statement;

/// What a receipt says.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ReceiptBody {
    /// What is proven.
    #[n(0)]
    pub statement: Statement,
    /// The proof.
    #[n(1)]
    pub proof: Proof,
    /// The key the proof verifies with.
    #[n(2)]
    pub verifying_key: VerifyingKeyId,
    /// When the receipt was made; at or after the start of the statement's epoch.
    #[n(3)]
    pub timestamp: Timestamp,
    /// The publisher of the capsule.
    #[n(4)]
    pub publisher: NodeId,
    /// Hash of the price table the run was accepted under.
    #[n(5)]
    pub price_table: Digest,
    /// Hash of the input.
    #[n(6)]
    pub input_digest: Digest,
    /// Hash of the output.
    #[n(7)]
    pub output_digest: Digest,
    /// How the run ended; the numbers belong to the capsule runtime.
    #[n(8)]
    pub status: u32,
}

impl Wire for ReceiptBody {
    const MAX_BYTES: usize = Statement::MAX_BYTES + <Proof as Wire>::MAX_BYTES + 256;
}

/// A receipt and the signed bytes it came in, which are what is stored and forwarded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    body: ReceiptBody,
    bytes: Arc<[u8]>,
}

/// A parsed receipt that nobody has checked.
#[derive(Debug)]
#[must_use]
pub struct UnverifiedReceipt {
    body: ReceiptBody,
    envelope: Envelope,
}

/// Why a receipt was not signed. The caller's fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignReceiptError {
    /// The key is not the execution key of the statement.
    #[error("signing key is not the execution key of the statement")]
    WrongKey,
    /// The receipt was made before the epoch of its statement.
    #[error("timestamp lies before the epoch of the statement")]
    Timestamp,
    /// The body exceeds the limit of an envelope.
    #[error(transparent)]
    TooLong(#[from] DecodeError),
}

/// Why a receipt does not count. The fault of its signer or sender, except that
/// [`Self::UnknownRoot`], [`Self::VerifyingKey`], [`Self::Expired`] and [`Self::Future`] may mean
/// that we are behind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiptError {
    /// Not the canonical bytes of a receipt.
    #[error("malformed receipt: {0}")]
    Encoding(#[from] DecodeError),
    /// Another kind of record.
    #[error("kind {found} is not a receipt")]
    Kind {
        /// The kind in the header.
        found: u16,
    },
    /// A receipt of another mesh.
    #[error("receipt of another network")]
    WrongNetwork,
    /// Signed by another key than the statement's execution key.
    #[error("signer is not the execution key of the statement")]
    Signer,
    /// The signature does not verify.
    #[error("signature does not verify")]
    Signature,
    /// Past its expiry, or its epoch lies beyond [`Receipt::WINDOW`].
    #[error("receipt of epoch {0} has expired")]
    Expired(Epoch),
    /// Its epoch or its timestamp lies in the future, beyond the allowed clock skew.
    #[error("receipt of the future, epoch {0}")]
    Future(Epoch),
    /// Its timestamp contradicts its epoch or its envelope.
    #[error("timestamp {0} contradicts the epoch")]
    Timestamp(Timestamp),
    /// A verifying key other than the verifier's.
    #[error("verifying key {0} is not the one in use")]
    VerifyingKey(VerifyingKeyId),
    /// An identity root that is not accepted for its epoch.
    #[error("identity root is not accepted")]
    UnknownRoot,
    /// The proof does not verify, or there is no time to verify it ([`VerifyError::Busy`]).
    #[error(transparent)]
    Proof(#[from] VerifyError),
}

impl ReceiptError {
    /// The stable name of the check that failed, for metrics and reports.
    #[must_use]
    pub const fn check_name(&self) -> &'static str {
        match self {
            Self::Encoding(_) => "encoding",
            Self::Kind { .. } => "kind",
            Self::WrongNetwork => "wrong_network",
            Self::Signer => "signer",
            Self::Signature => "signature",
            Self::Expired(_) => "expired",
            Self::Future(_) => "future",
            Self::Timestamp(_) => "timestamp",
            Self::VerifyingKey(_) => "verifying_key",
            Self::UnknownRoot => "unknown_root",
            Self::Proof(_) => "proof",
        }
    }
}

impl Receipt {
    /// Envelope kind of a receipt.
    pub const KIND: u16 = 0x0202;

    /// How many epochs a receipt stays acceptable after its own: 144, a day. Older ones are
    /// refused, so that a [`NullifierSet`](crate::NullifierSet) may forget them.
    pub const WINDOW: u64 = 144;

    /// Signs a receipt with the one-run execution key.
    ///
    /// # Errors
    /// [`SignReceiptError`] if body and key do not fit.
    pub fn sign(body: &ReceiptBody, key: &SigningKey) -> Result<Verified<Envelope>, SignReceiptError> {
        let statement = &body.statement;
        if key.public() != statement.exec_key {
            return Err(SignReceiptError::WrongKey);
        }
        if body.timestamp < statement.epoch.start() {
            return Err(SignReceiptError::Timestamp);
        }
        let (network, now) = (&statement.network, body.timestamp);
        let lifetime = Self::expiry(statement.epoch).saturating_since(now);
        let bytes = wire::to_bytes(body);
        Ok(Envelope::seal(key, domains::RECEIPT, network, Self::KIND, 0, now, lifetime, bytes)?)
    }

    /// Parses received bytes.
    ///
    /// # Errors
    /// [`ReceiptError::Encoding`] or [`ReceiptError::Kind`].
    pub fn parse(bytes: &[u8]) -> Result<UnverifiedReceipt, ReceiptError> {
        let mut body = None;
        let shaped = Envelope::parse(bytes)?.check(|envelope| {
            let found = envelope.header().kind;
            if found != Self::KIND {
                return Err(ReceiptError::Kind { found });
            }
            body = Some(wire::from_bytes(envelope.body())?);
            Ok(())
        })?;
        let body = body.ok_or(DecodeError::Malformed)?;
        Ok(UnverifiedReceipt { body, envelope: shaped.into_inner() })
    }

    /// What it says.
    #[must_use]
    pub const fn body(&self) -> &ReceiptBody {
        &self.body
    }

    /// What it proves.
    #[must_use]
    pub const fn statement(&self) -> &Statement {
        &self.body.statement
    }

    /// Its id: the nullifier. Two receipts of one id are the same run told twice, or a fraud.
    #[must_use]
    pub const fn id(&self) -> Nullifier {
        self.body.statement.nullifier
    }

    /// The bytes as received.
    #[must_use]
    pub const fn as_bytes(&self) -> &Arc<[u8]> {
        &self.bytes
    }

    /// The first second at which a receipt of `epoch` no longer counts.
    #[must_use]
    pub const fn expiry(epoch: Epoch) -> Timestamp {
        let window = Duration::from_secs(Epoch::LENGTH.as_secs() * Self::WINDOW);
        epoch.end().saturating_add(window)
    }
}

impl UnverifiedReceipt {
    /// What it says, for whoever has to route it before it is checked.
    #[must_use]
    pub const fn body(&self) -> &ReceiptBody {
        &self.body
    }

    /// Checks network, signer, signature, times, verifying key, identity root and proof, the
    /// cheap before the costly.
    ///
    /// Left to the caller: that the nullifier is new ([`NullifierSet`](crate::NullifierSet)), that
    /// the nonce is one it issued, and that the policy is the one the capsule's signers gave it.
    ///
    /// # Errors
    /// [`ReceiptError`] names the first check that failed.
    pub fn check(
        self,
        verifier: &dyn Verifier,
        roots: &AcceptedRoots,
        network: &NetworkId,
        now: Timestamp,
    ) -> Result<Verified<Receipt>, ReceiptError> {
        let Self { body, envelope } = self;
        let statement = &body.statement;
        if statement.network != *network {
            return Err(ReceiptError::WrongNetwork);
        }
        if envelope.header().key != statement.exec_key {
            return Err(ReceiptError::Signer);
        }
        check_times(&body, &envelope, now)?;
        if body.verifying_key != verifier.verifying_key_id() {
            return Err(ReceiptError::VerifyingKey(body.verifying_key));
        }
        if !roots.contains(&statement.id_root, statement.epoch) {
            return Err(ReceiptError::UnknownRoot);
        }
        let signed = Unverified::new(envelope)
            .check_signed(domains::RECEIPT, network, Receipt::KIND, now)
            .map_err(|error| match error {
                EnvelopeError::Expired(_) => ReceiptError::Expired(statement.epoch),
                EnvelopeError::Future(_) => ReceiptError::Future(statement.epoch),
                EnvelopeError::Kind { found, .. } => ReceiptError::Kind { found },
                _ => ReceiptError::Signature,
            })?;
        verifier.verify(statement, &body.proof)?;
        let bytes = signed.as_bytes().clone();
        Ok(signed.map(|_| Receipt { body, bytes }))
    }
}

fn check_times(body: &ReceiptBody, envelope: &Envelope, now: Timestamp) -> Result<(), ReceiptError> {
    let epoch = body.statement.epoch;
    let latest = now.saturating_add(Timestamp::MAX_SKEW);
    if now >= Receipt::expiry(epoch) || now >= envelope.header().expiry {
        return Err(ReceiptError::Expired(epoch));
    }
    if epoch.start() > latest || body.timestamp > latest {
        return Err(ReceiptError::Future(epoch));
    }
    if body.timestamp < epoch.start() || envelope.header().epoch != Epoch::at(body.timestamp) {
        return Err(ReceiptError::Timestamp(body.timestamp));
    }
    Ok(())
}
