//! The publisher's side: publish a capsule and a job, pay what was earned.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nonos_capsule::{Capsule, CapsuleStore as _, CheckSigned as _, SignaturePolicy};
use nonos_identity::wire::{self, Wire as _};
use nonos_identity::{Digest, Epoch, NodeId, Timestamp, Verified, WideDigest};
use nonos_ledger::{Code, Op};
use nonos_mesh::ItemKind;
use nonos_trust::Evidence;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::board::ReceiptEntry;
use crate::clock;
use crate::domains;
use crate::event::Event;
use crate::executor;
use crate::fees::Posting;
use crate::files;
use crate::gate::JOB_ITEM;
use crate::node::Shared;
use crate::operators::{self, OperatorsError};
use crate::records::{Claim, ClaimAnswer, Commission, Disclosure, Job, Sealed, public_run};
use crate::submit::{answer_with, read_record};
use crate::tasks::blocking;

/// How long a published price table counts.
const PRICE_LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// How long an attestation counts.
pub(crate) const ATTESTATION_LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// Why nothing was published. The caller's to mend, unless the medium failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum PublishError {
    /// A file cannot be read, or the node's own directory cannot be written.
    #[error("cannot access {path}")]
    Io {
        /// The file.
        path: std::path::PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The input is larger than executors take.
    #[error("the input has {len} bytes, the limit is {}", Commission::INPUT_BYTES_MAX)]
    InputTooLong {
        /// Its length.
        len: u64,
    },
    /// Not a `.mod` file.
    #[error("the capsule cannot be read: {0}")]
    Format(#[from] nonos_capsule::FormatError),
    /// The signatures do not hold for this mesh.
    #[error("the capsule does not verify: {0}")]
    Verify(#[from] nonos_capsule::VerifyError),
    /// The capsule cannot be kept.
    #[error("the capsule cannot be kept: {0}")]
    Store(#[from] nonos_capsule::StoreError),
    /// The hidden fields beside the capsule cannot be kept.
    #[error("the hidden fields beside the capsule: {0}")]
    Openings(#[from] crate::openings::OpeningsError),
    /// The operators' tree cannot be built.
    #[error("the operators' tree cannot be built: {0}")]
    Operators(#[from] OperatorsError),
    /// A record is too long.
    #[error(transparent)]
    Record(#[from] wire::DecodeError),
    /// The price table breaks a rule.
    #[error(transparent)]
    Prices(#[from] nonos_ledger::PriceError),
    /// Gossip did not take it.
    #[error(transparent)]
    Mesh(#[from] nonos_mesh::libp2p::PublishError),
    /// The node is stopping.
    #[error("the node is stopping")]
    Stopping,
}

/// Publishes a signed capsule and a job for it on an input.
pub(crate) async fn publish(
    shared: &Arc<Shared>,
    capsule: &Path,
    input: &Path,
) -> Result<(WideDigest, Digest), PublishError> {
    let bytes = read(capsule).await?;
    let input = read(input).await?;
    let input_bytes = input.len() as u64;
    if input_bytes > Commission::INPUT_BYTES_MAX {
        return Err(PublishError::InputTooLong { len: input_bytes });
    }
    let now = clock::now();
    let (keeper, file) = (shared.clone(), capsule.to_path_buf());
    let kept =
        blocking(move || keep_capsule(&keeper, &file, &bytes, now)).await.ok_or(PublishError::Stopping)?;
    let capsule = kept?;
    let input = keep_input(shared, input).await?;

    let prices =
        shared.prices.seal(&shared.credentials().signer.key, &shared.network, now, PRICE_LIFETIME)?;
    let operators = shared.operator_list(now);
    let (tree, _) = operators::tree(&operators, &shared.network, now)?;
    let commission = Commission {
        capsule: *capsule.id().as_digest(),
        nonce: clock::random(),
        input,
        input_bytes,
        operators: tree.root(),
        limits: executor::limits(capsule.policy()),
        price_table: shared.prices.id(),
        payload_commit: capsule.manifest().payload.digest.commit(),
    };
    let sealed = shared.credentials().signer.seal(&commission, 0, now)?;
    let job_id = sealed.id(domains::RECORD_ID);
    let job = Job {
        commission: Sealed(sealed.as_bytes().to_vec()),
        price_table: Sealed(prices.as_bytes().to_vec()),
        operators,
    };
    shared.mesh.publish(ItemKind::Manifest, capsule.head().to_bytes()).await?;
    shared.mesh.publish(JOB_ITEM, wire::to_bytes(&job)).await?;
    Ok((commission.capsule, job_id))
}

async fn read(path: &Path) -> Result<Vec<u8>, PublishError> {
    tokio::fs::read(path).await.map_err(|source| PublishError::Io { path: path.into(), source })
}

fn keep_capsule(
    shared: &Shared,
    file: &Path,
    bytes: &[u8],
    now: Timestamp,
) -> Result<Verified<Capsule>, PublishError> {
    let capsule = Capsule::parse(bytes)?.check_signed(&SignaturePolicy::new(shared.network), now)?;
    shared.capsules.put(&capsule)?;
    crate::openings::keep_beside(&shared.data_dir, file, &capsule)?;
    Ok(capsule)
}

async fn keep_input(shared: &Shared, input: Vec<u8>) -> Result<WideDigest, PublishError> {
    let digest = WideDigest::of_bytes(&input);
    let path = shared.input_path(&digest);
    let failed = |source| PublishError::Io { path: path.clone(), source };
    if let Some(parent) = path.parent() {
        tokio::fs::create_dir_all(parent).await.map_err(failed)?;
    }
    let name = path.clone();
    let written = blocking(move || files::replace(&name, &input)).await.ok_or(PublishError::Stopping)?;
    written.map_err(failed)?;
    Ok(digest)
}

/// Answers one claim.
pub(crate) async fn serve_claims(
    shared: &Arc<Shared>,
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
) -> io::Result<()> {
    let bytes = read_record(&mut stream, Claim::MAX_BYTES).await?;
    let claim: Claim = wire::from_bytes(&bytes).map_err(io::Error::other)?;
    let answer = settle(shared, claim).await;
    answer_with(&mut stream, &wire::to_bytes(&answer)).await
}

async fn settle(shared: &Arc<Shared>, claim: Claim) -> ClaimAnswer {
    let known = shared.board().receipts.get(&claim.receipt).cloned();
    let Some(entry) = known.filter(|entry| entry.publisher == shared.me) else { return ClaimAnswer::Unknown };
    let payee = claim.opening.run.node;
    let (commission, gas) = (entry.commission, claim.trace.gas_used);
    let network = shared.network;
    let (receipt, disclosure) = (claim.receipt, claim.disclosure.clone());
    let holds = blocking(move || opens(&entry, claim, &network)).await.unwrap_or(false);
    if !holds {
        return ClaimAnswer::Refused;
    }
    let amount = u64::try_from(shared.prices.quote(Op::Execution, gas).as_nano()).unwrap_or(u64::MAX);
    // The commission names the transfer: a second receipt for it, by whomever, is not paid.
    match shared.post_fee(shared.me, payee, amount, Code::Execution, commission).await {
        Posting::New => {
            shared.observe(payee, Evidence::ProofAccepted);
            if let Some(disclosure) = disclosure {
                carry(shared, receipt, disclosure).await;
            }
            ClaimAnswer::Posted(amount)
        }
        Posting::Known => ClaimAnswer::Posted(amount),
        Posting::Refused => ClaimAnswer::AlreadyPaid,
    }
}

/// Keeps what the executor of a paid run discloses, for its auditors to fetch here. Each one cost
/// this node a fee, which bounds how many there are.
async fn carry(shared: &Arc<Shared>, receipt: Digest, disclosure: Disclosure) {
    let keeper = shared.clone();
    let kept = blocking(move || match disclosure.check_receipt(&receipt, &keeper.network) {
        Ok(_) => keeper.desk.carry(&receipt, &disclosure),
        Err(error) => Err(io::Error::other(error)),
    });
    if let Some(Err(error)) = kept.await {
        // The run is paid all the same; its auditors will have to ask elsewhere.
        tracing::warn!(%error, "a disclosure is not carried");
    }
}

/// Whether the claim opens both commitments of the receipt, and the named node signed for it.
fn opens(entry: &ReceiptEntry, claim: Claim, network: &nonos_identity::NetworkId) -> bool {
    let statement = &entry.body.statement;
    if let Err(error) = claim.opening.check(&public_run(statement), network, None) {
        tracing::debug!(%error, "a claim does not open its receipt");
        return false;
    }
    claim.trace.to_trace().commit(&statement.exec_hash) == statement.exec_commit
}

/// A verifier vouched for a receipt: the payer, who checked it too, posts the bounty and believes
/// the verifier a little more, once.
pub(crate) async fn on_verdict(shared: &Arc<Shared>, receipt: Digest, verifier: NodeId) {
    let known = shared.board().receipts.get(&receipt).cloned();
    let Some(entry) = known else {
        shared.board().put_early_verdict(receipt, verifier);
        return;
    };
    let job = shared.board().jobs.get(&entry.commission).cloned();
    let Some(job) = job.filter(|job| job.operators.contains(&verifier)) else { return };
    if !shared.board().verdicts.entry(receipt).or_default().insert(verifier) {
        return;
    }
    shared.tell(Event::VerdictSeen { nullifier: receipt, verifier });
    let publisher = entry.publisher;
    if verifier == publisher || (shared.me != publisher && shared.me != verifier) {
        return;
    }
    let amount = u64::try_from(job.prices.quote(Op::Verification, 1).as_nano()).unwrap_or(u64::MAX);
    let purpose = Digest::of(domains::BOUNTY, &[receipt.as_ref(), verifier.as_bytes()]);
    let posting = shared.post_fee(publisher, verifier, amount, Code::Verification, purpose).await;
    if shared.me == publisher && posting == Posting::New {
        shared.observe(verifier, Evidence::ReceiptSigned);
        attest(shared, verifier, receipt).await;
    }
}

/// Tells the mesh, once per peer and epoch, how a peer dealt with this node.
async fn attest(shared: &Arc<Shared>, subject: NodeId, receipt: Digest) {
    let now = clock::now();
    let sealed = {
        let trust = shared.trust();
        let attestation = trust.attest(subject, Epoch::at(now), now.as_secs(), receipt);
        let root = shared.identity.root_key();
        attestation.map(|it| it.seal(&root, &shared.network, now, ATTESTATION_LIFETIME))
    };
    let Some(Ok(sealed)) = sealed else { return };
    let bytes = sealed.envelope().as_bytes().clone();
    if let Err(error) = shared.mesh.publish(ItemKind::Attestation, bytes).await {
        tracing::debug!(%error, "attestation not published");
    }
}
