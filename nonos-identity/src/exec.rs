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

    /// As [`Self::check`], and that the named node certified the execution key for that time:
    /// nobody can be named as the one who ran without having signed for it. An auditor who
    /// comes later checks the certificate at the start of the epoch, not at the time of the audit.
    ///
    /// # Errors
    /// [`OpeningError`] if commitment, node, role or key differ or the certificate is valid at
    /// no second of the epoch.
    pub fn check_certified(
        &self,
        commitment: &IdCommitment,
        certificate: &Verified<Certificate>,
    ) -> Result<(), OpeningError> {
        if certificate.role() != Role::Execution || certificate.node() != self.node {
            return Err(OpeningError);
        }
        if certificate.not_before() >= self.epoch.end() || certificate.not_after() <= self.epoch.start() {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::OnionNetwork;
    use crate::identity::Identity;
    use crate::key::SigningKey;
    use crate::network::NetworkId;
    use crate::time::Timestamp;
    use crate::verified::Unverified;
    use crate::wire;

    const NOW: Timestamp = Timestamp::from_secs(1_000_000);

    fn net() -> NetworkId {
        NetworkId::from_name("test")
    }

    fn run(identity: &Identity) -> (Opening, SigningKey) {
        let (epoch, slot) = (Epoch::at(NOW), 3);
        let onion = identity.signing_key(Role::Onion, 0).public();
        let opening = Opening {
            node: identity.node_id(),
            onion: OnionAddress::new(OnionNetwork::Mesh, onion),
            peer: identity.transport_key(&net()).public(),
            epoch,
            slot,
            blind: *identity.execution_blind(epoch, slot),
        };
        (opening, identity.execution_key(epoch, slot))
    }

    fn certify(identity: &Identity, key: &SigningKey, role: Role) -> Verified<Certificate> {
        certify_from(NOW, identity, key, role)
    }

    /// For ten minutes, the length of an epoch.
    fn certify_from(
        start: Timestamp,
        identity: &Identity,
        key: &SigningKey,
        role: Role,
    ) -> Verified<Certificate> {
        let root = identity.root_key();
        let certificate = Certificate::issue(&root, key, role, 0, start, Epoch::LENGTH, &net());
        Unverified::new(certificate.expect("within the rules"))
            .check_issued(role, &net(), start)
            .expect("valid")
    }

    #[test]
    fn the_right_opening_opens() {
        let a = Identity::from_seed(&[1; 64]);
        let (opening, key) = run(&a);
        let commitment = opening.commit(&key.public());
        let received: Opening = wire::from_bytes(&wire::to_bytes(&opening)).expect("canonical");
        assert_eq!(received.check(&commitment, &key.public()), Ok(()));
        assert_eq!(received.check_certified(&commitment, &certify(&a, &key, Role::Execution)), Ok(()));
    }

    #[test]
    fn every_field_is_bound() {
        let (opening, key) = run(&Identity::from_seed(&[1; 64]));
        let (other, other_key) = run(&Identity::from_seed(&[2; 64]));
        let commitment = opening.commit(&key.public());
        let mut blind = opening.blind;
        blind[31] ^= 1;
        let tor = OnionAddress::new(OnionNetwork::Tor, opening.onion.key());
        for wrong in [
            Opening { node: other.node, ..opening.clone() },
            Opening { onion: other.onion, ..opening.clone() },
            Opening { onion: tor, ..opening.clone() },
            Opening { peer: other.peer, ..opening.clone() },
            Opening { epoch: opening.epoch.next(), ..opening.clone() },
            Opening { slot: opening.slot + 1, ..opening.clone() },
            Opening { blind, ..opening.clone() },
            other,
        ] {
            assert_eq!(wrong.check(&commitment, &key.public()), Err(OpeningError), "{wrong:?}");
        }
        assert_eq!(opening.check(&commitment, &other_key.public()), Err(OpeningError));
    }

    /// B sees A's receipt, so it knows A's execution key and commitment, and wants the reward.
    #[test]
    fn a_rival_cannot_claim_a_run() {
        let (a, b) = (Identity::from_seed(&[1; 64]), Identity::from_seed(&[2; 64]));
        let (opening_a, key_a) = run(&a);
        let (opening_b, key_b) = run(&b);
        let commitment = opening_a.commit(&key_a.public());

        // With its own opening, with or without a certificate for its own key.
        assert_eq!(opening_b.check(&commitment, &key_a.public()), Err(OpeningError));
        let certificate_b = certify(&b, &key_b, Role::Execution);
        assert_eq!(opening_b.check_certified(&commitment, &certificate_b), Err(OpeningError));
        // With A's opening, once it got hold of it: the opening still names A.
        assert_eq!(opening_a.check_certified(&commitment, &certificate_b), Err(OpeningError));
        let renamed = Opening { node: b.node_id(), ..opening_a };
        assert_eq!(renamed.check(&commitment, &key_a.public()), Err(OpeningError));
        // By certifying A's key: it cannot prove possession, which `check_issued` asks for.
    }

    /// B runs something bad and commits to A's public identity.
    #[test]
    fn a_rival_cannot_name_another_as_the_one_who_ran() {
        let (a, b) = (Identity::from_seed(&[1; 64]), Identity::from_seed(&[2; 64]));
        let (opening_b, key_b) = run(&b);
        let framing = Opening { node: a.node_id(), ..opening_b };
        let commitment = framing.commit(&key_b.public());
        assert_eq!(framing.check(&commitment, &key_b.public()), Ok(()), "a commitment alone does not tell");
        let certificate = certify(&b, &key_b, Role::Execution);
        assert_eq!(framing.check_certified(&commitment, &certificate), Err(OpeningError));
    }

    #[test]
    fn the_certificate_must_be_for_execution() {
        let a = Identity::from_seed(&[1; 64]);
        let (opening, key) = run(&a);
        let commitment = opening.commit(&key.public());
        let certificate = certify(&a, &key, Role::Author);
        assert_eq!(opening.check_certified(&commitment, &certificate), Err(OpeningError));
    }

    #[test]
    fn the_certificate_must_be_valid_in_the_epoch() {
        let a = Identity::from_seed(&[1; 64]);
        let (opening, key) = run(&a);
        let commitment = opening.commit(&key.public());
        let check = |start| {
            let certificate = certify_from(Timestamp::from_secs(start), &a, &key, Role::Execution);
            opening.check_certified(&commitment, &certificate)
        };
        let (start, end) = (opening.epoch.start().as_secs(), opening.epoch.end().as_secs());
        let length = Epoch::LENGTH.as_secs();
        assert_eq!(check(start - length), Err(OpeningError));
        assert_eq!(check(start - length + 1), Ok(()));
        assert_eq!(check(end - 1), Ok(()));
        assert_eq!(check(end), Err(OpeningError));
    }

    #[test]
    fn debug_does_not_show_the_blind() {
        let (opening, _) = run(&Identity::from_seed(&[1; 64]));
        assert!(!format!("{opening:?}").contains("blind"));
    }
}
