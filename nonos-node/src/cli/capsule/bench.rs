use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use nonos_capsule::CheckSigned as _;

use super::record::Inputs;
use super::run::Once;
use super::{Load, now, parse};
use crate::cli::{CliResult, print_json};

/// Times a capsule on this machine, by the wall clock: parsing and verification, loading, and runs.
/// The first loading compiles where the cache does not have the module; the second does not.
#[derive(Debug, Args)]
pub(in crate::cli) struct Bench {
    /// The capsule, signed
    capsule: PathBuf,
    #[command(flatten)]
    load: Load,
    #[command(flatten)]
    inputs: Inputs,
    /// How often it runs
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100_000), value_name = "N")]
    runs: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Arguments for the capsule
    #[arg(last = true)]
    args: Vec<String>,
}

impl Bench {
    pub(super) fn run(self) -> CliResult {
        let begin = Instant::now();
        let capsule = parse(&self.capsule)?.check_signed(&self.load.trust.rule(), now())?;
        let verify = begin.elapsed();
        let loading = || {
            let runtime = self.load.runtime()?;
            let begin = Instant::now();
            let loaded = self.load.load_with(&runtime, &capsule)?;
            Ok::<_, Box<dyn std::error::Error>>((loaded, begin.elapsed()))
        };
        let (_, first) = loading()?;
        let (loaded, second) = loading()?;
        let invocation = self.inputs.invocation(&capsule, self.load.trust.network(), &self.args)?;
        let mut times = Vec::new();
        let mut last = None;
        for _ in 0..self.runs {
            let begin = Instant::now();
            let execution = loaded.run(&invocation, &Once)?;
            times.push(begin.elapsed());
            last = Some(execution);
        }
        times.sort_unstable();
        let median = times.get(times.len() / 2).copied().unwrap_or_default();
        let worst = times.last().copied().unwrap_or_default();
        let execution = last.ok_or("no run")?;
        let bytes = capsule.payload().len();
        #[expect(clippy::cast_precision_loss, reason = "figures for people")]
        let per_second = |count: u64, time: Duration| count as f64 / time.as_secs_f64().max(1e-9);
        if self.json {
            print_json(&serde_json::json!({
                "payload_bytes": bytes,
                "verify_ms": millis(verify),
                "verify_bytes_per_second": per_second(bytes as u64, verify),
                "load_first_ms": millis(first),
                "load_again_ms": millis(second),
                "runs": self.runs,
                "run_median_ms": millis(median),
                "run_max_ms": millis(worst),
                "gas": execution.gas_used,
                "gas_per_second": per_second(execution.gas_used, median),
                "checkpoints": execution.checkpoints.len(),
                "status": execution.status.to_string(),
            }))?;
        } else {
            println!("verify      {:10.3} ms for {bytes} bytes", millis(verify));
            println!("load        {:10.3} ms, again {:.3} ms", millis(first), millis(second));
            println!(
                "run         {:10.3} ms median of {}, {:.3} ms longest",
                millis(median),
                self.runs,
                millis(worst)
            );
            println!(
                "gas         {:10} in {} checkpoints, {}",
                execution.gas_used,
                execution.checkpoints.len(),
                execution.status
            );
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
