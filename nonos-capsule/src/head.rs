use nonos_identity::wire::{self, DecodeError, Wire};
use nonos_identity::{Unverified, Verified, WideDigest};

use crate::capsule::{Capsule, CapsuleId};
use crate::chunk::{self, CHUNK_BYTES, Chunk, ChunkError, ChunkTable};
use crate::container::{
    self, CAPSULE_MAGIC, CHUNKS, Entry, FormatError, HEAD_MAGIC, LAYOUT, MANIFEST, PAYLOAD, POLICY,
    SIGNATURES, Sections,
};
use crate::domains::CAPSULE_ID;
use crate::manifest::Manifest;
use crate::policy::Policy;
use crate::signature::{AssembleError, SignatureRecord, VerifyError};

/// Everything of a capsule but its payload: small enough to gossip, enough to fetch the
/// payload chunk by chunk from anybody and to check every chunk before storing it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    pub(crate) manifest: Manifest,
    pub(crate) policy: Policy,
    pub(crate) chunks: ChunkTable,
    pub(crate) signatures: Vec<SignatureRecord>,
    pub(crate) id: CapsuleId,
}

#[derive(minicbor::Encode, minicbor::Decode)]
struct Signatures(#[n(0)] Vec<SignatureRecord>);

impl Wire for Signatures {
    const MAX_BYTES: usize = 16 * 1_024;
}

impl Head {
    /// Longest encoding, in bytes: what a peer can make us hold before any check.
    pub const MAX_BYTES: usize = 32 * 1_024;

    /// Most signatures; bounds the work of one check.
    pub const MAX_SIGNATURES: usize = 32;

    pub(crate) fn new(manifest: Manifest, policy: Policy, chunks: ChunkTable) -> Self {
        let id = CapsuleId(WideDigest::of_bytes(&[]));
        let mut head = Self { manifest, policy, chunks, signatures: Vec::new(), id };
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
        let [manifest, policy, _, chunks, signatures] = sections.bodies;
        let manifest: Manifest = section(MANIFEST, manifest)?;
        let policy: Policy = section(POLICY, policy)?;
        let chunks: ChunkTable = section(CHUNKS, chunks)?;
        let Signatures(signatures) = section(SIGNATURES, signatures)?;
        manifest.check()?;
        policy.check()?;
        let size = manifest.payload.size_bytes;
        let payload = sections.entries.iter().find(|entry| entry.id == PAYLOAD);
        let agrees = payload
            .is_some_and(|entry| entry.len == size && entry.digest == manifest.payload.digest)
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
        Ok(Self { signatures, ..Self::new(manifest, policy, chunks) })
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
        let [manifest, policy, chunks, signatures] = self.section_bytes();
        let bodies = [Some(&manifest[..]), Some(&policy), payload, Some(&chunks), Some(&signatures)];
        let magic = if payload.is_some() { CAPSULE_MAGIC } else { HEAD_MAGIC };
        container::join(&self.entries(&bodies), &bodies, magic)
    }

    fn section_bytes(&self) -> [Vec<u8>; 4] {
        [
            wire::to_bytes(&self.manifest),
            wire::to_bytes(&self.policy),
            wire::to_bytes(&self.chunks),
            wire::to_bytes(&Signatures(self.signatures.clone())),
        ]
    }

    fn entries(&self, bodies: &[Option<&[u8]>; LAYOUT.len()]) -> [Entry; LAYOUT.len()] {
        let mut bodies = bodies.iter();
        LAYOUT.map(|id| match bodies.next().copied().flatten() {
            Some(body) if id != PAYLOAD => {
                Entry { id, len: body.len() as u64, digest: WideDigest::of_bytes(body) }
            }
            _ => {
                let payload = self.manifest.payload;
                Entry { id, len: payload.size_bytes, digest: payload.digest }
            }
        })
    }

    /// Hash over version and table of the signed sections. Offsets stay out: they follow from
    /// the lengths, and signatures must not move the id.
    fn compute_id(&self) -> CapsuleId {
        let [manifest, policy, chunks, signatures] = self.section_bytes();
        let bodies = [Some(&manifest[..]), Some(&policy), None, Some(&chunks), Some(&signatures)];
        let mut table = container::VERSION.to_le_bytes().to_vec();
        for entry in self.entries(&bodies).iter().filter(|entry| entry.id != SIGNATURES) {
            table.extend_from_slice(&entry.id.to_le_bytes());
            table.extend_from_slice(&entry.len.to_le_bytes());
            table.extend_from_slice(entry.digest.as_bytes());
        }
        CapsuleId(WideDigest::of(CAPSULE_ID, &[&table]))
    }

    pub(crate) fn check_payload(&self, payload: &[u8]) -> Result<(), VerifyError> {
        if crate::manifest::PayloadInfo::of(payload) != self.manifest.payload {
            return Err(VerifyError::Payload);
        }
        if ChunkTable::of(payload) != self.chunks {
            return Err(VerifyError::ChunkRoot);
        }
        Ok(())
    }
}
