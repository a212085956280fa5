use ark_bn254::Fr;
use nonos_identity::WideDigest;

use super::identity::Identity;
use crate::poseidon::PoseidonField;
use crate::proof::Profile;
use crate::statement::{Statement, Witness};
use crate::trace::{PolicyLimits, Trace, payload_digest};

/// One value for every wire that is not computed from another one.
#[derive(Clone)]
pub(super) struct Assignment<F> {
    pub(super) public: Vec<F>,
    pub(super) gas_used: u64,
    /// The limit less what was used, which has to fit 64 bits.
    pub(super) gas_left: u64,
    pub(super) peak_pages: u32,
    pub(super) pages_left: u32,
    pub(super) host_calls_allowed: u64,
    pub(super) host_calls: u64,
    pub(super) cpu_features_allowed: u32,
    pub(super) cpu_features: u32,
    pub(super) isolation_required: u16,
    pub(super) isolation: u16,
    pub(super) chain: F,
    pub(super) blind: F,
    /// What `Full` computes the next one from.
    pub(super) payload: [u8; 64],
    pub(super) payload_digest: F,
    pub(super) identity: Identity<F>,
}

impl<F: PoseidonField> Assignment<F> {
    /// The values of a prover whose run was this, for these public inputs.
    pub(super) fn new(public: Vec<F>, policy: &PolicyLimits, trace: &Trace, identity: Identity<F>) -> Self {
        Self {
            public,
            gas_used: trace.gas_used,
            gas_left: policy.gas_limit.wrapping_sub(trace.gas_used),
            peak_pages: trace.peak_pages,
            pages_left: policy.pages_max.wrapping_sub(trace.peak_pages),
            host_calls_allowed: policy.host_calls_allowed,
            host_calls: trace.host_calls,
            cpu_features_allowed: policy.cpu_features_allowed,
            cpu_features: trace.cpu_features,
            isolation_required: policy.isolation_required,
            isolation: trace.isolation,
            chain: trace.chain(),
            blind: trace.blind(),
            payload: *WideDigest::as_bytes(&trace.payload),
            payload_digest: payload_digest(&trace.payload),
            identity,
        }
    }
}

impl Assignment<Fr> {
    /// The values an honest prover puts in; wrong ones, not refused, if the witness is.
    pub(super) fn honest(profile: Profile, statement: &Statement, witness: &Witness) -> Self {
        let Witness { trace, secret, path, slot } = witness;
        let identity = Identity::of(secret, path.steps(), *slot, statement.job(), &statement.exec_key);
        Self::new(statement.inputs(profile), &statement.policy, trace, identity)
    }
}
