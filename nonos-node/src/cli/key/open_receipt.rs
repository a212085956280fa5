use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use data_encoding::HEXLOWER;
use nonos_identity::wire::{self, Wire as _};
use nonos_identity::{Digest, NetworkId, NodeId, Revocation, Unverified, Verified};
use nonos_node::records::Disclosure;
use nonos_node::{Client, Config, Request, Response, SOCKET, init};

use super::super::{CliResult, DataDir, Passphrase, block_on, print_json};
use super::{now, write_new};

/// Opens a receipt that its executor disclosed to this node as an authorised verifier.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:  nonos key open-receipt --show-key\n           nonos key open-receipt 3f0a.disclosure --revocation revocation.list\n           nonos key open-receipt --receipt 91c4..."
)]
pub(in super::super) struct OpenReceipt {
    /// The disclosure
    #[arg(value_name = "FILE", required_unless_present_any = ["show_key", "receipt"])]
    file: Option<PathBuf>,
    /// Let the running node fetch the disclosure of this receipt over a circuit
    #[arg(long, value_name = "ID", conflicts_with_all = ["file", "show_key"])]
    receipt: Option<Digest>,
    /// The node to ask for it [default: the payer of the run]
    #[arg(long, value_name = "NODE", requires = "receipt")]
    from: Option<NodeId>,
    /// Write the fetched disclosure to this file, too
    #[arg(long, value_name = "FILE", requires = "receipt")]
    output: Option<PathBuf>,
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
        if self.show_key {
            let key = HEXLOWER.encode(&secret.public());
            if self.json {
                print_json(&serde_json::json!({ "x25519": key, "generation": self.generation }))?;
            } else {
                println!("{key}");
            }
            return Ok(ExitCode::SUCCESS);
        }
        let (bytes, name) = match (&self.file, self.receipt) {
            (Some(file), _) => (read(file, Disclosure::MAX_BYTES)?, file.display().to_string()),
            (None, Some(receipt)) => (self.fetch(receipt)?, format!("what was fetched for {receipt}")),
            (None, None) => return Err("name a file, or a receipt with --receipt".into()),
        };
        let disclosure: Disclosure =
            wire::from_bytes(&bytes).map_err(|error| format!("{name} is no disclosure: {error}"))?;
        let network = NetworkId::from_name(&Config::load(&self.data_dir.data_dir)?.network);
        let revocation = self.revocation.as_ref().map(|path| list(path, &network)).transpose()?;
        let (body, opening) = disclosure
            .open(&secret, &network, revocation.as_ref())
            .map_err(|error| format!("{name} discloses nothing: {error}"))?;
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

impl OpenReceipt {
    /// Lets the running node fetch a disclosure.
    fn fetch(&self, receipt: Digest) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
        let socket = self.data_dir.data_dir.join(SOCKET);
        let request = Request::Disclosure { receipt, from: self.from };
        let response = block_on(async { Client::connect(&socket).await?.ask(&request).await })??;
        let bytes = match response {
            Response::Disclosure { disclosure, .. } => HEXLOWER.decode(disclosure.as_bytes())?,
            Response::Error { message } => return Err(message.into()),
            _ => return Err("the node answered with something else than a disclosure".into()),
        };
        if let Some(path) = &self.output {
            write_new(path, &bytes)?;
        }
        Ok(bytes)
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
