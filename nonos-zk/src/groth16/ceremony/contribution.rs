use core::fmt;

use ark_bn254::{Fr, G1Affine};
use ark_ec::CurveGroup as _;
use ark_ff::{AdditiveGroup as _, Field as _, PrimeField as _};
use minicbor::{Decode, Encode};
use nonos_identity::wire::{self, Wire};
use nonos_identity::{Digest, Domain, WideDigest};
use zeroize::Zeroizing;

use super::points::{G1_COMPRESSED_BYTES, compress, decompress};
use crate::domains;
use crate::element::{parse, print};

/// What one party did: it multiplied delta by a number that it alone knew, or that all can compute.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Contribution {
    #[n(0)]
    pub(super) name: String,
    #[n(1)]
    pub(super) means: Means,
    /// Delta in G1, afterwards.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub(super) delta: [u8; G1_COMPRESSED_BYTES],
    /// Digest of the parameters afterwards: whoever signed for them cannot blame the next.
    #[n(3)]
    pub(super) parameters: Digest,
}

/// How the factor is known.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) enum Means {
    /// By one party. Schnorr's proof of knowledge of the factor, to the base of the delta before: the
    /// commitment `k * delta`, and `k + challenge * factor`.
    #[n(0)]
    Secret {
        #[cbor(n(0), with = "minicbor::bytes")]
        commitment: [u8; G1_COMPRESSED_BYTES],
        #[cbor(n(1), with = "minicbor::bytes")]
        response: [u8; 32],
    },
    /// By all: hashed from public bytes.
    #[n(1)]
    Beacon {
        #[cbor(n(0), with = "minicbor::bytes")]
        value: Vec<u8>,
        /// `2^n` hashes in a row.
        #[n(1)]
        iterations_log2: u8,
    },
}

/// What is wrong with a contribution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// A name or beacon outside the limits.
    #[error("its name or beacon is outside the limits")]
    Limits,
    /// It comes after a beacon, which has to be the last.
    #[error("it comes after the beacon")]
    AfterBeacon,
    /// Its delta is no point, or the identity, as by the factor 0.
    #[error("its delta is no element of the group, or the identity")]
    Delta,
    /// Its delta is the one before.
    #[error("it changed nothing")]
    Unchanged,
    /// It does not show that anybody knew the factor, for this place in this ceremony.
    #[error("its proof of knowledge does not hold here")]
    Knowledge,
    /// Its delta is not the one that the beacon gives.
    #[error("its delta is not what the beacon gives")]
    Beacon,
    /// The parameters are not those it vouched for.
    #[error("the parameters are not those it vouched for")]
    Parameters,
    /// Delta in G2, or in the parameters, is not the delta of the chain.
    #[error("delta of the parameters is not that of the chain")]
    Mismatch,
    /// The points of L were not divided by what delta was multiplied by.
    #[error("L was not scaled by the inverse of delta")]
    L,
    /// The points of H were not divided by what delta was multiplied by.
    #[error("H was not scaled by the inverse of delta")]
    H,
}

impl Contribution {
    /// Longest name, in bytes; names are for reports, not for storage.
    pub const NAME_BYTES_MAX: usize = 64;
    /// Longest value of a beacon, in bytes. A block hash has 32, a drand round 96.
    pub const BEACON_BYTES_MAX: usize = 256;
    /// Least number of hashes of a beacon, `2^10`: as in snarkjs.
    pub const BEACON_LOG2_MIN: u8 = 10;
    /// Largest number of hashes, `2^28`, about two minutes: each verifier repeats them, so that a forged
    /// file could ask for years.
    pub const BEACON_LOG2_MAX: u8 = 28;

    /// Who contributed, as they say.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The public bytes and the power of two of hashes, if it is a beacon.
    #[must_use]
    pub fn beacon(&self) -> Option<(&[u8], u8)> {
        match &self.means {
            Means::Secret { .. } => None,
            Means::Beacon { value, iterations_log2 } => Some((value, *iterations_log2)),
        }
    }

    /// Digest of the parameters afterwards.
    #[must_use]
    pub const fn parameters(&self) -> Digest {
        self.parameters
    }

    pub(super) fn secret(turn: &Turn<'_>, factor: &Fr, entropy: &[u8; 32]) -> Self {
        // The challenge depends on no more than what is hashed here, so that a nonce meets one alone.
        let fields: [&[u8]; 4] =
            [entropy, turn.transcript.as_bytes(), turn.name.as_bytes(), turn.parameters.as_bytes()];
        let nonce = scalar(domains::CEREMONY_NONCE, &fields);
        let commitment = compress(&(*turn.before * *nonce).into_affine());
        let response = print(&(*nonce + turn.challenge(&commitment) * factor));
        turn.by(Means::Secret { commitment, response })
    }

    pub(super) fn public(turn: &Turn<'_>, value: &[u8], iterations_log2: u8) -> Self {
        turn.by(Means::Beacon { value: value.to_vec(), iterations_log2 })
    }

    /// Checks it in its place: delta before and transcript before. Returns delta afterwards.
    pub(super) fn check(&self, before: &G1Affine, transcript: &Digest) -> Result<G1Affine, Fault> {
        if !name_allowed(&self.name) {
            return Err(Fault::Limits);
        }
        let after = decompress(&self.delta).ok_or(Fault::Delta)?;
        if after == *before {
            return Err(Fault::Unchanged);
        }
        match &self.means {
            Means::Beacon { value, iterations_log2 } => {
                if !beacon_allowed(value, *iterations_log2) {
                    return Err(Fault::Limits);
                }
                let factor = beacon_factor(transcript, &self.name, value, *iterations_log2);
                if (*before * factor).into_affine() != after {
                    return Err(Fault::Beacon);
                }
            }
            Means::Secret { commitment, response } => {
                let turn = Turn {
                    name: &self.name,
                    transcript,
                    before,
                    after: &after,
                    parameters: &self.parameters,
                };
                let point = decompress(commitment).ok_or(Fault::Knowledge)?;
                let response = parse(response).map_err(|_| Fault::Knowledge)?;
                if *before * response != after * turn.challenge(commitment) + point {
                    return Err(Fault::Knowledge);
                }
            }
        }
        Ok(after)
    }

    /// The transcript after it.
    pub(super) fn extend(&self, transcript: &Digest) -> Digest {
        Digest::of(domains::CEREMONY_CHAIN, &[transcript.as_bytes(), &wire::to_bytes(self)])
    }
}

impl Wire for Contribution {
    const MAX_BYTES: usize = 512;
}

/// One contribution while it is made or checked.
pub(super) struct Turn<'a> {
    pub(super) name: &'a str,
    pub(super) transcript: &'a Digest,
    pub(super) before: &'a G1Affine,
    pub(super) after: &'a G1Affine,
    pub(super) parameters: &'a Digest,
}

impl Turn<'_> {
    fn by(&self, means: Means) -> Contribution {
        let (name, delta) = (self.name.to_owned(), compress(self.after));
        Contribution { name, means, delta, parameters: *self.parameters }
    }

    fn challenge(&self, commitment: &[u8; G1_COMPRESSED_BYTES]) -> Fr {
        let fields: [&[u8]; 6] = [
            self.transcript.as_bytes(),
            self.name.as_bytes(),
            &compress(self.before),
            &compress(self.after),
            commitment,
            self.parameters.as_bytes(),
        ];
        *scalar(domains::CEREMONY_CHALLENGE, &fields)
    }
}

/// The factor of a secret contribution. That the transcript is hashed in makes entropy which was used
/// before, or elsewhere, harmless.
pub(super) fn secret_factor(transcript: &Digest, name: &str, entropy: &[u8; 32]) -> Zeroizing<Fr> {
    scalar(domains::CEREMONY_FACTOR, &[entropy, transcript.as_bytes(), name.as_bytes()])
}

/// The factor of a beacon: `2^n` times SHA3-256 over the digest of transcript, name and value. With
/// the transcript in it, whoever comes last cannot try contributions faster than that.
pub(super) fn beacon_factor(transcript: &Digest, name: &str, value: &[u8], iterations_log2: u8) -> Fr {
    let mut hash = Digest::of(domains::CEREMONY_BEACON, &[transcript.as_bytes(), name.as_bytes(), value]);
    for _ in 0..1u64 << iterations_log2.min(Contribution::BEACON_LOG2_MAX) {
        hash = Digest::of_bytes(hash.as_bytes());
    }
    *scalar(domains::CEREMONY_FACTOR, &[hash.as_bytes()])
}

/// 64 bytes of a hash are uniform modulo the order, all but 2^-256 of it. 0 becomes 1, for form's sake.
fn scalar(domain: Domain, fields: &[&[u8]]) -> Zeroizing<Fr> {
    let wide = Zeroizing::new(*WideDigest::of(domain, fields).as_bytes());
    let scalar = Fr::from_le_bytes_mod_order(&wide[..]);
    Zeroizing::new(if scalar == Fr::ZERO { Fr::ONE } else { scalar })
}

/// Names go to terminals: no control characters, not empty.
pub(super) fn name_allowed(name: &str) -> bool {
    !name.trim().is_empty()
        && name.len() <= Contribution::NAME_BYTES_MAX
        && !name.chars().any(char::is_control)
}

pub(super) fn beacon_allowed(value: &[u8], iterations_log2: u8) -> bool {
    (Contribution::BEACON_LOG2_MIN..=Contribution::BEACON_LOG2_MAX).contains(&iterations_log2)
        && (1..=Contribution::BEACON_BYTES_MAX).contains(&value.len())
}

impl fmt::Display for Contribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.means {
            Means::Secret { .. } => f.write_str(&self.name),
            Means::Beacon { iterations_log2, .. } => {
                write!(f, "{} (beacon, 2^{iterations_log2} hashes)", self.name)
            }
        }
    }
}
