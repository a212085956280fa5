use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use data_encoding::HEXLOWER;
use nonos_identity::wire::{self, Wire as _};
use nonos_identity::{NetworkId, Revocation, Unverified, Verified};
use nonos_node::records::Disclosure;
use nonos_node::{Config, init};

use super::super::{CliResult, DataDir, Passphrase, print_json};
use super::now;

/// Opens a receipt that its executor disclosed to this node as an authorised verifier.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:  nonos key open-receipt --show-key\n           nonos key open-receipt 3f0a.disclosure --revocation revocation.list"
)]
pub(in super::super) struct OpenReceipt {
    /// The disclosure
    #[arg(value_name = "FILE", required_unless_present = "show_key")]
    file: Option<PathBuf>,
    /// Print the X25519 key of this node, for executors to disclose to
    #[arg(long, conflicts_with = "file")]
    show_key: bool,
    /// Revocation list of the executor's root; a receipt under a revoked signer is refused
    #[arg(long, value_name = "LIST")]
    revocation: Option<PathBuf>,
    /// Generation of the X25519 key that it was sealed to
    #[arg(long, default_value_t = 0)]
    generation: u32,
    #[command(flatten)]
    data_dir: DataDir,
    #[command(flatten)]
    passphrase: Passphrase,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl OpenReceipt {
    pub(super) fn run(self) -> CliResult {
        let identity = init::identity(&self.data_dir.data_dir, &self.passphrase.read()?)?;
        let secret = identity.static_secret(self.generation);
        let Some(file) = &self.file else {
            let key = HEXLOWER.encode(&secret.public());
            if self.json {
                print_json(&serde_json::json!({ "x25519": key, "generation": self.generation }))?;
            } else {
                println!("{key}");
            }
            return Ok(ExitCode::SUCCESS);
        };
        let disclosure: Disclosure = wire::from_bytes(&read(file, Disclosure::MAX_BYTES)?)
            .map_err(|error| format!("{} is no disclosure: {error}", file.display()))?;
        let network = NetworkId::from_name(&Config::load(&self.data_dir.data_dir)?.network);
        let revocation = self.revocation.as_ref().map(|path| list(path, &network)).transpose()?;
        let (body, opening) = disclosure
            .open(&secret, &network, revocation.as_ref())
            .map_err(|error| format!("{} discloses nothing: {error}", file.display()))?;
        let (statement, run) = (&body.statement, &opening.run);
        if self.json {
            print_json(&serde_json::json!({
                "node": run.node,
                "onion": run.onion,
                "peer": run.peer,
                "epoch": run.epoch,
                "slot": run.slot,
                "capsule": statement.capsule_id,
                "exec_key": statement.exec_key,
                "timestamp": body.timestamp,
                "head": opening.head.digest(),
                "certificate": opening.certificate.serial(),
                "revocation_checked": revocation.is_some(),
            }))?;
            return Ok(ExitCode::SUCCESS);
        }
        println!("node        {}", run.node);
        println!("onion       {}", run.onion);
        println!("transport   {}", run.peer);
        println!("epoch       {}, slot {}", run.epoch, run.slot);
        println!("capsule     {}", statement.capsule_id);
        println!("signed      at {} by one-run key {}", body.timestamp, statement.exec_key.node_id().short());
        println!(
            "chain       receipt, execution key, epoch head, epoch signer {}, root: holds",
            opening.certificate.serial()
        );
        let checked =
            if revocation.is_some() { "not on the list given" } else { "not checked; give --revocation" };
        println!("revocation  {checked}");
        Ok(ExitCode::SUCCESS)
    }
}

fn list(path: &PathBuf, network: &NetworkId) -> Result<Verified<Revocation>, Box<dyn std::error::Error>> {
    let failed = |error: &dyn std::fmt::Display| format!("{} is no revocation list: {error}", path.display());
    let list: Revocation =
        wire::from_bytes(&read(path, Revocation::MAX_BYTES)?).map_err(|error| failed(&error))?;
    Ok(Unverified::new(list).check_issued(network, now()).map_err(|error| failed(&error))?)
}

/// Reads a file of at most `limit` bytes: whoever sent it cannot fill the memory.
fn read(path: &PathBuf, limit: usize) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    use std::io::Read as _;
    let file =
        std::fs::File::open(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let mut bytes = Vec::new();
    file.take(limit as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}
