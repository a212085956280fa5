//! What a node knows from checked records.

use std::collections::{BTreeMap, BTreeSet};

use nonos_capsule::Head;
use nonos_identity::{Digest, NodeId, Timestamp, Verified, WideDigest};
use nonos_ledger::PriceTable;
use nonos_onion::RelayDescriptor;
use nonos_zk::{IdentityRoot, IdentityTree, ReceiptBody};

use crate::operators::TreeEntry;
use crate::records::{Commission, Sealed};

/// A peer as its beacon describes it.
#[derive(Clone, Debug)]
pub(crate) struct PeerEntry {
    /// Relay descriptors of this epoch and the next.
    pub(crate) descriptors: Vec<RelayDescriptor>,
    /// The operator's enrolment, unchecked.
    pub(crate) enrolment: Option<Sealed>,
    /// Whether it takes receipts for broadcast.
    pub(crate) broadcaster: bool,
    /// Whether it carries circuits of others.
    pub(crate) relay: bool,
}

/// A job whose parts all passed their checks.
#[derive(Clone, Debug)]
pub(crate) struct JobEntry {
    pub(crate) publisher: NodeId,
    pub(crate) commission: Commission,
    /// The signed commission, to go with the receipt.
    pub(crate) sealed: Sealed,
    pub(crate) prices: PriceTable,
    /// What the run's clock starts at: the same for whoever runs it again.
    pub(crate) clock: Timestamp,
    pub(crate) expiry: Timestamp,
    pub(crate) tree: IdentityTree,
    /// The nodes whose enrolments are in the tree.
    pub(crate) operators: BTreeSet<NodeId>,
}

/// A receipt that passed every check.
#[derive(Clone, Debug)]
pub(crate) struct ReceiptEntry {
    pub(crate) body: ReceiptBody,
    pub(crate) expiry: Timestamp,
    /// Id of the commission it fulfils.
    pub(crate) commission: Digest,
    pub(crate) publisher: NodeId,
}

/// Everything known, bounded.
#[derive(Debug, Default)]
pub(crate) struct Board {
    pub(crate) heads: BTreeMap<WideDigest, Verified<Head>>,
    pub(crate) jobs: BTreeMap<Digest, JobEntry>,
    /// By the receipt's nullifier.
    pub(crate) receipts: BTreeMap<Digest, ReceiptEntry>,
    /// Verdicts that were counted, by receipt.
    pub(crate) verdicts: BTreeMap<Digest, BTreeSet<NodeId>>,
    /// Verdicts on receipts that are not here yet.
    pub(crate) early_verdicts: BTreeMap<Digest, BTreeSet<NodeId>>,
    /// Commissions that this node ran itself.
    pub(crate) own_runs: BTreeSet<Digest>,
    pub(crate) peers: BTreeMap<NodeId, PeerEntry>,
    /// Published trees of operators, by root.
    pub(crate) trees: BTreeMap<IdentityRoot, TreeEntry>,
}

/// A table is full. Nobody's fault; the item may come again later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full;

impl Board {
    /// Entries of each table: what gossip can make a node remember.
    pub(crate) const ENTRIES_MAX: usize = 16 * 1024;

    /// Verdicts kept per receipt that has not arrived.
    const EARLY_VERDICTS_MAX: usize = 256;

    pub(crate) fn put_head(&mut self, head: Verified<Head>) -> Result<bool, Full> {
        insert(&mut self.heads, *head.id().as_digest(), head)
    }

    pub(crate) fn put_job(&mut self, id: Digest, job: JobEntry) -> Result<bool, Full> {
        insert(&mut self.jobs, id, job)
    }

    pub(crate) fn put_receipt(&mut self, id: Digest, receipt: ReceiptEntry) -> Result<bool, Full> {
        insert(&mut self.receipts, id, receipt)
    }

    /// Keeps of two that publish one tree the one that holds longer.
    pub(crate) fn put_tree(&mut self, root: IdentityRoot, tree: TreeEntry) -> Result<bool, Full> {
        if self.trees.get(&root).is_some_and(|held| held.expiry < tree.expiry) {
            self.trees.remove(&root);
        }
        insert(&mut self.trees, root, tree)
    }

    pub(crate) fn put_early_verdict(&mut self, receipt: Digest, verifier: NodeId) {
        if self.early_verdicts.len() < Self::ENTRIES_MAX {
            let verifiers = self.early_verdicts.entry(receipt).or_default();
            if verifiers.len() < Self::EARLY_VERDICTS_MAX {
                verifiers.insert(verifier);
            }
        }
    }

    /// Drops what no longer counts.
    pub(crate) fn prune(&mut self, now: Timestamp) {
        self.jobs.retain(|_, job| job.expiry > now);
        self.receipts.retain(|_, receipt| receipt.expiry > now);
        self.trees.retain(|_, tree| tree.expiry > now);
        let (jobs, receipts) = (&self.jobs, &self.receipts);
        self.own_runs.retain(|run| jobs.contains_key(run));
        self.verdicts.retain(|receipt, _| receipts.contains_key(receipt));
        // A verdict whose receipt did not come in a whole epoch says nothing here.
        self.early_verdicts.clear();
        if self.heads.len() > Self::ENTRIES_MAX / 2 {
            self.heads.retain(|id, _| {
                jobs.values().any(|job| job.commission.capsule == *id)
                    || receipts.values().any(|receipt| receipt.body.statement.capsule_id == *id)
            });
        }
    }

    /// Relay descriptors that are live now, own ones left out.
    pub(crate) fn relays(&self, now: Timestamp) -> Vec<RelayDescriptor> {
        let all = self.peers.values().filter(|peer| peer.relay).flat_map(|peer| &peer.descriptors);
        all.filter(|descriptor| descriptor.is_live(now)).cloned().collect()
    }

    /// The live descriptor of one node.
    pub(crate) fn descriptor(&self, node: &NodeId, now: Timestamp) -> Option<RelayDescriptor> {
        let peer = self.peers.get(node)?;
        peer.descriptors.iter().find(|descriptor| descriptor.is_live(now)).cloned()
    }

    /// Enrolments of the known operators.
    pub(crate) fn enrolments(&self) -> Vec<(NodeId, Sealed)> {
        let known = |(node, peer): (&NodeId, &PeerEntry)| Some((*node, peer.enrolment.clone()?));
        self.peers.iter().filter_map(known).collect()
    }
}

fn insert<K: Ord, V>(table: &mut BTreeMap<K, V>, key: K, value: V) -> Result<bool, Full> {
    if table.contains_key(&key) {
        return Ok(false);
    }
    if table.len() >= Board::ENTRIES_MAX {
        return Err(Full);
    }
    table.insert(key, value);
    Ok(true)
}
