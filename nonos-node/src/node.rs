use std::cmp::Reverse;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use nonos_capsule::{FileCapsuleStore, FileNonceStore, Runtime};
use nonos_identity::{Identity, NetworkId, NodeId, OnionAddress, OnionNetwork, Timestamp};
use nonos_ledger::{Ledger, PriceTable};
use nonos_mesh::libp2p::Handle as MeshHandle;
use nonos_onion::link::Onion;
use nonos_onion::rendezvous::Hub;
use nonos_onion::service::MemoryDirectory;
use nonos_trust::{Evidence, TrustEngine};
use nonos_zk::Prover;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::board::Board;
use crate::builder::NodeBuilder;
use crate::chains::Chains;
use crate::clock;
use crate::config::Config;
use crate::discloser::Desk;
use crate::dispute::answer::Limiter;
use crate::event::{Event, EventLog};
use crate::files;
use crate::guards::Guards;
use crate::hops::Hops;
use crate::keys::{Generations, Rotatable};
use crate::records::{Job, Sealed, Signer};
use crate::seeder::Shelf;
use crate::services::Services;
use crate::slots::Slots;
use crate::store::ItemFile;
use crate::transit::Transit;

/// A running node; cheap to clone. It stops with [`Node::stop`] or with its runtime.
#[derive(Clone)]
pub struct Node {
    pub(crate) shared: Arc<Shared>,
    pub(crate) tasks: Arc<Mutex<JoinSet<()>>>,
}

/// What every task of a node sees.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) data_dir: PathBuf,
    pub(crate) identity: Identity,
    pub(crate) me: NodeId,
    pub(crate) network: NetworkId,
    pub(crate) prices: PriceTable,
    /// Renewed before they expire.
    pub(crate) credentials: Mutex<Credentials>,
    pub(crate) mesh: MeshHandle,
    pub(crate) onion: Onion,
    pub(crate) runtime: Runtime,
    pub(crate) capsules: FileCapsuleStore,
    pub(crate) nonces: FileNonceStore,
    /// Of this node's runs.
    pub(crate) chains: Chains,
    /// Bounds what challengers can make this node do.
    pub(crate) answers: Limiter,
    pub(crate) generations: Generations,
    pub(crate) slots: Mutex<Slots>,
    /// Of executors.
    pub(crate) prover: Option<Arc<dyn Prover>>,
    pub(crate) board: Arc<Mutex<Board>>,
    pub(crate) trust: Mutex<TrustEngine>,
    pub(crate) ledger: Mutex<Ledger>,
    pub(crate) guards: Mutex<Guards>,
    pub(crate) hops: Mutex<Hops>,
    /// Proofs of what relays carried; nothing for a node that never asked for any.
    pub(crate) transit: Option<Transit>,
    /// Of all services of the mesh that fall to this node.
    pub(crate) descriptors: MemoryDirectory,
    pub(crate) hub: Hub,
    /// Set once at the start: they hold a weak reference to this.
    pub(crate) services: OnceLock<Services>,
    pub(crate) shelf: Mutex<Shelf>,
    pub(crate) desk: Arc<Desk>,
    /// Held while the shelf is filled: one load at a time.
    pub(crate) loading: tokio::sync::Mutex<()>,
    pub(crate) items: Arc<ItemFile>,
    /// A permit per job in work.
    pub(crate) jobs: Semaphore,
    pub(crate) events: Arc<EventLog>,
    pub(crate) started: Instant,
    pub(crate) stopping: watch::Sender<bool>,
}

/// What the root key signed for this node, for a limited time.
pub(crate) struct Credentials {
    /// Signs records.
    pub(crate) signer: Signer,
    /// The node's enrolment as an operator.
    pub(crate) enrolment: Sealed,
    /// When they are renewed.
    pub(crate) renewal: Timestamp,
}

impl Node {
    /// A node with these settings and keys; nothing starts before [`NodeBuilder::start`].
    pub fn builder(config: Config, identity: Identity) -> NodeBuilder {
        NodeBuilder::new(config, identity)
    }

    /// The node's id.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.shared.me
    }

    /// What happens at the node, in order.
    #[must_use]
    pub fn events(&self) -> &EventLog {
        &self.shared.events
    }

    /// Waits until somebody stopped the node.
    pub async fn stopped(&self) {
        let mut stopping = self.shared.stopping.subscribe();
        // The sender lives in `shared`, which `self` holds.
        let _ = stopping.wait_for(|stopping| *stopping).await;
    }

    /// Closes links and circuits in good order, saves the trust view and stops. Dropping the
    /// runtime instead ends the node as a power cut would; nothing acknowledged is lost.
    pub async fn stop(self) {
        self.shared.stopping.send_replace(true);
        self.shared.save_trust();
        self.shared.mesh.shutdown().await;
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).abort_all();
    }
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node").field("id", &self.shared.me).finish_non_exhaustive()
    }
}

impl Shared {
    pub(crate) fn board(&self) -> MutexGuard<'_, Board> {
        // Every change of the board is one map operation, so a panic leaves it whole.
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn trust(&self) -> MutexGuard<'_, TrustEngine> {
        self.trust.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn credentials(&self) -> MutexGuard<'_, Credentials> {
        self.credentials.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn slots(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn guards(&self) -> MutexGuard<'_, Guards> {
        self.guards.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// # Panics
    /// Before the end of the start.
    pub(crate) fn services(&self) -> &Services {
        self.services.get().expect("services start with the node")
    }

    pub(crate) fn hops(&self) -> MutexGuard<'_, Hops> {
        self.hops.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn tell(&self, event: Event) {
        self.events.push(self.started.elapsed(), event);
    }

    pub(crate) fn fail(&self, what: &str, error: &dyn std::error::Error) {
        let mut reason = error.to_string();
        let mut source = error.source();
        while let Some(error) = source {
            reason = format!("{reason}: {error}");
            source = error.source();
        }
        tracing::warn!(what, reason, "work failed");
        self.tell(Event::Failed { what: what.into(), reason });
    }

    pub(crate) fn observe(&self, peer: NodeId, evidence: Evidence) {
        self.trust().observe(peer, evidence, clock::now());
    }

    /// Tells that something was refused and holds it against its sender.
    pub(crate) fn refuse(&self, what: &str, check: &str, from: NodeId, evidence: Evidence) {
        self.observe(from, evidence);
        self.tell(Event::Refused { what: what.into(), check: check.into(), from });
    }

    pub(crate) fn onion_address(&self) -> OnionAddress {
        OnionAddress::new(OnionNetwork::Mesh, self.generations.key(&self.identity, Rotatable::Onion).public())
    }

    pub(crate) fn transport_key(&self) -> nonos_identity::PublicKey {
        self.identity.transport_key(&self.network).public()
    }

    pub(crate) fn save_trust(&self) {
        let snapshot = self.trust().snapshot();
        if let Err(error) = files::replace(&self.data_dir.join(TRUST_FILE), &snapshot) {
            tracing::warn!(%error, "the trust view was not saved");
        }
    }

    /// Enrolments that count now of this node and of the operators it trusts most: whoever grinds
    /// identities does not crowd out those with a name.
    pub(crate) fn operators(&self, now: Timestamp) -> Vec<Sealed> {
        let mut known = self.board().enrolments();
        known.retain(|(_, sealed)| nonos_zk::Enrolment::check(&sealed.0, &self.network, now).is_ok());
        {
            let trust = self.trust();
            known.sort_by_key(|(node, _)| Reverse(trust.score(node, now).permille()));
        }
        let others = known.into_iter().map(|(_, sealed)| sealed);
        others.take(Job::OPERATORS_MAX - 1).chain([self.credentials().enrolment.clone()]).collect()
    }
}

/// Name of the saved trust view in a data directory.
pub(crate) const TRUST_FILE: &str = "trust.bin";
