//! Answering for this node's runs over a circuit.

use std::io;
use std::sync::Arc;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};
use nonos_capsule::dispute::{CheckpointOpening, SignedChain};
use nonos_identity::Digest;
use nonos_identity::wire::{self, Wire};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::chains::{ChainsError, Open};
use crate::clock;
use crate::node::Shared;
use crate::records::Signer;
use crate::submit::{read_record, write_record};
use crate::tasks::blocking;

/// Questions taken on one stream: a whole bisection and some to spare; more is no dispute.
const QUERIES_MAX: usize = 64;
/// Answers this node gives in a burst, over all streams.
const BURST: u32 = 64;
/// How long one more answer takes to become due: 32 a second cost less than one percent of a core.
const PER_ANSWER: Duration = Duration::from_millis(31);
/// Answers that a chain counts as that has to be read from disk and hashed first.
const LOAD_COST: u32 = 16;

/// What a challenger asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[non_exhaustive]
pub(crate) enum Query {
    /// The signed commitment to the run of a job.
    #[n(0)]
    Commit(#[n(0)] Digest),
    /// One checkpoint of it.
    #[n(1)]
    Open(#[n(0)] Digest, #[n(1)] u32),
}

impl Wire for Query {
    const MAX_BYTES: usize = 64;
}

/// What a party answers.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[non_exhaustive]
pub(crate) enum Reply {
    /// A [`SignedChain`].
    #[n(0)]
    Signed(#[n(0)] ByteVec),
    /// A [`CheckpointOpening`].
    #[n(1)]
    Opened(#[n(0)] ByteVec),
    /// No such run, or no such checkpoint.
    #[n(2)]
    Unknown,
    /// Too many questions; ask again later.
    #[n(3)]
    Busy,
}

impl Wire for Reply {
    const MAX_BYTES: usize = CheckpointOpening::MAX_BYTES + SignedChain::MAX_BYTES;
}

/// A bucket of answers that fills with time: what strangers can make this node hash and send.
#[derive(Debug)]
pub(crate) struct Limiter(Mutex<(u32, Instant)>);

impl Limiter {
    pub(crate) const fn new(now: Instant) -> Self {
        Self(Mutex::new((BURST, now)))
    }

    fn take(&self, cost: u32, now: Instant) -> bool {
        let mut guard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (left, at) = &mut *guard;
        let due = now.saturating_duration_since(*at).as_nanos() / PER_ANSWER.as_nanos();
        let due = u32::try_from(due).unwrap_or(u32::MAX);
        if due >= BURST - *left {
            (*left, *at) = (BURST, now);
        } else {
            *left += due;
            *at += PER_ANSWER * due;
        }
        let allowed = *left >= cost;
        if allowed {
            *left -= cost;
        }
        allowed
    }
}

/// Answers questions in their order until the client ends the stream.
pub(crate) async fn serve(
    shared: &Arc<Shared>,
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
) -> io::Result<()> {
    for _ in 0..QUERIES_MAX {
        let bytes = read_record(&mut stream, Query::MAX_BYTES).await?;
        let query: Query = wire::from_bytes(&bytes).map_err(io::Error::other)?;
        let reply = answer(shared, query).await;
        write_record(&mut stream, &wire::to_bytes(&reply)).await?;
    }
    Ok(())
}

/// Answers one question within the limit.
async fn answer(shared: &Arc<Shared>, query: Query) -> Reply {
    let job = match query {
        Query::Commit(job) | Query::Open(job, _) => job,
    };
    let is_ready = shared.chains.ready(&job, clock::now()).is_some();
    let cost = if is_ready { 1 } else { LOAD_COST };
    if !shared.answers.take(cost, Instant::now()) {
        return Reply::Busy;
    }
    match load(shared, job).await {
        Ok(Some(open)) => reply(&open, query),
        Ok(None) => Reply::Unknown,
        Err(error) => {
            shared.fail("answer for a run", &error);
            Reply::Unknown
        }
    }
}

/// The chain of this node's own run of a job.
pub(super) async fn load(shared: &Arc<Shared>, job: Digest) -> Result<Option<Arc<Open>>, ChainsError> {
    let holder = shared.clone();
    let found = blocking(move || {
        let now = clock::now();
        holder.chains.find(&job, now, |chain| {
            let credentials = holder.credentials();
            let Signer { key, certificate, network } = &credentials.signer;
            chain.sign(key, certificate, network, now)
        })
    });
    found.await.unwrap_or(Ok(None))
}

pub(super) fn reply(open: &Open, query: Query) -> Reply {
    match query {
        Query::Commit(_) => Reply::Signed(open.signed.clone().into()),
        Query::Open(_, position) => match open.chain.open(position) {
            Some(opening) => Reply::Opened(wire::to_bytes(&opening).into()),
            None => Reply::Unknown,
        },
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_burst_is_answered_and_then_a_rate() {
        let begin = Instant::now();
        let limiter = Limiter::new(begin);
        assert_eq!((0..200).filter(|_| limiter.take(1, begin)).count(), BURST as usize);
        let second = begin + Duration::from_secs(1);
        assert_eq!((0..200).filter(|_| limiter.take(1, second)).count(), 32);
        // A long silence saves up no more than a burst.
        let day = begin + Duration::from_secs(86_400);
        assert_eq!((0..200).filter(|_| limiter.take(LOAD_COST, day)).count(), 4);
    }

    proptest! {
        #[test]
        fn no_decoder_panics_and_each_has_one_encoding(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            if let Ok(query) = wire::from_bytes::<Query>(&bytes) {
                prop_assert_eq!(wire::to_bytes(&query), bytes.clone());
            }
            if let Ok(reply) = wire::from_bytes::<Reply>(&bytes) {
                prop_assert_eq!(wire::to_bytes(&reply), bytes);
            }
        }
    }

    #[test]
    fn the_longest_of_each_fits() {
        let query = Query::Open(Digest::from_bytes([255; 32]), u32::MAX);
        assert_eq!(wire::from_bytes(&wire::to_bytes(&query)), Ok(query));
        let reply = Reply::Opened(vec![0; CheckpointOpening::MAX_BYTES].into());
        assert_eq!(wire::from_bytes(&wire::to_bytes(&reply)), Ok(reply));
    }
}
