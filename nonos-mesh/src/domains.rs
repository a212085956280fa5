//! The domain strings of this crate.

use nonos_identity::Domain;

/// Signature over the first frame of a link.
pub const HELLO: Domain = Domain::new("nonos/mesh/hello/v1");
/// Signature over an overlay beacon.
pub const BEACON: Domain = Domain::new("nonos/mesh/beacon/v1");
/// Hash of an item into its id.
pub const ITEM: Domain = Domain::new("nonos/mesh/item/v1");
/// Hash of the ids in one bucket of a collection.
pub const BUCKET: Domain = Domain::new("nonos/mesh/bucket/v1");
/// Checksum of a ticket.
pub const TICKET: Domain = Domain::new("nonos/mesh/ticket/v1");
/// Prologue of the Noise handshake of the libp2p driver.
pub const PROLOGUE: Domain = Domain::new("nonos/mesh/noise-prologue/v1");
/// Signature over the static key of the driver's own Noise handshake.
pub const STATIC_KEY: Domain = Domain::new("nonos/mesh/noise-static-key/v1");
/// Trace hash of a simulation.
pub const TRACE: Domain = Domain::new("nonos/mesh/sim-trace/v1");

/// Every domain above, for the workspace-wide uniqueness test.
pub const ALL: &[Domain] = &[HELLO, BEACON, ITEM, BUCKET, TICKET, PROLOGUE, STATIC_KEY, TRACE];
