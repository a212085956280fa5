use core::fmt;

use minicbor::{Decode, Encode};
use nonos_identity::NodeId;
use nonos_identity::wire::{self, Wire};

use crate::amount::{Amount, Balance};

/// Whose account it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum AccountId {
    /// A node known by its root key.
    #[n(0)]
    Node(#[n(0)] NodeId),
    /// A one-run execution key or another name that must not lead back to a node, 32 bytes.
    #[n(1)]
    Pseudonym(#[cbor(n(0), with = "minicbor::bytes")] [u8; 32]),
    /// An account of the ledger's own.
    #[n(2)]
    System(#[n(0)] SystemAccount),
}

/// The ledger's own accounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(index_only)]
#[non_exhaustive]
pub enum SystemAccount {
    /// Counter-account of opening balances; a debt here is money that came in from outside.
    #[n(0)]
    Opening,
    /// What rounding left over.
    #[n(1)]
    Rounding,
    /// Fees that belong to nobody in particular, such as a bounty without a verifier.
    #[n(2)]
    Treasury,
    /// Counter-account of what left for or came from a settlement chain.
    #[n(3)]
    Settlement,
}

impl Wire for AccountId {
    const MAX_BYTES: usize = 40;
}

impl AccountId {
    /// The key of its row.
    pub(crate) fn to_row_key(self) -> Vec<u8> {
        wire::to_bytes(&self)
    }
}

impl From<NodeId> for AccountId {
    fn from(id: NodeId) -> Self {
        Self::Node(id)
    }
}

impl From<SystemAccount> for AccountId {
    fn from(account: SystemAccount) -> Self {
        Self::System(account)
    }
}

/// Prints `node:`, `key:` or `system:` and the name; the first sixteen hexadecimal digits of a key.
impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut short = |prefix: &str, bytes: &[u8; 32]| {
            f.write_str(prefix)?;
            bytes.iter().take(8).try_for_each(|byte| write!(f, "{byte:02x}"))
        };
        match self {
            Self::Node(id) => short("node:", id.as_bytes()),
            Self::Pseudonym(bytes) => short("key:", bytes),
            Self::System(account) => write!(f, "system:{}", account.name()),
        }
    }
}

impl fmt::Debug for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AccountId({self})")
    }
}

impl SystemAccount {
    /// Its name in text.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Opening => "opening",
            Self::Rounding => "rounding",
            Self::Treasury => "treasury",
            Self::Settlement => "settlement",
        }
    }
}

/// The four totals of an account; they only ever grow, but for the pending ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Account {
    /// Sum of final debits.
    #[n(0)]
    pub debits_posted: Amount,
    /// Sum of final credits.
    #[n(1)]
    pub credits_posted: Amount,
    /// Debits reserved by pending transfers.
    #[n(2)]
    pub debits_pending: Amount,
    /// Credits promised by pending transfers.
    #[n(3)]
    pub credits_pending: Amount,
}

impl Wire for Account {
    const MAX_BYTES: usize = 80;
}

impl Account {
    /// Final credits less final debits.
    #[must_use]
    pub const fn balance(&self) -> Balance {
        Balance::between(self.credits_posted, self.debits_posted)
    }

    /// What the account would owe if every pending debit became final and no pending credit did.
    #[must_use]
    pub fn exposure(&self) -> Amount {
        let debits = self.debits_posted.plus(self.debits_pending).unwrap_or(Amount::MAX);
        debits.checked_sub(self.credits_posted).unwrap_or(Amount::ZERO)
    }
}
