use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use nonos_identity::{Digest, NodeId};
use nonos_node::{Client, DisputeOutcome, DisputeReport, Lost, Request, Response, SOCKET};

use crate::cli::{CliResult, DataDir, block_on, print_json};

/// Asks two nodes that ran one job for their checkpoints, halves the chain until the first one at
/// which they differ, and runs the capsule again up to there. It needs a running node, which asks
/// over onion circuits. Who is found wrong loses this node's trust, and a charge file convinces
/// other nodes, which run it again themselves with --charge.
///
/// Exit status: 0 if the two agree, 1 if somebody is wrong or has refused, 2 if it was not settled.
#[derive(Debug, Args)]
pub(in crate::cli) struct Dispute {
    #[command(flatten)]
    data_dir: DataDir,
    /// The job, or the id of a receipt for it
    #[arg(required_unless_present = "charge")]
    job: Option<Digest>,
    /// Node that ran it; give two, or one if the running node has run it itself
    #[arg(long, value_name = "NODE", required_unless_present = "charge", num_args = 1)]
    peer: Vec<NodeId>,
    /// Judge the charge that another node's dispute has written
    #[arg(long, value_name = "FILE", conflicts_with_all = ["job", "peer"])]
    charge: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Dispute {
    pub(super) fn run(self) -> CliResult {
        let socket = self.data_dir.data_dir.join(SOCKET);
        let request = match (self.charge, self.job, &self.peer[..]) {
            (Some(charge), ..) => Request::Judge { charge: std::path::absolute(charge)? },
            (None, Some(job), [first]) => Request::Dispute { job, first: *first, second: None },
            (None, Some(job), [first, second]) => {
                Request::Dispute { job, first: *first, second: Some(*second) }
            }
            _ => return Err("give a job and --peer once or twice".into()),
        };
        let response = block_on(async { Client::connect(&socket).await?.ask(&request).await })??;
        match response {
            Response::Dispute(report) => {
                if self.json {
                    print_json(&report)?;
                } else {
                    print(&report);
                }
                let is_agreed = report.outcome == DisputeOutcome::Agreed;
                Ok(if is_agreed { ExitCode::SUCCESS } else { ExitCode::from(1) })
            }
            Response::Convicted { node, position, is_new, rerun_ms } => {
                if self.json {
                    print_json(&serde_json::json!({
                        "node": node, "position": position, "is_new": is_new, "rerun_ms": rerun_ms,
                    }))?;
                } else {
                    let what = position.map_or("its chain".to_owned(), |place| format!("checkpoint {place}"));
                    let news = if is_new { "" } else { "; this node knew" };
                    println!("{node} lied about {what}: a re-run of {rerun_ms} ms says so{news}");
                }
                Ok(ExitCode::from(1))
            }
            Response::Error { message } => Err(message.into()),
            _ => Err("the node answered with something else than asked".into()),
        }
    }
}

fn print(report: &DisputeReport) {
    println!("job      {}", report.job);
    println!("capsule  {:.32}...", report.capsule.to_string());
    for party in &report.parties {
        println!(
            "party    {} commits to {} checkpoints, exec_hash {:.16}...",
            party.node,
            party.checkpoints,
            party.exec_hash.to_string()
        );
    }
    for (number, round) in (1..).zip(&report.rounds) {
        let sign = if round.agree { "same" } else { "differ" };
        println!(
            "round {number:<2} checkpoint {:<6} {:.16} {:.16} {sign}",
            round.position, round.first, round.second
        );
    }
    let print_lost = |lost: &[Lost]| {
        for Lost { node, reason, charge } in lost {
            println!("wrong    {node}: {reason}");
            if let Some(charge) = charge {
                println!("charge   {}", charge.display());
            }
        }
    };
    match &report.outcome {
        DisputeOutcome::Agreed => println!("ruling   no dispute: the chains are the same"),
        DisputeOutcome::Forfeited { lost } => {
            println!("ruling   forfeited, which convinces this node alone");
            print_lost(lost);
        }
        DisputeOutcome::Judged { position, truth, lost } => {
            let place = position.map_or("the whole run".to_owned(), |place| format!("checkpoint {place}"));
            println!(
                "ruling   they part at {place}; the re-run has {:.16} there",
                truth.as_deref().unwrap_or("nothing")
            );
            print_lost(lost);
            println!(
                "cost     {} rounds in {} ms, then a re-run of {} checkpoints and {} gas in {} ms",
                report.rounds.len(),
                report.bisect_ms,
                report.rerun_checkpoints,
                report.rerun_gas,
                report.rerun_ms
            );
        }
        _ => println!("ruling   of a kind that this command does not know"),
    }
}
