//! The two instances of Plonky3 that proofs are made with, and what makes them sound.

use nonos_identity::Digest;
use p3_air::{Air, DebugConstraintBuilder};
use p3_challenger::{GrindingChallenger, HashChallenger, SerializingChallenger32};
use p3_commit::ExtensionMmcs;
use p3_dft::Radix2DitParallel;
use p3_field::extension::QuinticTrinomialExtensionField;
use p3_fri::{FriParameters, HidingFriPcs, TwoAdicFriPcs};
use p3_keccak::{Keccak256Hash, KeccakF, VECTOR_LEN};
use p3_koala_bear::KoalaBear;
use p3_matrix::dense::RowMajorMatrix;
use p3_merkle_tree::{MerkleTreeHidingMmcs, MerkleTreeMmcs};
use p3_symmetric::{CompressionFunctionFromHasher, PaddingFreeSponge, SerializingHasher};
use p3_uni_stark::{
    Proof, QuotientAir, StarkConfig, StarkGenericConfig, SymbolicAirBuilder, VerifierConstraintFolder,
};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;

use super::StarkError;
use crate::domains;

/// Bits of security.
pub const SECURITY_BITS: usize = 100;

/// The field of the trace, 31 bits.
pub(super) type Val = KoalaBear;

/// The field of the challenges, 154 bits: with the usual extension of degree 4 (124 bits) the
/// errors of batching thousands of columns would leave about 80 bits in the provable regime.
pub(super) type Challenge = QuinticTrinomialExtensionField<Val>;

/// Elements of [`Val`] in one of [`Challenge`].
const EXTENSION_DEGREE: usize = 5;

/// Random elements beside each row before it is hashed: 155 bits.
const SALT_ELEMS: usize = 5;

type LaneHash = PaddingFreeSponge<KeccakF, 25, 17, 4>;
type RowHash = SerializingHasher<LaneHash>;
type Compress = CompressionFunctionFromHasher<LaneHash, 2, 4>;
type PlainMmcs = MerkleTreeMmcs<[Val; VECTOR_LEN], [u64; VECTOR_LEN], RowHash, Compress, 2, 4>;
type HidingMmcs =
    MerkleTreeHidingMmcs<[Val; VECTOR_LEN], [u64; VECTOR_LEN], RowHash, Compress, ChaCha20Rng, 2, 4, SALT_ELEMS>;
type Dft = Radix2DitParallel<Val>;
type Challenger = SerializingChallenger32<Val, HashChallenger<u8, Keccak256Hash, 32>>;
type PlainPcs = TwoAdicFriPcs<Val, Dft, PlainMmcs, ExtensionMmcs<Val, Challenge, PlainMmcs>>;
type HidingPcs =
    HidingFriPcs<Val, Dft, HidingMmcs, ExtensionMmcs<Val, Challenge, HidingMmcs>, ChaCha20Rng>;
pub(super) type Plain = StarkConfig<PlainPcs, Challenge, Challenger>;
pub(super) type Hiding = StarkConfig<HidingPcs, Challenge, Challenger>;

pub(super) const LOG_BLOWUP: usize = 2;
pub(super) const QUERIES: usize = 100;
pub(super) const QUERY_POW_BITS: usize = 16;
pub(super) const LOG_ARITY: usize = 3;
pub(super) const HIDING_MIN_ROWS: usize = 256;

pub(super) fn fri<M>(mmcs: M) -> FriParameters<M> {
    FriParameters {
        log_blowup: LOG_BLOWUP,
        log_final_poly_len: 0,
        max_log_arity: LOG_ARITY,
        num_queries: QUERIES,
        batch_proof_of_work_bits: 0,
        commit_proof_of_work_bits: 0,
        query_proof_of_work_bits: QUERY_POW_BITS,
        mmcs,
    }
}

fn challenger(transcript: &Digest) -> Challenger {
    Challenger::from_hasher(transcript.as_bytes().to_vec(), Keccak256Hash {})
}

/// `transcript` binds everything that is said beside the public values.
pub(super) fn plain(transcript: &Digest) -> Plain {
    let lanes = LaneHash::new(KeccakF {});
    let mmcs = PlainMmcs::new(RowHash::new(lanes), Compress::new(lanes), 0);
    let fri = fri(ExtensionMmcs::new(mmcs.clone()));
    StarkConfig::new(TwoAdicFriPcs::new(Dft::default(), mmcs, fri), challenger(transcript))
}

/// `seed` is the prover's, for masks and salts; a verifier needs none and gives any.
pub(super) fn hiding(transcript: &Digest, seed: &[u8; 32]) -> Hiding {
    let rng = |purpose: &[u8]| {
        let seed = Digest::of(domains::STARK_BLINDING, &[purpose, seed, transcript.as_bytes()]);
        ChaCha20Rng::from_seed(*seed.as_bytes())
    };
    let lanes = LaneHash::new(KeccakF {});
    let mmcs = |purpose| HidingMmcs::new(RowHash::new(lanes), Compress::new(lanes), 0, rng(purpose));
    let fri = fri(ExtensionMmcs::new(mmcs(b"salts of folds")));
    let pcs = HidingFriPcs::new(Dft::default(), mmcs(b"salts of rows"), fri, EXTENSION_DEGREE, rng(b"masks"));
    StarkConfig::new(pcs, challenger(transcript))
}

/// Proves that the rows satisfy the AIR.
pub(super) fn prove<SC, A>(
    config: &SC,
    air: &A,
    rows: RowMajorMatrix<p3_uni_stark::Val<SC>>,
    publics: &[p3_uni_stark::Val<SC>],
) -> Result<Vec<u8>, StarkError>
where
    SC: StarkGenericConfig<Challenger: GrindingChallenger<Witness = p3_uni_stark::Val<SC>>>,
    A: QuotientAir<SC> + for<'a> Air<DebugConstraintBuilder<'a, p3_uni_stark::Val<SC>>>,
{
    let proof = p3_uni_stark::prove(config, air, rows, publics);
    let proof = proof.map_err(|error| StarkError::Engine(format!("{error:?}")))?;
    postcard::to_allocvec(&proof).map_err(|error| StarkError::Engine(error.to_string()))
}

/// Verifies the bytes that [`prove`] made for a trace of so many rows.
///
/// The lengths of everything in a proof follow from the AIR, the rows and the parameters; Plonky3 0.8
/// compares each of them before it reads, and panics at none (`mutations` in the tests tries).
pub(super) fn verify<SC, A>(
    config: &SC,
    air: &A,
    rows: usize,
    publics: &[p3_uni_stark::Val<SC>],
    bytes: &[u8],
) -> Result<(), StarkError>
where
    SC: StarkGenericConfig<Challenger: GrindingChallenger<Witness = p3_uni_stark::Val<SC>>>,
    A: Air<SymbolicAirBuilder<p3_uni_stark::Val<SC>>> + for<'a> Air<VerifierConstraintFolder<'a, SC>>,
{
    let proof: Proof<SC> = postcard::from_bytes(bytes).map_err(|_| StarkError::Malformed)?;
    // Postcard reads numbers in more than one encoding, and bytes behind the end.
    if postcard::to_allocvec(&proof).ok().as_deref() != Some(bytes) {
        return Err(StarkError::Malformed);
    }
    // The claimed height decides how much work the verifier does.
    let rows_claimed = u32::try_from(proof.degree_bits).ok().and_then(|bits| 1_usize.checked_shl(bits));
    if rows_claimed != Some(rows << config.is_zk()) {
        return Err(StarkError::Malformed);
    }
    p3_uni_stark::verify(config, air, &proof, publics).map_err(|_| StarkError::Refused)
}

#[cfg(test)]
mod tests {
    use p3_field::coset::TwoAdicMultiplicativeCoset;
    use p3_field::PrimeCharacteristicRing;
    use p3_uni_stark::{AirLayout, OpeningShape, ProvenSecurity, StarkSecurityParams};

    use super::super::air::{End, Hash, SpongeAir};
    use super::*;

    #[test]
    fn bits() {
        let air = SpongeAir { hash: Hash::Sha3_512, end: End::Message { tail: 7 } };
        for hiding in [false, true] {
            for log_rows in 9..=17 {
                let fri = fri(());
                let openings = if hiding { OpeningShape::hiding(EXTENSION_DEGREE) } else { OpeningShape::new() };
                let params = StarkSecurityParams::from_air::<Val, Challenge, _>(
                    fri.security_regime(), &air, AirLayout::from_air::<Val>(&air),
                    TwoAdicMultiplicativeCoset::new(Val::ONE, log_rows).unwrap(),
                    154, 128, 2, openings, fri.grinding_sites());
                println!("{hiding} {log_rows} {:?} {:?}", ProvenSecurity::compute_from_proof(log_rows + usize::from(hiding), &params), (params.num_constraints, params.air_max_constraint_degree, params.num_quotient_chunks, params.num_batched_functions));
            }
        }
    }
}
