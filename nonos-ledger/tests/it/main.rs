//! Integration tests of the ledger.

mod api;
mod fuzz;
mod invariants;
mod stores;
mod vectors;

use nonos_identity::{Digest, NodeId, Timestamp};
use nonos_ledger::{AccountId, Amount, Code, Kind, Ledger, Transfer};

fn node(n: u8) -> AccountId {
    NodeId::from_bytes([n; 32]).into()
}

/// A transfer of `nano` from node 1 to node 2, justified by the receipt `receipt`.
fn transfer(receipt: u8, nano: u64, kind: Kind) -> Transfer {
    Transfer {
        debit: node(1),
        credit: node(2),
        amount: Amount::from_nano(nano),
        code: Code::Execution,
        receipt: Digest::of_bytes(&[receipt]),
        leg: 0,
        price_table: Digest::of_bytes(b"prices"),
        timestamp: Timestamp::from_secs(1_000),
        kind,
    }
}

fn nano(ledger: &Ledger, account: AccountId) -> i128 {
    ledger.balance(account).expect("store answers").as_nano()
}
