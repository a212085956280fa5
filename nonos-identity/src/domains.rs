//! The domains of this crate.

use crate::domain::Domain;

/// Root signature over a role certificate.
pub const CERTIFICATE: Domain = Domain::new("nonos/identity/certificate/v1");
/// Subject's proof of possession inside a certificate.
pub const POSSESSION: Domain = Domain::new("nonos/identity/possession/v1");
/// Associated data of the encrypted keystore's payload.
pub const KEYSTORE: Domain = Domain::new("nonos/identity/keystore/v1");
/// Associated data of a keystore slot.
pub const KEYSTORE_SLOT: Domain = Domain::new("nonos/identity/slot/v1");
/// Derivation of a key-encryption key from a recovery phrase.
pub const RECOVERY_PHRASE: Domain = Domain::new("nonos/identity/recovery-phrase/v1");
/// Derivation of a key-encryption key from an X25519 agreement.
pub const RECOVERY_KEY: Domain = Domain::new("nonos/identity/recovery-key/v1");
/// Derivation of a key-encryption key inside a PKCS#11 token.
pub const TOKEN_KEK: Domain = Domain::new("nonos/identity/token-kek/v1");
/// Derivation of a seed inside a PKCS#11 token.
pub const TOKEN_SEED: Domain = Domain::new("nonos/identity/token-seed/v1");
/// Chained checksum of the log of used execution slots.
pub const SLOT_LOG: Domain = Domain::new("nonos/identity/used-slots/v1");
/// Hash of a network's name into its id.
pub const NETWORK_NAME: Domain = Domain::new("nonos/identity/network-name/v1");
/// Derivation of the network-context transport key.
pub const CONTEXT_KEY: Domain = Domain::new("nonos/identity/context-key/v1");
/// Derivation of the blind of an execution slot's identity commitment.
pub const EXECUTION_BLIND: Domain = Domain::new("nonos/identity/execution-blind/v1");
/// Derivation of the secret behind zero-knowledge membership.
pub const ZK_SECRET: Domain = Domain::new("nonos/identity/zk-secret/v1");
/// Hiding commitment to the identity behind an execution key.
pub const ID_COMMITMENT: Domain = Domain::new("nonos/identity/id-commitment/v1");
/// Checksum of the mesh's own onion addresses.
pub const ONION_CHECKSUM: Domain = Domain::new("nonos/identity/onion-checksum/v1");
/// Key and content of a box for several recipients.
pub const SHARED_BOX: Domain = Domain::new("nonos/identity/shared-box/v1");
/// Commitment to the content key of a box for several recipients.
pub const BOX_KEY: Domain = Domain::new("nonos/identity/box-key/v1");
/// Digest that names one certificate.
pub const CERTIFICATE_ID: Domain = Domain::new("nonos/identity/certificate-id/v1");
/// Root signature over a revocation list.
pub const REVOCATION: Domain = Domain::new("nonos/identity/revocation/v1");
/// Digest that names one revocation list.
pub const REVOCATION_ID: Domain = Domain::new("nonos/identity/list-id/v1");
/// Signatures of the old and the new root over a succession.
pub const SUCCESSION: Domain = Domain::new("nonos/identity/succession/v1");
/// Root signature over the statement that revokes the root itself.
pub const SUICIDE: Domain = Domain::new("nonos/identity/suicide/v1");
/// Signatures over the binding of a node to its transport key and onion address.
pub const BINDING: Domain = Domain::new("nonos/identity/binding/v1");
/// Epoch signer's signature over an epoch head.
pub const EXEC_HEAD: Domain = Domain::new("nonos/identity/exec-head/v1");
/// Digest that names one epoch head.
pub const EXEC_HEAD_ID: Domain = Domain::new("nonos/identity/head-id/v1");
/// Hidden leaf of an execution slot.
pub const EXEC_LEAF: Domain = Domain::new("nonos/identity/exec-leaf/v1");
/// Derivation of the order in which the slots of an epoch are used.
pub const EXEC_ORDER: Domain = Domain::new("nonos/identity/exec-order/v1");
/// Sealed opening of one run.
pub const OPENING: Domain = Domain::new("nonos/identity/opening/v1");

/// Every domain above, for the workspace-wide uniqueness test.
pub const ALL: &[Domain] = &[
    CERTIFICATE,
    POSSESSION,
    KEYSTORE,
    KEYSTORE_SLOT,
    RECOVERY_PHRASE,
    RECOVERY_KEY,
    TOKEN_KEK,
    TOKEN_SEED,
    SLOT_LOG,
    NETWORK_NAME,
    CONTEXT_KEY,
    EXECUTION_BLIND,
    ZK_SECRET,
    ID_COMMITMENT,
    ONION_CHECKSUM,
    SHARED_BOX,
    BOX_KEY,
    CERTIFICATE_ID,
    REVOCATION,
    REVOCATION_ID,
    SUCCESSION,
    SUICIDE,
    BINDING,
    EXEC_HEAD,
    EXEC_HEAD_ID,
    EXEC_LEAF,
    EXEC_ORDER,
    OPENING,
];

#[cfg(test)]
mod tests {
    use super::ALL;

    #[test]
    fn no_domain_starts_another_and_all_have_the_form() {
        for (at, domain) in ALL.iter().enumerate() {
            let parts: Vec<_> = domain.as_str().split('/').collect();
            assert!(
                matches!(parts[..], ["nonos", "identity", purpose, "v1"] if !purpose.is_empty()),
                "{domain:?}"
            );
            let others = ALL.iter().enumerate().filter(|(other, _)| *other != at);
            for (_, other) in others {
                assert!(!other.as_str().starts_with(domain.as_str()), "{domain:?} starts {other:?}");
            }
        }
    }
}
