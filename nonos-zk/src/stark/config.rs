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

/// Bits of security against forging one trace: each round of the proof errs with probability 2^-100
/// at most, in the regime that is proven for Reed-Solomon codes, up to the Johnson bound. The
/// conjecture up to capacity, by which proofs of half the size are sold as 128 bits, is refuted
/// (eprint 2025/2046), and nothing here leans on it.
///
/// At the largest trace (2^17 rows with its masks, some 5 500 batched functions, rate 1/4):
///
/// | round | bits | by |
/// |---|---|---|
/// | 90 queries, 16 bits of work | 100.7 | distance 1 - (1 + 1/(2m)) sqrt(rate), m = 12 |
/// | batching of the columns | 102 | eprint 2025/2055, theorem 4.2, over a field of 154.9 bits |
/// | constraints, out-of-domain point | 130 | number and degree of the constraints times the list size |
/// | collision of two rows or nodes | 128 | Keccak with a capacity of 512 bits |
///
/// By the older bound of eprint 2020/654 it is about 85 bits, by unique decoding alone 77; by the newer
/// one that `p3-security` calculates with (eprint 2026/2056) 103. A proof of n segments is forged by forging one
/// of them: at most 4.5 bits less. Against a quantum computer halve the work. Fiat-Shamir in the random
/// oracle model is assumed as ever; Plonky3 has had no review as a zero-knowledge system.
pub const SECURITY_BITS: u32 = 100;

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
type HidingMmcs = MerkleTreeHidingMmcs<
    [Val; VECTOR_LEN],
    [u64; VECTOR_LEN],
    RowHash,
    Compress,
    ChaCha20Rng,
    2,
    4,
    SALT_ELEMS,
>;
type Dft = Radix2DitParallel<Val>;
type Challenger = SerializingChallenger32<Val, HashChallenger<u8, Keccak256Hash, 32>>;
type PlainPcs = TwoAdicFriPcs<Val, Dft, PlainMmcs, ExtensionMmcs<Val, Challenge, PlainMmcs>>;
type HidingPcs = HidingFriPcs<Val, Dft, HidingMmcs, ExtensionMmcs<Val, Challenge, HidingMmcs>, ChaCha20Rng>;
pub(super) type Plain = StarkConfig<PlainPcs, Challenge, Challenger>;
pub(super) type Hiding = StarkConfig<HidingPcs, Challenge, Challenger>;

/// The rate of the code is 1/4: the quotient of a hiding proof needs that, and a plain one is half as
/// long as at rate 1/2.
pub(super) const LOG_BLOWUP: usize = 2;

/// Rows that the verifier looks at: what the length of a proof is made of.
const QUERIES: usize = 90;

/// Work of the prover before it learns its queries, in bits: 65 536 hashes save 17 queries.
const QUERY_POW_BITS: usize = 16;

/// Folding by eight: a third of the commitments of folding by two.
const LOG_ARITY: usize = 3;

/// A hiding trace has a random row for each of its own. They cover what the proof opens if there are
/// at least twice as many as queries and coordinates of two points (eprint 2024/1037, section 4.2);
/// Plonky3 refuses a shorter trace, at both ends.
pub(super) const HIDING_MIN_ROWS: usize = 256;

const _: () = assert!(HIDING_MIN_ROWS >= 2 * (QUERIES + 2 * EXTENSION_DEGREE));

fn fri<M>(mmcs: M) -> FriParameters<M> {
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
    use p3_air::symbolic::AirLayout;
    use p3_field::PrimeCharacteristicRing;
    use p3_field::coset::TwoAdicMultiplicativeCoset;
    use p3_uni_stark::{OpeningShape, ProvenSecurity, StarkSecurityParams};

    use super::super::air::{End, Hash, SpongeAir};
    use super::super::trace::{self, Absorbed};
    use super::*;

    /// log2 of the order of [`Challenge`].
    const CHALLENGE_BITS: f64 = 154.94;
    const WHOLE_CHALLENGE_BITS: usize = 154;

    fn params(log_rows: usize, hiding: bool) -> StarkSecurityParams {
        let air = SpongeAir { hash: Hash::Sha3_512, end: End::Message { tail: 7 } };
        let openings = if hiding { OpeningShape::hiding(EXTENSION_DEGREE) } else { OpeningShape::new() };
        let domain = TwoAdicMultiplicativeCoset::new(Val::ONE, log_rows).expect("two-adic");
        StarkSecurityParams::from_air::<Val, Challenge, _>(
            fri(()).security_regime(),
            &air,
            AirLayout::from_air::<Val>(&air),
            domain,
            WHOLE_CHALLENGE_BITS,
            128,
            2,
            openings,
            fri(()).grinding_sites(),
        )
    }

    /// The weaker one of queries and batching by eprint 2025/2055, theorem 4.2, at the best `m`.
    fn johnson_bits(log_rows: usize, functions: usize) -> f64 {
        let rate = 1.0 / f64::from(1 << LOG_BLOWUP);
        let n = f64::from(1 << (log_rows + LOG_BLOWUP));
        let bits = (3..100).map(|m| {
            let (m, half) = (f64::from(m), f64::from(m) + 0.5);
            let radius = rate.sqrt() * (1.0 + 0.5 / m);
            let queries = -(QUERIES as f64) * radius.log2() + QUERY_POW_BITS as f64;
            let exceptional =
                (2.0 * half.powi(5) + 3.0 * half * (1.0 - radius) * rate) / (3.0 * rate.powf(1.5)) * n
                    + half / rate.sqrt();
            queries.min(CHALLENGE_BITS - exceptional.log2() - (functions as f64).log2())
        });
        bits.fold(0.0, f64::max)
    }

    #[test]
    fn the_parameters_keep_what_security_bits_says() {
        for log_rows in 5..=16 {
            for hiding in [false, true] {
                let (params, log_rows) = (params(log_rows, hiding), log_rows + usize::from(hiding));
                let published = johnson_bits(log_rows, params.num_batched_functions);
                let newest = ProvenSecurity::compute_from_proof(log_rows, &params);
                assert!(published >= f64::from(SECURITY_BITS), "{log_rows} rows: {published}");
                assert!(newest.list_decoding_bits >= SECURITY_BITS as usize, "{log_rows} rows: {newest:?}");
            }
        }
    }

    /// What no mutation of bytes would find soon: every list of a proof one longer, one shorter, empty.
    #[test]
    fn misshapen_proofs_are_refused_without_a_panic() {
        let air = SpongeAir { hash: Hash::Sha3_512, end: End::Message { tail: 3 } };
        let absorbed = Absorbed::new(air.hash, [0; 25], &trace::pad(air.hash, b"abc"));
        let publics = absorbed.publics(&air);
        let transcript = Digest::of(domains::STARK_TRANSCRIPT, &[]);

        let config = plain(&transcript);
        let rows = absorbed.rows(&air, 32, 0);
        let proof = prove(&config, &air, rows, &publics).expect("honest");
        assert_eq!(verify(&config, &air, 32, &publics, &proof), Ok(()));
        assert_eq!(verify(&config, &air, 64, &publics, &proof), Err(StarkError::Malformed));
        misshape(
            &proof,
            |proof: &Proof<Plain>| verify(&config, &air, 32, &publics, &bytes(proof)),
            |proof| &mut proof.opening_proof,
        );

        let config = hiding(&transcript, &[1; 32]);
        let rows = absorbed.rows(&air, HIDING_MIN_ROWS, 0);
        let proof = prove(&config, &air, rows, &publics).expect("honest");
        assert_eq!(verify(&config, &air, HIDING_MIN_ROWS, &publics, &proof), Ok(()));
        misshape(
            &proof,
            |proof: &Proof<Hiding>| verify(&config, &air, HIDING_MIN_ROWS, &publics, &bytes(proof)),
            |proof| &mut proof.opening_proof.1,
        );
        for edit in edits::<Vec<Vec<Vec<Challenge>>>>() {
            let mut proof: Proof<Hiding> = postcard::from_bytes(&proof).expect("honest");
            edit(&mut proof.opening_proof.0);
            assert!(verify(&config, &air, HIDING_MIN_ROWS, &publics, &bytes(&proof)).is_err());
        }
        let mut proof: Proof<Hiding> = postcard::from_bytes(&proof).expect("honest");
        proof.ood_pow_witness = Val::ONE;
        assert!(verify(&config, &air, HIDING_MIN_ROWS, &publics, &bytes(&proof)).is_err());
    }

    fn bytes<SC: StarkGenericConfig>(proof: &Proof<SC>) -> Vec<u8> {
        postcard::to_allocvec(proof).expect("serialises")
    }

    /// One element more, one less, none.
    fn edits<T: Clone>() -> [fn(&mut Vec<T>); 3] {
        [
            |list| list.extend(list.last().cloned()),
            |list| {
                list.pop();
            },
            Vec::clear,
        ]
    }

    type FriProofOf<M> = p3_fri::FriProof<
        Challenge,
        ExtensionMmcs<Val, Challenge, M>,
        Val,
        Vec<p3_fri::BatchMultiOpening<Val, M>>,
    >;

    fn misshape<SC, M>(
        honest: &[u8],
        verify: impl Fn(&Proof<SC>) -> Result<(), StarkError>,
        fri: impl Fn(&mut Proof<SC>) -> &mut FriProofOf<M>,
    ) where
        SC: StarkGenericConfig<Challenge = Challenge>,
        M: p3_commit::Mmcs<Val>,
    {
        let tries = |name: &str, edit: &dyn Fn(&mut Proof<SC>)| {
            let mut proof: Proof<SC> = postcard::from_bytes(honest).expect("honest");
            edit(&mut proof);
            assert_ne!(bytes(&proof), honest, "{name}");
            assert!(verify(&proof).is_err(), "{name}");
        };
        for (index, edit) in edits::<Challenge>().into_iter().enumerate() {
            tries(&format!("local {index}"), &|p| edit(&mut p.opened_values.trace_local));
            tries(&format!("next {index}"), &|p| edit(p.opened_values.trace_next.as_mut().expect("opened")));
            tries(&format!("chunk {index}"), &|p| edit(&mut p.opened_values.quotient_chunks[1]));
            tries(&format!("final {index}"), &|p| edit(&mut fri(p).final_poly));
            tries(&format!("sibling {index}"), &|p| {
                edit(&mut fri(p).commit_phase_openings[0].sibling_values[3]);
            });
        }
        for (index, edit) in edits::<Vec<Challenge>>().into_iter().enumerate() {
            tries(&format!("chunks {index}"), &|p| edit(&mut p.opened_values.quotient_chunks));
            tries(&format!("siblings {index}"), &|p| {
                edit(&mut fri(p).commit_phase_openings[0].sibling_values);
            });
        }
        for (index, edit) in edits::<Val>().into_iter().enumerate() {
            tries(&format!("row {index}"), &|p| edit(&mut fri(p).input_openings[0].opened_values[5][0]));
            tries(&format!("work {index}"), &|p| edit(&mut fri(p).commit_pow_witnesses));
        }
        for (index, edit) in edits::<Vec<Val>>().into_iter().enumerate() {
            tries(&format!("matrices {index}"), &|p| edit(&mut fri(p).input_openings[1].opened_values[5]));
        }
        for (index, edit) in edits::<Vec<Vec<Val>>>().into_iter().enumerate() {
            tries(&format!("queries {index}"), &|p| edit(&mut fri(p).input_openings[1].opened_values));
        }
        tries("no next", &|p| p.opened_values.trace_next = None);
        tries("commitments", &|p| fri(p).commit_phase_commits.clear());
        tries("openings", &|p| {
            fri(p).input_openings.pop();
        });
        tries("rounds", &|p| {
            fri(p).commit_phase_openings.pop();
        });
        tries("preprocessed", &|p| {
            let local = p.opened_values.trace_local.clone();
            p.opened_values.preprocessed = Some(p3_uni_stark::PreprocessedOpenedValues { local, next: None });
        });
        for bits in [0, 1, 4, 6, 8, 24, 25, 31, 63, 64, usize::MAX] {
            tries(&format!("{bits} bits"), &|p| p.degree_bits = bits);
        }
        tries("random", &|p| {
            p.opened_values.random = match p.opened_values.random {
                Some(_) => None,
                None => Some(vec![Challenge::ONE; EXTENSION_DEGREE]),
            };
        });
        tries("query work", &|p| fri(p).query_pow_witness += Val::ONE);
    }
}
