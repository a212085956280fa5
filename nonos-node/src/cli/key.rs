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
    Rotate(rotate::Rotate),
    /// Sign the next revocation list
    Revoke(revoke::Revoke),
    /// Open a receipt that was disclosed to this node
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
