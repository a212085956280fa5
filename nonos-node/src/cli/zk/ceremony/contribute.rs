use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use nonos_identity::Digest;
use nonos_node::domains::CEREMONY_ENTROPY;
use zeroize::Zeroizing;

use super::super::read;
use super::{CliResult, initial_key, load, progress, report, store};

/// Longest file of own entropy, in bytes; a longer one was a mistake.
const ENTROPY_BYTES_MAX: usize = 1 << 20;

/// Adds a secret to the ceremony of IN and writes it to OUT.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:  nonos zk ceremony contribute 1.ceremony 2.ceremony --name bob --ptau pot13.ptau\n           \
    nonos zk ceremony contribute 1.ceremony 2.ceremony --name bob --entropy-file dice.txt"
)]
pub(in crate::cli) struct Contribute {
    /// The ceremony so far
    #[arg(value_name = "IN")]
    from: PathBuf,
    /// Where it goes with your contribution
    out: PathBuf,
    /// Your name, for the list of contributors
    #[arg(long, value_name = "NAME")]
    name: String,
    /// Powers of tau: check everything before contributing, L and H, too
    #[arg(long, value_name = "FILE")]
    ptau: Option<PathBuf>,
    /// File with randomness of your own, say rolls of dice, to be mixed with the system's
    #[arg(long, value_name = "FILE")]
    entropy_file: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Contribute {
    pub(super) fn run(self) -> CliResult {
        if let Err(error) = nonos_identity::memory::deny_dumps() {
            tracing::warn!(%error, "a core dump of this process would hold the secret");
        }
        let mut ceremony = load(&self.from)?;
        if let Some(ptau) = &self.ptau {
            ceremony.check(&initial_key(ceremony.profile(), ptau)?, progress)?;
        }
        let mut system = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *system).map_err(|error| format!("the system has no randomness: {error}"))?;
        let own = match &self.entropy_file {
            Some(path) => Zeroizing::new(read(path, ENTROPY_BYTES_MAX)?),
            None => Zeroizing::default(),
        };
        let entropy = Zeroizing::new(*Digest::of(CEREMONY_ENTROPY, &[&*system, &own]).as_bytes());
        eprintln!("contributing ...");
        ceremony.contribute(&self.name, *entropy)?;
        store(&self.out, &ceremony)?;
        report(&ceremony, self.json)?;
        if self.ptau.is_none() {
            eprintln!("L and H of {} were not checked: --ptau would have", self.from.display());
        }
        Ok(ExitCode::SUCCESS)
    }
}
