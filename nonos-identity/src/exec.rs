//! The hidden identity behind a one-run execution key.
//!
//! A receipt shows the execution key and an [`IdCommitment`]. Nobody who lacks the blind learns
//! from it which node ran. An [`Opening`], handed to an authorised verifier over an encrypted
//! channel, discloses one run. The commitment covers the execution key, so another node cannot
//! claim the receipt; that the named node agreed is shown by its certificate for that key.

use core::fmt;

use minicbor::{Decode, Encode};

use crate::address::OnionAddress;
use crate::certificate::Certificate;
use crate::digest::Digest;
use crate::domains::ID_COMMITMENT;
use crate::hex;
use crate::key::{NodeId, PublicKey};
use crate::role::Role;
use crate::time::Epoch;
use crate::verified::Verified;
use crate::wire::Wire;

/// A hiding and binding commitment to the identity that holds an execution key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IdCommitment([u8; 32]);

impl IdCommitment {
    /// From its bytes, unchecked: what it commits to shows when it is opened.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for IdCommitment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IdCommitment({self})")
    }
}

hex::text_form!(IdCommitment, 32);
crate::wire::fixed_bytes!(IdCommitment, 32);

impl Wire for IdCommitment {
    const MAX_BYTES: usize = 34;
}

/// Everything an [`IdCommitment`] hides. Whoever holds it can link the run to the node and can
/// show that to others, so it travels encrypted.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub struct Opening {
    /// The node that ran.
    #[n(0)]
    pub node: NodeId,
    /// Its onion address at that time.
    #[n(1)]
    pub onion: OnionAddress,
    /// Its transport key at that time; a libp2p peer id is a form of this key.
    #[n(2)]
    pub peer: PublicKey,
    /// The epoch of the slot.
    #[n(3)]
    pub epoch: Epoch,
    /// The slot within the epoch.
    #[n(4)]
    pub slot: u32,
    /// 32 secret bytes used for no other commitment; they do the hiding.
    #[cbor(n(5), with = "minicbor::bytes")]
    pub blind: [u8; 32],
}

impl Wire for Opening {
    const MAX_BYTES: usize = 192;
}

/// An opening that does not fit the commitment. It says that, and not where, for a wrong opening
/// discloses nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("opening does not fit the commitment")]
pub struct OpeningError;

impl Opening {
    /// The commitment that this opens, for a receipt signed by `exec_key`.
    #[must_use]
    pub fn commit(&self, exec_key: &PublicKey) -> IdCommitment {
        let digest = Digest::of(
            ID_COMMITMENT,
            &[
                self.node.as_bytes(),
                &self.onion.to_bytes(),
                self.peer.as_bytes(),
                &self.epoch.number().to_le_bytes(),
                &self.slot.to_le_bytes(),
                &self.blind,
                exec_key.as_bytes(),
            ],
        );
        IdCommitment(*digest.as_bytes())
    }

    /// Checks that the signer of a receipt committed to this identity. It does not show that
    /// the named node agreed: see [`Self::check_certified`].
    ///
    /// # Errors
    /// [`OpeningError`] if it opens another commitment or that of another execution key.
    pub fn check(&self, commitment: &IdCommitment, exec_key: &PublicKey) -> Result<(), OpeningError> {
        if self.commit(exec_key) == *commitment { Ok(()) } else { Err(OpeningError) }
    }

    /// As [`Self::check`], and that the named node certified the execution key: nobody can be
    /// named as the one who ran without having signed for it.
    ///
    /// # Errors
    /// [`OpeningError`] if the commitment, the node, the role or the key differ.
    pub fn check_certified(
        &self,
        commitment: &IdCommitment,
        certificate: &Verified<Certificate>,
    ) -> Result<(), OpeningError> {
        if certificate.role() != Role::Execution || certificate.node() != self.node {
            return Err(OpeningError);
        }
        self.check(commitment, &certificate.subject())
    }
}

impl fmt::Debug for Opening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opening")
            .field("node", &self.node)
            .field("epoch", &self.epoch)
            .field("slot", &self.slot)
            .finish_non_exhaustive()
    }
}
