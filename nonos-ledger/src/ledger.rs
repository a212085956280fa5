use std::collections::BTreeMap;

use nonos_identity::wire::{self, Wire};

use crate::account::{Account, AccountId};
use crate::amount::{Amount, Balance};
use crate::journal::{Entry, Head};
use crate::posting::{self, Refusal};
use crate::store::{LedgerStore, StoreError, Table, Write};
use crate::transfer::{Kind, Transfer, TransferId};

/// Key of the head in [`Table::Meta`].
pub(crate) const HEAD_KEY: &[u8] = b"head";
/// Rows read at a time when a whole table is walked; bounds memory.
pub(crate) const SCAN_ROWS: usize = 1024;

/// The limits of a ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Most transfers in one [`Ledger::post`]; bounds the memory and the size of one commit.
    pub max_batch_transfers: usize,
    /// What a node may owe, unless `credit_limits` says otherwise; `None` is no limit.
    pub node_credit_limit: Option<Amount>,
    /// What a pseudonym may owe. A pseudonym costs nothing to make, so it stops somebody who runs
    /// up a debt under a name and leaves it.
    pub pseudonym_credit_limit: Amount,
    /// Limits of single accounts; these come first. System accounts have none unless named here.
    pub credit_limits: BTreeMap<AccountId, Amount>,
}

impl Config {
    /// Default of [`Self::pseudonym_credit_limit`]: 1 000 mod.
    pub const PSEUDONYM_CREDIT_LIMIT: Amount = Amount::from_mod(1_000);

    fn credit_limit(&self, account: AccountId) -> Option<Amount> {
        self.credit_limits.get(&account).copied().or(match account {
            AccountId::Node(_) => self.node_credit_limit,
            AccountId::Pseudonym(_) => Some(self.pseudonym_credit_limit),
            AccountId::System(_) => None,
        })
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_batch_transfers: 8_192,
            node_credit_limit: None,
            pseudonym_credit_limit: Self::PSEUDONYM_CREDIT_LIMIT,
            credit_limits: BTreeMap::new(),
        }
    }
}

/// What became of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Outcome {
    /// It is now the journal's entry `index`.
    Applied {
        /// Position in the journal.
        index: u64,
    },
    /// The very same transfer was applied before; nothing changed.
    AlreadyApplied {
        /// Position in the journal.
        index: u64,
    },
}

/// Why a ledger cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The medium's fault.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A row is missing or is not what this ledger wrote: the medium was damaged or edited.
    #[error("damaged row in {table:?}")]
    Damaged {
        /// Where it was found.
        table: Table,
    },
}

/// Why nothing of a batch was posted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PostError {
    /// A transfer was refused; its maker's fault.
    #[error("transfer {at} of the batch: {refusal}")]
    Refused {
        /// Its position in the batch.
        at: usize,
        /// Why.
        refusal: Refusal,
    },
    /// More transfers than [`Config::max_batch_transfers`]; the caller's fault.
    #[error("{len} transfers exceed the limit of {limit} in a batch")]
    BatchTooLong {
        /// Transfers in the batch.
        len: usize,
        /// The limit.
        limit: usize,
    },
    /// The medium's fault; posting the same batch again is safe and tells whether it had happened.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// A double-entry ledger over a [`LedgerStore`].
///
/// Every debit has its credit; transfers are immutable, idempotent and hash-chained.
#[derive(Debug)]
pub struct Ledger {
    pub(crate) store: Box<dyn LedgerStore>,
    config: Config,
    /// `None` after a failed commit: the store has to be asked what happened.
    head: Option<Head>,
}

impl Ledger {
    /// Opens the ledger in a store, or begins one in an empty store, with the default limits.
    ///
    /// # Errors
    /// [`ReadError`] if the medium fails or the end of the journal is damaged. The whole of it is
    /// checked by [`Self::verify_chain`].
    pub fn open(store: Box<dyn LedgerStore>) -> Result<Self, ReadError> {
        Self::with_config(store, Config::default())
    }

    /// Opens or begins a ledger with limits of the caller's.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn with_config(store: Box<dyn LedgerStore>, config: Config) -> Result<Self, ReadError> {
        let mut ledger = Self { store, config, head: None };
        ledger.current_head()?;
        Ok(ledger)
    }

    /// Posts a batch: all of its new transfers or, on any error, none.
    ///
    /// Returns one outcome per transfer, in order. On `Ok` everything is durable. The transfers of
    /// a batch see each other; a batch shares one commit, so grouping is what makes posting fast.
    ///
    /// # Errors
    /// [`PostError`] says whose fault it is.
    pub fn post(&mut self, transfers: &[Transfer]) -> Result<Vec<Outcome>, PostError> {
        let (len, limit) = (transfers.len(), self.config.max_batch_transfers);
        if len > limit {
            return Err(PostError::BatchTooLong { len, limit });
        }
        let head = self.current_head()?;
        let mut batch = Batch::new(self.store.as_ref(), &self.config, head);
        let mut outcomes = Vec::with_capacity(len);
        for (at, transfer) in transfers.iter().enumerate() {
            match batch.add(transfer)? {
                Ok(outcome) => outcomes.push(outcome),
                Err(refusal) => return Err(PostError::Refused { at, refusal }),
            }
        }
        let after = batch.head;
        if after == head {
            return Ok(outcomes);
        }
        let writes = batch.into_writes();
        self.head = None;
        self.store.commit(&writes).map_err(ReadError::Store)?;
        self.head = Some(after);
        Ok(outcomes)
    }

    /// The end of the journal.
    ///
    /// # Errors
    /// [`ReadError`] if the medium fails.
    pub fn head(&self) -> Result<Head, ReadError> {
        match self.head {
            Some(head) => Ok(head),
            None => stored_head(self.store.as_ref()),
        }
    }

    /// The final balance of an account; zero if it was never used.
    ///
    /// # Errors
    /// [`ReadError`] if the medium fails.
    pub fn balance(&self, account: impl Into<AccountId>) -> Result<Balance, ReadError> {
        Ok(self.account(account)?.balance())
    }

    /// The four totals of an account; zero if it was never used.
    ///
    /// # Errors
    /// [`ReadError`] if the medium fails.
    pub fn account(&self, account: impl Into<AccountId>) -> Result<Account, ReadError> {
        let key = account.into().to_row_key();
        Ok(read(self.store.as_ref(), Table::Accounts, &key)?.unwrap_or_default())
    }

    /// Every account ever used with its totals, in the order of the ids.
    ///
    /// # Errors
    /// [`ReadError`] if the medium fails.
    pub fn balances(&self) -> Result<Vec<(AccountId, Account)>, ReadError> {
        let mut accounts = Vec::new();
        for_each_row(self.store.as_ref(), Table::Accounts, |key, value| {
            accounts.push((decode(Table::Accounts, key)?, decode(Table::Accounts, value)?));
            Ok::<_, ReadError>(())
        })?;
        Ok(accounts)
    }

    /// At most `max` journal entries from the index `from` on, oldest first.
    ///
    /// # Errors
    /// [`ReadError`] if the medium fails.
    pub fn transfers(&self, from: u64, max: usize) -> Result<Vec<Entry>, ReadError> {
        let rows = self.store.scan(Table::Journal, &from.to_be_bytes(), max)?;
        rows.iter().map(|row| decode(Table::Journal, &row.value)).collect()
    }

    /// The entry of a transfer, if it was applied.
    ///
    /// # Errors
    /// [`ReadError`] if the medium fails.
    pub fn find(&self, id: &TransferId) -> Result<Option<Entry>, ReadError> {
        match read_index(self.store.as_ref(), Table::Transfers, id)? {
            Some(index) => entry(self.store.as_ref(), index).map(Some),
            None => Ok(None),
        }
    }

    /// The pending transfers nobody has posted or voided yet: what a node resolves after a restart.
    ///
    /// # Errors
    /// [`ReadError`] if the medium fails.
    pub fn pending(&self) -> Result<Vec<Transfer>, ReadError> {
        let mut open = Vec::new();
        for_each_row(self.store.as_ref(), Table::Pending, |_, value| {
            open.push(entry(self.store.as_ref(), index_of(Table::Pending, value)?)?.transfer);
            Ok::<_, ReadError>(())
        })?;
        Ok(open)
    }

    fn current_head(&mut self) -> Result<Head, ReadError> {
        let head = self.head()?;
        self.head = Some(head);
        Ok(head)
    }
}

/// A batch under construction: what it changes lies over what the store has.
struct Batch<'a> {
    store: &'a dyn LedgerStore,
    config: &'a Config,
    head: Head,
    entries: Vec<Entry>,
    by_id: BTreeMap<TransferId, Entry>,
    accounts: BTreeMap<AccountId, Account>,
    /// Pending transfers opened (`Some`) or resolved (`None`) by this batch.
    pending: BTreeMap<TransferId, Option<u64>>,
}

impl<'a> Batch<'a> {
    const fn new(store: &'a dyn LedgerStore, config: &'a Config, head: Head) -> Self {
        Self {
            store,
            config,
            head,
            entries: Vec::new(),
            by_id: BTreeMap::new(),
            accounts: BTreeMap::new(),
            pending: BTreeMap::new(),
        }
    }

    /// Adds a transfer. The outer error is the medium's, the inner one the transfer's.
    fn add(&mut self, transfer: &Transfer) -> Result<Result<Outcome, Refusal>, ReadError> {
        let id = transfer.id();
        if let Some(known) = self.find(&id)? {
            let same = known.transfer == *transfer;
            return Ok(if same {
                Ok(Outcome::AlreadyApplied { index: known.index })
            } else {
                Err(Refusal::Conflict)
            });
        }
        let pending = match transfer.kind {
            Kind::Posted | Kind::Pending => None,
            Kind::Post(target) | Kind::Void(target) => match self.open_pending(&target)? {
                Ok(pending) => Some(pending),
                Err(refusal) => return Ok(Err(refusal)),
            },
        };
        let mut debit = self.account(transfer.debit)?;
        let mut credit = self.account(transfer.credit)?;
        if let Err(refusal) = self.check(transfer, pending.as_ref(), &mut debit, &mut credit) {
            return Ok(Err(refusal));
        }
        self.accounts.insert(transfer.debit, debit);
        self.accounts.insert(transfer.credit, credit);
        let (entry, head) = self.head.append(*transfer);
        match transfer.kind {
            Kind::Posted => {}
            Kind::Pending => {
                self.pending.insert(id, Some(entry.index));
            }
            Kind::Post(target) | Kind::Void(target) => {
                self.pending.insert(target, None);
            }
        }
        self.by_id.insert(id, entry);
        self.entries.push(entry);
        self.head = head;
        Ok(Ok(Outcome::Applied { index: entry.index }))
    }

    fn check(
        &self,
        transfer: &Transfer,
        pending: Option<&Transfer>,
        debit: &mut Account,
        credit: &mut Account,
    ) -> Result<(), Refusal> {
        posting::check_shape(transfer)?;
        if let Some(pending) = pending {
            posting::check_resolution(transfer, pending)?;
        }
        posting::book(transfer, pending, debit, credit)?;
        // Resolving a pending transfer never raises the exposure it already reserved.
        if pending.is_none()
            && let Some(limit) = self.config.credit_limit(transfer.debit)
        {
            let exposure = debit.exposure();
            if exposure > limit {
                return Err(Refusal::Overdraft { account: transfer.debit, exposure, limit });
            }
        }
        Ok(())
    }

    fn find(&self, id: &TransferId) -> Result<Option<Entry>, ReadError> {
        if let Some(entry) = self.by_id.get(id) {
            return Ok(Some(*entry));
        }
        match read_index(self.store, Table::Transfers, id)? {
            Some(index) => entry(self.store, index).map(Some),
            None => Ok(None),
        }
    }

    fn open_pending(&self, id: &TransferId) -> Result<Result<Transfer, Refusal>, ReadError> {
        let Some(target) = self.find(id)? else { return Ok(Err(Refusal::UnknownPending)) };
        if target.transfer.kind != Kind::Pending {
            return Ok(Err(Refusal::UnknownPending));
        }
        let open = match self.pending.get(id) {
            Some(state) => state.is_some(),
            None => read_index(self.store, Table::Pending, id)?.is_some(),
        };
        Ok(if open { Ok(target.transfer) } else { Err(Refusal::AlreadyResolved) })
    }

    fn account(&self, id: AccountId) -> Result<Account, ReadError> {
        match self.accounts.get(&id) {
            Some(account) => Ok(*account),
            None => Ok(read(self.store, Table::Accounts, &id.to_row_key())?.unwrap_or_default()),
        }
    }

    fn into_writes(self) -> Vec<Write> {
        let row = |table, key: Vec<u8>, value: Vec<u8>| Write { table, key, value: Some(value) };
        let mut writes = Vec::with_capacity(2 * self.entries.len() + self.accounts.len() + 1);
        for entry in &self.entries {
            let index = entry.index.to_be_bytes().to_vec();
            let id = entry.transfer.id().as_bytes().to_vec();
            writes.push(row(Table::Journal, index.clone(), wire::to_bytes(entry)));
            writes.push(row(Table::Transfers, id, index));
        }
        for (id, state) in self.pending {
            let value = state.map(|index| index.to_be_bytes().to_vec());
            writes.push(Write { table: Table::Pending, key: id.as_bytes().to_vec(), value });
        }
        for (id, account) in self.accounts {
            writes.push(row(Table::Accounts, id.to_row_key(), wire::to_bytes(&account)));
        }
        writes.push(row(Table::Meta, HEAD_KEY.to_vec(), wire::to_bytes(&self.head)));
        writes
    }
}

pub(crate) fn decode<T: Wire>(table: Table, bytes: &[u8]) -> Result<T, ReadError> {
    wire::from_bytes(bytes).map_err(|_| ReadError::Damaged { table })
}

pub(crate) fn index_of(table: Table, bytes: &[u8]) -> Result<u64, ReadError> {
    bytes.try_into().map(u64::from_be_bytes).map_err(|_| ReadError::Damaged { table })
}

pub(crate) fn read<T: Wire>(
    store: &dyn LedgerStore,
    table: Table,
    key: &[u8],
) -> Result<Option<T>, ReadError> {
    store.read(table, key)?.map(|bytes| decode(table, &bytes)).transpose()
}

pub(crate) fn read_index(
    store: &dyn LedgerStore,
    table: Table,
    id: &TransferId,
) -> Result<Option<u64>, ReadError> {
    store.read(table, id.as_bytes())?.map(|bytes| index_of(table, &bytes)).transpose()
}

/// The entry at an index that another row points to.
pub(crate) fn entry(store: &dyn LedgerStore, index: u64) -> Result<Entry, ReadError> {
    read(store, Table::Journal, &index.to_be_bytes())?.ok_or(ReadError::Damaged { table: Table::Journal })
}

/// The head on disk, checked against the last entry.
pub(crate) fn stored_head(store: &dyn LedgerStore) -> Result<Head, ReadError> {
    let damaged = ReadError::Damaged { table: Table::Meta };
    let Some(head) = read::<Head>(store, Table::Meta, HEAD_KEY)? else {
        // No head: an empty store, or one that has lost its head.
        let empty = store.scan(Table::Journal, &[], 1)?.is_empty();
        return if empty { Ok(Head::genesis()) } else { Err(damaged) };
    };
    let Some(last) = head.length.checked_sub(1) else { return Err(damaged) };
    if entry(store, last)?.hash() == head.hash { Ok(head) } else { Err(damaged) }
}

/// Walks a table in pages, in key order.
pub(crate) fn for_each_row<E: From<StoreError>>(
    store: &dyn LedgerStore,
    table: Table,
    mut visit: impl FnMut(&[u8], &[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let mut from = Vec::new();
    loop {
        let rows = store.scan(table, &from, SCAN_ROWS)?;
        for row in &rows {
            visit(&row.key, &row.value)?;
        }
        match rows.last() {
            // The least key after the last one.
            Some(last) if rows.len() == SCAN_ROWS => from = [last.key.as_slice(), &[0]].concat(),
            _ => return Ok(()),
        }
    }
}
