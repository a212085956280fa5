use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use nonos_identity::keystore::{KeyStore as _, OpenKeystore, SlotId};

use super::super::{CliResult, DataDir, print_json};
use super::means::Unlock;
use super::{Anchor, Bytes, Place, entropy, json_slot, not_opened, print_slot, write_new};

/// Write a copy of the keystore, read it back and check that it opens
///
/// With --slot the copy opens with the named slots only: a backup in a bank safe need not open
/// with the everyday passphrase. The copy holds all keys of the node, encrypted. It does not hold
/// the log of used execution slots; a restored node skips the epoch it starts in.
#[derive(Debug, Args)]
#[command(after_help = "Examples:  nonos key backup /media/usb/node.nnks
           nonos key backup safe.nnks --slot 3f2a91c05be47d18")]
pub(in super::super) struct Backup {
    /// Where to write; an existing file is not replaced
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Slot that opens the copy, as `nonos key slots list` names it; may be repeated
    #[arg(long, value_name = "ID")]
    slot: Vec<SlotId>,
    #[command(flatten)]
    data_dir: DataDir,
    #[command(flatten)]
    unlock: Unlock,
    #[command(flatten)]
    anchor: Anchor,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Backup {
    pub(super) fn run(self) -> CliResult {
        let place = Place::new(&self.data_dir.data_dir, &self.anchor);
        let open = place.open(&self.unlock)?;
        let bytes = if self.slot.is_empty() {
            place.store.load()?.ok_or("the keystore is gone")?
        } else {
            open.copy(&self.slot, &entropy()?)?
        };
        write_new(&self.file, &bytes)?;
        let written = Bytes::read(&self.file)?;
        let slots = open.check_copy(&written.0).map_err(|error| not_opened(&self.file, &error))?;
        // Once more as a stranger would, if what opened the keystore opens the copy.
        if slots.iter().any(|slot| slot.id == open.slot()) {
            OpenKeystore::open(&written, &*self.unlock.source()?)
                .map_err(|error| not_opened(&self.file, &error))?;
        }
        if self.json {
            let slots: Vec<_> = slots.iter().map(json_slot).collect();
            print_json(&serde_json::json!({
                "node": open.identity().node_id(),
                "file": self.file,
                "generation": open.generation(),
                "slots": slots,
            }))?;
            return Ok(ExitCode::SUCCESS);
        }
        println!(
            "wrote {} and read it back: it holds the keys of {}",
            self.file.display(),
            open.identity().node_id()
        );
        println!("it opens with:");
        slots.iter().for_each(print_slot);
        println!("bring it back with: nonos key restore {}", self.file.display());
        Ok(ExitCode::SUCCESS)
    }
}
