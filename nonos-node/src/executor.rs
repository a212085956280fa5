//! The executor's work: fetch, run, prove, submit, claim.

use std::sync::Arc;
use std::time::{Duration, Instant};

use nonos_capsule::{
    Capsule, CapsuleId, CapsuleStore as _, Execution, Invocation, NonceStore as _, PayloadDigest, Policy,
    Resolved, SignaturePolicy, Status,
};
use nonos_identity::wire;
use nonos_identity::{Digest, Epoch, NodeId, Opening, SigningKey, Verified, WideDigest};
use nonos_mesh::ItemKind;
use nonos_zk::{
    IdentitySecret, IdentityTree, PolicyLimits, Profile, Proof, Receipt, ReceiptBody, Statement,
    VerifyingKeyId, Witness,
};

use crate::audit;
use crate::board::JobEntry;
use crate::chains;
use crate::circuits::{Route, port};
use crate::clock::{self, millis};
use crate::config::Tamper;
use crate::dispute::record::Order;
use crate::domains;
use crate::event::Event;
use crate::fetch::{FetchError, Lanes};
use crate::node::Shared;
use crate::records::{Claim, ClaimAnswer, Disclosure, Fulfilment, OpenedTrace, Sealed};
use crate::submit;
use crate::tasks::blocking;

/// How long the head of a job's capsule may take to arrive after the job.
const HEAD_PATIENCE: Duration = Duration::from_secs(15);
/// How long fetching capsule and input may take in all: a seeder that drips would hold the queue.
const FETCH_PATIENCE: Duration = Duration::from_secs(600);
/// Pause between looks and tries.
const PAUSE: Duration = Duration::from_millis(150);
/// Times the payer is asked over one circuit, while it does not know the receipt yet.
const CLAIM_TRIES: usize = 60;
/// Circuits tried to reach the payer.
const CLAIM_CIRCUITS: usize = 4;
/// Bytes of output told in an event; the whole output stays with the execution.
const OUTPUT_TOLD_MAX: usize = 64 * 1024;

/// Capsules fetched at most because a job's capsule needs them.
const NEEDS_MAX: usize = 64;

/// Does one job; every failure is told as an event.
pub(crate) async fn work(shared: &Arc<Shared>, job: Digest) {
    let Some(entry) = shared.board().jobs.get(&job).cloned() else { return };
    if entry.publisher == shared.me || !worthwhile(shared, &entry).await {
        return;
    }
    let Some((run, proven, fulfilment)) = fulfil(shared, job, &entry).await else { return };
    if shared.config.tamper.is_some() {
        // A liar does not ask an honest node to check its lie first.
        if let Err(error) = shared.mesh.publish(ItemKind::Receipt, wire::to_bytes(&fulfilment)).await {
            shared.fail("publish the receipt", &error);
        }
        return;
    }
    if !broadcast(shared, &entry, &fulfilment).await {
        return;
    }
    claim(shared, job, &entry, &run, &proven).await;
}

/// Fetches, runs and proves, one job at a time.
async fn fulfil(shared: &Arc<Shared>, id: Digest, job: &JobEntry) -> Option<(Execution, Proven, Fulfilment)> {
    let _turn = shared.jobs.acquire().await.ok()?;
    if job.expiry <= clock::now() {
        return None;
    }
    shared.board().own_runs.insert(id);
    let fetched = tokio::time::timeout(FETCH_PATIENCE, fetch(shared, job)).await;
    let (capsule, input) = match fetched.unwrap_or(Err(FetchError::Silent)) {
        Ok(fetched) => fetched,
        Err(error) => {
            shared.fail("fetch the capsule", &error);
            return None;
        }
    };
    let run = execute(shared, id, job, capsule, input).await?;
    let (proven, fulfilment) = prove(shared, id, job, &run).await?;
    Some((run, proven, fulfilment))
}

/// Whether a job can be done and paid: it names this node as an operator, its limits cover the
/// capsule's policy, it pays what this node asks, its payer has a good name, and it is new.
async fn worthwhile(shared: &Shared, job: &JobEntry) -> bool {
    let begin = Instant::now();
    let capsule = job.commission.capsule;
    let (policy, payload_commit) = loop {
        let facts = shared.board().heads.get(&capsule).map(|head| {
            (head.policy().intersect(&Policy::default()), head.manifest().payload.digest.commit())
        });
        match facts {
            Some(facts) => break facts,
            None if begin.elapsed() > HEAD_PATIENCE => return false,
            None => {}
        }
        tokio::time::sleep(PAUSE).await;
    };
    let lies = shared.config.tamper.is_some();
    let reasons = [
        ("not_an_operator", lies || job.operators.contains(&shared.me)),
        ("operators", lies || shared.accepts_operators(&job.commission.operators)),
        ("limits", crate::gate::within(&limits(&policy), &job.commission.limits)),
        // Peers refuse a receipt whose payload is not the commission's.
        ("payload", payload_commit == job.commission.payload_commit),
        ("price", job.prices.execution_nano >= shared.prices.execution_nano),
        ("payer", shared.trust().state(&job.publisher, clock::now()) < nonos_trust::State::Suspended),
        ("done", !is_done(shared, job)),
    ];
    match reasons.iter().find(|(_, holds)| !holds) {
        Some((reason, _)) => {
            tracing::info!(reason, "a job was not taken");
            false
        }
        None => true,
    }
}

/// Whether the job's nonce is spent: it ran here, before a restart for one.
fn is_done(shared: &Shared, job: &JobEntry) -> bool {
    let key = invocation(shared, job).nonce_key(&CapsuleId::from_digest(job.commission.capsule));
    shared.nonces.is_used(&key).unwrap_or(true)
}

/// The run that a job asks for, but for its input. Everything in it comes from signed records, so
/// whoever replays the job runs the same.
fn invocation(shared: &Shared, job: &JobEntry) -> Invocation {
    Invocation::new(job.publisher, job.commission.nonce, job.clock, shared.network)
}

/// The same for an order whose job is no longer known.
pub(crate) fn asked(shared: &Shared, order: &Order, capsule: &Capsule, input: Vec<u8>) -> Invocation {
    let Order { publisher, commission, clock } = order;
    complete(Invocation::new(*publisher, commission.nonce, *clock, shared.network), capsule, input)
}

fn complete(invocation: Invocation, capsule: &Capsule, input: Vec<u8>) -> Invocation {
    Invocation { args: vec![capsule.manifest().name.clone()], input, ..invocation }
}

/// A policy as far as the circuit knows it.
pub(crate) fn limits(policy: &Policy) -> PolicyLimits {
    PolicyLimits {
        gas_limit: policy.gas_limit,
        pages_max: policy.memory_pages_max,
        host_calls_allowed: policy.host_calls.bits(),
        cpu_features_allowed: policy.cpu_features.bits(),
        isolation_required: policy.isolation.bits(),
    }
}

/// Fetches a capsule to keep it, as a second seeder does.
pub(crate) async fn keep(shared: &Arc<Shared>, provider: NodeId, capsule: WideDigest) {
    let fetched = async {
        let mut lanes = Lanes::open(shared, provider).await?;
        let capsule = lanes.capsule(capsule).await?;
        lanes.settle().await;
        Ok::<_, FetchError>(capsule)
    };
    match fetched.await {
        Ok(capsule) => store(shared, capsule).await,
        Err(error) => shared.fail("fetch the capsule", &error),
    }
}

async fn store(shared: &Arc<Shared>, capsule: Verified<Capsule>) {
    let keeper = shared.clone();
    if let Some(Err(error)) = blocking(move || keeper.capsules.put(&capsule)).await {
        shared.fail("keep the capsule", &error);
    }
}

async fn fetch(shared: &Arc<Shared>, job: &JobEntry) -> Result<(Verified<Capsule>, Vec<u8>), FetchError> {
    let mut lanes = Lanes::open(shared, job.publisher).await?;
    let capsule = fetch_capsule(shared, &mut lanes, job.commission.capsule).await?;
    let input = lanes.input(job.commission.input, job.commission.input_bytes).await?;
    // Whoever lies to be paid does not pay either.
    if shared.config.tamper.is_none() {
        lanes.settle().await;
    }
    Ok((capsule, input))
}

/// Fetches and keeps a capsule and what it needs.
pub(crate) async fn fetch_capsule(
    shared: &Arc<Shared>,
    lanes: &mut Lanes,
    id: WideDigest,
) -> Result<Verified<Capsule>, FetchError> {
    let capsule = lanes.capsule(id).await?;
    store(shared, capsule.clone()).await;
    fetch_needs(shared, lanes, &capsule).await?;
    Ok(capsule)
}

/// Fetches the capsules that a capsule needs and this node does not have, from its publisher.
async fn fetch_needs(
    shared: &Arc<Shared>,
    lanes: &mut Lanes,
    capsule: &Verified<Capsule>,
) -> Result<(), FetchError> {
    let ids = |capsule: &Capsule| capsule.dependencies().iter().map(|need| need.capsule).collect::<Vec<_>>();
    let mut wanted = ids(capsule);
    for _ in 0..NEEDS_MAX {
        let Some(id) = wanted.pop() else { return Ok(()) };
        if shared.capsules.contains(&id).unwrap_or(false) {
            continue;
        }
        let needed = lanes.capsule(*id.as_digest()).await?;
        wanted.extend(ids(&needed));
        store(shared, needed).await;
    }
    // What is left is missing when the capsule is resolved.
    Ok(())
}

async fn execute(
    shared: &Arc<Shared>,
    id: Digest,
    job: &JobEntry,
    capsule: Verified<Capsule>,
    input: Vec<u8>,
) -> Option<Execution> {
    let begin = Instant::now();
    let invocation = complete(invocation(shared, job), &capsule, input);
    let host = shared.clone();
    let ran = blocking(move || {
        let rule = SignaturePolicy::new(host.network);
        let resolved = Resolved::resolve(capsule, &host.capsules, &rule, clock::now()).map_err(boxed)?;
        let loaded = host.runtime.load_resolved(&resolved, &Policy::default()).map_err(boxed)?;
        loaded.run(&invocation, &host.nonces).map_err(boxed)
    });
    let mut run = match ran.await {
        Some(Ok(run)) => run,
        Some(Err(error)) => {
            shared.fail("run the capsule", &*error);
            return None;
        }
        None => return None,
    };
    if let Some(Tamper::Checkpoint(at)) = shared.config.tamper {
        chains::lie(&mut run, at);
    }
    if let Err(error) = tokio::task::block_in_place(|| shared.chains.keep(&id, &run)) {
        shared.fail("keep the checkpoints of a run", &error);
    }
    let told = run.output.get(..OUTPUT_TOLD_MAX.min(run.output.len())).unwrap_or_default();
    shared.tell(Event::Executed {
        job: id,
        exec_hash: run.exec_hash,
        status: run.status.to_string(),
        gas: run.gas_used,
        checkpoints: u32::try_from(run.checkpoints.len()).unwrap_or(u32::MAX),
        output: String::from_utf8_lossy(told).into_owned(),
        elapsed_ms: millis(begin.elapsed()),
    });
    Some(run)
}

/// What opens a receipt to its payer.
struct Proven {
    profile: Profile,
    receipt: Digest,
    opening: Opening,
    trace: OpenedTrace,
    /// For the auditors, if there are any.
    disclosure: Option<Disclosure>,
}

async fn prove(
    shared: &Arc<Shared>,
    id: Digest,
    job: &JobEntry,
    run: &Execution,
) -> Option<(Proven, Fulfilment)> {
    let begin = Instant::now();
    let prover = shared.clone();
    let (job, run) = (job.clone(), run.clone());
    let made = blocking(move || prove_now(&prover, &job, &run)).await?;
    match made {
        Ok((proven, fulfilment, proof_bytes)) => {
            shared.tell(Event::Proved {
                job: id,
                proof_bytes,
                profile: proven.profile.to_string(),
                nullifier: proven.receipt,
                elapsed_ms: millis(begin.elapsed()),
            });
            Some((proven, fulfilment))
        }
        Err(error) => {
            shared.fail("prove the run", &*error);
            None
        }
    }
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn boxed(error: impl Into<Failure>) -> Failure {
    error.into()
}

fn prove_now(
    shared: &Shared,
    job: &JobEntry,
    run: &Execution,
) -> Result<(Proven, Fulfilment, usize), Failure> {
    let prover = shared.prover.as_ref().ok_or("this node has no prover: it is no executor")?;
    let now = clock::now();
    let epoch = Epoch::at(now);
    let (slot, signed) = {
        let credentials = shared.credentials();
        shared.slots().take(&shared.identity, &credentials.signer, epoch)?
    };
    let identity = slot.identity(shared.onion_address(), shared.transport_key());
    let shown = identity.public(slot.key().public());
    let trace = OpenedTrace::of(run, clock::random());
    let (secret, tree) = membership(shared, job)?;
    let index = tree.index_of(&secret.commitment()).ok_or("this node is not among the job's operators")?;
    let path = tree.path(index).ok_or("this node is not among the job's operators")?;
    let nonce = match shared.config.tamper {
        Some(Tamper::Nonce) => clock::random(),
        _ => job.commission.nonce,
    };
    let mut statement = Statement {
        capsule_id: *run.capsule_id.as_digest(),
        exec_hash: run.exec_hash,
        policy: limits(&run.policy),
        exec_commit: trace.to_trace().commit(&run.exec_hash),
        id_root: tree.root(),
        nullifier: secret.nullifier(epoch, slot.number()),
        epoch,
        nonce,
        network: shared.network,
        exec_key: shown.exec_key,
        id_commit: Digest::from_bytes(*shown.commitment.as_bytes()),
        key_link: secret.key_link(&shown.exec_key),
        payload_commit: PayloadDigest::Digest(run.payload).commit(),
    };
    let witness = Witness { secret, path, trace: trace.to_trace(), slot: slot.number() };
    let proof = prover.prove(&statement, &witness, clock::random())?;
    if shared.config.tamper == Some(Tamper::Proof) {
        statement.exec_hash = WideDigest::of_bytes(b"another result");
    }
    let proof_bytes = proof.as_bytes().len();
    let signer = (slot.key(), prover.verifying_key_id());
    let (receipt, fulfilment) = sign(job, run, statement, proof, signer)?;
    let opening = slot.opening(identity, signed.head, signed.certificate);
    let disclosure = audit::disclose(shared, &fulfilment.receipt, &opening, &shown).unwrap_or_else(|error| {
        // The run is done and can be paid; only its auditors will have to ask.
        shared.fail("write the disclosure", &*error);
        None
    });
    let proven = Proven { profile: prover.profile(), receipt, opening, trace, disclosure };
    Ok((proven, fulfilment, proof_bytes))
}

fn sign(
    job: &JobEntry,
    run: &Execution,
    statement: Statement,
    proof: Proof,
    (key, verifying_key): (&SigningKey, VerifyingKeyId),
) -> Result<(Digest, Fulfilment), Failure> {
    let id = Digest::from_bytes(*statement.nullifier.as_bytes());
    let body = ReceiptBody {
        statement,
        proof,
        verifying_key,
        timestamp: clock::now(),
        publisher: job.publisher,
        price_table: job.commission.price_table,
        input_digest: input_digest(&job.commission.input),
        output_digest: Digest::of(domains::OUTPUT, &[run.output_digest.as_bytes()]),
        status: status_code(&run.status),
    };
    let receipt = Receipt::sign(&body, key)?;
    let receipt = Sealed(receipt.as_bytes().to_vec());
    Ok((id, Fulfilment { commission: job.sealed.clone(), receipt }))
}

/// The short name of an input inside a receipt.
pub(crate) fn input_digest(input: &WideDigest) -> Digest {
    Digest::of(domains::INPUT, &[input.as_bytes()])
}

/// How a run ended, as one number: exit codes as they are, everything else above them.
fn status_code(status: &Status) -> u32 {
    match status {
        Status::Exit(code) => (*code).min(u32::MAX - 1),
        _ => u32::MAX,
    }
}

fn membership(shared: &Shared, job: &JobEntry) -> Result<(IdentitySecret, IdentityTree), Failure> {
    if shared.config.tamper != Some(Tamper::Identity) {
        return Ok((IdentitySecret::from_seed(&shared.identity.zk_secret(0)), job.tree.clone()));
    }
    let secret = IdentitySecret::from_seed(&shared.identity.zk_secret(1));
    let mut tree = IdentityTree::new();
    tree.insert(secret.commitment())?;
    Ok((secret, tree))
}

/// Hands the receipt to a node that is neither the operator nor, if possible, the payer.
async fn broadcast(shared: &Arc<Shared>, job: &JobEntry, fulfilment: &Fulfilment) -> bool {
    let mut broadcasters: Vec<NodeId> = {
        let board = shared.board();
        let all = board.peers.iter().filter(|(_, peer)| peer.broadcaster);
        all.map(|(&node, _)| node).collect()
    };
    shuffle(&mut broadcasters);
    broadcasters.sort_by_key(|node| *node == job.publisher);
    for broadcaster in broadcasters {
        match submit::send(shared, broadcaster, job.publisher, fulfilment).await {
            Ok(submit::SubmitAnswer::Taken) => return true,
            Ok(answer) => tracing::debug!(?answer, "a broadcaster refused the receipt"),
            Err(error) => tracing::debug!(%error, "a broadcaster was not reached"),
        }
    }
    shared.fail("submit the receipt", &*boxed("no broadcaster could be reached through a circuit"));
    false
}

fn shuffle(nodes: &mut [NodeId]) {
    let seed: [u8; 32] = clock::random();
    nodes.sort_by_key(|node| Digest::of(domains::SEED, &[&seed, node.as_bytes()]));
}

/// Opens the receipt to its payer, through a circuit, and books the fee once the payer has.
async fn claim(shared: &Arc<Shared>, job_id: Digest, job: &JobEntry, run: &Execution, proven: &Proven) {
    let claim = Claim {
        receipt: proven.receipt,
        opening: proven.opening.clone(),
        trace: proven.trace.clone(),
        disclosure: proven.disclosure.clone(),
    };
    let claim = wire::to_bytes(&claim);
    for _ in 0..CLAIM_CIRCUITS {
        let route = match shared.first_route("claim fee", job.publisher, &[]).await {
            Ok(route) => route,
            Err(error) => return shared.fail("claim the fee", &error),
        };
        let promises = shared.promise_relays(&route).await;
        let answer = ask_for_fee(&route, &claim).await;
        route.circuit.close();
        shared.settle(promises, answer.is_some()).await;
        let Some(answer) = answer else { continue };
        return book_fee(shared, job_id, job, run, answer).await;
    }
    shared.fail("claim the fee", &*boxed("the payer could not be reached"));
}

/// Asks over one circuit until the payer knows the receipt; `None` if the circuit is of no use.
async fn ask_for_fee(route: &Route, claim: &[u8]) -> Option<ClaimAnswer> {
    let mut last = None;
    for _ in 0..CLAIM_TRIES {
        let mut stream = route.circuit.open(port::CLAIM).await.ok()?;
        // Asking again is safe: a commission is paid once.
        let bytes = submit::ask(&mut stream, claim).await.ok()?;
        match wire::from_bytes(&bytes).ok()? {
            ClaimAnswer::Unknown => last = Some(ClaimAnswer::Unknown),
            answer => return Some(answer),
        }
        tokio::time::sleep(PAUSE).await;
    }
    last
}

async fn book_fee(
    shared: &Arc<Shared>,
    job_id: Digest,
    job: &JobEntry,
    run: &Execution,
    answer: ClaimAnswer,
) {
    let due = job.prices.quote(nonos_ledger::Op::Execution, run.gas_used).as_nano();
    match answer {
        ClaimAnswer::Posted(amount) if u128::from(amount) == due => {
            let code = nonos_ledger::Code::Execution;
            shared.post_fee(job.publisher, shared.me, amount, code, job_id).await;
        }
        // Another executor was faster, or the receipt has not reached the payer: bad luck.
        ClaimAnswer::AlreadyPaid | ClaimAnswer::Unknown => {
            shared.fail(
                "claim the fee",
                &*boxed("the payer has paid another executor, or never got the receipt"),
            );
        }
        answer => {
            shared.observe(job.publisher, nonos_trust::Evidence::PaymentRefused);
            tracing::warn!(?answer, due, "the payer did not post the fee that its price table says");
            shared.fail("claim the fee", &*boxed("the payer did not post the fee that its price table says"));
        }
    }
}
