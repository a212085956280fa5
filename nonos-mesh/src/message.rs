//! The frames of a link.

use minicbor::{Decode, Encode};
use nonos_identity::Digest;
use nonos_identity::wire::Wire;

use crate::contact::Contact;
use crate::digest::{BUCKETS, StateDigest, bucket_of};
use crate::hello::Hello;
use crate::item::{Collection, Item, ItemId, ItemKind};

/// One frame. The indices are append-only; a new variant asks for a new protocol version.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) enum Message {
    /// The first frame in each direction.
    #[n(0)]
    Hello(#[n(0)] Hello),
    #[n(1)]
    Ping(#[n(0)] u64),
    #[n(2)]
    Pong(#[n(0)] u64),
    /// Where the sender can be dialled, then whom else it knows.
    #[n(3)]
    Contacts(#[n(0)] Vec<Contact>),
    /// A whole item, unasked.
    #[n(4)]
    Push {
        #[n(0)]
        kind: ItemKind,
        #[cbor(n(1), with = "minicbor::bytes")]
        bytes: Vec<u8>,
    },
    /// A whole item, asked for.
    #[n(5)]
    Reply {
        #[n(0)]
        kind: ItemKind,
        #[cbor(n(1), with = "minicbor::bytes")]
        bytes: Vec<u8>,
    },
    /// New items that the sender holds.
    #[n(6)]
    Have(#[n(0)] Vec<ItemId>),
    /// Items that the sender wants.
    #[n(7)]
    Want(#[n(0)] Vec<ItemId>),
    /// Items asked for that the sender does not hold.
    #[n(8)]
    Missing(#[n(0)] Vec<ItemId>),
    /// Make this link eager.
    #[n(9)]
    Graft,
    /// Make this link lazy.
    #[n(10)]
    Prune,
    /// What the sender holds, one digest per collection; `answer` ends the exchange.
    #[n(11)]
    States {
        #[n(0)]
        answer: bool,
        #[n(1)]
        states: Vec<StateDigest>,
    },
    /// Asks for the bucket digests of collections that differ.
    #[n(12)]
    Ask(#[n(0)] Vec<Collection>),
    /// The bucket digests of a collection and the state they hash to.
    #[n(13)]
    Buckets {
        #[n(0)]
        state: StateDigest,
        #[n(1)]
        digests: Vec<Digest>,
    },
    /// All ids that the sender holds in some ranges of differing buckets.
    #[n(14)]
    Ids {
        #[n(0)]
        collection: Collection,
        #[n(1)]
        ranges: Vec<IdRange>,
    },
    /// Items that the receiver lacks, in answer to `Ids`.
    #[n(15)]
    Offer(#[n(0)] Vec<ItemId>),
}

/// Every id that the sender holds from `first` to `last`, both in one bucket.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct IdRange {
    #[n(0)]
    pub(crate) first: ItemId,
    #[n(1)]
    pub(crate) last: ItemId,
    #[n(2)]
    pub(crate) ids: Vec<ItemId>,
}

impl Message {
    /// Most ids in one frame.
    pub(crate) const MAX_IDS: usize = 1024;
    /// Most contacts in one frame.
    pub(crate) const MAX_CONTACTS: usize = 16;

    /// Whether every list keeps its limit.
    pub(crate) fn is_within_limits(&self) -> bool {
        match self {
            Self::Contacts(contacts) => {
                contacts.len() <= Self::MAX_CONTACTS && contacts.iter().all(|c| c.check().is_ok())
            }
            Self::Have(ids) | Self::Want(ids) | Self::Missing(ids) | Self::Offer(ids) => {
                ids.len() <= Self::MAX_IDS
            }
            Self::Push { bytes, .. } | Self::Reply { bytes, .. } => bytes.len() <= Item::MAX_BYTES,
            Self::States { states, .. } => states.len() <= Collection::ALL.len(),
            Self::Ask(collections) => collections.len() <= Collection::ALL.len(),
            Self::Buckets { digests, .. } => digests.len() == BUCKETS,
            Self::Ids { ranges, .. } => {
                ranges.len() <= BUCKETS
                    && ranges.iter().map(|r| r.ids.len()).sum::<usize>() <= Self::MAX_IDS
                    && ranges.iter().all(|r| r.first <= r.last && bucket_of(&r.first) == bucket_of(&r.last))
            }
            Self::Hello(_) | Self::Ping(_) | Self::Pong(_) | Self::Graft | Self::Prune => true,
        }
    }
}

impl Wire for Message {
    /// One item and its header, the longest message there is.
    const MAX_BYTES: usize = Item::MAX_BYTES + 1024;
}
