use std::process::ExitCode;

use clap::Args;
use nonos_node::{Config, Node, Request, Response, init};

use super::{CliResult, DataDir, Passphrase, block_on};

/// Runs a node. It prints a ticket; `nonos run --join TICKET` in a second terminal forms a mesh.
#[derive(Debug, Args)]
pub(super) struct Run {
    #[command(flatten)]
    data_dir: DataDir,
    #[command(flatten)]
    passphrase: Passphrase,
    /// Ticket of a node to join, as it printed it
    #[arg(long, value_name = "TICKET")]
    join: Vec<String>,
}

impl Run {
    pub(super) fn run(self) -> CliResult {
        let data_dir = self.data_dir.data_dir;
        let config = Config::load(&data_dir).map_err(|error| {
            format!("{error}; create the node first: nonos init --data-dir {}", data_dir.display())
        })?;
        let identity = init::identity(&data_dir, &self.passphrase.read()?)?;
        block_on(async {
            let builder = Node::builder(config, identity).data_dir(data_dir).compiler(super::compiler()?);
            let node = builder.serve_control(true).start().await?;
            println!("node {}", node.id());
            for ticket in self.join {
                if let Response::Error { message } = node.handle(Request::Join { ticket }).await {
                    return Err(message.into());
                }
            }
            match node.handle(Request::Ticket).await {
                Response::Ticket { ticket } => println!("ticket {ticket}"),
                Response::Error { message } => return Err(message.into()),
                _ => {}
            }
            println!("running; Ctrl-C stops");
            tokio::select! {
                interrupted = tokio::signal::ctrl_c() => interrupted?,
                () = node.stopped() => {}
            }
            node.stop().await;
            Ok(ExitCode::SUCCESS)
        })?
    }
}
