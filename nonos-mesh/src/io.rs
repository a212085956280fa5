//! What goes into the core and what comes out of it.

use core::fmt;
use core::time::Duration;
use std::sync::Arc;

use nonos_identity::{Certificate, NodeId, SigningKey, Timestamp, Verified};

use crate::beacon::{Beacon, BeaconBody};
use crate::check::Verdict;
use crate::contact::{Contact, TransportId};
use crate::hello::HelloError;
use crate::item::{Collection, Item, ItemId, ItemKind};

/// The two clocks, both arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Time since an arbitrary start, never backwards: drives every timer.
    pub mono: Duration,
    /// The wall clock: only for validity of signed records.
    pub wall: Timestamp,
}

/// One connection to a neighbour, numbered by the driver; numbers are never reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

impl fmt::Debug for LinkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LinkId({})", self.0)
    }
}

/// What the driver tells the core.
#[derive(Debug)]
#[non_exhaustive]
pub enum Input {
    /// The deadline passed.
    Tick,
    /// A connection was made. The transport has proved `remote`.
    LinkUp {
        /// Its number.
        link: LinkId,
        /// The peer's transport id.
        remote: TransportId,
        /// Whether this side dialled.
        outbound: bool,
    },
    /// A connection is gone. Also the answer to [`Output::Close`].
    LinkDown {
        /// Its number.
        link: LinkId,
    },
    /// A whole frame arrived.
    Frame {
        /// On which link.
        link: LinkId,
        /// Its body, without the length.
        bytes: Vec<u8>,
    },
    /// Bytes of frames handed out by [`Output::Send`] left for the network: the core sends more.
    Sent {
        /// On which link.
        link: LinkId,
        /// Bytes of the frames' bodies.
        bytes: usize,
    },
    /// Dialling a contact failed, or the contact cannot be dialled by this driver.
    DialFailed {
        /// Whom it was to reach.
        transport: TransportId,
    },
    /// The answer to [`Output::Check`].
    Checked {
        /// Its ticket.
        ticket: u64,
        /// What the check said.
        verdict: Verdict,
    },
    /// The answer to [`Output::Load`].
    Loaded {
        /// Its request number.
        request: u64,
        /// The item, `None` if the store no longer has it.
        item: Option<Item>,
    },
    /// An [`Output::Store`] failed: the item does not count as held.
    StoreFailed {
        /// Which item.
        id: ItemId,
    },
    /// Items held since before the start.
    Held {
        /// Their collection.
        collection: Collection,
        /// Their ids.
        ids: Vec<ItemId>,
    },
    /// What the application wants.
    Command(Command),
}

/// What the application asks for.
#[derive(Debug)]
#[non_exhaustive]
pub enum Command {
    /// Checks an own item like any other, then stores and spreads it.
    Publish(Item),
    /// Sets what the node's beacons say; without one it sends none.
    SetBeacon(BeaconBody),
    /// Sets where this node can be dialled; told to neighbours.
    SetAddresses(Vec<String>),
    /// Remembers a contact and dials it now.
    Dial(Contact),
    /// Remembers contacts, from a file or a ticket; they are dialled while links are missing.
    Learn(Vec<Contact>),
    /// Removes an item and does not take it again: it expired or was superseded.
    Forget(ItemId),
    /// Closes the links to a node and refuses new ones for the ban time.
    Ban(NodeId),
    /// Replaces the signing key and its certificate.
    Rotate {
        /// The new key.
        signer: SigningKey,
        /// The root's certificate for it.
        certificate: Box<Certificate>,
    },
}

/// What the core asks of the driver. Drain all of it after each [`Input`].
#[derive(Debug)]
#[non_exhaustive]
pub enum Output {
    /// Sends a frame; answer [`Input::Sent`] when it left.
    Send {
        /// On which link.
        link: LinkId,
        /// The frame's body, without a length.
        frame: Arc<[u8]>,
    },
    /// Closes a link; answer [`Input::LinkDown`].
    Close {
        /// Which.
        link: LinkId,
        /// Why.
        reason: CloseReason,
    },
    /// Dials a contact; answer [`Input::LinkUp`] or [`Input::DialFailed`].
    Dial(Contact),
    /// Judges an item; answer [`Input::Checked`]. Dear checks (`cost`) may run after cheap ones.
    Check {
        /// To be repeated in the answer.
        ticket: u64,
        /// What it claims to be.
        kind: ItemKind,
        /// Its bytes.
        bytes: Arc<[u8]>,
        /// The neighbour it came from, or this node.
        from: NodeId,
        /// The link it came by, `None` for own items.
        link: Option<LinkId>,
        /// Relative cost: 1 for a signature, 40 for a proof.
        cost: u32,
    },
    /// Stores a checked item; answer [`Input::StoreFailed`] only if that fails.
    Store(Verified<Item>),
    /// Reads an item; answer [`Input::Loaded`].
    Load {
        /// To be repeated in the answer.
        request: u64,
        /// Which item.
        id: ItemId,
    },
    /// Removes an item from the store.
    Remove(ItemId),
    /// Tells the application.
    Event(Event),
}

/// What happened, for the application.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A link passed its hello.
    LinkUp {
        /// Which.
        link: LinkId,
        /// Who is there.
        node: NodeId,
    },
    /// A link that was up is gone.
    LinkDown {
        /// Which.
        link: LinkId,
        /// Who was there.
        node: NodeId,
    },
    /// A link was refused before it was up.
    LinkRefused {
        /// Which.
        link: LinkId,
        /// Why.
        error: HelloError,
    },
    /// A new beacon of a node, checked.
    Beacon {
        /// Whose.
        node: NodeId,
        /// Its content.
        beacon: Box<Beacon>,
    },
    /// The last beacon of a node expired.
    BeaconExpired {
        /// Whose.
        node: NodeId,
    },
    /// A new item passed its check.
    Accepted {
        /// The item.
        item: Verified<Item>,
        /// The neighbour it came from, or this node.
        from: NodeId,
    },
    /// An item failed its check; it went nowhere.
    Rejected {
        /// Its id.
        id: ItemId,
        /// What it claimed to be.
        kind: ItemKind,
        /// The neighbour it came from, or this node.
        from: NodeId,
        /// The check that failed.
        reason: &'static str,
    },
    /// A contact was learned from a neighbour.
    ContactLearned(Contact),
    /// All state digests equal those of a neighbour, after they did not or for the first time.
    Converged {
        /// Which neighbour.
        node: NodeId,
    },
    /// State digests differ from a neighbour's; anti-entropy runs.
    Diverged {
        /// Which neighbour.
        node: NodeId,
        /// Where.
        collections: Vec<Collection>,
    },
    /// A queue was full and its oldest frames were dropped; anti-entropy repairs it.
    Overflow {
        /// The slow link.
        link: LinkId,
        /// Bytes dropped.
        bytes: usize,
    },
}

/// Why the core closes a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseReason {
    /// Its hello was refused.
    Hello,
    /// A second connection to the same peer.
    Duplicate,
    /// The peer broke the protocol or sent too many bad items.
    Misbehaved,
    /// Nothing was heard for too long.
    Silent,
    /// More links than configured.
    TooMany,
    /// The application wanted it.
    Application,
}

/// A node this one knows: by link, by beacon or both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Who.
    pub node: NodeId,
    /// The link to it, if it is a neighbour.
    pub link: Option<LinkId>,
    /// Where it can be dialled, if it is a neighbour and that is known.
    pub contact: Option<Contact>,
    /// Its last beacon that has not expired.
    pub beacon: Option<Beacon>,
}

/// Counters since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Bytes of frames sent.
    pub sent_bytes: u64,
    /// Items accepted.
    pub accepted: u64,
    /// Items rejected by their check.
    pub rejected: u64,
    /// Copies of items already known.
    pub duplicates: u64,
    /// Items asked for after an announcement.
    pub pulls: u64,
    /// Items repaired by anti-entropy.
    pub repaired: u64,
    /// Items not looked at because a budget was used up.
    pub over_budget: u64,
}
