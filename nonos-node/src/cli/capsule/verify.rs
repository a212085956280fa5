use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::Trust;
use crate::cli::{CliResult, print_json};

/// Checks everything a node checks before it stores or runs a capsule.
#[derive(Debug, Args)]
pub(in crate::cli) struct Verify {
    /// The capsule
    capsule: PathBuf,
    #[command(flatten)]
    trust: Trust,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Verify {
    pub(super) fn run(self) -> CliResult {
        let capsule = self.trust.capsule(&self.capsule)?;
        if self.json {
            print_json(&capsule.inspect())?;
        } else {
            println!(
                "capsule {}: format, digests, {} signatures and {} attestations hold",
                capsule.id(),
                capsule.signatures().len(),
                capsule.attestations().len()
            );
        }
        Ok(ExitCode::SUCCESS)
    }
}
