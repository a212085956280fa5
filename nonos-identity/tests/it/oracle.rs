//! The `bip32` crate as a second implementation of SLIP-0010, entered below its Bitcoin-only
//! constructor.

use bip32::{
    ChainCode, ChildNumber, Error, ExtendedKey, ExtendedKeyAttrs, ExtendedPrivateKey, Prefix,
    PrivateKeyBytes, PublicKeyBytes,
};
use nonos_identity::hd::{Curve, DerivationPath, HdNode};
use nonos_identity::{Identity, Role, SigningKey};
use proptest::prelude::*;

#[derive(Clone)]
struct EdPrivate(PrivateKeyBytes);

#[derive(Clone)]
struct EdPublic(PublicKeyBytes);

impl bip32::PrivateKey for EdPrivate {
    type PublicKey = EdPublic;

    fn from_bytes(bytes: &PrivateKeyBytes) -> bip32::Result<Self> {
        Ok(Self(*bytes))
    }

    fn to_bytes(&self) -> PrivateKeyBytes {
        self.0
    }

    /// SLIP-0010: the child is the left half itself, not a sum.
    fn derive_child(&self, left: PrivateKeyBytes) -> bip32::Result<Self> {
        Ok(Self(left))
    }

    fn public_key(&self) -> EdPublic {
        let mut bytes = [0; 33];
        bytes[1..].copy_from_slice(SigningKey::from_seed(&self.0).public().as_bytes());
        EdPublic(bytes)
    }
}

impl bip32::PublicKey for EdPublic {
    fn from_bytes(bytes: PublicKeyBytes) -> bip32::Result<Self> {
        Ok(Self(bytes))
    }

    fn to_bytes(&self) -> PublicKeyBytes {
        self.0
    }

    fn derive_child(&self, _: PrivateKeyBytes) -> bip32::Result<Self> {
        Err(Error::Crypto)
    }
}

/// The oracle's tree from our master node on.
fn enter(master: &HdNode) -> ExtendedPrivateKey<EdPrivate> {
    let mut key_bytes = [0; 33];
    key_bytes[1..].copy_from_slice(&master.key()[..]);
    let chain_code: ChainCode = **master.chain_code();
    ExtendedPrivateKey::try_from(ExtendedKey {
        prefix: Prefix::XPRV,
        attrs: ExtendedKeyAttrs {
            depth: 0,
            parent_fingerprint: [0; 4],
            child_number: ChildNumber::default(),
            chain_code,
        },
        key_bytes,
    })
    .expect("a master key")
}

fn walk(master: &HdNode, path: &[u32]) -> ExtendedPrivateKey<EdPrivate> {
    path.iter().fold(enter(master), |key, index| {
        key.derive_child(ChildNumber::new(*index, true).expect("below 2^31")).expect("hardened")
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_path_leads_to_the_same_key(
        seed in prop::collection::vec(any::<u8>(), 16..=64),
        path in prop::collection::vec(0..1u32 << 31, 1..=DerivationPath::MAX_DEPTH),
    ) {
        let master = HdNode::master(Curve::Ed25519, &seed);
        let text = path.iter().fold("m".to_owned(), |text, index| format!("{text}/{index}'"));
        let ours = master.derive(&text.parse().expect("path"));
        let theirs = walk(&master, &path);
        prop_assert_eq!(**ours.key(), theirs.private_key().0);
        prop_assert_eq!(**ours.chain_code(), theirs.attrs().chain_code);
    }
}

#[test]
fn the_identity_derives_as_the_oracle_does() {
    let seed = [42; 64];
    let identity = Identity::from_seed(&seed);
    let master = HdNode::master(Curve::Ed25519, &seed);
    assert_eq!(*identity.root_key().to_seed(), walk(&master, &[20_047, 0, 0]).private_key().0);
    for role in Role::ALL {
        let theirs = walk(&master, &[20_047, 0, role.number(), 3]);
        assert_eq!(*identity.signing_key(role, 3).to_seed(), theirs.private_key().0, "{role}");
    }
}
