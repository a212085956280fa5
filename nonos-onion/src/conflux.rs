//! A byte stream that lives on several circuits to one destination, and outlives each of them.
//!
//! A circuit dies with its epoch and with any relay on it, and its streams with it. A session is a stream
//! above them: its *legs* are ordinary streams of circuits to one port of one destination, two of them by
//! default, and come and go while it lasts. What a leg did not deliver before it died goes by another; what
//! comes twice is dropped. Both legs carry at once: whatever is next leaves by the leg with the shortest round
//! trip that has room, as in Tor proposal 329 (LowRTT), unless a nearer one that is full delivers it sooner. What a
//! slow one still carries goes by a fast one too once nothing else may be sent.
//!
//! [`Session`] is one end, without I/O; [`Registry`] tells a server which leg is of which session, and [`Upkeep`]
//! a client when to build circuits: those of the next epoch before those of this one end. With the feature
//! `tokio`, [`Conflux`] and [`ConfluxServer`] run them and yield a [`ConfluxStream`].
//!
//! # Who learns what
//!
//! The destination learns that the legs are of one client: that is what they are for. It keeps learning it across
//! epochs, which circuits that are used one after another would not tell. A relay sees a circuit with a stream, as
//! before; frames are inside the last layer. Two relays on two legs, or whoever watches two guards, see two
//! circuits that carry at the same times and are replaced within the same minutes, and can match them by it
//! better than two unrelated ones. Each leg more is one more chance that a relay is bad.
//!
//! Only who knows the [`Nonce`] can join a session. It crosses no relay in the clear; the destination keeps a
//! hash of it.
//!
//! # What it bears
//!
//! [`Config`] bounds what a session holds and how many there are. A peer that breaks the protocol ends the session
//! with a [`Fault`] that says how; no relay can cause one of those, as cells are authenticated. A relay that drops
//! or delays is a [`LegFault`] and costs time, not bytes: after one second without progress the others carry what
//! it had, after ten the leg is replaced. A leg on which nothing is sent is not probed.

#[cfg(feature = "tokio")]
mod client;
mod config;
#[cfg(feature = "tokio")]
mod drive;
mod fault;
pub(crate) mod frame;
mod inbound;
mod leg;
mod outbound;
mod pace;
mod registry;
#[cfg(feature = "tokio")]
mod server;
mod session;
#[cfg(feature = "tokio")]
mod stream;
mod upkeep;

#[cfg(feature = "tokio")]
pub use crate::conflux::client::{BuiltLeg, Conflux, LegError, LegFuture, Legs};
pub use crate::conflux::config::{Config, ConfigError};
pub use crate::conflux::fault::{Fault, LegFault, WriteError};
pub use crate::conflux::frame::{FrameError, Hello, Nonce, Refusal, SEGMENT_BYTES};
pub use crate::conflux::registry::{Admission, Registry, SessionKey};
#[cfg(feature = "tokio")]
pub use crate::conflux::server::{Accepted, ConfluxServer};
pub use crate::conflux::session::{Input, LegId, Output, Session};
#[cfg(feature = "tokio")]
pub use crate::conflux::stream::ConfluxStream;
pub use crate::conflux::upkeep::{Step, Upkeep};
