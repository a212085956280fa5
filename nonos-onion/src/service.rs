//! Descriptors of onion services: how a client finds the introduction points of an address, and
//! nobody else does. The model is Tor rend-spec-v3, on the primitives of this workspace.
//!
//! A [`Service`] signs one descriptor per time period with a key blinded for that period and
//! publishes it, through circuits, at [`DirectoryIndex`]es that nobody could predict before the
//! period's [`SharedRandom`] was known. A [`Client`] derives the same key and index from the address.
//!
//! ```text
//! blinded key    = clamp(H(identity key, network, period, length)) * identity key
//! subcredential  = H(identity key, blinded key)
//! index          = H(network, blinded key, replica, period, shared random)
//! record         = [[1, period, blinded key, revision, expiry, salt], outer layer, signature]
//! outer layer    = AEAD(HKDF(salt, subcredential, header), [ephemeral key, [entry...], inner layer])
//! entry          = id || AEAD(HKDF(salt, X25519(ephemeral, client)), cookie), or 56 random bytes
//! inner layer    = AEAD(HKDF(salt, subcredential || cookie, header), [[introduction point...]])
//! ```
//!
//! What each party learns:
//! - *A directory*: blinded key, period, revision, expiry epoch, and when somebody stores or fetches. Not
//!   the address, the introduction points, or whether clients are authorised; nor that two periods' records
//!   are of one service, if it does not know the address: only the time at which they come hints at that. It
//!   can withhold a record or serve an old one.
//! - *Whoever knows the address*: that the service is there, whether it is open to all, and the number of
//!   authorised clients rounded up to sixteen. Not who they are, or which entries of two descriptors
//!   belong to one of them.
//! - *An authorised client*: the introduction points too. A revoked one keeps those it has seen.
//! - *An introduction point*: nothing from here; it holds a key that only this service uses with it.
//!
//! Nothing here is post-quantum: who can compute discrete logarithms forges descriptors, and from a recorded
//! descriptor and the address unwraps the cookies of authorised clients.

mod blinding;
mod clients;
mod content;
mod directory;
pub(crate) mod layer;
mod memory;
mod party;
mod period;
mod record;

#[cfg(any(test, feature = "testing"))]
pub(crate) use crate::service::clients::Outer;

pub use crate::service::blinding::{PeriodKeys, Subcredential};
pub use crate::service::clients::{Access, MAX_CLIENTS};
pub use crate::service::content::{IntroductionPoint, PointsError, ServiceDescriptor};
pub use crate::service::directory::{
    Directory, DirectoryError, DirectoryFuture, DirectoryIndex, MAX_COPIES, REPLICAS, SharedRandom,
    StoreError, validate_for_store,
};
pub use crate::service::memory::{MemoryDirectory, MemoryLimits};
pub use crate::service::party::{Client, DescriptorError, Issue, IssueError, Opened, Service, WrongNetwork};
pub use crate::service::period::TimePeriod;
pub use crate::service::record::{RecordError, SignedDescriptor};
