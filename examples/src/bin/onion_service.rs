//! Offers an onion service, visits it by its address alone, shows that no relay saw either end, and
//! refuses who is not authorised.
//!
//! Run with `cargo run -p nonos-examples --bin onion_service`. It prints:
//! ```text
//! published by 2 hosts
//! answered  who am I?
//! observed  10 relays; the service's address or the text: 0
//! refused   a stranger: client is not authorised
//! ```
#![expect(clippy::print_stdout, reason = "an example talks to its reader")]

use std::error::Error;
use std::sync::Arc;

use nonos_identity::{SigningKey, StaticSecret};
use nonos_onion::rendezvous::{Dialer, DialerConfig, Environment, Host, HostConfig, HubLimits, Visitors};
use nonos_onion::service::Service;
use nonos_onion::testing::HubNetwork;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const QUESTION: &[u8] = b"who am I?";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // Ten relays in memory, each with a hub, and a directory; a node of yours brings its own `Environment`.
    let mesh = HubNetwork::new(10, HubLimits::default()).await;
    mesh.network().observer().record();
    let ((_server, server), (_client, client)) = (mesh.add(40).await, mesh.add(50).await);
    let friend = StaticSecret::from_bytes(&[5; 32]);

    // ANCHOR: host
    let public = offer(&server, [1; 32], None)?;
    let private = offer(&server, [2; 32], Some(vec![friend.public()]))?;
    for (host, _) in [&public, &private] {
        if !host.published().await {
            return Err("the host stopped".into());
        }
    }
    println!("published by 2 hosts");
    // ANCHOR_END: host
    let (address, hidden) = (public.0.address(), private.0.address());
    tokio::spawn(answer(public.1));

    // ANCHOR: dial
    let dialer = Dialer::new(client, DialerConfig::default(), &[7; 32]);
    let mut stream = dialer.dial(&address, 80, None).await?;
    stream.write_all(QUESTION).await?;
    stream.shutdown().await?;
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply).await?;
    println!("answered  {}", String::from_utf8_lossy(&reply));
    // ANCHOR_END: dial

    let saw = |id: &_| {
        let key = address.key();
        let secrets = [QUESTION, key.as_bytes()];
        let view = mesh.network().observer().view(*id);
        secrets.iter().any(|it| view.contains(it) || mesh.seen(*id).iter().any(|stream| stream.contains(it)))
    };
    let relays: Vec<_> = mesh.relays().collect();
    let leaks = relays.iter().filter(|id| saw(id)).count();
    println!("observed  {} relays; the service's address or the text: {leaks}", relays.len());

    // ANCHOR: refusal
    dialer.dial(&hidden, 80, Some(&friend)).await?;
    let stranger = StaticSecret::from_bytes(&[6; 32]);
    match dialer.dial(&hidden, 80, Some(&stranger)).await {
        Err(error) => println!("refused   a stranger: {error}"),
        Ok(_) => return Err("a stranger was let in".into()),
    }
    // ANCHOR_END: refusal
    Ok(())
}

fn offer(
    environment: &Environment,
    seed: [u8; 32],
    clients: Option<Vec<[u8; 32]>>,
) -> Result<(Host, Visitors), Box<dyn Error>> {
    let service = Arc::new(Service::new(environment.network, &SigningKey::from_seed(&seed))?);
    let config = HostConfig { clients, ..HostConfig::default() };
    Ok(Host::spawn(environment.clone(), service, config, &seed)?)
}

/// Sends every visitor back what it says.
async fn answer(mut visitors: Visitors) {
    while let Some(visit) = visitors.recv().await {
        tokio::spawn(async move {
            let (mut reader, mut writer) = tokio::io::split(visit.stream);
            if tokio::io::copy(&mut reader, &mut writer).await.is_ok() {
                // The visitor may be gone.
                let _ = writer.shutdown().await;
            }
        });
    }
}
