//! The domain-separation strings of this crate.

use nonos_identity::Domain;

/// Start of the Noise prologue of every hop handshake.
pub const HANDSHAKE: Domain = Domain::new("nonos/onion/handshake/v1");
/// Derivation of the Noise pre-shared key from the ML-KEM secret.
pub const HYBRID_PSK: Domain = Domain::new("nonos/onion/hybrid-psk/v1");
/// Derivation of the layer keys of one hop.
pub const LAYER_KEYS: Domain = Domain::new("nonos/onion/layer-keys/v1");
/// Step of the chain that yields the onion keys of successive epochs.
pub const EPOCH_CHAIN: Domain = Domain::new("nonos/onion/epoch-chain/v1");
/// Derivation of one epoch's onion key from its link of the chain.
pub const EPOCH_KEY: Domain = Domain::new("nonos/onion/epoch-key/v1");
/// A shard of an object, bound to the object's context and to the shard's place.
pub const SHARD: Domain = Domain::new("nonos/onion/shard/v1");
/// The manifest of an object's shards.
pub const MULTIPATH_MANIFEST: Domain = Domain::new("nonos/onion/multipath-manifest/v1");

/// Every domain above, for the workspace-wide uniqueness test.
pub const ALL: &[Domain] =
    &[HANDSHAKE, HYBRID_PSK, LAYER_KEYS, EPOCH_CHAIN, EPOCH_KEY, SHARD, MULTIPATH_MANIFEST];
