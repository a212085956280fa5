use nonos_ledger::testing::{Fault, SimStore, check_ledger_store};
use nonos_ledger::{ChainError, Kind, Ledger, LedgerStore, Outcome, PostError, Row, Table};

use crate::{nano, node, transfer};

#[test]
fn memory_keeps_the_contract() {
    let shared = SimStore::new();
    check_ledger_store(|| Box::new(shared.clone()));
}

#[cfg(feature = "redb")]
#[test]
fn redb_keeps_the_contract() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("ledger.redb");
    check_ledger_store(|| Box::new(nonos_ledger::redb::RedbStore::open(&path).expect("opens")));
}

#[cfg(feature = "redb")]
#[test]
fn redb_lets_one_process_in() {
    use nonos_ledger::StoreError;
    use nonos_ledger::redb::RedbStore;

    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("ledger.redb");
    let first = RedbStore::open(&path).expect("opens");
    assert!(matches!(RedbStore::open(&path), Err(StoreError::InUse)));
    drop(first);
    assert!(RedbStore::open(&path).is_ok());
    std::fs::write(&path, [0x5a; 8192]).expect("overwritten");
    assert!(RedbStore::open(&path).is_err());
}

#[cfg(all(feature = "redb", unix))]
#[test]
fn redb_is_private_to_its_owner() {
    use std::os::unix::fs::PermissionsExt as _;

    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("ledger.redb");
    let _store = nonos_ledger::redb::RedbStore::open(&path).expect("opens");
    let mode = std::fs::metadata(&path).expect("metadata").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

/// What a power cut during the first start may leave behind does not stand in the way of the second.
#[cfg(feature = "redb")]
#[test]
fn redb_survives_an_unfinished_creation() {
    use nonos_ledger::redb::RedbStore;

    let folder = tempfile::tempdir().expect("temporary folder");
    std::fs::write(folder.path().join("ledger.redb.new"), [0; 4096]).expect("half-made file");
    assert!(RedbStore::open(&folder.path().join("ledger.redb")).is_ok());
    let names: Vec<_> = std::fs::read_dir(folder.path()).expect("folder").collect();
    assert_eq!(names.len(), 1);
}

/// Twelve commits of two transfers; at each of them in turn the store fails. The node retries the
/// batch, first in the same process, then after a restart.
#[test]
fn a_failed_commit_is_retried_safely() {
    for fault in [Fault::LostAndReported, Fault::DoneAndReported] {
        for at in 0..12 {
            for restart in [false, true] {
                let store = SimStore::new();
                store.fail_at(at, fault);
                let mut ledger = Ledger::open(Box::new(store.clone())).expect("opens");
                for round in 0..12u8 {
                    let batch =
                        [transfer(2 * round, 5, Kind::Posted), transfer(2 * round + 1, 7, Kind::Posted)];
                    if u64::from(round) != at {
                        let _ = ledger.post(&batch).expect("posts");
                        continue;
                    }
                    assert!(matches!(ledger.post(&batch), Err(PostError::Read(_))));
                    if restart {
                        ledger = Ledger::open(Box::new(store.clone())).expect("opens again");
                    }
                    let index = 2 * u64::from(round);
                    let expected = match fault {
                        Fault::DoneAndReported => {
                            [Outcome::AlreadyApplied { index }, Outcome::AlreadyApplied { index: index + 1 }]
                        }
                        _ => [Outcome::Applied { index }, Outcome::Applied { index: index + 1 }],
                    };
                    assert_eq!(ledger.post(&batch).expect("retries"), expected);
                }
                assert_eq!(nano(&ledger, node(2)), 12 * 12, "{fault:?} at {at}");
                assert_eq!(ledger.verify_chain().expect("sound").head.length, 24);
            }
        }
    }
}

/// The kit and the audit must notice a store that breaks the contract.
#[test]
fn broken_stores_are_noticed() {
    let store = SimStore::new();
    store.fail_at(1, Fault::Torn);
    let mut ledger = Ledger::open(Box::new(store.clone())).expect("opens");
    let _ = ledger.post(&[transfer(1, 5, Kind::Posted)]).expect("posts");
    assert!(ledger.post(&[transfer(2, 5, Kind::Posted)]).is_err());
    assert!(ledger.verify_chain().is_err());

    let forgetful = SimStore::new();
    forgetful.fail_at(1, Fault::LostAndAcknowledged);
    let kit = std::panic::catch_unwind(|| check_ledger_store(|| Box::new(forgetful.clone())));
    assert!(kit.is_err());
}

fn history() -> (SimStore, Ledger) {
    let store = SimStore::new();
    let mut ledger = Ledger::open(Box::new(store.clone())).expect("opens");
    let pending = transfer(3, 9, Kind::Pending);
    let _ =
        ledger.post(&[transfer(1, 5, Kind::Posted), transfer(2, 7, Kind::Pending), pending]).expect("posts");
    let resolved =
        pending.post_pending(pending.amount, transfer(4, 1, Kind::Posted).receipt, 0, pending.timestamp);
    let _ = ledger.post(&[resolved]).expect("posts");
    (store, ledger)
}

/// Invariant 10: every single bit of every row, keys included.
#[test]
fn any_flipped_bit_is_found() {
    let (store, ledger) = history();
    let sound = ledger.verify_chain().expect("sound");
    let rows = store.rows();
    let mut flips = 0;
    for (table, row) in rows.clone() {
        for bit in 0..8 * (row.key.len() + row.value.len()) {
            let mut bad = row.clone();
            let (byte, mask) = (bit / 8, 1 << (bit % 8));
            match bad.key.get_mut(byte) {
                Some(byte) => *byte ^= mask,
                None => bad.value[byte - row.key.len()] ^= mask,
            }
            store.replace(table, &row, bad.clone());
            assert!(ledger.verify_chain().is_err(), "bit {bit} of {table:?} {row:?}");
            // A flipped key may have hit another row; put everything back.
            store.remove(table, &bad);
            for (table, row) in &rows {
                store.replace(*table, row, row.clone());
            }
            flips += 1;
        }
    }
    assert!(flips > 10_000, "{flips}");
    assert_eq!(ledger.verify_chain().expect("sound again"), sound);
}

#[test]
fn a_missing_or_added_row_is_found() {
    let (store, ledger) = history();
    for (table, row) in store.rows() {
        store.remove(table, &row);
        assert!(ledger.verify_chain().is_err(), "{table:?}");
        store.replace(table, &row, row.clone());
        let extra = Row { key: [row.key.as_slice(), &[0]].concat(), value: row.value.clone() };
        store.replace(table, &extra, extra.clone());
        assert!(ledger.verify_chain().is_err(), "{table:?}");
        store.remove(table, &extra);
    }
    assert!(ledger.verify_chain().is_ok());
}

#[test]
fn a_cut_journal_does_not_open() {
    let (store, ledger) = history();
    drop(ledger);
    let last = store.rows().into_iter().rfind(|(table, _)| *table == Table::Journal).expect("entries").1;
    store.remove(Table::Journal, &last);
    assert!(Ledger::open(Box::new(store)).is_err());
}

/// A forger who recomputes nothing but the entry and its own hash still breaks the next link.
#[test]
fn an_edited_entry_breaks_the_chain_where_it_stands() {
    let (store, ledger) = history();
    let mut entry = ledger.transfers(1, 1).expect("entry").remove(0);
    entry.transfer.amount = nonos_ledger::Amount::from_nano(8);
    let key = 1u64.to_be_bytes().to_vec();
    let row = Row { key, value: nonos_identity::wire::to_bytes(&entry) };
    store.replace(Table::Journal, &row, row.clone());
    assert!(matches!(ledger.verify_chain(), Err(ChainError::Journal { index: 2 })));
    assert!(store.read(Table::Journal, &row.key).expect("reads").is_some());
}
