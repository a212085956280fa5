//! Descriptors of onion services at the relays nearest to their index, all reached through circuits.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Weak};

use minicbor::{Decode, Encode};
use nonos_identity::wire::{self, Wire};
use nonos_identity::{Digest, NetworkId, NodeId, Timestamp};
use nonos_onion::service::{
    Directory, DirectoryError, DirectoryFuture, DirectoryIndex, SharedRandom, SignedDescriptor, StoreError,
    TimePeriod,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;

use crate::circuits::port;
use crate::node::Shared;
use crate::submit::{answer_with, ask_for, read_record};
use crate::{clock, domains};

/// Relays that a record is brought to and fetched from.
const SPREAD: usize = 3;
/// Relays nearest to an index that keep a record: more than [`SPREAD`], for no two nodes know quite the same
/// relays. The others refuse it, so that who floods directories must make keys near each of them.
const KEEPERS: usize = 8;

/// What a directory is asked.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
enum Question {
    /// Keep a record.
    #[n(0)]
    Keep {
        #[cbor(n(0), with = "minicbor::bytes")]
        index: [u8; 32],
        #[cbor(n(1), with = "minicbor::bytes")]
        record: Vec<u8>,
    },
    /// Show the record at an index.
    #[n(1)]
    Show {
        #[cbor(n(0), with = "minicbor::bytes")]
        index: [u8; 32],
    },
}

impl Wire for Question {
    const MAX_BYTES: usize = SignedDescriptor::MAX_BYTES + 64;
}

/// What it answers.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
enum Answer {
    /// It is kept.
    #[n(0)]
    Kept,
    /// The directory's bounds are reached.
    #[n(1)]
    Full,
    /// It does not hold, is not newer than what is kept, or belongs elsewhere.
    #[n(2)]
    Refused,
    /// The record asked for.
    #[n(3)]
    Record(#[cbor(n(0), with = "minicbor::bytes")] Vec<u8>),
    /// None is kept.
    #[n(4)]
    Nothing,
}

impl Wire for Answer {
    const MAX_BYTES: usize = SignedDescriptor::MAX_BYTES + 16;
}

/// The random value of a period. Whoever knows the mesh and the date can compute it: it spreads the records,
/// and does not keep an adversary from making a key that lies near an index.
pub(crate) fn shared_random(network: &NetworkId, period: TimePeriod) -> SharedRandom {
    let number = period.number().to_be_bytes();
    SharedRandom::from_bytes(*Digest::of(domains::SHARED_RANDOM, &[network.as_bytes(), &number]).as_bytes())
}

/// The periods of which records may be in use, and their random values.
pub(crate) fn randoms(network: &NetworkId, now: Timestamp) -> Vec<(TimePeriod, SharedRandom)> {
    let current = TimePeriod::at(now);
    let around = current.number().saturating_sub(1)..=current.number().saturating_add(1);
    around.map(TimePeriod::from_number).map(|period| (period, shared_random(network, period))).collect()
}

/// The directories of a mesh, as one of its nodes reaches them.
#[derive(Debug)]
pub(crate) struct Directories(pub(crate) Weak<Shared>);

impl Directory for Directories {
    fn publish(&self, index: DirectoryIndex, bytes: Vec<u8>) -> DirectoryFuture<()> {
        let shared = self.0.clone();
        Box::pin(async move {
            let shared = shared.upgrade().ok_or(DirectoryError::Unreachable)?;
            let question = Question::Keep { index: *index.as_bytes(), record: bytes };
            let answers = shared.ask_directories(index, &question).await;
            let kept = answers.iter().any(|answer| matches!(answer, Answer::Kept));
            let full = answers.iter().any(|answer| matches!(answer, Answer::Full));
            match (kept, full, answers.is_empty()) {
                (true, ..) => Ok(()),
                (_, true, _) => Err(StoreError::Full.into()),
                (_, _, true) => Err(DirectoryError::Unreachable),
                _ => Err(StoreError::Index.into()),
            }
        })
    }

    fn fetch(&self, index: DirectoryIndex) -> DirectoryFuture<Vec<Vec<u8>>> {
        let shared = self.0.clone();
        Box::pin(async move {
            let shared = shared.upgrade().ok_or(DirectoryError::Unreachable)?;
            let question = Question::Show { index: *index.as_bytes() };
            let answers = shared.ask_directories(index, &question).await;
            if answers.is_empty() {
                return Err(DirectoryError::Unreachable);
            }
            let records = answers.into_iter().filter_map(|answer| match answer {
                Answer::Record(record) => Some(record),
                _ => None,
            });
            Ok(records.collect::<BTreeSet<_>>().into_iter().collect())
        })
    }
}

impl Shared {
    /// The known relays, this node too if it is one, that lie nearest to an index.
    fn nearest(&self, index: DirectoryIndex, count: usize) -> Vec<NodeId> {
        let relays = self.board().relays(clock::now());
        let own = self.config.roles.relay.then_some(self.me);
        let mut all: Vec<NodeId> = relays.iter().map(|relay| relay.relay).chain(own).collect();
        all.sort_by_cached_key(|node| distance(&self.network, index, node));
        all.dedup();
        all.truncate(count);
        all
    }

    async fn ask_directories(self: &Arc<Self>, index: DirectoryIndex, question: &Question) -> Vec<Answer> {
        let mut asked = JoinSet::new();
        let bytes: Arc<[u8]> = wire::to_bytes(question).into();
        for directory in self.nearest(index, SPREAD) {
            let (shared, bytes) = (self.clone(), bytes.clone());
            asked.spawn(async move {
                if directory == shared.me {
                    return wire::from_bytes(&bytes).ok().map(|question| shared.answer(question));
                }
                let route = shared.first_route("directory", directory, &[]).await.ok()?;
                // The question goes with the stream: a round trip less for whoever has no descriptor.
                let mut stream = route.circuit.open_early(port::DIRECTORY).await.ok()?;
                let answer = ask_for(&mut stream, &bytes, Answer::MAX_BYTES).await.ok()?;
                route.circuit.close();
                wire::from_bytes::<Answer>(&answer).ok()
            });
        }
        asked.join_all().await.into_iter().flatten().collect()
    }

    /// As a directory itself.
    fn answer(&self, question: Question) -> Answer {
        match question {
            Question::Keep { index, record } => {
                let index = DirectoryIndex::from_bytes(index);
                if !self.nearest(index, KEEPERS).contains(&self.me) {
                    return Answer::Refused;
                }
                match self.descriptors.put(index, record) {
                    Ok(()) => Answer::Kept,
                    Err(StoreError::Full) => Answer::Full,
                    Err(_) => Answer::Refused,
                }
            }
            Question::Show { index } => {
                let found = self.descriptors.find(DirectoryIndex::from_bytes(index));
                found.map_or(Answer::Nothing, Answer::Record)
            }
        }
    }
}

/// Answers one question.
pub(crate) async fn serve(
    shared: &Arc<Shared>,
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
) -> io::Result<()> {
    let bytes = read_record(&mut stream, Question::MAX_BYTES).await?;
    let question = wire::from_bytes(&bytes).map_err(io::Error::other)?;
    answer_with(&mut stream, &wire::to_bytes(&shared.answer(question))).await
}

fn distance(network: &NetworkId, index: DirectoryIndex, node: &NodeId) -> Digest {
    Digest::of(domains::DIRECTORY, &[network.as_bytes(), index.as_bytes(), node.as_bytes()])
}
