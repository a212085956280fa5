use std::path::{Path, PathBuf};

use nonos_identity::Digest;
use nonos_zk::Profile;
use serde::{Deserialize, Serialize};

use crate::hops::Circuits;
use crate::services::OnionService;

/// What a node does beyond gossip, which every node does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Roles {
    /// Carries circuits of others, and introduces and keeps for onion services. Who offers a service that must
    /// not be found says no: clients can tell the one relay at which it never meets them.
    pub relay: bool,
    /// Serves chunks of capsules it holds.
    pub seeder: bool,
    /// Runs the capsules of the jobs it accepts and proves what it ran.
    pub executor: bool,
    /// Vouches for receipts it has verified.
    pub verifier: bool,
    /// Puts receipts that arrive through circuits into gossip.
    pub broadcaster: bool,
}

impl Default for Roles {
    fn default() -> Self {
        Self { relay: true, seeder: true, executor: false, verifier: true, broadcaster: true }
    }
}

/// Prices in nano-mod (10^-9 mod), signed by the node into its price table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Prices {
    /// Per million gas run.
    pub execution_per_mgas: u64,
    /// Per MiB served.
    pub seeding_per_mib: u64,
    /// Per receipt verified.
    pub verification: u64,
    /// Per KiB carried over one hop.
    pub relay_per_kib: u64,
}

impl Default for Prices {
    fn default() -> Self {
        Self { execution_per_mgas: 2_000, seeding_per_mib: 1_000, verification: 500, relay_per_kib: 1 }
    }
}

/// A lie that a node tells on purpose, so that a demonstration shows who catches it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Tamper {
    /// The seeder alters a byte of every chunk it serves.
    Payload,
    /// The executor sends a receipt whose proof is of another statement.
    Proof,
    /// The executor makes up a job nonce to be paid a second time.
    Nonce,
    /// The executor is not enrolled and proves membership in a tree of its own.
    Identity,
    /// The executor answers disputes with a chain that is false from this checkpoint on. The
    /// demonstration does not tell it: it takes a second executor to dispute.
    #[value(skip)]
    Checkpoint(u32),
    /// The relay shows a batch more than it carried, of each circuit. Nor is this one demonstrated: it takes a
    /// client that demands proof.
    #[value(skip)]
    Transit,
}

/// A prover module and the digest that pins it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProverModule {
    /// The module.
    pub path: PathBuf,
    /// SHA3-256 of the module, 64 hexadecimal digits. It is given the operator's secret: pin a module
    /// that you built.
    pub digest: Digest,
}

/// Settings of a node, `config.toml` in its data directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Name of the mesh. Nodes of different meshes never talk.
    pub network: String,
    /// Where it listens, as multiaddr text; port 0 lets the system choose.
    pub listen: Vec<String>,
    /// What it does.
    pub roles: Roles,
    /// What it asks for its work.
    pub prices: Prices,
    /// A tag shared by all nodes of one operator: circuits never take two of them.
    pub operator: String,
    /// Lets circuits take relays of one subnet: for one machine or one laboratory only.
    pub allow_same_subnet: bool,
    /// How many relays its own circuits take.
    pub circuits: Circuits,
    /// Onion services that it offers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub onion_services: Vec<OnionService>,
    /// Seconds between looks at a neighbour's state digests.
    pub sync_interval_secs: u64,
    /// Shortest interval between beacons, in milliseconds (RFC 6206 Imin).
    pub beacon_min_ms: u64,
    /// Which circuit it proves and verifies with; the same for all nodes of a mesh. `full` proves the
    /// payload's hash and the scalar of the identity key too, and takes some ten times as long.
    pub profile: Profile,
    /// Roots of the trees of operators that this node works for and vouches for, as `nonos operators`
    /// prints them. Without one, it goes by the tree that each commission names.
    pub operator_roots: Vec<String>,
    /// Verifying key of a ceremony, as `nonos zk ceremony verify` writes it; the same for all nodes of a mesh.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verifying_key: Option<PathBuf>,
    /// Proving keys of that ceremony; executors need them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proving_keys: Option<PathBuf>,
    /// Accepts keys of the published seed. Whoever has that seed can forge proofs.
    pub allow_insecure_dev_keys: bool,
    /// Proves by a WASM module in place of the prover that is compiled in: in walls, on one thread.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wasm_prover: Option<ProverModule>,
    /// Where proving keys are kept; shared between nodes of one machine. Default: the data directory.
    pub key_cache: Option<PathBuf>,
    /// X25519 keys of authorised verifiers, hexadecimal: for each run, the node writes a disclosure
    /// that they alone can open into `disclosures/`. Who ran is then known to them.
    pub auditors: Vec<String>,
    /// Answers for the runs of this node in disputes, to whoever asks over a circuit. An answer is
    /// signed: it tells which runs are this node's, which its receipts hide.
    pub answer_disputes: bool,
    /// For demonstrations: the lie this node tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tamper: Option<Tamper>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            network: "nonos-local".into(),
            listen: vec!["/ip4/127.0.0.1/tcp/0".into()],
            roles: Roles::default(),
            prices: Prices::default(),
            operator: String::new(),
            allow_same_subnet: true,
            circuits: Circuits::default(),
            onion_services: Vec::new(),
            sync_interval_secs: 10,
            beacon_min_ms: 2_000,
            profile: Profile::Full,
            operator_roots: Vec::new(),
            verifying_key: None,
            proving_keys: None,
            allow_insecure_dev_keys: false,
            wasm_prover: None,
            key_cache: None,
            auditors: Vec::new(),
            answer_disputes: false,
            tamper: None,
        }
    }
}

/// Why settings could not be used. The operator's to mend.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read or written.
    #[error("cannot access {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// Not an X25519 key.
    #[error(
        "auditors: {0:?} is not an X25519 key of 64 hexadecimal digits, as `nonos key open-receipt --show-key` prints it"
    )]
    Auditor(String),
    /// Not an X25519 key.
    #[error("{0:?} is not an X25519 key of 64 hexadecimal digits")]
    Key(String),
    /// The file is not valid TOML for these settings.
    #[error("{path} does not hold valid settings: {message}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        message: String,
    },
}

impl Config {
    /// Name of the settings file in a data directory.
    pub const FILE: &str = "config.toml";

    /// Reads the settings of a data directory.
    ///
    /// # Errors
    /// [`ConfigError`] if the file is missing or not valid.
    pub fn load(data_dir: &Path) -> Result<Self, ConfigError> {
        let path = data_dir.join(Self::FILE);
        let text = std::fs::read_to_string(&path)
            .map_err(|source| ConfigError::Io { path: path.clone(), source })?;
        toml::from_str(&text).map_err(|error| ConfigError::Invalid { path, message: error.to_string() })
    }

    /// The keys of the auditors.
    ///
    /// # Errors
    /// [`ConfigError::Auditor`] if one is not 64 lower-case hexadecimal digits.
    pub fn auditor_keys(&self) -> Result<Vec<[u8; 32]>, ConfigError> {
        let wrong = |text: &String| ConfigError::Auditor(text.clone());
        self.auditors.iter().map(|text| parse_key(text).map_err(|_| wrong(text))).collect()
    }

    /// Writes the settings into a data directory.
    ///
    /// # Errors
    /// [`ConfigError`] if the file cannot be written.
    pub fn save(&self, data_dir: &Path) -> Result<(), ConfigError> {
        let path = data_dir.join(Self::FILE);
        let text = toml::to_string_pretty(self)
            .map_err(|error| ConfigError::Invalid { path: path.clone(), message: error.to_string() })?;
        std::fs::write(&path, text).map_err(|source| ConfigError::Io { path, source })
    }
}

/// 64 hexadecimal digits.
pub(crate) fn parse_key(text: &str) -> Result<[u8; 32], ConfigError> {
    let digest: Result<Digest, _> = text.parse();
    digest.map(|it| *it.as_bytes()).map_err(|_| ConfigError::Key(text.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_round_trip_and_refuse_unknown_keys() {
        let text = toml::to_string_pretty(&Config::default()).expect("plain data");
        assert_eq!(toml::from_str::<Config>(&text).expect("own text"), Config::default());
        assert!(toml::from_str::<Config>("netwrok = \"x\"").is_err());
        let liar = Config { tamper: Some(Tamper::Checkpoint(37)), ..Config::default() };
        let text = toml::to_string_pretty(&liar).expect("plain data");
        assert_eq!(toml::from_str::<Config>(&text).expect("own text"), liar);

        let module = |digest: &str| {
            toml::from_str::<Config>(&format!("wasm_prover = {{ path = \"p.wasm\", digest = \"{digest}\" }}"))
        };
        let config = module(&"ab".repeat(32)).expect("a pinned module");
        let text = toml::to_string_pretty(&config).expect("plain data");
        assert_eq!(toml::from_str::<Config>(&text).expect("own text"), config);
        assert!(module("ab").is_err(), "a digest cut short pins nothing");
        assert!(toml::from_str::<Config>("wasm_prover = { path = \"p.wasm\" }").is_err(), "nothing pinned");
    }
}
