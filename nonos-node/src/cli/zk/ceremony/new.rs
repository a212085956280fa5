use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use nonos_zk::Profile;
use nonos_zk::groth16::ceremony::Ceremony as State;

use super::{CliResult, initial_key, report, store};

/// Starts a ceremony that nobody contributed to yet.
#[derive(Debug, Args)]
#[command(
    after_help = "The powers of tau are a .ptau file of snarkjs for bn128, of power 13 or more for lite and 18 \
    or more for full, best one of a public ceremony; `snarkjs powersoftau verify` tells who made it. One that is prepared for phase 2 is \
    faster.\n\nExample:  nonos zk ceremony new --ptau pot18.ptau 0.ceremony"
)]
pub(in crate::cli) struct New {
    /// Powers of tau, a file of snarkjs
    #[arg(long, value_name = "FILE")]
    ptau: PathBuf,
    /// The circuit: full or lite
    #[arg(long, default_value_t = Profile::Full, value_name = "PROFILE")]
    profile: Profile,
    /// Where the ceremony goes
    out: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl New {
    pub(super) fn run(self) -> CliResult {
        let ceremony = State::new(&initial_key(self.profile, &self.ptau)?);
        store(&self.out, &ceremony)?;
        report(&ceremony, self.json)?;
        Ok(ExitCode::SUCCESS)
    }
}
