use std::process::ExitCode;

use clap::Args;
use nonos_node::{Config, init};

use super::{CliResult, DataDir, Passphrase, print_json};

/// Creates a node: an encrypted keystore and a settings file. Never replaces an existing one.
#[derive(Debug, Args)]
pub(super) struct Init {
    #[command(flatten)]
    data_dir: DataDir,
    #[command(flatten)]
    passphrase: Passphrase,
    /// Name of the mesh; nodes of different meshes never talk
    #[arg(long, default_value = "nonos-local", value_name = "NAME")]
    network: String,
    /// Address to listen on, as multiaddr; port 0 lets the system choose
    #[arg(long, default_value = "/ip4/127.0.0.1/tcp/0", value_name = "MULTIADDR")]
    listen: Vec<String>,
    /// Run the capsules of accepted jobs and prove what ran
    #[arg(long)]
    executor: bool,
    /// Accept keys from the published seed, with which anybody can forge proofs, until a ceremony made some
    #[arg(long)]
    allow_insecure_dev_keys: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Init {
    pub(super) fn run(self) -> CliResult {
        let passphrase = self.passphrase.read()?;
        let mut config = Config {
            network: self.network,
            listen: self.listen,
            allow_insecure_dev_keys: self.allow_insecure_dev_keys,
            ..Config::default()
        };
        config.roles.executor = self.executor;
        let identity = init::create(&self.data_dir.data_dir, &passphrase, &config)?;
        config.save(&self.data_dir.data_dir)?;
        let node = identity.node_id();
        if self.json {
            print_json(&serde_json::json!({ "node": node, "data_dir": self.data_dir.data_dir }))?;
        } else {
            println!("node {node}");
            println!("keys and settings are in {}", self.data_dir.data_dir.display());
            println!("next: nonos run --data-dir {}", self.data_dir.data_dir.display());
        }
        Ok(ExitCode::SUCCESS)
    }
}
