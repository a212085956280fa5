use minicbor::{Decode, Encode};
use nonos_identity::wire::Wire;
use nonos_identity::{Digest, Epoch, NetworkId, PublicKey, WideDigest};

use ark_bn254::Fr;
use ark_ff::PrimeField;

use crate::domains;
use crate::element::print;
use crate::gates::{self, Gate};
use crate::identity::{IdentityRoot, IdentitySecret, KeyLink, Nullifier, key_digest};
use crate::poseidon::{Tag, hash};
use crate::proof::Profile;
use crate::trace::{ExecCommit, PolicyLimits, Trace, exec_digest, payload_commit};
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
    /// The prover's mark on the execution key.
    #[n(11)]
    pub key_link: KeyLink,
    /// SHA3-512 of the payload's SHA3-512. Compare it with the signed manifest of the capsule; a
    /// manifest may show it and keep the payload's digest to itself. [`Profile::Full`] opens it.
    #[n(12)]
    pub payload_commit: WideDigest,
}

impl Wire for Statement {
    const MAX_BYTES: usize = 640;
}

impl Profile {
    /// Number of public inputs.
    #[must_use]
    pub const fn public_inputs(self) -> usize {
        match self {
            Self::Lite => 8,
            Self::Full => 9,
            Self::Transit => 7,
        }
    }
}

impl Statement {
    /// The field elements a verifier of a profile's circuit takes, in order, each as 32 little-endian
    /// bytes: policy commitment, digest of `exec_hash`, execution commitment, identity root, nullifier,
    /// epoch, context, key link, and for [`Profile::Full`] the digest of the payload's commitment. None for
    /// [`Profile::Transit`], which is not about receipts.
    #[must_use]
    pub fn public_inputs(&self, profile: Profile) -> Vec<[u8; 32]> {
        self.inputs(profile).iter().map(print).collect()
    }

    /// The public inputs of a proof, in the circuit's order.
    pub(crate) fn inputs(&self, profile: Profile) -> Vec<Fr> {
        // No key for transit is ever used on a receipt.
        if profile == Profile::Transit {
            return Vec::new();
        }
        let mut inputs = vec![
            self.policy.commit().unwrap(),
            exec_digest(&self.exec_hash),
            self.exec_commit.unwrap(),
            self.id_root.unwrap(),
            self.nullifier.unwrap(),
            Fr::from(self.epoch.number()),
            hash(Tag::Context, &[self.job(), key_digest(&self.exec_key)]),
            self.key_link.unwrap(),
        ];
        if profile == Profile::Full {
            inputs.push(payload_commit(&self.payload_commit));
        }
        inputs
    }

    /// Everything the circuit does not open, as one element: a proof holds for this capsule, run,
    /// job and network alone.
    pub(crate) fn job(&self) -> Fr {
        let digest = Digest::of(
            domains::CONTEXT,
            &[
                self.capsule_id.as_ref(),
                self.payload_commit.as_ref(),
                self.exec_hash.as_ref(),
                &self.epoch.number().to_le_bytes(),
                &self.nonce,
                self.network.as_bytes(),
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
