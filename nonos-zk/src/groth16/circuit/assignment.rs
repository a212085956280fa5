use ark_bn254::Fr;
use nonos_identity::WideDigest;

use super::identity::Identity;
use crate::proof::Profile;
use crate::statement::{Statement, Witness};
use crate::trace::payload_digest;

/// One value for every wire that is not computed from another one.
#[derive(Clone)]
pub(super) struct Assignment {
    pub(super) public: Vec<Fr>,
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
    pub(super) chain: Fr,
    pub(super) blind: Fr,
    /// What `Full` computes the next one from.
    pub(super) payload: [u8; 64],
    pub(super) payload_digest: Fr,
    pub(super) identity: Identity,
}

impl Assignment {
    /// The values an honest prover puts in; wrong ones, not refused, if the witness is.
    pub(super) fn honest(profile: Profile, statement: &Statement, witness: &Witness) -> Self {
        let Statement { policy, .. } = statement;
        let Witness { trace, secret, path, slot } = witness;
        Self {
            public: statement.inputs(profile),
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
            identity: Identity::of(secret, path, *slot, statement.job(), &statement.exec_key),
        }
    }
}
