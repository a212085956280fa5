//! Sends a question through three relays to a destination, shows what each relay saw, and ends
//! the circuit when one of them changes a single bit.
//!
//! Run with `cargo run -p nonos-examples --bin onion_three_hops`. It prints:
//! ```text
//! answered  who am I?
//! client        talks to relay 1; its links carry no text
//! relay 1       talks to client and relay 2; its links carry no text
//! relay 2       talks to relay 1 and relay 3; its links carry no text
//! relay 3       talks to relay 2 and destination; its links carry no text
//! destination   talks to relay 3; its links carry no text
//! refused   a changed cell: integrity lost
//! ```
#![expect(clippy::print_stdout, reason = "an example talks to its reader")]

use std::error::Error;

use nonos_identity::NodeId;
use nonos_onion::testing::{Network, Node};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const QUESTION: &[u8] = b"who am I?";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // Byte pipes in memory that can be watched and changed; `custom_transport` brings its own.
    let network = Network::new();
    let mut nodes = Vec::new();
    for number in 0..5 {
        nodes.push(network.add(number, |_| {}).await);
    }
    let ids: Vec<NodeId> = nodes.iter().map(|node| node.id).collect();
    let names = ["client", "relay 1", "relay 2", "relay 3", "destination"];
    let name =
        |id: &NodeId| ids.iter().zip(names).find(|(other, _)| *other == id).map_or("?", |(_, name)| name);
    network.observer().record();

    // ANCHOR: circuit
    // Three relays and, as the last hop of the same cryptography, the destination.
    let path = nodes.iter().skip(1).map(|node| node.descriptor.clone()).collect();
    let destination = nodes.pop().ok_or("five nodes")?;
    let client = nodes.first().ok_or("five nodes")?;
    let circuit = client.onion.build(path).await?;
    tokio::spawn(answer(destination));

    let mut stream = circuit.open(80).await?;
    stream.write_all(QUESTION).await?;
    let mut reply = vec![0; QUESTION.len()];
    stream.read_exact(&mut reply).await?;
    println!("answered  {}", String::from_utf8_lossy(&reply));
    // ANCHOR_END: circuit

    for id in &ids {
        let view = network.observer().view(*id);
        let neighbours: Vec<_> = view.neighbours.iter().map(name).collect();
        let seen = if view.contains(QUESTION) { "the text" } else { "no text" };
        println!("{:<13} talks to {}; its links carry {seen}", name(id), neighbours.join(" and "));
    }

    // ANCHOR: refusal
    // Relay 2 flips one bit of the next cell on its way to relay 3.
    if let [_, _, two, three, _] = ids[..] {
        network.observer().tamper(two, three, 0, 500);
    }
    stream.write_all(QUESTION).await?;
    if stream.read_exact(&mut reply).await.is_ok() {
        return Err("a changed cell was answered".into());
    }
    let closed = circuit.closed().await;
    println!("refused   a changed cell: {}", closed.reason);
    // ANCHOR_END: refusal
    Ok(())
}

/// Sends back whatever comes, as an echo server does.
async fn answer(mut node: Node) {
    while let Some(incoming) = node.incoming.recv().await {
        tokio::spawn(async move {
            let (mut read, mut write) = tokio::io::split(incoming.stream);
            tokio::io::copy(&mut read, &mut write).await
        });
    }
}
