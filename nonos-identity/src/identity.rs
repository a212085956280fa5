use core::fmt;

use zeroize::Zeroizing;

use crate::domains::{CONTEXT_KEY, EXECUTION_BLIND, ZK_SECRET};
use crate::hd::{Curve, HdNode};
use crate::key::{NodeId, SigningKey};
use crate::network::NetworkId;
use crate::role::Role;
use crate::time::Epoch;

/// Purpose of our branch of a seed: 0x4E4F, "NO".
const PURPOSE: u32 = 20_047;

/// The account below the purpose; one seed is one operator.
const ACCOUNT: u32 = 0;

/// The keys of a node below its root, derived from one 64-byte seed.
///
/// Derivation is SLIP-0010, hardened, `m/20047'/0'/role'/...`. The seed is held in memory while
/// the value lives and is wiped on drop. Where the root key is in a token, this is all there is
/// in memory.
pub struct RoleKeys {
    /// `m/20047'/0'` of the Ed25519 tree.
    signing: Box<HdNode>,
    /// `m/20047'/0'` of the X25519 tree.
    agreement: Box<HdNode>,
}

impl RoleKeys {
    /// The role keys of a seed.
    #[must_use]
    pub fn from_seed(seed: &[u8; 64]) -> Self {
        let account = |curve| HdNode::master(curve, seed).descend(PURPOSE.into()).descend(ACCOUNT.into());
        Self { signing: Box::new(account(Curve::Ed25519)), agreement: Box::new(account(Curve::Curve25519)) }
    }

    /// The key of a role, `m/20047'/0'/role'/generation'`; a rotation takes the next generation.
    ///
    /// For [`Role::RootSign`] this is a key below the root, not the root itself; for
    /// [`Role::Transport`] it is one that links networks, see [`Self::transport_key`].
    #[must_use]
    pub fn signing_key(&self, role: Role, generation: u32) -> SigningKey {
        SigningKey::from_seed(self.role(role).descend(generation.into()).key())
    }

    /// The transport key for one network. Two networks see unrelated keys of the same node.
    #[must_use]
    pub fn transport_key(&self, network: &NetworkId) -> SigningKey {
        SigningKey::from_seed(&self.role(Role::Transport).secret(CONTEXT_KEY, network.as_bytes()))
    }

    /// The X25519 key others encrypt to, `m/20047'/0'/4'/generation'` of the X25519 tree.
    #[must_use]
    pub fn static_secret(&self, generation: u32) -> StaticSecret {
        let role = self.agreement.descend(Role::StaticX25519.number().into());
        StaticSecret::from_bytes(role.descend(generation.into()).key())
    }

    /// The key of one run, `m/20047'/0'/5'/epoch'/slot'`. A slot signs once; the caller takes it
    /// from a [`SlotLog`](crate::SlotLog) before it signs.
    #[must_use]
    pub fn execution_key(&self, epoch: Epoch, slot: u32) -> SigningKey {
        SigningKey::from_seed(self.execution(epoch, slot).key())
    }

    /// The blind that hides the identity in the commitment of one run.
    #[must_use]
    pub fn execution_blind(&self, epoch: Epoch, slot: u32) -> Zeroizing<[u8; 32]> {
        self.execution(epoch, slot).secret(EXECUTION_BLIND, &[])
    }

    /// The secret behind zero-knowledge membership, from `m/20047'/0'/7'/generation'`.
    #[must_use]
    pub fn zk_secret(&self, generation: u32) -> Zeroizing<[u8; 32]> {
        self.role(Role::ZkIdentity).descend(generation.into()).secret(ZK_SECRET, &[])
    }

    fn role(&self, role: Role) -> HdNode {
        self.signing.descend(role.number().into())
    }

    fn execution(&self, epoch: Epoch, slot: u32) -> HdNode {
        self.execution_epoch(epoch).descend(slot.into())
    }

    /// All that the slots of one epoch need, and nothing of other epochs.
    pub(crate) fn execution_epoch(&self, epoch: Epoch) -> HdNode {
        self.role(Role::Execution).descend(epoch.number())
    }
}

impl fmt::Debug for RoleKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RoleKeys(..)")
    }
}

/// The secrets of an opened keystore: the root key of a node and its role keys, from one seed.
pub struct Identity {
    roles: RoleKeys,
    /// The public root key, which is no secret.
    node: NodeId,
}

impl Identity {
    /// Length of a seed in bytes (the output length of BIP39).
    pub const SEED_BYTES: usize = 64;

    /// The identity of a seed.
    #[must_use]
    pub fn from_seed(seed: &[u8; 64]) -> Self {
        let roles = RoleKeys::from_seed(seed);
        let root = SigningKey::from_seed(roles.role(Role::RootSign).key());
        Self { roles, node: root.public().node_id() }
    }

    /// The id of the node: its public root key.
    #[must_use]
    pub const fn node_id(&self) -> NodeId {
        self.node
    }

    /// The keys below the root.
    #[must_use]
    pub const fn roles(&self) -> &RoleKeys {
        &self.roles
    }

    /// The root key, `m/20047'/0'/0'`. It signs certificates; daily work is done by role keys.
    #[must_use]
    pub fn root_key(&self) -> SigningKey {
        SigningKey::from_seed(self.roles.role(Role::RootSign).key())
    }

    /// As [`RoleKeys::signing_key`].
    #[must_use]
    pub fn signing_key(&self, role: Role, generation: u32) -> SigningKey {
        self.roles.signing_key(role, generation)
    }

    /// As [`RoleKeys::transport_key`].
    #[must_use]
    pub fn transport_key(&self, network: &NetworkId) -> SigningKey {
        self.roles.transport_key(network)
    }

    /// As [`RoleKeys::static_secret`].
    #[must_use]
    pub fn static_secret(&self, generation: u32) -> StaticSecret {
        self.roles.static_secret(generation)
    }

    /// As [`RoleKeys::execution_key`].
    #[must_use]
    pub fn execution_key(&self, epoch: Epoch, slot: u32) -> SigningKey {
        self.roles.execution_key(epoch, slot)
    }

    /// As [`RoleKeys::execution_blind`].
    #[must_use]
    pub fn execution_blind(&self, epoch: Epoch, slot: u32) -> Zeroizing<[u8; 32]> {
        self.roles.execution_blind(epoch, slot)
    }

    /// As [`RoleKeys::zk_secret`].
    #[must_use]
    pub fn zk_secret(&self, generation: u32) -> Zeroizing<[u8; 32]> {
        self.roles.zk_secret(generation)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("node", &self.node).finish_non_exhaustive()
    }
}

/// An X25519 private key (RFC 7748), wiped on drop.
pub struct StaticSecret(Box<x25519_dalek::StaticSecret>);

/// The other side's X25519 key has a small order: everybody knows the shared secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("peer's key agreement key has a small order")]
pub struct SmallOrderError;

impl StaticSecret {
    /// The key of 32 random or derived bytes.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        Self(Box::new(x25519_dalek::StaticSecret::from(*bytes)))
    }

    /// The public key.
    #[must_use]
    pub fn public(&self) -> [u8; 32] {
        x25519_dalek::PublicKey::from(&*self.0).to_bytes()
    }

    /// The shared secret with the owner of a public key. Hash it before use.
    ///
    /// # Errors
    /// [`SmallOrderError`] if the result would not depend on our key; the peer's fault.
    pub fn diffie_hellman(&self, public: &[u8; 32]) -> Result<Zeroizing<[u8; 32]>, SmallOrderError> {
        let shared = self.0.diffie_hellman(&x25519_dalek::PublicKey::from(*public));
        if !shared.was_contributory() {
            return Err(SmallOrderError);
        }
        Ok(Zeroizing::new(shared.to_bytes()))
    }

    /// The scalar, for a component that must hold the key itself (a Noise handshake).
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes())
    }
}

impl fmt::Debug for StaticSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StaticSecret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        Identity::from_seed(&[7; 64])
    }

    fn at(curve: Curve, path: &str) -> HdNode {
        HdNode::master(curve, &[7; 64]).derive(&path.parse().expect("path"))
    }

    #[test]
    fn keys_stand_at_their_documented_paths() {
        let identity = identity();
        let ed = |path: &str| SigningKey::from_seed(at(Curve::Ed25519, path).key()).public();
        assert_eq!(identity.root_key().public(), ed("m/20047'/0'/0'"));
        assert_eq!(identity.node_id(), identity.root_key().public().node_id());
        for role in Role::ALL {
            let path = format!("m/20047'/0'/{}'/5'", role.number());
            assert_eq!(identity.signing_key(role, 5).public(), ed(&path), "{role}");
        }
        let slot = identity.execution_key(Epoch::from_number(2_963_000), 9);
        assert_eq!(slot.public(), ed("m/20047'/0'/5'/2963000'/9'"));
        let agreement = at(Curve::Curve25519, "m/20047'/0'/4'/2'");
        assert_eq!(*identity.static_secret(2).to_bytes(), **agreement.key());
    }

    #[test]
    fn no_two_purposes_share_a_secret() {
        let identity = identity();
        let (one, two) = (NetworkId::from_name("one"), NetworkId::from_name("two"));
        let (epoch, next) = (Epoch::from_number(8), Epoch::from_number(9));
        let mut secrets = vec![
            *identity.root_key().to_seed(),
            *identity.transport_key(&one).to_seed(),
            *identity.transport_key(&two).to_seed(),
            *identity.execution_key(epoch, 0).to_seed(),
            *identity.execution_key(epoch, 1).to_seed(),
            *identity.execution_key(epoch, u32::MAX).to_seed(),
            *identity.execution_key(next, 0).to_seed(),
            *identity.execution_key(Epoch::from_number(u64::MAX), 0).to_seed(),
            *identity.execution_key(Epoch::from_number((1 << 31) + 8), 0).to_seed(),
            *identity.execution_blind(epoch, 0),
            *identity.execution_blind(epoch, 1),
            *identity.execution_blind(next, 0),
            *identity.zk_secret(0),
            *identity.zk_secret(1),
            *identity.static_secret(0).to_bytes(),
            *identity.static_secret(1).to_bytes(),
        ];
        for role in Role::ALL {
            secrets
                .extend([0, 1, u32::MAX].map(|generation| *identity.signing_key(role, generation).to_seed()));
        }
        let count = secrets.len();
        secrets.sort_unstable();
        secrets.dedup();
        assert_eq!(secrets.len(), count);
    }

    #[test]
    fn the_same_seed_gives_the_same_node_and_another_another() {
        let network = NetworkId::from_name("one");
        let again = identity();
        assert_eq!(identity().node_id(), again.node_id());
        assert_eq!(identity().transport_key(&network).public(), again.transport_key(&network).public());
        assert_ne!(identity().node_id(), Identity::from_seed(&[8; 64]).node_id());
    }

    #[test]
    fn agreement_agrees_and_refuses_small_orders() {
        let (a, b) = (identity().static_secret(0), Identity::from_seed(&[8; 64]).static_secret(0));
        let shared = a.diffie_hellman(&b.public()).expect("honest key");
        assert_eq!(*shared, *b.diffie_hellman(&a.public()).expect("honest key"));
        let mut one = [0; 32];
        one[0] = 1;
        for small in [[0; 32], one] {
            assert_eq!(a.diffie_hellman(&small), Err(SmallOrderError));
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        let identity = identity();
        assert_eq!(format!("{identity:?}"), format!("Identity {{ node: {:?}, .. }}", identity.node_id()));
        assert_eq!(format!("{:?}", identity.static_secret(0)), "StaticSecret(..)");
    }
}
