use ark_bn254::{Fq2, G2Affine};
use ark_ec::AffineRepr as _;
use ark_ff::{FftField as _, Field as _};
use ark_groth16::Groth16;
use ark_std::UniformRand as _;
use proptest::prelude::*;

use super::super::ptau::section;
use super::super::testing::{from_secrets, montgomery};
use super::*;

const POWER: u32 = 4;

/// Damages a point.
type Edit = dyn Fn(&mut [u8]);

/// Where the content of a section begins, and its length.
fn find(file: &[u8], id: u32) -> (usize, usize) {
    let mut at = 12;
    loop {
        let len = u64::from_le_bytes(file[at + 4..at + 12].try_into().unwrap()) as usize;
        if file[at..at + 4] == id.to_le_bytes() {
            return (at + 12, len);
        }
        at += 12 + len;
    }
}

fn good(prepared: bool) -> Vec<u8> {
    insecure_ptau(POWER, [1; 32], prepared)
}

/// The error of a file that was good before the edit.
fn refused(prepared: bool, edit: impl FnOnce(&mut Vec<u8>)) -> PtauError {
    let mut file = good(prepared);
    edit(&mut file);
    initial_of(file).unwrap_err()
}

/// Exactly the key that `ark_groth16` generates from the same secrets.
#[test]
fn the_initial_key_is_that_of_the_generator() {
    let seed = [6; 32];
    // The generator draws tau itself.
    let tau = Fr::rand(&mut Stream::from_seed(seed));
    let [alpha, beta] = [Fr::from(77), Fr::from(78)];
    let (g1, g2) = (ark_bn254::G1Affine::generator(), G2Affine::generator());
    let theirs = Groth16::<Bn254>::generate_parameters_with_qap(
        Small::BLANK,
        alpha,
        beta,
        Fr::ONE,
        Fr::ONE,
        g1.into(),
        g2.into(),
        &mut Stream::from_seed(seed),
    )
    .unwrap();
    for (power, prepared) in [(POWER, false), (POWER, true), (POWER + 2, false), (POWER + 2, true)] {
        let ours = initial_of(from_secrets(power, tau, alpha, beta, prepared)).unwrap();
        assert!(ours.key == theirs, "power {power}, prepared {prepared}");
    }
}

#[test]
fn too_few_powers_are_named() {
    let file = insecure_ptau(POWER - 1, [1; 32], true);
    let error = initial_of(file).unwrap_err();
    assert!(matches!(error, PtauError::Power { found: 3, needed: 4 }), "{error:?}");
    assert_eq!(InitialKey::power_needed(Profile::Lite).unwrap(), 13);
}

#[test]
fn powers_without_a_secret_are_refused() {
    let [tau, alpha, beta] = [11, 12, 13].map(Fr::from);
    assert!(initial_of(from_secrets(POWER, tau, alpha, beta, false)).is_ok());
    let root = Fr::get_root_of_unity(1 << POWER).unwrap();
    for (tau, alpha, beta) in
        [(Fr::ONE, Fr::ONE, Fr::ONE), (root, alpha, beta), (tau, Fr::ONE, beta), (tau, alpha, Fr::ONE)]
    {
        let error = initial_of(from_secrets(POWER, tau, alpha, beta, false)).unwrap_err();
        assert!(matches!(error, PtauError::Degenerate), "{error:?}");
    }
}

#[test]
fn another_format_version_or_curve_is_refused() {
    assert!(matches!(refused(false, |file| file[0] = b'q'), PtauError::Malformed(_)));
    assert!(matches!(refused(false, |file| file[4] = 2), PtauError::Version(2)));
    assert!(matches!(refused(false, |file| file[8..12].fill(0xff)), PtauError::Malformed(_)));
    let (header, _) = find(&good(false), section::HEADER);
    assert!(matches!(refused(false, |file| file[header] = 48), PtauError::Curve));
    assert!(matches!(refused(false, |file| file[header + 4] ^= 1), PtauError::Curve));
    for power in [0u8, 3, 5, 29, 255] {
        let error = refused(false, |file| file[header + 36] = power);
        assert!(matches!(error, PtauError::Malformed(_)), "power {power}: {error:?}");
    }
}

#[test]
fn sections_are_there_once_and_whole() {
    let sections = [2, 3, 4, 5, 6, 12, 13, 14, 15];
    for id in sections {
        let (start, _) = find(&good(true), id);
        let missing = refused(true, |file| file[start - 12] = 99);
        assert!(matches!(missing, PtauError::Malformed(_)), "section {id}: {missing:?}");
        let twice = refused(true, |file| file[start - 12] = 1);
        assert!(matches!(twice, PtauError::Malformed(_)), "section {id}: {twice:?}");
        let endless = refused(true, |file| file[start - 8..start].fill(0xff));
        assert!(matches!(endless, PtauError::Truncated), "section {id}: {endless:?}");
    }
    let file = good(true);
    for len in (0..file.len()).step_by(97) {
        assert!(initial_of(file[..len].to_vec()).is_err(), "{len} bytes");
    }
}

/// A point off the curve, a coordinate not below the modulus, the identity, a point of the twist outside
/// the group: in every section, at its place.
#[test]
fn points_outside_their_groups_are_refused() {
    for id in [2, 3, 4, 5, 6, 12, 13, 14, 15] {
        let size = if matches!(id, 3 | 6 | 13) { 128 } else { 64 };
        // The first of the level that is read.
        let level = if id >= 12 { (1 << POWER) - 1 } else { 0 };
        let place = if id == 6 { 0 } else { 2 };
        let at = find(&good(true), id).0 + (level + place) * size;
        let edits: [&Edit; 3] =
            [&|point| point[0] ^= 1, &|point| point[..32].fill(0xff), &|point| point.fill(0)];
        for edit in edits {
            let error = refused(true, |file| edit(&mut file[at..at + size]));
            assert!(
                matches!(error, PtauError::Point { section, index } if (section, index) == (id, place)),
                "section {id}: {error:?}"
            );
        }
    }
    let outside = (1..)
        .find_map(|x| G2Affine::get_point_from_x_unchecked(Fq2::from(x), false))
        .filter(|point| point.is_on_curve() && !point.is_in_correct_subgroup_assuming_on_curve())
        .unwrap();
    let raw: Vec<u8> =
        [outside.x.c0, outside.x.c1, outside.y.c0, outside.y.c1].into_iter().flat_map(montgomery).collect();
    let at = find(&good(false), section::TAU_G2).0 + 3 * 128;
    let error = refused(false, |file| file[at..at + 128].copy_from_slice(&raw));
    assert!(matches!(error, PtauError::Point { section: section::TAU_G2, index: 3 }), "{error:?}");
}

/// Points that are in their groups but in the wrong place.
#[test]
fn inconsistent_powers_are_refused() {
    let swap = |file: &mut Vec<u8>, id: u32, size: usize, places: [usize; 2]| {
        let (start, _) = find(file, id);
        let [a, b] = places.map(|place| start + place * size..start + (place + 1) * size);
        let held = file[a.clone()].to_vec();
        file.copy_within(b.clone(), a.start);
        file[b].copy_from_slice(&held);
    };
    let level = (1 << POWER) - 1;
    for (id, size, places) in [
        (2, 64, [0, 1]),
        (2, 64, [1, 2]),
        (2, 64, [29, 30]),
        (3, 128, [0, 1]),
        (3, 128, [14, 15]),
        (4, 64, [0, 1]),
        (5, 64, [7, 9]),
        (12, 64, [level, level + 1]),
        (13, 128, [level + 3, level + 15]),
        (14, 64, [level + 1, level + 2]),
        (15, 64, [level + 1, level + 2]),
    ] {
        match refused(true, |file| swap(file, id, size, places)) {
            PtauError::Inconsistent { section } => assert_eq!(section, id, "{places:?}"),
            error => panic!("section {id}, {places:?}: {error:?}"),
        }
    }
    // Beta in G2 of another ceremony.
    let other = insecure_ptau(POWER, [2; 32], false);
    let (start, len) = find(&other, section::BETA_G2);
    let error = refused(false, |file| file[start..start + len].copy_from_slice(&other[start..start + len]));
    assert!(matches!(error, PtauError::Inconsistent { section: section::BETA_G2 }), "{error:?}");
    // A whole list of another tau.
    for id in [2, 3, 4, 5] {
        let (start, len) = find(&other, id);
        let error =
            refused(false, |file| file[start..start + len].copy_from_slice(&other[start..start + len]));
        assert!(matches!(error, PtauError::Inconsistent { .. }), "section {id}: {error:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn noise_never_panics(noise in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = initial_of(noise.clone());
        let _ = initial_of([b"ptau\x01\0\0\0\x07\0\0\0", &noise[..]].concat());
    }

    /// A flipped bit is found, unless it is in what a circuit of this size does not read.
    #[test]
    fn flipped_bits_are_found(at in 0usize..1 << 14, bit in 0u8..8, prepared in any::<bool>()) {
        let mut file = good(prepared);
        let at = at % file.len();
        file[at] ^= 1 << bit;
        if let Ok(key) = initial_of(file) {
            prop_assert_eq!(key.digest(), initial().digest());
        }
    }
}
