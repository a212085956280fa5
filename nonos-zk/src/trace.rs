use core::fmt;

use ark_bn254::Fr;
use ark_ff::PrimeField;
use minicbor::{Decode, Encode};
use nonos_identity::WideDigest;
use zeroize::Zeroize;

use crate::element::element;
use crate::poseidon::{PoseidonField, Tag, hash};

/// Bytes of a wide digest in one field element: 22 bytes are 176 bits, far below the modulus.
pub(crate) const LIMB_BYTES: usize = 22;

element! {
    /// Poseidon commitment to the [`PolicyLimits`] a run had to keep.
    PolicyCommit
}

element! {
    /// Hiding Poseidon commitment to a [`Trace`] and the `exec_hash` it belongs to.
    ExecCommit
}

/// The limits a run had to keep, from the capsule's signed policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct PolicyLimits {
    /// Gas the run may use.
    #[n(0)]
    pub gas_limit: u64,
    /// Memory the run may reach, in wasm pages of 64 KiB.
    #[n(1)]
    pub pages_max: u32,
    /// Host calls the run may make, one bit for each call.
    #[n(2)]
    pub host_calls_allowed: u64,
    /// Features of the processor the run may use, one bit for each.
    #[n(3)]
    pub cpu_features_allowed: u32,
    /// Walls that must have stood around the run, one bit for each.
    #[n(4)]
    pub isolation_required: u16,
}

/// Places of the numbers of a trace, or of a policy, in one field element. Gas and pages have room for
/// the sum of two, so that a limit which is a sum in the circuit is still one number alone.
pub(crate) mod place {
    pub(crate) const GAS: u32 = 0;
    pub(crate) const PAGES: u32 = GAS + 64 + 2;
    pub(crate) const HOST_CALLS: u32 = PAGES + 32 + 2;
    pub(crate) const CPU_FEATURES: u32 = HOST_CALLS + 64;
    pub(crate) const ISOLATION: u32 = CPU_FEATURES + 32;
    /// Bits in all: below those of the field.
    pub(crate) const END: u32 = ISOLATION + 16;
}

const _: () = assert!(place::END < Fr::MODULUS_BIT_SIZE);

/// Two to a power.
pub(crate) fn power<F: PrimeField>(exponent: u32) -> F {
    F::from(2u8).pow([u64::from(exponent)])
}

/// The numbers in one element.
fn packed<F: PrimeField>(gas: u64, pages: u32, host_calls: u64, cpu_features: u32, isolation: u16) -> F {
    F::from(gas)
        + F::from(pages) * power::<F>(place::PAGES)
        + F::from(host_calls) * power::<F>(place::HOST_CALLS)
        + F::from(cpu_features) * power::<F>(place::CPU_FEATURES)
        + F::from(isolation) * power::<F>(place::ISOLATION)
}

impl PolicyLimits {
    /// The commitment that the circuit opens.
    #[must_use]
    pub fn commit(&self) -> PolicyCommit {
        PolicyCommit::wrap(&self.digest())
    }

    /// The same over any field.
    pub(crate) fn digest<F: PoseidonField>(&self) -> F {
        let Self { gas_limit, pages_max, host_calls_allowed, cpu_features_allowed, isolation_required } =
            *self;
        let limits =
            packed(gas_limit, pages_max, host_calls_allowed, cpu_features_allowed, isolation_required);
        hash(Tag::Policy, &[limits])
    }
}

/// What a run did; stays with the prover. The circuit proves statements about it, not that the
/// processor did it: peers who replay the run do that.
#[derive(Clone)]
pub struct Trace {
    /// Gas used.
    pub gas_used: u64,
    /// Largest memory reached, in wasm pages of 64 KiB.
    pub peak_pages: u32,
    /// Host calls made, one bit for each call, as in [`PolicyLimits::host_calls_allowed`].
    pub host_calls: u64,
    /// Features of the processor used, as in [`PolicyLimits::cpu_features_allowed`].
    pub cpu_features: u32,
    /// Walls that stood, as in [`PolicyLimits::isolation_required`].
    pub isolation: u16,
    /// SHA3-512 of the payload that ran.
    pub payload: WideDigest,
    /// The checkpoint digests in order.
    pub checkpoints: Vec<WideDigest>,
    /// 32 fresh random bytes that make the commitment hiding.
    pub blind: [u8; 32],
}

impl Trace {
    /// The commitment to this trace for a run with this `exec_hash`.
    ///
    /// Whoever is shown the trace recomputes it.
    #[must_use]
    pub fn commit(&self, exec_hash: &WideDigest) -> ExecCommit {
        ExecCommit::wrap(&self.digest(exec_hash))
    }

    /// The same over any field.
    pub(crate) fn digest<F: PoseidonField>(&self, exec_hash: &WideDigest) -> F {
        let inputs = [
            exec_digest(exec_hash),
            payload_digest(&self.payload),
            self.chain(),
            packed(self.gas_used, self.peak_pages, self.host_calls, self.cpu_features, self.isolation),
            self.blind(),
        ];
        hash(Tag::Execution, &inputs)
    }

    /// The end of the Poseidon chain over the checkpoints, which starts with their number.
    pub(crate) fn chain<F: PoseidonField>(&self) -> F {
        let start = hash(Tag::Chain, &[F::from(self.checkpoints.len() as u64)]);
        self.checkpoints.iter().fold(start, |link, checkpoint| {
            let [a, b, c] = limbs(checkpoint);
            hash(Tag::Checkpoint, &[link, a, b, c])
        })
    }

    pub(crate) fn blind<F: PrimeField>(&self) -> F {
        F::from_le_bytes_mod_order(&self.blind)
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        self.blind.zeroize();
    }
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trace").field("checkpoints", &self.checkpoints.len()).finish_non_exhaustive()
    }
}

/// The one public input that stands for `exec_hash`.
pub(crate) fn exec_digest<F: PoseidonField>(exec_hash: &WideDigest) -> F {
    hash(Tag::ExecHash, &limbs(exec_hash))
}

/// The payload's digest as one element.
pub(crate) fn payload_digest<F: PoseidonField>(payload: &WideDigest) -> F {
    hash(Tag::Payload, &limbs(payload))
}

/// The one public input that stands for the payload's commitment.
pub(crate) fn payload_commit<F: PoseidonField>(commit: &WideDigest) -> F {
    hash(Tag::PayloadCommit, &limbs(commit))
}

/// A wide digest as three little-endian integers of 22, 22 and 20 bytes.
fn limbs<F: PrimeField>(digest: &WideDigest) -> [F; 3] {
    let mut limbs = digest.as_bytes().chunks(LIMB_BYTES).map(F::from_le_bytes_mod_order);
    core::array::from_fn(|_| limbs.next().unwrap_or_default())
}
