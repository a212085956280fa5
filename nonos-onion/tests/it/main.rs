//! Integration tests of `nonos-onion`.
#![expect(clippy::indexing_slicing, clippy::unwrap_used, reason = "a test that panics fails")]

mod circuits;
mod congestion;
mod faults;
mod multipath;
mod paths;
mod privacy;
mod properties;
mod vectors;
