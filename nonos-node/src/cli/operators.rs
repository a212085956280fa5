use std::process::ExitCode;

use clap::{Args, Subcommand};
use nonos_node::{Client, Request, Response, SOCKET};

use super::{CliResult, DataDir, block_on, print_json};

/// Lists the trees of operators that nodes of the mesh vouch for, or publishes one.
///
/// A receipt proves membership in such a tree. To go by some of them only, write their roots into
/// `operator_roots` of config.toml.
#[derive(Debug, Args)]
pub(super) struct Operators {
    #[command(flatten)]
    data_dir: DataDir,
    #[command(subcommand)]
    verb: Option<Verb>,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Clone, Copy, Debug, Subcommand)]
enum Verb {
    /// List the published trees
    List,
    /// Publish the tree of all operators that this node knows now, signed by this node
    Publish,
}

impl Operators {
    pub(super) fn run(self) -> CliResult {
        let socket = self.data_dir.data_dir.join(SOCKET);
        let request = match self.verb {
            Some(Verb::Publish) => Request::PublishOperators,
            Some(Verb::List) | None => Request::Operators,
        };
        let answer = block_on(async { Client::connect(&socket).await?.ask(&request).await })??;
        let trees = match answer {
            Response::Operators { trees } => trees,
            Response::Error { message } => return Err(message.into()),
            _ => return Err("the node answered with something else than trees".into()),
        };
        if self.json {
            print_json(&trees)?;
            return Ok(ExitCode::SUCCESS);
        }
        for tree in &trees {
            let accepted = if tree.accepted { "accepted" } else { "not in operator_roots" };
            println!(
                "{}  by {}, {} members, hides {}; {accepted}",
                tree.root,
                tree.publisher.short(),
                tree.members,
                tree.hides
            );
        }
        if trees.is_empty() {
            println!("no tree is known: any node may publish one with `nonos operators publish`");
        }
        Ok(ExitCode::SUCCESS)
    }
}
