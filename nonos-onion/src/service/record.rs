use core::fmt;

use minicbor::{Decode, Encode};
use nonos_identity::wire::{self, DecodeError, Wire};
use nonos_identity::{
    Epoch, NetworkId, PublicKey, Signature, SignatureError, Timestamp, Unverified, Verified,
};

use crate::domains::SERVICE_DESCRIPTOR;
use crate::service::blinding::BlindedSecret;
use crate::service::layer::OUTER_BYTES;
use crate::service::period::TimePeriod;

/// The only version of the record.
const VERSION: u8 = 1;

/// What a directory reads; both layers are bound to it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) struct Header {
    #[cbor(n(0), decode_with = "decode_version")]
    version: u8,
    #[n(1)]
    pub(super) period: TimePeriod,
    #[n(2)]
    pub(super) blinded: PublicKey,
    #[n(3)]
    pub(super) revision: u64,
    /// The first epoch in which it no longer holds. Whole epochs do not show the service's clock.
    #[n(4)]
    pub(super) expiry: Epoch,
    /// Fresh in each record, so that no two have a key in common.
    #[cbor(n(5), with = "minicbor::bytes")]
    pub(super) salt: [u8; 32],
}

impl Wire for Header {
    const MAX_BYTES: usize = 128;
}

impl Header {
    pub(super) const fn new(
        period: TimePeriod,
        blinded: PublicKey,
        revision: u64,
        expiry: Epoch,
        salt: [u8; 32],
    ) -> Self {
        Self { version: VERSION, period, blinded, revision, expiry, salt }
    }
}

/// A descriptor as directories keep it: signed by the blinded key, its content encrypted.
///
/// Wire form: `[[version, period, blinded key, revision, expiry, salt], outer layer, signature]`. The
/// signature covers `domain || network || header || outer layer`, the header in its CBOR bytes.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub struct SignedDescriptor {
    #[n(0)]
    pub(super) header: Header,
    #[cbor(n(1), encode_with = "minicbor::bytes::encode", decode_with = "decode_outer")]
    pub(super) outer: Vec<u8>,
    #[n(2)]
    signature: Signature,
}

impl Wire for SignedDescriptor {
    const MAX_BYTES: usize = OUTER_BYTES + Header::MAX_BYTES + 72;
}

/// Why a record does not hold. The fault of whoever made it or held it back, but for clock skew.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// No record of ours.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// Of a time period that is over or far ahead.
    #[error("descriptor is of time period {0}, which is not in use")]
    Period(TimePeriod),
    /// No longer valid.
    #[error("descriptor expired at the start of epoch {0}")]
    Expired(Epoch),
    /// Valid for longer than [`SignedDescriptor::MAX_LIFETIME_EPOCHS`].
    #[error("descriptor is valid until epoch {0}, which is too long")]
    Lifetime(Epoch),
    /// Altered, or of another network.
    #[error(transparent)]
    Signature(#[from] SignatureError),
}

impl SignedDescriptor {
    /// The longest validity, in epochs after the current one: three hours. It bounds how long a directory
    /// can serve an old record to a client that has seen no newer one.
    pub const MAX_LIFETIME_EPOCHS: u64 = 18;

    pub(super) fn sign(header: Header, outer: Vec<u8>, secret: &BlindedSecret, network: &NetworkId) -> Self {
        let signature = secret.sign(SERVICE_DESCRIPTOR, network, &signed(&header, &outer));
        Self { header, outer, signature }
    }

    /// Parses received bytes; [`Self::check`] comes next.
    ///
    /// # Errors
    /// [`DecodeError`] if they are no canonical record.
    pub fn parse(bytes: &[u8]) -> Result<Unverified<Self>, DecodeError> {
        wire::from_bytes(bytes).map(Unverified::new)
    }

    /// Checks period, validity at `now` and signature: all that who does not know the address can check.
    ///
    /// # Errors
    /// [`RecordError`] names the first check that failed.
    pub fn check(
        record: Unverified<Self>,
        network: &NetworkId,
        now: Timestamp,
    ) -> Result<Verified<Self>, RecordError> {
        record.check(|record| {
            let Header { period, blinded, expiry, .. } = record.header;
            if !period.is_live(now) {
                return Err(RecordError::Period(period));
            }
            check_expiry(expiry, now)?;
            let message = signed(&record.header, &record.outer);
            Ok(blinded.verify(SERVICE_DESCRIPTOR, network, &message, &record.signature)?)
        })
    }

    /// Its time period.
    #[must_use]
    pub const fn period(&self) -> TimePeriod {
        self.header.period
    }

    /// The blinded key that signed it.
    #[must_use]
    pub const fn blinded(&self) -> PublicKey {
        self.header.blinded
    }

    /// Its revision; within one period the higher replaces the lower.
    #[must_use]
    pub const fn revision(&self) -> u64 {
        self.header.revision
    }

    /// The first epoch in which it no longer holds.
    #[must_use]
    pub const fn expiry(&self) -> Epoch {
        self.header.expiry
    }
}

impl fmt::Debug for SignedDescriptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignedDescriptor").field("header", &self.header).finish_non_exhaustive()
    }
}

/// Whether a descriptor may have that expiry at `now`. A directory whose clock is slow allows for it.
pub(super) fn check_expiry(expiry: Epoch, now: Timestamp) -> Result<(), RecordError> {
    if now >= expiry.start() {
        return Err(RecordError::Expired(expiry));
    }
    let latest = Epoch::at(now.saturating_add(Timestamp::MAX_SKEW)).number();
    if expiry.number() > latest.saturating_add(SignedDescriptor::MAX_LIFETIME_EPOCHS) {
        return Err(RecordError::Lifetime(expiry));
    }
    Ok(())
}

/// The header ends where its CBOR does, so no two pairs have one concatenation.
fn signed(header: &Header, outer: &[u8]) -> Vec<u8> {
    let mut message = wire::to_bytes(header);
    message.extend_from_slice(outer);
    message
}

fn decode_version<C>(d: &mut minicbor::Decoder<'_>, _: &mut C) -> Result<u8, minicbor::decode::Error> {
    match d.u8()? {
        VERSION => Ok(VERSION),
        _ => Err(minicbor::decode::Error::message("unknown version")),
    }
}

fn decode_outer<C>(d: &mut minicbor::Decoder<'_>, _: &mut C) -> Result<Vec<u8>, minicbor::decode::Error> {
    let outer = d.bytes()?;
    if outer.len() != OUTER_BYTES {
        return Err(minicbor::decode::Error::message("wrong length"));
    }
    Ok(outer.to_vec())
}
