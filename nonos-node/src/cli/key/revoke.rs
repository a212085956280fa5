use std::process::ExitCode;

use clap::Args;
use nonos_identity::{Expiry, NetworkId};
use nonos_node::keys::{REVOCATION, certificates, revocation, revoke};
use nonos_node::{Config, init};

use super::super::{CliResult, DataDir, Passphrase, print_json};
use super::now;

/// Signs the next revocation list of this node; without serials, shows what could be revoked.
#[derive(Debug, Args)]
#[command(after_help = "Examples:  nonos key revoke\n           nonos key revoke 1777777777")]
pub(in super::super) struct Revoke {
    /// Serials of certificates, as `nonos key revoke` without any shows them
    #[arg(value_name = "SERIAL")]
    serials: Vec<u64>,
    #[command(flatten)]
    data_dir: DataDir,
    #[command(flatten)]
    passphrase: Passphrase,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Revoke {
    pub(super) fn run(self) -> CliResult {
        let data_dir = &self.data_dir.data_dir;
        let network = NetworkId::from_name(&Config::load(data_dir)?.network);
        if self.serials.is_empty() {
            return self.show(&network);
        }
        let identity = init::identity(data_dir, &self.passphrase.read()?)?;
        let list = revoke(data_dir, &identity.root_key(), &self.serials, &network, now())?;
        let path = data_dir.join(REVOCATION);
        if self.json {
            print_json(&serde_json::json!({
                "seq": list.seq(),
                "serials": list.serials(),
                "next_update": list.next_update(),
                "digest": list.digest(),
                "path": path,
            }))?;
        } else {
            println!("revocation list {} of node {}", list.seq(), list.node().short());
            println!(
                "{} serials revoked; the next list is due by {}",
                list.serials().len(),
                list.next_update()
            );
            println!(
                "give {} to those who trust this node: it does not travel by itself yet",
                path.display()
            );
        }
        Ok(ExitCode::SUCCESS)
    }

    fn show(&self, network: &NetworkId) -> CliResult {
        let (data_dir, now) = (&self.data_dir.data_dir, now());
        let list = revocation(data_dir, network, now)?;
        let known = certificates(data_dir)?;
        let is_revoked = |serial| list.as_ref().is_some_and(|list| list.serials().contains(&serial));
        if self.json {
            let rows: Vec<_> = known
                .iter()
                .map(|it| {
                    serde_json::json!({
                        "serial": it.serial(),
                        "role": it.role().to_string(),
                        "key": it.subject(),
                        "not_after": it.not_after(),
                        "expiry": Expiry::of(it.not_after(), now).to_string(),
                        "revoked": is_revoked(it.serial()),
                    })
                })
                .collect();
            print_json(&rows)?;
            return Ok(ExitCode::SUCCESS);
        }
        if known.is_empty() {
            println!("no certificates are known; a node keeps those it starts with in certificates/");
        }
        for it in &known {
            let state = if is_revoked(it.serial()) {
                "revoked".into()
            } else {
                Expiry::of(it.not_after(), now).to_string()
            };
            println!(
                "{}  {:<13}  {}  until {}  {state}",
                it.serial(),
                it.role(),
                it.subject().node_id().short(),
                it.not_after()
            );
        }
        Ok(ExitCode::SUCCESS)
    }
}
