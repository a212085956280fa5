use nonos_identity::{Certificate, Digest, Domain, NetworkId, Role, SigningKey, Timestamp};

use crate::config::Config;
use crate::contact::TransportId;

const SEED: Domain = crate::domains::TRACE;

/// The signer and certificate of test node `number`, valid for 30 days from `now`.
///
/// # Panics
/// Never: the terms are within their limits.
#[must_use]
pub fn identity(network: &NetworkId, number: u64, now: Timestamp) -> (SigningKey, Certificate) {
    let key = |role: &[u8]| {
        let seed = Digest::of(SEED, &[role, &number.to_le_bytes()]);
        SigningKey::from_seed(seed.as_bytes())
    };
    let (root, signer) = (key(b"root"), key(b"signer"));
    let issued =
        Certificate::issue(&root, &signer, Role::EpochSigner, 1, now, Certificate::MAX_LIFETIME, network);
    (signer, issued.expect("the terms are within their limits"))
}

/// A configuration of test node `number`, whose transport id is its number.
///
/// # Panics
/// Never: the transport id is within its limits.
#[must_use]
pub fn config(network: &NetworkId, number: u64, now: Timestamp) -> Config {
    let (signer, certificate) = identity(network, number, now);
    let transport = TransportId::new(number.to_be_bytes()).expect("eight bytes");
    Config { transport, ..Config::new(*network, signer, certificate) }
}
