use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use nonos_identity::{Digest, NodeId, WideDigest};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

/// Something that happened at a node and that an operator may want to know.
///
/// Events carry names of peers, so they stay on the control socket; logs at `info` do not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Event {
    /// A neighbour's hello was accepted.
    LinkUp {
        /// The neighbour.
        node: NodeId,
    },
    /// A link closed.
    LinkDown {
        /// The former neighbour.
        node: NodeId,
    },
    /// A capsule's signed head was accepted.
    CapsuleSeen {
        /// The capsule.
        capsule: WideDigest,
        /// Who gossiped a job or head for it first.
        name: String,
    },
    /// A job was accepted.
    JobSeen {
        /// The job.
        job: Digest,
        /// The capsule it asks to run.
        capsule: WideDigest,
        /// Who asks and pays.
        publisher: NodeId,
    },
    /// A tree of operators that somebody vouches for was accepted.
    OperatorsSeen {
        /// Its root, in hexadecimal.
        root: String,
        /// Operators in it.
        members: usize,
        /// Who vouches for it.
        publisher: NodeId,
    },
    /// A circuit stands.
    CircuitBuilt(Circuit),
    /// An onion service of this node can be visited.
    ServicePublished {
        /// Its name in the settings.
        name: String,
        /// Its address.
        address: String,
    },
    /// New circuits take another number of relays, within the node's settings.
    HopsChanged {
        /// How many.
        relays: usize,
    },
    /// A circuit was lost and another one stands in its place.
    CircuitRebuilt {
        /// The relay that failed, where the circuit could name it.
        blamed: Option<NodeId>,
        /// The new circuit.
        circuit: Circuit,
    },
    /// A chunk passed its check and was kept.
    ChunkFetched {
        /// The capsule.
        capsule: WideDigest,
        /// Chunks held now.
        held: u32,
        /// Chunks in all.
        total: u32,
    },
    /// A capsule ran to its end.
    Executed {
        /// The job.
        job: Digest,
        /// The hash that binds the whole run.
        exec_hash: WideDigest,
        /// How it ended.
        status: String,
        /// Gas used.
        gas: u64,
        /// Checkpoints in the chain.
        checkpoints: u32,
        /// Standard output, as text where it is text.
        output: String,
        /// Wall time in milliseconds.
        elapsed_ms: u64,
    },
    /// A proof was made.
    Proved {
        /// The job.
        job: Digest,
        /// Bytes of the proof.
        proof_bytes: usize,
        /// Profile of the circuit.
        profile: String,
        /// Id of the receipt.
        nullifier: Digest,
        /// Wall time in milliseconds.
        elapsed_ms: u64,
    },
    /// A receipt that came through a circuit was offered to gossip here.
    Broadcast,
    /// A receipt passed every check.
    ReceiptVerified {
        /// Id of the receipt.
        nullifier: Digest,
        /// The job it fulfils.
        job: Digest,
        /// Wall time of the check in milliseconds.
        elapsed_ms: u64,
    },
    /// A peer's verdict on a receipt was accepted.
    VerdictSeen {
        /// Id of the receipt.
        nullifier: Digest,
        /// Who vouches for it.
        verifier: NodeId,
    },
    /// Something did not pass a check and was refused.
    Refused {
        /// What it was.
        what: String,
        /// The check that caught it.
        check: String,
        /// Who sent it.
        from: NodeId,
    },
    /// A re-run convicted a peer of a false claim about a run.
    Convicted {
        /// The peer.
        node: NodeId,
    },
    /// A transfer was posted.
    Posted {
        /// What it pays for.
        code: String,
        /// Nano-mod.
        amount: u64,
    },
    /// A relay proved what it carried of one circuit, and was paid for it.
    TransitPaid {
        /// The relay.
        relay: NodeId,
        /// Batches of 256 KiB.
        batches: u16,
        /// Nano-mod.
        amount: u64,
        /// Id of the relay's signed receipt.
        receipt: Digest,
    },
    /// Work could not go on.
    Failed {
        /// What was being done.
        what: String,
        /// Why it failed and whose fault it is.
        reason: String,
    },
}

/// A circuit as its owner sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Circuit {
    /// What it is for.
    pub purpose: String,
    /// Relays, from the guard on.
    pub relays: Vec<NodeId>,
    /// The node at its end.
    pub destination: NodeId,
}

/// An event and its number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Position in the log, from zero.
    pub seq: u64,
    /// Time since the node started.
    pub at_ms: u64,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// The last events of a node, in order.
#[derive(Debug, Default)]
pub struct EventLog {
    entries: Mutex<(u64, VecDeque<Entry>)>,
    changed: Notify,
}

impl EventLog {
    /// Entries kept; older ones are dropped, so that a node that nobody watches does not grow.
    pub const CAPACITY: usize = 16 * 1024;

    /// Appends an event that happened `at` after the start.
    pub fn push(&self, at: Duration, event: Event) {
        let mut guard = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let (next, entries) = &mut *guard;
        if entries.len() == Self::CAPACITY {
            entries.pop_front();
        }
        let at_ms = u64::try_from(at.as_millis()).unwrap_or(u64::MAX);
        entries.push_back(Entry { seq: *next, at_ms, event });
        *next += 1;
        drop(guard);
        self.changed.notify_waiters();
    }

    /// The entries from number `since` on that are still kept.
    #[must_use]
    pub fn since(&self, since: u64) -> Vec<Entry> {
        let guard = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        guard.1.iter().filter(|entry| entry.seq >= since).cloned().collect()
    }

    /// Waits until there is an entry numbered `since` or later, at most `patience`.
    pub async fn wait(&self, since: u64, patience: Duration) -> Vec<Entry> {
        let deadline = tokio::time::sleep(patience);
        tokio::pin!(deadline);
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let entries = self.since(since);
            if !entries.is_empty() {
                return entries;
            }
            tokio::select! {
                () = changed => {}
                () = &mut deadline => return Vec::new(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_is_bounded_and_numbered() {
        let log = EventLog::default();
        let node = NodeId::from_bytes([7; 32]);
        for _ in 0..EventLog::CAPACITY + 3 {
            log.push(Duration::ZERO, Event::LinkUp { node });
        }
        let kept = log.since(0);
        assert_eq!(kept.len(), EventLog::CAPACITY);
        assert_eq!(kept.first().map(|entry| entry.seq), Some(3));
        assert!(log.since(u64::MAX).is_empty());
    }
}
