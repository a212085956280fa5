//! A lie about a run, with all that a third party needs to make the run again.

use std::sync::Arc;

use minicbor::{Decode, Encode};
use nonos_capsule::dispute::{Accusation, JudgeError as CapsuleJudgeError};
use nonos_capsule::{
    Capsule, CapsuleId, CapsuleStore as _, CheckSigned as _, Invocation, Loaded, Policy, Resolved,
    SignaturePolicy,
};
use nonos_identity::wire::{self, DecodeError, Wire};
use nonos_identity::{Digest, Envelope, Epoch, NetworkId, NodeId, Timestamp, Verified};
use nonos_trust::{Conviction, Judge, JudgeError};

use super::DisputeFailure;
use crate::clock;
use crate::domains;
use crate::executor;
use crate::fetch::Lanes;
use crate::node::Shared;
use crate::records::{self, Commission, RecordError, Sealed};
use crate::tasks::blocking;

/// What one node hands another to have a liar judged: the order, and what the liar signed. Capsule
/// and input are named by their digests; who judges has them, or fetches them from the publisher.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Charge {
    /// The signed commission.
    #[n(0)]
    commission: Sealed,
    /// An [`Accusation`].
    #[n(1)]
    accusation: Sealed,
}

impl Wire for Charge {
    const MAX_BYTES: usize = nonos_trust::Fault::MAX_EVIDENCE_BYTES;
}

/// A commission, and the run that it asks for but for capsule and input.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    pub(crate) publisher: NodeId,
    pub(crate) commission: Commission,
    pub(crate) clock: Timestamp,
}

impl Order {
    /// Opens a commission that may have expired: it says what was asked, not what is to be done.
    fn open(bytes: &[u8], network: &NetworkId) -> Result<Self, RecordError> {
        // The header is not trusted here: it only picks the moment at which it is then checked.
        let mut made = Epoch::default();
        let _: Result<_, ()> = Envelope::parse(bytes)?.check(|envelope| {
            made = envelope.header().epoch;
            Ok(())
        });
        // A certificate may begin within the epoch that it is first used in.
        let opened = records::open::<Commission>(bytes, network, made.start())
            .or_else(|_| records::open::<Commission>(bytes, network, made.end()))?
            .into_inner();
        Ok(Self { publisher: opened.node, commission: opened.record, clock: opened.epoch.start() })
    }
}

impl Charge {
    pub(crate) fn new(commission: Sealed, accusation: &Accusation) -> Self {
        Self { commission, accusation: Sealed(accusation.to_bytes()) }
    }

    /// Who is accused, of what, and on which order; the lie itself is for a judge.
    pub(crate) fn open(&self, network: &NetworkId) -> Result<(Accusation, Order), ChargeError> {
        let accusation = Accusation::parse(&self.accusation.0, network)?;
        let order = Order::open(&self.commission.0, network)?;
        if *accusation.capsule_id().as_digest() != order.commission.capsule {
            return Err(ChargeError::Capsule);
        }
        Ok((accusation, order))
    }
}

/// Why a charge accuses nobody. The accuser's fault.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum ChargeError {
    /// Not the canonical form.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The accused node signed nothing of it.
    #[error(transparent)]
    Accusation(#[from] nonos_capsule::dispute::AccusationError),
    /// The order is nobody's.
    #[error(transparent)]
    Order(#[from] RecordError),
    /// They are about different capsules.
    #[error("the order is for another capsule")]
    Capsule,
}

/// A capsule, loaded, and the invocation of one run of it.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) loaded: Loaded,
    pub(crate) invocation: Invocation,
}

/// Gets what a run takes: from this node's own files, or else from the publisher.
pub(crate) async fn prepare(shared: &Arc<Shared>, order: &Order) -> Result<Case, DisputeFailure> {
    let id = CapsuleId::from_digest(order.commission.capsule);
    let keeper = shared.clone();
    let stored = blocking(move || stored(&keeper, &id)).await.flatten();
    let path = shared.input_path(&order.commission.input);
    let input = match order.commission.input_bytes {
        0 => Some(Vec::new()),
        _ => tokio::fs::read(path).await.ok(),
    };
    let (capsule, input) = match (stored, input) {
        (Some(capsule), Some(input)) => (capsule, input),
        (stored, input) => {
            let mut lanes = Lanes::open(shared, order.publisher).await?;
            let capsule = match stored {
                Some(capsule) => capsule,
                None => executor::fetch_capsule(shared, &mut lanes, order.commission.capsule).await?,
            };
            let input = match input {
                Some(input) => input,
                None => lanes.input(order.commission.input, order.commission.input_bytes).await?,
            };
            lanes.settle().await;
            (capsule, input)
        }
    };
    let invocation = executor::asked(shared, order, &capsule, input);
    let host = shared.clone();
    let loaded = blocking(move || {
        let rule = SignaturePolicy::new(host.network);
        let resolved = Resolved::resolve(capsule, &host.capsules, &rule, clock::now())
            .map_err(|error| DisputeFailure::Load(error.to_string()))?;
        let loaded = host.runtime.load_resolved(&resolved, &Policy::default());
        loaded.map_err(|error| DisputeFailure::Load(error.to_string()))
    });
    let loaded = loaded.await.ok_or(DisputeFailure::Stopping)??;
    Ok(Case { loaded, invocation })
}

fn stored(shared: &Shared, id: &CapsuleId) -> Option<Verified<Capsule>> {
    let stored = shared.capsules.read(id).ok().flatten()?;
    stored.check_signed(&SignaturePolicy::new(shared.network), clock::now()).ok()
}

/// Judges charges about one prepared run.
pub(crate) struct Bench<'a> {
    pub(crate) case: &'a Case,
    pub(crate) network: NetworkId,
}

impl Judge for Bench<'_> {
    fn judge(&self, evidence: &[u8]) -> Result<Conviction, JudgeError> {
        let charge: Charge = wire::from_bytes(evidence).map_err(accuser)?;
        let (accusation, _) = charge.open(&self.network).map_err(accuser)?;
        let proven =
            accusation.judge(&self.case.loaded, &self.case.invocation).map_err(|error| match error {
                CapsuleJudgeError::Innocent => accuser(error),
                error => JudgeError::Undecided(error.to_string()),
            })?;
        Ok(conviction(&proven))
    }
}

/// Believes what a re-run of this node has just shown.
pub(crate) struct Proven<'a>(pub(crate) &'a Verified<Accusation>);

impl Judge for Proven<'_> {
    fn judge(&self, _: &[u8]) -> Result<Conviction, JudgeError> {
        Ok(conviction(self.0))
    }
}

fn conviction(proven: &Verified<Accusation>) -> Conviction {
    Conviction { culprit: proven.accused(), run: Digest::of(domains::RUN, &[proven.genesis().as_bytes()]) }
}

fn accuser(error: impl std::error::Error) -> JudgeError {
    JudgeError::FalseAccusation(error.to_string())
}
