use std::path::PathBuf;

use nonos_capsule::Compiler;
use nonos_zk::Profile;
use tempfile::TempDir;

use crate::config::{Config, Roles, Tamper};
use crate::node::Node;
use crate::{init, pack};

use super::host::Host;
use super::{DemoError, Options};

/// Who does what, and the files it takes.
pub(super) struct Plan {
    /// Holds every data directory; removed with the plan.
    root: TempDir,
    /// The signed capsule.
    pub(super) capsule: PathBuf,
    /// The capsule's input.
    pub(super) input: PathBuf,
    pub(super) tamper: Option<Tamper>,
    pub(super) profile: Profile,
    pub(super) key_cache: PathBuf,
    compiler: Compiler,
}

/// The nodes with a part of their own; all others relay, verify and broadcast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Signs, seeds and pays.
    Publisher,
    /// Fetches, runs, proves and is paid.
    Executor,
}

impl Part {
    pub(super) const fn index(self) -> usize {
        match self {
            Self::Publisher => 0,
            Self::Executor => 1,
        }
    }
}

/// The passphrase of the demonstration's throw-away keystores.
const PASSPHRASE: &str = "demonstration";
/// Name of the file that hands it to the node processes.
const PASSPHRASE_FILE: &str = "passphrase";
/// Name of the capsule's source when none is given.
const BUNDLED_NAME: &str = "rank-words";
/// The bundled capsule: ranks the words of a text.
const BUNDLED: &[u8] = include_bytes!("../../capsules/rank_words.wat");
/// The input if there is no README in the working directory.
const BUNDLED_INPUT: &str = include_str!("../../README.md");
/// What a relay is killed during: enough chunks that the transfer is still under way.
const BALLAST_BYTES: usize = 24 * 1024 * 1024;

impl Plan {
    /// Makes the directories, the publisher's keys and the signed capsule.
    pub(super) fn prepare(options: &Options) -> Result<Self, DemoError> {
        if !(Options::NODES_MIN..=Options::NODES_MAX).contains(&options.nodes) {
            return Err(DemoError::Nodes);
        }
        let root = TempDir::with_prefix("nonos-demo-")
            .map_err(|source| DemoError::Io { path: std::env::temp_dir(), source })?;
        let plan = Self {
            capsule: root.path().join("capsule.mod"),
            input: root.path().join("input"),
            tamper: options.tamper,
            profile: options.profile,
            key_cache: options.key_cache.clone().unwrap_or_else(|| root.path().join("keys")),
            compiler: options.compiler.clone(),
            root,
        };
        plan.write(plan.root.path().join(PASSPHRASE_FILE), PASSPHRASE.as_bytes())?;
        plan.prepare_input(options)?;
        plan.prepare_capsule(options)?;
        Ok(plan)
    }

    /// The node that lies, or the executor.
    pub(super) const fn culprit(&self) -> usize {
        match self.tamper {
            Some(Tamper::Payload) => Part::Publisher.index(),
            _ => Part::Executor.index(),
        }
    }

    /// Sets up and starts one node.
    pub(super) async fn boot(&self, index: usize, options: &Options) -> Result<Host, DemoError> {
        let (name, role, config) = self.part(index);
        let data_dir = self.root.path().join(&name);
        // The publisher's keys are there already if they signed the capsule.
        let identity = match init::exists(&data_dir) {
            true => init::identity(&data_dir, PASSPHRASE)?,
            false => init::create(&data_dir, PASSPHRASE, &config)?,
        };
        config.save(&data_dir).map_err(init::InitError::from)?;
        if options.processes {
            let id = identity.node_id();
            drop(identity);
            return Host::process(id, name, role, &data_dir, &self.root.path().join(PASSPHRASE_FILE)).await;
        }
        let builder = Node::builder(config, identity).data_dir(data_dir).compiler(self.compiler.clone());
        Host::task(name, role, builder).await
    }

    fn part(&self, index: usize) -> (String, String, Config) {
        let lies = self.tamper.is_some() && index == self.culprit();
        let roles = Roles {
            relay: true,
            seeder: index == Part::Publisher.index(),
            executor: index == Part::Executor.index(),
            verifier: index != Part::Executor.index(),
            broadcaster: true,
        };
        let role = match index {
            0 => "publisher, seeder, verifier",
            1 => "executor",
            _ => "relay, broadcaster, verifier",
        };
        let config = Config {
            network: "nonos-demo".into(),
            roles,
            operator: format!("operator-{index}"),
            sync_interval_secs: 1,
            beacon_min_ms: 250,
            allow_insecure_dev_keys: true,
            profile: self.profile,
            key_cache: Some(self.key_cache.clone()),
            tamper: self.tamper.filter(|_| lies),
            ..Config::default()
        };
        let lie = if lies { ", lies" } else { "" };
        (format!("node-{index}"), format!("{role}{lie}"), config)
    }

    fn prepare_input(&self, options: &Options) -> Result<(), DemoError> {
        let bytes = match &options.input {
            Some(path) => read(path)?,
            None => std::fs::read("README.md").unwrap_or_else(|_| BUNDLED_INPUT.into()),
        };
        self.write(self.input.clone(), &bytes)
    }

    fn prepare_capsule(&self, options: &Options) -> Result<(), DemoError> {
        let (name, source) = match &options.capsule {
            Some(path) => {
                let name = path.file_stem().map_or_else(|| "capsule".into(), |stem| stem.to_string_lossy());
                (name.into_owned(), read(path)?)
            }
            None => (BUNDLED_NAME.into(), BUNDLED.to_vec()),
        };
        if pack::is_capsule(&source) {
            return self.write(self.capsule.clone(), &source);
        }
        let (publisher, _, config) = self.part(Part::Publisher.index());
        let identity = init::create(&self.root.path().join(publisher), PASSPHRASE, &config)?;
        let ballast = if options.kill_relay { BALLAST_BYTES } else { 0 };
        let wasm = pack::with_ballast(pack::to_wasm(&source)?, ballast);
        let capsule = pack::pack_and_sign(&name, wasm, &identity, &config.network)?;
        self.write(self.capsule.clone(), &capsule)
    }

    fn write(&self, path: PathBuf, bytes: &[u8]) -> Result<(), DemoError> {
        std::fs::write(&path, bytes).map_err(|source| DemoError::Io { path, source })
    }
}

fn read(path: &std::path::Path) -> Result<Vec<u8>, DemoError> {
    std::fs::read(path).map_err(|source| DemoError::Io { path: path.into(), source })
}
