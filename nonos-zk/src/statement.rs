use minicbor::{Decode, Encode};
use nonos_identity::wire::Wire;
use nonos_identity::{Digest, Epoch, NetworkId, PublicKey, WideDigest};

use ark_bn254::Fr;
use ark_ff::PrimeField;

use crate::domains;
use crate::element::print;
use crate::gates::{self, Gate};
use crate::identity::{IdentityRoot, IdentitySecret, Nullifier};
use crate::trace::{ExecCommit, PolicyLimits, Trace, exec_digest};
use crate::tree::TreePath;

/// What a proof is about; every field is public.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Statement {
    /// The capsule that ran.
    #[n(0)]
    pub capsule_id: WideDigest,
    /// The execution hash of the run.
    #[n(1)]
    pub exec_hash: WideDigest,
    /// The limits it had to keep. Compare them with the signed policy of the capsule.
    #[n(2)]
    pub policy: PolicyLimits,
    /// Commitment to the trace.
    #[n(3)]
    pub exec_commit: ExecCommit,
    /// The tree of operators the prover is in.
    #[n(4)]
    pub id_root: IdentityRoot,
    /// Spends one slot of the prover's epoch; the id of the receipt.
    #[n(5)]
    pub nullifier: Nullifier,
    /// The epoch of the run.
    #[n(6)]
    pub epoch: Epoch,
    /// The nonce of the job. Whether it is fresh is for the verifier who issued it to say.
    #[cbor(n(7), with = "minicbor::bytes")]
    pub nonce: [u8; 32],
    /// The mesh.
    #[n(8)]
    pub network: NetworkId,
    /// The one-run execution key, which signs the receipt.
    #[n(9)]
    pub exec_key: PublicKey,
    /// Hiding commitment to node, address, epoch and slot.
    #[n(10)]
    pub id_commit: Digest,
}

impl Wire for Statement {
    const MAX_BYTES: usize = 512;
}

/// The public inputs of a proof, in the circuit's order.
pub(crate) struct PublicInputs {
    pub(crate) policy_commit: Fr,
    pub(crate) exec_digest: Fr,
    pub(crate) exec_commit: Fr,
    pub(crate) id_root: Fr,
    pub(crate) nullifier: Fr,
    pub(crate) epoch: Fr,
    pub(crate) context: Fr,
}

/// Number of public inputs.
pub(crate) const PUBLIC_INPUTS: usize = 7;

impl PublicInputs {
    pub(crate) const fn to_array(&self) -> [Fr; PUBLIC_INPUTS] {
        [
            self.policy_commit,
            self.exec_digest,
            self.exec_commit,
            self.id_root,
            self.nullifier,
            self.epoch,
            self.context,
        ]
    }
}

impl Statement {
    /// The field elements a verifier of the `Lite` circuit takes, in order, each as 32
    /// little-endian bytes: policy commitment, digest of `exec_hash`, execution commitment,
    /// identity root, nullifier, epoch, context.
    #[must_use]
    pub fn public_inputs(&self) -> [[u8; 32]; 7] {
        self.inputs().to_array().map(|element| print(&element))
    }

    pub(crate) fn inputs(&self) -> PublicInputs {
        PublicInputs {
            policy_commit: self.policy.commit().unwrap(),
            exec_digest: exec_digest(&self.exec_hash),
            exec_commit: self.exec_commit.unwrap(),
            id_root: self.id_root.unwrap(),
            nullifier: self.nullifier.unwrap(),
            epoch: Fr::from(self.epoch.number()),
            context: self.context(),
        }
    }

    /// Everything the circuit does not open, as one element: a proof holds for this capsule, run,
    /// job, network and execution key alone.
    fn context(&self) -> Fr {
        let digest = Digest::of(
            domains::CONTEXT,
            &[
                self.capsule_id.as_ref(),
                self.exec_hash.as_ref(),
                &self.epoch.number().to_le_bytes(),
                &self.nonce,
                self.network.as_bytes(),
                self.exec_key.as_bytes(),
                self.id_commit.as_ref(),
            ],
        );
        Fr::from_le_bytes_mod_order(digest.as_bytes())
    }
}

/// What only the prover knows.
#[derive(Clone, Debug)]
pub struct Witness {
    /// The enrolled secret.
    pub secret: IdentitySecret,
    /// The way from its commitment to the root in the statement.
    pub path: TreePath,
    /// What the run did.
    pub trace: Trace,
    /// The slot of the epoch, below [`SLOTS_PER_EPOCH`](crate::SLOTS_PER_EPOCH).
    pub slot: u32,
}

impl Witness {
    /// Checks every gate natively, as each prover does before the costly part.
    ///
    /// # Errors
    /// The first [`Gate`] that this witness does not pass for the statement.
    pub fn check(&self, statement: &Statement) -> Result<(), Gate> {
        gates::check(statement, self)
    }
}
