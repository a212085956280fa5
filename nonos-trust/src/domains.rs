//! The domain-separation strings of this crate.

use nonos_identity::Domain;

/// Signature over an attestation.
pub const ATTESTATION: Domain = Domain::new("nonos/trust/attestation/v1");
/// Id of an attestation's signed content.
pub const ATTESTATION_ID: Domain = Domain::new("nonos/trust/record-id/v1");
/// Digest over the shared state.
pub const STATE_DIGEST: Domain = Domain::new("nonos/trust/state-digest/v1");

/// Every domain above, for the workspace-wide uniqueness test.
pub const ALL: &[Domain] = &[ATTESTATION, ATTESTATION_ID, STATE_DIGEST];
