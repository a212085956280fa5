#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod account;
mod amount;
pub mod domains;
mod journal;
mod ledger;
mod memory;
mod posting;
mod price;
#[cfg(feature = "redb")]
pub mod redb;
mod store;
#[cfg(feature = "testing")]
pub mod testing;
mod transfer;
mod verify;

pub use crate::account::{Account, AccountId, SystemAccount};
pub use crate::amount::{Amount, AmountError, Balance, Split};
pub use crate::journal::{Entry, Head};
pub use crate::ledger::{Config, Ledger, Outcome, PostError, ReadError};
pub use crate::memory::MemoryStore;
pub use crate::posting::Refusal;
pub use crate::price::{Op, PriceError, PriceTable};
pub use crate::store::{LedgerStore, Row, StoreError, Table, Write};
pub use crate::transfer::{Code, Kind, Transfer, TransferId};
pub use crate::verify::{ChainError, ChainSummary};
