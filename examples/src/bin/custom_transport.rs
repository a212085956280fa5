//! Carries circuits over a transport of its own, Unix socket pairs, passes the conformance check
//! of `Links`, and gets a hop that nobody can reach refused by name.
//!
//! Run with `cargo run -p nonos-examples --bin custom_transport`. It prints:
//! ```text
//! checked   the contract of Links holds
//! carried   over sockets
//! refused   hop 1: relay cannot be reached
//! ```
#![expect(clippy::print_stdout, reason = "an example talks to its reader")]

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nonos_identity::{Epoch, NetworkId, NodeId, Timestamp};
use nonos_onion::link::{BuildError, ByteLink, Incoming, LinkError, LinkFuture, Links, Onion, OnionDriver};
use nonos_onion::testing::check_links;
use nonos_onion::{BandwidthClass, Config, EpochKeys, FamilyTag, RelayDescriptor, SubnetTag};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use zeroize::Zeroizing;

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

// ANCHOR: links
/// Who is listening: the far end of a link, and who opened it. The hub vouches for both names,
/// as the handshake of a real transport would.
#[derive(Default)]
struct Hub(Mutex<BTreeMap<NodeId, UnboundedSender<(NodeId, UnixStream)>>>);

impl Hub {
    fn listeners(&self) -> MutexGuard<'_, BTreeMap<NodeId, UnboundedSender<(NodeId, UnixStream)>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct SocketLinks {
    from: NodeId,
    hub: Arc<Hub>,
}

impl Links for SocketLinks {
    fn open(&self, relay: NodeId) -> LinkFuture {
        let (from, listener) = (self.from, self.hub.listeners().get(&relay).cloned());
        Box::pin(async move {
            let (near, far) = UnixStream::pair().map_err(|_| LinkError)?;
            listener.ok_or(LinkError)?.send((from, far)).map_err(|_| LinkError)?;
            Ok(Box::new(near) as Box<dyn ByteLink>)
        })
    }
}
// ANCHOR_END: links

/// Starts a node over the hub and makes its descriptor.
async fn node(number: u8, hub: &Arc<Hub>) -> Result<(Onion, Incoming, RelayDescriptor), Box<dyn Error>> {
    let id = NodeId::from_bytes([number; 32]);
    let links = Arc::new(SocketLinks { from: id, hub: hub.clone() });
    let keys = EpochKeys::new(Zeroizing::new([number; 32]), NOW);
    let config = Config::new(NetworkId::from_name("example"), id);
    let (onion, incoming, _) =
        OnionDriver::spawn(config, keys, links, Arc::new(|| NOW), [number | 0x80; 32])?;

    let (listener, mut accepted) = unbounded_channel();
    hub.listeners().insert(id, listener);
    let acceptor = onion.clone();
    tokio::spawn(async move {
        while let Some((peer, link)) = accepted.recv().await {
            acceptor.accept_link(peer, Box::new(link)).await;
        }
    });

    let epoch = Epoch::at(NOW);
    let descriptor = RelayDescriptor {
        relay: id,
        onion_key: onion.onion_key(epoch).await.ok_or("the driver runs")?,
        epoch,
        family: FamilyTag::from_bytes([number; 16]),
        subnet: SubnetTag::from_bytes([number; 16]),
        bandwidth: BandwidthClass::default(),
        expiry: epoch.end(),
    };
    Ok((onion, incoming, descriptor))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // ANCHOR: check
    let hub = Arc::new(Hub::default());
    let (tester, tested) = (NodeId::from_bytes([0xfe; 32]), NodeId::from_bytes([0xff; 32]));
    let (listener, mut accepted) = unbounded_channel();
    hub.listeners().insert(tested, listener);
    let links = SocketLinks { from: tester, hub: hub.clone() };
    check_links(&links, tested, async || {
        Box::new(accepted.recv().await.expect("a link").1) as Box<dyn ByteLink>
    })
    .await;
    println!("checked   the contract of Links holds");
    // ANCHOR_END: check

    let (client, _, _) = node(1, &hub).await?;
    let (_relay, _, hop) = node(2, &hub).await?;
    let (_destination, mut incoming, end) = node(3, &hub).await?;
    let circuit = client.build(vec![hop.clone(), end.clone()]).await?;
    let mut stream = circuit.open(7).await?;
    stream.write_all(b"over sockets").await?;
    let mut heard = [0; 12];
    incoming.recv().await.ok_or("a stream came")?.stream.read_exact(&mut heard).await?;
    println!("carried   {}", String::from_utf8_lossy(&heard));

    // ANCHOR: refusal
    let nobody = RelayDescriptor { relay: NodeId::from_bytes([9; 32]), ..end };
    match client.build(vec![hop, nobody]).await {
        Err(BuildError::Hop { hop: Some(1), reason }) => println!("refused   hop 1: {reason}"),
        other => return Err(format!("a circuit to nobody: {other:?}").into()),
    }
    // ANCHOR_END: refusal
    Ok(())
}
