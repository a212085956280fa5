use nonos_identity::{NodeId, Timestamp};

use crate::item::ItemKind;

/// What a check says about an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// Valid: store it and pass it on.
    Accept,
    /// Provably wrong; names the check that failed. The neighbour who sent it is penalised,
    /// because an honest one checks before it forwards.
    Reject(&'static str),
    /// Valid or not, it is of no interest here; nobody is at fault and it is not asked for again
    /// for a while.
    Ignore,
    /// Cannot be judged now (a dependency is missing, the verifier is full); it is forgotten and
    /// may come again by anti-entropy.
    Defer,
}

/// Judges the bytes of an item before anything is stored or forwarded.
///
/// Contract: the answer depends on the bytes, the time and local policy only, never on who sent
/// them (`from` is for logs and quotas); `Reject` is for faults that every honest node would see.
/// Calls come from several threads at once and may block for the cost of a proof.
pub trait Check: Send + Sync {
    /// Judges one item; `from` is the neighbour, or this node for its own items.
    fn check(&self, kind: ItemKind, bytes: &[u8], from: NodeId, now: Timestamp) -> Verdict;
}
