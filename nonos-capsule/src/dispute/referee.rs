//! The re-run that decides a dispute.

use nonos_identity::Verified;

use super::accusation::Accusation;
use super::chain::{ChainCommitment, CommittedChain};
use super::{Claimed, Finding, Party, Slice};
use crate::execution::Invocation;
use crate::policy::MeshPolicy;
use crate::runtime::error::RunError;
use crate::runtime::{Loaded, Rerun, replay_until};

/// Why a referee decides nothing. Never a party's fault.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RefereeError {
    /// The capsule, its policy or the invocation are not those of the disputed run, or this build
    /// meters by another version. The caller's fault.
    #[error("this is not the disputed run")]
    OtherRun,
    /// The capsule may talk to the mesh, so a re-run proves nothing. The caller's fault.
    #[error("a run that may talk to the mesh cannot be decided")]
    Mesh,
    /// The re-run did not come to its end.
    #[error(transparent)]
    Run(#[from] RunError),
}

/// A decided dispute: where the parties part, what a re-run found there, and who is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruling {
    finding: Finding,
    truth: Option<Claimed>,
    wrong: Vec<(Party, Verified<Accusation>)>,
    checkpoints: usize,
    gas_used: u64,
}

impl Ruling {
    /// What the parties signed and opened.
    #[must_use]
    pub const fn finding(&self) -> &Finding {
        &self.finding
    }

    /// What the re-run has where the parties differ; nothing if it ended before, or if they differ
    /// in the way as a whole.
    #[must_use]
    pub const fn truth(&self) -> Option<Claimed> {
        self.truth
    }

    /// What shows to anybody who runs the capsule again that a party is wrong; `None` if the re-run
    /// agrees with it here. It may still be wrong elsewhere.
    #[must_use]
    pub fn accusation(&self, party: Party) -> Option<&Verified<Accusation>> {
        self.wrong.iter().find(|(wrong, _)| *wrong == party).map(|(_, accusation)| accusation)
    }

    /// The accusations of the one party that is wrong, or of both.
    pub fn accusations(&self) -> impl Iterator<Item = &Verified<Accusation>> {
        self.wrong.iter().map(|(_, accusation)| accusation)
    }

    /// Checkpoints that were run again, and their gas: all up to the end of the disputed slice.
    #[must_use]
    pub const fn cost(&self) -> (usize, u64) {
        (self.checkpoints, self.gas_used)
    }
}

/// Runs the capsule again, from the start to the end of the disputed slice and no further, and
/// compares both ends of the slice: one party is wrong, or both are.
///
/// Blocks the calling thread. It consumes no nonce.
///
/// # Errors
/// [`RefereeError`] if there is no decision.
pub fn referee(loaded: &Loaded, invocation: &Invocation, finding: Finding) -> Result<Ruling, RefereeError> {
    check_run(loaded, invocation, finding.chains.first.commitment())?;
    let last = match finding.slice {
        Slice::Until(position) => Some(position),
        Slice::Whole => None,
    };
    let rerun = replay_until(loaded, invocation, last)?;
    let truth = last.and_then(|position| at(&rerun, position));
    let before = last.and_then(|position| at(&rerun, position.saturating_sub(1)));
    // Both claim the same before the slice: what one has wrong there, the other has too.
    let is_before_right = finding.before.map(Claimed::Checkpoint) == before;
    let mut wrong = Vec::new();
    for party in Party::BOTH {
        let chain = finding.chain(party);
        let opening = match finding.slice {
            Slice::Until(_) if !is_before_right => finding.agreed.of(party),
            Slice::Until(_) if finding.claimed(party) != truth => finding.openings.of(party),
            Slice::Whole if commitment(&rerun) != Some(*chain.commitment()) => &None,
            _ => continue,
        };
        wrong.push((party, Accusation::proven(chain.clone(), opening.clone())));
    }
    let (checkpoints, gas_used) = (rerun.checkpoints.len(), rerun.gas_used);
    Ok(Ruling { finding, truth, wrong, checkpoints, gas_used })
}

/// Whether this is the run that a commitment is about.
pub(super) fn check_run(
    loaded: &Loaded,
    invocation: &Invocation,
    commitment: &ChainCommitment,
) -> Result<(), RefereeError> {
    if loaded.policy().mesh != MeshPolicy::default() {
        return Err(RefereeError::Mesh);
    }
    let own = (loaded.capsule_id(), invocation.digest(), loaded.genesis(invocation));
    let theirs = (commitment.capsule_id, commitment.input_digest, commitment.genesis);
    if own == theirs { Ok(()) } else { Err(RefereeError::OtherRun) }
}

/// What a re-run has at a position.
pub(super) fn at(rerun: &Rerun, position: u32) -> Option<Claimed> {
    let position = position as usize;
    match (rerun.checkpoints.get(position), &rerun.execution) {
        (Some(checkpoint), _) => Some(Claimed::Checkpoint(*checkpoint)),
        (None, Some(execution)) if rerun.checkpoints.len() == position => {
            Some(Claimed::Ended(execution.exec_hash))
        }
        _ => None,
    }
}

/// What an honest party would have committed to after a whole run; nothing if nobody could.
pub(super) fn commitment(rerun: &Rerun) -> Option<ChainCommitment> {
    let chain = CommittedChain::of(rerun.execution.as_ref()?).ok()?;
    Some(*chain.commitment())
}
