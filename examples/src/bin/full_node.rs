//! Embeds a whole node: it starts in a temporary directory, prints its ticket and its view of
//! itself, refuses the ticket of another mesh, and stops.
//!
//! Run with `cargo run --release -p nonos-examples --bin full_node`. It prints, with other names:
//! ```text
//! refused   to start on proving keys that anybody can forge with
//! node      754c25aa
//! ticket    nonos-ticket1qjmcarb6dsrrimnclotg77wlh3p...
//! peers     0
//! anonymity insufficient: 0 operators besides this one, 50 needed to hide among
//! refused   the ticket is for another mesh than example
//! stopped
//! ```
#![expect(clippy::print_stdout, reason = "an example talks to its reader")]

use std::error::Error;
use std::path::Path;

use nonos_node::{Config, Node, Request, Response, StartError, init};
use nonos_zk::Profile;

/// Starts a node of a mesh in a directory of its own.
async fn start(mesh: &str, folder: &Path) -> Result<Node, Box<dyn Error>> {
    // ANCHOR: node
    let config = Config {
        network: mesh.into(),
        // There is no key set of a ceremony yet: whoever knows the published seed can forge proofs.
        allow_insecure_dev_keys: true,
        // Keys of the small circuit are made in a second; those of the default, `full`, take ten.
        profile: Profile::Lite,
        ..Config::default()
    };
    let identity = init::create(folder, "a passphrase from the operator", &config)?;
    let node = Node::builder(config, identity).data_dir(folder).serve_control(true).start().await?;
    // ANCHOR_END: node
    Ok(node)
}

async fn ticket(node: &Node) -> Result<String, Box<dyn Error>> {
    match node.handle(Request::Ticket).await {
        Response::Ticket { ticket } => Ok(ticket),
        other => Err(format!("no ticket: {other:?}").into()),
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::temp_dir().join(format!("nonos-full-node-{}", std::process::id()));

    // ANCHOR: no_keys
    // Without leave to use insecure keys, a node does not start.
    let strict = Config::default();
    let identity = init::create(&folder.join("strict"), "a passphrase from the operator", &strict)?;
    match Node::builder(strict, identity).data_dir(folder.join("strict")).start().await {
        Err(StartError::NoKeys) => println!("refused   to start on proving keys that anybody can forge with"),
        other => return Err(format!("started without keys: {other:?}").into()),
    }
    // ANCHOR_END: no_keys

    let node = start("example", &folder.join("ours")).await?;
    println!("node      {}", node.id().short());
    println!("ticket    {:.40}...", ticket(&node).await?);
    if let Response::Status(status) = node.handle(Request::Status).await {
        println!("peers     {}", status.peers.len());
        println!("anonymity {}", status.anonymity);
    }

    // ANCHOR: refusal
    let stranger = start("another", &folder.join("theirs")).await?;
    match node.handle(Request::Join { ticket: ticket(&stranger).await? }).await {
        Response::Error { message } => println!("refused   {message}"),
        other => return Err(format!("joined another mesh: {other:?}").into()),
    }
    // ANCHOR_END: refusal

    stranger.stop().await;
    node.stop().await;
    println!("stopped");
    std::fs::remove_dir_all(folder)?;
    Ok(())
}
