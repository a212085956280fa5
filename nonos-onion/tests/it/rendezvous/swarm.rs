//! A stock libp2p swarm over [`OnionTransport`]: nothing in it knows of onions.

use std::time::Duration;

use libp2p::core::transport::{DialOpts, ListenerId, PortUse, TransportError};
use libp2p::core::upgrade::Version;
use libp2p::core::{Endpoint, Transport};
use libp2p::futures::StreamExt;
use libp2p::swarm::SwarmEvent;
use libp2p::{Multiaddr, Swarm, identity, noise, ping, yamux};
use nonos_onion::rendezvous::{Environment, HostConfig, HubLimits, OnionTransport, OnionTransportError};
use nonos_onion::testing::HubNetwork;

use super::{CLIENT, SERVICE, service};

fn swarm(transport: OnionTransport) -> Swarm<ping::Behaviour> {
    let keys = identity::Keypair::generate_ed25519();
    let peer = keys.public().to_peer_id();
    let transport = transport
        .upgrade(Version::V1Lazy)
        .authenticate(noise::Config::new(&keys).unwrap())
        .multiplex(yamux::Config::default())
        .boxed();
    let ping = ping::Behaviour::new(ping::Config::new().with_interval(Duration::from_millis(100)));
    let config =
        libp2p::swarm::Config::with_tokio_executor().with_idle_connection_timeout(Duration::from_secs(60));
    Swarm::new(transport, ping, peer, config)
}

async fn environments() -> (HubNetwork, [(nonos_onion::testing::Node, Environment); 2]) {
    let hubs = HubNetwork::new(10, HubLimits::default()).await;
    let nodes = [hubs.add(CLIENT).await, hubs.add(SERVICE).await];
    (hubs, nodes)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stock_swarm_pings_over_onions() {
    let (_hubs, [client, server]) = environments().await;
    let offered = service(&server.1);
    let address = OnionTransport::multiaddr(&offered.address(), 4001);
    let transport = OnionTransport::new(server.1.clone(), &[1; 32]);
    let mut listener = swarm(transport.with_service(offered, HostConfig::default()));
    let mut dialer = swarm(OnionTransport::new(client.1.clone(), &[2; 32]));
    let id = listener.listen_on(address.clone()).unwrap();
    loop {
        if let SwarmEvent::NewListenAddr { listener_id, address: listening } =
            listener.select_next_some().await
        {
            assert_eq!((listener_id, listening), (id, address.clone()));
            break;
        }
    }
    let peer = *listener.local_peer_id();
    tokio::spawn(async move {
        loop {
            listener.select_next_some().await;
        }
    });
    // With the peer id behind the address, as a swarm does.
    dialer.dial(address.with_p2p(peer).unwrap()).unwrap();
    let pings = async {
        let mut pings = 0;
        while pings < 5 {
            match dialer.select_next_some().await {
                SwarmEvent::Behaviour(event) => {
                    assert_eq!(event.peer, peer);
                    event.result.unwrap();
                    pings += 1;
                }
                SwarmEvent::OutgoingConnectionError { error, .. } => panic!("{error}"),
                _ => {}
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), pings).await.unwrap();
}

#[tokio::test]
async fn a_transport_listens_at_its_own_address_alone() {
    let (_hubs, [client, server]) = environments().await;
    let own = service(&server.1);
    let address = OnionTransport::multiaddr(&own.address(), 4001);
    let refused = |result: Result<(), TransportError<OnionTransportError>>| {
        matches!(result, Err(TransportError::MultiaddrNotSupported(_)))
    };
    let mut dials_only = OnionTransport::new(client.1, &[1; 32]);
    assert!(refused(dials_only.listen_on(ListenerId::next(), address.clone())));
    let mut transport = OnionTransport::new(server.1, &[1; 32]).with_service(own, HostConfig::default());
    let tcp: Multiaddr = "/ip4/127.0.0.1/tcp/0".parse().unwrap();
    assert!(refused(transport.listen_on(ListenerId::next(), tcp.clone())));
    let options = DialOpts { role: Endpoint::Dialer, port_use: PortUse::Reuse };
    assert!(matches!(transport.dial(tcp, options), Err(TransportError::MultiaddrNotSupported(_))));
    let id = ListenerId::next();
    transport.listen_on(id, address.clone()).unwrap();
    assert!(matches!(
        transport.listen_on(ListenerId::next(), address),
        Err(TransportError::Other(OnionTransportError::Port(4001)))
    ));
    assert!(transport.remove_listener(id) && !transport.remove_listener(id));
}
