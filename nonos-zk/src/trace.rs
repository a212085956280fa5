use core::fmt;

use ark_bn254::Fr;
use ark_ff::PrimeField;
use minicbor::{Decode, Encode};
use nonos_identity::WideDigest;
use zeroize::Zeroize;

use crate::element::element;
use crate::poseidon::{Tag, hash};

/// Bytes of a wide digest in one field element: 22 bytes are 176 bits, far below the modulus.
const LIMB_BYTES: usize = 22;

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
}

impl PolicyLimits {
    /// The commitment that the circuit opens.
    #[must_use]
    pub fn commit(&self) -> PolicyCommit {
        PolicyCommit::wrap(&hash(
            Tag::Policy,
            &[Fr::from(self.gas_limit), Fr::from(self.pages_max), Fr::from(self.host_calls_allowed)],
        ))
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
        let inputs = [
            exec_digest(exec_hash),
            self.chain(),
            Fr::from(self.gas_used),
            Fr::from(self.peak_pages),
            Fr::from(self.host_calls),
            self.blind(),
        ];
        ExecCommit::wrap(&hash(Tag::Execution, &inputs))
    }

    /// The end of the Poseidon chain over the checkpoints, which starts with their number.
    pub(crate) fn chain(&self) -> Fr {
        let start = hash(Tag::Chain, &[Fr::from(self.checkpoints.len() as u64)]);
        self.checkpoints.iter().fold(start, |link, checkpoint| {
            let [a, b, c] = limbs(checkpoint);
            hash(Tag::Checkpoint, &[link, a, b, c])
        })
    }

    pub(crate) fn blind(&self) -> Fr {
        Fr::from_le_bytes_mod_order(&self.blind)
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
pub(crate) fn exec_digest(exec_hash: &WideDigest) -> Fr {
    hash(Tag::ExecHash, &limbs(exec_hash))
}

/// A wide digest as three little-endian integers of 22, 22 and 20 bytes.
fn limbs(digest: &WideDigest) -> [Fr; 3] {
    let mut limbs = digest.as_bytes().chunks(LIMB_BYTES).map(Fr::from_le_bytes_mod_order);
    core::array::from_fn(|_| limbs.next().unwrap_or_default())
}
