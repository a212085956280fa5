//! Circuits: their cryptography beside tor-proto's, and what they cost to build and to use.

mod cells;
mod daemons;
mod delays;
mod directory;
mod machines;
pub(crate) mod node;
mod oracle;
mod parties;
mod processes;
mod services;
mod switch;
mod tor;

use std::path::PathBuf;

use crate::Failure;
use crate::report::{Report, Unmeasured};

/// What of circuits to compare.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Only holds our cells against tor-proto's, byte for byte.
    #[arg(long)]
    oracle: bool,
    /// Also compares nodes as processes with a private network of this Tor daemon, such as
    /// `/usr/sbin/tor`; needs `python3`, and `tor-gencert` beside the daemon or on the path.
    #[arg(long, value_name = "DAEMON")]
    tor: Option<PathBuf>,
    /// Only does that, without what one process measures.
    #[arg(long, requires = "tor")]
    network: bool,
    /// Only measures links with delay and loss, in network namespaces; needs root, `ip` and
    /// `/dev/net/tun`.
    #[arg(long)]
    delays: bool,
    /// Only visits an onion service whose parties are in network namespaces of their own, and says who
    /// exchanged packets with whom; nothing is timed. Needs what `--delays` does.
    #[arg(long)]
    parties: bool,
    /// Megabytes (10^6 bytes) of each transfer there.
    #[arg(long, default_value = "32", value_parser = clap::value_parser!(u16).range(1..))]
    megabytes: u16,
}

/// What only `--tor` measures.
const DAEMONS: [Unmeasured; 2] = [
    Unmeasured {
        target: "3-hop loopback, CPU per MB: >= 2x better than tor, default and Vanilla schedulers",
        reason: "--tor names no daemon",
    },
    Unmeasured {
        target: "onion service: >= 10x goodput, <= 1/4 CPU per MB",
        reason: "--tor names no daemon",
    },
];

pub(crate) fn compare(options: &Options, rounds: usize) -> Result<Report, Failure> {
    if options.delays {
        return Ok(Report::new(delays::compare(rounds)?, &[]));
    }
    if options.parties {
        return Ok(Report::new(parties::observe()?, &[]));
    }
    let mut rows = if options.network { Vec::new() } else { oracle::compare()? };
    if options.oracle {
        return Ok(Report::new(rows, &[]));
    }
    if !options.network {
        rows.extend(cells::compare(rounds)?);
        rows.extend(machines::handshakes(rounds)?);
        rows.extend(machines::circuits(rounds)?);
    }
    let Some(daemon) = &options.tor else {
        return Ok(Report::new(rows, &DAEMONS));
    };
    rows.extend(daemons::compare(daemon, usize::from(options.megabytes) * 1_000_000, rounds)?);
    Ok(Report::new(rows, &[]))
}
