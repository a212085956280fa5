//! Proofs of a preimage, and of a hidden field.

use std::sync::LazyLock;
use std::time::Instant;

use nonos_identity::{Digest, Domain, WideDigest};
use nonos_zk::stark::{
    FieldLayout, FieldPredicate, FieldProof, FieldStatement, MAX_HIDING_BYTES, MAX_PLAIN_BYTES, Mode,
    PreimageProof, SEGMENT_BYTES, StarkError, prove_field, prove_preimage, verify_field, verify_preimage,
};
use nonos_zk::testing;
use proptest::collection::vec;
use proptest::prelude::*;

const SEED: [u8; 32] = [0x5e; 32];

fn message(len: usize) -> Vec<u8> {
    (0..251).cycle().take(len).collect()
}

fn prove(message: &[u8], mode: Mode) -> PreimageProof {
    prove_preimage(message, mode, SEED).unwrap()
}

/// FIPS 202 examples of NIST: SHA3-512 of no bits and of 1 600 bits; and "abc".
#[test]
fn known_answers() {
    let answers: [(&[u8], &str); 3] = [
        (
            b"",
            "a69f73cca23a9ac5c8b567dc185a756e97c982164fe25859e0d1dcc1475c80a6\
             15b2123af1f5f94c11e3e9402c3ac558f500199d95b6d3e301758586281dcd26",
        ),
        (
            b"abc",
            "b751850b1a57168a5693cd924b6b096e08f621827444f70d884f5d0240d2712e\
             10e116e9192af3c91a7ec57647e3934057340b4cf408d5a56592f8274eec53f0",
        ),
        (
            &[0xa3; 200],
            "e76dfad22084a8b1467fcf2ffa58361bec7628edf5f3fdc0e4805dc48caeeca8\
             1b7c13c30adf52a3659584739a2df46be589c51ca1a4a8416df6545a1ce8ba00",
        ),
    ];
    for (message, digest) in answers {
        let digest: WideDigest = digest.parse().unwrap();
        for mode in [Mode::Plain, Mode::Hiding] {
            let proof = prove(message, mode);
            assert_eq!(
                verify_preimage(&digest, message.len() as u64, &proof),
                Ok(()),
                "{message:?}, {mode:?}"
            );
        }
    }
}

#[test]
fn lengths_around_the_borders_of_blocks() {
    for len in [1, 71, 72, 73, 143, 144] {
        let message = message(len);
        let (digest, proof) = (WideDigest::of_bytes(&message), prove(&message, Mode::Plain));
        assert_eq!(verify_preimage(&digest, len as u64, &proof), Ok(()), "{len}");
        for wrong in [len - 1, len + 1, len + 72] {
            let refused = verify_preimage(&digest, wrong as u64, &proof);
            assert!(matches!(refused, Err(StarkError::Refused | StarkError::Malformed)), "{len} as {wrong}");
        }
    }
}

#[test]
fn a_proof_is_for_one_digest_and_mode() {
    let message = message(100);
    let digest = WideDigest::of_bytes(&message);
    for mode in [Mode::Plain, Mode::Hiding] {
        let proof = prove(&message, mode);
        assert_eq!(proof.mode(), mode);
        let mut bytes = *digest.as_bytes();
        for at in [0, 31, 63] {
            bytes[at] ^= 1;
            let refused = verify_preimage(&WideDigest::from_bytes(bytes), 100, &proof);
            assert_eq!(refused, Err(StarkError::Refused), "{mode:?}, byte {at}");
            bytes[at] ^= 1;
        }
        let mut bytes = proof.as_bytes().to_vec();
        bytes[1] ^= 3;
        let other = PreimageProof::from_bytes(bytes).unwrap();
        assert_eq!(verify_preimage(&digest, 100, &other), Err(StarkError::Malformed));
    }
}

#[test]
fn hiding_proofs_of_two_seeds_have_nothing_in_common() {
    let message = message(50);
    let digest = WideDigest::of_bytes(&message);
    let one = prove_preimage(&message, Mode::Hiding, [1; 32]).unwrap();
    let other = prove_preimage(&message, Mode::Hiding, [2; 32]).unwrap();
    assert_eq!(verify_preimage(&digest, 50, &one), Ok(()));
    assert_eq!(verify_preimage(&digest, 50, &other), Ok(()));
    // The first commitment is that of the trace: masks and salts make it another one.
    assert_ne!(one.as_bytes()[6..40], other.as_bytes()[6..40]);
    let again = prove_preimage(&message, Mode::Hiding, [1; 32]).unwrap();
    assert_eq!(one.as_bytes()[6..40], again.as_bytes()[6..40]);
    let plain = [prove(&message, Mode::Plain), prove_preimage(&message, Mode::Plain, [1; 32]).unwrap()];
    assert_eq!(plain[0].as_bytes()[6..40], plain[1].as_bytes()[6..40]);
}

#[test]
fn limits() {
    let too_long = |len: usize, mode| {
        let limit = if mode == Mode::Plain { MAX_PLAIN_BYTES } else { MAX_HIDING_BYTES };
        Err(StarkError::MessageTooLong { len: len as u64, limit, mode })
    };
    for (mode, limit) in [(Mode::Plain, MAX_PLAIN_BYTES), (Mode::Hiding, MAX_HIDING_BYTES)] {
        let refused = prove_preimage(&vec![0; limit + 1], mode, SEED).map(|_| ());
        assert_eq!(refused, too_long(limit + 1, mode));
        let proof = PreimageProof::from_bytes(vec![1, if mode == Mode::Plain { 1 } else { 2 }]).unwrap();
        let digest = WideDigest::of_bytes(b"");
        assert_eq!(verify_preimage(&digest, limit as u64 + 1, &proof), too_long(limit + 1, mode));
        assert_eq!(verify_preimage(&digest, limit as u64, &proof), Err(StarkError::Malformed));
        assert!(verify_preimage(&digest, u64::MAX, &proof).is_err());
    }
    let len = PreimageProof::MAX_BYTES + 1;
    let refused = PreimageProof::from_bytes(vec![1; len]);
    assert_eq!(refused, Err(StarkError::ProofTooLong { len, limit: PreimageProof::MAX_BYTES }));
    for header in [&[][..], &[1], &[0, 1], &[2, 1], &[1, 0], &[1, 3]] {
        assert_eq!(PreimageProof::from_bytes(header.to_vec()), Err(StarkError::Malformed));
    }
}

/// Every byte for itself would take hours; these are some of each part.
#[test]
fn changed_proofs_are_refused() {
    let message = message(30);
    let digest = WideDigest::of_bytes(&message);
    let proof = prove(&message, Mode::Plain);
    let bytes = proof.as_bytes();
    let wrong = |bytes: Vec<u8>| match PreimageProof::from_bytes(bytes) {
        Ok(proof) => verify_preimage(&digest, 30, &proof).is_err(),
        Err(_) => true,
    };
    for at in (0..bytes.len()).step_by(bytes.len() / 60).chain(0..50).chain(bytes.len() - 10..bytes.len()) {
        let mut changed = bytes.to_vec();
        changed[at] ^= 1 << (at % 8);
        assert!(wrong(changed), "byte {at}");
    }
    assert!(wrong(bytes[..bytes.len() - 1].to_vec()));
    assert!(wrong([bytes, &[0]].concat()));
}

proptest! {
    #[test]
    fn any_bytes_are_refused(bytes in vec(any::<u8>(), 0..400)) {
        for header in [&[][..], &[1, 1], &[1, 2]] {
            testing::fuzz_stark(&[header, &bytes].concat());
        }
    }

    /// Lengths that lie: every number of a proof begins with some bytes of this kind.
    #[test]
    fn great_lengths_take_no_memory(tail in vec(any::<u8>(), 0..20), at in 0..200_usize) {
        static PROOF: LazyLock<PreimageProof> = LazyLock::new(|| prove(b"abc", Mode::Plain));
        let mut bytes = PROOF.as_bytes()[..6 + at].to_vec();
        bytes.extend([0xff, 0xff, 0xff, 0xff, 0x0f]);
        bytes.extend(tail);
        let len = u32::try_from(bytes.len() - 6).unwrap();
        bytes[2..6].copy_from_slice(&len.to_le_bytes());
        testing::fuzz_stark(&bytes);
        let proof = PreimageProof::from_bytes(bytes).unwrap();
        prop_assert_eq!(verify_preimage(&WideDigest::of_bytes(b"abc"), 3, &proof), Err(StarkError::Malformed));
    }
}

/// The form of a leaf of `nonos-capsule::disclosure`, before its last hash.
fn layout(name: &str, digits: u8) -> FieldLayout {
    let field = |bytes: &[u8]| [&(bytes.len() as u64).to_le_bytes(), bytes].concat();
    let before =
        [field(b"nonos/capsule/hidden-leaf/v1"), field(&[2]), 32_u64.to_le_bytes().to_vec()].concat();
    let between = [field(name.as_bytes()), u64::from(digits).to_le_bytes().to_vec()].concat();
    FieldLayout { before, between, digits, after: vec![] }
}

fn statement(name: &str, value: &str, predicate: FieldPredicate) -> FieldStatement {
    let domain = Domain::new("nonos/capsule/hidden-leaf/v1");
    let digest = Digest::of(domain, &[&[2], &SEED, name.as_bytes(), value.as_bytes()]);
    FieldStatement { digest, layout: layout(name, u8::try_from(value.len()).unwrap()), predicate }
}

#[test]
fn a_hidden_price_is_in_a_range_or_a_set() {
    let range = |min, max| FieldPredicate::Range { min, max };
    let long = "n".repeat(64);
    for (name, value, predicate) in [
        ("price", "1500", range(1_500, 1_500)),
        ("price", "1500", range(0, u64::MAX)),
        ("price", "1500", range(999, 2_000)),
        (&long, "18446744073709551615", range(u64::MAX, u64::MAX)),
        ("tier", "7", FieldPredicate::OneOf(vec![1, 7, 3])),
        ("tier", "007", FieldPredicate::OneOf(vec![7])),
    ] {
        let statement = statement(name, value, predicate);
        let proof = prove_field(&statement, &SEED, value.parse().unwrap(), [9; 32]).unwrap();
        assert_eq!(verify_field(&statement, &proof), Ok(()), "{statement:?}");
        let again = FieldProof::from_bytes(proof.as_bytes().to_vec()).unwrap();
        assert_eq!(verify_field(&statement, &again), Ok(()));
    }
}

#[test]
fn a_field_proof_is_for_one_statement() {
    let honest = statement("price", "1500", FieldPredicate::Range { min: 1_000, max: 2_000 });
    let proof = prove_field(&honest, &SEED, 1_500, [9; 32]).unwrap();
    let with = |edit: &dyn Fn(&mut FieldStatement)| {
        let mut other = honest.clone();
        edit(&mut other);
        assert_ne!(other, honest);
        other
    };
    for other in [
        with(&|s| s.digest = Digest::from_bytes([0; 32])),
        with(&|s| s.layout.before[20] ^= 1),
        with(&|s| s.layout.between[9] ^= 1),
        with(&|s| s.layout.after.push(0)),
        with(&|s| s.layout.digits = 5),
        with(&|s| s.predicate = FieldPredicate::Range { min: 1_000, max: 1_999 }),
        with(&|s| s.predicate = FieldPredicate::Range { min: 1_001, max: 2_000 }),
        with(&|s| s.predicate = FieldPredicate::OneOf(vec![1_500])),
    ] {
        let refused = verify_field(&other, &proof);
        assert!(
            matches!(refused, Err(StarkError::Refused | StarkError::Malformed)),
            "{other:?}: {refused:?}"
        );
    }
}

#[test]
fn what_does_not_hold_is_not_proven() {
    let prove = |predicate, salt: &[u8; 32], value| {
        prove_field(&statement("price", "1500", predicate), salt, value, [9; 32]).map(|_| ())
    };
    let range = |min, max| FieldPredicate::Range { min, max };
    for (predicate, salt, value) in [
        (range(0, 1_499), SEED, 1_500),
        (range(1_501, 9_999), SEED, 1_500),
        (range(0, 9_999), SEED, 1_501),
        (range(0, 9_999), [0; 32], 1_500),
        (range(0, 9_999), SEED, 15_000),
        (FieldPredicate::OneOf(vec![1_499, 1_501]), SEED, 1_500),
    ] {
        assert_eq!(prove(predicate, &salt, value), Err(StarkError::Unsatisfied));
    }
    for predicate in [
        range(2, 1),
        range(10_000, 20_000),
        FieldPredicate::OneOf(vec![]),
        FieldPredicate::OneOf(vec![1_500; FieldStatement::MAX_MEMBERS + 1]),
        FieldPredicate::OneOf(vec![1_500, 10_000]),
    ] {
        assert!(matches!(prove(predicate, &SEED, 1_500), Err(StarkError::Statement(_))));
    }
    let mut long = statement("price", "1500", range(0, 9_999));
    long.layout.after = vec![0; FieldStatement::MAX_PREIMAGE_BYTES];
    assert!(matches!(prove_field(&long, &SEED, 1_500, SEED), Err(StarkError::Statement(_))));
    for digits in [0, FieldStatement::MAX_DIGITS + 1] {
        let mut wrong = statement("price", "1500", range(0, 9_999));
        wrong.layout.digits = digits;
        assert!(matches!(prove_field(&wrong, &SEED, 1_500, SEED), Err(StarkError::Statement(_))));
    }
}

#[expect(clippy::disallowed_methods, clippy::print_stdout, reason = "it measures, for who runs it by hand")]
fn measure(len: usize, mode: Mode) {
    let message = message(len);
    let digest = WideDigest::of_bytes(&message);
    let start = Instant::now();
    let proof = prove(&message, mode);
    let proved = start.elapsed();
    let start = Instant::now();
    assert_eq!(verify_preimage(&digest, len as u64, &proof), Ok(()));
    let verified = start.elapsed();
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or("VmHWM unknown");
    println!(
        "{mode:?}, {len} bytes: prove {:.1} s, verify {} ms, proof {} bytes, {peak}",
        proved.as_secs_f64(),
        verified.as_millis(),
        proof.as_bytes().len()
    );
}

#[test]
#[ignore = "takes a gigabyte and, without --release, minutes; alone in its process, so that the peak is its own"]
fn plain_100_kb() {
    measure(100_000, Mode::Plain);
}

#[test]
#[ignore = "takes gigabytes and, without --release, minutes; alone in its process, so that the peak is its own"]
fn hiding_100_kb() {
    measure(100_000, Mode::Hiding);
}

#[test]
#[ignore = "takes gigabytes and, without --release, minutes; alone in its process, so that the peak is its own"]
fn plain_1_mb() {
    measure(1_000_000, Mode::Plain);
}

/// Two segments, and what can be done to the state between them.
#[test]
#[ignore = "a full segment takes gigabytes and, without --release, minutes"]
fn segments_are_a_chain() {
    let len = SEGMENT_BYTES + 10;
    let message = message(len);
    let digest = WideDigest::of_bytes(&message);
    let proof = prove(&message, Mode::Plain);
    assert_eq!(verify_preimage(&digest, len as u64, &proof), Ok(()));
    for at in [2, 75, 201] {
        let mut bytes = proof.as_bytes().to_vec();
        bytes[at] ^= 1;
        let other = PreimageProof::from_bytes(bytes).unwrap();
        assert_eq!(verify_preimage(&digest, len as u64, &other), Err(StarkError::Refused), "byte {at}");
    }
    assert!(verify_preimage(&digest, SEGMENT_BYTES as u64 - 1, &proof).is_err());
}
