#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod cell;
mod config;
mod descriptor;
pub mod domains;
mod epoch;
#[cfg(feature = "tokio")]
pub mod link;
mod path;

pub use crate::cell::DestroyReason;
pub use crate::config::{Config, ConfigError, Limits};
pub use crate::descriptor::{BandwidthClass, FamilyTag, RelayDescriptor, SubnetTag};
pub use crate::epoch::EpochKeys;
pub use crate::path::{
    AnonymitySet, HopClass, MIN_OPERATORS, PathError, PathRules, PathSelector, Selection, anonymity_set,
};
