use core::fmt;

use curve25519_dalek::edwards::CompressedEdwardsY;
use ed25519_dalek::Signer as _;
use zeroize::{ZeroizeOnDrop, Zeroizing};

use crate::domain::Domain;
use crate::hex;
use crate::network::NetworkId;

/// Public keys whose secret is printed in a specification. Whoever uses one has published its
/// secret, so none is ever admitted: RFC 8032 §7.1 tests 1 to 3 and 1024, and SLIP-0010 test
/// vector 1 and 2 masters.
const PUBLISHED_TEST_KEYS: [&str; 6] = [
    "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
    "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
    "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
    "278117fc144c72340f67d0f2316e8386ceffbf2b2428c9c51fef7c597f1d426e",
    "a4b2856bfec510abab89753fac1ac0e1112364e7d250545963f135f2a33188ed",
    "8fe9693f8fa62a4305a140b9764c5ee01e455963744fe18204b4fb948249308a",
];

/// The id of a node: the bytes of its operator's root public key.
///
/// An id is only a name. To check a signature, admit it as a [`PublicKey`] first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId([u8; 32]);

impl NodeId {
    /// From its bytes, unchecked: any 32 bytes are a name.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first eight hexadecimal digits, for people and logs.
    #[must_use]
    pub fn short(&self) -> String {
        hex::print(&self.0).chars().take(8).collect()
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeId({})", self.short())
    }
}

hex::text_form!(NodeId, 32);
crate::wire::fixed_bytes!(NodeId, 32);

/// Why a public key was not admitted. The fault of whoever presented it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AdmitError {
    /// Not the canonical encoding of a curve point.
    #[error("key is not a canonical curve point")]
    NotCanonical,
    /// The identity, a small-order point or a point with a small-order component.
    #[error("key has a small-order component")]
    Torsion,
    /// A key whose secret is printed in a specification.
    #[error("key is a published test key")]
    PublishedTestKey,
}

/// A signature that does not verify. It says that, and not why, to leave no oracle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("signature does not verify")]
pub struct SignatureError;

/// An Ed25519 signature (RFC 8032), 64 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Signature([u8; 64]);

impl Signature {
    /// From its bytes, unchecked.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 64]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 64] {
        &self.0
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signature({self})")
    }
}

hex::text_form!(Signature, 64);
crate::wire::fixed_bytes!(Signature, 64);

/// An Ed25519 public key admitted under the rule *NONOS-Ed25519-v1*.
///
/// Admission asks once for a canonical encoding, a torsion-free point other than the identity,
/// and no published test key. Verification is RFC 8032 §5.1.7 in its strict, cofactorless form,
/// always one signature at a time: single and batch verification disagree on crafted input.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// Admits a key.
    ///
    /// # Errors
    /// [`AdmitError`] if the bytes break the rule.
    pub fn admit(bytes: &[u8; 32]) -> Result<Self, AdmitError> {
        let compressed = CompressedEdwardsY(*bytes);
        let point = compressed.decompress().ok_or(AdmitError::NotCanonical)?;
        if point.compress() != compressed {
            return Err(AdmitError::NotCanonical);
        }
        if point.is_small_order() || !point.is_torsion_free() {
            return Err(AdmitError::Torsion);
        }
        if PUBLISHED_TEST_KEYS.contains(&hex::print(bytes).as_str()) {
            return Err(AdmitError::PublishedTestKey);
        }
        Ok(Self(*bytes))
    }

    /// Verifies a signature over `domain || network || message`.
    ///
    /// # Errors
    /// [`SignatureError`] if it does not verify.
    pub fn verify(
        &self,
        domain: Domain,
        network: &NetworkId,
        message: &[u8],
        signature: &Signature,
    ) -> Result<(), SignatureError> {
        let key = ed25519_dalek::VerifyingKey::from_bytes(&self.0).map_err(|_| SignatureError)?;
        let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
        key.verify_strict(&to_be_signed(domain, network, message), &signature).map_err(|_| SignatureError)
    }

    /// Its bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The id of the node whose root key this is.
    #[must_use]
    pub const fn node_id(&self) -> NodeId {
        NodeId(self.0)
    }
}

impl TryFrom<NodeId> for PublicKey {
    type Error = AdmitError;

    fn try_from(id: NodeId) -> Result<Self, AdmitError> {
        Self::admit(&id.0)
    }
}

impl From<PublicKey> for NodeId {
    fn from(key: PublicKey) -> Self {
        key.node_id()
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.node_id().short())
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&hex::print(&self.0))
    }
}

impl serde::Serialize for PublicKey {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<C> minicbor::Encode<C> for PublicKey {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.bytes(&self.0)?.ok()
    }
}

/// Decoding admits: a `PublicKey` in a decoded record already passed the rule.
impl<'b, C> minicbor::Decode<'b, C> for PublicKey {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        let bytes = <&[u8; 32]>::try_from(d.bytes()?)
            .map_err(|_| minicbor::decode::Error::message("wrong length"))?;
        Self::admit(bytes).map_err(minicbor::decode::Error::custom)
    }
}

/// An Ed25519 signing key. It signs only tagged messages, never raw bytes.
///
/// No `Debug` of the secret, no `PartialEq`, no serialisation; wiped on drop.
#[derive(ZeroizeOnDrop)]
pub struct SigningKey(ed25519_dalek::SigningKey);

impl SigningKey {
    /// The key of a 32-byte seed (RFC 8032 §5.1.5).
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(seed))
    }

    /// Its public half. A key made from a seed is canonical and torsion-free by construction;
    /// whether it is a published test key is for those who admit it to say.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().to_bytes())
    }

    /// Signs `domain || network || message`.
    #[must_use]
    pub fn sign(&self, domain: Domain, network: &NetworkId, message: &[u8]) -> Signature {
        Signature(self.0.sign(&to_be_signed(domain, network, message)).to_bytes())
    }

    /// The seed, for a component that must hold the key itself (libp2p, an onion service).
    #[must_use]
    pub fn to_seed(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes())
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(..)")
    }
}

fn to_be_signed(domain: Domain, network: &NetworkId, message: &[u8]) -> Vec<u8> {
    [domain.as_bytes(), network.as_bytes(), message].concat()
}
