#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod beacon;
mod check;
mod config;
mod contact;
pub mod digest;
pub mod domains;
pub mod fetch;
mod frame;
mod hello;
mod io;
mod item;
#[cfg(feature = "libp2p")]
pub mod libp2p;
mod mesh;
mod message;
mod store;
#[cfg(feature = "testing")]
pub mod testing;
mod ticket;

pub use crate::beacon::{Beacon, BeaconBody, BeaconError, Capabilities};
pub use crate::check::{Check, Verdict};
pub use crate::config::{Config, ConfigError, GossipConfig, LinkConfig, SyncConfig, TrickleConfig};
pub use crate::contact::{Contact, ContactError, TransportId, export_contacts, import_contacts};
pub use crate::frame::{FrameDecoder, FrameError, encode_frame};
pub use crate::hello::HelloError;
pub use crate::io::{CloseReason, Command, Event, Input, LinkId, Now, Output, Peer, Stats};
pub use crate::item::{Collection, Item, ItemError, ItemId, ItemKind};
pub use crate::mesh::Mesh;
pub use crate::store::{MemoryStore, Store, StoreError};
pub use crate::ticket::{Ticket, TicketError};
