//! Onion services of a node, and descriptors in a folder that all nodes of a comparison share.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use data_encoding::HEXLOWER;
use nonos_identity::{NetworkId, NodeId, SigningKey};
use nonos_onion::link::{Onion, system_clock};
use nonos_onion::rendezvous::{Dialer, Environment, Host, HostConfig, RelayCircuits};
use nonos_onion::service::{
    Directory, DirectoryError, DirectoryFuture, DirectoryIndex, Service, SharedRandom,
};
use nonos_onion::{GuardSet, HopClass, PathRules, PathSelector, RelayDescriptor, Vanguards};

use super::node::serve_bytes;
use crate::Failure;

/// What a comparison measures begins after a descriptor was found, so where it is does not matter.
struct Folder(PathBuf);

impl Directory for Folder {
    fn publish(&self, index: DirectoryIndex, bytes: Vec<u8>) -> DirectoryFuture<()> {
        let written = fs::write(self.0.join(HEXLOWER.encode(index.as_bytes())), bytes);
        Box::pin(async move { written.map_err(|_| DirectoryError::Unreachable) })
    }

    fn fetch(&self, index: DirectoryIndex) -> DirectoryFuture<Vec<Vec<u8>>> {
        let record = fs::read(self.0.join(HEXLOWER.encode(index.as_bytes())));
        Box::pin(async move { Ok(record.into_iter().collect()) })
    }
}

pub(super) struct Services {
    environment: Environment,
    dialer: Arc<Dialer>,
    seed: [u8; 32],
    /// Keeps the service on line.
    host: Option<Host>,
}

impl Services {
    pub(super) fn new(
        onion: Onion,
        id: NodeId,
        relays: Vec<RelayDescriptor>,
        directory: PathBuf,
        hops: u8,
        seed: [u8; 32],
    ) -> Result<Self, Failure> {
        let hops = match hops {
            2 => HopClass::Two,
            3 => HopClass::Three,
            other => return Err(format!("{other} relays are not measured").into()),
        };
        // A handful of relays: each is a large share of the weight.
        let rules = PathRules { max_operator_share_permille: 1000, ..PathRules::default() };
        let circuits = RelayCircuits::new(
            onion,
            (GuardSet::new(id), Vanguards::default()),
            (PathSelector::new(rules), hops),
            system_clock(),
            Arc::new(|_, _| {}),
            &seed,
        );
        let hubs: BTreeSet<NodeId> = relays.iter().map(|relay| relay.relay).collect();
        circuits.learn(relays, hubs);
        let environment = Environment {
            network: NetworkId::from_name("versus"),
            circuits: Arc::new(circuits),
            directory: Arc::new(Folder(directory)),
            randoms: Arc::new(|_| Some(SharedRandom::from_bytes([0; 32]))),
            clock: system_clock(),
        };
        let dialer = Arc::new(Dialer::new(environment.clone(), &seed));
        Ok(Self { environment, dialer, seed, host: None })
    }

    pub(super) fn dialer(&self) -> Arc<Dialer> {
        Arc::clone(&self.dialer)
    }

    /// Offers a service and waits until it is published; yields its address.
    pub(super) async fn offer(&mut self) -> Result<String, Failure> {
        let service = Service::new(self.environment.network, &SigningKey::from_seed(&self.seed))?;
        let environment = self.environment.clone();
        let (host, mut visitors) =
            Host::spawn(environment, Arc::new(service), HostConfig::default(), &self.seed)?;
        tokio::spawn(async move {
            while let Some(visit) = visitors.recv().await {
                // A visitor that goes ends its own stream.
                tokio::spawn(async move { drop(serve_bytes(visit.stream).await) });
            }
        });
        if !host.published().await {
            return Err("the host stopped".into());
        }
        Ok(self.host.insert(host).address().to_string())
    }
}
