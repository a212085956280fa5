use std::error::Error;
use std::path::{Path, PathBuf};

use clap::Args;
use minicbor::{Decode, Encode};
use nonos_capsule::{Capsule, Execution, Image, Invocation, Preopen};
use nonos_identity::wire::{self, Wire};
use nonos_identity::{Digest, NetworkId, NodeId, Timestamp};

use super::{files_below, read, write};

/// What a run was asked and what it did: all a replay needs but the capsule and its directories.
#[derive(Encode, Decode)]
pub(super) struct Record {
    #[n(0)]
    network: NetworkId,
    #[cbor(n(1), with = "minicbor::bytes")]
    input: Vec<u8>,
    #[n(2)]
    args: Vec<String>,
    #[n(3)]
    env: Vec<(String, String)>,
    /// What it did.
    #[n(4)]
    pub(super) execution: Execution,
}

impl Wire for Record {
    const MAX_BYTES: usize = Execution::MAX_BYTES + Invocation::MAX_INPUT_BYTES + (1 << 20);
}

/// What enters a run from outside.
#[derive(Debug, Args)]
pub(super) struct Inputs {
    /// Its standard input [default: empty]
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// A variable of its environment; repeat for more
    #[arg(long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    #[command(flatten)]
    directories: Directories,
}

/// Directories that a capsule sees.
#[derive(Debug, Args)]
pub(super) struct Directories {
    /// Files it sees, as GUEST=FOLDER; it works on a copy in memory. Repeat for more
    #[arg(long, value_name = "GUEST=FOLDER")]
    dir: Vec<String>,
}

impl Directories {
    fn preopens(&self) -> Result<Vec<Preopen>, Box<dyn Error>> {
        let preopen = |given: &String| -> Result<Preopen, Box<dyn Error>> {
            let (path, folder) = given.split_once('=').ok_or("--dir takes GUEST=FOLDER")?;
            let files = files_below(Path::new(folder))?;
            Ok(Preopen { path: path.to_owned(), image: Image::from_files(files)? })
        };
        self.dir.iter().map(preopen).collect()
    }
}

impl Inputs {
    /// Equal arguments give an equal run: nothing here is drawn or read from a clock.
    pub(super) fn invocation(
        &self,
        capsule: &Capsule,
        network: NetworkId,
        args: &[String],
    ) -> Result<Invocation, Box<dyn Error>> {
        let input = self.input.as_ref().map(|path| read(path)).transpose()?.unwrap_or_default();
        let pair = |given: &String| {
            let (name, value) = given.split_once('=')?;
            Some((name.to_owned(), value.to_owned()))
        };
        let env = self.env.iter().map(pair).collect::<Option<_>>().ok_or("--env takes NAME=VALUE")?;
        let args = std::iter::once(capsule.manifest().name.clone()).chain(args.iter().cloned()).collect();
        Ok(Invocation { preopens: self.directories.preopens()?, ..asked(network, input, args, env) })
    }
}

fn asked(network: NetworkId, input: Vec<u8>, args: Vec<String>, env: Vec<(String, String)>) -> Invocation {
    let nonce = *Digest::of_bytes(&input).as_bytes();
    let base = Invocation::new(NodeId::from_bytes([0; 32]), nonce, Timestamp::from_secs(0), network);
    Invocation { input, args, env, ..base }
}

impl Record {
    pub(super) fn new(invocation: &Invocation, execution: &Execution) -> Self {
        Self {
            network: invocation.network,
            input: invocation.input.clone(),
            args: invocation.args.clone(),
            env: invocation.env.clone(),
            execution: execution.clone(),
        }
    }

    pub(super) fn save(&self, path: &Path) -> Result<(), Box<dyn Error>> {
        write(path, &wire::to_bytes(self))
    }

    pub(super) fn load(path: &Path) -> Result<Self, Box<dyn Error>> {
        wire::from_bytes(&read(path)?)
            .map_err(|error| format!("{} is no record of a run: {error}", path.display()).into())
    }

    /// What the run was asked.
    pub(super) fn invocation(&self, directories: &Directories) -> Result<Invocation, Box<dyn Error>> {
        let asked = asked(self.network, self.input.clone(), self.args.clone(), self.env.clone());
        Ok(Invocation { preopens: directories.preopens()?, ..asked })
    }
}
