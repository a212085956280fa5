use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use nonos_node::Tamper;
use nonos_node::demo::{self, Options};
use nonos_zk::Profile;

use super::{CliResult, block_on, print_json};

/// Real nodes on loopback: a publisher signs a capsule and spreads it, an executor fetches it over
/// onion circuits, runs and proves it, all others verify, and fees and trust are booked.
///
/// Exit status: 0 if everything held (with --tamper: if the lie was refused), 1 if the capsule did
/// not finish its work, 2 if the mesh failed.
#[derive(Debug, Args)]
pub(super) struct Demo {
    /// Number of nodes
    #[arg(long, default_value_t = Options::NODES_MIN, value_name = "N")]
    nodes: usize,
    /// A WASI preview 1 command (.wasm or .wat) or a signed .mod [default: ranks the words of a text]
    #[arg(long, value_name = "FILE")]
    capsule: Option<PathBuf>,
    /// The capsule's standard input [default: README.md]
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Print one JSON object on standard output
    #[arg(long)]
    json: bool,
    /// Run every node as an operating-system process
    #[arg(long)]
    processes: bool,
    /// Let one node lie and see who catches it
    #[arg(long, value_enum, value_name = "LIE", conflicts_with = "kill_relay")]
    tamper: Option<Tamper>,
    /// Kill a relay while chunks flow
    #[arg(long)]
    kill_relay: bool,
    /// Which circuit proves the run: full, or lite without the payload's hash and the scalar of the key
    #[arg(long, default_value_t = Profile::Full, value_name = "PROFILE")]
    profile: Profile,
    /// Where proving keys are kept for the next time [default: nonos/keys in the user's cache directory]
    #[arg(long, env = "NONOS_KEY_CACHE", value_name = "DIR")]
    key_cache: Option<PathBuf>,
}

/// `nonos/keys` where the XDG base directory specification puts caches.
fn user_key_cache() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let caches = variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")?.join(".cache")))?;
    Some(caches.join("nonos/keys"))
}

impl Demo {
    pub(super) fn run(self) -> CliResult {
        let options = Options {
            nodes: self.nodes,
            capsule: self.capsule,
            input: self.input,
            processes: self.processes,
            tamper: self.tamper,
            kill_relay: self.kill_relay,
            profile: self.profile,
            key_cache: self.key_cache.or_else(user_key_cache),
            compiler: super::compiler()?,
        };
        let mut progress = |line: &str| eprintln!("{line}");
        let report = block_on(demo::run(&options, &mut progress))??;
        if self.json {
            print_json(&report)?;
        } else {
            println!("{}", demo::text(&report));
        }
        if let Some(error) = &report.error {
            eprintln!("error: the capsule did not do its work: {error}");
            return Ok(ExitCode::from(1));
        }
        Ok(ExitCode::SUCCESS)
    }
}
