use core::fmt;

use minicbor::{Decode, Encode};

use crate::address::OnionAddress;
use crate::binding::Binding;
use crate::digest::Digest;
use crate::domains::ID_COMMITMENT;
use crate::hex;
use crate::key::{NodeId, PublicKey};
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

/// What a receipt shows of the identity behind it: as long for every node, and random to whoever
/// lacks the blind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct PublicRun {
    /// The commitment.
    #[n(0)]
    pub commitment: IdCommitment,
    /// The key that signed the receipt.
    #[n(1)]
    pub exec_key: PublicKey,
    /// The epoch of the run.
    #[n(2)]
    pub epoch: Epoch,
}

impl Wire for PublicRun {
    const MAX_BYTES: usize = 80;
}

/// Everything an [`IdCommitment`] hides. Whoever holds it can link the run to the node and can
/// show that to others, so it travels encrypted.
///
/// Onion address and transport key are the node's own word until a [`Binding`] shows that they
/// are its own.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub struct RunIdentity {
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
    /// 32 secret bytes used for no other slot; they do the hiding.
    #[cbor(n(5), with = "minicbor::bytes")]
    pub blind: [u8; 32],
}

impl Wire for RunIdentity {
    const MAX_BYTES: usize = 192;
}

impl RunIdentity {
    /// The commitment to it, for a receipt signed by `exec_key`. It covers that key, so nobody
    /// else can claim the receipt.
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

    /// What a receipt signed by `exec_key` shows of it.
    #[must_use]
    pub fn public(&self, exec_key: PublicKey) -> PublicRun {
        PublicRun { commitment: self.commit(&exec_key), exec_key, epoch: self.epoch }
    }

    /// Whether a binding shows onion address and transport key to be the node's own.
    #[must_use]
    pub fn is_bound_by(&self, binding: &Verified<Binding>) -> bool {
        binding.node() == self.node && binding.peer() == self.peer && binding.onion() == self.onion
    }
}

impl fmt::Debug for RunIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunIdentity")
            .field("node", &self.node)
            .field("epoch", &self.epoch)
            .field("slot", &self.slot)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::*;
    use crate::address::OnionNetwork;
    use crate::identity::Identity;
    use crate::network::NetworkId;
    use crate::role::Role;
    use crate::time::Timestamp;
    use crate::verified::Unverified;

    fn net() -> NetworkId {
        NetworkId::from_name("test")
    }

    fn run(seed: u8) -> (RunIdentity, PublicKey) {
        let identity = Identity::from_seed(&[seed; 64]);
        let (epoch, slot) = (Epoch::from_number(1_666), 3);
        let onion = identity.signing_key(Role::Onion, 0).public();
        let run = RunIdentity {
            node: identity.node_id(),
            onion: OnionAddress::new(OnionNetwork::Mesh, onion),
            peer: identity.transport_key(&net()).public(),
            epoch,
            slot,
            blind: *identity.execution_blind(epoch, slot),
        };
        (run, identity.execution_key(epoch, slot).public())
    }

    #[test]
    fn every_field_is_bound() {
        let ((run, key), (other, other_key)) = (run(1), run(2));
        let commitment = run.commit(&key);
        let mut blind = run.blind;
        blind[31] ^= 1;
        let tor = OnionAddress::new(OnionNetwork::Tor, run.onion.key());
        for wrong in [
            RunIdentity { node: other.node, ..run.clone() },
            RunIdentity { onion: other.onion, ..run.clone() },
            RunIdentity { onion: tor, ..run.clone() },
            RunIdentity { peer: other.peer, ..run.clone() },
            RunIdentity { epoch: run.epoch.next(), ..run.clone() },
            RunIdentity { slot: run.slot + 1, ..run.clone() },
            RunIdentity { blind, ..run.clone() },
            other,
        ] {
            assert_ne!(wrong.commit(&key), commitment, "{wrong:?}");
        }
        assert_ne!(run.commit(&other_key), commitment);
        assert_eq!(run.public(key), PublicRun { commitment, exec_key: key, epoch: run.epoch });
    }

    #[test]
    fn a_binding_shows_address_and_transport_key() {
        let bind = |seed: u8, generation: u32| {
            let identity = Identity::from_seed(&[seed; 64]);
            let (onion, peer) =
                (identity.signing_key(Role::Onion, generation), identity.transport_key(&net()));
            let (now, day) = (Timestamp::from_secs(1_000_000), Duration::from_secs(86_400));
            let root = identity.root_key();
            let bound = Binding::issue(&root, &peer, &onion, OnionNetwork::Mesh, 0, now, day, &net());
            Unverified::new(bound.expect("in the rules")).check_issued(&net(), now).expect("valid")
        };
        let (run, _) = run(1);
        assert!(run.is_bound_by(&bind(1, 0)));
        assert!(!run.is_bound_by(&bind(1, 1)) && !run.is_bound_by(&bind(2, 0)));
    }

    #[test]
    fn debug_does_not_show_the_blind() {
        assert!(!format!("{:?}", run(1).0).contains("blind"));
    }
}
