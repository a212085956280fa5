mod open_receipt;
mod revoke;
mod rotate;

use std::time::SystemTime;

use clap::Subcommand;
use nonos_identity::Timestamp;

use super::CliResult;

#[derive(Debug, Subcommand)]
pub(super) enum Key {
    /// Take the next generation of a key into use, with a new certificate
    ///
    /// A role key that may be known to somebody else is replaced in two steps: rotate it, then revoke
    /// the serials that this command names, for the old key is certified until then. The node uses
    /// the new key from its next start on; a new onion key is a new address. The root key does not
    /// change: whoever lost it starts a new node.
    Rotate(rotate::Rotate),
    /// Sign the next revocation list
    ///
    /// The list holds what the one before held and the new serials, and is signed by the root key.
    /// Whoever gets it refuses these certificates at once; whoever does not, refuses them when they
    /// expire, at most 30 days after they were issued. A revocation cannot be taken back.
    Revoke(revoke::Revoke),
    /// Open a receipt that was disclosed to this node
    ///
    /// The executor names the X25519 key that --show-key prints in `auditors` of its config.toml; its
    /// node then writes a file for each run into disclosures/. Opening it checks, offline, that the
    /// receipt was signed by a one-run key, that this key is in the tree the executor's epoch signer
    /// signed, and that its root key certified that signer. It does not check the receipt's proof.
    /// What it shows proves to others, too, who ran: keep it to yourself.
    OpenReceipt(open_receipt::OpenReceipt),
}

impl Key {
    pub(super) fn run(self) -> CliResult {
        match self {
            Self::Rotate(command) => command.run(),
            Self::Revoke(command) => command.run(),
            Self::OpenReceipt(command) => command.run(),
        }
    }
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_secs(since.as_secs())
}
