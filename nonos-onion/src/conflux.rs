//! A byte stream that lives on several circuits to one destination, and outlives each of them.

mod config;
mod fault;
mod frame;
mod inbound;
mod leg;
mod outbound;
mod pace;
mod registry;
mod session;
mod upkeep;

pub use crate::conflux::config::{Config, ConfigError};
pub use crate::conflux::fault::{Fault, LegFault, WriteError};
pub use crate::conflux::frame::{FrameError, Hello, Nonce, Refusal, SEGMENT_BYTES};
pub use crate::conflux::registry::{Admission, Registry, SessionKey};
pub use crate::conflux::session::{Input, LegId, Output, Session};
pub use crate::conflux::upkeep::{Step, Upkeep};
