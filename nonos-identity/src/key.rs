use core::fmt;

use curve25519_dalek::edwards::CompressedEdwardsY;
use ed25519_dalek::ed25519::signature::MultipartSigner as _;
use zeroize::Zeroizing;

use crate::domain::Domain;
use crate::hex;
use crate::network::NetworkId;

/// Public keys whose secret is printed in a specification. Whoever uses one has published its
/// secret, so none is ever admitted.
const PUBLISHED_TEST_KEYS: [&str; 9] = [
    // RFC 8032 section 7.1: tests 1, 2, 3, 1024 and SHA(abc).
    "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
    "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
    "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
    "278117fc144c72340f67d0f2316e8386ceffbf2b2428c9c51fef7c597f1d426e",
    "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
    // SLIP-0010: masters of test vectors 1 and 2.
    "a4b2856bfec510abab89753fac1ac0e1112364e7d250545963f135f2a33188ed",
    "8fe9693f8fa62a4305a140b9764c5ee01e455963744fe18204b4fb948249308a",
    // The seed of 32 zero bytes: memory that no random generator ever filled.
    "3b6a27bcceb6a42d62a3a8d02a6f0d73653215771de243a63ac048a18b59da29",
    // Our root key of the BIP39 phrase "abandon" eleven times and "about", no password.
    "f49e17ab8ec5bfe9c6d09746e0cf0970f1b659dfbfc7ceef8bac5d9acb9cb8f3",
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

/// A scalar that is not clamped. The fault of whoever made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("scalar is not clamped")]
pub struct ScalarError;

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
/// and no published test key. Verification is RFC 8032 section 5.1.7 in its strict, cofactorless form,
/// always one signature at a time: single and batch verification disagree on crafted input.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// Admits a key.
    ///
    /// # Errors
    /// [`AdmitError`] if the bytes break the rule.
    pub fn admit(bytes: &[u8; 32]) -> Result<Self, AdmitError> {
        let key = Self::admit_point(bytes)?;
        if PUBLISHED_TEST_KEYS.contains(&hex::print(bytes).as_str()) {
            return Err(AdmitError::PublishedTestKey);
        }
        Ok(key)
    }

    /// The public half of a clamped scalar, as [`SigningKey::to_scalar`] makes them: canonical and
    /// torsion-free by construction. Takes the same time for every scalar.
    ///
    /// # Errors
    /// [`ScalarError`] if the scalar is not clamped (RFC 8032 section 5.1.5, step 2).
    pub fn of_scalar(scalar: &[u8; 32]) -> Result<Self, ScalarError> {
        let clamped = Zeroizing::new(curve25519_dalek::scalar::clamp_integer(*scalar));
        if *clamped != *scalar {
            return Err(ScalarError);
        }
        Ok(Self(curve25519_dalek::EdwardsPoint::mul_base_clamped(*clamped).compress().to_bytes()))
    }

    /// The part of the rule that concerns the point.
    pub(crate) fn admit_point(bytes: &[u8; 32]) -> Result<Self, AdmitError> {
        let compressed = CompressedEdwardsY(*bytes);
        let point = compressed.decompress().ok_or(AdmitError::NotCanonical)?;
        if point.compress() != compressed {
            return Err(AdmitError::NotCanonical);
        }
        if point.is_small_order() || !point.is_torsion_free() {
            return Err(AdmitError::Torsion);
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
        let tagged = [domain.as_bytes(), network.as_bytes(), message].concat();
        self.verify_untagged(&tagged, signature)
    }

    /// Verifies a signature over plain bytes that others signed for a purpose of theirs: RFC 8032
    /// section 5.1.7, cofactorless, a small-order `R` refused. What the SDK signs is tagged: use
    /// [`Self::verify`] for that.
    ///
    /// # Errors
    /// [`SignatureError`] if it does not verify.
    pub fn verify_untagged(&self, message: &[u8], signature: &Signature) -> Result<(), SignatureError> {
        let key = ed25519_dalek::VerifyingKey::from_bytes(&self.0).map_err(|_| SignatureError)?;
        let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
        key.verify_strict(message, &signature).map_err(|_| SignatureError)
    }

    /// The key blinded by a 32-byte parameter, `clamp(parameter) * A` (Tor rend-spec-v3, appendix
    /// A.2). Whoever does not know both key and parameter cannot link the two. Whoever knows the
    /// parameter and a blinded secret computes the unblinded one, so a parameter that can be
    /// guessed protects no secret.
    #[must_use]
    pub fn blinded(&self, parameter: &[u8; 32]) -> Option<Self> {
        let point = CompressedEdwardsY(self.0).decompress()?;
        Some(Self(point.mul_clamped(*parameter).compress().to_bytes()))
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
/// No `Debug` of the secret, no `PartialEq`, no serialisation. Wiped on drop, and boxed so that
/// moving it leaves no copies behind.
pub struct SigningKey(Box<ed25519_dalek::SigningKey>);

impl SigningKey {
    /// The key of a 32-byte seed (RFC 8032 section 5.1.5).
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(Box::new(ed25519_dalek::SigningKey::from_bytes(seed)))
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
        let parts = [domain.as_bytes(), network.as_bytes(), message];
        Signature(self.0.multipart_sign(&parts).to_bytes())
    }

    /// The seed, for a component that must hold the key itself (libp2p, an onion service).
    #[must_use]
    pub fn to_seed(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes())
    }

    /// The clamped scalar in little-endian bytes (RFC 8032 section 5.1.5, steps 1 and 2), for a circuit
    /// that proves to know it. Whoever has it can sign.
    #[must_use]
    pub fn to_scalar(&self) -> Zeroizing<[u8; 32]> {
        let unclamped = Zeroizing::new(self.0.to_scalar_bytes());
        Zeroizing::new(curve25519_dalek::scalar::clamp_integer(*unclamped))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hd::{Curve, HdNode};
    use crate::identity::Identity;
    use crate::wire;

    const D: Domain = Domain::new("nonos/identity/test/v1");
    const OTHER: Domain = Domain::new("nonos/identity/other-test/v1");

    impl wire::Wire for PublicKey {
        const MAX_BYTES: usize = 34;
    }

    #[test]
    fn the_scalar_is_clamped_and_makes_the_public_key() {
        let key = key(3);
        let scalar = key.to_scalar();
        assert_eq!((scalar[0] & 7, scalar[31] & 0xc0), (0, 0x40));
        assert_eq!(PublicKey::of_scalar(&scalar), Ok(key.public()));
        for (at, bit) in [(0, 1), (0, 4), (31, 0x40), (31, 0x80)] {
            let mut unclamped = *scalar;
            unclamped[at] ^= bit;
            assert_eq!(PublicKey::of_scalar(&unclamped), Err(ScalarError), "byte {at}, bit {bit}");
        }
    }

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_seed(&[seed; 32])
    }

    #[test]
    fn a_signature_holds_for_one_key_domain_network_and_message() {
        let (net, other_net) = (NetworkId::from_name("a"), NetworkId::from_name("b"));
        let signature = key(1).sign(D, &net, b"text");
        let public = key(1).public();
        assert_eq!(public.verify(D, &net, b"text", &signature), Ok(()));
        assert_eq!(public.verify(OTHER, &net, b"text", &signature), Err(SignatureError));
        assert_eq!(public.verify(D, &other_net, b"text", &signature), Err(SignatureError));
        assert_eq!(public.verify(D, &net, b"test", &signature), Err(SignatureError));
        assert_eq!(key(2).public().verify(D, &net, b"text", &signature), Err(SignatureError));
        for at in 0..512 {
            let mut bytes = *signature.as_bytes();
            bytes[at / 8] ^= 1 << (at % 8);
            let forged = Signature::from_bytes(bytes);
            assert_eq!(public.verify(D, &net, b"text", &forged), Err(SignatureError), "bit {at}");
        }
    }

    #[test]
    fn signing_in_parts_is_plain_ed25519_over_the_concatenation() {
        use ed25519_dalek::Signer as _;
        let net = NetworkId::from_name("a");
        let whole = [D.as_bytes(), net.as_bytes(), b"text"].concat();
        let plain = ed25519_dalek::SigningKey::from_bytes(&[1; 32]).sign(&whole);
        assert_eq!(key(1).sign(D, &net, b"text").as_bytes(), &plain.to_bytes());
    }

    #[test]
    fn published_keys_are_not_admitted() {
        for text in PUBLISHED_TEST_KEYS {
            let bytes = hex::parse(text).expect("32 bytes");
            assert_eq!(PublicKey::admit(&bytes), Err(AdmitError::PublishedTestKey), "{text}");
        }
    }

    #[test]
    fn the_list_holds_the_keys_it_names() {
        const SLIP_10_SEED_1: [u8; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
        let abandon = hex::parse(concat!(
            "5eb00bbddcf069084889a8ab9155568165f5c453ccb85e70811aaed6f6da5fc1",
            "9a5ac40b389cd370d086206dec8aa6c43daea6690f20ad3d8d48b2d2ce9e38e4"
        ));
        let master = HdNode::master(Curve::Ed25519, &SLIP_10_SEED_1);
        let named = [
            key(0).public(),
            SigningKey::from_seed(master.key()).public(),
            Identity::from_seed(&abandon.expect("64 bytes")).root_key().public(),
        ];
        for public in named {
            assert_eq!(PublicKey::admit(public.as_bytes()), Err(AdmitError::PublishedTestKey), "{public}");
        }
    }

    #[test]
    fn decoding_admits() {
        let public = key(1).public();
        let bytes = wire::to_bytes(&public);
        assert_eq!(wire::from_bytes::<PublicKey>(&bytes), Ok(public));
        let identity_point = [&[0x58, 32, 1][..], &[0; 31]].concat();
        assert_eq!(wire::from_bytes::<PublicKey>(&identity_point), Err(wire::DecodeError::Malformed));
        assert_eq!(wire::from_bytes::<PublicKey>(&[0x41, 1]), Err(wire::DecodeError::Malformed));
    }

    #[test]
    fn debug_shows_no_secret() {
        assert_eq!(format!("{:?}", key(1)), "SigningKey(..)");
    }

    #[test]
    fn a_seed_round_trips() {
        assert_eq!(*key(7).to_seed(), [7; 32]);
    }
}
