use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use data_encoding::HEXLOWER_PERMISSIVE;
use nonos_zk::groth16::ceremony::Contribution;

use super::{CliResult, load, report, store};

/// Closes the ceremony of IN with a number that everybody can compute, and writes it to OUT.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:  nonos zk ceremony beacon 3.ceremony 4.ceremony --name 'drand round 4242424' --value 9f2c..."
)]
pub(in crate::cli) struct Beacon {
    /// The ceremony so far
    #[arg(value_name = "IN")]
    from: PathBuf,
    /// Where the closed one goes
    out: PathBuf,
    /// Where the value comes from, for the list of contributors
    #[arg(long, default_value = "beacon", value_name = "NAME")]
    name: String,
    /// The value, in hex, up to 256 bytes
    #[arg(long, value_name = "HEX")]
    value: String,
    /// Hash the value 2^N times: whoever would try values waits that long for each. All verifiers do, too
    #[arg(
        long,
        default_value_t = 22,
        value_name = "N",
        value_parser = clap::value_parser!(u8).range(i64::from(Contribution::BEACON_LOG2_MIN)..=i64::from(Contribution::BEACON_LOG2_MAX))
    )]
    hashes_log2: u8,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Beacon {
    pub(super) fn run(self) -> CliResult {
        let value = HEXLOWER_PERMISSIVE.decode(self.value.as_bytes());
        let value = value.map_err(|error| format!("the value is not hex: {error}"))?;
        let mut ceremony = load(&self.from)?;
        eprintln!("hashing 2^{} times ...", self.hashes_log2);
        ceremony.beacon(&self.name, &value, self.hashes_log2)?;
        store(&self.out, &ceremony)?;
        report(&ceremony, self.json)?;
        Ok(ExitCode::SUCCESS)
    }
}
