//! Transparent proofs about bytes that stay at home: STARKs, with no trusted setup.
//!
//! **Statement.** [`verify_preimage`] says: whoever made the proof knew `len` bytes whose SHA3-512
//! (FIPS 202, padding and all) is `digest`. Digest, length and mode are public; in
//! [`Mode::Hiding`] the proof tells nothing else about the bytes.
//!
//! | mode | how | message | hides the message |
//! |---|---|---|---|
//! | [`Mode::Plain`] | a chain of segments of [`SEGMENT_BYTES`]; the states between them are public | up to [`MAX_PLAIN_BYTES`] | no |
//! | [`Mode::Hiding`] | one trace, so no state is shown | up to [`MAX_HIDING_BYTES`] | yes |
//!
//! A chain cannot hide: the 1 600-bit state between two segments is the sponge with its capacity,
//! from which whoever guesses all later blocks, or all but a few of the earlier ones, confirms the
//! guess. A longer message than [`MAX_HIDING_BYTES`] is therefore refused in hiding mode, not cut.
//!
//! **What it is worth.** Who has the bytes can check a digest faster than a proof. The plain mode shows
//! that a peer holds (or held) a binary which the verifier does not have; the hiding mode shows it
//! of a binary that nobody else may see. Neither says that the bytes ran, nor that the prover still
//! has them; a proof can be copied, and is no answer to a challenge.
//!
//! **Soundness.** See [`SECURITY_BITS`]. What is constrained, and how, is at the top of `stark/air.rs`.
//!
//! **Hidden fields.** [`verify_field`] says: whoever made the proof knew a salt and a decimal number for
//! which a salted SHA3-256 leaf has a given digest, and the number is in a range or one of a set.
//!
//! **Cost**, on two cores (x86-64 without AVX), CPU seconds of the prover:
//!
//! | message | mode | prove | proof | peak memory |
//! |---|---|---|---|---|
//! | 100 kB | plain | 20 s | 1.26 MB | 2.8 GB |
//! | 100 kB | hiding | 52 s | 1.38 MB | 5.9 GB |
//! | 1 MB | plain | 101 s | 7.50 MB | 2.8 GB |
//!
//! A trace has a power of two of rows, so a message just beyond one costs as much as one twice as long.

mod air;
mod config;
mod field;
mod leaf;
mod trace;

use core::ops::Range;

use nonos_identity::{Digest, WideDigest};

use self::air::{End, Hash, SpongeAir};
pub use self::config::SECURITY_BITS;
pub use self::leaf::{FieldLayout, FieldPredicate, FieldProof, FieldStatement, prove_field, verify_field};
use self::trace::{Absorbed, State};
use crate::domains;

const HASH: Hash = Hash::Sha3_512;

/// Bytes of a block of SHA3-512.
const RATE: usize = HASH.rate();

/// Blocks of a segment: 24 rows each, they fill a trace of 2^16 rows, the largest that is made.
const SEGMENT_BLOCKS: usize = 2_730;

/// Bytes of a message in one segment of a plain proof. Larger segments need more memory and
/// fewer bytes of proof.
pub const SEGMENT_BYTES: usize = SEGMENT_BLOCKS * RATE;

/// Longest message of a plain proof, in bytes: bounds what a prover spends on one call.
pub const MAX_PLAIN_BYTES: usize = 4 << 20;

/// Longest message of a hiding proof, in bytes: what fits one trace with its padding.
pub const MAX_HIDING_BYTES: usize = SEGMENT_BYTES - 1;

/// Longest proof of one segment, in bytes: what a peer can make us decode at a time.
const MAX_SEGMENT_PROOF_BYTES: usize = 2 << 20;

/// Whether the proof hides the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Mode {
    /// It may show parts of the message, and states between them.
    Plain,
    /// It shows digest and length only.
    Hiding,
}

impl Mode {
    const fn code(self) -> u8 {
        match self {
            Self::Plain => 1,
            Self::Hiding => 2,
        }
    }

    /// Fewest rows of a trace.
    const fn min_rows(self) -> usize {
        match self {
            Self::Plain => 32,
            Self::Hiding => config::HIDING_MIN_ROWS,
        }
    }

    /// Longest message, in bytes.
    #[must_use]
    pub const fn max_message_bytes(self) -> usize {
        match self {
            Self::Plain => MAX_PLAIN_BYTES,
            Self::Hiding => MAX_HIDING_BYTES,
        }
    }
}

/// Why there is no proof, or why it does not count.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StarkError {
    /// A message that the mode cannot prove; the caller's fault.
    #[error("message of {len} bytes exceeds the limit of {limit} of {mode:?} proofs")]
    MessageTooLong {
        /// Bytes of the message.
        len: u64,
        /// The limit.
        limit: usize,
        /// The mode.
        mode: Mode,
    },
    /// A statement about a field beyond the limits of this module; the caller's fault.
    #[error("no statement that can be proven: {0}")]
    Statement(&'static str),
    /// Salt and value do not satisfy the statement; the caller's fault.
    #[error("salt and value do not satisfy the statement")]
    Unsatisfied,
    /// A proof longer than its type allows; its sender's fault.
    #[error("proof of {len} bytes exceeds the limit of {limit}")]
    ProofTooLong {
        /// Bytes offered.
        len: usize,
        /// The limit.
        limit: usize,
    },
    /// Not the canonical bytes of a proof; its sender's fault.
    #[error("malformed proof")]
    Malformed,
    /// Well formed, but it does not convince of this statement; its sender's fault.
    #[error("proof does not verify")]
    Refused,
    /// The prover failed; a fault of this crate.
    #[error("prover failed: {0}")]
    Engine(String),
}

/// A proof of knowledge of a message with a given SHA3-512 digest and length.
///
/// Wire form: version (1), mode, and for each segment but the last its end as 25 little-endian lanes,
/// its number of bytes as four little-endian bytes and the bytes of Plonky3's proof in postcard; for
/// the last one number and bytes alone.
///
/// The bytes are no id: a prover makes as many for one statement as it likes.
#[derive(Clone, PartialEq, Eq)]
pub struct PreimageProof {
    mode: Mode,
    bytes: Vec<u8>,
}

const VERSION: u8 = 1;

const HEADER_BYTES: usize = 2;

impl PreimageProof {
    /// Longest proof, in bytes: what a peer can make us hold before any check.
    pub const MAX_BYTES: usize =
        HEADER_BYTES + segments(MAX_PLAIN_BYTES) * (200 + 4 + MAX_SEGMENT_PROOF_BYTES);

    /// Wraps the bytes of a proof. Only [`verify_preimage`] reads behind the mode.
    ///
    /// # Errors
    /// [`StarkError::ProofTooLong`], or [`StarkError::Malformed`] for another version or mode.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, StarkError> {
        if bytes.len() > Self::MAX_BYTES {
            return Err(StarkError::ProofTooLong { len: bytes.len(), limit: Self::MAX_BYTES });
        }
        let mode = match bytes.get(..HEADER_BYTES) {
            Some([VERSION, code]) => {
                [Mode::Plain, Mode::Hiding].into_iter().find(|mode| mode.code() == *code)
            }
            _ => None,
        };
        Ok(Self { mode: mode.ok_or(StarkError::Malformed)?, bytes })
    }

    /// Whether it hides the message: what its maker says. A plain proof marked as hiding does not
    /// verify, but a maker who publishes the message elsewhere hides nothing.
    #[must_use]
    pub const fn mode(&self) -> Mode {
        self.mode
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl core::fmt::Debug for PreimageProof {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "PreimageProof({:?}, {} bytes)", self.mode, self.bytes.len())
    }
}

/// Proves knowledge of a message, by its SHA3-512 digest and its length.
///
/// `seed` is for [`Mode::Hiding`]: 32 fresh bytes of a secure generator, never used for another
/// proof. Who knows them strips the masks from the proof.
///
/// # Errors
/// [`StarkError::MessageTooLong`], or [`StarkError::Engine`] if Plonky3 fails.
pub fn prove_preimage(message: &[u8], mode: Mode, seed: [u8; 32]) -> Result<PreimageProof, StarkError> {
    check_len(message.len() as u64, mode)?;
    let digest = WideDigest::of_bytes(message);
    let padded = trace::pad(HASH, message);
    let mut bytes = vec![VERSION, mode.code()];
    let mut start = [0; 25];
    let statement = Statement { digest: &digest, len: message.len(), mode };
    for (index, blocks) in padded.chunks(SEGMENT_BYTES).enumerate() {
        let absorbed = Absorbed::new(HASH, start, blocks);
        let air = statement.air(index);
        let proof = prove_segment(&statement.transcript(index), mode, &seed, &air, &absorbed)?;
        let len = u32::try_from(proof.len()).ok().filter(|_| proof.len() <= MAX_SEGMENT_PROOF_BYTES);
        let len = len.ok_or_else(|| StarkError::Engine(format!("proof of {} bytes", proof.len())))?;
        start = absorbed.end;
        if air.end == End::Open {
            bytes.extend(start.iter().flat_map(|lane| lane.to_le_bytes()));
        }
        bytes.extend(len.to_le_bytes());
        bytes.extend(proof);
    }
    PreimageProof::from_bytes(bytes)
}

fn prove_segment(
    transcript: &Digest,
    mode: Mode,
    seed: &[u8; 32],
    air: &SpongeAir,
    absorbed: &Absorbed,
) -> Result<Vec<u8>, StarkError> {
    let publics = absorbed.publics(air);
    match mode {
        Mode::Plain => {
            let rows = absorbed.rows(air, mode.min_rows(), config::LOG_BLOWUP);
            config::prove(&config::plain(transcript), air, rows, &publics)
        }
        Mode::Hiding => {
            // The masks are put between the rows, in memory of their own.
            let rows = absorbed.rows(air, mode.min_rows(), 0);
            config::prove(&config::hiding(transcript, seed), air, rows, &publics)
        }
    }
}

/// Verifies that whoever made the proof knew `len` bytes with this SHA3-512 digest.
///
/// It takes some tens of milliseconds for each [`SEGMENT_BYTES`] and memory in proportion to the
/// proof of one segment. Any bytes are safe to pass.
///
/// # Errors
/// [`StarkError::MessageTooLong`] for a statement beyond the limits, [`StarkError::Malformed`] or
/// [`StarkError::Refused`] if the proof is for nothing, or for something else.
pub fn verify_preimage(digest: &WideDigest, len: u64, proof: &PreimageProof) -> Result<(), StarkError> {
    let len = check_len(len, proof.mode)?;
    let statement = Statement { digest, len, mode: proof.mode };
    let mut rest = proof.bytes.get(HEADER_BYTES..).ok_or(StarkError::Malformed)?;
    let mut start = [0; 25];
    for index in 0..segments(len) {
        let air = statement.air(index);
        let end = match air.end {
            End::Open => take_state(&mut rest)?,
            End::Message { .. } => trace::digest_state(digest.as_bytes()),
        };
        let proof = take_proof(&mut rest)?;
        let blocks = statement.blocks(index).len();
        let publics = trace::publics(&air, &start, &trace::limbs(&end), blocks);
        let transcript = statement.transcript(index);
        let rows = trace::height(blocks, statement.mode.min_rows());
        match statement.mode {
            Mode::Plain => config::verify(&config::plain(&transcript), &air, rows, &publics, proof)?,
            Mode::Hiding => {
                config::verify(&config::hiding(&transcript, &[0; 32]), &air, rows, &publics, proof)?
            }
        }
        start = end;
    }
    if rest.is_empty() { Ok(()) } else { Err(StarkError::Malformed) }
}

fn check_len(len: u64, mode: Mode) -> Result<usize, StarkError> {
    let limit = mode.max_message_bytes();
    let fits = usize::try_from(len).ok().filter(|len| *len <= limit);
    fits.ok_or(StarkError::MessageTooLong { len, limit, mode })
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], StarkError> {
    let (taken, more) = rest.split_first_chunk().ok_or(StarkError::Malformed)?;
    *rest = more;
    Ok(*taken)
}

fn take_state(rest: &mut &[u8]) -> Result<State, StarkError> {
    let mut state = [0; 25];
    for lane in &mut state {
        *lane = u64::from_le_bytes(take(rest)?);
    }
    Ok(state)
}

fn take_proof<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], StarkError> {
    let len = u32::from_le_bytes(take(rest)?);
    let len = usize::try_from(len).ok().filter(|len| *len <= MAX_SEGMENT_PROOF_BYTES);
    let (proof, more) = len.and_then(|len| rest.split_at_checked(len)).ok_or(StarkError::Malformed)?;
    *rest = more;
    Ok(proof)
}

/// Blocks of a message with its padding.
const fn blocks(len: usize) -> usize {
    len / RATE + 1
}

/// Segments of a message.
const fn segments(len: usize) -> usize {
    blocks(len).div_ceil(SEGMENT_BLOCKS)
}

/// What a proof is about.
struct Statement<'a> {
    digest: &'a WideDigest,
    len: usize,
    mode: Mode,
}

impl Statement<'_> {
    /// The blocks of a segment.
    fn blocks(&self, segment: usize) -> Range<usize> {
        let start = segment * SEGMENT_BLOCKS;
        start..blocks(self.len).min(start + SEGMENT_BLOCKS)
    }

    fn air(&self, segment: usize) -> SpongeAir {
        let is_last = self.blocks(segment).end == blocks(self.len);
        SpongeAir {
            hash: HASH,
            end: if is_last { End::Message { tail: self.len % RATE } } else { End::Open },
        }
    }

    /// The seed of the challenges of a segment. Start and end of the segment are public values,
    /// which the challenges depend on too.
    fn transcript(&self, segment: usize) -> Digest {
        let number = |number: usize| (number as u64).to_le_bytes();
        Digest::of(
            domains::STARK_TRANSCRIPT,
            &[
                b"preimage",
                &[VERSION, self.mode.code()],
                self.digest.as_bytes(),
                &number(self.len),
                &number(segment),
            ],
        )
    }
}
