//! Disputes about a run: two nodes that got different results find the first checkpoint at which
//! they differ, and a re-run says who is wrong.
//!
//! ```text
//! commit    each party signs a Merkle root over its checkpoints, their count and its exec_hash
//! bisect    both open the checkpoint in the middle: equal, and the difference is later; not, and
//!           it is there or earlier. At most ceil(log2 N) rounds for N checkpoints of the longer chain
//! referee   runs the capsule again from its start and stops at the end of the disputed slice
//! ```
//! An engine cannot resume in the middle of a stack, so a referee pays for all that comes before
//! the disputed slice too, and saves only what comes after it. Bisection is what makes the fault
//! small enough to hand on: one signed commitment and one opening.
//!
//! What the referee needs is the capsule and the invocation. A run that talks to the mesh is not
//! determined by them, and is refused when it is committed to.

use nonos_identity::wire;
use nonos_identity::{NodeId, Unverified, Verified, WideDigest};

mod accusation;
mod chain;
mod referee;

pub use self::accusation::{Accusation, AccusationError, JudgeError};
pub use self::chain::{
    ChainCommitment, ChainError, CheckpointOpening, CheckpointOpeningError, CommitError, CommittedChain,
    SignedChain,
};
pub use self::referee::{RefereeError, Ruling, referee};

/// One of the two parties of a dispute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Party {
    /// The one that was named first.
    First,
    /// The other one.
    Second,
}

impl Party {
    /// Both, in their order.
    pub const BOTH: [Self; 2] = [Self::First, Self::Second];
}

/// A value for each party.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pair<T> {
    /// The first party's.
    pub first: T,
    /// The second party's.
    pub second: T,
}

impl<T> Pair<T> {
    /// The value of one party.
    pub const fn of(&self, party: Party) -> &T {
        match party {
            Party::First => &self.first,
            Party::Second => &self.second,
        }
    }

    const fn of_mut(&mut self, party: Party) -> &mut T {
        match party {
            Party::First => &mut self.first,
            Party::Second => &mut self.second,
        }
    }
}

/// What a chain holds at a position: a checkpoint, or at the position after the last one the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claimed {
    /// A checkpoint.
    Checkpoint(WideDigest),
    /// The run has ended with this `exec_hash`.
    Ended(WideDigest),
}

/// Two parties cannot dispute, or not now. The caller's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DisputeError {
    /// Their commitments are about different runs.
    #[error("the two commitments are about different runs")]
    OtherRun,
    /// Both commitments are one node's.
    #[error("a node has no dispute with itself")]
    SameNode,
    /// The party owes nothing now: it has answered, or the dispute is over.
    #[error("the party owes no checkpoint now")]
    NotAsked,
}

/// A checkpoint that a party owes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Who owes it.
    pub party: Party,
    /// Its position.
    pub position: u32,
}

/// One step of the bisection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Round {
    /// Where the chains were compared.
    pub position: u32,
    /// What each party claims there.
    pub claimed: Pair<Claimed>,
}

impl Round {
    /// Whether the parties agree there.
    #[must_use]
    pub fn agrees(&self) -> bool {
        self.claimed.first == self.claimed.second
    }
}

/// How a party lost without a re-run. It convinces who asked and nobody else: that an answer did
/// not come, or came wrong, is in no signed record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Forfeit {
    /// It did not open the checkpoint.
    #[error("refused to open checkpoint {0}")]
    Refused(u32),
    /// What it answered opens nothing.
    #[error("opened checkpoint {position} wrongly: {error}")]
    Opening {
        /// What it was asked for.
        position: u32,
        /// What is wrong with the answer.
        error: CheckpointOpeningError,
    },
}

/// How a bisection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// The chains and results are the same: there is nothing to dispute.
    Agreed,
    /// Who forfeited; `None` for a party that answered.
    Forfeited(Pair<Option<Forfeit>>),
    /// Where they differ.
    Found(Box<Finding>),
}

/// Where two committed chains part, with what each party signed and opened there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    chains: Pair<Verified<SignedChain>>,
    /// What each opened where they differ.
    openings: Pair<Option<Verified<CheckpointOpening>>>,
    /// What each opened just before, and what both say there.
    agreed: Pair<Option<Verified<CheckpointOpening>>>,
    before: Option<WideDigest>,
    slice: Slice,
    rounds: usize,
}

/// What a referee has to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slice {
    /// The parties agree on the checkpoint before this position and differ at it, which may be one
    /// past the last checkpoint: then they differ in how the run ended.
    Until(u32),
    /// The results are the same and the ways to it are not: only a whole run tells.
    Whole,
}

impl Finding {
    /// Where the parties differ.
    #[must_use]
    pub const fn slice(&self) -> Slice {
        self.slice
    }

    /// Rounds it took.
    #[must_use]
    pub const fn rounds(&self) -> usize {
        self.rounds
    }

    /// What a party signed.
    #[must_use]
    pub const fn chain(&self, party: Party) -> &Verified<SignedChain> {
        self.chains.of(party)
    }

    /// What a party claims where they differ; nothing if they differ in the way as a whole.
    #[must_use]
    pub fn claimed(&self, party: Party) -> Option<Claimed> {
        let Slice::Until(position) = self.slice else { return None };
        match self.openings.of(party) {
            Some(opening) => Some(Claimed::Checkpoint(opening.checkpoint)),
            None => end_at(self.chain(party).commitment(), position),
        }
    }
}

/// What a commitment says without an opening: how the run ended, after the last checkpoint.
fn end_at(commitment: &ChainCommitment, position: u32) -> Option<Claimed> {
    (position == commitment.count).then_some(Claimed::Ended(commitment.exec_hash))
}

type Answer = Result<Verified<CheckpointOpening>, Forfeit>;

/// The bisection between two parties: it says which checkpoint it wants opened and takes what
/// comes. It knows no time: whoever drives it decides when silence is a refusal.
#[derive(Clone, Debug)]
pub struct Dispute {
    chains: Pair<Verified<SignedChain>>,
    /// The last position at which they are known to agree, and what is there.
    agreed: (u32, WideDigest),
    /// The first position at which they are known to differ, or one that cannot be reached.
    differs: u32,
    /// What was opened at these two.
    openings_agreed: Pair<Option<Verified<CheckpointOpening>>>,
    openings: Pair<Option<Verified<CheckpointOpening>>>,
    answers: Pair<Option<Answer>>,
    rounds: Vec<Round>,
    outcome: Option<Outcome>,
}

impl Dispute {
    /// Sets two commitments against each other.
    ///
    /// # Errors
    /// [`DisputeError`] if they are one node's, or not about one run.
    pub fn new(first: Verified<SignedChain>, second: Verified<SignedChain>) -> Result<Self, DisputeError> {
        if first.node() == second.node() {
            return Err(DisputeError::SameNode);
        }
        let (a, b) = (*first.commitment(), *second.commitment());
        let run = |it: &ChainCommitment| (it.capsule_id, it.input_digest, it.genesis);
        if run(&a) != run(&b) {
            return Err(DisputeError::OtherRun);
        }
        let mut dispute = Self {
            chains: Pair { first, second },
            agreed: (0, a.genesis),
            differs: a.count,
            openings_agreed: Pair::default(),
            openings: Pair::default(),
            answers: Pair::default(),
            rounds: Vec::new(),
            outcome: None,
        };
        if a.count != b.count {
            // Where the shorter one ended the longer one has a checkpoint, so they differ there at
            // the latest; starting one later has that checkpoint opened before anything is found.
            dispute.differs = a.count.min(b.count).saturating_add(1);
        } else if a.exec_hash == b.exec_hash {
            let is_same = a.root == b.root;
            let found = |dispute: &Self| Outcome::Found(Box::new(dispute.finding(Slice::Whole)));
            dispute.outcome = Some(if is_same { Outcome::Agreed } else { found(&dispute) });
        }
        dispute.settle();
        Ok(dispute)
    }

    /// The checkpoints that are owed now: of each party at most one, all of one position. None if
    /// there is an outcome.
    pub fn asks(&self) -> impl Iterator<Item = Ask> {
        let position = self.middle();
        let owes = move |party: &Party| {
            self.outcome.is_none()
                && self.answers.of(*party).is_none()
                && position < self.chains.of(*party).commitment().count
        };
        Party::BOTH.into_iter().filter(owes).map(move |party| Ask { party, position })
    }

    /// Takes the bytes of a [`CheckpointOpening`] from a party that owes one. A wrong answer is no
    /// error: the party has lost.
    ///
    /// # Errors
    /// [`DisputeError::NotAsked`] if the party owes none.
    pub fn answer(&mut self, party: Party, bytes: &[u8]) -> Result<(), DisputeError> {
        let position = self.asked(party)?;
        let opened = self.opened(party, position, bytes);
        self.take(party, opened.map_err(|error| Forfeit::Opening { position, error }));
        Ok(())
    }

    /// The party that owes a checkpoint does not open it, and has lost.
    ///
    /// # Errors
    /// [`DisputeError::NotAsked`] if the party owes none.
    pub fn refuse(&mut self, party: Party) -> Result<(), DisputeError> {
        let position = self.asked(party)?;
        self.take(party, Err(Forfeit::Refused(position)));
        Ok(())
    }

    /// The rounds so far; at most `ceil(log2 N)` for the `N` checkpoints of the longer chain.
    #[must_use]
    pub fn rounds(&self) -> &[Round] {
        &self.rounds
    }

    /// How it ended; `None` while something is owed.
    #[must_use]
    pub const fn outcome(&self) -> Option<&Outcome> {
        self.outcome.as_ref()
    }

    /// The node of a party.
    #[must_use]
    pub fn node(&self, party: Party) -> NodeId {
        self.chains.of(party).node()
    }

    fn asked(&self, party: Party) -> Result<u32, DisputeError> {
        let ask = self.asks().find(|ask| ask.party == party);
        ask.map(|ask| ask.position).ok_or(DisputeError::NotAsked)
    }

    fn opened(
        &self,
        party: Party,
        position: u32,
        bytes: &[u8],
    ) -> Result<Verified<CheckpointOpening>, CheckpointOpeningError> {
        let opening: CheckpointOpening = wire::from_bytes(bytes)?;
        if opening.position != position {
            return Err(CheckpointOpeningError::Position { expected: position, found: opening.position });
        }
        self.chains.of(party).commitment().check(Unverified::new(opening))
    }

    fn take(&mut self, party: Party, answer: Answer) {
        *self.answers.of_mut(party) = Some(answer);
        if self.asks().next().is_none() {
            self.end_round();
        }
    }

    fn end_round(&mut self) {
        let position = self.middle();
        let Pair { first, second } = core::mem::take(&mut self.answers);
        let (first, second) = match (first.transpose(), second.transpose()) {
            (Ok(first), Ok(second)) => (first, second),
            (first, second) => {
                let forfeits = Pair { first: first.err(), second: second.err() };
                self.outcome = Some(Outcome::Forfeited(forfeits));
                return;
            }
        };
        let openings = Pair { first, second };
        let claimed = |party| match openings.of(party) {
            Some(opening) => Claimed::Checkpoint(opening.checkpoint),
            // Who is not asked at a position has ended there.
            None => Claimed::Ended(self.chains.of(party).commitment().exec_hash),
        };
        let claimed = Pair { first: claimed(Party::First), second: claimed(Party::Second) };
        self.rounds.push(Round { position, claimed });
        match claimed.first {
            Claimed::Checkpoint(checkpoint) if claimed.first == claimed.second => {
                (self.agreed, self.openings_agreed) = ((position, checkpoint), openings);
            }
            _ => (self.differs, self.openings) = (position, openings),
        }
        self.settle();
    }

    /// Ends the bisection where nothing is left between agreement and difference.
    fn settle(&mut self) {
        if self.outcome.is_none() && self.differs - self.agreed.0 <= 1 {
            let slice = Slice::Until(self.differs);
            self.outcome = Some(Outcome::Found(Box::new(self.finding(slice))));
        }
    }

    fn finding(&self, slice: Slice) -> Finding {
        Finding {
            chains: self.chains.clone(),
            openings: self.openings.clone(),
            agreed: self.openings_agreed.clone(),
            before: matches!(slice, Slice::Until(_)).then_some(self.agreed.1),
            slice,
            rounds: self.rounds.len(),
        }
    }

    const fn middle(&self) -> u32 {
        self.agreed.0 + (self.differs - self.agreed.0) / 2
    }
}

#[cfg(test)]
mod tests;
