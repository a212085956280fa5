//! The `.mod` container: header, table of sections, sections; one byte string per value.
//!
//! ```text
//! magic 8 | version u16 | flags u16 = 0 | section count u32
//! per section: id u16 | flags u16 = 0 | offset u64 | length u64 | SHA3-512 of its bytes
//! sections, ascending by id, without gaps
//! ```
//! All integers are little-endian. A head is the same with its own magic and with the payload's
//! bytes left out, its offset being 0.

use nonos_identity::WideDigest;
use nonos_identity::wire::DecodeError;

use crate::dependency::DependencyError;
use crate::manifest::ManifestError;
use crate::policy::PolicyError;

pub(crate) const CAPSULE_MAGIC: [u8; 8] = *b"NONM\x01\r\n\x1a";
pub(crate) const HEAD_MAGIC: [u8; 8] = *b"NONH\x01\r\n\x1a";
pub(crate) const VERSION: u16 = 1;

pub(crate) const MANIFEST: u16 = 1;
pub(crate) const POLICY: u16 = 2;
pub(crate) const PAYLOAD: u16 = 3;
pub(crate) const DEPENDENCIES: u16 = 4;
pub(crate) const INTERFACE: u16 = 5;
pub(crate) const CHUNKS: u16 = 6;
pub(crate) const ATTESTATIONS: u16 = 7;
pub(crate) const SIGNATURES: u16 = 8;

const SECTION_COUNT: u32 = 8;

/// The sections of version 1, all of them required, in their order.
pub(crate) const LAYOUT: [u16; SECTION_COUNT as usize] =
    [MANIFEST, POLICY, PAYLOAD, DEPENDENCIES, INTERFACE, CHUNKS, ATTESTATIONS, SIGNATURES];

/// The sections that the id covers: what an author decides. The others may be added later.
pub(crate) const SIGNED: [u16; 6] = [MANIFEST, POLICY, PAYLOAD, DEPENDENCIES, INTERFACE, CHUNKS];

pub(crate) const HEADER_BYTES: usize = 16;
pub(crate) const ENTRY_BYTES: usize = 84;
pub(crate) const TABLE_END: usize = HEADER_BYTES + LAYOUT.len() * ENTRY_BYTES;

/// Why bytes are not a capsule or head. Always the fault of whoever made the bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// Longer than the format allows.
    #[error("{len} bytes exceed the limit of {limit}")]
    TooLarge {
        /// Bytes received.
        len: usize,
        /// The limit.
        limit: usize,
    },
    /// Does not begin as a capsule or head does.
    #[error("wrong magic")]
    Magic,
    /// A version or flag this code does not know.
    #[error("unsupported version {0} or flags")]
    Version(u16),
    /// The table does not list exactly the sections of the version, in order and without gaps.
    #[error("section table is not canonical")]
    Table,
    /// Ends early or goes on after the last section.
    #[error("wrong length")]
    Length,
    /// The bytes of a section do not have the digest of its table entry.
    #[error("section {0} does not match its digest")]
    SectionDigest(u16),
    /// A section is not the canonical encoding of its content.
    #[error("section {section}: {error}")]
    Section {
        /// Its id.
        section: u16,
        /// What is wrong.
        error: DecodeError,
    },
    /// The manifest breaks a rule.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The policy breaks a rule.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The list of dependencies breaks a rule.
    #[error(transparent)]
    Dependencies(#[from] DependencyError),
    /// Attestations out of order, twice, or too long.
    #[error("attestations are not in canonical order")]
    Attestations,
    /// Table, manifest and chunk section disagree about the payload.
    #[error("table, manifest and chunks disagree about the payload")]
    Payload,
    /// Signatures out of order, twice, or too many.
    #[error("signatures are not in canonical order")]
    Signatures,
}

/// One line of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) id: u16,
    pub(crate) len: u64,
    pub(crate) digest: WideDigest,
}

/// The table and the bytes of every section that is there.
pub(crate) struct Sections<'a> {
    pub(crate) entries: [Entry; LAYOUT.len()],
    pub(crate) bodies: [&'a [u8]; LAYOUT.len()],
}

/// Splits a container; section digests are checked but for the payload's.
pub(crate) fn split(bytes: &[u8], magic: [u8; 8]) -> Result<Sections<'_>, FormatError> {
    let is_head = magic == HEAD_MAGIC;
    let mut reader = Reader(bytes);
    if reader.array()? != magic {
        return Err(FormatError::Magic);
    }
    let version = u16::from_le_bytes(reader.array()?);
    let flags = u16::from_le_bytes(reader.array()?);
    if version != VERSION || flags != 0 {
        return Err(FormatError::Version(version));
    }
    if u32::from_le_bytes(reader.array()?) != SECTION_COUNT {
        return Err(FormatError::Table);
    }
    let mut offset = TABLE_END as u64;
    let mut entries = [Entry { id: 0, len: 0, digest: WideDigest::from_bytes([0; 64]) }; LAYOUT.len()];
    for (entry, expected) in entries.iter_mut().zip(LAYOUT) {
        let id = u16::from_le_bytes(reader.array()?);
        let flags = u16::from_le_bytes(reader.array()?);
        let found = u64::from_le_bytes(reader.array()?);
        let len = u64::from_le_bytes(reader.array()?);
        let absent = is_head && id == PAYLOAD;
        let place = if absent { 0 } else { offset };
        if id != expected || flags != 0 || found != place {
            return Err(FormatError::Table);
        }
        if !absent {
            offset = offset.checked_add(len).ok_or(FormatError::Length)?;
        }
        *entry = Entry { id, len, digest: WideDigest::from_bytes(reader.array()?) };
    }
    if offset != bytes.len() as u64 {
        return Err(FormatError::Length);
    }
    let mut bodies = [&[][..]; LAYOUT.len()];
    for (body, entry) in bodies.iter_mut().zip(&entries) {
        if entry.id == PAYLOAD && is_head {
            continue;
        }
        *body = reader.take(usize::try_from(entry.len).map_err(|_| FormatError::Length)?)?;
        if entry.id != PAYLOAD && WideDigest::of_bytes(body) != entry.digest {
            return Err(FormatError::SectionDigest(entry.id));
        }
    }
    Ok(Sections { entries, bodies })
}

/// Puts a container together; a body that is not there is the payload of a head.
pub(crate) fn join(entries: &[Entry], bodies: &[Option<&[u8]>], magic: [u8; 8]) -> Vec<u8> {
    let total = TABLE_END + bodies.iter().flatten().map(|body| body.len()).sum::<usize>();
    let mut bytes = Vec::with_capacity(total);
    bytes.extend_from_slice(&magic);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&0u16.to_le_bytes());
    bytes.extend_from_slice(&SECTION_COUNT.to_le_bytes());
    let mut offset = TABLE_END as u64;
    for (entry, body) in entries.iter().zip(bodies) {
        bytes.extend_from_slice(&entry.id.to_le_bytes());
        bytes.extend_from_slice(&0u16.to_le_bytes());
        bytes.extend_from_slice(&(if body.is_some() { offset } else { 0 }).to_le_bytes());
        bytes.extend_from_slice(&entry.len.to_le_bytes());
        bytes.extend_from_slice(entry.digest.as_bytes());
        offset += body.map_or(0, |body| body.len() as u64);
    }
    for body in bodies.iter().flatten() {
        bytes.extend_from_slice(body);
    }
    bytes
}

/// The same bytes with a table that fits them but for the lengths, so that what is behind the
/// digests can be tried with any bytes.
#[cfg(feature = "testing")]
pub(crate) fn with_fitting_table(bytes: &[u8], magic: [u8; 8]) -> Option<Vec<u8>> {
    let mut table = Reader(bytes);
    table.take(HEADER_BYTES).ok()?;
    let mut sections = Reader(bytes.get(TABLE_END..)?);
    let (mut entries, mut bodies) = (Vec::new(), Vec::new());
    for id in LAYOUT {
        let mut entry = Reader(table.take(ENTRY_BYTES).ok()?);
        entry.take(12).ok()?;
        let len = u64::from_le_bytes(entry.array().ok()?);
        let digest = WideDigest::from_bytes(entry.array().ok()?);
        if magic == HEAD_MAGIC && id == PAYLOAD {
            entries.push(Entry { id, len, digest });
            bodies.push(None);
            continue;
        }
        let len = usize::try_from(len).unwrap_or(usize::MAX).min(sections.0.len());
        let body = sections.take(len).ok()?;
        entries.push(Entry { id, len: body.len() as u64, digest: WideDigest::of_bytes(body) });
        bodies.push(Some(body));
    }
    Some(join(&entries, &bodies, magic))
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], FormatError> {
        let (head, rest) = self.0.split_at_checked(len).ok_or(FormatError::Length)?;
        self.0 = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], FormatError> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(FormatError::Length)?;
        self.0 = rest;
        Ok(*head)
    }
}
