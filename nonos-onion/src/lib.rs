#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod adaptation;
mod cell;
pub mod cgo;
mod circuit;
mod config;
pub mod conflux;
mod congestion;
mod descriptor;
pub mod domains;
mod epoch;
mod guard;
mod handshake;
#[cfg(feature = "tokio")]
pub mod link;
mod machine;
mod message;
pub mod multipath;
mod mux;
mod padding;
mod path;
mod pinned;
mod pool;
mod puzzle;
mod records;
#[cfg(feature = "tokio")]
pub mod rendezvous;
pub mod service;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod transit;
mod vanguard;

pub use crate::adaptation::{Adaptation, Advice, BoundsError, HopBounds, Measured, Needs};
pub use crate::cell::DestroyReason;
pub use crate::circuit::{
    BuildError, Closed, LocalCircuitId, MAX_PAYMENT_BYTES, OpenError, PayError, Payment, StreamId,
};
pub use crate::config::{Config, ConfigError, Limits};
pub use crate::descriptor::{BandwidthClass, FamilyTag, RelayDescriptor, SubnetTag};
pub use crate::epoch::EpochKeys;
pub use crate::guard::{GuardError, GuardSet};
pub use crate::handshake::Suite;
pub use crate::machine::{Input, LinkId, Machine, Now, Output, StreamRead};
pub use crate::path::{
    AnonymitySet, HopClass, MIN_OPERATORS, PathError, PathRequest, PathRules, PathSelector, Selection,
    anonymity_set,
};
pub use crate::vanguard::Vanguards;
