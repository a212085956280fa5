use minicbor::{Decode, Encode};
use nonos_identity::Digest;
use nonos_identity::wire::Wire;
use serde::{Deserialize, Serialize};

/// Which circuit a proof is for. Each has its own keys.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize, Deserialize,
)]
#[cbor(index_only)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Profile {
    /// State, execution and identity gate. Of the identity it opens the hash of the secret that the
    /// operator's root key enrolled. No hash of the binary in the circuit. For relays and small boxes.
    #[n(1)]
    Lite,
    /// The gates of [`Self::Lite`], and: the payload's digest is what the capsule's manifest commits
    /// to, and the secret is the scalar of the enrolled Ed25519 key.
    #[n(2)]
    Full,
    /// Not a receipt's: that an enrolled relay carried cells, see [`TransitStatement`](crate::TransitStatement).
    #[n(3)]
    Transit,
}

impl Profile {
    /// All profiles, by ascending number on the wire.
    pub const ALL: [Self; 3] = [Self::Lite, Self::Full, Self::Transit];

    /// Those of receipts.
    pub const RECEIPTS: [Self; 2] = [Self::Lite, Self::Full];

    /// Its name in reports, settings and file names.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Lite => "lite",
            Self::Full => "full",
            Self::Transit => "transit",
        }
    }
}

impl core::fmt::Display for Profile {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.pad(self.name())
    }
}

/// A name that no profile has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no such profile: it is lite, full or transit")]
pub struct UnknownProfile;

impl core::str::FromStr for Profile {
    type Err = UnknownProfile;

    fn from_str(name: &str) -> Result<Self, UnknownProfile> {
        Self::ALL.into_iter().find(|profile| profile.name() == name).ok_or(UnknownProfile)
    }
}

/// The id of a verifying key: SHA3-256 over profile, circuit, provenance and the key itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct VerifyingKeyId(#[n(0)] Digest);

impl VerifyingKeyId {
    /// Wraps an id computed or pinned elsewhere.
    #[must_use]
    pub const fn from_digest(digest: Digest) -> Self {
        Self(digest)
    }

    /// The digest.
    #[must_use]
    pub const fn digest(&self) -> &Digest {
        &self.0
    }
}

impl core::fmt::Display for VerifyingKeyId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.0.fmt(f)
    }
}

/// A proof: bytes that only a [`Verifier`](crate::Verifier) of the same profile can read.
///
/// They are malleable: anybody can turn one valid proof into another of the same statement. They
/// are never an id; the [`Nullifier`](crate::Nullifier) is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    profile: Profile,
    bytes: Vec<u8>,
}

/// A proof longer than [`Proof::MAX_BYTES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("proof of {len} bytes exceeds the limit of {limit}", limit = Proof::MAX_BYTES)]
pub struct ProofTooLong {
    /// Bytes offered.
    pub len: usize,
}

impl Proof {
    /// Longest proof, in bytes: what a peer can make us hold before any check. Groth16 needs 128;
    /// the room is for provers written elsewhere.
    pub const MAX_BYTES: usize = 16 * 1024;

    /// Wraps the bytes a prover made.
    ///
    /// # Errors
    /// [`ProofTooLong`] if there are more than [`Self::MAX_BYTES`].
    pub fn new(profile: Profile, bytes: Vec<u8>) -> Result<Self, ProofTooLong> {
        if bytes.len() > Self::MAX_BYTES {
            return Err(ProofTooLong { len: bytes.len() });
        }
        Ok(Self { profile, bytes })
    }

    /// The circuit it is for.
    #[must_use]
    pub const fn profile(&self) -> Profile {
        self.profile
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// The wire form of a proof, before the limit is checked.
#[derive(Encode, Decode)]
struct Fields {
    #[n(0)]
    profile: Profile,
    #[cbor(n(1), with = "minicbor::bytes")]
    bytes: Vec<u8>,
}

impl<C> Encode<C> for Proof {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.array(2)?.encode(self.profile)?.bytes(&self.bytes)?.ok()
    }
}

impl<'b, C> Decode<'b, C> for Proof {
    fn decode(d: &mut minicbor::Decoder<'b>, ctx: &mut C) -> Result<Self, minicbor::decode::Error> {
        let Fields { profile, bytes } = Fields::decode(d, ctx)?;
        Self::new(profile, bytes).map_err(minicbor::decode::Error::custom)
    }
}

impl Wire for Proof {
    const MAX_BYTES: usize = Self::MAX_BYTES + 16;
}
