use nonos_identity::wire::{self, DecodeError, Wire};
use nonos_identity::{Unverified, Verified, WideDigest};

use crate::attestation::{Attestation, Attestations};
use crate::capsule::{Capsule, CapsuleId};
use crate::chunk::{self, CHUNK_BYTES, Chunk, ChunkError, ChunkTable};
use crate::container::{
    self, ATTESTATIONS, CAPSULE_MAGIC, CHUNKS, DEPENDENCIES, Entry, FormatError, HEAD_MAGIC, INTERFACE,
    LAYOUT, MANIFEST, PAYLOAD, POLICY, SIGNATURES, SIGNED, Sections,
};
use crate::dependency::{Dependencies, Dependency};
use crate::domains::CAPSULE_ID;
use crate::interface::Interface;
use crate::manifest::Manifest;
use crate::policy::Policy;
use crate::signature::{AssembleError, SignatureRecord, VerifyError};

/// Everything of a capsule but its payload: small enough to gossip, enough to fetch the
/// payload chunk by chunk from anybody and to check every chunk before storing it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    pub(crate) manifest: Manifest,
    pub(crate) policy: Policy,
    pub(crate) dependencies: Dependencies,
    pub(crate) interface: Interface,
    pub(crate) chunks: ChunkTable,
    pub(crate) attestations: Attestations,
    pub(crate) signatures: Vec<SignatureRecord>,
    pub(crate) id: CapsuleId,
}

#[derive(minicbor::Encode, minicbor::Decode)]
struct Signatures(#[n(0)] Vec<SignatureRecord>);

impl Wire for Signatures {
    const MAX_BYTES: usize = 8 * 1_024;
}

impl Head {
    /// Longest encoding, in bytes: what a peer can make us hold before any check.
    pub const MAX_BYTES: usize = 40 * 1_024;

    /// Most signatures; bounds the work of one check.
    pub const MAX_SIGNATURES: usize = 32;

    /// A head with the id of its parts.
    pub(crate) fn new(
        manifest: Manifest,
        policy: Policy,
        dependencies: Dependencies,
        interface: Interface,
        chunks: ChunkTable,
    ) -> Self {
        let mut head = Self {
            manifest,
            policy,
            dependencies,
            interface,
            chunks,
            attestations: Attestations::default(),
            signatures: Vec::new(),
            id: CapsuleId(WideDigest::from_bytes([0; 64])),
        };
        head.id = head.compute_id();
        head
    }

    /// Parses received bytes; nothing in them may be used before its signatures are checked.
    ///
    /// # Errors
    /// [`FormatError`] if the bytes are not the canonical form of a head.
    pub fn parse(bytes: &[u8]) -> Result<Unverified<Self>, FormatError> {
        if bytes.len() > Self::MAX_BYTES {
            return Err(FormatError::TooLarge { len: bytes.len(), limit: Self::MAX_BYTES });
        }
        let head = Self::from_sections(&container::split(bytes, HEAD_MAGIC)?)?;
        if head.to_bytes() != bytes {
            return Err(FormatError::Table);
        }
        Ok(Unverified::new(head))
    }

    pub(crate) fn from_sections(sections: &Sections<'_>) -> Result<Self, FormatError> {
        fn section<T: Wire>(section: u16, body: &[u8]) -> Result<T, FormatError> {
            wire::from_bytes(body).map_err(|error: DecodeError| FormatError::Section { section, error })
        }
        let [manifest, policy, _, dependencies, interface, chunks, attestations, signatures] =
            sections.bodies;
        let manifest: Manifest = section(MANIFEST, manifest)?;
        let policy: Policy = section(POLICY, policy)?;
        let dependencies: Dependencies = section(DEPENDENCIES, dependencies)?;
        let interface: Interface = section(INTERFACE, interface)?;
        let chunks: ChunkTable = section(CHUNKS, chunks)?;
        let attestations: Attestations = section(ATTESTATIONS, attestations)?;
        let Signatures(signatures) = section(SIGNATURES, signatures)?;
        manifest.check()?;
        policy.check()?;
        dependencies.check()?;
        if !attestations.is_canonical() {
            return Err(FormatError::Attestations);
        }
        let size = manifest.payload.size_bytes;
        let payload = sections.entries.iter().find(|entry| entry.id == PAYLOAD);
        let agrees = payload
            .is_some_and(|entry| entry.len == size && entry.digest == manifest.payload.digest.shown())
            && (1..=Capsule::MAX_PAYLOAD_BYTES as u64).contains(&size)
            && chunks.chunk_bytes as usize == CHUNK_BYTES
            && chunks.count == chunk::count(size);
        if !agrees {
            return Err(FormatError::Payload);
        }
        let in_order = signatures.is_sorted_by(|a, b| a.sort_key() < b.sort_key());
        if !in_order || signatures.len() > Self::MAX_SIGNATURES {
            return Err(FormatError::Signatures);
        }
        let head = Self::new(manifest, policy, dependencies, interface, chunks);
        Ok(Self { attestations, signatures, ..head })
    }

    /// The id of the capsule.
    #[must_use]
    pub const fn id(&self) -> CapsuleId {
        self.id
    }

    /// What the capsule is.
    #[must_use]
    pub const fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// What it may use at most.
    #[must_use]
    pub const fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The capsules it needs, sorted by name.
    #[must_use]
    pub fn dependencies(&self) -> &[Dependency] {
        &self.dependencies.0
    }

    /// What the payload imports and exports.
    #[must_use]
    pub const fn interface(&self) -> &Interface {
        &self.interface
    }

    /// What was said about it after it was signed.
    #[must_use]
    pub fn attestations(&self) -> &[Attestation] {
        &self.attestations.0
    }

    /// Who signed.
    #[must_use]
    pub fn signatures(&self) -> &[SignatureRecord] {
        &self.signatures
    }

    /// Chunks of the payload.
    #[must_use]
    pub const fn chunk_count(&self) -> u32 {
        self.chunks.count
    }

    /// Root of the tree over the chunks.
    #[must_use]
    pub const fn chunk_root(&self) -> WideDigest {
        self.chunks.root
    }

    /// Checks that a chunk is a part of this payload, at its index.
    ///
    /// # Errors
    /// [`ChunkError`]; its sender's fault.
    pub fn check_chunk(&self, chunk: Unverified<Chunk>) -> Result<Verified<Chunk>, ChunkError> {
        chunk.check(|chunk| self.chunks.check(self.manifest.payload.size_bytes, chunk))
    }

    /// Puts the capsule together from all its chunks, in any order, and checks the payload's
    /// digest again. Of two chunks of one index either serves: both match the root.
    ///
    /// # Errors
    /// [`AssembleError`] if a chunk is missing or belongs to another head.
    pub fn assemble(
        head: &Verified<Self>,
        chunks: Vec<Verified<Chunk>>,
    ) -> Result<Verified<Capsule>, AssembleError> {
        let mut places: Vec<Option<Chunk>> = vec![None; head.chunk_count() as usize];
        for chunk in chunks {
            let chunk = chunk.into_inner();
            let count = head.chunk_count();
            let place = places
                .get_mut(chunk.index as usize)
                .ok_or(ChunkError::Index { index: chunk.index, count })?;
            *place = Some(chunk);
        }
        let mut payload = Vec::new();
        for (place, index) in places.into_iter().zip(0u32..) {
            payload.extend_from_slice(&place.ok_or(AssembleError::Missing(index))?.data);
        }
        let capsule = Capsule { head: Self::clone(head), payload: payload.into() };
        Ok(Unverified::new(capsule).check(|capsule| capsule.check_payload())?)
    }

    /// The canonical bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.encode(None)
    }

    pub(crate) fn encode(&self, payload: Option<&[u8]>) -> Vec<u8> {
        let bodies = LAYOUT.map(|id| self.section(id));
        let entries = self.entries(&bodies);
        let bodies = core::array::from_fn::<_, { LAYOUT.len() }, _>(|place| match bodies.get(place) {
            Some(Some(body)) => Some(&body[..]),
            _ => payload,
        });
        let magic = if payload.is_some() { CAPSULE_MAGIC } else { HEAD_MAGIC };
        container::join(&entries, &bodies, magic)
    }

    /// The bytes of a section; of the payload there are none here.
    fn section(&self, id: u16) -> Option<Vec<u8>> {
        Some(match id {
            MANIFEST => wire::to_bytes(&self.manifest),
            POLICY => wire::to_bytes(&self.policy),
            DEPENDENCIES => wire::to_bytes(&self.dependencies),
            INTERFACE => wire::to_bytes(&self.interface),
            CHUNKS => wire::to_bytes(&self.chunks),
            ATTESTATIONS => wire::to_bytes(&self.attestations),
            SIGNATURES => wire::to_bytes(&Signatures(self.signatures.clone())),
            _ => return None,
        })
    }

    fn entries(&self, bodies: &[Option<Vec<u8>>]) -> Vec<Entry> {
        let entry = |(id, body): (&u16, &Option<Vec<u8>>)| match body {
            Some(body) => Entry { id: *id, len: body.len() as u64, digest: WideDigest::of_bytes(body) },
            None => {
                let payload = self.manifest.payload;
                Entry { id: *id, len: payload.size_bytes, digest: payload.digest.shown() }
            }
        };
        LAYOUT.iter().zip(bodies).map(entry).collect()
    }

    /// Hash over version and table of the signed sections. Offsets stay out: they follow from
    /// the lengths, and what is added later must not move the id.
    fn compute_id(&self) -> CapsuleId {
        let bodies = LAYOUT.map(|id| if SIGNED.contains(&id) { self.section(id) } else { None });
        let mut table = container::VERSION.to_le_bytes().to_vec();
        for entry in self.entries(&bodies).iter().filter(|entry| SIGNED.contains(&entry.id)) {
            table.extend_from_slice(&entry.id.to_le_bytes());
            table.extend_from_slice(&entry.len.to_le_bytes());
            table.extend_from_slice(entry.digest.as_bytes());
        }
        CapsuleId(WideDigest::of(CAPSULE_ID, &[&table]))
    }

    pub(crate) fn check_payload(&self, payload: &[u8]) -> Result<(), VerifyError> {
        if self.manifest.payload.like(payload) != self.manifest.payload {
            return Err(VerifyError::Payload);
        }
        if ChunkTable::of(payload) != self.chunks {
            return Err(VerifyError::ChunkRoot);
        }
        if Interface::of(payload) != self.interface {
            return Err(VerifyError::Interface);
        }
        Ok(())
    }
}
