//! Subcommands, one file each.

mod capsule;
mod demo;
mod init;
mod key;
mod onion;
mod operators;
mod run;
mod status;
mod zk;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use nonos_capsule::{CompileLimits, Compiler};

/// Run signed WASM capsules on a node of your own, prove what ran, and spread both over an
/// onion-routed mesh that needs no server.
#[derive(Debug, Parser)]
#[command(name = "nonos", version, after_help = "Start with:  nonos demo")]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the whole main job on this machine: spread, run, prove, verify, score, pay
    Demo(demo::Demo),
    /// Create a node's keys and settings
    Init(init::Init),
    /// Run a node until Ctrl-C
    Run(run::Run),
    /// Ask a running node how it is
    Status(status::Status),
    /// List the trees of operators that nodes vouch for, or publish one
    Operators(operators::Operators),
    /// Show the node's onion services, and visit those of others
    Onion(onion::Onion),
    /// Create, show, back up, rotate and revoke a node's keys, and open what was disclosed to it
    #[command(subcommand)]
    Key(Box<key::Key>),
    /// Make, check and run capsules
    #[command(subcommand)]
    Capsule(capsule::Capsule),
    /// Make keys in a ceremony, check receipts, export both for the tools of others
    #[command(subcommand)]
    Zk(zk::Zk),
    /// Compile one module from standard input; a node starts this for itself
    #[command(hide = true)]
    CompileWorker,
}

/// Where a node lives.
#[derive(Debug, Args)]
struct DataDir {
    /// Directory with the node's keys, settings and records
    #[arg(long, env = "NONOS_DATA_DIR", default_value = "nonos-data", value_name = "DIR", global = true)]
    data_dir: PathBuf,
}

/// How its keystore opens.
#[derive(Debug, Args)]
struct Passphrase {
    /// File with the keystore's passphrase on its first line; otherwise NONOS_PASSPHRASE is read
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

type CliResult = Result<ExitCode, Box<dyn Error>>;

impl Passphrase {
    fn read(&self) -> Result<String, Box<dyn Error>> {
        let text = match &self.passphrase_file {
            Some(path) => std::fs::read_to_string(path)
                .map_err(|error| format!("cannot read the passphrase file {}: {error}", path.display()))?,
            None => std::env::var("NONOS_PASSPHRASE").map_err(
                |_| "the keystore needs a passphrase: give --passphrase-file FILE or set NONOS_PASSPHRASE",
            )?,
        };
        let passphrase = text.lines().next().unwrap_or_default().to_owned();
        if passphrase.is_empty() {
            return Err("the passphrase is empty: whoever gets the file would own the node".into());
        }
        Ok(passphrase)
    }
}

impl Cli {
    pub(crate) fn run(self) -> CliResult {
        match self.command {
            Command::Demo(command) => command.run(),
            Command::Init(command) => command.run(),
            Command::Run(command) => command.run(),
            Command::Status(command) => command.run(),
            Command::Operators(command) => command.run(),
            Command::Onion(onion) => onion.run(),
            Command::Key(command) => command.run(),
            Command::Capsule(command) => command.run(),
            Command::Zk(command) => command.run(),
            Command::CompileWorker => Ok(nonos_capsule::compile_worker()),
        }
    }
}

/// Compiles capsules in children of this very program.
fn compiler() -> Result<Compiler, Box<dyn Error>> {
    Ok(Compiler::Child {
        program: std::env::current_exe()?,
        args: vec!["compile-worker".into()],
        limits: CompileLimits::default(),
    })
}

/// Runs an async command on all cores.
fn block_on<T>(future: impl Future<Output = T>) -> Result<T, Box<dyn Error>> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(future))
}

fn print_json(value: &impl serde::Serialize) -> Result<(), Box<dyn Error>> {
    println!("{}", serde_json::to_string_pretty(value)?);
    Ok(())
}
