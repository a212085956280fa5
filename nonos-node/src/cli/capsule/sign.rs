use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use nonos_capsule::SignerRole;
use nonos_identity::{NetworkId, Role};
use nonos_node::{Config, init};

use super::{now, unsigned, write};
use crate::cli::{CliResult, DataDir, Passphrase, print_json};

/// In which role the node signs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum As {
    /// Made it
    #[default]
    Author,
    /// Read it
    Auditor,
    /// Runs it
    Operator,
}

/// Adds a signature of the node's author key, valid from now on.
#[derive(Debug, Args)]
pub(in crate::cli) struct Sign {
    /// The capsule; replaced by its signed form
    capsule: PathBuf,
    #[command(flatten)]
    data_dir: DataDir,
    #[command(flatten)]
    passphrase: Passphrase,
    /// As what
    #[arg(long, value_enum, default_value_t)]
    role: As,
    /// For how many days
    #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u64).range(1..=3650), value_name = "DAYS")]
    days: u64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Sign {
    pub(super) fn run(self) -> CliResult {
        let data_dir = &self.data_dir.data_dir;
        let config = Config::load(data_dir)?;
        let identity = init::identity(data_dir, &self.passphrase.read()?)?;
        let mut capsule = unsigned(&self.capsule)?;
        let role = match self.role {
            As::Author => SignerRole::Author,
            As::Auditor => SignerRole::Auditor,
            As::Operator => SignerRole::Operator,
        };
        let key = identity.signing_key(Role::Author, 0);
        let lifetime = Duration::from_secs(self.days * 86_400);
        capsule.sign(role, &key, &NetworkId::from_name(&config.network), now(), lifetime)?;
        write(&self.capsule, &capsule.to_bytes())?;
        if self.json {
            print_json(&capsule.inspect())?;
        } else {
            println!("capsule {}", capsule.id());
            println!(
                "signed for network {} with {} signatures in all",
                config.network,
                capsule.signatures().len()
            );
        }
        Ok(ExitCode::SUCCESS)
    }
}
