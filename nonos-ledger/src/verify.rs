use std::collections::BTreeMap;

use nonos_identity::wire;

use crate::account::{Account, AccountId};
use crate::amount::{Amount, AmountError};
use crate::journal::{Entry, Head};
use crate::ledger::{self, HEAD_KEY, Ledger, ReadError};
use crate::posting;
use crate::store::{LedgerStore, StoreError, Table};
use crate::transfer::{Kind, Transfer, TransferId};

/// What a sound ledger holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChainSummary {
    /// The end of the journal.
    pub head: Head,
    /// Accounts ever used.
    pub accounts: u64,
    /// Pending transfers nobody has resolved.
    pub pending: u64,
    /// Sum of all final debits, which is the sum of all final credits.
    pub turnover: Amount,
}

/// Why a ledger is not sound. But for `Store`, somebody or something changed the stored rows.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChainError {
    /// The medium's fault; nothing is known about the ledger.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The entry is missing, altered or does not continue the one before it.
    #[error("journal breaks at entry {index}")]
    Journal {
        /// The first bad position.
        index: u64,
    },
    /// The hash chain is whole, but the entry breaks the rules of posting.
    #[error("entry {index} could not have been posted")]
    Rule {
        /// Its position.
        index: u64,
    },
    /// The head is not that of the journal.
    #[error("head does not match the journal")]
    Head,
    /// The table of transfer ids does not match the journal.
    #[error("transfer ids do not match the journal")]
    Transfers,
    /// The table of pending transfers does not match the journal.
    #[error("pending transfers do not match the journal")]
    Pending,
    /// The totals of accounts do not match the journal.
    #[error("account totals do not match the journal")]
    Accounts,
    /// Debits and credits differ; a defect of this crate.
    #[error("debits and credits differ")]
    Unbalanced,
}

impl From<ReadError> for ChainError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Store(error) => Self::Store(error),
            ReadError::Damaged { table: Table::Journal } => Self::Journal { index: 0 },
            ReadError::Damaged { table: Table::Transfers } => Self::Transfers,
            ReadError::Damaged { table: Table::Pending } => Self::Pending,
            ReadError::Damaged { table: Table::Accounts } => Self::Accounts,
            ReadError::Damaged { table: Table::Meta } => Self::Head,
        }
    }
}

impl Ledger {
    /// Replays the journal and compares every stored row with the replay.
    ///
    /// Any flipped bit in any row is found, and so is a row too many or too few. What it cannot
    /// find is a journal replaced as a whole by another sound one; compare [`Self::head`] with a
    /// value kept elsewhere for that. Takes time and memory in proportion to entries and accounts.
    ///
    /// # Errors
    /// [`ChainError`] names the first table that is not as it was written.
    pub fn verify_chain(&self) -> Result<ChainSummary, ChainError> {
        let store = self.store.as_ref();
        let mut replay = Replay::new();
        ledger::for_each_row(store, Table::Journal, |key, value| replay.step(store, key, value))?;
        replay.compare(store)
    }
}

/// The state of a ledger rebuilt from its journal alone.
struct Replay {
    head: Head,
    accounts: BTreeMap<AccountId, Account>,
    pending: BTreeMap<TransferId, (u64, Transfer)>,
}

impl Replay {
    fn new() -> Self {
        Self { head: Head::genesis(), accounts: BTreeMap::new(), pending: BTreeMap::new() }
    }

    fn step(&mut self, store: &dyn LedgerStore, key: &[u8], value: &[u8]) -> Result<(), ChainError> {
        let index = self.head.length;
        let broken = || ChainError::Journal { index };
        let entry: Entry = wire::from_bytes(value).map_err(|_| broken())?;
        let (expected, head) = self.head.append(entry.transfer);
        if key != index.to_be_bytes() || entry != expected {
            return Err(broken());
        }
        let id = entry.transfer.id();
        if ledger::read_index(store, Table::Transfers, &id)? != Some(index) {
            return Err(ChainError::Transfers);
        }
        self.apply(id, &entry).ok_or(ChainError::Rule { index })?;
        self.head = head;
        Ok(())
    }

    fn apply(&mut self, id: TransferId, entry: &Entry) -> Option<()> {
        let transfer = &entry.transfer;
        let resolved = match transfer.kind {
            Kind::Posted | Kind::Pending => None,
            Kind::Post(target) | Kind::Void(target) => Some(self.pending.remove(&target)?.1),
        };
        if transfer.kind == Kind::Pending {
            self.pending.insert(id, (entry.index, *transfer));
        }
        posting::check_shape(transfer).ok()?;
        if let Some(pending) = &resolved {
            posting::check_resolution(transfer, pending).ok()?;
        }
        let mut debit = self.accounts.get(&transfer.debit).copied().unwrap_or_default();
        let mut credit = self.accounts.get(&transfer.credit).copied().unwrap_or_default();
        posting::book(transfer, resolved.as_ref(), &mut debit, &mut credit).ok()?;
        self.accounts.insert(transfer.debit, debit);
        self.accounts.insert(transfer.credit, credit);
        Some(())
    }

    fn compare(self, store: &dyn LedgerStore) -> Result<ChainSummary, ChainError> {
        let mut ids = 0;
        ledger::for_each_row(store, Table::Transfers, |_, _| {
            ids += 1;
            Ok::<(), ChainError>(())
        })?;
        // Each entry found its own row, so equal counts leave no row over.
        if ids != self.head.length {
            return Err(ChainError::Transfers);
        }
        let meta = (HEAD_KEY.to_vec(), wire::to_bytes(&self.head));
        let meta = (self.head.length > 0).then_some(meta);
        same_rows(store, Table::Meta, meta.into_iter(), || ChainError::Head)?;
        let pending = self.pending.iter();
        let pending = pending.map(|(id, (index, _))| (id.as_bytes().to_vec(), index.to_be_bytes().to_vec()));
        same_rows(store, Table::Pending, pending, || ChainError::Pending)?;
        let accounts = self.accounts.iter().map(|(id, account)| (id.to_row_key(), wire::to_bytes(account)));
        // Rows are ordered by their bytes, which need not be the order of the ids.
        let accounts: BTreeMap<_, _> = accounts.collect();
        same_rows(store, Table::Accounts, accounts.into_iter(), || ChainError::Accounts)?;
        Ok(ChainSummary {
            head: self.head,
            accounts: self.accounts.len() as u64,
            pending: self.pending.len() as u64,
            turnover: self.turnover()?,
        })
    }

    fn turnover(&self) -> Result<Amount, ChainError> {
        let sum = |total: fn(&Account) -> Amount| {
            let mut totals = self.accounts.values().map(total);
            totals.try_fold(Amount::ZERO, Amount::plus)
        };
        let sums = || -> Result<_, AmountError> {
            let posted = (sum(|a| a.debits_posted)?, sum(|a| a.credits_posted)?);
            Ok((posted, (sum(|a| a.debits_pending)?, sum(|a| a.credits_pending)?)))
        };
        match sums() {
            Ok((posted, pending)) if posted.0 == posted.1 && pending.0 == pending.1 => Ok(posted.0),
            _ => Err(ChainError::Unbalanced),
        }
    }
}

/// Compares a table with the rows it should hold, both in key order.
fn same_rows(
    store: &dyn LedgerStore,
    table: Table,
    mut expected: impl Iterator<Item = (Vec<u8>, Vec<u8>)>,
    error: fn() -> ChainError,
) -> Result<(), ChainError> {
    ledger::for_each_row(store, table, |key, value| match expected.next() {
        Some((k, v)) if k == key && v == value => Ok(()),
        _ => Err(error()),
    })?;
    if expected.next().is_none() { Ok(()) } else { Err(error()) }
}
