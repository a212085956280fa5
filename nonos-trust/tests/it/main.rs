//! Integration tests of the trust engine.

mod crdt;
mod faults;
mod fuzz;
mod scores;
mod sybil;
mod vectors;

use core::time::Duration;

use nonos_identity::Timestamp;
use nonos_trust::testing::node;
use nonos_trust::{Config, TrustEngine};

const DAY: Duration = Duration::from_secs(86_400);
const OBSERVER: u16 = 60_000;

fn now() -> Timestamp {
    Timestamp::from_secs(1_800_000_000)
}

fn engine() -> TrustEngine {
    TrustEngine::new(Config::default(), node(OBSERVER)).expect("the default configuration is sound")
}
