use core::fmt;

use minicbor::{Decode, Encode};
use nonos_identity::wire::Wire;
use nonos_identity::{Digest, Timestamp};

use crate::account::AccountId;
use crate::amount::Amount;
use crate::domains;

/// The id of a transfer: the hash of the receipt that justifies it and of the leg within it.
///
/// The receipt is the idempotency key: however often and on however many nodes it is posted,
/// each of its legs counts once.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct TransferId(#[n(0)] Digest);

impl TransferId {
    /// The id of one leg of a receipt.
    #[must_use]
    pub fn of(receipt: &Digest, leg: u32) -> Self {
        Self(Digest::of(domains::TRANSFER_ID, &[receipt.as_bytes(), &leg.to_le_bytes()]))
    }

    /// Its bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }
}

impl fmt::Display for TransferId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for TransferId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TransferId({self})")
    }
}

/// What a transfer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(index_only)]
#[non_exhaustive]
pub enum Code {
    /// Money that came in from outside, against [`Opening`](crate::SystemAccount::Opening).
    #[n(0)]
    Opening,
    /// A capsule was executed and proved.
    #[n(1)]
    Execution,
    /// Capsule chunks were served.
    #[n(2)]
    Seeding,
    /// A proof was verified.
    #[n(3)]
    Verification,
    /// Bytes were relayed.
    #[n(4)]
    Relay,
    /// A remainder went to [`Rounding`](crate::SystemAccount::Rounding).
    #[n(5)]
    Rounding,
    /// A balance was settled elsewhere.
    #[n(6)]
    Settlement,
    /// An earlier transfer is corrected by a new one.
    #[n(7)]
    Correction,
}

/// Where a transfer stands in the two-phase scheme.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Kind {
    /// Final at once.
    #[n(0)]
    Posted,
    /// Reserves the amount until it is posted or voided.
    #[n(1)]
    Pending,
    /// Makes a pending transfer final, at most at its amount; the rest is released.
    #[n(2)]
    Post(#[n(0)] TransferId),
    /// Releases a pending transfer entirely.
    #[n(3)]
    Void(#[n(0)] TransferId),
}

/// A movement of money from the account `debit` to the account `credit`. Immutable once posted.
///
/// Every field but the id is the poster's to choose; the id follows from `receipt` and `leg`.
/// All fields must follow from the receipt alone, the timestamp too: a retry that reads the
/// clock anew is another body under the same id and is refused as a conflict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Transfer {
    /// Who pays.
    #[n(0)]
    pub debit: AccountId,
    /// Who is paid.
    #[n(1)]
    pub credit: AccountId,
    /// How much; never zero.
    #[n(2)]
    pub amount: Amount,
    /// What for.
    #[n(3)]
    pub code: Code,
    /// Hash of the receipt that justifies it.
    #[n(4)]
    pub receipt: Digest,
    /// Which of the receipt's transfers this is.
    #[n(5)]
    pub leg: u32,
    /// Id of the [`PriceTable`](crate::PriceTable) the amount was computed with.
    #[n(6)]
    pub price_table: Digest,
    /// When the receipt was made.
    #[n(7)]
    pub timestamp: Timestamp,
    /// Final, pending, or the end of a pending one.
    #[n(8)]
    pub kind: Kind,
}

impl Wire for Transfer {
    const MAX_BYTES: usize = 256;
}

impl Transfer {
    /// Its id.
    #[must_use]
    pub fn id(&self) -> TransferId {
        TransferId::of(&self.receipt, self.leg)
    }

    /// The transfer that makes this pending one final at `amount`, justified by another receipt.
    #[must_use]
    pub fn post_pending(&self, amount: Amount, receipt: Digest, leg: u32, timestamp: Timestamp) -> Self {
        Self { amount, receipt, leg, timestamp, kind: Kind::Post(self.id()), ..*self }
    }

    /// The transfer that releases this pending one, justified by another receipt or timeout record.
    #[must_use]
    pub fn void_pending(&self, receipt: Digest, leg: u32, timestamp: Timestamp) -> Self {
        Self { receipt, leg, timestamp, kind: Kind::Void(self.id()), ..*self }
    }
}
