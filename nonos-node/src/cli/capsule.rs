use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

use clap::{Args, Subcommand};
use nonos_capsule::{
    Capsule as Module, CheckSigned as _, Config as RuntimeConfig, Invocation, Manifest, Policy, Runtime,
    SignaturePolicy,
};
use nonos_identity::{Digest, Epoch, NetworkId, NodeId, Timestamp, Unverified, Verified};
use nonos_node::{Config, init, pack};

use super::{CliResult, DataDir, Passphrase, print_json};

#[derive(Debug, Subcommand)]
pub(super) enum Capsule {
    /// Pack a WASI command into an unsigned .mod
    Pack(Pack),
    /// Sign a .mod with the node's author key
    Sign(Sign),
    /// Show what a .mod says of itself; checks nothing but its format
    Inspect(File),
    /// Check format, digests and signatures of a .mod
    Verify(Verify),
    /// Run a .mod here, outside of any mesh
    Run(Run),
}

#[derive(Debug, Args)]
pub(super) struct Pack {
    /// The module, as .wasm or .wat
    module: PathBuf,
    /// Where to write the capsule [default: the module's name with .mod]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Name and version in TOML [default: the module's name, version 0.1.0]
    #[arg(long, value_name = "TOML")]
    manifest: Option<PathBuf>,
    /// What the capsule may use, in TOML [default: a WASI command without network]
    #[arg(long, value_name = "TOML")]
    policy: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct Sign {
    /// The capsule; replaced by its signed form
    capsule: PathBuf,
    #[command(flatten)]
    data_dir: DataDir,
    #[command(flatten)]
    passphrase: Passphrase,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct File {
    /// The capsule
    capsule: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct Verify {
    /// The capsule
    capsule: PathBuf,
    /// Name of the mesh the signatures must be for
    #[arg(long, default_value = "nonos-local", value_name = "NAME")]
    network: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct Run {
    /// The capsule, signed
    capsule: PathBuf,
    /// Its standard input [default: empty]
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Name of the mesh the signatures must be for
    #[arg(long, default_value = "nonos-local", value_name = "NAME")]
    network: String,
    /// Print JSON with output, gas and checkpoints
    #[arg(long)]
    json: bool,
    /// Arguments for the capsule
    #[arg(last = true)]
    args: Vec<String>,
}

impl Capsule {
    pub(super) fn run(self) -> CliResult {
        match self {
            Self::Pack(command) => command.run(),
            Self::Sign(command) => command.run(),
            Self::Inspect(command) => command.inspect(),
            Self::Verify(command) => command.run(),
            Self::Run(command) => command.run(),
        }
    }
}

impl Pack {
    fn run(self) -> CliResult {
        let wasm = pack::to_wasm(&read(&self.module)?)?;
        let stem =
            self.module.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let mut manifest = match &self.manifest {
            Some(path) => {
                toml::from_str(&text(path)?).map_err(|error| format!("{}: {error}", path.display()))?
            }
            None => Manifest::new(pack::manifest_name(&stem), "0.1.0"),
        };
        manifest.created = Epoch::at(now());
        let policy: Policy = match &self.policy {
            Some(path) => {
                toml::from_str(&text(path)?).map_err(|error| format!("{}: {error}", path.display()))?
            }
            None => Policy::default(),
        };
        let capsule = Module::pack(manifest, policy, wasm)?;
        let output = self.output.unwrap_or_else(|| self.module.with_extension("mod"));
        write(&output, &capsule.to_bytes())?;
        if self.json {
            print_json(&capsule.inspect())?;
        } else {
            println!("capsule {}", capsule.id());
            println!("written to {}; next: nonos capsule sign {}", output.display(), output.display());
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Sign {
    fn run(self) -> CliResult {
        let data_dir = &self.data_dir.data_dir;
        let config = Config::load(data_dir)?;
        let identity = init::identity(data_dir, &self.passphrase.read()?)?;
        let mut capsule = unsigned(&self.capsule)?;
        pack::sign(&mut capsule, &identity, &config.network, now())?;
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

impl File {
    fn inspect(self) -> CliResult {
        let capsule = unsigned(&self.capsule)?;
        if self.json {
            print_json(&capsule.inspect())?;
            return Ok(ExitCode::SUCCESS);
        }
        let (manifest, policy) = (capsule.manifest(), capsule.policy());
        println!("capsule     {}", capsule.id());
        println!("name        {} {}", manifest.name, manifest.version);
        println!(
            "payload     {} bytes in {} chunks",
            manifest.payload.size_bytes,
            capsule.head().chunk_count()
        );
        println!("gas limit   {}", policy.gas_limit);
        println!("memory      {} pages of 64 KiB", policy.memory_pages_max);
        println!(
            "host calls  {}",
            policy.host_calls.iter().map(|call| call.name()).collect::<Vec<_>>().join(" ")
        );
        for (role, key) in capsule.signers() {
            println!("signature   {role:?} {key}  (not checked here: nonos capsule verify)");
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Verify {
    fn run(self) -> CliResult {
        let capsule = signed(&self.capsule, &self.network)?;
        if self.json {
            print_json(&capsule.inspect())?;
        } else {
            println!(
                "capsule {}: format, digests and {} signatures hold",
                capsule.id(),
                capsule.signatures().len()
            );
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Run {
    fn run(self) -> CliResult {
        let capsule = signed(&self.capsule, &self.network)?;
        let network = NetworkId::from_name(&self.network);
        let input = self.input.as_ref().map(|path| read(path)).transpose()?.unwrap_or_default();
        // Equal bytes and input give an equal run: nothing here is drawn or read from a clock.
        let nonce = Digest::of_bytes(&input);
        let mut invocation =
            Invocation::new(NodeId::from_bytes([0; 32]), *nonce.as_bytes(), Timestamp::from_secs(0), network);
        invocation.input = input;
        invocation.args = std::iter::once(capsule.manifest().name.clone()).chain(self.args).collect();
        let runtime = Runtime::new(RuntimeConfig::default())?;
        let loaded = runtime.load(&capsule, &Policy::default())?;
        let execution = loaded.run(&invocation, &Once)?;
        if self.json {
            print_json(&serde_json::json!({
                "capsule_id": execution.capsule_id,
                "exec_hash": execution.exec_hash,
                "status": execution.status.to_string(),
                "output": String::from_utf8_lossy(&execution.output),
                "stderr": String::from_utf8_lossy(&execution.stderr),
                "gas": execution.gas_used,
                "peak_pages": execution.peak_pages,
                "checkpoints": execution.checkpoints,
            }))?;
        } else {
            use std::io::Write as _;
            std::io::stdout().write_all(&execution.output)?;
            std::io::stderr().write_all(&execution.stderr)?;
            eprintln!(
                "{}, {} gas, exec_hash {:.16}...",
                execution.status,
                execution.gas_used,
                execution.exec_hash.to_string()
            );
        }
        Ok(if execution.status.is_success() { ExitCode::SUCCESS } else { ExitCode::from(1) })
    }
}

/// A run outside of any mesh is nobody's job: it may be repeated, and nothing is paid for it.
struct Once;

impl nonos_capsule::NonceStore for Once {
    fn consume(&self, key: &Digest) -> Result<(), nonos_capsule::NonceError> {
        self.is_used(key)?;
        Ok(())
    }

    fn is_used(&self, _: &Digest) -> Result<bool, nonos_capsule::StoreError> {
        Ok(false)
    }
}

/// Takes a capsule whose signatures nobody has checked: to sign it or to show it.
fn unsigned(path: &Path) -> Result<Module, Box<dyn Error>> {
    Ok(parse(path)?.check(|_| Ok::<_, Box<dyn Error>>(()))?.into_inner())
}

fn signed(path: &Path, network: &str) -> Result<Verified<Module>, Box<dyn Error>> {
    let policy = SignaturePolicy::new(NetworkId::from_name(network));
    let checked = parse(path)?.check_signed(&policy, now());
    checked
        .map_err(|error| format!("{} does not verify for network {network}: {error}", path.display()).into())
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

fn text(path: &Path) -> Result<String, Box<dyn Error>> {
    std::fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()).into())
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Box<dyn Error>> {
    std::fs::write(path, bytes).map_err(|error| format!("cannot write {}: {error}", path.display()).into())
}
