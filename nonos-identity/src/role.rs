use core::fmt;

use minicbor::{Decode, Encode};

/// What a key is for. Every role has its own key; the number is its branch of the derivation
/// tree, `m/20047'/0'/role'`, and its code on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(index_only)]
#[non_exhaustive]
pub enum Role {
    /// Signs certificates and nothing else; its public key is the node's id.
    #[n(0)]
    RootSign,
    /// Authenticates mesh connections.
    #[n(1)]
    Transport,
    /// Onion address.
    #[n(2)]
    Onion,
    /// Signs epoch heads.
    #[n(3)]
    EpochSigner,
    /// X25519 key that others encrypt to.
    #[n(4)]
    StaticX25519,
    /// Signs the receipt of one run.
    #[n(5)]
    Execution,
    /// Signs capsules.
    #[n(6)]
    Author,
    /// Secret behind zero-knowledge membership.
    #[n(7)]
    ZkIdentity,
    /// Signs transfers and cheques.
    #[n(8)]
    Settlement,
}

impl Role {
    /// Every role, in the order of their numbers.
    pub const ALL: [Self; 9] = [
        Self::RootSign,
        Self::Transport,
        Self::Onion,
        Self::EpochSigner,
        Self::StaticX25519,
        Self::Execution,
        Self::Author,
        Self::ZkIdentity,
        Self::Settlement,
    ];

    /// Its branch of the derivation tree and its code on the wire.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::RootSign => 0,
            Self::Transport => 1,
            Self::Onion => 2,
            Self::EpochSigner => 3,
            Self::StaticX25519 => 4,
            Self::Execution => 5,
            Self::Author => 6,
            Self::ZkIdentity => 7,
            Self::Settlement => 8,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::RootSign => "root-sign",
            Self::Transport => "transport",
            Self::Onion => "onion",
            Self::EpochSigner => "epoch-signer",
            Self::StaticX25519 => "static-x25519",
            Self::Execution => "execution",
            Self::Author => "author",
            Self::ZkIdentity => "zk-identity",
            Self::Settlement => "settlement",
        })
    }
}

impl crate::wire::Wire for Role {
    const MAX_BYTES: usize = 1;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire;

    #[test]
    fn the_wire_code_is_the_branch_of_the_tree() {
        for (at, role) in (0_u8..).zip(Role::ALL) {
            assert_eq!(role.number(), u32::from(at));
            assert_eq!(wire::to_bytes(&role), [at]);
            assert_eq!(wire::from_bytes::<Role>(&[at]), Ok(role));
        }
        assert_eq!(wire::from_bytes::<Role>(&[9]), Err(wire::DecodeError::Malformed));
    }
}
