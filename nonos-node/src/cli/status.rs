use std::process::ExitCode;

use clap::Args;
use nonos_node::{Client, Request, Response, SOCKET};

use super::{CliResult, DataDir, block_on, print_json};

/// Asks a running node for its neighbours, peers, digests, trust and ledger.
#[derive(Debug, Args)]
pub(super) struct Status {
    #[command(flatten)]
    data_dir: DataDir,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Status {
    pub(super) fn run(self) -> CliResult {
        let socket = self.data_dir.data_dir.join(SOCKET);
        let (status, books) = block_on(async {
            let mut client = Client::connect(&socket).await?;
            let status = client.ask(&Request::Status).await?;
            Ok::<_, nonos_node::ClientError>((status, client.ask(&Request::Books).await?))
        })??;
        let (Response::Status(status), Response::Books(books)) = (status, books) else {
            return Err("the node answered with something else than its status".into());
        };
        if self.json {
            print_json(&serde_json::json!({ "status": status, "books": books }))?;
            return Ok(ExitCode::SUCCESS);
        }
        println!("node       {}", status.node);
        println!("network    {}", status.network);
        println!("onion      {}", status.onion_address);
        println!("listens    {}", status.listen.join(", "));
        println!("links      {}", status.links.len());
        println!(
            "peers      {} ({} can relay, {} enrolled)",
            status.peers.len(),
            status.relays,
            status.enrolled
        );
        println!(
            "circuits   {} relays; {} of {} guards linked",
            status.hops, status.guards_linked, status.guards
        );
        if let Some(transit) = &status.transit {
            println!(
                "transit    {} batches proven here; {} paid for, {} relays owe a proof, {} proofs refused, {} never came",
                transit.proven_batches, transit.paid_batches, transit.debts, transit.refused, transit.lapsed
            );
        }
        println!("anonymity  {}", status.anonymity);
        println!(
            "ledger     {} nano-mod in {} transfers, chain {}",
            books.position,
            books.transfers,
            if books.chain_ok { "holds" } else { "DOES NOT HOLD" }
        );
        for (peer, trust) in &books.trust {
            println!("trust      {} {}/1000 {}", peer.short(), trust.permille, trust.state);
        }
        Ok(ExitCode::SUCCESS)
    }
}
