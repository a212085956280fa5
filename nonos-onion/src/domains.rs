//! The domain-separation strings of this crate.

use nonos_identity::Domain;

/// Start of the Noise prologue of every hop handshake.
pub const HANDSHAKE: Domain = Domain::new("nonos/onion/handshake/v2");
/// Derivation of the Noise pre-shared key from the ML-KEM secret.
pub const HYBRID_PSK: Domain = Domain::new("nonos/onion/hybrid-psk/v1");
/// Derivation of the layer keys of one hop.
pub const LAYER_KEYS: Domain = Domain::new("nonos/onion/layer-keys/v1");
/// Step of the chain that yields the onion keys of successive epochs.
pub const EPOCH_CHAIN: Domain = Domain::new("nonos/onion/epoch-chain/v1");
/// Derivation of one epoch's onion key from its link of the chain.
pub const EPOCH_KEY: Domain = Domain::new("nonos/onion/epoch-key/v1");
/// The puzzle that a CREATE solves at a relay with too many of them.
pub const PUZZLE: Domain = Domain::new("nonos/onion/puzzle/v1");
/// Derivation of the key of a hop's proofs of transit from its layer keys.
pub const TRANSIT_KEY: Domain = Domain::new("nonos/onion/transit-key/v1");
/// A relay's own half of the opening of a batch.
pub const TRANSIT_OWN: Domain = Domain::new("nonos/onion/transit-own/v1");
/// The half that the next hop releases.
pub const TRANSIT_ACK: Domain = Domain::new("nonos/onion/transit-ack/v1");
/// What a relay knows of that half before.
pub const TRANSIT_HINT: Domain = Domain::new("nonos/onion/transit-hint/v1");
/// What both halves open.
pub const TRANSIT_CHALLENGE: Domain = Domain::new("nonos/onion/transit-challenge/v1");
/// Signature of a relay's receipt of an epoch.
pub const TRANSIT_RECEIPT: Domain = Domain::new("nonos/onion/transit-receipt/v1");
/// A shard of an object, bound to the object's context and to the shard's place.
pub const SHARD: Domain = Domain::new("nonos/onion/shard/v1");
/// The manifest of an object's shards.
pub const MULTIPATH_MANIFEST: Domain = Domain::new("nonos/onion/multipath-manifest/v1");
/// What a node keeps of a session's nonce.
pub const CONFLUX_SESSION: Domain = Domain::new("nonos/onion/conflux-session/v1");

/// Blinding parameter of a service's identity key in one time period.
pub const SERVICE_BLINDING: Domain = Domain::new("nonos/onion/service-blinding/v1");
/// Derivation of the nonce prefix that belongs to a blinded signing key.
pub const SERVICE_NONCE_PREFIX: Domain = Domain::new("nonos/onion/service-nonce-prefix/v1");
/// What knowing a service's address is worth in one time period.
pub const SERVICE_SUBCREDENTIAL: Domain = Domain::new("nonos/onion/service-subcredential/v1");
/// Signature of a service descriptor by the blinded key.
pub const SERVICE_DESCRIPTOR: Domain = Domain::new("nonos/onion/service-descriptor/v1");
/// All randomness of one service descriptor, from the caller's seed.
pub const SERVICE_RANDOMNESS: Domain = Domain::new("nonos/onion/service-randomness/v1");
/// Key of the outer layer of a service descriptor.
pub const SERVICE_OUTER_KEY: Domain = Domain::new("nonos/onion/service-outer-key/v1");
/// Key of the inner layer of a service descriptor.
pub const SERVICE_INNER_KEY: Domain = Domain::new("nonos/onion/service-inner-key/v1");
/// Id and key of one authorised client in one service descriptor.
pub const SERVICE_CLIENT_KEY: Domain = Domain::new("nonos/onion/service-client-key/v1");
/// Where a directory keeps a service descriptor.
pub const SERVICE_INDEX: Domain = Domain::new("nonos/onion/service-index/v1");

/// Signature of a service that establishes an introduction point.
pub const RENDEZVOUS_ESTABLISH: Domain = Domain::new("nonos/onion/rendezvous-establish/v1");
/// Start of the Noise prologue between a client and an onion service.
pub const RENDEZVOUS_HANDSHAKE: Domain = Domain::new("nonos/onion/rendezvous-handshake/v1");
/// Derivation of the first Noise pre-shared key of that handshake from the subcredential.
pub const RENDEZVOUS_PSK: Domain = Domain::new("nonos/onion/rendezvous-psk/v1");
/// Name of an introduction, over which a client works.
pub const RENDEZVOUS_INTRODUCTION: Domain = Domain::new("nonos/onion/rendezvous-introduction/v1");
/// The work of a client on an introduction.
pub const RENDEZVOUS_PUZZLE: Domain = Domain::new("nonos/onion/rendezvous-puzzle/v1");

/// Every domain above, for the workspace-wide uniqueness test.
pub const ALL: &[Domain] = &[
    HANDSHAKE,
    HYBRID_PSK,
    LAYER_KEYS,
    EPOCH_CHAIN,
    EPOCH_KEY,
    PUZZLE,
    TRANSIT_KEY,
    TRANSIT_OWN,
    TRANSIT_ACK,
    TRANSIT_HINT,
    TRANSIT_CHALLENGE,
    TRANSIT_RECEIPT,
    SHARD,
    MULTIPATH_MANIFEST,
    CONFLUX_SESSION,
    SERVICE_BLINDING,
    SERVICE_NONCE_PREFIX,
    SERVICE_SUBCREDENTIAL,
    SERVICE_DESCRIPTOR,
    SERVICE_RANDOMNESS,
    SERVICE_OUTER_KEY,
    SERVICE_INNER_KEY,
    SERVICE_CLIENT_KEY,
    SERVICE_INDEX,
    RENDEZVOUS_ESTABLISH,
    RENDEZVOUS_HANDSHAKE,
    RENDEZVOUS_PSK,
    RENDEZVOUS_INTRODUCTION,
    RENDEZVOUS_PUZZLE,
];
