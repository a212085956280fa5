//! The check before anything is stored or forwarded.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use nonos_capsule::{CheckSigned as _, Head, SignaturePolicy, VerifyError};
use nonos_identity::wire::{self, DecodeError};
use nonos_identity::{
    CertificateError, Digest, Envelope, EnvelopeError, NetworkId, NodeId, PublicKey, Timestamp, Unverified,
    Verified,
};
use nonos_ledger::{PriceError, PriceTable};
use nonos_mesh::{Check, ItemKind, Verdict as Judgement};
use nonos_trust::{Attestation, AttestationError, SignedAttestation};
use nonos_zk::{AcceptedRoots, EnrolmentError, Receipt, ReceiptError, Verifier};
use tokio::sync::mpsc;

use crate::board::{Board, Full, JobEntry, ReceiptEntry};
use crate::event::{Event, EventLog};
use crate::executor;
use crate::operators::{self, OperatorsError};
use crate::publisher::ATTESTATION_LIFETIME;
use crate::records::{self, Attested, Commission, Fulfilment, Job, RecordError, Verdict};

/// Item kind of a [`Job`].
pub(crate) const JOB_ITEM: ItemKind = ItemKind::App(1);
/// Records that may wait for their role; more are deferred, and come again by anti-entropy.
pub(crate) const FACTS_MAX: usize = 4096;
/// Item kind of a [`Verdict`].
pub(crate) const VERDICT_ITEM: ItemKind = ItemKind::App(2);

/// Item kind of an [`OperatorTree`](crate::records::OperatorTree).
pub(crate) const OPERATORS_ITEM: ItemKind = ItemKind::App(3);

/// Something that passed its check and that a role may want to act on.
#[derive(Debug)]
pub(crate) enum Fact {
    Job { id: Digest },
    Receipt { id: Digest },
    Verdict { receipt: Digest, verifier: NodeId },
    Attestation(Box<Verified<SignedAttestation>>),
}

/// Why an item went no further.
pub(crate) enum Refusal {
    /// A fault that every honest node sees; names the check.
    Fault(&'static str),
    /// Expired or too early: nobody's fault.
    Clock,
    /// Another copy of it is here: nobody's fault.
    Known,
    /// No room now.
    Full,
}

/// Checks items and records what passed.
pub(crate) struct Gate {
    pub(crate) network: NetworkId,
    pub(crate) verifier: Arc<dyn Verifier>,
    pub(crate) board: Arc<Mutex<Board>>,
    pub(crate) events: Arc<EventLog>,
    pub(crate) started: Instant,
    /// Closed while stored items are taken in again: what they asked for was done then.
    pub(crate) facts: mpsc::Sender<Fact>,
    /// This node lies for a demonstration: its own items go out as they are.
    pub(crate) lies_as: Option<NodeId>,
}

impl Check for Gate {
    fn check(&self, kind: ItemKind, bytes: &[u8], from: NodeId, now: Timestamp) -> Judgement {
        if kind == ItemKind::Receipt && self.lies_as == Some(from) {
            return Judgement::Accept;
        }
        let outcome = match kind {
            ItemKind::Manifest => self.manifest(bytes, now),
            ItemKind::Receipt => self.receipt(bytes, now),
            ItemKind::Attestation => self.attestation(bytes, now),
            JOB_ITEM => self.job(bytes, now),
            VERDICT_ITEM => self.verdict(bytes, now),
            OPERATORS_ITEM => self.operators(bytes, now),
            _ => return Judgement::Ignore,
        };
        match outcome {
            Ok(()) => Judgement::Accept,
            Err(Refusal::Fault(check)) => Judgement::Reject(check),
            Err(Refusal::Clock | Refusal::Known) => Judgement::Ignore,
            Err(Refusal::Full) => Judgement::Defer,
        }
    }
}

impl Gate {
    fn manifest(&self, bytes: &[u8], now: Timestamp) -> Result<(), Refusal> {
        let head = Head::parse(bytes).map_err(|_| Refusal::Fault("manifest"))?;
        let head =
            head.check_signed(&SignaturePolicy::new(self.network), now).map_err(|error| match error {
                // Signed once, and no longer: honest nodes differ on that by their clocks.
                VerifyError::Threshold { found: 0, .. } => Refusal::Clock,
                _ => Refusal::Fault("manifest"),
            })?;
        let event =
            Event::CapsuleSeen { capsule: *head.id().as_digest(), name: head.manifest().name.clone() };
        if self.board().put_head(head)? {
            self.tell(event);
        }
        Ok(())
    }

    fn job(&self, bytes: &[u8], now: Timestamp) -> Result<(), Refusal> {
        let job: Job = wire::from_bytes(bytes)?;
        let Attested { node: publisher, record: commission, signer, epoch, id, expiry } =
            records::open::<Commission>(&job.commission.0, &self.network, now)?.into_inner();
        if self.board().jobs.contains_key(&id) {
            return Err(Refusal::Known);
        }
        if commission.input_bytes > Commission::INPUT_BYTES_MAX {
            return Err(Refusal::Fault("job_limits"));
        }
        // One commission has one job: the same operators in another order, which their list refuses, or
        // prices that somebody else signed, would make copies without end.
        let prices = signed_by(Envelope::parse(&job.price_table.0)?, signer)?;
        let prices = PriceTable::open(prices, &self.network, now)?;
        if prices.id() != commission.price_table {
            return Err(Refusal::Fault("price_table"));
        }
        let (tree, operators) = operators::tree(&job.operators, &self.network, now)?;
        if tree.root() != commission.operators {
            return Err(Refusal::Fault("operators"));
        }
        let place = self.place()?;
        let event = Event::JobSeen { job: id, capsule: commission.capsule, publisher };
        let sealed = job.commission;
        let prices = prices.into_inner();
        let clock = epoch.start();
        let operators = operators.into_iter().collect();
        let entry = JobEntry { publisher, commission, sealed, prices, clock, expiry, tree, operators };
        if self.board().put_job(id, entry)? {
            self.tell(event);
            pass_on(place, Fact::Job { id });
        }
        Ok(())
    }

    fn operators(&self, bytes: &[u8], now: Timestamp) -> Result<(), Refusal> {
        let (root, entry) = operators::check(bytes, &self.network, now)?;
        let event = Event::OperatorsSeen {
            root: root.to_string(),
            members: entry.members,
            publisher: entry.publisher,
        };
        if self.board().put_tree(root, entry)? {
            self.tell(event);
        }
        Ok(())
    }

    /// The gates of the proof and what binds them to a commission. It needs no other record, so
    /// every honest node finds the same faults whatever it has seen before.
    fn receipt(&self, bytes: &[u8], now: Timestamp) -> Result<(), Refusal> {
        let begin = Instant::now();
        let fulfilment: Fulfilment = wire::from_bytes(bytes)?;
        let Attested { node: publisher, record: commission, id: commission_id, .. } =
            records::open::<Commission>(&fulfilment.commission.0, &self.network, now)?.into_inner();

        let mut roots = AcceptedRoots::default();
        roots.accept(commission.operators, nonos_identity::Epoch::from_number(u64::MAX));
        let receipt = Receipt::parse(&fulfilment.receipt.0)
            .and_then(|receipt| receipt.check(&*self.verifier, &roots, &self.network, now))?;
        let body = receipt.body();
        let statement = receipt.statement();
        let bound = [
            ("nonce", statement.nonce == commission.nonce),
            ("capsule", statement.capsule_id == commission.capsule),
            ("payload", statement.payload_commit == commission.payload_commit),
            ("policy", within(&statement.policy, &commission.limits)),
            ("publisher", body.publisher == publisher),
            ("price_table", body.price_table == commission.price_table),
            ("input", body.input_digest == executor::input_digest(&commission.input)),
        ];
        if let Some((check, _)) = bound.iter().find(|(_, holds)| !holds) {
            return Err(Refusal::Fault(check));
        }

        let id = Digest::from_bytes(*receipt.id().as_bytes());
        let expiry = Receipt::expiry(statement.epoch);
        let entry = ReceiptEntry { body: body.clone(), expiry, commission: commission_id, publisher };
        let place = self.place()?;
        let mut board = self.board();
        // A slot counts once. Which of two receipts for it came first differs from node to node,
        // so the second one is not held against whoever brings it.
        if !board.put_receipt(id, entry)? {
            return Err(Refusal::Known);
        }
        drop(board);
        let elapsed_ms = u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.tell(Event::ReceiptVerified { nullifier: id, job: commission_id, elapsed_ms });
        pass_on(place, Fact::Receipt { id });
        Ok(())
    }

    fn verdict(&self, bytes: &[u8], now: Timestamp) -> Result<(), Refusal> {
        let verdict = records::open::<Verdict>(bytes, &self.network, now)?.into_inner();
        pass_on(self.place()?, Fact::Verdict { receipt: verdict.record.receipt, verifier: verdict.node });
        Ok(())
    }

    fn attestation(&self, bytes: &[u8], now: Timestamp) -> Result<(), Refusal> {
        let attestation =
            Attestation::open(Envelope::parse(bytes)?, &self.network, now).map_err(|error| match error {
                AttestationError::Envelope(error) => error.into(),
                _ => Refusal::Fault("attestation"),
            })?;
        let expiry = attestation.envelope().header().expiry;
        if expiry > now.saturating_add(ATTESTATION_LIFETIME).saturating_add(Timestamp::MAX_SKEW) {
            return Err(Refusal::Fault("lifetime"));
        }
        pass_on(self.place()?, Fact::Attestation(Box::new(attestation)));
        Ok(())
    }

    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, event: Event) {
        self.events.push(self.started.elapsed(), event);
    }

    /// A place for what a record asks of the roles, before anything of it is taken in.
    fn place(&self) -> Result<Option<mpsc::Permit<'_, Fact>>, Refusal> {
        match self.facts.try_reserve() {
            Ok(permit) => Ok(Some(permit)),
            Err(mpsc::error::TrySendError::Full(())) => Err(Refusal::Full),
            Err(mpsc::error::TrySendError::Closed(())) => Ok(None),
        }
    }
}

/// Holds an envelope against the key that must have signed it; its signature is checked later.
fn signed_by(envelope: Unverified<Envelope>, key: PublicKey) -> Result<Unverified<Envelope>, Refusal> {
    let envelope = envelope.check(|envelope| match envelope.header().key == key {
        true => Ok(()),
        false => Err(Refusal::Fault("price_table")),
    })?;
    Ok(Unverified::new(envelope.into_inner()))
}

fn pass_on(place: Option<mpsc::Permit<'_, Fact>>, fact: Fact) {
    if let Some(place) = place {
        place.send(fact);
    }
}

/// Whether a policy allows no more than another.
pub(crate) const fn within(policy: &nonos_zk::PolicyLimits, limits: &nonos_zk::PolicyLimits) -> bool {
    policy.gas_limit <= limits.gas_limit
        && policy.pages_max <= limits.pages_max
        && policy.host_calls_allowed & !limits.host_calls_allowed == 0
        && policy.cpu_features_allowed & !limits.cpu_features_allowed == 0
        && limits.isolation_required & !policy.isolation_required == 0
}

impl From<Full> for Refusal {
    fn from(_: Full) -> Self {
        Self::Full
    }
}

impl From<DecodeError> for Refusal {
    fn from(_: DecodeError) -> Self {
        Self::Fault("encoding")
    }
}

impl From<EnvelopeError> for Refusal {
    fn from(error: EnvelopeError) -> Self {
        match error {
            EnvelopeError::Expired(_) | EnvelopeError::Future(_) => Self::Clock,
            _ => Self::Fault("signature"),
        }
    }
}

impl From<RecordError> for Refusal {
    fn from(error: RecordError) -> Self {
        match error {
            RecordError::Envelope(error) => error.into(),
            RecordError::Certificate(CertificateError::Expired(_) | CertificateError::NotYetValid(_)) => {
                Self::Clock
            }
            RecordError::Certificate(_) => Self::Fault("certificate"),
            RecordError::Lifetime => Self::Fault("lifetime"),
            RecordError::Signer => Self::Fault("signer"),
            RecordError::Decode(error) => error.into(),
        }
    }
}

impl From<PriceError> for Refusal {
    fn from(error: PriceError) -> Self {
        match error {
            PriceError::Envelope(error) => error.into(),
            _ => Self::Fault("price_table"),
        }
    }
}

impl From<OperatorsError> for Refusal {
    fn from(error: OperatorsError) -> Self {
        match error {
            OperatorsError::Enrolment(EnrolmentError::Envelope(error)) => error.into(),
            _ => Self::Fault("operators"),
        }
    }
}

impl From<ReceiptError> for Refusal {
    fn from(error: ReceiptError) -> Self {
        match error {
            ReceiptError::Expired(_) | ReceiptError::Future(_) => Self::Clock,
            ReceiptError::Proof(nonos_zk::VerifyError::Busy) => Self::Full,
            // Membership in a tree that the payer did not name.
            ReceiptError::UnknownRoot => Self::Fault("identity"),
            error => Self::Fault(error.check_name()),
        }
    }
}
