//! The file of a ceremony: magic, version, a digest over the rest, a record in CBOR with its length, then
//! the points uncompressed: delta in G1 and in G2, L, H.

use minicbor::{Decode, Encode};
use nonos_identity::Digest;
use nonos_identity::wire::{self, Wire};

use super::chain::{Ceremony, CeremonyError, Parameters};
use super::contribution::Contribution;
use super::points::{G1_BYTES, G2_BYTES, append, parse};
use crate::domains;
use crate::proof::Profile;

/// Leads the file, before the version.
const MAGIC: &[u8; 7] = b"NNZKCER";
/// What this build writes and reads.
const VERSION: u8 = 1;

/// What stands before the points.
#[derive(Encode, Decode)]
struct Record {
    #[n(0)]
    profile: Profile,
    #[n(1)]
    circuit: Digest,
    #[n(2)]
    initial: Digest,
    #[n(3)]
    contributions: Vec<Contribution>,
    /// Points of L.
    #[n(4)]
    l: u64,
    /// Points of H.
    #[n(5)]
    h: u64,
}

impl Wire for Record {
    const MAX_BYTES: usize = 256 + Ceremony::CONTRIBUTIONS_MAX * Contribution::MAX_BYTES;
}

impl Ceremony {
    /// Longest file read, in bytes: what a wrong file can make us hold. A circuit of 2^18 constraints has
    /// 29 MB.
    pub const MAX_BYTES: usize = 64 << 20;

    /// The bytes of its file.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let Parameters { delta_g1, delta_g2, l, h } = &self.parameters;
        let record = wire::to_bytes(&Record {
            profile: self.profile,
            circuit: self.circuit,
            initial: self.initial,
            contributions: self.contributions.clone(),
            l: l.len() as u64,
            h: h.len() as u64,
        });
        let mut body = [&(record.len() as u64).to_le_bytes()[..], &record].concat();
        body.reserve(G1_BYTES + G2_BYTES + (l.len() + h.len()) * G1_BYTES);
        append(delta_g1, &mut body);
        append(delta_g2, &mut body);
        l.iter().chain(h).for_each(|point| append(point, &mut body));
        [&MAGIC[..], &[VERSION], digest(&body).as_bytes(), &body].concat()
    }

    /// Reads bytes of [`Self::to_bytes`]. Points are checked to be in their groups; whether it is a
    /// ceremony, [`Self::verify`] says.
    ///
    /// # Errors
    /// [`CeremonyError`] if they are none, of a later version or beyond a limit.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CeremonyError> {
        if bytes.len() > Self::MAX_BYTES {
            return Err(CeremonyError::Limits);
        }
        let rest = bytes.strip_prefix(MAGIC).ok_or(CeremonyError::Corrupt)?;
        let (version, rest) = rest.split_first().ok_or(CeremonyError::Corrupt)?;
        if *version != VERSION {
            return Err(CeremonyError::Version(*version));
        }
        let (expected, body) = rest.split_first_chunk::<32>().ok_or(CeremonyError::Corrupt)?;
        if digest(body).as_bytes() != expected {
            return Err(CeremonyError::Corrupt);
        }
        Self::from_body(body).ok_or(CeremonyError::Corrupt)?
    }

    fn from_body(body: &[u8]) -> Option<Result<Self, CeremonyError>> {
        let (len, rest) = body.split_first_chunk::<8>()?;
        let (record, rest) = rest.split_at_checked(u64::from_le_bytes(*len).try_into().ok()?)?;
        let record: Record = wire::from_bytes(record).ok()?;
        if record.contributions.len() > Self::CONTRIBUTIONS_MAX {
            return Some(Err(CeremonyError::Limits));
        }
        let (delta_g1, rest) = rest.split_at_checked(G1_BYTES)?;
        let (delta_g2, rest) = rest.split_at_checked(G2_BYTES)?;
        // The length is compared before anything is made of the counts.
        let bytes_of = |count: u64| usize::try_from(count).ok()?.checked_mul(G1_BYTES);
        let (l, h) = rest.split_at_checked(bytes_of(record.l)?)?;
        if h.len() != bytes_of(record.h)? {
            return None;
        }
        let points = |bytes: &[u8]| bytes.chunks_exact(G1_BYTES).map(parse).collect::<Option<Vec<_>>>();
        let parameters = Parameters {
            delta_g1: parse(delta_g1)?,
            delta_g2: parse(delta_g2)?,
            l: points(l)?,
            h: points(h)?,
        };
        let Record { profile, circuit, initial, contributions, .. } = record;
        Some(Ok(Self { profile, circuit, initial, contributions, parameters }))
    }
}

fn digest(body: &[u8]) -> Digest {
    Digest::of(domains::CEREMONY_FILE, &[MAGIC, &[VERSION], body])
}
