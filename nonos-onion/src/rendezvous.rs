//! Onion services: a client and a service meet without either learning where the other is.
//!
//! Everything here is a protocol over ordinary streams of circuits, on three [`ports`] of relays that run a
//! [`Hub`]; relays that only pass cells on know nothing of it.
//!
//! 1. A [`Host`] establishes itself with three relays, its *introduction points*, under a key that it uses
//!    nowhere else, and publishes them in its [descriptor](crate::service).
//! 2. A [`Dialer`] opens the descriptor, waits with a cookie at a relay of its choice, the *rendezvous*, and
//!    at the same time has an introduction passed on by one of the introduction points.
//! 3. The service reads where the client waits, goes there through a circuit of its own and answers. From
//!    then on the rendezvous copies bytes that it cannot read: a [`ServiceStream`].
//!
//! ```text
//! client -- circuit -- introduction point -- circuit -- service      introduction, once
//! client -- circuit --     rendezvous     -- circuit -- service      stream
//! ```
//!
//! ```
//! use std::sync::Arc;
//! use nonos_identity::SigningKey;
//! use nonos_onion::rendezvous::{Dialer, DialerConfig, Host, HostConfig, HubLimits};
//! use nonos_onion::{service::Service, testing::HubNetwork};
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     // Ten relays in one process, each with a hub, and a directory; a real node makes its own `Environment`.
//!     let mesh = HubNetwork::new(10, HubLimits::default()).await;
//!     let (_one, here) = mesh.add(50).await;
//!     let (_other, there) = mesh.add(60).await;
//!
//!     let service = Arc::new(Service::new(there.network, &SigningKey::from_seed(&[7; 32]))?);
//!     let (host, mut visitors) = Host::spawn(there, service, HostConfig::default(), &[8; 32])?;
//!     host.published().await;
//!
//!     let mut near = Dialer::new(here, DialerConfig::default(), &[9; 32]).dial(&host.address(), 80, None).await?;
//!     let mut far = visitors.recv().await.ok_or("stopped")?;
//!     near.write_all(b"hello").await?;
//!     let mut hello = [0; 5];
//!     far.stream.read_exact(&mut hello).await?;
//!     assert_eq!((&hello, far.port), (b"hello", 80));
//!     Ok(())
//! }
//! ```
//!
//! What each party learns:
//! - *An introduction point*: a key, and how many introductions come and when. Not the address, who the service
//!   is or who its clients are: both are behind circuits. It can drop and delay introductions.
//! - *A rendezvous*: times and amounts of one stream. Neither end, and no byte of it.
//! - *The service*: that somebody who knows the address, and was authorised if it asks for that, is there; and
//!   the relay that the client chose. Not who.
//! - *The client*: the service's introduction points. Not where it is.
//! - *Whoever has the address* can make the service build circuits. They begin at pinned guards and second
//!   hops; introductions that the service has no time for wait at the hub, and the one with the most work on it
//!   goes first ([`Effort`]).
//!
//! Not held off: who sees both ends of a stream, or of the two circuits of a rendezvous; who sees when a service is
//! on line and compares that with when nodes are; who has hardware for SHA3, for whom the work of clients is cheap;
//! introduction points that drop what they should pass on, of which a client notices no more than a timeout; who
//! floods a service or takes its introduction points down until it has drawn others that are his. A
//! client whose authorisation was revoked can introduce itself with points that it has seen until the host is
//! started anew. See [`Host`] for services on relays.

mod ahead;
pub(crate) mod circuits;
pub(crate) mod dial;
mod draw;
mod fetch;
pub(crate) mod frame;
pub(crate) mod handshake;
mod host;
mod hub;
pub(crate) mod puzzle;
mod relays;
mod stream;
#[cfg(feature = "libp2p")]
mod transport;

use core::fmt;
use std::sync::Arc;

use nonos_identity::NetworkId;

pub use crate::link::Clock;
pub use crate::rendezvous::circuits::{CircuitError, CircuitFuture, Circuits, Purpose};
pub use crate::rendezvous::dial::{ATTEMPT_TIMEOUT, DialError, Dialer, DialerConfig, MAX_ATTEMPTS};
pub use crate::rendezvous::frame::FrameError;
pub use crate::rendezvous::handshake::RelayHint;
pub use crate::rendezvous::host::{Host, HostConfig, HostError, Visit, Visitors};
pub use crate::rendezvous::hub::{Hub, HubError, HubLimits, HubLoad};
pub use crate::rendezvous::puzzle::Effort;
pub use crate::rendezvous::relays::{Keep, RelayCircuits};
pub use crate::rendezvous::stream::ServiceStream;
#[cfg(feature = "libp2p")]
pub use crate::rendezvous::transport::{OnionTransport, OnionTransportError};
use crate::service::{Directory, SharedRandom, TimePeriod};

/// The ports of a relay at which its [`Hub`] listens. They are part of the protocol.
pub mod ports {
    /// A service establishes itself.
    pub const ESTABLISH: u16 = 65_281;
    /// A client has an introduction passed on.
    pub const INTRODUCE: u16 = 65_282;
    /// Both meet.
    pub const RENDEZVOUS: u16 = 65_283;
    /// All of them.
    pub const ALL: [u16; 3] = [ESTABLISH, INTRODUCE, RENDEZVOUS];
}

/// The shared random value of a period, if this node knows it.
pub type Randoms = Arc<dyn Fn(TimePeriod) -> Option<SharedRandom> + Send + Sync>;

/// What clients and services need from the node around them.
#[derive(Clone)]
pub struct Environment {
    /// The mesh.
    pub network: NetworkId,
    /// How to reach relays.
    pub circuits: Arc<dyn Circuits>,
    /// Where descriptors are.
    pub directory: Arc<dyn Directory>,
    /// The shared random values, all of one source that is the same for the whole mesh.
    pub randoms: Randoms,
    /// The time.
    pub clock: Clock,
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment").field("network", &self.network).finish_non_exhaustive()
    }
}
