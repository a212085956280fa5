use ark_bn254::G1Affine;
use ark_ec::{AffineRepr as _, CurveGroup as _};
use ark_ff::{Field as _, PrimeField as _};
use proptest::prelude::*;

use super::super::chain::Parameters;
use super::super::contribution::{Means, beacon_factor, secret_factor};
use super::super::points::compress;
use super::*;

fn check(ceremony: &Ceremony) -> Result<(), CeremonyError> {
    ceremony.proving_key(&initial(), &mut |_| {}).map(drop)
}

#[track_caller]
fn assert_bad(ceremony: &Ceremony, number: usize, name: &str, fault: Fault) {
    let expected = CeremonyError::Contribution { number, name: name.to_owned(), fault };
    assert_eq!(check(ceremony), Err(expected));
}

/// Ada contributed, then Mallory did something, then Bob went on in good faith if he could.
fn with_mallory(edit: impl FnOnce(&mut Parameters, &Fr)) -> Ceremony {
    let mut ceremony = Ceremony::new(&initial());
    ceremony.contribute("ada", [1; 32]).unwrap();
    let factor = Fr::from(1234);
    let mut next = ceremony.parameters.times(&factor);
    edit(&mut next, &factor);
    ceremony.push_secret("mallory", &factor, &[7; 32], next);
    ceremony
}

#[test]
fn an_honest_chain_holds_after_each_step() {
    let mut ceremony = Ceremony::new(&initial());
    assert_eq!(ceremony.check(&initial(), |_| {}), Ok(()));
    assert_eq!(check(&ceremony), Err(CeremonyError::NoContribution));
    for name in ["ada", "bob", "eve"] {
        let before = ceremony.transcript();
        let after = ceremony.contribute(name, [8; 32]).unwrap();
        assert_ne!(before, after);
        assert_eq!(after, ceremony.transcript());
        assert_eq!(check(&ceremony), Ok(()));
    }
    assert_eq!(check(&with_mallory(|_, _| ())), Ok(()), "what this file calls mallory is honest if unedited");
}

/// All that a contribution does: delta is the product of the factors, the key is the generator's for it.
#[test]
fn the_key_is_that_of_the_generator_for_the_product() {
    let ceremony = whole();
    let mut at = Ceremony::new(&initial());
    let mut delta = Fr::ONE;
    for (name, entropy) in [("ada", 1), ("bob", 2), ("eve", 3)] {
        delta *= *secret_factor(&at.transcript(), name, &[entropy; 32]);
        at.contribute(name, [entropy; 32]).unwrap();
    }
    delta *= beacon_factor(&at.transcript(), "the public", b"block 7", Contribution::BEACON_LOG2_MIN);
    let expected = Parameters::of(&initial().key).times(&delta);
    assert!(ceremony.parameters == expected);
}

#[test]
fn a_beacon_alone_is_no_ceremony() {
    let mut ceremony = Ceremony::new(&initial());
    ceremony.beacon("the public", b"block 7", 10).unwrap();
    assert_eq!(ceremony.check(&initial(), |_| {}), Ok(()));
    assert_eq!(check(&ceremony), Err(CeremonyError::NoContribution));
}

#[test]
fn what_callers_get_wrong_is_told() {
    let mut ceremony = Ceremony::new(&initial());
    for name in ["", "  ", "a\nb", &"x".repeat(65)] {
        assert_eq!(ceremony.contribute(name, [0; 32]), Err(ContributeError::Name));
    }
    assert_eq!(ceremony.beacon("b", b"", 10), Err(ContributeError::Beacon));
    assert_eq!(ceremony.beacon("b", &[0; 257], 10), Err(ContributeError::Beacon));
    assert_eq!(ceremony.beacon("b", b"v", 9), Err(ContributeError::Beacon));
    assert_eq!(ceremony.beacon("b", b"v", 29), Err(ContributeError::Beacon));
    assert_eq!(whole().contribute("late", [0; 32]), Err(ContributeError::Closed));
    assert_eq!(whole().beacon("late", b"v", 10), Err(ContributeError::Closed));
    // Nobody adds to a chain that is broken already.
    let mut broken = with_mallory(|next, _| next.delta_g2 = ark_bn254::G2Affine::generator());
    assert!(matches!(broken.contribute("bob", [2; 32]), Err(ContributeError::Broken(_))));
}

#[test]
fn wrong_parameters_are_named() {
    let g1 = G1Affine::generator();
    assert_bad(&with_mallory(|next, _| next.delta_g1 = g1), 2, "mallory", Fault::Knowledge);
    let other = with_mallory(|next, _| next.delta_g1 = (next.delta_g1 + g1).into_affine());
    assert_bad(&other, 2, "mallory", Fault::Knowledge);
    assert_bad(&with_mallory(|next, _| next.delta_g1 = G1Affine::zero()), 2, "mallory", Fault::Delta);
    let other = with_mallory(|next, _| next.delta_g2 = ark_bn254::G2Affine::generator());
    assert_bad(&other, 2, "mallory", Fault::Mismatch);
    let other = with_mallory(|next, _| next.delta_g2 = ark_bn254::G2Affine::zero());
    assert_bad(&other, 2, "mallory", Fault::Mismatch);
}

#[test]
fn l_and_h_are_scaled_by_the_inverse_of_delta() {
    let unscaled = |points: &mut Vec<G1Affine>, factor: &Fr| {
        points.iter_mut().for_each(|point| *point = (*point * factor).into_affine());
    };
    assert_bad(&with_mallory(|next, x| unscaled(&mut next.l, x)), 2, "mallory", Fault::L);
    assert_bad(&with_mallory(|next, x| unscaled(&mut next.h, x)), 2, "mallory", Fault::H);
    // H of another factor, L multiplied instead of divided, one point alone, two exchanged.
    let other = with_mallory(|next, _| unscaled(&mut next.h, &Fr::from(3)));
    assert_bad(&other, 2, "mallory", Fault::H);
    let other = with_mallory(|next, x| unscaled(&mut next.l, &(*x * x)));
    assert_bad(&other, 2, "mallory", Fault::L);
    let other = with_mallory(|next, _| next.h[3] = (next.h[3] + G1Affine::generator()).into_affine());
    assert_bad(&other, 2, "mallory", Fault::H);
    assert_bad(&with_mallory(|next, _| next.h.swap(0, 1)), 2, "mallory", Fault::H);
    assert_bad(&with_mallory(|next, _| next.l[0] = G1Affine::zero()), 2, "mallory", Fault::L);
    assert_bad(&with_mallory(|next, _| next.l.truncate(1)), 2, "mallory", Fault::L);
    assert_bad(&with_mallory(|next, _| next.h.push(G1Affine::zero())), 2, "mallory", Fault::H);
    assert_bad(&with_mallory(|next, _| next.h.fill(G1Affine::zero())), 2, "mallory", Fault::H);
}

/// What comes after a bad contribution does not hide it, and its own file still tells who it was.
#[test]
fn a_bad_contribution_stays_bad() {
    let mut ceremony = with_mallory(|next, _| next.h.swap(0, 1));
    let mallorys = ceremony.clone();
    ceremony.contribute("bob", [2; 32]).unwrap();
    assert_bad(&ceremony, 3, "bob", Fault::H);
    assert_bad(&mallorys, 2, "mallory", Fault::H);
}

/// Whoever changes the parameters of others is told apart from them.
#[test]
fn parameters_that_nobody_vouched_for_are_refused() {
    let mut ceremony = whole();
    ceremony.parameters.l.swap(0, 1);
    assert_bad(&ceremony, 4, "the public", Fault::Parameters);
    let mut ceremony = whole();
    ceremony.parameters.delta_g1 = G1Affine::generator();
    assert_bad(&ceremony, 4, "the public", Fault::Parameters);
    let mut ceremony = Ceremony::new(&initial());
    ceremony.parameters.h.swap(0, 1);
    assert_eq!(ceremony.check(&initial(), |_| {}), Err(CeremonyError::Initial));
}

#[test]
fn factors_of_0_and_1_are_refused() {
    let mut ceremony = Ceremony::new(&initial());
    ceremony.contribute("ada", [1; 32]).unwrap();
    let mut one = ceremony.clone();
    one.push_secret("mallory", &Fr::ONE, &[7; 32], ceremony.parameters.clone());
    assert_bad(&one, 2, "mallory", Fault::Unchanged);
    let next = ceremony.parameters.times(&Fr::from(0));
    ceremony.push_secret("mallory", &Fr::from(0), &[7; 32], next);
    assert_bad(&ceremony, 2, "mallory", Fault::Delta);
}

#[test]
fn a_proof_of_knowledge_holds_in_its_place_alone() {
    // Bob's proof, or Ada's, as Eve's.
    for from in [0, 1] {
        let mut ceremony = whole();
        ceremony.contributions[2].means = ceremony.contributions[from].means.clone();
        assert_bad(&ceremony, 3, "eve", Fault::Knowledge);
    }
    // The delta with the proof of knowledge of another ceremony with the same parties and entropy.
    let mut other = Ceremony::new(&initial());
    other.contribute("ada", [9; 32]).unwrap();
    other.contribute("bob", [2; 32]).unwrap();
    let mut ceremony = whole();
    ceremony.contributions[1] = other.contributions[1].clone();
    assert_bad(&ceremony, 2, "bob", Fault::Knowledge);
    // Each part of it, each thing it is bound to.
    let edits: [&dyn Fn(&mut Contribution); 5] = [
        &|it| it.name = "bobby".into(),
        &|it| it.parameters = Digest::from_bytes([0; 32]),
        &|it| it.delta = compress(&G1Affine::generator()),
        &|it| {
            let Means::Secret { commitment, .. } = &mut it.means else { panic!("a secret") };
            *commitment = compress(&G1Affine::generator());
        },
        &|it| {
            let Means::Secret { response, .. } = &mut it.means else { panic!("a secret") };
            response[0] ^= 1;
        },
    ];
    for edit in edits {
        let mut ceremony = whole();
        edit(&mut ceremony.contributions[1]);
        assert_bad(&ceremony, 2, &ceremony.contributions[1].name.clone(), Fault::Knowledge);
    }
    // A response above the order is the same number in another form.
    let mut ceremony = whole();
    let Means::Secret { response, .. } = &mut ceremony.contributions[1].means else { panic!("a secret") };
    *response = [0xff; 32];
    assert_bad(&ceremony, 2, "bob", Fault::Knowledge);
}

/// Without knowledge of the factor: delta copied from somebody, with a proof that one makes up.
#[test]
fn a_delta_that_nobody_knows_the_factor_of_is_refused() {
    let mut ceremony = Ceremony::new(&initial());
    ceremony.contribute("ada", [1; 32]).unwrap();
    let mut stolen = whole().parameters;
    stolen.delta_g1 = (stolen.delta_g1 + G1Affine::generator()).into_affine();
    ceremony.push_secret("mallory", &Fr::from(5), &[7; 32], stolen);
    assert_bad(&ceremony, 2, "mallory", Fault::Knowledge);
}

#[test]
fn dropped_reordered_and_repeated_contributions_are_named() {
    let with = |edit: &dyn Fn(&mut Vec<Contribution>)| {
        let mut ceremony = whole();
        edit(&mut ceremony.contributions);
        ceremony
    };
    assert_bad(&with(&|list| drop(list.remove(0))), 1, "bob", Fault::Knowledge);
    assert_bad(&with(&|list| drop(list.remove(1))), 2, "eve", Fault::Knowledge);
    assert_bad(&with(&|list| drop(list.remove(2))), 3, "the public", Fault::Beacon);
    assert_bad(&with(&|list| drop(list.pop())), 3, "eve", Fault::Parameters);
    assert_bad(&with(&|list| list.swap(0, 1)), 1, "bob", Fault::Knowledge);
    assert_bad(&with(&|list| list.swap(1, 2)), 2, "eve", Fault::Knowledge);
    assert_bad(&with(&|list| list.insert(1, list[0].clone())), 2, "ada", Fault::Unchanged);
    assert_bad(&with(&|list| list.insert(2, list[0].clone())), 3, "ada", Fault::Knowledge);
    assert_bad(&with(&|list| list.push(list[0].clone())), 5, "ada", Fault::AfterBeacon);
    assert_bad(&with(&|list| list.push(list[3].clone())), 5, "the public", Fault::AfterBeacon);
    // All of them dropped: the parameters are not the first ones.
    assert_eq!(check(&with(&|list| list.clear())), Err(CeremonyError::Initial));
}

#[test]
fn a_beacon_is_computed_again() {
    let with = |value: &[u8], log2: u8| {
        let mut ceremony = whole();
        ceremony.contributions[3].means = Means::Beacon { value: value.to_vec(), iterations_log2: log2 };
        ceremony
    };
    assert_eq!(check(&with(b"block 7", 10)), Ok(()));
    assert_bad(&with(b"block 8", 10), 4, "the public", Fault::Beacon);
    assert_bad(&with(b"block 7", 11), 4, "the public", Fault::Beacon);
    // Refused before anything is computed.
    assert_bad(&with(b"block 7", 63), 4, "the public", Fault::Limits);
    assert_bad(&with(b"block 7", 0), 4, "the public", Fault::Limits);
    assert_bad(&with(&[0; 257], 10), 4, "the public", Fault::Limits);
    let mut renamed = whole();
    renamed.contributions[3].name = "nobody".into();
    assert_bad(&renamed, 4, "nobody", Fault::Beacon);
    // A secret that pretends to be public.
    let mut ceremony = whole();
    let means = ceremony.contributions[3].means.clone();
    ceremony.contributions[1].means = means;
    assert_bad(&ceremony, 2, "bob", Fault::Beacon);
}

/// The same hashes, written down by hand: whoever re-derives a beacon elsewhere compares with this.
#[test]
fn the_factor_of_a_beacon_is_pinned() {
    let transcript = Digest::from_bytes([3; 32]);
    let mut hash = Digest::of(crate::domains::CEREMONY_BEACON, &[&[3; 32], b"name", b"value"]);
    for _ in 0..1024 {
        hash = Digest::of_bytes(hash.as_bytes());
    }
    let wide = nonos_identity::WideDigest::of(crate::domains::CEREMONY_FACTOR, &[hash.as_bytes()]);
    assert_eq!(
        beacon_factor(&transcript, "name", b"value", 10),
        Fr::from_le_bytes_mod_order(wide.as_bytes())
    );
}

#[test]
fn another_start_is_refused() {
    let ceremony = whole();
    let other = initial_of(insecure_ptau(4, [2; 32], false)).unwrap();
    let refused = |initial: &InitialKey| ceremony.proving_key(initial, &mut |_| {}).map(drop).unwrap_err();
    assert_eq!(refused(&other), CeremonyError::Initial);
    // Gamma, a query or alpha changed: another initial key.
    type Edit = dyn Fn(&mut ark_groth16::ProvingKey<Bn254>);
    let edits: [&Edit; 3] = [
        &|key| key.vk.gamma_g2 = (key.vk.gamma_g2 * Fr::from(2)).into_affine(),
        &|key| key.a_query.swap(0, 1),
        &|key| key.vk.alpha_g1 = G1Affine::generator(),
    ];
    for edit in edits {
        let mut changed = initial();
        edit(&mut changed.key);
        changed.digest = initial::digest(&CIRCUIT, &changed.key);
        assert_eq!(refused(&changed), CeremonyError::Initial);
    }
    let mut circuit = initial();
    circuit.circuit = Digest::from_bytes([8; 32]);
    assert_eq!(refused(&circuit), CeremonyError::Circuit);
    // A ceremony for one start relabelled for another: Ada's proof was for the first.
    let mut relabelled = whole();
    relabelled.initial = other.digest;
    let error = relabelled.proving_key(&other, &mut |_| {}).map(drop).unwrap_err();
    let expected = CeremonyError::Contribution { number: 1, name: "ada".into(), fault: Fault::Knowledge };
    assert_eq!(error, expected);
}

/// Mends the digest of a file, as someone who means it would.
fn mended(mut bytes: Vec<u8>) -> Vec<u8> {
    let digest = Digest::of(crate::domains::CEREMONY_FILE, &[b"NNZKCER", &[bytes[7]], &bytes[40..]]);
    bytes[8..40].copy_from_slice(digest.as_bytes());
    bytes
}

#[test]
fn files_round_trip_and_cut_or_altered_ones_are_refused() {
    let bytes = whole().to_bytes();
    assert!(bytes.len() <= Ceremony::MAX_BYTES);
    let again = Ceremony::from_bytes(&bytes).unwrap();
    assert_eq!(check(&again), Ok(()));
    assert_eq!((again.to_bytes(), again.transcript()), (bytes.clone(), whole().transcript()));
    for len in 0..bytes.len() {
        assert_eq!(Ceremony::from_bytes(&bytes[..len]).unwrap_err(), CeremonyError::Corrupt, "{len} bytes");
    }
    for at in (0..bytes.len()).step_by(3).filter(|at| *at != 7) {
        let mut bytes = bytes.clone();
        bytes[at] ^= 0x04;
        assert_eq!(Ceremony::from_bytes(&bytes).unwrap_err(), CeremonyError::Corrupt, "byte {at}");
    }
    let mut later = bytes.clone();
    later[7] = 2;
    assert_eq!(Ceremony::from_bytes(&mended(later)).unwrap_err(), CeremonyError::Version(2));
    let longer = mended([&bytes[..], &[0]].concat());
    assert_eq!(Ceremony::from_bytes(&longer).unwrap_err(), CeremonyError::Corrupt);
    let huge = vec![0; Ceremony::MAX_BYTES + 1];
    assert_eq!(Ceremony::from_bytes(&huge).unwrap_err(), CeremonyError::Limits);
}

#[test]
fn a_file_has_a_most_of_contributions() {
    let mut ceremony = whole();
    let one = ceremony.contributions[0].clone();
    ceremony.contributions = vec![one.clone(); Ceremony::CONTRIBUTIONS_MAX];
    assert!(Ceremony::from_bytes(&ceremony.to_bytes()).is_ok());
    ceremony.contributions.push(one);
    assert_eq!(Ceremony::from_bytes(&ceremony.to_bytes()).unwrap_err(), CeremonyError::Limits);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn noise_never_panics(noise in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = Ceremony::from_bytes(&noise);
        let _ = Ceremony::from_bytes(&mended([b"NNZKCER\x01", &[0; 32][..], &noise].concat()));
    }

    /// Any change of the content, with the digest mended, is a corrupt file or a named contribution; and
    /// what can be read is written back the same.
    #[test]
    fn mended_changes_never_pass(at in 40usize..1 << 14, bit in 0u8..8) {
        static WHOLE: std::sync::LazyLock<(Vec<u8>, InitialKey)> =
            std::sync::LazyLock::new(|| (whole().to_bytes(), initial()));
        let mut bytes = WHOLE.0.clone();
        let at = 40 + (at - 40) % (bytes.len() - 40);
        bytes[at] ^= 1 << bit;
        let bytes = mended(bytes);
        if let Ok(ceremony) = Ceremony::from_bytes(&bytes) {
            prop_assert_eq!(ceremony.to_bytes(), bytes);
            let verdict = ceremony.proving_key(&WHOLE.1, &mut |_| {}).map(drop);
            prop_assert!(verdict.is_err());
        }
    }
}
