use std::process::ExitCode;

use clap::Args;
use nonos_identity::{NetworkId, OnionAddress, OnionNetwork, Role};
use nonos_node::Config;
use nonos_node::keys::{Generations, Rotatable};

use super::super::{CliResult, DataDir, print_json};
use super::means::Unlock;
use super::{Anchor, Place, json_slot, print_slot};

/// Show the node id, the onion address, the public keys and what opens the keystore
///
/// All keys shown are public halves. The transport key belongs to the network of the settings;
/// without settings none is shown.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:  nonos key show --data-dir nonos-data --with phrase --phrase-file words.txt"
)]
pub(in super::super) struct Show {
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

impl Show {
    pub(super) fn run(self) -> CliResult {
        let data_dir = &self.data_dir.data_dir;
        let place = Place::new(data_dir, &self.anchor);
        let open = place.open(&self.unlock)?;
        let identity = open.identity();
        let generations = Generations::load(data_dir)?;
        let onion = generations.key(identity, Rotatable::Onion).public();
        let onion_address = OnionAddress::new(OnionNetwork::Mesh, onion);
        let mut keys = vec![
            (Role::RootSign, identity.root_key().public().to_string()),
            (Role::Onion, onion.to_string()),
            (Role::EpochSigner, generations.key(identity, Rotatable::EpochSigner).public().to_string()),
            (Role::StaticX25519, data_encoding::HEXLOWER.encode(&identity.static_secret(0).public())),
            (Role::Author, identity.signing_key(Role::Author, 0).public().to_string()),
            (Role::Settlement, identity.signing_key(Role::Settlement, 0).public().to_string()),
        ];
        if let Ok(config) = Config::load(data_dir) {
            let network = NetworkId::from_name(&config.network);
            keys.insert(1, (Role::Transport, identity.transport_key(&network).public().to_string()));
        }
        if self.json {
            let slots: Vec<_> = open.slots().iter().map(json_slot).collect();
            let keys: serde_json::Map<_, _> =
                keys.into_iter().map(|(role, key)| (role.to_string(), key.into())).collect();
            print_json(&serde_json::json!({
                "node": identity.node_id(),
                "onion_address": onion_address,
                "created": open.created(),
                "generation": open.generation(),
                "keys": keys,
                "slots": slots,
            }))?;
            return Ok(ExitCode::SUCCESS);
        }
        println!("node {}", identity.node_id());
        println!("onion {onion_address}");
        for (role, key) in keys {
            println!("key {role:<14} {key}");
        }
        println!("keystore of {}, changed {} times", open.created(), open.generation());
        open.slots().iter().for_each(print_slot);
        Ok(ExitCode::SUCCESS)
    }
}
