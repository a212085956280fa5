mod backup;
mod init;
mod means;
mod open_receipt;
mod restore;
mod revoke;
mod rotate;
mod show;
mod slots;

use std::error::Error;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use clap::{Args, Subcommand};
use nonos_identity::Timestamp;
use nonos_identity::keystore::{
    Entropy, FileAnchor, FileKeyStore, KekError, KeyStore, Keystore, OpenError, OpenKeystore, SlotInfo,
    StorageError,
};
use zeroize::Zeroizing;

use self::means::Unlock;
use super::CliResult;

#[derive(Debug, Subcommand)]
pub(super) enum Key {
    Init(init::Init),
    Show(show::Show),
    /// List, add, remove or renew what opens the keystore
    #[command(subcommand)]
    Slots(slots::Slots),
    Backup(backup::Backup),
    Restore(restore::Restore),
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
    /// node then writes a file for each run into disclosures/ and leaves a copy with the payer of the
    /// run, where --receipt fetches it without a word on who ran. Opening it checks, offline, that the
    /// receipt was signed by a one-run key, that this key is in the tree the executor's epoch signer
    /// signed, and that its root key certified that signer. It does not check the receipt's proof.
    /// What it shows proves to others, too, who ran: keep it to yourself.
    OpenReceipt(open_receipt::OpenReceipt),
}

impl Key {
    pub(super) fn run(self) -> CliResult {
        if let Err(error) = nonos_identity::memory::deny_dumps() {
            tracing::warn!(%error, "a core dump of this process would hold keys");
        }
        match self {
            Self::Init(command) => command.run(),
            Self::Show(command) => command.run(),
            Self::Slots(command) => command.run(),
            Self::Backup(command) => command.run(),
            Self::Restore(command) => command.run(),
            Self::Rotate(command) => command.run(),
            Self::Revoke(command) => command.run(),
            Self::OpenReceipt(command) => command.run(),
        }
    }
}

/// Where the newest generation of the keystore is remembered.
#[derive(Debug, Args)]
struct Anchor {
    /// File that remembers the newest generation, to notice an older copy of the keystore; keep
    /// it where whoever could put back a copy cannot reach it
    #[arg(long, value_name = "FILE")]
    anchor: Option<PathBuf>,
    /// Make the anchor file: from now on it remembers
    #[arg(long, requires = "anchor")]
    start_anchor: bool,
}

/// A keystore file and its anchor.
struct Place {
    path: PathBuf,
    store: FileKeyStore,
    anchor: Option<FileAnchor>,
    starts_anchor: bool,
}

impl Place {
    fn new(data_dir: &Path, anchor: &Anchor) -> Self {
        let path = data_dir.join(nonos_node::init::KEYSTORE);
        let store = FileKeyStore::new(&path);
        let starts_anchor = anchor.start_anchor;
        Self { path, store, anchor: anchor.anchor.as_ref().map(FileAnchor::new), starts_anchor }
    }

    fn open(&self, unlock: &Unlock) -> Result<OpenKeystore<'_>, Box<dyn Error>> {
        let source = unlock.source()?;
        let opened = match &self.anchor {
            Some(anchor) if self.starts_anchor => {
                OpenKeystore::open(&self.store, &*source).and_then(|open| open.anchor_to(anchor))
            }
            Some(anchor) => OpenKeystore::open_anchored(&self.store, &*source, anchor),
            None => OpenKeystore::open(&self.store, &*source),
        };
        opened.map_err(|error| not_opened(&self.path, &error))
    }
}

/// Why a keystore does not open, and what to do about it.
fn not_opened(path: &Path, error: &OpenError) -> Box<dyn Error> {
    use nonos_identity::keystore::AnchorError;
    let advice = match error {
        OpenError::Passphrase
        | OpenError::WrongKey(_)
        | OpenError::NoPassphraseSlot
        | OpenError::NoSlot(_) => "`nonos key slots list` tells what opens it; choose by --with",
        OpenError::Storage(StorageError::Missing) => {
            "make one with `nonos key init`, or bring one back with `nonos key restore FILE`"
        }
        OpenError::Storage(StorageError::Permissions(_)) => "chmod 600 it, if nobody else may have read it",
        OpenError::Malformed | OpenError::Altered => {
            "bring a backup back with `nonos key restore FILE` into another directory"
        }
        OpenError::RolledBack { .. } => {
            "somebody put an older copy back; a slot that was removed since opens it again. If that was you, \
             start a new anchor with --start-anchor in another file"
        }
        OpenError::Anchor(AnchorError::Missing) => {
            "if it is the first time, add --start-anchor; otherwise somebody took the anchor away"
        }
        OpenError::Source(KekError::Refused(_)) => {
            "open it by another slot, chosen by --with, and renew this one: `nonos key slots rewrap`"
        }
        _ => "nothing was changed",
    };
    let (mut causes, mut cause) = (String::new(), error.source());
    while let Some(error) = cause {
        causes += &format!(": {error}");
        cause = error.source();
    }
    format!("cannot open the keystore {}: {error}{causes}\n  {advice}", path.display()).into()
}

/// Bytes that are read only: a backup.
struct Bytes(Vec<u8>);

impl Bytes {
    fn read(path: &Path) -> Result<Self, Box<dyn Error>> {
        let cannot = |error: std::io::Error| format!("cannot read {}: {error}", path.display());
        let mut bytes = Vec::new();
        let limit = Keystore::MAX_BYTES as u64 + 1;
        File::open(path).map_err(cannot)?.take(limit).read_to_end(&mut bytes).map_err(cannot)?;
        Ok(Self(bytes))
    }
}

impl KeyStore for Bytes {
    fn load(&self) -> Result<Option<Vec<u8>>, StorageError> {
        Ok(Some(self.0.clone()))
    }

    fn create(&self, _: &[u8]) -> Result<(), StorageError> {
        Err(StorageError::Exists)
    }

    fn replace(&self, _: &[u8], _: &[u8]) -> Result<(), StorageError> {
        Err(StorageError::Changed)
    }
}

/// Writes a file, mode 0600, durably; one that exists is never replaced.
fn write_new(path: &Path, bytes: &[u8]) -> Result<(), Box<dyn Error>> {
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()));
    written.map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => {
            format!("{} exists already and is not replaced; name another file", path.display()).into()
        }
        _ => format!("cannot write {}: {error}", path.display()).into(),
    })
}

fn random<const N: usize>() -> Result<Zeroizing<[u8; N]>, Box<dyn Error>> {
    let mut bytes = Zeroizing::new([0; N]);
    getrandom::fill(&mut *bytes).map_err(|error| format!("the system has no randomness: {error}"))?;
    Ok(bytes)
}

fn entropy() -> Result<Entropy, Box<dyn Error>> {
    random()
}

fn json_slot(slot: &SlotInfo) -> serde_json::Value {
    serde_json::json!({
        "id": slot.id,
        "kind": slot.kind.to_string(),
        "label": slot.label.as_ref().map(ToString::to_string),
        "created": slot.created,
    })
}

fn print_slot(slot: &SlotInfo) {
    let label = slot.label.as_ref().map_or("-", |label| label.as_str());
    let created = slot.created.map_or_else(|| "with the keystore".to_owned(), |at| format!("at {at}"));
    println!("slot {}  {:<16} {label}  ({created})", slot.id, slot.kind);
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_secs(since.as_secs())
}
