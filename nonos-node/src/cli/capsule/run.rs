use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use nonos_identity::Digest;

use super::Load;
use super::record::{Inputs, Record};
use crate::cli::{CliResult, print_json};

/// Runs a signed capsule under its policy. The same capsule, input, arguments, environment and
/// directories give the same run: the clock starts at zero and counts gas.
///
/// Exit status: 0 if the capsule ended by itself with code 0, 1 if it ended otherwise, 2 if it did not run.
#[derive(Debug, Args)]
pub(in crate::cli) struct Run {
    /// The capsule, signed
    capsule: PathBuf,
    #[command(flatten)]
    load: Load,
    #[command(flatten)]
    inputs: Inputs,
    /// Write what the run was asked and did, for `nonos capsule replay`
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Print JSON with output, gas and checkpoints
    #[arg(long)]
    json: bool,
    /// Arguments for the capsule
    #[arg(last = true)]
    args: Vec<String>,
}

impl Run {
    pub(super) fn run(self) -> CliResult {
        let (capsule, loaded) = self.load.load(&self.capsule)?;
        let invocation = self.inputs.invocation(&capsule, self.load.trust.network(), &self.args)?;
        let execution = loaded.run(&invocation, &Once)?;
        if let Some(path) = &self.record {
            Record::new(&invocation, &execution).save(path)?;
        }
        if self.json {
            print_json(&serde_json::json!({
                "capsule_id": execution.capsule_id,
                "exec_hash": execution.exec_hash,
                "status": execution.status.to_string(),
                "output": String::from_utf8_lossy(&execution.output),
                "stderr": String::from_utf8_lossy(&execution.stderr),
                "gas": execution.gas_used,
                "peak_pages": execution.peak_pages,
                "host_calls": execution.host_calls,
                "checkpoints": execution.checkpoints,
            }))?;
        } else {
            std::io::stdout().write_all(&execution.output)?;
            std::io::stderr().write_all(&execution.stderr)?;
            eprintln!(
                "{}, {} gas, {} checkpoints, exec_hash {:.16}...",
                execution.status,
                execution.gas_used,
                execution.checkpoints.len(),
                execution.exec_hash.to_string()
            );
        }
        Ok(if execution.status.is_success() { ExitCode::SUCCESS } else { ExitCode::from(1) })
    }
}

/// A run outside of any mesh is nobody's job: it may be repeated, and nothing is paid for it.
pub(super) struct Once;

impl nonos_capsule::NonceStore for Once {
    fn consume(&self, key: &Digest) -> Result<(), nonos_capsule::NonceError> {
        self.is_used(key)?;
        Ok(())
    }

    fn is_used(&self, _: &Digest) -> Result<bool, nonos_capsule::StoreError> {
        Ok(false)
    }
}
