use nonos_identity::WideDigest;

use crate::identity::SLOTS_PER_EPOCH;
use crate::proof::Profile;
use crate::statement::{Statement, Witness};

/// A condition of the circuit, for the message that says which one a witness does not meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Gate {
    /// State gate: more gas used than allowed.
    #[error("state gate: gas over the limit")]
    Gas,
    /// State gate: more memory reached than allowed.
    #[error("state gate: pages over the limit")]
    Pages,
    /// State gate: a host call that the policy does not allow.
    #[error("state gate: host call not allowed")]
    HostCalls,
    /// State gate: a feature of the processor that the policy does not allow.
    #[error("state gate: processor feature not allowed")]
    CpuFeatures,
    /// State gate: a wall that the policy requires did not stand.
    #[error("state gate: required isolation is missing")]
    Isolation,
    /// The trace does not open the execution commitment for this `exec_hash`.
    #[error("execution gate: trace does not open the commitment")]
    Execution,
    /// Hash gate: the payload of the trace is not the one that the capsule commits to.
    #[error("hash gate: payload of another capsule")]
    Payload,
    /// Identity gate: slot beyond the limit of the epoch.
    #[error("identity gate: slot beyond the limit of the epoch")]
    Slot,
    /// Identity gate: the secret's commitment is not under the root.
    #[error("identity gate: not a member of the tree")]
    Membership,
    /// Identity gate: the nullifier is not that of secret, epoch and slot.
    #[error("identity gate: nullifier of another secret, epoch or slot")]
    Nullifier,
    /// Identity gate: the link is not that of secret and execution key.
    #[error("identity gate: link of another secret or execution key")]
    KeyLink,
}

impl Gate {
    /// Whether the circuit of a profile has a constraint for it. A prover checks all of them.
    #[must_use]
    pub const fn is_in(self, profile: Profile) -> bool {
        !matches!((self, profile), (Self::Payload, Profile::Lite))
    }
}

/// Checks all gates natively.
pub(crate) fn check(statement: &Statement, witness: &Witness) -> Result<(), Gate> {
    let (policy, trace) = (&statement.policy, &witness.trace);
    let payload_commit = WideDigest::of_bytes(trace.payload.as_ref());
    let gates = [
        (Gate::Gas, trace.gas_used <= policy.gas_limit),
        (Gate::Pages, trace.peak_pages <= policy.pages_max),
        (Gate::HostCalls, trace.host_calls & !policy.host_calls_allowed == 0),
        (Gate::CpuFeatures, trace.cpu_features & !policy.cpu_features_allowed == 0),
        (Gate::Isolation, policy.isolation_required & !trace.isolation == 0),
        (Gate::Execution, trace.commit(&statement.exec_hash) == statement.exec_commit),
        (Gate::Payload, payload_commit == statement.payload_commit),
        (Gate::Slot, witness.slot < SLOTS_PER_EPOCH),
        (Gate::Membership, witness.path.root(&witness.secret.commitment()) == statement.id_root),
        (Gate::Nullifier, witness.secret.nullifier(statement.epoch, witness.slot) == statement.nullifier),
        (Gate::KeyLink, witness.secret.key_link(&statement.exec_key) == statement.key_link),
    ];
    gates.into_iter().find(|(_, holds)| !holds).map_or(Ok(()), |(gate, _)| Err(gate))
}
