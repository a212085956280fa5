//! A byte stream that lives on several circuits to one destination, and outlives each of them.

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
