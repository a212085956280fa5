//! For tests of this crate and of those who embed it: a deterministic simulator, identities,
//! proptest strategies, a conformance kit for stores and one fuzz entry point per decoder.

mod fuzz;
mod identity;
mod simulator;
mod store;
mod strategies;

pub use fuzz::{fuzz_beacon, fuzz_contacts, fuzz_fetch, fuzz_frames, fuzz_message, fuzz_ticket};
pub use identity::{config, identity};
pub use simulator::{Report, SimConfig, Simulator};
pub use store::check_store;
pub use strategies::{beacon_body, contact, response, ticket};
