use std::process::ExitCode;

use clap::Args;
use nonos_identity::NetworkId;
use nonos_node::keys::{Rotatable, rotate};
use nonos_node::{Config, init};

use super::super::{CliResult, DataDir, Passphrase, print_json};
use super::now;

/// Takes the next generation of a key into use and lets the root certify it.
#[derive(Debug, Args)]
#[command(after_help = "Example:  nonos key rotate epoch-signer --data-dir nonos-data")]
pub(in super::super) struct Rotate {
    /// The key to replace
    key: Rotatable,
    #[command(flatten)]
    data_dir: DataDir,
    #[command(flatten)]
    passphrase: Passphrase,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Rotate {
    pub(super) fn run(self) -> CliResult {
        let data_dir = self.data_dir.data_dir;
        let network = NetworkId::from_name(&Config::load(&data_dir)?.network);
        let identity = init::identity(&data_dir, &self.passphrase.read()?)?;
        let rotated = rotate(&data_dir, &identity, self.key, &network, now())?;
        let role = self.key.role();
        if self.json {
            print_json(&serde_json::json!({
                "role": role.to_string(),
                "generation": rotated.generation,
                "key": rotated.key,
                "serial": rotated.certificate.serial(),
                "not_after": rotated.certificate.not_after(),
                "certificate": rotated.path,
                "earlier_serials": rotated.earlier,
            }))?;
            return Ok(ExitCode::SUCCESS);
        }
        println!("{role} generation {}: {}", rotated.generation, rotated.key);
        println!("certificate {} in {}", rotated.certificate.serial(), rotated.path.display());
        if !rotated.earlier.is_empty() {
            let serials: Vec<_> = rotated.earlier.iter().map(u64::to_string).collect();
            println!(
                "earlier keys are certified still; if one may be stolen: nonos key revoke {}",
                serials.join(" ")
            );
        }
        println!("a running node uses the new key after its next start");
        Ok(ExitCode::SUCCESS)
    }
}
