//! Fault injection, strategies and the conformance kit, for this crate's tests and for embedders.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nonos_identity::wire::{self, Wire};
use nonos_identity::{Digest, Envelope, NetworkId, NodeId, Timestamp};
use proptest::prelude::*;

use crate::account::{Account, AccountId, SystemAccount};
use crate::amount::Amount;
use crate::journal::{Entry, Head};
use crate::memory::MemoryStore;
use crate::price::PriceTable;
use crate::store::{LedgerStore, Row, StoreError, Table, Write};
use crate::transfer::{Code, Kind, Transfer};

/// What a [`SimStore`] does wrong at a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The commit is lost and reported as failed.
    LostAndReported,
    /// The commit happens and is reported as failed: the acknowledgement was lost.
    DoneAndReported,
    /// Half of the writes happen and the commit is reported as failed. This breaks the contract of
    /// [`LedgerStore`]: it shows that a test would notice.
    Torn,
    /// The commit is lost and reported as done. This breaks the contract as well.
    LostAndAcknowledged,
}

/// A store in memory that fails on request. Clones share their rows: keep one to look at what a
/// crash leaves behind, and open a ledger on it again.
#[derive(Clone, Debug, Default)]
pub struct SimStore {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    rows: MemoryStore,
    commits: u64,
    fault: Option<(u64, Fault)>,
}

impl SimStore {
    /// An empty store that never fails.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes the commit with this number fail, counted from zero over the life of the store.
    pub fn fail_at(&self, commit: u64, fault: Fault) {
        self.state().fault = Some((commit, fault));
    }

    /// Commits tried so far.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.state().commits
    }

    /// Every row, for comparing and for choosing one to damage.
    #[must_use]
    pub fn rows(&self) -> Vec<(Table, Row)> {
        let state = self.state();
        let rows = Table::ALL.into_iter().map(|table| (table, state.rows.scan(table, &[], usize::MAX)));
        rows.flat_map(|(table, rows)| rows.into_iter().flatten().map(move |row| (table, row))).collect()
    }

    /// Replaces a row behind the ledger's back.
    pub fn replace(&self, table: Table, old: &Row, new: Row) {
        let writes = [
            Write { table, key: old.key.clone(), value: None },
            Write { table, key: new.key, value: Some(new.value) },
        ];
        // The store in memory takes every write.
        let _ = self.state().rows.commit(&writes);
    }

    /// Removes a row behind the ledger's back.
    pub fn remove(&self, table: Table, row: &Row) {
        let _ = self.state().rows.commit(&[Write { table, key: row.key.clone(), value: None }]);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LedgerStore for SimStore {
    fn read(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.state().rows.read(table, key)
    }

    fn scan(&self, table: Table, from: &[u8], max_rows: usize) -> Result<Vec<Row>, StoreError> {
        self.state().rows.scan(table, from, max_rows)
    }

    fn commit(&mut self, writes: &[Write]) -> Result<(), StoreError> {
        let mut state = self.state();
        let number = state.commits;
        state.commits += 1;
        let fault = state.fault.filter(|(at, _)| *at == number).map(|(_, fault)| fault);
        let done = match fault {
            None | Some(Fault::DoneAndReported) => writes,
            Some(Fault::Torn) => writes.get(..writes.len() / 2).unwrap_or_default(),
            Some(Fault::LostAndReported | Fault::LostAndAcknowledged) => &[],
        };
        state.rows.commit(done)?;
        match fault {
            None | Some(Fault::LostAndAcknowledged) => Ok(()),
            Some(_) => Err(StoreError::Medium("injected fault".into())),
        }
    }
}

/// Checks a store against the contract of [`LedgerStore`], crashes aside.
///
/// `open` is called several times. The first call must yield an empty store, each later one the same
/// store opened anew, after the one before was dropped without any farewell.
///
/// # Panics
/// With a message that names the clause, if the store breaks the contract.
pub fn check_ledger_store(mut open: impl FnMut() -> Box<dyn LedgerStore>) {
    let put =
        |table, key: &[u8], value: &[u8]| Write { table, key: key.to_vec(), value: Some(value.to_vec()) };
    let row = |key: &[u8], value: &[u8]| Row { key: key.to_vec(), value: value.to_vec() };
    let ok = "a healthy store answers";

    let mut store = open();
    for table in Table::ALL {
        assert_eq!(store.read(table, b"k").expect(ok), None, "an absent row reads as none");
        assert_eq!(store.scan(table, b"", 8).expect(ok), [], "an empty table scans as nothing");
    }
    store.commit(&[]).expect("a commit may be empty");
    let (long_key, long_value) = ([0xff; 64], [0xa5; 512]);
    let writes = [
        put(Table::Journal, b"b", b"2"),
        put(Table::Journal, b"a", b"1"),
        put(Table::Journal, b"", b"empty key"),
        put(Table::Journal, &long_key, &long_value),
        put(Table::Accounts, b"a", b""),
        put(Table::Pending, b"a", b"gone"),
        Write { table: Table::Pending, key: b"a".to_vec(), value: None },
        put(Table::Meta, b"a", b"first"),
        put(Table::Meta, b"a", b"second"),
        Write { table: Table::Transfers, key: b"absent".to_vec(), value: None },
    ];
    store.commit(&writes).expect("a store takes keys of 0 to 64 and values of 0 to 512 bytes");

    for _ in 0..2 {
        assert_eq!(store.read(Table::Journal, b"a").expect(ok), Some(b"1".to_vec()), "faithful");
        assert_eq!(
            store.read(Table::Accounts, b"a").expect(ok),
            Some(Vec::new()),
            "an empty value is a value"
        );
        assert_eq!(store.read(Table::Transfers, b"a").expect(ok), None, "tables are apart");
        assert_eq!(store.read(Table::Pending, b"a").expect(ok), None, "writes apply in order: removed last");
        assert_eq!(store.read(Table::Meta, b"a").expect(ok), Some(b"second".to_vec()), "in order: last wins");
        let all = [row(b"", b"empty key"), row(b"a", b"1"), row(b"b", b"2"), row(&long_key, &long_value)];
        assert_eq!(store.scan(Table::Journal, b"", 9).expect(ok), all, "scans ascend by bytes");
        assert_eq!(store.scan(Table::Journal, b"a", 1).expect(ok), [row(b"a", b"1")], "from is inclusive");
        assert_eq!(store.scan(Table::Journal, b"a\0", 1).expect(ok), [row(b"b", b"2")], "from may be absent");
        assert_eq!(store.scan(Table::Journal, b"", 0).expect(ok), [], "max_rows holds");
        drop(store);
        store = open();
    }
    let removal = Write { table: Table::Journal, key: b"a".to_vec(), value: None };
    store.commit(&[removal, put(Table::Meta, b"a", b"third")]).expect(ok);
    drop(store);
    let store = open();
    assert_eq!(store.read(Table::Journal, b"a").expect(ok), None, "a removal is durable");
    assert_eq!(store.read(Table::Meta, b"a").expect(ok), Some(b"third".to_vec()), "a replacement is durable");
}

/// One of a few accounts, so that random transfers meet.
pub fn account_ids() -> impl Strategy<Value = AccountId> {
    prop_oneof![
        (0u8..3).prop_map(|n| NodeId::from_bytes([n; 32]).into()),
        (0u8..3).prop_map(|n| AccountId::Pseudonym([n; 32])),
        Just(SystemAccount::Opening.into()),
        Just(SystemAccount::Rounding.into()),
    ]
}

/// A random transfer; its id comes from a few receipts, so that some are repeated.
pub fn transfers() -> impl Strategy<Value = Transfer> {
    let kind = prop_oneof![3 => Just(Kind::Posted), 3 => Just(Kind::Pending)];
    let amount = prop_oneof![9 => 0u64..10_000, 1 => Just(u64::MAX)];
    (account_ids(), account_ids(), amount, 0u8..40, 0u32..2, kind).prop_map(
        |(debit, credit, amount, receipt, leg, kind)| Transfer {
            debit,
            credit,
            amount: Amount::from_nano(amount),
            code: Code::Execution,
            receipt: Digest::of_bytes(&[receipt]),
            leg,
            price_table: Digest::of_bytes(b"prices"),
            timestamp: Timestamp::from_secs(1_000),
            kind,
        },
    )
}

/// A history of transfers in which pending ones are often posted or voided, sometimes twice.
pub fn histories(max_len: usize) -> impl Strategy<Value = Vec<Transfer>> {
    let step = (transfers(), any::<prop::sample::Index>(), 0u8..6);
    prop::collection::vec(step, 1..max_len).prop_map(|steps| {
        let mut history: Vec<Transfer> = Vec::new();
        for (number, (transfer, target, choice)) in (0u32..).zip(steps) {
            let pending: Vec<_> = history.iter().filter(|t| t.kind == Kind::Pending).copied().collect();
            let receipt = Digest::of_bytes(&number.to_le_bytes());
            history.push(match choice {
                0 | 1 if !pending.is_empty() => {
                    let pending = target.get(&pending);
                    pending.post_pending(pending.amount, receipt, 0, transfer.timestamp)
                }
                2 if !pending.is_empty() => target.get(&pending).void_pending(receipt, 0, transfer.timestamp),
                _ => transfer,
            });
        }
        history
    })
}

fn decodes<T: Wire>(bytes: &[u8]) {
    if let Ok(value) = wire::from_bytes::<T>(bytes) {
        assert_eq!(wire::to_bytes(&value), bytes, "an accepted encoding is the only one");
    }
}

/// Feeds bytes to the decoders of everything a ledger stores.
///
/// # Panics
/// If a decoder accepts two encodings of one value; a decoder that panics is the finding.
pub fn fuzz_rows(bytes: &[u8]) {
    decodes::<Transfer>(bytes);
    decodes::<Entry>(bytes);
    decodes::<Head>(bytes);
    decodes::<Account>(bytes);
    decodes::<AccountId>(bytes);
}

/// Feeds bytes to the decoder of a signed price table and quotes with whatever it accepts.
///
/// # Panics
/// As [`fuzz_rows`].
pub fn fuzz_price_table(bytes: &[u8]) {
    decodes::<PriceTable>(bytes);
    if let Ok(envelope) = Envelope::parse(bytes) {
        let _ = PriceTable::open(envelope, &NetworkId::from_name("fuzz"), Timestamp::from_secs(0));
    }
}
