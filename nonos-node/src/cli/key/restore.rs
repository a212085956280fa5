use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use nonos_identity::keystore::{FileKeyStore, KeyStore as _, OpenKeystore, StorageError};
use nonos_node::init;

use super::super::{CliResult, DataDir, print_json};
use super::means::Unlock;
use super::{Bytes, json_slot, not_opened, print_slot};

/// Make a keystore from a backup that opens
///
/// An existing keystore is never replaced.
///
/// Never run two nodes from one backup: they would sign with the same execution slots and prove
/// each other a fault. Slots that were removed after the backup open it again.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:  nonos key restore node.nnks --data-dir nonos-data --with phrase --phrase-file words.txt"
)]
pub(in super::super) struct Restore {
    /// The backup
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    data_dir: DataDir,
    #[command(flatten)]
    unlock: Unlock,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Restore {
    pub(super) fn run(self) -> CliResult {
        let data_dir = &self.data_dir.data_dir;
        let (backup, source) = (Bytes::read(&self.file)?, self.unlock.source()?);
        let open = OpenKeystore::open(&backup, &*source).map_err(|error| not_opened(&self.file, &error))?;
        init::directory(data_dir)?;
        let path = data_dir.join(init::KEYSTORE);
        let store = FileKeyStore::new(&path);
        store.create(&backup.0).map_err(|error| match error {
            StorageError::Exists => format!(
                "{} exists already and is never replaced; restore into another --data-dir, or move it away first",
                path.display()
            ),
            error => format!("cannot write {}: {error}", path.display()),
        })?;
        OpenKeystore::open(&store, &*source).map_err(|error| not_opened(&path, &error))?;
        if self.json {
            let slots: Vec<_> = open.slots().iter().map(json_slot).collect();
            print_json(&serde_json::json!({
                "node": open.identity().node_id(),
                "keystore": path,
                "generation": open.generation(),
                "slots": slots,
            }))?;
            return Ok(ExitCode::SUCCESS);
        }
        println!("node {}", open.identity().node_id());
        println!("keystore {}", path.display());
        open.slots().iter().for_each(print_slot);
        Ok(ExitCode::SUCCESS)
    }
}
