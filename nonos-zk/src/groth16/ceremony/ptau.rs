//! The file of a phase-1 ceremony ("powers of tau") as snarkjs writes it, `.ptau`.
//!
//! Little-endian throughout: `ptau`, version 1 and the number of sections (`u32` each), then sections
//! of an id (`u32`), a length in bytes (`u64`) and their content. Coordinates are 32 bytes in Montgomery
//! form; those of G2 have the part without the root first. For a power `p` and `n = 2^p`:
//!
//! | id | content | points |
//! |---|---|---|
//! | 1 | header: 32, the modulus of the coordinates, `p`, the power of the whole ceremony | |
//! | 2 | tau^i in G1 | 2n - 1 |
//! | 3 | tau^i in G2 | n |
//! | 4 | alpha tau^i in G1 | n |
//! | 5 | beta tau^i in G1 | n |
//! | 6 | beta in G2 | 1 |
//! | 7 | its contributions | |
//! | 12-15 | 2 to 5 in the Lagrange bases of 1, 2, 4 ... points, one after another | 2n - 1 or more |

use std::collections::BTreeMap;
use std::io::{self, Read, Seek, SeekFrom};

use ark_bn254::{Fq, Fq2, G1Affine, G1Projective, G2Affine, G2Projective};
use ark_ec::AffineRepr;
use ark_ec::short_weierstrass::{Affine, SWCurveConfig};
use ark_ff::{BigInt, PrimeField as _};
use ark_std::cfg_iter;
use nonos_identity::{Digest, RunningDigest};
#[cfg(feature = "parallel")]
use rayon::prelude::*;

use super::points::{G1_BYTES, G2_BYTES, Weights, generators, same_ratio, weighted};
use super::{Progress, Step};
use crate::domains;

/// Leads the file.
pub(super) const MAGIC: &[u8; 4] = b"ptau";
/// The one version there is.
pub(super) const VERSION: u32 = 1;
/// Sections in a file; snarkjs writes 7 or 11. A forged count would keep us reading.
const SECTIONS_MAX: u32 = 32;
/// Largest power; the scalar field of BN254 has no larger domain. Keeps `2^p` in range.
pub(super) const POWER_MAX: u32 = 28;
/// Points read at once: what a file that promises more than it has can make us hold.
const CHUNK_POINTS: usize = 4096;

/// The ids of sections.
pub(super) mod section {
    pub(in super::super) const HEADER: u32 = 1;
    pub(in super::super) const TAU_G1: u32 = 2;
    pub(in super::super) const TAU_G2: u32 = 3;
    pub(in super::super) const ALPHA: u32 = 4;
    pub(in super::super) const BETA: u32 = 5;
    pub(in super::super) const BETA_G2: u32 = 6;
    #[cfg(any(test, feature = "testing"))]
    pub(in super::super) const CONTRIBUTIONS: u32 = 7;
    pub(in super::super) const LAGRANGE_TAU_G1: u32 = 12;
    pub(in super::super) const LAGRANGE_TAU_G2: u32 = 13;
    pub(in super::super) const LAGRANGE_ALPHA: u32 = 14;
    pub(in super::super) const LAGRANGE_BETA: u32 = 15;
}

/// Why the powers of tau cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PtauError {
    /// The file could not be read.
    #[error("cannot read the powers of tau: {0}")]
    Io(io::Error),
    /// Not a `.ptau` file, or sections that are missing, double or of a wrong length.
    #[error("not the powers of tau: {0}")]
    Malformed(&'static str),
    /// A version of the format that this build does not know.
    #[error("version {0} of the ptau format is not known")]
    Version(u32),
    /// Powers over another curve than BN254 (`bn128` in snarkjs).
    #[error("powers of tau of another curve than BN254 (bn128)")]
    Curve,
    /// The file ends before it should.
    #[error("the powers of tau are cut short")]
    Truncated,
    /// The circuit needs more powers than there are.
    #[error("the circuit needs powers of tau of power {needed} or more; these are of power {found}")]
    Power {
        /// The power of the file.
        found: u32,
        /// The least power that the circuit needs.
        needed: u32,
    },
    /// A point is not on its curve or not in its group.
    #[error("point {index} of section {section} is no element of its group")]
    Point {
        /// The id of its section.
        section: u32,
        /// Its place there.
        index: usize,
    },
    /// The points of a section are not the powers, or not the Lagrange basis, that they should be.
    #[error("the points of section {section} are not consistent with those of the others")]
    Inconsistent {
        /// The id of the section.
        section: u32,
    },
    /// Nobody contributed, or tau is one of the few numbers that fit no setup.
    #[error("these powers of tau have no secret: was anything contributed?")]
    Degenerate,
    /// The circuit has more constraints than the curve has a domain for, or could not be described.
    #[error("no setup fits the circuit")]
    Circuit,
}

impl From<io::Error> for PtauError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Truncated,
            _ => Self::Io(error),
        }
    }
}

/// The powers a circuit with a domain of `n` points needs, checked.
pub(super) struct Powers {
    /// `2n - 1`.
    pub(super) tau_g1: Vec<G1Affine>,
    /// `n`, as are the next two.
    pub(super) tau_g2: Vec<G2Affine>,
    pub(super) alpha: Vec<G1Affine>,
    pub(super) beta: Vec<G1Affine>,
    pub(super) beta_g2: G2Affine,
    /// Over all of them.
    pub(super) digest: Digest,
    /// The same in the Lagrange basis of `n` points, as the file has it; not yet checked.
    pub(super) basis: Option<Basis>,
}

/// Powers in the Lagrange basis of a domain: of point `j` the polynomial that is 1 there and 0 on the
/// others, at tau.
pub(super) struct Basis {
    pub(super) tau_g1: Vec<G1Affine>,
    pub(super) tau_g2: Vec<G2Affine>,
    pub(super) alpha: Vec<G1Affine>,
    pub(super) beta: Vec<G1Affine>,
}

impl Powers {
    /// Reads and checks what a domain of `2^log2` points needs, and no more of the file.
    pub(super) fn read(
        source: &mut (impl Read + Seek),
        log2: u32,
        progress: &mut Progress<'_>,
    ) -> Result<Self, PtauError> {
        progress(Step::ReadPowers);
        let mut file = File::open(source)?;
        if file.power < log2 {
            return Err(PtauError::Power { found: file.power, needed: log2 });
        }
        let n = 1usize << log2;
        let tau_g1 = file.points(section::TAU_G1, 0, 2 * n - 1)?;
        let tau_g2 = file.points(section::TAU_G2, 0, n)?;
        let alpha = file.points(section::ALPHA, 0, n)?;
        let beta = file.points(section::BETA, 0, n)?;
        let beta_g2: Vec<G2Affine> = file.points(section::BETA_G2, 0, 1)?;
        let beta_g2 = *beta_g2.first().ok_or(PtauError::Truncated)?;
        let basis = if file.sections.contains_key(&section::LAGRANGE_TAU_G1) {
            // Before the basis of n points stand those of 1, 2, 4 ... n / 2.
            Some(Basis {
                tau_g1: file.points(section::LAGRANGE_TAU_G1, n - 1, n)?,
                tau_g2: file.points(section::LAGRANGE_TAU_G2, n - 1, n)?,
                alpha: file.points(section::LAGRANGE_ALPHA, n - 1, n)?,
                beta: file.points(section::LAGRANGE_BETA, n - 1, n)?,
            })
        } else {
            None
        };
        let powers = Self { tau_g1, tau_g2, alpha, beta, beta_g2, digest: file.digest.digest(), basis };
        progress(Step::CheckPowers);
        powers.check(n)?;
        Ok(powers)
    }

    /// That every list is a list of powers of one and the same tau.
    fn check(&self, n: usize) -> Result<(), PtauError> {
        let (g1, g2) = generators();
        let inconsistent = |section| PtauError::Inconsistent { section };
        let (Some(one), Some(one_g2)) = (self.tau_g1.first(), self.tau_g2.first()) else {
            return Err(PtauError::Truncated);
        };
        if *one != g1 {
            return Err(inconsistent(section::TAU_G1));
        }
        if *one_g2 != g2 {
            return Err(inconsistent(section::TAU_G2));
        }
        let (Some(alpha), Some(beta), Some(wrap)) =
            (self.alpha.first(), self.beta.first(), self.tau_g1.get(n))
        else {
            return Err(PtauError::Truncated);
        };
        // tau^n = 1 for the points of the domain, and for tau = 1, which is how a file begins that
        // nobody contributed to: the vanishing polynomial at tau is 0 then and anything can be proven.
        let secretless = [alpha, beta, wrap].iter().any(|point| point.is_zero() || **point == g1);
        if secretless {
            return Err(PtauError::Degenerate);
        }
        if !same_ratio(beta, &g1, &self.beta_g2, &g2) {
            return Err(inconsistent(section::BETA_G2));
        }
        let tau_g2 = self.tau_g2.get(1).ok_or(PtauError::Truncated)?;
        let mut weights = Weights::new(&self.digest);
        let lists =
            [(section::TAU_G1, &self.tau_g1), (section::ALPHA, &self.alpha), (section::BETA, &self.beta)];
        for (section, list) in lists {
            let weights = weights.take(list.len() - 1);
            let (_, later) = list.split_first().ok_or(PtauError::Truncated)?;
            let (later, earlier) = (
                weighted::<G1Projective>(later, &weights),
                weighted::<G1Projective>(earlier(list), &weights),
            );
            if !same_ratio(&later, &earlier, tau_g2, &g2) {
                return Err(inconsistent(section));
            }
        }
        let tau = self.tau_g1.get(1).ok_or(PtauError::Truncated)?;
        let weights = weights.take(self.tau_g2.len() - 1);
        let (_, later) = self.tau_g2.split_first().ok_or(PtauError::Truncated)?;
        let later = weighted::<G2Projective>(later, &weights);
        let earlier = weighted::<G2Projective>(earlier(&self.tau_g2), &weights);
        if !same_ratio(tau, &g1, &later, &earlier) {
            return Err(inconsistent(section::TAU_G2));
        }
        Ok(())
    }
}

/// All but the last.
fn earlier<P>(list: &[P]) -> &[P] {
    list.split_last().map_or(&[], |(_, earlier)| earlier)
}

/// An open file whose sections are known.
struct File<'a, S> {
    source: &'a mut S,
    /// Where each section begins and how long it is, in bytes.
    sections: BTreeMap<u32, (u64, u64)>,
    power: u32,
    /// Over everything read.
    digest: RunningDigest,
}

impl<'a, S: Read + Seek> File<'a, S> {
    fn open(source: &'a mut S) -> Result<Self, PtauError> {
        let end = source.seek(SeekFrom::End(0))?;
        source.seek(SeekFrom::Start(0))?;
        if bytes::<4>(source)? != *MAGIC {
            return Err(PtauError::Malformed("it does not begin with `ptau`"));
        }
        let version = u32::from_le_bytes(bytes(source)?);
        if version != VERSION {
            return Err(PtauError::Version(version));
        }
        let count = u32::from_le_bytes(bytes(source)?);
        if count > SECTIONS_MAX {
            return Err(PtauError::Malformed("too many sections"));
        }
        let mut sections = BTreeMap::new();
        let mut at = 12u64;
        for _ in 0..count {
            let id = u32::from_le_bytes(bytes(source)?);
            let len = u64::from_le_bytes(bytes(source)?);
            let start = at + 12;
            at = start.checked_add(len).filter(|at| *at <= end).ok_or(PtauError::Truncated)?;
            if sections.insert(id, (start, len)).is_some() {
                return Err(PtauError::Malformed("a section comes twice"));
            }
            source.seek(SeekFrom::Start(at))?;
        }
        let mut file =
            Self { source, sections, power: 0, digest: RunningDigest::new(domains::CEREMONY_POWERS) };
        file.power = file.header()?;
        file.check_lengths()?;
        Ok(file)
    }

    /// The power in the header.
    fn header(&mut self) -> Result<u32, PtauError> {
        if self.enter(section::HEADER)? != 4 + 32 + 4 + 4 {
            return Err(PtauError::Curve);
        }
        if u32::from_le_bytes(bytes(self.source)?) != 32 || limbs(&bytes(self.source)?) != Some(Fq::MODULUS) {
            return Err(PtauError::Curve);
        }
        let power = u32::from_le_bytes(bytes(self.source)?);
        if !(1..=POWER_MAX).contains(&power) {
            return Err(PtauError::Malformed("a power out of range"));
        }
        Ok(power)
    }

    /// That each section has the length its power asks for.
    fn check_lengths(&self) -> Result<(), PtauError> {
        let n = 1u64 << self.power;
        let [g1, g2] = [G1_BYTES as u64, G2_BYTES as u64];
        let exact = [
            (section::TAU_G1, (2 * n - 1) * g1),
            (section::TAU_G2, n * g2),
            (section::ALPHA, n * g1),
            (section::BETA, n * g1),
            (section::BETA_G2, g2),
        ];
        let len = |id| self.sections.get(&id).map(|(_, len)| *len);
        if exact.iter().any(|(id, expected)| len(*id) != Some(*expected)) {
            return Err(PtauError::Malformed("a section is missing or of a wrong length"));
        }
        let bases = [
            (section::LAGRANGE_TAU_G1, (2 * n - 1) * g1),
            (section::LAGRANGE_TAU_G2, (2 * n - 1) * g2),
            (section::LAGRANGE_ALPHA, (2 * n - 1) * g1),
            (section::LAGRANGE_BETA, (2 * n - 1) * g1),
        ];
        let prepared = bases.iter().filter(|(id, least)| len(*id).is_some_and(|len| len >= *least)).count();
        let present = bases.iter().filter(|(id, _)| len(*id).is_some()).count();
        if present != prepared || (prepared != 0 && prepared != bases.len()) {
            return Err(PtauError::Malformed("Lagrange sections that are not complete"));
        }
        Ok(())
    }

    /// Goes to the begin of a section and tells its length.
    fn enter(&mut self, id: u32) -> Result<u64, PtauError> {
        let (start, len) = *self.sections.get(&id).ok_or(PtauError::Malformed("a section is missing"))?;
        self.source.seek(SeekFrom::Start(start))?;
        Ok(len)
    }

    /// Reads `count` points of a section after `skipped` of them, each in its group.
    fn points<C: Coordinates>(
        &mut self,
        section: u32,
        skipped: usize,
        count: usize,
    ) -> Result<Vec<Affine<C>>, PtauError> {
        let (start, len) =
            *self.sections.get(&section).ok_or(PtauError::Malformed("a section is missing"))?;
        let size = C::BYTES as u64;
        let (first, whole) = (skipped as u64 * size, (skipped + count) as u64 * size);
        if whole > len {
            return Err(PtauError::Truncated);
        }
        self.source.seek(SeekFrom::Start(start + first))?;
        let mut points = Vec::new();
        let mut chunk = Vec::new();
        while points.len() < count {
            chunk.resize((count - points.len()).min(CHUNK_POINTS) * C::BYTES, 0);
            self.source.read_exact(&mut chunk)?;
            self.digest.field(&chunk);
            let raw: Vec<&[u8]> = chunk.chunks_exact(C::BYTES).collect();
            let parsed: Vec<_> = cfg_iter!(raw).map(|raw| point::<C>(raw)).collect();
            for parsed in parsed {
                let index = points.len();
                points.push(parsed.ok_or(PtauError::Point { section, index })?);
            }
        }
        Ok(points)
    }
}

fn bytes<const N: usize>(source: &mut impl Read) -> Result<[u8; N], io::Error> {
    let mut bytes = [0; N];
    source.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// A curve whose points a file has.
pub(super) trait Coordinates: SWCurveConfig {
    /// Length of a point in bytes.
    const BYTES: usize;

    /// Reads a coordinate.
    fn coordinate(bytes: &[u8]) -> Option<Self::BaseField>;
}

impl Coordinates for ark_bn254::g1::Config {
    const BYTES: usize = G1_BYTES;

    fn coordinate(bytes: &[u8]) -> Option<Fq> {
        montgomery(bytes.try_into().ok()?)
    }
}

impl Coordinates for ark_bn254::g2::Config {
    const BYTES: usize = G2_BYTES;

    fn coordinate(bytes: &[u8]) -> Option<Fq2> {
        let (c0, c1) = bytes.split_at_checked(G2_BYTES / 4)?;
        Some(Fq2::new(montgomery(c0.try_into().ok()?)?, montgomery(c1.try_into().ok()?)?))
    }
}

/// A point on its curve, in its group and not the identity, which is no power of anything.
fn point<C: Coordinates>(bytes: &[u8]) -> Option<Affine<C>> {
    let (x, y) = bytes.split_at_checked(C::BYTES / 2)?;
    let point = Affine::<C>::new_unchecked(C::coordinate(x)?, C::coordinate(y)?);
    if point.is_zero() {
        return None;
    }
    (point.is_on_curve() && C::is_in_correct_subgroup_assuming_on_curve(&point)).then_some(point)
}

/// Four words, the lowest first.
fn limbs(bytes: &[u8; 32]) -> Option<BigInt<4>> {
    let mut limbs = [0; 4];
    for (limb, word) in limbs.iter_mut().zip(bytes.chunks_exact(8)) {
        *limb = u64::from_le_bytes(word.try_into().ok()?);
    }
    Some(BigInt(limbs))
}

/// A number in Montgomery form, which is how arkworks holds it, below the modulus.
fn montgomery(bytes: &[u8; 32]) -> Option<Fq> {
    let limbs = limbs(bytes)?;
    (limbs < Fq::MODULUS).then_some(Fq::new_unchecked(limbs))
}
