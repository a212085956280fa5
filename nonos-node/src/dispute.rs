//! Disputes over the mesh: this node as the challenger of one peer, or as the referee of two.

use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nonos_capsule::dispute::{
    Ask, ChainError, Claimed, Dispute, DisputeError, Finding, Forfeit, Outcome, Pair, Party, RefereeError,
    Ruling, SignedChain, Slice, referee,
};
use nonos_identity::wire::{self, Wire as _};
use nonos_identity::{Digest, NodeId, Verified};
use nonos_onion::link::OnionStream;
use nonos_trust::{Evidence, Fault, FaultError};

use crate::circuits::{Route, RouteError, port};
use crate::clock::{self, millis};
use crate::control::{DisputeOutcome, DisputeParty, DisputeReport, DisputeRound, Lost, Response};
use crate::event::Event;
use crate::fetch::FetchError;
use crate::files;
use crate::node::Shared;
use crate::submit::{read_record, write_record};
use crate::tasks::blocking;

pub(crate) mod answer;
pub(crate) mod record;

use self::answer::{Query, Reply};
use self::record::{Bench, Case, Charge, ChargeError, Order, Proven};

/// Circuits tried to one peer: a relay that fails is not the peer's silence.
const CIRCUITS_MAX: usize = 4;
/// Times a busy peer is asked again.
const BUSY_MAX: usize = 40;
/// Pause before a busy peer is asked again.
const BUSY_PAUSE: Duration = Duration::from_millis(500);
/// Directory of the charges in a data directory.
const CHARGES: &str = "charges";

/// Why a dispute came to no outcome. None of these is held against a party.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum DisputeFailure {
    /// The job is not known here, or has expired.
    #[error("job {0:.16} is not known here")]
    UnknownJob(String),
    /// The peer has no chain of this job's run, or does not answer disputes.
    #[error("{0} holds no run of this job")]
    NoRun(NodeId),
    /// The peer could not be reached.
    #[error("{0} could not be asked")]
    Unreachable(NodeId),
    /// What the peer sent is no commitment of its own. The peer's fault, but whoever is at the end
    /// of a circuit proves itself by nothing else.
    #[error("{0} sent no commitment of its own")]
    Forged(NodeId),
    /// The commitment does not hold.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The two cannot dispute.
    #[error(transparent)]
    Dispute(#[from] DisputeError),
    /// Capsule or input could not be fetched.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// No circuit.
    #[error(transparent)]
    Route(#[from] RouteError),
    /// The capsule does not load.
    #[error("the capsule cannot be run here: {0}")]
    Load(String),
    /// The re-run decided nothing.
    #[error(transparent)]
    Referee(#[from] RefereeError),
    /// The charge is none.
    #[error(transparent)]
    Charge(#[from] ChargeError),
    /// The fault is none.
    #[error(transparent)]
    Fault(#[from] FaultError),
    /// The medium failed.
    #[error("cannot access {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// This node's own chain cannot be read.
    #[error(transparent)]
    Own(#[from] crate::chains::ChainsError),
    /// The node is stopping.
    #[error("the node is stopping")]
    Stopping,
}

/// A party, and the way to it.
enum Opponent {
    /// This node itself.
    Own(Arc<crate::chains::Open>),
    Peer(Box<Remote>),
}

struct Remote {
    shared: Arc<Shared>,
    node: NodeId,
    lane: Option<Lane>,
}

struct Lane {
    route: Route,
    stream: OnionStream,
}

/// Settles what two nodes say about the run of a job; either may be this node.
pub(crate) async fn settle(
    shared: &Arc<Shared>,
    job: Digest,
    first: NodeId,
    second: NodeId,
) -> Result<DisputeReport, DisputeFailure> {
    let begin = Instant::now();
    // A receipt names its job.
    let of_receipt = shared.board().receipts.get(&job).map(|receipt| receipt.commission);
    let job = of_receipt.unwrap_or(job);
    let entry = shared.board().jobs.get(&job).cloned();
    let entry = entry.ok_or_else(|| DisputeFailure::UnknownJob(job.to_string()))?;
    let (publisher, clock) = (entry.publisher, entry.clock);
    let order = Order { publisher, commission: entry.commission, clock };
    let case = record::prepare(shared, &order).await?;

    let mut opponents = Pair {
        first: Opponent::meet(shared, job, first).await?,
        second: Opponent::meet(shared, job, second).await?,
    };
    let chains = Pair {
        first: opponents.first.commitment(shared, job, first).await?,
        second: opponents.second.commitment(shared, job, second).await?,
    };
    let mut report = DisputeReport::new(job, order.commission.capsule, &chains);
    // Who answers with the chain of another run evades the question.
    let is_of_job = |party: Party| {
        let commitment = chains.of(party).commitment();
        let own = (case.loaded.capsule_id(), case.loaded.genesis(&case.invocation));
        (commitment.capsule_id, commitment.genesis) == own
            && commitment.input_digest == case.invocation.digest()
    };
    let strangers: Vec<Party> = Party::BOTH.into_iter().filter(|party| !is_of_job(*party)).collect();
    if !strangers.is_empty() {
        let lost = strangers.iter().map(|party| {
            let node = chains.of(*party).node();
            shared.observe(node, Evidence::ProofInvalid);
            Lost { node, reason: "committed to another run than the job's".into(), charge: None }
        });
        report.outcome = DisputeOutcome::Forfeited { lost: lost.collect() };
        return Ok(report);
    }

    let mut dispute = Dispute::new(chains.first, chains.second)?;
    while dispute.outcome().is_none() {
        for Ask { party, position } in dispute.asks().collect::<Vec<_>>() {
            let opponent = match party {
                Party::First => &mut opponents.first,
                Party::Second => &mut opponents.second,
            };
            match opponent.ask(Query::Open(job, position)).await {
                Ok(Reply::Opened(bytes)) => dispute.answer(party, &bytes)?,
                // It has committed to the chain and was there to say so: silence is a refusal.
                Ok(_) | Err(DisputeFailure::Unreachable(_)) => dispute.refuse(party)?,
                Err(error) => return Err(error),
            }
        }
    }
    opponents.first.settle(shared, job).await;
    opponents.second.settle(shared, job).await;
    report.rounds = dispute.rounds().iter().map(DisputeRound::from).collect();
    report.bisect_ms = millis(begin.elapsed());
    let begin = Instant::now();
    report.outcome = match dispute.outcome() {
        None | Some(Outcome::Agreed) => DisputeOutcome::Agreed,
        Some(Outcome::Forfeited(forfeits)) => forfeited(shared, &dispute, forfeits),
        Some(Outcome::Found(finding)) => {
            let ruling = decide(shared, &case, Finding::clone(finding)).await?;
            (report.rerun_checkpoints, report.rerun_gas) = ruling.cost();
            judged(shared, &entry.sealed, &ruling)?
        }
        // A later version of the machine may end otherwise; it is then told by its rounds alone.
        Some(_) => DisputeOutcome::Agreed,
    };
    report.rerun_ms = millis(begin.elapsed());
    Ok(report)
}

/// Holds a refusal or a bad opening against the party: only this node saw it.
fn forfeited(shared: &Shared, dispute: &Dispute, forfeits: &Pair<Option<Forfeit>>) -> DisputeOutcome {
    let lost = Party::BOTH.into_iter().filter_map(|party| {
        let (forfeit, node) = (forfeits.of(party).as_ref()?, dispute.node(party));
        let evidence = match forfeit {
            Forfeit::Refused(_) => Evidence::ProofTimeout,
            _ => Evidence::ProofInvalid,
        };
        shared.observe(node, evidence);
        Some(Lost { node, reason: forfeit.to_string(), charge: None })
    });
    DisputeOutcome::Forfeited { lost: lost.collect() }
}

/// Runs the disputed slice again, when the machine is free for a run.
async fn decide(shared: &Arc<Shared>, case: &Case, finding: Finding) -> Result<Ruling, DisputeFailure> {
    let _turn = shared.jobs.acquire().await.map_err(|_| DisputeFailure::Stopping)?;
    let Case { loaded, invocation } = case.clone();
    let decided = blocking(move || referee(&loaded, &invocation, finding)).await;
    Ok(decided.ok_or(DisputeFailure::Stopping)??)
}

/// Believes the ruling, and writes what convinces others.
fn judged(
    shared: &Shared,
    commission: &crate::records::Sealed,
    ruling: &Ruling,
) -> Result<DisputeOutcome, DisputeFailure> {
    let mut lost = Vec::new();
    for accusation in ruling.accusations() {
        let charge = wire::to_bytes(&Charge::new(commission.clone(), accusation));
        let proven = Fault::false_run(charge, &Proven(accusation))?;
        let path = write_charge(shared, &proven)?;
        convict(shared, proven);
        let reason = match ruling.finding().slice() {
            Slice::Until(_) => "a re-run of the disputed slice says otherwise",
            _ => "a re-run by the same result took another way",
        };
        lost.push(Lost { node: accusation.accused(), reason: reason.into(), charge: Some(path) });
    }
    let position = match ruling.finding().slice() {
        Slice::Until(position) => Some(position),
        _ => None,
    };
    Ok(DisputeOutcome::Judged { position, truth: ruling.truth().map(claimed), lost })
}

fn write_charge(shared: &Shared, fault: &Verified<Fault>) -> Result<PathBuf, DisputeFailure> {
    let bytes = fault.to_bytes();
    let directory = shared.data_dir.join(CHARGES);
    let path = directory.join(format!("{}.charge", Digest::of_bytes(&bytes)));
    let failed = |source| DisputeFailure::Io { path: path.clone(), source };
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory).map_err(failed)?;
    files::replace(&path, &bytes).map_err(failed)?;
    Ok(path)
}

/// Takes note of a fault; `false` if it was known.
fn convict(shared: &Shared, fault: Verified<Fault>) -> bool {
    let node = fault.culprit();
    let is_new = shared.trust().submit_fault(fault, clock::now());
    if is_new {
        shared.tell(Event::Convicted { node });
        shared.save_trust();
    }
    is_new
}

/// Judges a charge that somebody hands to this node: it makes the run again and believes nobody.
pub(crate) async fn judge(shared: &Arc<Shared>, path: PathBuf) -> Result<Response, DisputeFailure> {
    let begin = Instant::now();
    let bytes = read_charge(&path).await?;
    let claim = Fault::claim(&bytes).map_err(FaultError::from)?.ok_or(FaultError::NoContradiction)?;
    let charge: Charge = wire::from_bytes(&claim).map_err(ChargeError::from)?;
    let (accusation, order) = charge.open(&shared.network)?;
    let position = accusation.position();
    let case = record::prepare(shared, &order).await?;
    let _turn = shared.jobs.acquire().await.map_err(|_| DisputeFailure::Stopping)?;
    let network = shared.network;
    let judged =
        blocking(move || Fault::parse_judged(&bytes, &network, &Bench { case: &case, network })).await;
    let fault = judged.ok_or(DisputeFailure::Stopping)??;
    let node = fault.culprit();
    let is_new = convict(shared, fault);
    Ok(Response::Convicted { node, position, is_new, rerun_ms: millis(begin.elapsed()) })
}

async fn read_charge(path: &std::path::Path) -> Result<Vec<u8>, DisputeFailure> {
    use tokio::io::AsyncReadExt as _;

    let failed = |source| DisputeFailure::Io { path: path.into(), source };
    let mut bytes = Vec::new();
    // One byte more than fits is enough to be refused.
    let limit = Fault::MAX_EVIDENCE_BYTES as u64 + 64;
    let file = tokio::fs::File::open(path).await.map_err(failed)?;
    file.take(limit).read_to_end(&mut bytes).await.map_err(failed)?;
    Ok(bytes)
}

impl Opponent {
    async fn meet(shared: &Arc<Shared>, job: Digest, node: NodeId) -> Result<Self, DisputeFailure> {
        if node == shared.me {
            let open = answer::load(shared, job).await?;
            return open.map(Self::Own).ok_or(DisputeFailure::NoRun(node));
        }
        Ok(Self::Peer(Box::new(Remote { shared: shared.clone(), node, lane: None })))
    }

    async fn commitment(
        &mut self,
        shared: &Shared,
        job: Digest,
        node: NodeId,
    ) -> Result<Verified<SignedChain>, DisputeFailure> {
        let Reply::Signed(bytes) = self.ask(Query::Commit(job)).await? else {
            return Err(DisputeFailure::NoRun(node));
        };
        let chain = SignedChain::open(&bytes, &shared.network, clock::now())?;
        if chain.node() == node { Ok(chain) } else { Err(DisputeFailure::Forged(node)) }
    }

    async fn ask(&mut self, query: Query) -> Result<Reply, DisputeFailure> {
        match self {
            Self::Own(open) => Ok(answer::reply(open, query)),
            Self::Peer(remote) => remote.ask(query).await,
        }
    }

    /// Pays the relays for what they carried.
    async fn settle(self, shared: &Arc<Shared>, job: Digest) {
        let Self::Peer(mut remote) = self else { return };
        let Some(mut lane) = remote.lane.take() else { return };
        let promises = shared.promise_relays(&lane.route).await;
        // One round trip more shows that the promises went ahead.
        let delivered = exchange(&mut lane.stream, Query::Commit(job)).await.is_ok();
        shared.settle(promises, delivered).await;
        lane.route.circuit.close();
    }
}

impl Remote {
    async fn ask(&mut self, query: Query) -> Result<Reply, DisputeFailure> {
        let (mut circuits, mut busy) = (0, 0);
        loop {
            if self.lane.is_none() {
                if circuits == CIRCUITS_MAX {
                    return Err(DisputeFailure::Unreachable(self.node));
                }
                circuits += 1;
                self.lane = self.open().await?;
            }
            let Some(lane) = &mut self.lane else { continue };
            match exchange(&mut lane.stream, query).await {
                Ok(Reply::Busy) if busy < BUSY_MAX => {
                    busy += 1;
                    tokio::time::sleep(BUSY_PAUSE).await;
                }
                Ok(reply) => return Ok(reply),
                Err(error) => {
                    tracing::debug!(%error, "a question of a dispute was lost");
                    if let Some(lost) = self.lane.take() {
                        lost.route.circuit.close();
                    }
                }
            }
        }
    }

    /// A circuit to the peer; `None` if its port does not open.
    async fn open(&self) -> Result<Option<Lane>, DisputeFailure> {
        let route = self.shared.first_route("dispute", self.node, &[]).await?;
        match route.circuit.open(port::DISPUTE).await {
            Ok(stream) => Ok(Some(Lane { route, stream })),
            Err(error) => {
                tracing::debug!(%error, "the port of disputes did not open");
                route.circuit.close();
                Ok(None)
            }
        }
    }
}

async fn exchange(stream: &mut OnionStream, query: Query) -> io::Result<Reply> {
    write_record(stream, &wire::to_bytes(&query)).await?;
    let bytes = read_record(stream, Reply::MAX_BYTES).await?;
    wire::from_bytes(&bytes).map_err(io::Error::other)
}

fn claimed(claimed: Claimed) -> String {
    match claimed {
        Claimed::Checkpoint(checkpoint) => checkpoint.to_string(),
        Claimed::Ended(exec_hash) => format!("ended {exec_hash}"),
    }
}

impl DisputeReport {
    fn new(job: Digest, capsule: nonos_identity::WideDigest, chains: &Pair<Verified<SignedChain>>) -> Self {
        let party = |party: Party| {
            let chain = chains.of(party);
            let commitment = chain.commitment();
            DisputeParty {
                node: chain.node(),
                checkpoints: commitment.count,
                exec_hash: commitment.exec_hash,
            }
        };
        Self {
            job,
            capsule,
            parties: Party::BOTH.map(party).to_vec(),
            rounds: Vec::new(),
            outcome: DisputeOutcome::Agreed,
            rerun_checkpoints: 0,
            rerun_gas: 0,
            bisect_ms: 0,
            rerun_ms: 0,
        }
    }
}

impl From<&nonos_capsule::dispute::Round> for DisputeRound {
    fn from(round: &nonos_capsule::dispute::Round) -> Self {
        Self {
            position: round.position,
            first: claimed(round.claimed.first),
            second: claimed(round.claimed.second),
            agree: round.agrees(),
        }
    }
}
