use core::fmt;
use std::sync::Arc;

use minicbor::{Decode, Encode};
use nonos_identity::Digest;

use crate::domains;

/// What an item is; it picks the lane, the collection and the check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[non_exhaustive]
pub enum ItemKind {
    /// A proof-carrying execution receipt.
    #[n(0)]
    Receipt,
    /// A signed capsule manifest.
    #[n(1)]
    Manifest,
    /// An overlay beacon; the mesh checks, keeps and expires these itself.
    #[n(2)]
    Beacon,
    /// A trust attestation.
    #[n(3)]
    Attestation,
    /// A key or certificate revocation.
    #[n(4)]
    Revocation,
    /// An application's own kind.
    #[n(5)]
    App(#[n(0)] u16),
}

impl ItemKind {
    /// The collection that stores items of this kind, none for beacons.
    #[must_use]
    pub const fn collection(self) -> Option<Collection> {
        match self {
            Self::Receipt => Some(Collection::Receipts),
            Self::Manifest => Some(Collection::Manifests),
            Self::Attestation => Some(Collection::Attestations),
            Self::Revocation => Some(Collection::Revocations),
            Self::App(_) => Some(Collection::App),
            Self::Beacon => None,
        }
    }

    /// A number per kind for hashes: the variant in the high half, the application's number below.
    const fn tag(self) -> u32 {
        match self {
            Self::Receipt => 0,
            Self::Manifest => 1 << 16,
            Self::Beacon => 2 << 16,
            Self::Attestation => 3 << 16,
            Self::Revocation => 4 << 16,
            Self::App(number) => 5 << 16 | number as u32,
        }
    }
}

/// A set of stored items with one state digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(index_only)]
#[non_exhaustive]
pub enum Collection {
    /// Receipts.
    #[n(0)]
    Receipts,
    /// Capsule manifests.
    #[n(1)]
    Manifests,
    /// Trust attestations.
    #[n(2)]
    Attestations,
    /// Revocations.
    #[n(3)]
    Revocations,
    /// All application kinds.
    #[n(4)]
    App,
}

impl Collection {
    /// Every collection.
    pub const ALL: [Self; 5] =
        [Self::Receipts, Self::Manifests, Self::Attestations, Self::Revocations, Self::App];

    pub(crate) const fn index(self) -> usize {
        self as usize
    }
}

/// The id of an item: SHA3-256 over kind and bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct ItemId(#[n(0)] Digest);

impl ItemId {
    /// The id of these bytes as this kind.
    #[must_use]
    pub fn of(kind: ItemKind, bytes: &[u8]) -> Self {
        Self(Digest::of(domains::ITEM, &[&kind.tag().to_le_bytes(), bytes]))
    }

    /// From its bytes, for stores that keep it.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Digest::from_bytes(bytes))
    }

    /// Its bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for ItemId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string();
        write!(f, "ItemId({})", text.get(..8).unwrap_or(&text))
    }
}

impl fmt::Display for ItemId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An item that cannot travel. The fault of whoever made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("item of {len} bytes exceeds {} bytes", Item::MAX_BYTES)]
pub struct ItemError {
    /// Its length in bytes.
    pub len: usize,
}

/// Opaque bytes of a known kind, the unit of gossip and of storage.
#[derive(Clone, PartialEq, Eq)]
pub struct Item {
    kind: ItemKind,
    id: ItemId,
    bytes: Arc<[u8]>,
}

impl Item {
    /// Longest item, in bytes: one signed envelope with the largest body. What a peer can make
    /// us hold and check at once.
    pub const MAX_BYTES: usize = 66 * 1024;

    /// Wraps bytes and computes the id.
    ///
    /// # Errors
    /// [`ItemError`] beyond [`Self::MAX_BYTES`].
    pub fn new(kind: ItemKind, bytes: impl Into<Arc<[u8]>>) -> Result<Self, ItemError> {
        let bytes = bytes.into();
        if bytes.len() > Self::MAX_BYTES {
            return Err(ItemError { len: bytes.len() });
        }
        Ok(Self { kind, id: ItemId::of(kind, &bytes), bytes })
    }

    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> ItemKind {
        self.kind
    }

    /// Its id.
    #[must_use]
    pub const fn id(&self) -> ItemId {
        self.id
    }

    /// Its bytes, exactly as received.
    #[must_use]
    pub const fn bytes(&self) -> &Arc<[u8]> {
        &self.bytes
    }
}

impl fmt::Debug for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Item")
            .field("kind", &self.kind)
            .field("id", &self.id)
            .field("len", &self.bytes.len())
            .finish()
    }
}
