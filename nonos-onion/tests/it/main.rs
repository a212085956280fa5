//! Integration tests of `nonos-onion`.
#![expect(clippy::indexing_slicing, clippy::unwrap_used, reason = "a test that panics fails")]

mod adaptation;
mod circuits;
mod conflux;
mod congestion;
mod faults;
mod guards;
mod meddling;
mod multipath;
#[cfg(feature = "padding")]
mod padding;
mod paths;
mod privacy;
mod properties;
mod rendezvous;
mod service;
mod suppression;
mod transit;
mod vanguards;
mod vectors;
