use std::process::ExitCode;

use clap::{Args, Subcommand};
use nonos_identity::keystore::{FileKeyStore, Keystore, Label, NewSlot, SlotId};
use nonos_node::init;

use super::super::{CliResult, DataDir, print_json};
use super::means::{Means, NewMeans, Unlock};
use super::{Anchor, Place, entropy, json_slot, not_opened, now, print_slot};

#[derive(Debug, Subcommand)]
pub(in super::super) enum Slots {
    List(List),
    Add(Add),
    Remove(Remove),
    Rewrap(Rewrap),
}

impl Slots {
    pub(super) fn run(self) -> CliResult {
        match self {
            Self::List(command) => command.run(),
            Self::Add(command) => command.run(),
            Self::Remove(command) => command.run(),
            Self::Rewrap(command) => command.run(),
        }
    }
}

/// List what opens the keystore, without opening it
///
/// Nobody has vouched for what is listed before the keystore is opened.
#[derive(Debug, Args)]
pub(in super::super) struct List {
    #[command(flatten)]
    data_dir: DataDir,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl List {
    fn run(self) -> CliResult {
        let path = self.data_dir.data_dir.join(init::KEYSTORE);
        let slots = Keystore::slots(&FileKeyStore::new(&path)).map_err(|error| not_opened(&path, &error))?;
        if self.json {
            print_json(&slots.iter().map(json_slot).collect::<Vec<_>>())?;
        } else {
            slots.iter().for_each(print_slot);
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Add something that opens the keystore
///
/// The keystore opens by whatever opened it before, and by the new slot.
///
/// phrase: 24 words are shown once, and some asked back before the slot is written; with
/// --phrase-out they go to a file instead. recovery-key: the slot opens with an X25519 key whose
/// secret half this machine need not have. token: a secret in a PKCS#11 token; the PIN is read
/// from NONOS_PIN. tpm: this machine, as long as the named PCRs stay as they are.
#[derive(Debug, Args)]
#[command(after_help = "Examples:  nonos key slots add phrase --label paper
           NONOS_NEW_PASSPHRASE=... nonos key slots add passphrase --label laptop
           nonos key slots add recovery-key --recovery-key-out /media/usb/recovery.key
           NONOS_PIN=... nonos key slots add token --module /usr/lib/softhsm/libsofthsm2.so --token nonos --make-secret")]
pub(in super::super) struct Add {
    /// What the new slot opens with
    kind: Means,
    /// What to call it; stands in the file in the clear
    #[arg(long)]
    label: Option<Label>,
    #[command(flatten)]
    data_dir: DataDir,
    #[command(flatten)]
    unlock: Unlock,
    #[command(flatten)]
    new: NewMeans,
    #[command(flatten)]
    anchor: Anchor,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Add {
    fn run(self) -> CliResult {
        let place = Place::new(&self.data_dir.data_dir, &self.anchor);
        let mut open = place.open(&self.unlock)?;
        let source = self.new.source(self.kind, &self.unlock.device, self.json)?;
        let entropy = entropy()?;
        let new = NewSlot { source: &*source, label: self.label, created: Some(now()), entropy: &entropy };
        let id = open.add(&new)?;
        done("added", id, &open.slots(), self.json)
    }
}

/// Take a slot out; the last one stays
///
/// Copies of the keystore from before keep opening with it: destroy them, or the passphrase is
/// as good as before to whoever has one.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:  nonos key slots remove 3f2a91c05be47d18 --with phrase --phrase-file words.txt"
)]
pub(in super::super) struct Remove {
    /// The slot, as `nonos key slots list` names it
    #[arg(value_name = "ID")]
    id: SlotId,
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

impl Remove {
    fn run(self) -> CliResult {
        let place = Place::new(&self.data_dir.data_dir, &self.anchor);
        let mut open = place.open(&self.unlock)?;
        open.remove(self.id, &entropy()?)?;
        done("removed", self.id, &open.slots(), self.json)
    }
}

/// Put something else in the place of a slot, in one step
///
/// Another passphrase, new words, the TPM after an update. What opened the old slot opens only older
/// copies of the keystore.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:  NONOS_NEW_PASSPHRASE=... nonos key slots rewrap 3f2a91c05be47d18 passphrase"
)]
pub(in super::super) struct Rewrap {
    /// The slot, as `nonos key slots list` names it
    #[arg(value_name = "ID")]
    id: SlotId,
    /// What it opens with from now on
    kind: Means,
    /// What to call it; otherwise it keeps its label
    #[arg(long)]
    label: Option<Label>,
    #[command(flatten)]
    data_dir: DataDir,
    #[command(flatten)]
    unlock: Unlock,
    #[command(flatten)]
    new: NewMeans,
    #[command(flatten)]
    anchor: Anchor,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Rewrap {
    fn run(self) -> CliResult {
        let place = Place::new(&self.data_dir.data_dir, &self.anchor);
        let mut open = place.open(&self.unlock)?;
        if !open.slots().iter().any(|slot| slot.id == self.id) {
            return Err(format!("there is no slot {}; `nonos key slots list` names them", self.id).into());
        }
        let source = self.new.source(self.kind, &self.unlock.device, self.json)?;
        let entropy = entropy()?;
        let new = NewSlot { source: &*source, label: self.label, created: Some(now()), entropy: &entropy };
        let id = open.rewrap(self.id, &new)?;
        done("renewed", id, &open.slots(), self.json)
    }
}

fn done(what: &str, id: SlotId, slots: &[nonos_identity::keystore::SlotInfo], json: bool) -> CliResult {
    if json {
        let slots: Vec<_> = slots.iter().map(json_slot).collect();
        print_json(&serde_json::json!({ what: id, "slots": slots }))?;
    } else {
        println!("{what} {id}; the keystore opens with:");
        slots.iter().for_each(print_slot);
    }
    Ok(ExitCode::SUCCESS)
}
