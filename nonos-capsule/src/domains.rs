//! The domain strings of this crate.

use nonos_identity::Domain;

/// Id of a capsule: header and table of the signed sections.
pub const CAPSULE_ID: Domain = Domain::new("nonos/capsule/id/v1");
/// Signature over a capsule id, a role and a validity.
pub const CAPSULE_SIGNATURE: Domain = Domain::new("nonos/capsule/signature/v1");
/// Signature over a statement about a capsule.
pub const CAPSULE_ATTESTATION: Domain = Domain::new("nonos/capsule/attestation/v1");
/// Salt of a hidden field of a manifest.
pub const HIDDEN_SALT: Domain = Domain::new("nonos/capsule/hidden-salt/v1");
/// Leaf of the tree over hidden fields.
pub const HIDDEN_LEAF: Domain = Domain::new("nonos/capsule/hidden-leaf/v1");
/// A hidden field, encrypted to one peer.
pub const HIDDEN_OPENING: Domain = Domain::new("nonos/capsule/hidden-opening/v1");
/// Digest of a policy.
pub const POLICY: Domain = Domain::new("nonos/capsule/policy/v1");
/// Digest of everything an invocation brings in but its nonce.
pub const INVOCATION: Domain = Domain::new("nonos/capsule/invocation/v1");
/// Key under which a nonce is consumed.
pub const NONCE: Domain = Domain::new("nonos/capsule/nonce/v1");
/// Seed of the guest's random stream.
pub const RANDOM: Domain = Domain::new("nonos/capsule/random/v1");
/// Hash over the host calls.
pub const HOST_LOG: Domain = Domain::new("nonos/capsule/host-log/v1");
/// Leaf and node of the tree over memory pages.
pub const MEMORY: Domain = Domain::new("nonos/capsule/memory/v1");
/// Pages, files, inodes and root of a run's file system.
pub const FILES: Domain = Domain::new("nonos/capsule/files/v1");
/// Digest over what an image of files holds.
pub const IMAGE: Domain = Domain::new("nonos/capsule/image/v1");
/// First link of the checkpoint chain.
pub const GENESIS: Domain = Domain::new("nonos/capsule/genesis/v1");
/// A later link of the checkpoint chain.
pub const CHECKPOINT: Domain = Domain::new("nonos/capsule/checkpoint/v1");
/// Name of a compiled module in the cache.
pub const AOT_KEY: Domain = Domain::new("nonos/capsule/aot-key/v1");
/// Hash of a whole execution.
pub const EXECUTION: Domain = Domain::new("nonos/capsule/execution/v1");
/// Signature over a commitment to a checkpoint chain.
pub const CHAIN: Domain = Domain::new("nonos/capsule/chain/v1");
/// Leaf of the tree over a checkpoint chain.
pub const CHAIN_LEAF: Domain = Domain::new("nonos/capsule/chain-leaf/v1");

/// Every domain above, for the workspace-wide uniqueness test.
pub const ALL: &[Domain] = &[
    CAPSULE_ID,
    CAPSULE_SIGNATURE,
    CAPSULE_ATTESTATION,
    HIDDEN_SALT,
    HIDDEN_LEAF,
    HIDDEN_OPENING,
    POLICY,
    INVOCATION,
    NONCE,
    RANDOM,
    HOST_LOG,
    MEMORY,
    FILES,
    IMAGE,
    GENESIS,
    CHECKPOINT,
    AOT_KEY,
    EXECUTION,
    CHAIN,
    CHAIN_LEAF,
];
