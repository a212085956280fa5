use minicbor::{Decode, Encode};
use nonos_identity::Digest;
use nonos_identity::wire::{self, Wire};

use crate::domains;
use crate::transfer::Transfer;

/// One line of the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[non_exhaustive]
pub struct Entry {
    /// Its position, from zero.
    #[n(0)]
    pub index: u64,
    /// Hash of the entry before it, or of the genesis.
    #[n(1)]
    pub previous: Digest,
    /// What happened.
    #[n(2)]
    pub transfer: Transfer,
}

impl Wire for Entry {
    const MAX_BYTES: usize = Transfer::MAX_BYTES + 64;
}

impl Entry {
    /// Its hash (SHA3-256), which the next entry names.
    #[must_use]
    pub fn hash(&self) -> Digest {
        Digest::of(domains::JOURNAL, &[&wire::to_bytes(self)])
    }
}

/// The end of the journal: two ledgers with equal heads hold the same history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[non_exhaustive]
pub struct Head {
    /// Number of entries.
    #[n(0)]
    pub length: u64,
    /// Hash of the last entry.
    #[n(1)]
    pub hash: Digest,
}

impl Wire for Head {
    const MAX_BYTES: usize = 64;
}

impl Head {
    /// The head of an empty journal.
    #[must_use]
    pub fn genesis() -> Self {
        Self { length: 0, hash: Digest::of(domains::GENESIS, &[]) }
    }

    /// The entry that continues this head, and the head after it.
    pub(crate) fn append(self, transfer: Transfer) -> (Entry, Self) {
        let entry = Entry { index: self.length, previous: self.hash, transfer };
        (entry, Self { length: self.length + 1, hash: entry.hash() })
    }
}
