//! Onion services of a node, and how it visits those of others.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use nonos_identity::{NetworkId, NodeId, SigningKey};
use nonos_onion::link::{Onion, system_clock};
use nonos_onion::rendezvous::{Dialer, DialerConfig, Environment, Host, HostConfig, RelayCircuits};
use nonos_onion::service::Service;
use nonos_onion::{GuardSet, HopClass, PathRules, PathSelector, RelayDescriptor, Vanguards};

use super::directory::{self, Relays};
use super::node::serve_bytes;
use crate::Failure;

pub(super) struct Services {
    environment: Environment,
    dialer: Arc<Dialer>,
    seed: [u8; 32],
    guards: Arc<Mutex<GuardSet>>,
    /// Dialers that were made.
    dialers: u64,
    /// Keeps the service on line.
    host: Option<Host>,
}

impl Services {
    pub(super) fn new(
        onion: Onion,
        id: NodeId,
        relays: Vec<RelayDescriptor>,
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
        let guards = Arc::new(Mutex::new(GuardSet::new(id)));
        let kept = Arc::clone(&guards);
        let circuits = Arc::new(RelayCircuits::new(
            onion,
            (GuardSet::new(id), Vanguards::default()),
            (PathSelector::new(rules), hops),
            system_clock(),
            Arc::new(move |set, _| *kept.lock().unwrap_or_else(PoisonError::into_inner) = set.clone()),
            &seed,
        ));
        let hubs: BTreeSet<NodeId> = relays.iter().map(|relay| relay.relay).collect();
        circuits.learn(relays.clone(), hubs);
        let environment = Environment {
            network: NetworkId::from_name("versus"),
            directory: Arc::new(Relays { circuits: Arc::clone(&circuits), relays }),
            circuits,
            randoms: Arc::new(|_| Some(directory::random())),
            clock: system_clock(),
        };
        let dialer = Arc::new(Dialer::new(environment.clone(), DialerConfig::default(), &seed));
        Ok(Self { environment, dialer, seed, guards, dialers: 0, host: None })
    }

    pub(super) fn dialer(&self) -> Arc<Dialer> {
        Arc::clone(&self.dialer)
    }

    /// One that has seen no descriptor.
    pub(super) fn fresh_dialer(&mut self, config: DialerConfig) -> Dialer {
        // What is drawn twice is refused as repeated.
        self.dialers += 1;
        let mut seed = self.seed;
        seed.iter_mut().zip(self.dialers.to_be_bytes()).for_each(|(to, from)| *to = from);
        Dialer::new(self.environment.clone(), config, &seed)
    }

    /// The relays at which the node's circuits begin.
    pub(super) fn guards(&self) -> Vec<NodeId> {
        self.guards.lock().unwrap_or_else(PoisonError::into_inner).guards().collect()
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
