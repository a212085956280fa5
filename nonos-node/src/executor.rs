//! The executor's work: fetch, run, prove, submit, claim.

use std::sync::Arc;
use std::time::{Duration, Instant};

use nonos_capsule::{Capsule, CapsuleStore as _, Execution, Invocation, NonceStore as _, Policy, Status};
use nonos_identity::wire;
use nonos_identity::{Certificate, Digest, Epoch, NodeId, Opening, Role, SigningKey, Verified, WideDigest};
use nonos_mesh::ItemKind;
use nonos_zk::{
    IdentitySecret, IdentityTree, PolicyLimits, Proof, Receipt, ReceiptBody, SLOTS_PER_EPOCH, Statement,
    Witness,
};

use crate::board::JobEntry;
use crate::circuits::port;
use crate::clock;
use crate::config::Tamper;
use crate::domains;
use crate::event::Event;
use crate::fetch::{FetchError, Lanes};
use crate::node::Shared;
use crate::publisher::EXECUTION_LEG;
use crate::records::{Claim, ClaimAnswer, Fulfilment, OpenedTrace, Sealed};
use crate::submit;
use crate::tasks::blocking;

/// How long the head of a job's capsule may take to arrive after the job.
const HEAD_PATIENCE: Duration = Duration::from_secs(15);
/// Pause between looks and tries.
const PAUSE: Duration = Duration::from_millis(150);
/// Tries to claim a fee before the executor gives the payer up.
const CLAIM_TRIES: usize = 60;
/// Bytes of output told in an event; the whole output stays with the execution.
const OUTPUT_TOLD_MAX: usize = 64 * 1024;

/// Does one job; every failure is told as an event.
pub(crate) async fn work(shared: &Arc<Shared>, job: Digest) {
    let Some(entry) = shared.board().jobs.get(&job).cloned() else { return };
    if entry.publisher == shared.me || !worthwhile(shared, &entry) {
        return;
    }
    let Ok(_turn) = shared.jobs.acquire().await else { return };
    shared.board().own_runs.insert(job);
    let (capsule, input) = match fetch(shared, &entry).await {
        Ok(fetched) => fetched,
        Err(error) => return shared.fail("fetch the capsule", &error),
    };
    let Some(run) = execute(shared, job, &entry, capsule, input).await else { return };
    let Some((proven, fulfilment)) = prove(shared, job, &entry, &run).await else { return };
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

/// Whether the job pays what this node asks, from somebody it has no reason to distrust.
fn worthwhile(shared: &Shared, job: &JobEntry) -> bool {
    let state = shared.trust().state(&job.publisher, clock::now());
    let pays = job.prices.execution_nano >= shared.prices.execution_nano;
    if !pays || state >= nonos_trust::State::Suspended {
        tracing::info!(pays, %state, "a job was not taken");
        return false;
    }
    true
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
    let wanted = job.commission.capsule;
    let begin = Instant::now();
    while !shared.board().heads.contains_key(&wanted) && begin.elapsed() < HEAD_PATIENCE {
        tokio::time::sleep(PAUSE).await;
    }
    let mut lanes = Lanes::open(shared, job.publisher).await?;
    let capsule = lanes.capsule(wanted).await?;
    store(shared, capsule.clone()).await;
    let input = lanes.input(job.commission.input, job.commission.input_bytes).await?;
    // Whoever lies to be paid does not pay either.
    if shared.config.tamper.is_none() {
        lanes.settle().await;
    }
    Ok((capsule, input))
}

async fn execute(
    shared: &Arc<Shared>,
    id: Digest,
    job: &JobEntry,
    capsule: Verified<Capsule>,
    input: Vec<u8>,
) -> Option<Execution> {
    let begin = Instant::now();
    let mut invocation = Invocation::new(job.publisher, job.commission.nonce, clock::now(), shared.network);
    invocation.args = vec![capsule.manifest().name.clone()];
    invocation.input = input;
    let host = shared.clone();
    let ran = blocking(move || {
        let loaded = host.runtime.load(&capsule, &Policy::default()).map_err(boxed)?;
        loaded.run(&invocation, &host.nonces).map_err(boxed)
    });
    let run = match ran.await {
        Some(Ok(run)) => run,
        Some(Err(error)) => {
            shared.fail("run the capsule", &*error);
            return None;
        }
        None => return None,
    };
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
    receipt: Digest,
    opening: Opening,
    certificate: Certificate,
    trace: OpenedTrace,
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
                profile: format!("{:?}", shared.prover.profile()).to_lowercase(),
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
    let now = clock::now();
    let epoch = Epoch::at(now);
    let slot = take_slot(shared, epoch)?;
    let key = shared.identity.execution_key(epoch, slot);
    let opening = Opening {
        node: shared.me,
        onion: shared.onion_address(),
        peer: shared.transport_key(),
        epoch,
        slot,
        blind: *shared.identity.execution_blind(epoch, slot),
    };
    let trace = OpenedTrace {
        gas_used: run.gas_used,
        peak_pages: run.peak_pages,
        host_calls: run.host_calls.bits(),
        checkpoints: run.checkpoints.clone(),
        blind: clock::random(),
    };
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
        policy: PolicyLimits {
            gas_limit: run.policy.gas_limit,
            pages_max: run.policy.memory_pages_max,
            host_calls_allowed: run.policy.host_calls.bits(),
        },
        exec_commit: trace.to_trace().commit(&run.exec_hash),
        id_root: tree.root(),
        nullifier: secret.nullifier(epoch, slot),
        epoch,
        nonce,
        network: shared.network,
        exec_key: key.public(),
        id_commit: Digest::from_bytes(*opening.commit(&key.public()).as_bytes()),
    };
    let witness = Witness { secret, path, trace: trace.to_trace(), slot };
    let proof = shared.prover.prove(&statement, &witness, clock::random())?;
    if shared.config.tamper == Some(Tamper::Proof) {
        statement.exec_hash = WideDigest::of_bytes(b"another result");
    }
    let proof_bytes = proof.as_bytes().len();
    let (receipt, fulfilment) = sign(shared, job, run, statement, proof, &key)?;
    let certificate = Certificate::issue(
        &shared.identity.root_key(),
        &key,
        Role::Execution,
        u64::from(slot),
        now,
        Certificate::MAX_LIFETIME,
        &shared.network,
    )?;
    Ok((Proven { receipt, opening, certificate, trace }, fulfilment, proof_bytes))
}

fn sign(
    shared: &Shared,
    job: &JobEntry,
    run: &Execution,
    statement: Statement,
    proof: Proof,
    key: &SigningKey,
) -> Result<(Digest, Fulfilment), Failure> {
    let id = Digest::from_bytes(*statement.nullifier.as_bytes());
    let body = ReceiptBody {
        statement,
        proof,
        verifying_key: shared.prover.verifying_key_id(),
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
        Status::Exit(code) => *code,
        _ => u32::MAX,
    }
}

fn membership(shared: &Shared, job: &JobEntry) -> Result<(IdentitySecret, IdentityTree), Failure> {
    if shared.config.tamper != Some(Tamper::Identity) {
        return Ok((IdentitySecret::from_bytes(&shared.identity.zk_secret(0)), job.tree.clone()));
    }
    let secret = IdentitySecret::from_bytes(&shared.identity.zk_secret(1));
    let mut tree = IdentityTree::new();
    tree.insert(secret.commitment())?;
    Ok((secret, tree))
}

/// Takes an unused slot of the epoch, durably: a slot that was taken is never used again, also
/// if the node dies before it signs.
fn take_slot(shared: &Shared, epoch: Epoch) -> Result<u32, Failure> {
    for slot in 0..SLOTS_PER_EPOCH {
        let key = Digest::of(domains::SLOT, &[&epoch.number().to_le_bytes(), &slot.to_le_bytes()]);
        match shared.nonces.consume(&key) {
            Ok(()) => return Ok(slot),
            Err(nonos_capsule::NonceError::Used) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err("every execution slot of this epoch is used; the next epoch has new ones".into())
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
        certificate: proven.certificate.clone(),
        trace: proven.trace.clone(),
    };
    let claim = wire::to_bytes(&claim);
    let route = match shared.first_route("claim fee", job.publisher, &[]).await {
        Ok(route) => route,
        Err(error) => return shared.fail("claim the fee", &error),
    };
    let promises = shared.promise_relays(&route).await;
    let mut answer = None;
    for _ in 0..CLAIM_TRIES {
        let asked = async {
            let mut stream = route.circuit.open(port::CLAIM).await.map_err(std::io::Error::other)?;
            submit::ask(&mut stream, &claim).await
        };
        match asked.await.map(|bytes| wire::from_bytes::<ClaimAnswer>(&bytes)) {
            Ok(Ok(ClaimAnswer::Unknown)) => {}
            Ok(Ok(other)) => {
                answer = Some(other);
                break;
            }
            Ok(Err(error)) => return shared.fail("claim the fee", &error),
            // Asking again is safe: the commission is paid once.
            Err(error) => tracing::debug!(%error, "a claim was not answered"),
        }
        tokio::time::sleep(PAUSE).await;
    }
    shared.book_promises(promises).await;
    route.circuit.close();
    let due = job.prices.quote(nonos_ledger::Op::Execution, run.gas_used).as_nano();
    match answer {
        Some(ClaimAnswer::Posted(amount)) if u128::from(amount) == due => {
            let (payer, payee) = (job.publisher, shared.me);
            let code = nonos_ledger::Code::Execution;
            shared.post_fee(payer, payee, amount, code, job_id, EXECUTION_LEG).await;
        }
        other => {
            tracing::warn!(?other, "the fee was not paid");
            shared.observe(job.publisher, nonos_trust::Evidence::PaymentRefused);
            shared.fail("claim the fee", &*boxed("the payer did not post the fee that its price table says"));
        }
    }
}

fn millis(elapsed: Duration) -> u64 {
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
}
