//! The domain-separation strings of this crate.

use nonos_identity::Domain;

/// Hash of a receipt and a leg into a transfer id.
pub const TRANSFER_ID: Domain = Domain::new("nonos/ledger/transfer-id/v1");
/// Link of the journal's hash chain.
pub const JOURNAL: Domain = Domain::new("nonos/ledger/journal/v1");
/// Start of the journal's hash chain.
pub const GENESIS: Domain = Domain::new("nonos/ledger/genesis/v1");
/// Signature over a price table.
pub const PRICE_TABLE: Domain = Domain::new("nonos/ledger/price-table/v1");
/// Hash of a price table into its id.
pub const PRICE_TABLE_ID: Domain = Domain::new("nonos/ledger/price-id/v1");

/// Every domain above, for the workspace-wide uniqueness test.
pub const ALL: &[Domain] = &[TRANSFER_ID, JOURNAL, GENESIS, PRICE_TABLE, PRICE_TABLE_ID];
