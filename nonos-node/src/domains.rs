//! Domain strings of this crate.

use nonos_identity::Domain;

/// A publisher's commission.
pub const COMMISSION: Domain = Domain::new("nonos/node/commission/v1");
/// A verifier's verdict on a receipt.
pub const VERDICT: Domain = Domain::new("nonos/node/verdict/v1");
/// A tree of operators that somebody vouches for.
pub const OPERATORS: Domain = Domain::new("nonos/node/operators/v1");
/// A pseudonym's promise to pay.
pub const VOUCHER: Domain = Domain::new("nonos/node/voucher/v1");
/// The id of a signed record.
pub const RECORD_ID: Domain = Domain::new("nonos/node/record-id/v1");
/// Seeds drawn for one purpose from the node's own randomness.
pub const SEED: Domain = Domain::new("nonos/node/seed/v1");

/// An operator's tag from its name.
pub const OPERATOR: Domain = Domain::new("nonos/node/operator/v1");
/// A node's subnet tag from its address.
pub const SUBNET: Domain = Domain::new("nonos/node/subnet/v1");

/// The key under which a node seals the record of its guards.
pub const GUARDS: Domain = Domain::new("nonos/node/guards/v1");

/// The random value of one time period of onion services.
pub const SHARED_RANDOM: Domain = Domain::new("nonos/node/shared-random/v1");
/// How near a relay lies to the index of a descriptor.
pub const DIRECTORY: Domain = Domain::new("nonos/node/directory/v1");
/// The key of an onion service, from the node's secret and the service's name.
pub const ONION_SERVICE: Domain = Domain::new("nonos/node/onion-service/v1");
/// The key by which a service can authorise this node, from the node's secret and the service's address.
pub const ONION_CLIENT: Domain = Domain::new("nonos/node/onion-client/v1");

/// What the fees of one circuit are for.
pub const PURPOSE: Domain = Domain::new("nonos/node/purpose/v1");

/// The short name of an input inside a receipt.
pub const INPUT: Domain = Domain::new("nonos/node/input/v1");
/// The short name of an output inside a receipt.
pub const OUTPUT: Domain = Domain::new("nonos/node/output/v1");
/// The bounty of one verifier for one receipt.
pub const BOUNTY: Domain = Domain::new("nonos/node/bounty/v1");
/// An operator's entropy for a setup ceremony, from the system's and its own.
pub const CEREMONY_ENTROPY: Domain = Domain::new("nonos/node/ceremony-entropy/v1");
/// What names a run among the faults of a node.
pub const RUN: Domain = Domain::new("nonos/node/run/v1");

/// Every domain above, for the workspace-wide uniqueness test.
pub const ALL: &[Domain] = &[
    COMMISSION,
    VERDICT,
    OPERATORS,
    VOUCHER,
    RECORD_ID,
    SEED,
    OPERATOR,
    SUBNET,
    GUARDS,
    SHARED_RANDOM,
    DIRECTORY,
    ONION_SERVICE,
    ONION_CLIENT,
    PURPOSE,
    INPUT,
    OUTPUT,
    BOUNTY,
    CEREMONY_ENTROPY,
    RUN,
];
