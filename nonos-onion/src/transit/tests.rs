use nonos_identity::{NetworkId, SigningKey, wire};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::circuit::LocalCircuitId;

fn network() -> NetworkId {
    NetworkId::from_name("transit")
}

fn epoch() -> Epoch {
    Epoch::from_number(7)
}

fn key(number: u8) -> TransitKey {
    TransitKey::of(&[number; LAYER_SEED_BYTES])
}

/// The promise to a relay whose next hop has the number after its own.
fn promise(number: u8, batches: u16) -> Promise {
    key(number).promise(epoch(), &key(number + 1).hints(batches))
}

fn opening(number: u8, batch: u16) -> Opening {
    Opening { own: key(number).own(batch), ack: key(number + 1).ack(batch) }
}

/// Circuits of so many promised and so many carried batches each, settled.
fn settled(circuits: &[(u16, u16)]) -> (SignedReceipt, Vec<(Commitment, Share)>) {
    let mut tally = Tally::new(epoch());
    for (number, &(batches, carried)) in (0_u8..).step_by(2).zip(circuits) {
        let id = LocalCircuitId(number.into());
        tally.promised(id, promise(number, batches)).unwrap();
        (0..carried).for_each(|batch| tally.carried(id, opening(number, batch)).unwrap());
    }
    let (receipt, shares) = tally.settle(&SigningKey::from_seed(&[3; 32]), &network());
    (receipt, shares.into_iter().map(|(_, commitment, share)| (commitment, share)).collect())
}

#[test]
fn a_receipt_is_made_up_of_its_shares() {
    let (signed, shares) = settled(&[(5, 5), (8, 3), (4, 0), (256, 17)]);
    assert_eq!((signed.receipt().count, shares.len()), (25, 3));
    for (commitment, share) in &shares {
        assert_eq!(share.check(signed.receipt(), commitment), Ok(()));
    }
    assert_eq!(signed.check_all(&shares), Ok(()));
    let parsed = SignedReceipt::parse(&wire::to_bytes(&signed)).unwrap();
    assert!(SignedReceipt::check(parsed, &network()).is_ok());
    let parsed = SignedReceipt::parse(&wire::to_bytes(&signed)).unwrap();
    let other = SignedReceipt::check(parsed, &NetworkId::from_name("another"));
    assert!(matches!(other, Err(ReceiptError::Signature(_))));
}

#[test]
fn nothing_but_both_halves_opens_a_batch() {
    let mut tally = Tally::new(epoch());
    let id = LocalCircuitId(1);
    tally.promised(id, promise(0, 4)).unwrap();
    let Opening { own, ack } = opening(0, 0);
    let forged = Digest::from_bytes([9; 32]);
    for (wrong, what) in [
        (Opening { own: forged, ack }, "own"),
        (Opening { own, ack: forged }, "ack"),
        (Opening { own: ack, ack: own }, "halves swapped"),
        (Opening { own, ack: hint(&ack) }, "the hint, which the relay knows from the start"),
        (opening(0, 1), "another batch"),
        (Opening { own, ack: key(1).ack(1) }, "the ack of another batch"),
        (opening(2, 0), "another circuit"),
        (Opening { own, ack: key(3).ack(0) }, "the ack of another circuit"),
        (Opening { own, ack: key(0).ack(0) }, "its own ack"),
    ] {
        assert_eq!(tally.carried(id, wrong), Err(TallyError::Opening(id)), "{what}");
    }
    assert_eq!(tally.carried(id, opening(0, 0)), Ok(()));
    assert_eq!(tally.carried(id, opening(0, 0)), Err(TallyError::Opening(id)), "twice");
    (1..4).for_each(|batch| tally.carried(id, opening(0, batch)).unwrap());
    assert_eq!(tally.carried(id, opening(0, 4)), Err(TallyError::Opening(id)), "beyond what was promised");
    let none = LocalCircuitId(2);
    assert_eq!(tally.carried(none, opening(0, 0)), Err(TallyError::Unknown(none)));
    let late = Promise { epoch: epoch().next(), ..promise(0, 4) };
    assert_eq!(tally.promised(none, late), Err(TallyError::Epoch(epoch().next())));
    assert_eq!(tally.batches(), 4);
}

#[test]
fn a_share_is_of_one_receipt_and_one_commitment() {
    let (signed, shares) = settled(&[(5, 5), (8, 3)]);
    let (first, second) = (&shares[0], &shares[1]);
    let receipt = signed.receipt();
    let check = |change: fn(&mut Share), commitment: &Commitment, receipt: &Receipt| {
        let mut share = second.1.clone();
        change(&mut share);
        share.check(receipt, commitment)
    };
    let (same, own): (fn(&mut Share), _) = (|_| {}, second.0);
    assert_eq!(check(same, &own, receipt), Ok(()));
    assert_eq!(check(same, &first.0, receipt), Err(ShareError::Promised), "another circuit's");
    assert_eq!(
        check(|share| share.openings[1].own = Digest::from_bytes([1; 32]), &own, receipt),
        Err(ShareError::Promised)
    );
    assert_eq!(
        check(|share| share.openings[2].ack = Digest::from_bytes([1; 32]), &own, receipt),
        Err(ShareError::Promised)
    );
    assert_eq!(check(|share| share.openings.swap(0, 1), &own, receipt), Err(ShareError::Promised));
    assert_eq!(check(|share| share.openings.truncate(2), &own, receipt), Err(ShareError::Promised));
    assert_eq!(check(|share| share.first = 4, &own, receipt), Err(ShareError::Counted));
    assert_eq!(check(|share| share.first = u32::MAX, &own, receipt), Err(ShareError::Counted));
    assert_eq!(check(|share| share.counted.clear(), &own, receipt), Err(ShareError::Counted));
    assert_eq!(check(same, &own, &Receipt { count: 7, ..*receipt }), Err(ShareError::Counted));
    let other = Receipt { epoch: epoch().next(), ..*receipt };
    assert_eq!(
        check(same, &own, &other),
        Err(ShareError::Epoch { commitment: epoch(), receipt: other.epoch })
    );
    let none = ShareError::Batches { batches: 0, promised: 8 };
    assert_eq!(check(|share| share.openings.clear(), &own, receipt), Err(none));
    let few = Commitment { batches: 2, ..own };
    assert_eq!(
        check(same, &few, receipt),
        Err(ShareError::Batches { batches: 3, promised: 2 }),
        "beyond committed"
    );
    assert_eq!(check(same, &Commitment { batches: 9, ..own }, receipt), Err(ShareError::Promised));
}

#[test]
fn no_batch_counts_twice_and_none_without_its_share() {
    let (signed, shares) = settled(&[(5, 5), (8, 3)]);
    let [first, second] = [&shares[0], &shares[1]].map(Clone::clone);
    let error = Err(ReceiptError::Count(8));
    assert_eq!(signed.check_all(core::slice::from_ref(&first)), error);
    assert_eq!(signed.check_all(core::slice::from_ref(&second)), error);
    assert_eq!(signed.check_all(&[second.clone(), first.clone()]), error);
    assert_eq!(signed.check_all(&[first.clone(), first.clone()]), error);
    assert_eq!(signed.check_all(&[]), error);
    let mixed = signed.check_all(&[(first.0, second.1), (second.0, first.1)]);
    assert!(matches!(mixed, Err(ReceiptError::Share { share: 0, error: ShareError::Promised })));
    // A count that is not that of the leaves.
    let (once, shares) = settled(&[(5, 5)]);
    let twice = Receipt { count: 10, ..*once.receipt() };
    assert_eq!(shares[0].1.check(&twice, &shares[0].0), Err(ShareError::Counted));
}

/// Each share holds by itself, for each payer's eyes; all of them together show it.
#[test]
fn a_circuit_that_is_put_in_twice_is_found_by_all_shares() {
    let promise = promise(0, 5);
    let openings: Vec<Opening> = (0..5).map(|batch| opening(0, batch)).collect();
    let tree = Tree::new(&[&promise.challenges[..], &promise.challenges].concat());
    let receipt = Receipt { epoch: epoch(), count: 10, root: tree.root() };
    let signed = SignedReceipt::sign(receipt, &SigningKey::from_seed(&[3; 32]), &network());
    let share = |first: u32| {
        let start = first as usize;
        let (openings, counted) = (openings.clone(), tree.prove(start..start + 5));
        (promise.commitment(), Share { first, openings, promised: vec![], counted })
    };
    let shares = [share(0), share(5)];
    for (commitment, share) in &shares {
        assert_eq!(share.check(&receipt, commitment), Ok(()));
    }
    assert_eq!(signed.check_all(&shares), Err(ReceiptError::Count(10)));
}

/// Ours, v1: SHA3-256 over the fields of the module's head, each after its length; computed by Python's hashlib.
#[test]
fn the_derivations_have_their_pinned_bytes() {
    let commitment = promise(0, 3).commitment();
    let pins = [
        (key(0).own(0), PINS[0]),
        (key(1).ack(2), PINS[1]),
        (opening(0, 1).challenge(), PINS[2]),
        (commitment.root, PINS[3]),
    ];
    for (digest, pinned) in pins {
        assert_eq!(digest.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect::<String>(), pinned);
    }
}

const PINS: [&str; 4] = [
    "a3d2e7e1338364df68167bebd4f4f506dee7f8f57dbec6c979c4b21d3f44a66a",
    "ac38e298b46da3636ea2da97fad1db1a52419278a9af2530e0c128def119a8d6",
    "b5c8a7640de4359a7e67187df916eb1192dcc1ec05a7623279df26bf19552c1e",
    "a2d99397d938c7824bf4c97d131deced7a5ae9cd3206440b596f680356a39289",
];

#[test]
fn hints_are_canonical() {
    for count in [0, 3] {
        let hints = Hints { batches: 3, hints: key(0).hints(count) };
        assert_eq!(Hints::read(&hints.to_bytes()), Ok(hints));
    }
    let bytes = Hints { batches: 3, hints: key(0).hints(3) }.to_bytes();
    for wrong in [&bytes[..1], &bytes[..97], &bytes[..66], &[], &[0, 0], &[4, 1], &[0xff, 0xff]] {
        assert_eq!(Hints::read(wrong), Err(HintsError));
    }
    let most = Hints { batches: MAX_BATCHES, hints: key(0).hints(MAX_BATCHES) };
    assert_eq!(most.to_bytes().len(), Hints::MAX_BYTES);
}

/// What a relay keeps of a circuit reads back, and tells which opening is whose.
#[test]
fn a_promise_has_a_wire_form_and_knows_its_openings() {
    let most = promise(0, MAX_BATCHES);
    assert_eq!(wire::from_bytes(&wire::to_bytes(&most)), Ok(most));
    let promise = promise(0, 3);
    assert!(promise.is_opened(2, &opening(0, 2)));
    assert!(!promise.is_opened(1, &opening(0, 2)) && !promise.is_opened(3, &opening(0, 3)));
    // An opening too many, as of a relay that claims more than it carried.
    let openings: Vec<Opening> = (0..4).map(|batch| opening(0, batch)).collect();
    let key = SigningKey::from_seed(&[3; 32]);
    let check = |count: usize| {
        let (receipt, shares) =
            SignedReceipt::settle(epoch(), &[(&promise, &openings[..count])], &key, &network());
        shares[0].check(receipt.receipt(), &promise.commitment())
    };
    assert_eq!(check(3), Ok(()));
    assert_eq!(check(4), Err(ShareError::Batches { batches: 4, promised: 3 }));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn records_round_trip_and_bear_any_change(
        circuits in vec((1_u16..40, 0_u16..40), 1..6),
        changes in vec((any::<usize>(), 1_u8..), 1..3),
    ) {
        let circuits: Vec<_> = circuits.into_iter().map(|(batches, carried)| (batches, carried.min(batches))).collect();
        let (signed, shares) = settled(&circuits);
        prop_assert_eq!(signed.check_all(&shares), Ok(()));
        let change = |mut bytes: Vec<u8>| {
            for &(at, with) in &changes {
                let len = bytes.len();
                bytes[at % len] ^= with;
            }
            bytes
        };
        let bytes = wire::to_bytes(&signed);
        prop_assert_eq!(wire::from_bytes::<SignedReceipt>(&bytes), Ok(signed.clone()));
        crate::testing::fuzz_transit(&change(bytes));
        for (commitment, share) in &shares {
            let bytes = wire::to_bytes(share);
            prop_assert_eq!(wire::from_bytes::<Share>(&bytes), Ok(share.clone()));
            crate::testing::fuzz_transit(&bytes);
            let changed = change(bytes);
            crate::testing::fuzz_transit(&changed);
            if let Ok(other) = wire::from_bytes::<Share>(&changed) {
                prop_assert!(other == *share || other.check(signed.receipt(), commitment).is_err());
            }
            let bytes = wire::to_bytes(commitment);
            prop_assert_eq!(wire::from_bytes::<Commitment>(&bytes), Ok(*commitment));
            crate::testing::fuzz_transit(&change(bytes));
        }
    }

    #[test]
    fn any_bytes_are_no_proof(bytes in vec(any::<u8>(), 0..400)) {
        crate::testing::fuzz_transit(&bytes);
    }
}
