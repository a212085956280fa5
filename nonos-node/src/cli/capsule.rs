//! Making, checking and running capsules, one file for each verb.

mod bench;
mod build;
mod check;
mod disclose;
mod dispute;
mod fields;
mod inspect;
mod new;
mod open;
mod pack;
mod recipe;
mod record;
mod replay;
mod run;
mod sign;
mod verify;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use clap::{Args, Subcommand, ValueEnum};
use nonos_capsule::{
    AotCache, Capsule as Module, CapsuleStore as _, CheckSigned as _, FileCapsuleStore, Loaded, Policy,
    Resolved, Runtime, SignaturePolicy, WasmiEngine,
};
use nonos_identity::{NetworkId, Timestamp, Unverified, Verified};

use super::CliResult;

#[derive(Debug, Subcommand)]
pub(super) enum Capsule {
    /// Start a capsule: a folder with sources and capsule.toml
    New(new::New),
    /// Compile and pack the capsule of a folder
    Build(build::Build),
    /// Say whether a module can be a capsule, and if not, what to change where
    Check(check::Check),
    /// Pack a module, or the files of a folder, into an unsigned .mod
    Pack(pack::Pack),
    /// Sign a .mod with the node's key for a role
    Sign(sign::Sign),
    /// Show what a .mod says of itself; checks nothing but its format
    Inspect(inspect::Inspect),
    /// List the hidden fields of a .mod and who may see them
    Fields(fields::Fields),
    /// Disclose hidden fields: let the node show them by their rules, or write one to a file
    Disclose(disclose::Disclose),
    /// Open hidden fields of a capsule: ask a node for them, or read one from a file
    Open(open::Open),
    /// Check format, digests, signatures and attestations of a .mod
    Verify(verify::Verify),
    /// Run a .mod here, outside of any mesh
    Run(run::Run),
    /// Run again what a record tells, and name the first checkpoint that differs
    Replay(replay::Replay),
    /// Find where two nodes differ about one run, and who is wrong
    Dispute(dispute::Dispute),
    /// Time verification, loading, start and run of a .mod
    Bench(bench::Bench),
}

impl Capsule {
    pub(super) fn run(self) -> CliResult {
        match self {
            Self::New(command) => command.run(),
            Self::Build(command) => command.run(),
            Self::Check(command) => command.run(),
            Self::Pack(command) => command.run(),
            Self::Sign(command) => command.run(),
            Self::Inspect(command) => command.run(),
            Self::Fields(command) => command.run(),
            Self::Disclose(command) => command.run(),
            Self::Open(command) => command.run(),
            Self::Verify(command) => command.run(),
            Self::Run(command) => command.run(),
            Self::Replay(command) => command.run(),
            Self::Dispute(command) => command.run(),
            Self::Bench(command) => command.run(),
        }
    }
}

/// Whose signatures count.
#[derive(Debug, Args)]
struct Trust {
    /// Name of the mesh the signatures must be for
    #[arg(long, default_value = "nonos-local", value_name = "NAME")]
    network: String,
}

impl Trust {
    fn network(&self) -> NetworkId {
        NetworkId::from_name(&self.network)
    }

    fn rule(&self) -> SignaturePolicy {
        SignaturePolicy::new(self.network())
    }

    /// Reads and checks a signed capsule.
    fn capsule(&self, path: &Path) -> Result<Verified<Module>, Box<dyn Error>> {
        let checked = parse(path)?.check_signed(&self.rule(), now());
        checked.map_err(|error| {
            format!("{} does not verify for network {}: {error}", path.display(), self.network).into()
        })
    }
}

/// What executes the WASM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum EngineName {
    /// Compiles to machine code
    #[default]
    Wasmtime,
    /// Interprets: no compilation, runs four to fourteen times slower, must give the same result
    Wasmi,
}

/// How a capsule is loaded.
#[derive(Debug, Args)]
struct Load {
    #[command(flatten)]
    trust: Trust,
    /// A signed .mod that the capsule depends on; repeat for more
    #[arg(long, value_name = "FILE")]
    with: Vec<PathBuf>,
    /// What to allow at most, in TOML [default: what the capsule's own policy asks for]
    #[arg(long, value_name = "TOML")]
    policy: Option<PathBuf>,
    /// The engine
    #[arg(long, value_enum, default_value_t)]
    engine: EngineName,
    /// Where compiled modules are kept [default: nonos in the user's cache directory]
    #[arg(long, env = "NONOS_CACHE_DIR", value_name = "DIR")]
    cache: Option<PathBuf>,
}

impl Load {
    fn runtime(&self) -> Result<Runtime, Box<dyn Error>> {
        if self.engine == EngineName::Wasmi {
            return Ok(Runtime::with_engine(nonos_capsule::Caps::default(), Arc::new(WasmiEngine::new()?)));
        }
        let config = nonos_capsule::Config {
            pool_slots: 1,
            compiler: super::compiler()?,
            cache: self.open_cache()?,
            ..nonos_capsule::Config::default()
        };
        Ok(Runtime::new(config)?)
    }

    fn open_cache(&self) -> Result<Option<AotCache>, Box<dyn Error>> {
        let user = |name, below: &str| std::env::var_os(name).map(|path| PathBuf::from(path).join(below));
        let directory = self
            .cache
            .clone()
            .or_else(|| user("XDG_CACHE_HOME", "nonos"))
            .or_else(|| user("HOME", ".cache/nonos"));
        let Some(directory) = directory else { return Ok(None) };
        let cache = AotCache::open(&directory, AotCache::DEFAULT_MAX_BYTES)
            .map_err(|error| format!("cannot use the cache {}: {error}", directory.display()))?;
        Ok(Some(cache))
    }

    fn operator_policy(&self, capsule: &Module) -> Result<Policy, Box<dyn Error>> {
        match &self.policy {
            Some(path) => {
                Ok(toml::from_str(&text(path)?).map_err(|error| format!("{}: {error}", path.display()))?)
            }
            None => Ok(capsule.policy().clone()),
        }
    }

    /// Checks the capsule and what it needs, and makes it ready to run.
    fn load(&self, path: &Path) -> Result<(Verified<Module>, Loaded), Box<dyn Error>> {
        let capsule = self.trust.capsule(path)?;
        let loaded = self.load_with(&self.runtime()?, &capsule)?;
        Ok((capsule, loaded))
    }

    fn load_with(&self, runtime: &Runtime, capsule: &Verified<Module>) -> Result<Loaded, Box<dyn Error>> {
        let policy = self.operator_policy(capsule)?;
        if capsule.dependencies().is_empty() {
            return Ok(runtime.load(capsule, &policy)?);
        }
        let folder = tempfile::tempdir()?;
        let store = FileCapsuleStore::open(folder.path())?;
        for path in &self.with {
            store.put(&self.trust.capsule(path)?)?;
        }
        let resolved = Resolved::resolve(capsule.clone(), &store, &self.trust.rule(), now())
            .map_err(|error| format!("{error}; give its file with --with"))?;
        Ok(runtime.load_resolved(&resolved, &policy)?)
    }
}

/// Takes a capsule whose signatures nobody has checked: to sign it or to show it.
fn unsigned(path: &Path) -> Result<Module, Box<dyn Error>> {
    Ok(parse(path)?.check(|_| Ok::<_, Box<dyn Error>>(()))?.into_inner())
}

fn parse(path: &Path) -> Result<Unverified<Module>, Box<dyn Error>> {
    let capsule = Module::parse(&read(path)?);
    capsule.map_err(|error| format!("{} is not a capsule, or was altered: {error}", path.display()).into())
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_secs(since.as_secs())
}

fn read(path: &Path) -> Result<Vec<u8>, Box<dyn Error>> {
    std::fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()).into())
}

/// The path of a file in its folder, and its bytes.
type NamedFile = (String, Vec<u8>);

/// The regular files below a folder, by their paths in it, sorted. A link or device is an error:
/// what it stands for is not a part of the folder.
fn files_below(folder: &Path) -> Result<Vec<NamedFile>, Box<dyn Error>> {
    let (mut folders, mut files) = (vec![folder.to_owned()], Vec::new());
    while let Some(below) = folders.pop() {
        let entries =
            std::fs::read_dir(&below).map_err(|error| format!("cannot read {}: {error}", below.display()))?;
        for entry in entries {
            let entry = entry?;
            let (path, kind) = (entry.path(), entry.file_type()?);
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file() {
                let name = path.strip_prefix(folder)?.to_str().ok_or("a file name is not UTF-8")?.to_owned();
                files.push((name, read(&path)?));
            } else {
                return Err(format!("{} is neither a file nor a folder", path.display()).into());
            }
        }
    }
    files.sort();
    Ok(files)
}

fn text(path: &Path) -> Result<String, Box<dyn Error>> {
    std::fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()).into())
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Box<dyn Error>> {
    std::fs::write(path, bytes).map_err(|error| format!("cannot write {}: {error}", path.display()).into())
}
