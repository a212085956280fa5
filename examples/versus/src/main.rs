//! Comparisons of the SDK with other engines, ours and theirs alternating in one run.
#![forbid(unsafe_code)]

mod capsule;
mod onion;
mod report;
mod zk;

use std::error::Error;
use std::num::NonZeroUsize;

use clap::{Parser, Subcommand};

/// A comparison that could not be made.
type Failure = Box<dyn Error>;

/// Compares the SDK with other engines, both alternating in one run.
///
/// Every figure is the median over the rounds. `ratio` is the median of ours over the anchor of the
/// same round; `spread` is (max - min) / median of these ratios, or of our own figures where there is
/// no anchor. `target` is that of the design for an idle machine, on our own figure or on the ratio as
/// `target_of` says; `holds` says whether the median keeps it. `CPU` is processor time of this
/// process, or of all processes where there are several; `wall` is elapsed time: on a loaded machine
/// only CPU figures and ratios mean anything.
#[derive(Debug, Parser)]
struct Args {
    /// What to compare.
    #[command(subcommand)]
    topic: Topic,
    /// Prints JSON instead of a table.
    #[arg(long, global = true)]
    json: bool,
    /// Rounds; each measures every side once.
    #[arg(long, global = true, default_value = "9")]
    rounds: NonZeroUsize,
}

#[derive(Debug, Subcommand)]
enum Topic {
    /// Cells beside tor-proto's CGO and Sphinx; handshakes; circuits, beside a Tor network and over
    /// links with delay.
    Onion(onion::Options),
    /// Instantiation, metering and checkpoints beside raw wasmtime.
    Capsule,
    /// Groth16 receipts beside raw ark-groth16.
    Zk,
    /// A node that another run of this program asks.
    #[command(hide = true)]
    Node(onion::node::Options),
}

fn main() -> Result<(), Failure> {
    let args = Args::parse();
    let rounds = args.rounds.get();
    let report = match &args.topic {
        Topic::Onion(options) => onion::compare(options, rounds)?,
        Topic::Capsule => capsule::compare(rounds)?,
        Topic::Zk => zk::compare(rounds)?,
        Topic::Node(options) => return onion::node::run(options),
    };
    report.print(args.json)?;
    Ok(())
}
