use core::fmt;
use std::error::Error;

/// The tables of a ledger. Keys and values are canonical bytes that only [`Ledger`](crate::Ledger) reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// Index (8 bytes, big-endian) to entry.
    Journal,
    /// Transfer id to index.
    Transfers,
    /// Id of a pending transfer nobody has resolved yet, to index.
    Pending,
    /// Account id to its totals.
    Accounts,
    /// The head of the journal.
    Meta,
}

impl Table {
    /// Every table.
    pub const ALL: [Self; 5] = [Self::Journal, Self::Transfers, Self::Pending, Self::Accounts, Self::Meta];
}

/// A key and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// At most 64 bytes.
    pub key: Vec<u8>,
    /// At most 512 bytes.
    pub value: Vec<u8>,
}

/// One change within a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// Where.
    pub table: Table,
    /// At most 64 bytes.
    pub key: Vec<u8>,
    /// The new value, at most 512 bytes, or `None` to remove the row.
    pub value: Option<Vec<u8>>,
}

/// Why a store failed. The fault of the medium or of the operator, never of a peer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Reading or writing failed; the operation may have happened or not.
    #[error("ledger storage failed")]
    Medium(#[source] Box<dyn Error + Send + Sync>),
    /// The stored file is damaged or is not a ledger.
    #[error("ledger storage is damaged")]
    Damaged(#[source] Box<dyn Error + Send + Sync>),
    /// Another process holds the ledger.
    #[error("ledger is in use by another process")]
    InUse,
}

/// Ordered rows that survive a power cut.
///
/// A ledger owns its store; there is one writer. The contract, which
/// `testing::check_ledger_store` (feature `testing`) checks as far as a program can:
///
/// - **Atomic**: after a crash at any moment, either all writes of a commit are there or none.
/// - **Durable**: once `commit` returns `Ok`, its writes survive a power cut. What `read` and `scan`
///   return is durable as well.
/// - **Uncertain errors**: after `Err`, the commit happened wholly or not at all; the next read tells,
///   or fails. The ledger retries safely because transfers are idempotent.
/// - **Ordered**: `scan` yields keys in ascending byte order.
/// - **Faithful**: values come back bit for bit. Damage should surface as an error, but the ledger
///   finds it by itself in [`verify_chain`](crate::Ledger::verify_chain).
pub trait LedgerStore: fmt::Debug + Send {
    /// The value of a row.
    ///
    /// # Errors
    /// [`StoreError`] if the medium fails.
    fn read(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// At most `max_rows` rows whose keys are at least `from`, in ascending order.
    ///
    /// # Errors
    /// [`StoreError`] if the medium fails.
    fn scan(&self, table: Table, from: &[u8], max_rows: usize) -> Result<Vec<Row>, StoreError>;

    /// Applies all writes, in order, atomically and durably.
    ///
    /// # Errors
    /// [`StoreError`] if the medium fails; see the contract for what holds then.
    fn commit(&mut self, writes: &[Write]) -> Result<(), StoreError>;
}
