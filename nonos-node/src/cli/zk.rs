//! Keys and receipts in the hands of their operators: setup ceremony, export, check.

mod ceremony;
mod export;
mod verify;

use std::error::Error;
use std::fs::{File, Permissions};
use std::io::{BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use clap::{Subcommand, ValueEnum};
use nonos_identity::Envelope;
use nonos_identity::wire::{self, DecodeError, Wire as _};
use nonos_node::records::Disclosure;
use nonos_zk::groth16::VerifyingKey;
use nonos_zk::groth16::ceremony::{InitialKey, Step};
use nonos_zk::{Profile, Receipt, ReceiptBody};

use super::CliResult;

#[derive(Debug, Subcommand)]
pub(super) enum Zk {
    /// Make the keys of a circuit together, so that nobody alone can forge proofs
    ///
    /// Groth16 needs a setup with a secret; who knows all of it forges receipts. In a ceremony each
    /// party adds a secret of its own and forgets it: one that does is enough. A coordinator starts it
    /// from the powers of tau, a file of snarkjs that is the same for all circuits; the file then goes
    /// from party to party, and a public beacon closes it. Anybody can check the result.
    #[command(
        subcommand,
        after_help = "A ceremony of two:\n  \
            nonos zk ceremony new --ptau pot.ptau 0.ceremony\n  \
            nonos zk ceremony contribute 0.ceremony 1.ceremony --name ada\n  \
            nonos zk ceremony contribute 1.ceremony 2.ceremony --name bob\n  \
            nonos zk ceremony beacon 2.ceremony 3.ceremony --value $(hash of a block nobody could foresee)\n  \
            nonos zk ceremony verify --ptau pot.ptau 3.ceremony --keys lite.keys --verifying-key lite.vk"
    )]
    Ceremony(ceremony::Ceremony),
    /// Write keys and proofs for the tools of others, which check them without us
    #[command(subcommand)]
    Export(export::Export),
    /// Check a receipt against a verifying key, and say the outcome of each check
    Verify(verify::Verify),
}

impl Zk {
    pub(super) fn run(self) -> CliResult {
        match self {
            Self::Ceremony(command) => command.run(),
            Self::Export(command) => command.run(),
            Self::Verify(command) => command.run(),
        }
    }
}

/// Which circuit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum ProfileName {
    /// State, execution and identity gate; 2^13 points
    #[default]
    Lite,
}

impl ProfileName {
    const fn profile(self) -> Profile {
        match self {
            Self::Lite => Profile::Lite,
        }
    }
}

/// Tells on standard error what takes long.
fn progress(step: Step) {
    eprintln!("{step} ...");
}

fn initial_key(profile: Profile, ptau: &Path) -> Result<InitialKey, Box<dyn Error>> {
    let named = |error: &dyn Error| format!("{}: {error}", ptau.display());
    let file = File::open(ptau).map_err(|error| format!("cannot read {}: {error}", ptau.display()))?;
    Ok(InitialKey::from_ptau(profile, &mut BufReader::new(file), progress).map_err(|error| named(&error))?)
}

fn verifying_key(path: &Path) -> Result<VerifyingKey, Box<dyn Error>> {
    let key = VerifyingKey::from_bytes(&read(path, KEY_BYTES_MAX)?);
    key.map_err(|error| format!("{} is no verifying key of this version: {error}", path.display()).into())
}

/// A verifying key is far shorter; whoever sent another file cannot fill the memory.
const KEY_BYTES_MAX: usize = 64 * 1024;

/// A disclosure, which is the longer of both.
const RECEIPT_BYTES_MAX: usize = Envelope::MAX_BODY_BYTES + Disclosure::MAX_BYTES;

/// A receipt as somebody sent it: its envelope, and what it says, of which nothing is checked.
struct ReceiptFile {
    bytes: Vec<u8>,
    body: ReceiptBody,
}

impl ReceiptFile {
    /// Reads the bytes of a receipt, or takes them out of a disclosure.
    fn read(path: &Path) -> Result<Self, Box<dyn Error>> {
        let mut bytes = read(path, RECEIPT_BYTES_MAX)?;
        if let Ok(disclosure) = wire::from_bytes::<Disclosure>(&bytes) {
            bytes = disclosure.receipt.0;
        }
        let none =
            |error: &dyn Error| format!("{} is neither a receipt nor a disclosure: {error}", path.display());
        let _ = Receipt::parse(&bytes).map_err(|error| none(&error))?;
        let mut body = None;
        let _ = Envelope::parse(&bytes).map_err(|error| none(&error))?.check(|envelope| {
            body = Some(wire::from_bytes(envelope.body())?);
            Ok::<_, DecodeError>(())
        })?;
        Ok(Self { bytes, body: body.ok_or("a receipt without a body")? })
    }
}

/// Reads a file of at most `limit` bytes.
fn read(path: &Path, limit: usize) -> Result<Vec<u8>, Box<dyn Error>> {
    let cannot = |error| format!("cannot read {}: {error}", path.display());
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(cannot)?;
    file.take(limit as u64 + 1).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() > limit {
        return Err(
            format!("{} is longer than {limit} bytes, and not what it should be", path.display()).into()
        );
    }
    Ok(bytes)
}

/// Writes a file that holds all of its content or does not exist; one that exists is replaced.
fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Box<dyn Error>> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.map_or_else(|| PathBuf::from("."), Path::to_owned);
    let written = tempfile::Builder::new()
        .permissions(Permissions::from_mode(mode))
        .tempfile_in(&folder)
        .and_then(|mut file| {
            file.write_all(bytes)?;
            file.as_file().sync_all()?;
            file.persist(path).map_err(|error| error.error)?;
            File::open(&folder)?.sync_all()
        });
    written.map_err(|error| format!("cannot write {}: {error}", path.display()).into())
}

/// Of files that anybody may read, as far as the umask lets them.
const PUBLIC: u32 = 0o666;
/// Of files that others must not replace or read.
const PRIVATE: u32 = 0o600;
