use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use nonos_capsule::{AotCache, Compiler, FileCapsuleStore, FileNonceStore, Runtime};
use nonos_identity::wire;
use nonos_identity::{Certificate, Epoch, Identity, NetworkId, NodeId, Role, Timestamp};
use nonos_ledger::redb::RedbStore;
use nonos_ledger::{Ledger, PriceTable};
use nonos_mesh::libp2p::{Driver, DriverConfig, EventReceiver};
use nonos_mesh::{BeaconBody, Capabilities, Check as _, Store as _};
use nonos_onion::EpochKeys;
use nonos_onion::link::{Incoming, OnionDriver, Payments, system_clock};
use nonos_onion::rendezvous::{Hub, HubLimits};
use nonos_onion::service::{MemoryDirectory, MemoryLimits};
use nonos_onion::transit::MAX_BATCHES;
use nonos_trust::TrustEngine;
use nonos_zk::groth16::{PoolConfig, VerifierPool};
use nonos_zk::{Enrolment, IdentitySecret, Prover, Verifier};
use tokio::net::UnixListener;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use zeroize::Zeroizing;

use crate::board::Board;
use crate::chains::Chains;
use crate::circuits::{Descriptors, LINK_PROTOCOL, MeshLinks, descriptor};
use crate::clock;
use crate::config::Config;
use crate::control::SOCKET;
use crate::discloser::Desk;
use crate::dispute::answer::Limiter;
use crate::event::EventLog;
use crate::gate::{FACTS_MAX, Gate};
use crate::guards::{self, Guards};
use crate::hops::Hops;
use crate::keys::{self, Generations, KeyError, Rotatable};
use crate::node::{Credentials, Node, Shared, TRUST_FILE};
use crate::operators::parse_root;
use crate::proofs::{Proofs, groth16};
use crate::records::{Sealed, Signer};
use crate::services::{self, Services};
use crate::slots::Slots;
use crate::store::ItemFile;
use crate::transit::{self, Transit};
use crate::wasm_prover::WasmProverError;
use crate::{control_socket, directory, executor, tasks};

/// Jobs an executor works on at a time: a run and its proof each want the whole machine.
const JOBS_AT_ONCE: usize = 1;

/// Descriptors that a node keeps for others: those of about a thousand services.
const DIRECTORY_LIMITS: MemoryLimits = MemoryLimits { entries: 2048, bytes: 32 << 20 };

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A file or directory of the node cannot be used.
    #[error("cannot use {path}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// One of the node's stores does not open.
    #[error("cannot open {path}: {message}")]
    Store {
        /// The file.
        path: PathBuf,
        /// Why.
        message: String,
    },
    /// No proving keys that the operator allows.
    #[error(
        "no keys: name the verifying_key of a ceremony in config.toml, and the proving_keys if the node is an \
         executor. Keys from the published seed need allow_insecure_dev_keys = true; whoever knows that seed \
         can forge proofs"
    )]
    NoKeys,
    /// The proving keys do not load.
    #[error("proving keys: {0}")]
    Keys(String),
    /// The prover module of the settings cannot be used.
    #[error(transparent)]
    ProverModule(#[from] WasmProverError),
    /// The capsule runtime does not start.
    #[error(transparent)]
    Engine(#[from] nonos_capsule::EngineError),
    /// The node's own records do not hold; a clock far off is the usual reason.
    #[error("the node cannot certify its own keys: {0}")]
    Certify(String),
    /// A setting has no meaning.
    #[error("config.toml: {0}")]
    Settings(String),
    /// The key files cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The mesh does not start.
    #[error(transparent)]
    Mesh(#[from] nonos_mesh::libp2p::DriverError),
    /// The onion layer does not start.
    #[error(transparent)]
    Onion(#[from] nonos_onion::ConfigError),
    /// The system gives no threads to verify on.
    #[error("cannot start the threads that verify proofs")]
    Threads(#[source] std::io::Error),
    /// The mesh stopped while the node started.
    #[error("the mesh stopped while the node started")]
    Stopped,
}

/// Sets a node up.
#[derive(Debug)]
#[must_use]
pub struct NodeBuilder {
    config: Config,
    identity: Identity,
    data_dir: PathBuf,
    serve_control: bool,
    proofs: Option<Proofs>,
    compiler: Compiler,
}

impl NodeBuilder {
    pub(crate) fn new(config: Config, identity: Identity) -> Self {
        Self {
            config,
            identity,
            data_dir: "nonos-data".into(),
            serve_control: false,
            proofs: None,
            compiler: Compiler::default(),
        }
    }

    /// Where the node keeps its records; `nonos-data` if not said.
    pub fn data_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.data_dir = path.into();
        self
    }

    /// Where capsules are compiled; in this process if not said. The command `nonos` starts itself
    /// as a child, so that a hostile capsule meets the kernel's limits and not the node.
    pub fn compiler(mut self, compiler: Compiler) -> Self {
        self.compiler = compiler;
        self
    }

    /// Answers the control interface on a Unix socket in the data directory.
    pub const fn serve_control(mut self, serve: bool) -> Self {
        self.serve_control = serve;
        self
    }

    /// Brings another prover and its verifier, in place of Groth16.
    pub fn proofs(mut self, prover: Arc<dyn Prover>, verifier: Arc<dyn Verifier>) -> Self {
        self.proofs = Some(Proofs { prover: Some(prover), verifier });
        self
    }

    /// Starts the node on the current tokio runtime, which must be multi-threaded.
    ///
    /// # Errors
    /// [`StartError`] says what is missing and whose it is to mend.
    pub async fn start(self) -> Result<Node, StartError> {
        let Self { config, identity, data_dir, serve_control, proofs, compiler } = self;
        let now = clock::now();
        let network = NetworkId::from_name(&config.network);
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&data_dir)
            .map_err(|source| StartError::Io { path: data_dir.clone(), source })?;
        let proofs = match proofs {
            Some(proofs) => proofs,
            None => groth16(&config, &data_dir)?,
        };

        // Receipts come from many peers at once; what waits together is verified together.
        let verifier =
            VerifierPool::new(proofs.verifier, PoolConfig::default()).map_err(StartError::Threads)?;
        let verifier: Arc<dyn Verifier> = Arc::new(verifier);
        let me = identity.node_id();
        config.check_services().map_err(|error| StartError::Settings(error.to_string()))?;
        config.auditor_keys().map_err(|error| StartError::Settings(error.to_string()))?;
        if let Some(root) = config.operator_roots.iter().find(|root| parse_root(root).is_none()) {
            let problem = format!("operator_roots: {root:?} is no root as `nonos operators` prints it");
            return Err(StartError::Settings(problem));
        }
        let generations = Generations::load(&data_dir)?;
        let credentials = Credentials::issue(&data_dir, &identity, generations, network, now)?;
        let prices = PriceTable {
            version: 1,
            execution_nano: config.prices.execution_per_mgas,
            seeding_nano: config.prices.seeding_per_mib,
            verification_nano: config.prices.verification,
            relay_nano: config.prices.relay_per_kib,
        };

        let board = Arc::new(Mutex::new(Board::default()));
        let events = Arc::new(EventLog::default());
        let started = Instant::now();
        let gate = |facts, events| Gate {
            network,
            verifier: verifier.clone(),
            board: board.clone(),
            events,
            started,
            facts,
            lies_as: config.tamper.map(|_| me),
        };
        // Stored jobs are resumed at the end of the start. Verdicts and trust were counted when
        // their items came; counting them again would inflate both.
        let replay = gate(mpsc::channel(1).0, Arc::default());
        let items = Arc::new(open_items(&data_dir.join("items.redb"), &replay, me, now)?);
        let (facts_in, facts) = mpsc::channel(FACTS_MAX);
        let gate = Arc::new(gate(facts_in, events.clone()));

        let transport = identity.transport_key(&network);
        let mut driver = DriverConfig::new(*transport.to_seed(), clock::random());
        driver.listen.clone_from(&config.listen);
        let mut mesh = nonos_mesh::Config::new(
            network,
            generations.key(&identity, Rotatable::EpochSigner),
            credentials.signer.certificate.clone(),
        );
        mesh.sync.interval = Duration::from_secs(config.sync_interval_secs);
        mesh.links.exchange_interval = mesh.links.exchange_interval.min(mesh.sync.interval);
        mesh.beacon.interval_min = Duration::from_millis(config.beacon_min_ms);
        let (mesh, mesh_events) = Driver::spawn(driver, mesh, items.clone(), gate).await?;

        let links = Arc::new(MeshLinks(mesh.clone()));
        let epoch_keys = EpochKeys::new(Zeroizing::new(clock::random()), now);
        let (onion, incoming, payments) = OnionDriver::spawn(
            onion_config(&config, network, me),
            epoch_keys,
            links,
            system_clock(),
            clock::random(),
        )?;

        let slots = Slots::open(&data_dir, Epoch::at(now))
            .map_err(|error| StartError::Store { path: data_dir.clone(), message: error.to_string() })?;
        let hops = Hops::new(config.circuits, Epoch::at(now))
            .map_err(|error| StartError::Settings(error.to_string()))?;
        let guards = Guards::open(&data_dir, me, &identity.zk_secret(0))?;
        let trust = open_trust(&data_dir.join(TRUST_FILE), me, &network, now)?;
        let ledger = open_ledger(&data_dir.join("ledger.redb"))?;
        let transit = Transit::open(&data_dir, &config.circuits).map_err(|error| StartError::Store {
            path: data_dir.join(transit::FILE),
            message: error.to_string(),
        })?;
        let shared = Arc::new(Shared {
            me,
            network,
            prices,
            credentials: Mutex::new(credentials),
            mesh,
            onion,
            runtime: Runtime::new(nonos_capsule::Config {
                compiler,
                cache: Some(open_cache(&data_dir.join("compiled"))?),
                ..nonos_capsule::Config::default()
            })?,
            capsules: FileCapsuleStore::open(data_dir.join("capsules")).map_err(|error| {
                StartError::Store { path: data_dir.join("capsules"), message: error.to_string() }
            })?,
            nonces: FileNonceStore::open(data_dir.join("nonces.log")).map_err(|error| StartError::Store {
                path: data_dir.join("nonces.log"),
                message: error.to_string(),
            })?,
            chains: Chains::open_directory(data_dir.join("chains"))
                .map_err(|source| StartError::Io { path: data_dir.join("chains"), source })?,
            answers: Limiter::new(started),
            generations,
            slots: Mutex::new(slots),
            prover: proofs.prover,
            board,
            trust: Mutex::new(trust),
            ledger: Mutex::new(ledger),
            guards: Mutex::new(guards),
            hops: Mutex::new(hops),
            transit,
            descriptors: MemoryDirectory::new(network, DIRECTORY_LIMITS),
            hub: Hub::new(network, me, HubLimits::default(), &clock::random()),
            services: OnceLock::new(),
            shelf: Mutex::default(),
            desk: Arc::new(Desk::new(&data_dir)),
            loading: tokio::sync::Mutex::default(),
            items,
            jobs: Semaphore::new(JOBS_AT_ONCE),
            events,
            started,
            stopping: watch::Sender::new(false),
            config,
            data_dir,
            identity,
        });
        let services = Services::start(&shared).map_err(|error| StartError::Settings(error.to_string()))?;
        let _ = shared.services.set(services);
        shared.descriptors.advance(now, directory::randoms(&network, now));
        if shared.config.roles.relay && !shared.config.onion_services.is_empty() {
            tracing::warn!(
                "a node that relays and offers onion services can be found by their visitors: see roles.relay"
            );
        }
        let node = Node { shared, tasks: Arc::new(Mutex::new(JoinSet::new())) };
        node.shared.announce(now).await?;
        node.spawn(Inlets { mesh_events, incoming, payments, facts }, serve_control).await?;
        node.resume();
        Ok(node)
    }
}

/// Where work comes in.
struct Inlets {
    mesh_events: EventReceiver,
    incoming: Incoming,
    payments: Payments,
    facts: mpsc::Receiver<crate::gate::Fact>,
}

impl Node {
    /// Takes up the stored jobs again; those that ran here before are known by their nonce.
    fn resume(&self) {
        if !self.shared.config.roles.executor {
            return;
        }
        let jobs: Vec<_> = self.shared.board().jobs.keys().copied().collect();
        for job in jobs {
            let shared = self.shared.clone();
            tokio::spawn(async move { executor::work(&shared, job).await });
        }
    }

    async fn spawn(&self, inlets: Inlets, serve_control: bool) -> Result<(), StartError> {
        let shared = &self.shared;
        let onion_links =
            shared.mesh.incoming_streams(LINK_PROTOCOL).await.map_err(|_| StartError::Stopped)?;
        let transits = match shared.config.circuits.prove_transit {
            true => Some(shared.onion.transits().await),
            false => None,
        };
        let control = serve_control.then(|| bind(&shared.data_dir.join(SOCKET))).transpose()?;
        let mut set = self.tasks.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        set.spawn(tasks::mesh_events(shared.clone(), inlets.mesh_events));
        set.spawn(tasks::onion_links(shared.clone(), onion_links));
        set.spawn(tasks::streams(shared.clone(), inlets.incoming));
        set.spawn(tasks::payments(shared.clone(), inlets.payments));
        set.spawn(tasks::facts(shared.clone(), inlets.facts));
        set.spawn(tasks::epochs(shared.clone()));
        set.spawn(guards::keep_links(shared.clone()));
        if let Some(transits) = transits {
            set.spawn(transit::keep(shared.clone(), transits));
        }
        if shared.transit.is_some() {
            set.spawn(transit::settle_debts(shared.clone()));
        }
        set.spawn(services::announce(shared.clone()));
        if let Some(listener) = control {
            let node = self.clone();
            set.spawn(async move {
                if let Err(error) = control_socket::serve(node, listener).await {
                    tracing::error!(%error, "the control socket stopped");
                }
            });
        }
        Ok(())
    }
}

impl Credentials {
    /// Lets the root sign what the node needs until the next renewal.
    fn issue(
        data_dir: &Path,
        identity: &Identity,
        generations: Generations,
        network: NetworkId,
        now: Timestamp,
    ) -> Result<Self, StartError> {
        let root = identity.root_key();
        let key = generations.key(identity, Rotatable::EpochSigner);
        let (certificate, _) = keys::certify(data_dir, &root, &key, Role::EpochSigner, &network, now)?;
        let secret = IdentitySecret::from_seed(&identity.zk_secret(0));
        let enrolment = Enrolment::sign(&root, &network, secret.operator_key(), now)
            .map_err(|error| StartError::Certify(error.to_string()))?;
        Ok(Self {
            signer: Signer { key, certificate, network },
            enrolment: Sealed(enrolment.as_bytes().to_vec()),
            renewal: now.saturating_add(Certificate::MAX_LIFETIME / 2),
        })
    }
}

impl Shared {
    /// Renews certificate and enrolment at half their life.
    pub(crate) async fn renew(&self, now: Timestamp) -> Result<(), StartError> {
        if now < self.credentials().renewal {
            return Ok(());
        }
        let fresh = Credentials::issue(&self.data_dir, &self.identity, self.generations, self.network, now)?;
        let certificate = fresh.signer.certificate.clone();
        *self.credentials() = fresh;
        let key = self.generations.key(&self.identity, Rotatable::EpochSigner);
        self.mesh.rotate(key, certificate).await.map_err(|_| StartError::Stopped)
    }

    /// Says in the beacon what this node offers, with the onion keys of this epoch and the next.
    pub(crate) async fn announce(&self, now: Timestamp) -> Result<(), StartError> {
        let epoch = Epoch::at(now);
        let mut descriptors = Vec::new();
        for epoch in [epoch, epoch.next()] {
            if let Some(key) = self.onion.onion_key(epoch).await {
                descriptors.push(descriptor(&self.config, self.me, epoch, key));
            }
        }
        let roles = self.config.roles;
        let capabilities = [
            (roles.relay, Capabilities::RELAY),
            (roles.seeder, Capabilities::SEEDER),
            (roles.executor, Capabilities::EXECUTOR),
            (roles.executor, Capabilities::ZK),
            (roles.verifier, Capabilities::VERIFIER),
            (roles.broadcaster, Capabilities::BROADCASTER),
        ];
        let capabilities = capabilities
            .into_iter()
            .filter_map(|(offered, capability)| offered.then_some(capability))
            .fold(Capabilities::default(), Capabilities::with);
        let body = BeaconBody {
            onion: self.onion_address().to_bytes().to_vec(),
            capabilities,
            attestations: Vec::new(),
            relay: wire::to_bytes(&Descriptors(descriptors)),
            extra: self.credentials().enrolment.0.clone(),
        };
        self.mesh.set_beacon(body).await.map_err(|_| StartError::Stopped)
    }
}

fn onion_config(config: &Config, network: NetworkId, me: NodeId) -> nonos_onion::Config {
    let mut onion =
        nonos_onion::Config { relaying: config.roles.relay, ..nonos_onion::Config::new(network, me) };
    onion.limits.transit_batches = config.circuits.transit_batches;
    if config.roles.relay && config.circuits.prove_transit {
        onion.limits.transit_batches_kept = MAX_BATCHES;
    }
    onion
}

/// Opens the items and takes in what they say; what no longer passes its check is dropped.
fn open_items(path: &Path, gate: &Gate, me: NodeId, now: Timestamp) -> Result<ItemFile, StartError> {
    let failed =
        |error: nonos_mesh::StoreError| StartError::Store { path: path.into(), message: error.to_string() };
    let items = ItemFile::open(path).map_err(failed)?;
    for item in items.all().map_err(failed)? {
        if gate.check(item.kind(), item.bytes(), me, now) != nonos_mesh::Verdict::Accept {
            items.remove(&item.id()).map_err(failed)?;
        }
    }
    Ok(items)
}

fn open_trust(
    path: &Path,
    me: NodeId,
    network: &NetworkId,
    now: Timestamp,
) -> Result<TrustEngine, StartError> {
    let failed = |message: String| StartError::Store { path: path.into(), message };
    match std::fs::read(path) {
        Ok(bytes) => TrustEngine::restore(nonos_trust::Config::default(), me, network, &bytes, now)
            .map_err(|error| failed(error.to_string())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            TrustEngine::new(nonos_trust::Config::default(), me).map_err(|error| failed(error.to_string()))
        }
        Err(source) => Err(StartError::Io { path: path.into(), source }),
    }
}

fn open_cache(path: &Path) -> Result<AotCache, StartError> {
    AotCache::open(path, AotCache::DEFAULT_MAX_BYTES)
        .map_err(|error| StartError::Store { path: path.into(), message: error.to_string() })
}

fn open_ledger(path: &Path) -> Result<Ledger, StartError> {
    let failed = |message: String| StartError::Store { path: path.into(), message };
    let store = RedbStore::open(path).map_err(|error| failed(error.to_string()))?;
    Ledger::open(Box::new(store)).map_err(|error| failed(error.to_string()))
}

fn bind(path: &Path) -> Result<UnixListener, StartError> {
    // A socket that a killed node left behind; a running node holds the ledger's lock, so two
    // nodes never get this far on one directory.
    match std::fs::remove_file(path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            return Err(StartError::Io { path: path.into(), source });
        }
        _ => {}
    }
    UnixListener::bind(path).map_err(|source| StartError::Io { path: path.into(), source })
}
