use std::process::ExitCode;

use clap::Args;
use nonos_node::init;

use super::super::{CliResult, DataDir, Passphrase, print_json};

/// Create a keystore and nothing else
///
/// It holds a new identity, encrypted; no settings are written: it is for a machine that keeps
/// keys and runs no node.
///
/// An existing keystore is never replaced. Give it a second slot at once, so that a forgotten
/// passphrase is not the end of the node: nonos key slots add phrase.
#[derive(Debug, Args)]
#[command(after_help = "Example:  nonos key init --data-dir keys --passphrase-file pass.txt")]
pub(in super::super) struct Init {
    #[command(flatten)]
    data_dir: DataDir,
    #[command(flatten)]
    passphrase: Passphrase,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Init {
    pub(super) fn run(self) -> CliResult {
        let data_dir = self.data_dir.data_dir;
        let identity = init::create_keystore(&data_dir, &self.passphrase.read()?)?;
        let node = identity.node_id();
        if self.json {
            print_json(&serde_json::json!({ "node": node, "keystore": data_dir.join(init::KEYSTORE) }))?;
        } else {
            println!("node {node}");
            println!("keystore {}", data_dir.join(init::KEYSTORE).display());
            println!("next: nonos key slots add phrase --data-dir {}", data_dir.display());
        }
        Ok(ExitCode::SUCCESS)
    }
}
