//! Arithmetic over many points.

use ark_bn254::{Bn254, Fr, G1Affine, G1Projective, G2Affine};
use ark_ec::pairing::Pairing as _;
use ark_ec::{AffineRepr, CurveGroup};
use ark_ff::{Field as _, PrimeField as _};
use ark_serialize::{CanonicalDeserialize, CanonicalSerialize};
use ark_std::cfg_iter;
use ark_std::rand::RngCore as _;
use nonos_identity::{Digest, RunningDigest};
#[cfg(feature = "parallel")]
use rayon::prelude::*;

use super::super::stream::Stream;
use crate::domains;

/// Bytes of an uncompressed point of G1.
pub(super) const G1_BYTES: usize = 64;
/// Bytes of an uncompressed point of G2.
pub(super) const G2_BYTES: usize = 128;
/// Bytes of a compressed point of G1.
pub(super) const G1_COMPRESSED_BYTES: usize = 32;

/// From how many terms the bucket method is cheaper than one by one.
const BUCKETS_MIN: usize = 32;

/// Coefficients of one variable, each with the constraint it is in.
pub(super) type Column = Vec<(Fr, usize)>;

/// As many weights of 128 bits as are asked for. They come from a hash over all that is checked with
/// them: a false point passes for one of 2^128 hashes, and whoever chose the points can only try.
pub(super) struct Weights(Stream);

impl Weights {
    pub(super) fn new(seed: &Digest) -> Self {
        Self(Stream::from_seed(*Digest::of(domains::CEREMONY_WEIGHTS, &[seed.as_bytes()]).as_bytes()))
    }

    pub(super) fn take(&mut self, count: usize) -> Vec<Fr> {
        let mut weight = || Fr::from(u128::from(self.0.next_u64()) << 64 | u128::from(self.0.next_u64()));
        (0..count).map(|_| weight()).collect()
    }
}

/// The sum of the points, each times its weight.
pub(super) fn weighted<C: CurveGroup<ScalarField = Fr>>(points: &[C::Affine], weights: &[Fr]) -> C::Affine {
    C::msm_unchecked(points, weights).into_affine()
}

/// Whether `a` is as many times `b` in G1 as `c` is `d` in G2: `e(a, d) = e(b, c)`.
pub(super) fn same_ratio(a: &G1Affine, b: &G1Affine, c: &G2Affine, d: &G2Affine) -> bool {
    Bn254::pairing(a, d) == Bn254::pairing(b, c)
}

/// Multiplies every point by one factor.
pub(super) fn scale(points: &[G1Affine], factor: &Fr) -> Vec<G1Affine> {
    let scaled: Vec<G1Projective> = cfg_iter!(points).map(|point| *point * factor).collect();
    G1Projective::normalize_batch(&scaled)
}

/// For each column of a matrix the sum of `coefficient * bases[row]` over its terms.
pub(super) fn combine<C: CurveGroup<ScalarField = Fr>>(columns: &[Column], bases: &[C::Affine]) -> Vec<C> {
    let is_long = |column: &Column| column.len() >= BUCKETS_MIN;
    let mut sums: Vec<C> = cfg_iter!(columns)
        .map(|column| if is_long(column) { C::ZERO } else { one_by_one(column, bases) })
        .collect();
    // One after another, for each is spread over the threads by itself: nested, the thread pool would
    // start ever more columns on one stack.
    for (sum, column) in sums.iter_mut().zip(columns).filter(|(_, column)| is_long(column)) {
        let (factors, points): (Vec<Fr>, Vec<C::Affine>) =
            column.iter().filter_map(|(factor, row)| Some((*factor, *bases.get(*row)?))).unzip();
        *sum = C::msm_unchecked(&points, &factors);
    }
    sums
}

/// For columns of few terms; most coefficients of circuits are 1, -1 or small.
fn one_by_one<C: CurveGroup<ScalarField = Fr>>(column: &Column, bases: &[C::Affine]) -> C {
    let mut sum = C::ZERO;
    for (factor, row) in column {
        let Some(base) = bases.get(*row) else { continue };
        // A coefficient of -2 is a number of 254 bits; 2 is one of two bits.
        let (direct, negated) = (factor.into_bigint(), (-*factor).into_bigint());
        let one = Fr::ONE.into_bigint();
        if direct == one {
            sum += base;
        } else if negated == one {
            sum -= base;
        } else if negated < direct {
            sum -= base.mul_bigint(negated);
        } else {
            sum += base.mul_bigint(direct);
        }
    }
    sum
}

/// Digest over points in their uncompressed form.
pub(super) fn absorb<P: CanonicalSerialize>(digest: &mut RunningDigest, points: &[P]) {
    digest.field(&(points.len() as u64).to_le_bytes());
    let mut bytes = Vec::new();
    for point in points {
        bytes.clear();
        append(point, &mut bytes);
        digest.field(&bytes);
    }
}

/// Appends the uncompressed form.
pub(super) fn append(point: &impl CanonicalSerialize, bytes: &mut Vec<u8>) {
    point.serialize_uncompressed(bytes).expect("a vector takes every write");
}

/// Reads an uncompressed point: on its curve, in its group, in the one form that we write.
pub(super) fn parse<P: CanonicalSerialize + CanonicalDeserialize>(bytes: &[u8]) -> Option<P> {
    let point = P::deserialize_uncompressed(bytes).ok()?;
    let mut again = Vec::with_capacity(bytes.len());
    append(&point, &mut again);
    (again == bytes).then_some(point)
}

/// The compressed form of a point of G1.
pub(super) fn compress(point: &G1Affine) -> [u8; G1_COMPRESSED_BYTES] {
    let mut bytes = [0; G1_COMPRESSED_BYTES];
    point.serialize_compressed(&mut bytes[..]).expect("the length is that of a point");
    bytes
}

/// Reads a compressed point of G1 that is not the identity.
pub(super) fn decompress(bytes: &[u8; G1_COMPRESSED_BYTES]) -> Option<G1Affine> {
    let point = G1Affine::deserialize_compressed(&bytes[..]).ok()?;
    (!point.is_zero() && compress(&point) == *bytes).then_some(point)
}

/// The first points of both groups.
pub(super) fn generators() -> (G1Affine, G2Affine) {
    (G1Affine::generator(), G2Affine::generator())
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    /// The shortcuts for small coefficients give what plain multiplication gives.
    #[test]
    fn combinations_are_sums_of_products() {
        let mut weights = Weights::new(&Digest::from_bytes([1; 32]));
        let scalars = weights.take(64);
        let bases: Vec<_> = scalars.iter().map(|scalar| (generators().0 * scalar).into_affine()).collect();
        let small = [1i64, -1, 2, -2, 0, 7, -4096].map(Fr::from);
        let columns: Vec<Column> = [0, 1, 7, BUCKETS_MIN - 1, BUCKETS_MIN, 60]
            .map(|len| small.iter().chain(&scalars).copied().take(len).zip(3..).collect())
            .into();
        let plain = |column: &Column| column.iter().map(|(factor, row)| bases[*row] * factor).sum();
        let plain: Vec<G1Projective> = columns.iter().map(plain).collect();
        assert_eq!(combine::<G1Projective>(&columns, &bases), plain);
    }
}
