use core::time::Duration;

use minicbor::{Decode, Encode};
use nonos_identity::wire::{self, DecodeError, Wire};
use nonos_identity::{
    Digest, Envelope, EnvelopeError, NetworkId, SigningKey, Timestamp, Unverified, Verified,
};

use crate::amount::Amount;
use crate::domains;

/// What a price is for; says the unit of the quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Op {
    /// Executing a capsule; quantity in gas, priced per million.
    Execution,
    /// Serving chunks; quantity in bytes, priced per MiB.
    Seeding,
    /// Verifying proofs; quantity in proofs, priced each.
    Verification,
    /// Relaying; quantity in byte-hops (bytes times hops), priced per KiB-hop.
    Relay,
}

/// Why a received price table does not count. Its sender's fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PriceError {
    /// Not the canonical bytes of a price table.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// Not signed, expired or of another kind.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// A price above [`PriceTable::MAX_PRICE_NANO`].
    #[error("a price exceeds the limit")]
    TooDear,
}

/// The prices of a node, in nano-mod.
///
/// Its id goes into every receipt: a later table cannot change what was agreed.
/// `[version, execution, seeding, verification, relay]` on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct PriceTable {
    /// Grows with every change; also the sequence number of the signed table.
    #[n(0)]
    pub version: u64,
    /// Per million gas.
    #[n(1)]
    pub execution_nano: u64,
    /// Per MiB served.
    #[n(2)]
    pub seeding_nano: u64,
    /// Per proof verified.
    #[n(3)]
    pub verification_nano: u64,
    /// Per KiB-hop relayed.
    #[n(4)]
    pub relay_nano: u64,
}

impl Wire for PriceTable {
    const MAX_BYTES: usize = 64;
}

impl PriceTable {
    /// Envelope kind of a signed price table.
    pub const KIND: u16 = 0x4c01;
    /// Highest unit price in a received table, in nano-mod (10^9 mod): any quantity then has a
    /// representable quote, so a hostile table cannot make a quote fail or wrap.
    pub const MAX_PRICE_NANO: u64 = 1_000_000_000_000_000_000;

    /// Its id: a hash of the prices alone, not of the signature over them.
    #[must_use]
    pub fn id(&self) -> Digest {
        Digest::of(domains::PRICE_TABLE_ID, &[&wire::to_bytes(self)])
    }

    /// The price of a quantity, rounded up to the next nano-mod. Prices above
    /// [`Self::MAX_PRICE_NANO`] count as that.
    #[must_use]
    pub fn quote(&self, op: Op, quantity: u64) -> Amount {
        let (price, unit) = match op {
            Op::Execution => (self.execution_nano, 1_000_000),
            Op::Seeding => (self.seeding_nano, 1 << 20),
            Op::Verification => (self.verification_nano, 1),
            Op::Relay => (self.relay_nano, 1 << 10),
        };
        let product = u128::from(price.min(Self::MAX_PRICE_NANO)) * u128::from(quantity);
        // Below 2^60 * 2^64.
        Amount::try_from(product.div_ceil(unit)).unwrap_or(Amount::MAX)
    }

    /// Signs the table; its version becomes the envelope's sequence number.
    ///
    /// # Errors
    /// [`PriceError::TooDear`] if a price exceeds the limit; the caller's fault.
    pub fn seal(
        &self,
        key: &SigningKey,
        network: &NetworkId,
        now: Timestamp,
        lifetime: Duration,
    ) -> Result<Verified<Envelope>, PriceError> {
        self.check()?;
        let body = wire::to_bytes(self);
        let domain = domains::PRICE_TABLE;
        Ok(Envelope::seal(key, domain, network, Self::KIND, self.version, now, lifetime, body)?)
    }

    /// Checks a received table.
    ///
    /// # Errors
    /// [`PriceError`] names the first check that failed.
    pub fn open(
        envelope: Unverified<Envelope>,
        network: &NetworkId,
        now: Timestamp,
    ) -> Result<Verified<Self>, PriceError> {
        let envelope = envelope.check_signed(domains::PRICE_TABLE, network, Self::KIND, now)?;
        let table: Self = wire::from_bytes(envelope.body())?;
        table.check()?;
        if table.version != envelope.header().seq {
            return Err(PriceError::Decode(DecodeError::Malformed));
        }
        Ok(envelope.map(|_| table))
    }

    fn check(&self) -> Result<(), PriceError> {
        let prices = [self.execution_nano, self.seeding_nano, self.verification_nano, self.relay_nano];
        if prices.iter().all(|price| *price <= Self::MAX_PRICE_NANO) {
            Ok(())
        } else {
            Err(PriceError::TooDear)
        }
    }
}
