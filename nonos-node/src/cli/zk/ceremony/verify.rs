use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::super::{PRIVATE, PUBLIC, write};
use super::{CliResult, initial_key, load, print_json, progress, report, view};

/// Checks a ceremony, each contribution and each point, and writes its keys.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:  nonos zk ceremony verify --ptau pot13.ptau 4.ceremony --keys lite.keys --verifying-key lite.vk\n           \
    nonos zk ceremony verify --ptau pot13.ptau 0.ceremony 1.ceremony 2.ceremony 3.ceremony 4.ceremony"
)]
pub(in crate::cli) struct Verify {
    /// The ceremony; with the files of earlier steps before it, the oldest first, whoever scaled L or H
    /// wrongly is named
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Powers of tau, the file that the ceremony began with
    #[arg(long, value_name = "FILE")]
    ptau: PathBuf,
    /// Write the proving key, with its verifying key, here
    #[arg(long, value_name = "OUT")]
    keys: Option<PathBuf>,
    /// Write the verifying key here
    #[arg(long, value_name = "OUT")]
    verifying_key: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Verify {
    pub(super) fn run(self) -> CliResult {
        let Some((last, earlier)) = self.files.split_last() else { return Err("no file".into()) };
        let ceremony = load(last)?;
        let initial = initial_key(ceremony.profile(), &self.ptau)?;
        for path in earlier {
            eprintln!("{}:", path.display());
            let step = load(path)?;
            step.check(&initial, progress).map_err(|error| format!("{}: {error}", path.display()))?;
            if !ceremony.contributions().starts_with(step.contributions()) {
                return Err(format!("{} is no earlier step of {}", path.display(), last.display()).into());
            }
        }
        eprintln!("{}:", last.display());
        let keys =
            ceremony.verify(&initial, progress).map_err(|error| format!("{}: {error}", last.display()))?;
        if let Some(path) = &self.keys {
            write(path, &keys.to_bytes(), PRIVATE)?;
        }
        let key = keys.verifying_key();
        if let Some(path) = &self.verifying_key {
            write(path, &key.to_bytes(), PUBLIC)?;
        }
        let closed = ceremony.contributions().last().is_some_and(|last| last.beacon().is_some());
        if self.json {
            let mut view = view(&ceremony);
            if let Some(view) = view.as_object_mut() {
                view.insert("verifying_key".into(), key.id().to_string().into());
                view.insert("closed".into(), closed.into());
            }
            print_json(&view)?;
            return Ok(ExitCode::SUCCESS);
        }
        report(&ceremony, false)?;
        println!("verified    every contribution and every point");
        println!("key         {}", key.id());
        if !closed {
            println!("open        no beacon closed it: the last contributor could choose among keys");
        }
        Ok(ExitCode::SUCCESS)
    }
}
