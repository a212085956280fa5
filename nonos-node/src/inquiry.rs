//! Asking a node for openings of hidden fields and for disclosures of receipts.

use std::sync::Arc;

use minicbor::{Decode, Encode};
use nonos_capsule::{
    CapsuleId, CapsuleStore as _, CheckSigned as _, FieldOpening, Head, Hidden, Release, ReleaseError,
    SignaturePolicy,
};
use nonos_identity::wire::{self, Wire};
use nonos_identity::{Digest, NodeId, WideDigest};
use nonos_trust::Evidence;

use crate::circuits::{Route, RouteError, port};
use crate::clock;
use crate::control::{FieldView, Response};
use crate::event::Event;
use crate::node::Shared;
use crate::openings::{self, OpeningFile, ReadError, Reading, Shown};
use crate::records::Disclosure;
use crate::submit::{PATIENCE, read_record, write_record};
use crate::tasks::blocking;

/// Circuits tried before a node counts as not reachable.
const CIRCUITS: usize = 3;

/// What one may ask a node to show. It names nobody: the answer is the same for all.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[non_exhaustive]
pub enum Question {
    /// A hidden field of a capsule.
    #[n(0)]
    Field {
        /// The capsule.
        #[n(0)]
        capsule: CapsuleId,
        /// Place of the field.
        #[n(1)]
        field: u8,
    },
    /// The disclosure of a receipt, by the receipt's id.
    #[n(1)]
    Receipt(#[n(0)] Digest),
}

impl Wire for Question {
    const MAX_BYTES: usize = 80;
}

/// What a node answers.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[non_exhaustive]
pub enum Answer {
    /// Not here, not for anybody, or not yet: it does not say which.
    #[n(0)]
    Withheld,
    /// The circuit asked too much; later.
    #[n(1)]
    Busy,
    /// That was no question; the stream ends.
    #[n(2)]
    Malformed,
    /// The opening of a field.
    #[n(3)]
    Field(#[n(0)] Shown),
    /// The disclosure of a receipt.
    #[n(4)]
    Receipt(#[n(0)] Disclosure),
}

impl Wire for Answer {
    const MAX_BYTES: usize = Disclosure::MAX_BYTES + 8;
}

/// Why an inquiry has no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum InquiryError {
    /// The caller's: nothing names a capsule's commitment but its signed head.
    #[error("capsule {0:.16} is not known here; wait for its head, or fetch it first")]
    UnknownCapsule(String),
    /// The caller's.
    #[error("the capsule has no hidden fields")]
    NoFields,
    /// The caller's.
    #[error(transparent)]
    Rule(#[from] ReleaseError),
    /// The caller's: nobody is known to have it.
    #[error("nothing here names a node to ask; name one")]
    Nobody,
    /// No circuit to the node.
    #[error(transparent)]
    Route(#[from] RouteError),
    /// The circuits were lost.
    #[error("the circuits to node {0} were lost")]
    Lost(NodeId),
    /// The node has answered too much of late.
    #[error("node {0} is busy; ask again in a minute")]
    Busy(NodeId),
    /// The node's fault.
    #[error("node {0} answered with something else than asked")]
    Protocol(NodeId),
    /// The node's fault, or of whoever sealed what it carries.
    #[error("node {from} showed a forged opening of field {field}: {source}")]
    Forged {
        /// Who showed it.
        from: NodeId,
        /// The field.
        field: u8,
        /// What is wrong.
        #[source]
        source: ReadError,
    },
    /// The node's fault.
    #[error("node {from} showed a forged disclosure of the receipt: {source}")]
    ForgedReceipt {
        /// Who showed it.
        from: NodeId,
        /// What is wrong.
        #[source]
        source: crate::records::DisclosureError,
    },
    /// The node has no such thing to show, or not to anybody, or not yet.
    #[error("node {0} does not show it")]
    Withheld(NodeId),
    /// The node's own disk.
    #[error(transparent)]
    Store(#[from] nonos_capsule::StoreError),
    /// The node is stopping.
    #[error("the node is stopping")]
    Stopping,
}

/// Asks for fields of a capsule and reads what comes; without places, for all that somebody but
/// the author may see.
pub(crate) async fn fields(
    shared: &Arc<Shared>,
    capsule: WideDigest,
    places: Vec<u8>,
    from: Option<NodeId>,
) -> Result<Response, InquiryError> {
    let id = CapsuleId::from_digest(capsule);
    let hidden = hidden(shared, &id).await?;
    let places = match places.is_empty() {
        true => shown_to_some(&hidden),
        false => places,
    };
    for &field in &places {
        hidden.release(field).ok_or(ReleaseError::Index(field))?;
    }
    let from = from.or_else(|| publisher(shared, &capsule)).ok_or(InquiryError::Nobody)?;
    let questions: Vec<_> = places.iter().map(|&field| Question::Field { capsule: id, field }).collect();
    let answers = ask(shared, from, "ask for openings", &questions).await?;
    let views = places.into_iter().zip(answers).map(|(field, answer)| match answer {
        Answer::Field(shown) => read(shared, from, &id, &hidden, field, shown),
        Answer::Withheld => Ok(FieldView::Withheld { field }),
        Answer::Busy => Err(InquiryError::Busy(from)),
        _ => Err(InquiryError::Protocol(from)),
    });
    Ok(Response::Fields { capsule, from, fields: views.collect::<Result<_, _>>()? })
}

/// The opening that lets this node have a payload whose digest is hidden, if there is one for it.
pub(crate) async fn permit(
    shared: &Arc<Shared>,
    from: NodeId,
    head: &Head,
) -> Result<Option<FieldOpening>, InquiryError> {
    let Some(hidden) = &head.manifest().hidden else { return Ok(None) };
    let (id, places) = (head.id(), shown_to_some(hidden));
    let questions: Vec<_> = places.iter().map(|&field| Question::Field { capsule: id, field }).collect();
    let answers = ask(shared, from, "ask for a permit", &questions).await?;
    for (field, answer) in places.into_iter().zip(answers) {
        match answer {
            Answer::Field(shown) => match reading(shared, from, &id, hidden, field, &shown)? {
                Reading::Opened(opening) if head.manifest().check_permit(&opening).is_ok() => {
                    return Ok(Some(opening));
                }
                Reading::Opened(_) | Reading::Closed => {}
            },
            Answer::Withheld => {}
            Answer::Busy => return Err(InquiryError::Busy(from)),
            _ => return Err(InquiryError::Protocol(from)),
        }
    }
    Ok(None)
}

fn shown_to_some(hidden: &Hidden) -> Vec<u8> {
    let rules = (0..=u8::MAX).zip(hidden.releases());
    rules.filter(|(_, rule)| **rule != Release::Author).map(|(field, _)| field).collect()
}

/// An opening as the control interface shows it.
fn read(
    shared: &Shared,
    from: NodeId,
    capsule: &CapsuleId,
    hidden: &Hidden,
    field: u8,
    shown: Shown,
) -> Result<FieldView, InquiryError> {
    let reading = reading(shared, from, capsule, hidden, field, &shown)?;
    let file = wire::to_bytes(&OpeningFile { capsule: *capsule, field, shown });
    let opening = data_encoding::HEXLOWER.encode(&file);
    Ok(match reading {
        Reading::Opened(it) => FieldView::Opened { field, name: it.name, value: it.value, opening },
        Reading::Closed => FieldView::Sealed { field, opening },
    })
}

/// Reads an opening and holds a forgery against whoever could have known.
fn reading(
    shared: &Shared,
    from: NodeId,
    capsule: &CapsuleId,
    hidden: &Hidden,
    field: u8,
    shown: &Shown,
) -> Result<Reading, InquiryError> {
    let secret = shared.identity.static_secret(0);
    openings::open(shown, capsule, hidden, field, &secret).map_err(|source| {
        match source {
            ReadError::Forged => shared.refuse("opening", "hidden_commitment", from, Evidence::ChunkInvalid),
            // Who carries a sealed opening cannot look into it: it is named, not punished.
            ReadError::SealedForgery => {
                shared.tell(Event::Refused { what: "opening".into(), check: "sealed_opening".into(), from })
            }
        }
        InquiryError::Forged { from, field, source }
    })
}

/// Asks for the disclosure of a receipt. The node that ran does not serve it; the payer does.
pub(crate) async fn receipt(
    shared: &Arc<Shared>,
    receipt: Digest,
    from: Option<NodeId>,
) -> Result<Response, InquiryError> {
    let payer = || shared.board().receipts.get(&receipt).map(|entry| entry.publisher);
    let from = from.or_else(payer).ok_or(InquiryError::Nobody)?;
    let answers = ask(shared, from, "ask for a disclosure", &[Question::Receipt(receipt)]).await?;
    match answers.into_iter().next() {
        Some(Answer::Receipt(disclosure)) => match disclosure.check_receipt(&receipt, &shared.network) {
            Ok(_) => {
                let disclosure = data_encoding::HEXLOWER.encode(&wire::to_bytes(&disclosure));
                Ok(Response::Disclosure { from, disclosure })
            }
            Err(source) => {
                shared.refuse("disclosure", "receipt", from, Evidence::ItemRejected);
                Err(InquiryError::ForgedReceipt { from, source })
            }
        },
        Some(Answer::Withheld) => Err(InquiryError::Withheld(from)),
        Some(Answer::Busy) => Err(InquiryError::Busy(from)),
        _ => Err(InquiryError::Protocol(from)),
    }
}

/// Asks over a circuit, in order; this node's own desk is asked directly.
async fn ask(
    shared: &Arc<Shared>,
    from: NodeId,
    purpose: &str,
    questions: &[Question],
) -> Result<Vec<Answer>, InquiryError> {
    if from == shared.me {
        let (desk, questions) = (shared.desk.clone(), questions.to_vec());
        let answers = blocking(move || questions.iter().map(|it| desk.answer(it)).collect());
        return answers.await.ok_or(InquiryError::Stopping);
    }
    for _ in 0..CIRCUITS {
        let route = shared.first_route(purpose, from, &[]).await?;
        let promises = shared.promise_relays(&route).await;
        let answers = converse(&route, questions).await;
        route.circuit.close();
        shared.settle(promises, answers.is_some()).await;
        if let Some(answers) = answers {
            return Ok(answers);
        }
    }
    Err(InquiryError::Lost(from))
}

/// One question and answer after the other; `None` if the circuit is of no use. The first answer
/// that ends the stream is the last.
async fn converse(route: &Route, questions: &[Question]) -> Option<Vec<Answer>> {
    let mut stream = route.circuit.open(port::DISCLOSE).await.ok()?;
    let mut answers = Vec::new();
    for question in questions {
        let question = wire::to_bytes(question);
        tokio::time::timeout(PATIENCE, write_record(&mut stream, &question)).await.ok()?.ok()?;
        let bytes = read_record(&mut stream, Answer::MAX_BYTES).await.ok()?;
        // Who does not speak the protocol will not on another circuit either.
        let answer = wire::from_bytes(&bytes).unwrap_or(Answer::Malformed);
        let ends = matches!(answer, Answer::Busy | Answer::Malformed);
        answers.push(answer);
        if ends {
            break;
        }
    }
    Some(answers)
}

/// The commitment of a capsule whose signatures hold.
async fn hidden(shared: &Arc<Shared>, id: &CapsuleId) -> Result<Hidden, InquiryError> {
    let known = shared.board().heads.get(id.as_digest()).map(|head| head.manifest().hidden.clone());
    let hidden = match known {
        Some(hidden) => hidden,
        None => {
            let (keeper, id) = (shared.clone(), *id);
            let kept = blocking(move || keeper.capsules.read(&id)).await.ok_or(InquiryError::Stopping)??;
            let rule = SignaturePolicy::new(shared.network);
            let checked = kept.and_then(|capsule| capsule.check_signed(&rule, clock::now()).ok());
            let capsule = checked.ok_or_else(|| InquiryError::UnknownCapsule(id.to_string()))?;
            capsule.manifest().hidden.clone()
        }
    };
    hidden.ok_or(InquiryError::NoFields)
}

/// Who publishes a capsule, as far as the jobs for it say; this node first.
fn publisher(shared: &Shared, capsule: &WideDigest) -> Option<NodeId> {
    let board = shared.board();
    let jobs = board.jobs.values().filter(|job| job.commission.capsule == *capsule);
    let publishers: Vec<_> = jobs.map(|job| job.publisher).collect();
    publishers.iter().find(|it| **it == shared.me).or(publishers.first()).copied()
}
