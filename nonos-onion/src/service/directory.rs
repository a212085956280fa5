use core::fmt;
use core::future::Future;
use core::pin::Pin;

use nonos_identity::{Digest, NetworkId, PublicKey, Timestamp, Verified};

use crate::domains::SERVICE_INDEX;
use crate::service::period::TimePeriod;
use crate::service::record::{RecordError, SignedDescriptor};

/// Indices at which a descriptor is kept: independent places, so that who holds one of them alone cannot
/// make a service disappear.
pub const REPLICAS: u8 = 2;

/// Most records that a client looks at for one index. Against directories that keep it checking signatures.
pub const MAX_COPIES: usize = 32;

/// The random value of one time period, the same for all, that nobody could predict before it was drawn:
/// otherwise an adversary could take its place beside a service's index ahead of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedRandom([u8; 32]);

impl SharedRandom {
    /// From its bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// A place among the directories.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DirectoryIndex(Digest);

impl DirectoryIndex {
    /// Of one replica of the descriptor that a blinded key signs.
    #[must_use]
    pub fn of(
        network: &NetworkId,
        blinded: &PublicKey,
        replica: u8,
        period: TimePeriod,
        random: &SharedRandom,
    ) -> Self {
        let number = period.number().to_be_bytes();
        let fields = [network.as_bytes(), &blinded.as_bytes()[..], &[replica], &number, random.as_bytes()];
        Self(Digest::of(SERVICE_INDEX, &fields))
    }

    /// From its bytes.
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

impl fmt::Debug for DirectoryIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DirectoryIndex({})", self.0)
    }
}

/// Why a directory does not keep a record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The record does not hold; the publisher's fault.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The directory knows no random value of the period; nobody's fault.
    #[error("no shared random value is known for time period {0}")]
    NoRandom(TimePeriod),
    /// The record belongs elsewhere; the publisher's fault.
    #[error("descriptor does not belong at this index")]
    Index,
    /// Another record with this or a higher revision is there already; the publisher's fault.
    #[error("revision {offered} is not above {stored}, which is stored")]
    Revision {
        /// That of the record offered.
        offered: u64,
        /// The one stored.
        stored: u64,
    },
    /// The directory's bounds are reached; nobody's fault.
    #[error("directory is full")]
    Full,
}

/// Checks that a record may be kept at `index`, as every directory does before it stores one: period, validity,
/// signature, place. What is stored there already the directory compares itself, by the revision.
///
/// # Errors
/// [`StoreError`] names the first check that failed; never [`StoreError::Revision`] or [`StoreError::Full`].
pub fn validate_for_store(
    network: &NetworkId,
    now: Timestamp,
    random: &dyn Fn(TimePeriod) -> Option<SharedRandom>,
    index: DirectoryIndex,
    bytes: &[u8],
) -> Result<Verified<SignedDescriptor>, StoreError> {
    let record = SignedDescriptor::parse(bytes).map_err(RecordError::from)?;
    let record = SignedDescriptor::check(record, network, now)?;
    let period = record.period();
    let random = random(period).ok_or(StoreError::NoRandom(period))?;
    let at = |replica| DirectoryIndex::of(network, &record.blinded(), replica, period, &random);
    if !(0..REPLICAS).any(|replica| at(replica) == index) {
        return Err(StoreError::Index);
    }
    Ok(record)
}

/// Why a directory did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DirectoryError {
    /// It does not keep the record.
    #[error(transparent)]
    Refused(#[from] StoreError),
    /// It cannot be reached. It says that, and not why.
    #[error("directory cannot be reached")]
    Unreachable,
}

/// What a [`Directory`] returns.
pub type DirectoryFuture<T> = Pin<Box<dyn Future<Output = Result<T, DirectoryError>> + Send>>;

/// Where descriptors are published and fetched; several nodes, as a rule, of which some lie.
///
/// An implementation reaches them through circuits only: whoever sees who publishes or fetches learns who
/// runs a service or visits it. An honest directory keeps what [`validate_for_store`] accepts until it expires,
/// one record per index, and replaces it by a higher revision alone; publishing the stored bytes again changes
/// nothing. A dishonest one may withhold a record, serve an old one or anything else: a record proves itself
/// to who fetched it ([`Client::open`]), but nothing proves that it is the newest. So a client asks several,
/// takes the newest that opens, and remembers its revision.
///
/// Both calls may be dropped at any time; a publication may then have happened or not.
///
/// [`Client::open`]: crate::service::Client::open
pub trait Directory: Send + Sync {
    /// Keeps a record at an index.
    fn publish(&self, index: DirectoryIndex, bytes: Vec<u8>) -> DirectoryFuture<()>;

    /// The different records that were found at an index, unchecked: at most [`MAX_COPIES`], no two of them
    /// from one node, none longer than [`Wire::MAX_BYTES`] of [`SignedDescriptor`]; none if there are none.
    ///
    /// [`Wire::MAX_BYTES`]: nonos_identity::wire::Wire::MAX_BYTES
    fn fetch(&self, index: DirectoryIndex) -> DirectoryFuture<Vec<Vec<u8>>>;
}
