//! The local control interface: one JSON request per line, one JSON response per line.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use nonos_identity::{Digest, NodeId, WideDigest};
use serde::{Deserialize, Serialize};

use crate::event::Entry;

/// What one may ask a running node.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Request {
    /// The node's state in short.
    Status,
    /// A ticket that lets another node join.
    Ticket,
    /// Joins by another node's ticket.
    Join {
        /// The ticket's text.
        ticket: String,
    },
    /// The node's onion services, and the key by which a service may authorise it.
    Services {
        /// A service that this node wants to visit.
        of: Option<String>,
    },
    /// Opens a stream to a service and drops it.
    Reach {
        /// `ADDRESS:PORT`.
        target: String,
    },
    /// Forwards a local TCP port to a port of a service, until the node stops.
    Forward {
        /// `ADDRESS:PORT`.
        target: String,
        /// Where to listen: a loopback address.
        listen: SocketAddr,
    },
    /// Publishes a capsule and a job for it.
    Publish {
        /// A signed `.mod` file.
        capsule: PathBuf,
        /// The input file.
        input: PathBuf,
    },
    /// Fetches a capsule and keeps it, as a second seeder would.
    Fetch {
        /// The capsule.
        capsule: WideDigest,
    },
    /// Asks a node to show hidden fields of a capsule, over a circuit.
    Fields {
        /// The capsule.
        capsule: WideDigest,
        /// Places of the fields; if none, all that somebody but the author may see.
        #[serde(default)]
        fields: Vec<u8>,
        /// Whom to ask; the capsule's publisher if not said.
        #[serde(default)]
        from: Option<NodeId>,
    },
    /// Asks a node for the disclosure of a receipt, over a circuit.
    Disclosure {
        /// Id of the receipt.
        receipt: Digest,
        /// Whom to ask; the payer if not said.
        #[serde(default)]
        from: Option<NodeId>,
    },
    /// Events from a number on; waits up to `wait_ms` for the first.
    Events {
        /// First number asked for.
        since: u64,
        /// Longest wait in milliseconds.
        wait_ms: u64,
    },
    /// Trust and ledger views.
    Books,
    /// The published trees of operators.
    Operators,
    /// Publishes the tree of the operators that the node knows now.
    PublishOperators,
    /// Settles what two nodes say about one run.
    Dispute {
        /// The job, or a receipt of it.
        job: Digest,
        /// A party.
        first: NodeId,
        /// The other one; this node and its own run if nobody is named.
        second: Option<NodeId>,
    },
    /// Makes a run again to judge a charge that another node wrote.
    Judge {
        /// The file.
        charge: PathBuf,
    },
    /// Stops the node.
    Stop,
}

/// What the node answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "response", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Response {
    /// To [`Request::Status`].
    Status(Status),
    /// To [`Request::Ticket`].
    Ticket {
        /// The ticket's text.
        ticket: String,
    },
    /// To [`Request::Services`].
    Services {
        /// Those of the settings.
        services: Vec<ServiceView>,
        /// The X25519 key of this node for the service asked for, in hexadecimal.
        client_key: Option<String>,
    },
    /// To [`Request::Reach`].
    Reached {
        /// How long it took.
        elapsed_ms: u64,
    },
    /// To [`Request::Forward`].
    Listening {
        /// Where.
        listen: SocketAddr,
    },
    /// To [`Request::Publish`].
    Published {
        /// The capsule.
        capsule: WideDigest,
        /// The job.
        job: Digest,
    },
    /// To [`Request::Fields`].
    Fields {
        /// The capsule.
        capsule: WideDigest,
        /// Who was asked.
        from: NodeId,
        /// In the order asked for.
        fields: Vec<FieldView>,
    },
    /// To [`Request::Disclosure`].
    Disclosure {
        /// Who was asked.
        from: NodeId,
        /// The disclosure, in hexadecimal; its receipt is checked, its seal is not opened.
        disclosure: String,
    },
    /// To [`Request::Events`].
    Events {
        /// In order; empty if nothing happened in time.
        entries: Vec<Entry>,
    },
    /// To [`Request::Books`].
    Books(Books),
    /// To [`Request::Operators`], and to [`Request::PublishOperators`] with the one published.
    Operators {
        /// By ascending root.
        trees: Vec<OperatorTreeView>,
    },
    /// To [`Request::Dispute`].
    Dispute(DisputeReport),
    /// To [`Request::Judge`]: the charge is true, and the node's trust in the culprit is gone.
    Convicted {
        /// The culprit.
        node: NodeId,
        /// The false checkpoint; nothing if the chain as a whole is false.
        position: Option<u32>,
        /// Whether this node learned it only now.
        is_new: bool,
        /// Wall time of fetching and running, in milliseconds.
        rerun_ms: u64,
    },
    /// Done, nothing to tell.
    Done,
    /// The request failed.
    Error {
        /// What went wrong and what to do.
        message: String,
    },
}

/// A node's state in short.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// The node.
    pub node: NodeId,
    /// The mesh it belongs to.
    pub network: String,
    /// Its own onion address.
    pub onion_address: String,
    /// Addresses it listens on.
    pub listen: Vec<String>,
    /// Neighbours.
    pub links: Vec<NodeId>,
    /// Nodes whose beacons are known and fresh.
    pub peers: Vec<NodeId>,
    /// Peers that can relay in this epoch.
    pub relays: usize,
    /// Guards drawn: the relays at which the node's circuits begin.
    pub guards: usize,
    /// How many of them are neighbours.
    pub guards_linked: usize,
    /// Relays of a circuit.
    pub hops: usize,
    /// Operators enrolled for proofs, this node included.
    pub enrolled: usize,
    /// What the number of operators says of anonymity.
    pub anonymity: String,
    /// State digests by collection, in hexadecimal.
    pub digests: BTreeMap<String, String>,
    /// Proofs of transit, if the node ever demanded or made any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transit: Option<TransitView>,
}

/// What a node proves as a relay, and what it pays for as a client. Batches are of 256 KiB on one link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransitView {
    /// Batches that each relay of an own circuit can prove; 0 if no proof is demanded.
    pub demanded_batches: u16,
    /// Whether the node proves to others what it carries.
    pub proves: bool,
    /// Batches it has proven, of the last hour.
    pub proven_batches: u64,
    /// Relays of own circuits that have not settled.
    pub debts: u64,
    /// Batches that relays proved and were paid for, since the start.
    pub paid_batches: u64,
    /// Proofs that did not hold, since the start.
    pub refused: u64,
    /// Debts whose relay proved nothing for an hour, since the start.
    pub lapsed: u64,
}

/// An onion service of the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceView {
    /// Its name in the settings.
    pub name: String,
    /// Its address.
    pub address: String,
    /// How often it was published since the start; it can be visited if that is not 0.
    pub publications: u64,
    /// Its introduction points now.
    pub points: usize,
}

/// A published tree of operators.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorTreeView {
    /// Its root, in hexadecimal.
    pub root: String,
    /// Who vouches for it.
    pub publisher: NodeId,
    /// Operators in it.
    pub members: usize,
    /// Whether the node's settings let it go by this tree.
    pub accepted: bool,
    /// Whom a proof of membership hides.
    pub hides: String,
}

/// A hidden field as a node learnt it from another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
#[non_exhaustive]
pub enum FieldView {
    /// The signed manifest commits to it.
    Opened {
        /// Its place.
        field: u8,
        /// Its name.
        name: String,
        /// Its value.
        value: String,
        /// The opening as a file, in hexadecimal.
        opening: String,
    },
    /// Sealed to others than this node.
    Sealed {
        /// Its place.
        field: u8,
        /// The opening as a file, in hexadecimal, for whom it is sealed to.
        opening: String,
    },
    /// Not shown: not kept there, or not for anybody, or not yet.
    Withheld {
        /// Its place.
        field: u8,
    },
}

/// Trust and ledger views of one node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Books {
    /// The node's score of each peer, in thousandths.
    pub trust: BTreeMap<NodeId, PeerTrust>,
    /// Balance of each account of the node's journal, in nano-mod.
    pub balances: BTreeMap<String, i64>,
    /// The node's own balance: what it is owed less what it owes.
    pub position: i64,
    /// Transfers in the journal.
    pub transfers: u64,
    /// Whether the journal's hash chain holds and yields these balances.
    pub chain_ok: bool,
}

/// One peer as the node sees it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PeerTrust {
    /// Score in thousandths.
    pub permille: u32,
    /// Good, Probation, Suspended or Blacklisted.
    pub state: String,
    /// What the score is made of.
    pub explain: Vec<String>,
}

/// How a dispute went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DisputeReport {
    /// The job.
    pub job: Digest,
    /// Its capsule.
    pub capsule: WideDigest,
    /// The two parties.
    pub parties: Vec<DisputeParty>,
    /// The bisection.
    pub rounds: Vec<DisputeRound>,
    /// Its end.
    pub outcome: DisputeOutcome,
    /// Checkpoints that the referee ran again, from the start to the end of the disputed slice.
    pub rerun_checkpoints: usize,
    /// Gas of that.
    pub rerun_gas: u64,
    /// Wall time of preparing and bisecting, in milliseconds.
    pub bisect_ms: u64,
    /// Wall time of the re-run, in milliseconds.
    pub rerun_ms: u64,
}

/// A party, and what it committed to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DisputeParty {
    /// Who.
    pub node: NodeId,
    /// Checkpoints, genesis included.
    pub checkpoints: u32,
    /// The hash of its whole run.
    pub exec_hash: WideDigest,
}

/// One comparison.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DisputeRound {
    /// The checkpoint both opened.
    pub position: u32,
    /// The first party's, in hexadecimal, or how its run ended.
    pub first: String,
    /// The second party's.
    pub second: String,
    /// Whether they are the same.
    pub agree: bool,
}

/// Who is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
#[non_exhaustive]
pub enum DisputeOutcome {
    /// Nobody: the chains are the same.
    Agreed,
    /// Who refused or opened wrongly. It convinces this node alone.
    Forfeited {
        /// They lost.
        lost: Vec<Lost>,
    },
    /// Whom a re-run found wrong. It convinces everybody who makes the run again.
    Judged {
        /// The first checkpoint that differs; nothing if only the way as a whole does.
        position: Option<u32>,
        /// What the re-run has there, in hexadecimal; nothing if it ended before.
        truth: Option<String>,
        /// One of the parties, or both.
        lost: Vec<Lost>,
    },
}

/// A party that lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// Who.
    pub node: NodeId,
    /// Why.
    pub reason: String,
    /// The file that convinces others, if anything does.
    pub charge: Option<PathBuf>,
}

/// Name of the control socket in a data directory.
pub const SOCKET: &str = "control.sock";

/// Longest request or response line, in bytes: what a local client can make the node hold.
pub const LINE_BYTES_MAX: usize = 16 * 1024 * 1024;
