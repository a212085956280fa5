mod beacon;
mod contribute;
mod new;
mod verify;

use std::error::Error;
use std::path::Path;

use clap::Subcommand;
use nonos_zk::groth16::ceremony::Ceremony as State;

use super::{PUBLIC, initial_key, progress, read, write};
use crate::cli::{CliResult, print_json};

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum Ceremony {
    /// Start a ceremony from the powers of tau
    New(new::New),
    /// Add a secret, and forget it
    ///
    /// The secret is made of the system's randomness, of the transcript so far, and of what you add with
    /// --entropy-file; it never leaves the memory of this process. Give OUT to the next party and publish the transcript
    /// that is printed: it stands for all that happened so far, and you find it again when the finished
    /// ceremony is verified.
    Contribute(contribute::Contribute),
    /// Close a ceremony with public randomness
    ///
    /// Say before the last contribution which value it will be, say the hash of a block to come: it must
    /// be one that nobody could know, or choose, when the last secret was added.
    Beacon(beacon::Beacon),
    /// Check a whole ceremony, and make its keys
    ///
    /// Makes the first key from circuit and powers of tau anew, checks each contribution, and that nothing
    /// but delta, L and H changed, consistently. The first bad contribution is named. From the last file
    /// alone it cannot be told who scaled L or H wrongly, only that it happened: give the files of all
    /// steps, the oldest first, and it is.
    Verify(verify::Verify),
}

impl Ceremony {
    pub(super) fn run(self) -> CliResult {
        match self {
            Self::New(command) => command.run(),
            Self::Contribute(command) => command.run(),
            Self::Beacon(command) => command.run(),
            Self::Verify(command) => command.run(),
        }
    }
}

fn load(path: &Path) -> Result<State, Box<dyn Error>> {
    State::from_bytes(&read(path, State::MAX_BYTES)?)
        .map_err(|error| format!("{}: {error}", path.display()).into())
}

fn store(path: &Path, ceremony: &State) -> Result<(), Box<dyn Error>> {
    write(path, &ceremony.to_bytes(), PUBLIC)
}

/// What all commands tell of a ceremony.
fn view(ceremony: &State) -> serde_json::Value {
    let contributions: Vec<_> = ceremony
        .contributions()
        .iter()
        .map(|it| {
            serde_json::json!({
                "name": it.name(),
                "parameters": it.parameters(),
                "beacon": it.beacon().map(|(value, log2)| serde_json::json!({
                    "value": data_encoding::HEXLOWER.encode(value),
                    "hashes_log2": log2,
                })),
            })
        })
        .collect();
    serde_json::json!({
        "circuit": ceremony.circuit(),
        "initial": ceremony.initial(),
        "contributions": contributions,
        "transcript": ceremony.transcript(),
    })
}

fn report(ceremony: &State, json: bool) -> Result<(), Box<dyn Error>> {
    if json {
        return print_json(&view(ceremony));
    }
    println!("circuit     {}", ceremony.circuit());
    println!("begins with {}", ceremony.initial());
    for (place, contribution) in ceremony.contributions().iter().enumerate() {
        println!("{:>11} {contribution}", place + 1);
    }
    println!("transcript  {}", ceremony.transcript());
    Ok(())
}
