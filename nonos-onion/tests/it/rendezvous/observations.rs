//! What every party of a visit observes: who it can name, and what it can read.

use std::collections::{BTreeMap, BTreeSet};

use nonos_identity::NodeId;
use nonos_onion::GuardSet;
use nonos_onion::rendezvous::{HostConfig, HubLimits, ports};
use nonos_onion::service::TimePeriod;
use nonos_onion::testing::HubNetwork;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{MARKER, Mesh, service};

/// Whom a node can name: its neighbours, and who is named in what it saw of cells and streams.
fn named(mesh: &Mesh, node: NodeId, parties: &[NodeId]) -> BTreeSet<NodeId> {
    let view = mesh.hubs.network().observer().view(node);
    let streams = mesh.hubs.seen(node);
    let is_named = |party: &&NodeId| {
        let name = &party.as_bytes()[..16];
        **party != node
            && (view.neighbours.contains(*party)
                || view.contains(name)
                || streams.iter().any(|stream| stream.contains(name)))
    };
    parties.iter().filter(is_named).copied().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_two_ends_are_known_to_their_first_hops_alone_and_to_none_both() {
    let hubs = HubNetwork::new(12, HubLimits::default()).await;
    hubs.network().observer().record();
    let mut mesh = Mesh::over(hubs, HostConfig::default()).await;
    mesh.echo();
    let (dialer, address) = (mesh.dialer(), mesh.address());
    for _ in 0..5 {
        let mut stream = dialer.dial(&address, 80, None).await.unwrap();
        stream.write_all(MARKER).await.unwrap();
        stream.read_exact(&mut [0; MARKER.len()]).await.unwrap();
    }

    let relays: Vec<NodeId> = mesh.hubs.relays().collect();
    let (client, host) = (mesh.client.0.id, mesh.server.0.id);
    let parties: Vec<NodeId> = relays.iter().copied().chain([client, host]).collect();
    let neighbours = |node| mesh.hubs.network().observer().view(node).neighbours;
    let knows: BTreeMap<NodeId, BTreeSet<NodeId>> =
        parties.iter().map(|&party| (party, named(&mesh, party, &parties))).collect();
    for (&party, known) in &knows {
        // Nobody is named by what passes: who is known is a neighbour, and nobody else.
        assert_eq!(*known, neighbours(party), "{party}");
        assert!(!(known.contains(&client) && known.contains(&host)), "{party} knows both ends");
    }
    for end in [client, host] {
        let first_hops: BTreeSet<NodeId> =
            knows.iter().filter(|(_, known)| known.contains(&end)).map(|(party, _)| *party).collect();
        assert_eq!(first_hops, neighbours(end));
        assert!((1..=GuardSet::SIZE).contains(&first_hops.len()), "{}", first_hops.len());
    }
    assert!(!knows[&client].contains(&host) && !knows[&host].contains(&client));

    // Whoever holds a port knows what the port is for, and of the service a key that is used there alone.
    let used: BTreeSet<u16> =
        relays.iter().flat_map(|&relay| mesh.hubs.seen(relay)).map(|it| it.port).collect();
    assert_eq!(used, BTreeSet::from(ports::ALL));
    let key = address.key();
    let secrets = [MARKER, key.as_bytes(), address.to_string().as_bytes()].map(<[u8]>::to_vec);
    for &relay in &relays {
        let view = mesh.hubs.network().observer().view(relay);
        for secret in &secrets {
            assert!(!view.contains(secret) && mesh.hubs.seen(relay).iter().all(|it| !it.contains(secret)));
        }
    }

    // A directory holds what names neither the service nor where it is introduced.
    let environment = &mesh.server.1;
    let now = (environment.clock)();
    let mut records = Vec::new();
    for period in TimePeriod::published_at(now) {
        let random = (environment.randoms)(period).unwrap();
        for index in service(environment).indices(period, &random) {
            records.extend(environment.directory.fetch(index).await.unwrap());
        }
    }
    assert!(records.len() >= 2);
    for record in &records {
        let contains = |needle: &[u8]| record.windows(needle.len()).any(|window| window == needle);
        assert!(!secrets.iter().any(|secret| contains(secret)));
        assert!(!parties.iter().any(|party| contains(&party.as_bytes()[..16])));
    }
}
