use core::fmt;
use core::str::FromStr;
use core::time::Duration;
use std::sync::Arc;

use minicbor::{Decode, Encode};
use nonos_identity::{NetworkId, ParseHexError, SigningKey, Timestamp, Unverified, WideDigest};
use serde::{Deserialize, Serialize};

use crate::attestation::{AttestError, Attestation};
use crate::chunk::{self, Chunk, ChunkTable};
use crate::container::{self, CAPSULE_MAGIC, FormatError};
use crate::dependency::{Dependencies, Dependency};
use crate::head::Head;
use crate::interface::Interface;
use crate::manifest::{Manifest, PayloadDigest};
use crate::policy::Policy;
use crate::signature::{PackError, SignError, SignatureRecord, SignerRole, VerifyError};

/// The id of a capsule: SHA3-512 over the table of its signed sections.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize, Deserialize,
)]
#[cbor(transparent)]
#[serde(transparent)]
pub struct CapsuleId(#[n(0)] pub(crate) WideDigest);

impl CapsuleId {
    /// Wraps an id received or stored.
    #[must_use]
    pub const fn from_digest(digest: WideDigest) -> Self {
        Self(digest)
    }

    /// The digest.
    #[must_use]
    pub const fn as_digest(&self) -> &WideDigest {
        &self.0
    }

    /// Its bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 64] {
        self.0.as_bytes()
    }
}

impl fmt::Display for CapsuleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for CapsuleId {
    type Err = ParseHexError;

    fn from_str(text: &str) -> Result<Self, ParseHexError> {
        text.parse().map(Self)
    }
}

/// A signed WASM module with its manifest and policy: the `.mod` file.
#[derive(Clone, PartialEq, Eq)]
pub struct Capsule {
    pub(crate) head: Head,
    pub(crate) payload: Arc<[u8]>,
}

impl Capsule {
    /// Longest encoding, in bytes: 64 MiB; what a file or peer can make us hold.
    pub const MAX_BYTES: usize = 64 << 20;

    /// Longest payload, in bytes.
    pub const MAX_PAYLOAD_BYTES: usize = Self::MAX_BYTES - Head::MAX_BYTES;

    /// Packs a payload; fills in its digest, as open as the manifest says, its size and chunk root. The
    /// result is unsigned.
    ///
    /// # Errors
    /// [`PackError`] if a part breaks its rules.
    pub fn pack(manifest: Manifest, policy: Policy, payload: Vec<u8>) -> Result<Self, PackError> {
        Self::pack_with(manifest, policy, Vec::new(), payload)
    }

    /// As [`Self::pack`], with dependencies in any order.
    ///
    /// # Errors
    /// [`PackError`] if a part breaks its rules.
    pub fn pack_with(
        mut manifest: Manifest,
        policy: Policy,
        mut dependencies: Vec<Dependency>,
        payload: Vec<u8>,
    ) -> Result<Self, PackError> {
        if payload.is_empty() {
            return Err(PackError::Empty);
        }
        if payload.len() > Self::MAX_PAYLOAD_BYTES {
            return Err(PackError::TooLarge { len: payload.len(), limit: Self::MAX_PAYLOAD_BYTES });
        }
        manifest.payload = manifest.payload.like(&payload);
        manifest.check()?;
        policy.check()?;
        dependencies.sort_by(|a, b| a.name.cmp(&b.name));
        let dependencies = Dependencies(dependencies);
        dependencies.check()?;
        let (interface, chunks) = (Interface::of(&payload), ChunkTable::of(&payload));
        let head = Head::new(manifest, policy, dependencies, interface, chunks);
        Ok(Self { head, payload: payload.into() })
    }

    /// Adds a signature; one of the same role and key is replaced.
    ///
    /// # Errors
    /// [`SignError`] if the capsule carries as many as it may.
    pub fn sign(
        &mut self,
        role: SignerRole,
        key: &SigningKey,
        network: &NetworkId,
        not_before: Timestamp,
        lifetime: Duration,
    ) -> Result<(), SignError> {
        let record = SignatureRecord::sign(self.id(), role, key, network, not_before, lifetime);
        let signatures = &mut self.head.signatures;
        match signatures.binary_search_by_key(&record.sort_key(), SignatureRecord::sort_key) {
            Ok(place) => signatures.splice(place..=place, [record]).for_each(drop),
            Err(_) if signatures.len() == Head::MAX_SIGNATURES => {
                return Err(SignError::TooMany(Head::MAX_SIGNATURES));
            }
            Err(place) => signatures.insert(place, record),
        }
        Ok(())
    }

    /// Adds a statement about the capsule, signed by its maker; the id and the signatures stay.
    ///
    /// # Errors
    /// [`AttestError`] if the statement or all of them are too long.
    pub fn attest(
        &mut self,
        kind: u16,
        body: Vec<u8>,
        key: &SigningKey,
        network: &NetworkId,
    ) -> Result<(), AttestError> {
        let attestation = Attestation::sign(self.id(), kind, body, key, network)?;
        self.head.attestations.add(attestation)
    }

    /// Parses received bytes; nothing in them may be used before its signatures are checked.
    ///
    /// # Errors
    /// [`FormatError`] if the bytes are not the canonical form of a capsule.
    pub fn parse(bytes: &[u8]) -> Result<Unverified<Self>, FormatError> {
        Ok(Self::parse_with_id(bytes)?.1)
    }

    /// Parses, and tells the id for a store to compare with the one it looked for.
    pub(crate) fn parse_with_id(bytes: &[u8]) -> Result<(CapsuleId, Unverified<Self>), FormatError> {
        if bytes.len() > Self::MAX_BYTES {
            return Err(FormatError::TooLarge { len: bytes.len(), limit: Self::MAX_BYTES });
        }
        let sections = container::split(bytes, CAPSULE_MAGIC)?;
        let head = Head::from_sections(&sections)?;
        let [_, _, payload, ..] = sections.bodies;
        let capsule = Self { head, payload: payload.into() };
        if capsule.to_bytes() != bytes {
            return Err(FormatError::Table);
        }
        Ok((capsule.id(), Unverified::new(capsule)))
    }

    /// The id; signatures do not move it.
    #[must_use]
    pub const fn id(&self) -> CapsuleId {
        self.head.id
    }

    /// What the capsule is.
    #[must_use]
    pub const fn manifest(&self) -> &Manifest {
        &self.head.manifest
    }

    /// What it may use at most.
    #[must_use]
    pub const fn policy(&self) -> &Policy {
        &self.head.policy
    }

    /// The WASM module.
    #[must_use]
    pub const fn payload(&self) -> &Arc<[u8]> {
        &self.payload
    }

    /// SHA3-512 of the payload, with no domain. Hashes the payload where the manifest hides it.
    #[must_use]
    pub fn payload_digest(&self) -> WideDigest {
        match self.manifest().payload.digest {
            PayloadDigest::Digest(digest) => digest,
            PayloadDigest::Commit(_) => WideDigest::of_bytes(&self.payload),
        }
    }

    /// The signatures, sorted by role and key.
    #[must_use]
    pub fn signatures(&self) -> &[SignatureRecord] {
        &self.head.signatures
    }

    /// The capsules it needs, sorted by name.
    #[must_use]
    pub fn dependencies(&self) -> &[Dependency] {
        self.head.dependencies()
    }

    /// What was said about it after it was signed.
    #[must_use]
    pub fn attestations(&self) -> &[Attestation] {
        self.head.attestations()
    }

    /// Who signed, as what.
    pub fn signers(&self) -> impl Iterator<Item = (SignerRole, nonos_identity::PublicKey)> {
        self.signatures().iter().map(|record| (record.role, record.key))
    }

    /// Everything but the payload.
    #[must_use]
    pub fn head(&self) -> Head {
        self.head.clone()
    }

    /// The chunk at `index` with its proof, or nothing past the end.
    #[must_use]
    pub fn chunk(&self, index: u32) -> Option<Chunk> {
        chunk::chunk(&self.payload, index)
    }

    /// Every chunk by ascending index; hashes the payload once for all of them.
    pub fn chunks(&self) -> impl Iterator<Item = Chunk> {
        chunk::chunks(&self.payload)
    }

    /// The canonical bytes of the `.mod` file.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.head.encode(Some(&self.payload))
    }

    /// A view for people and JSON.
    #[must_use]
    pub fn inspect(&self) -> Inspection {
        Inspection {
            id: self.id(),
            manifest: self.manifest().clone(),
            policy: self.policy().clone(),
            policy_digest: self.policy().digest(),
            dependencies: self.dependencies().to_vec(),
            interface: self.head.interface().clone(),
            chunk_count: self.head.chunk_count(),
            chunk_root: self.head.chunk_root(),
            attestations: self.attestations().to_vec(),
            signatures: self.signatures().to_vec(),
        }
    }

    pub(crate) fn check_payload(&self) -> Result<(), VerifyError> {
        self.head.check_payload(&self.payload)
    }
}

impl fmt::Debug for Capsule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Capsule")
            .field("head", &self.head)
            .field("payload_bytes", &self.payload.len())
            .finish_non_exhaustive()
    }
}

/// What `inspect` shows: a serde view, not a wire form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Inspection {
    /// The id.
    pub id: CapsuleId,
    /// The manifest.
    pub manifest: Manifest,
    /// The policy.
    pub policy: Policy,
    /// The policy's digest.
    pub policy_digest: WideDigest,
    /// The capsules it needs.
    pub dependencies: Vec<Dependency>,
    /// What the payload imports and exports.
    pub interface: Interface,
    /// Chunks of the payload.
    pub chunk_count: u32,
    /// Root over the chunks.
    pub chunk_root: WideDigest,
    /// What was said about it after it was signed.
    pub attestations: Vec<Attestation>,
    /// The signatures.
    pub signatures: Vec<SignatureRecord>,
}
