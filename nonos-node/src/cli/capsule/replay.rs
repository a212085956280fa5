use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use nonos_capsule::{ReplayError, replay};

use super::Load;
use super::record::{Directories, Record};
use crate::cli::{CliResult, print_json};

/// Runs again what `nonos capsule run --record FILE` wrote, on either engine, and compares every
/// checkpoint. Exit status 1 if the run diverges.
#[derive(Debug, Args)]
pub(in crate::cli) struct Replay {
    /// The capsule, signed
    capsule: PathBuf,
    /// The record
    record: PathBuf,
    #[command(flatten)]
    load: Load,
    #[command(flatten)]
    directories: Directories,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Replay {
    pub(super) fn run(self) -> CliResult {
        let record = Record::load(&self.record)?;
        let (_, loaded) = self.load.load(&self.capsule)?;
        let execution = &record.execution;
        if execution.capsule_id != loaded.capsule_id() {
            return Err(format!("the record is of capsule {}", execution.capsule_id).into());
        }
        let diverges_at = match replay(&loaded, &record.invocation(&self.directories)?, execution) {
            Ok(()) => None,
            Err(ReplayError::Diverged { checkpoint }) => Some(checkpoint),
            Err(error) => return Err(error.into()),
        };
        if self.json {
            print_json(&serde_json::json!({
                "capsule_id": execution.capsule_id,
                "exec_hash": execution.exec_hash,
                "checkpoints": execution.checkpoints.len(),
                "confirmed": diverges_at.is_none(),
                "diverges_at": diverges_at,
            }))?;
        } else {
            match diverges_at {
                None => println!(
                    "confirmed: {} checkpoints and the result are the same",
                    execution.checkpoints.len()
                ),
                Some(place) if place as usize >= execution.checkpoints.len() => {
                    println!("diverges after the last checkpoint: the result is another");
                }
                Some(place) => println!("diverges at checkpoint {place} of {}", execution.checkpoints.len()),
            }
        }
        Ok(if diverges_at.is_none() { ExitCode::SUCCESS } else { ExitCode::from(1) })
    }
}
