use nonos_identity::{Epoch, Verified};
use nonos_trust::testing::{attestation, attestations};
use nonos_trust::{Attestations, Merge, SignedAttestation};
use proptest::prelude::*;

fn set(records: &[Verified<SignedAttestation>], max_per_issuer: usize) -> Attestations {
    let mut set = Attestations::new(8, max_per_issuer);
    for record in records {
        let _ = set.merge(record.clone());
    }
    set
}

fn joined(a: &Attestations, b: &Attestations) -> Attestations {
    let mut join = a.clone();
    join.join(b);
    join
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The laws of a join, at a bound that drops records (2) and at one that does not (9).
    #[test]
    fn merging_is_a_join(
        a in attestations(12),
        b in attestations(12),
        c in attestations(12),
        max in prop::sample::select(&[2usize, 9][..]),
    ) {
        let [a, b, c] = [set(&a, max), set(&b, max), set(&c, max)];
        prop_assert_eq!(&joined(&a, &a), &a);
        prop_assert_eq!(&joined(&a, &b), &joined(&b, &a));
        prop_assert_eq!(&joined(&joined(&a, &b), &c), &joined(&a, &joined(&b, &c)));
    }

    #[test]
    fn order_and_repetition_do_not_matter(records in attestations(16), turn in any::<prop::sample::Index>()) {
        let once = set(&records, 9);
        let mut other = records.clone();
        if !other.is_empty() {
            let turn = turn.index(other.len());
            other.rotate_left(turn);
        }
        other.extend(records.into_iter().rev());
        prop_assert_eq!(&set(&other, 9), &once);
        prop_assert_eq!(set(&other, 9).digest(), once.digest());
    }

    /// A contradiction is found exactly when two records share their slot and differ.
    #[test]
    fn contradictions_are_found_in_any_order(a in attestations(2), b in attestations(2)) {
        let (Some(a), Some(b)) = (a.first(), b.first()) else { return Ok(()) };
        let slot = |signed: &SignedAttestation| {
            let record = signed.attestation();
            (record.issuer, record.subject, record.epoch, record.seq)
        };
        let contradict = slot(a) == slot(b) && a.attestation() != b.attestation();
        for (first, second) in [(a, b), (b, a)] {
            let mut set = set(std::slice::from_ref(first), 9);
            let found = matches!(set.merge(second.clone()), Merge::Equivocation(_));
            prop_assert_eq!(found, contradict);
        }
    }
}

#[test]
fn the_bounds_hold() {
    let epoch = Epoch::from_number(7);
    let mut set = Attestations::new(2, 2);
    assert_eq!(set.merge(attestation(1, 9, epoch, 1, (1, 0))), Merge::Stored);
    assert_eq!(set.merge(attestation(1, 9, epoch, 1, (1, 0))), Merge::Known);
    assert_eq!(set.merge(attestation(1, 9, epoch, 2, (2, 0))), Merge::Stored);
    assert_eq!(set.merge(attestation(1, 9, epoch, 1, (1, 0))), Merge::Known);
    assert_eq!(set.merge(attestation(1, 9, epoch.next(), 1, (1, 0))), Merge::Stored);
    assert_eq!(set.merge(attestation(1, 9, Epoch::from_number(1), 1, (1, 0))), Merge::Old);
    assert_eq!(set.merge(attestation(2, 9, epoch, 1, (1, 0))), Merge::Stored);
    assert_eq!(set.merge(attestation(3, 9, epoch, 1, (1, 0))), Merge::Full);
    assert_eq!(set.len(), 3);
    set.prune(epoch.next());
    assert_eq!(set.len(), 1);
    assert_eq!(set.merge(attestation(3, 9, epoch.next(), 1, (1, 0))), Merge::Stored);
}
