//! The records between nodes: round trips, and what is refused.

use std::time::Duration;

use nonos_identity::wire::{self, Wire};
use nonos_identity::{
    Certificate, Digest, Identity, NetworkId, NodeId, Role, SigningKey, Timestamp, Unverified,
};
use nonos_node::records::{
    self, Claim, ClaimAnswer, Commission, Disclosure, Fulfilment, Job, Record as _, RecordError, Sealed,
    Signer, Verdict, Voucher,
};
use proptest::prelude::*;

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

fn network() -> NetworkId {
    NetworkId::from_name("records")
}

fn signer(seed: u8) -> (NodeId, Signer) {
    let identity = Identity::from_seed(&[seed; 64]);
    let key = identity.signing_key(Role::EpochSigner, 0);
    let lifetime = Duration::from_secs(3600);
    let root = identity.root_key();
    let certificate = Certificate::issue(&root, &key, Role::EpochSigner, 1, NOW, lifetime, &network())
        .expect("a valid request");
    (identity.node_id(), Signer { key, certificate, network: network() })
}

fn verdict() -> Verdict {
    Verdict { receipt: Digest::of_bytes(b"receipt"), commission: Digest::of_bytes(b"commission") }
}

#[test]
fn a_record_names_the_node_behind_its_signer() {
    let (node, signer) = signer(1);
    let sealed = signer.seal(&verdict(), 0, NOW).unwrap();
    let opened = records::open::<Verdict>(sealed.as_bytes(), &network(), NOW).unwrap();
    assert_eq!((opened.node, &opened.record), (node, &verdict()));
}

#[test]
fn a_record_is_refused_under_a_foreign_certificate() {
    let (_, mut mine) = signer(1);
    mine.certificate = signer(2).1.certificate;
    let sealed = mine.seal(&verdict(), 0, NOW).unwrap();
    let refused = records::open::<Verdict>(sealed.as_bytes(), &network(), NOW);
    assert!(matches!(refused, Err(RecordError::Signer)), "{refused:?}");
}

#[test]
fn a_record_is_refused_in_another_network_as_another_kind_and_after_its_time() {
    let (_, signer) = signer(1);
    let sealed = signer.seal(&verdict(), 0, NOW).unwrap();
    let bytes = sealed.as_bytes();
    assert!(records::open::<Verdict>(bytes, &NetworkId::from_name("other"), NOW).is_err());
    assert!(records::open::<Commission>(bytes, &network(), NOW).is_err());
    let later = NOW.saturating_add(Duration::from_secs(3601));
    let refused = records::open::<Verdict>(bytes, &network(), later);
    assert!(matches!(refused, Err(RecordError::Certificate(_))), "{refused:?}");
    let much_later = NOW.saturating_add(Duration::from_secs(7 * 3600));
    let refused = records::open::<Verdict>(bytes, &network(), much_later);
    assert!(matches!(refused, Err(RecordError::Envelope(_))), "{refused:?}");
}

#[test]
fn a_voucher_pays_only_its_payee_and_only_its_amount() {
    let payer = SigningKey::from_seed(&[9; 32]);
    let (payee, other) = (NodeId::from_bytes([1; 32]), NodeId::from_bytes([2; 32]));
    let voucher = Voucher::sign(&payer, payee, 7, &network());
    let check = |voucher: &Voucher, payee| {
        records::check_voucher(Unverified::new(voucher.clone()), payee, &network())
    };
    assert!(check(&voucher, payee).is_ok());
    assert!(check(&voucher, other).is_err());
    let altered = |alter: fn(&mut Voucher)| {
        let mut voucher = voucher.clone();
        alter(&mut voucher);
        check(&voucher, payee)
    };
    assert!(altered(|voucher| voucher.amount = 8).is_err());
    assert!(altered(|voucher| voucher.payer = SigningKey::from_seed(&[8; 32]).public()).is_err());
}

#[test]
fn a_voucher_names_its_transfer_by_its_own_key() {
    let key = |seed: u8| SigningKey::from_seed(&[seed; 32]).public();
    assert_ne!(Voucher::purpose(&key(8), &network()), Voucher::purpose(&key(9), &network()));
    assert_ne!(
        Voucher::purpose(&key(9), &network()),
        Voucher::purpose(&key(9), &NetworkId::from_name("other"))
    );
}

#[test]
fn a_record_that_counts_for_ever_is_refused() {
    let (_, signer) = signer(1);
    let sealed = signer.seal(&verdict(), 0, NOW).unwrap();
    let century = Duration::from_secs(100 * 365 * 24 * 3600);
    let body = sealed.body().to_vec();
    let kept = nonos_identity::Envelope::seal(
        &signer.key,
        Verdict::DOMAIN,
        &network(),
        Verdict::KIND,
        0,
        NOW,
        century,
        body,
    )
    .unwrap();
    let refused = records::open::<Verdict>(kept.as_bytes(), &network(), NOW);
    assert!(matches!(refused, Err(RecordError::Lifetime)), "{refused:?}");
}

#[test]
fn a_voucher_fits_a_payment_cell() {
    let payer = SigningKey::from_seed(&[9; 32]);
    let voucher = Voucher::sign(&payer, NodeId::from_bytes([1; 32]), u64::MAX, &network());
    assert!(wire::to_bytes(&voucher).len() <= nonos_onion::link::MAX_PAYMENT_BYTES);
}

fn canonical<T: Wire>(bytes: &[u8]) {
    if let Ok(value) = wire::from_bytes::<T>(bytes) {
        assert_eq!(wire::to_bytes(&value), bytes);
    }
}

fn decode_all(bytes: &[u8]) {
    canonical::<Claim>(bytes);
    canonical::<ClaimAnswer>(bytes);
    canonical::<Commission>(bytes);
    canonical::<Disclosure>(bytes);
    canonical::<Fulfilment>(bytes);
    canonical::<Job>(bytes);
    canonical::<Verdict>(bytes);
    canonical::<Voucher>(bytes);
    let _ = records::open::<Verdict>(bytes, &network(), NOW);
    let _ = records::open::<Commission>(bytes, &network(), NOW);
}

proptest! {
    #[test]
    fn no_decoder_panics_on_any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        decode_all(&bytes);
    }

    #[test]
    fn no_altered_record_opens(at in any::<prop::sample::Index>(), flip in 1_u8..) {
        let (_, signer) = signer(1);
        let sealed = signer.seal(&verdict(), 0, NOW).unwrap();
        let mut bytes = sealed.as_bytes().to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        decode_all(&bytes);
        prop_assert!(records::open::<Verdict>(&bytes, &network(), NOW).is_err());
    }

    #[test]
    fn job_and_fulfilment_round_trip(parts in proptest::collection::vec(any::<Vec<u8>>(), 0..8)) {
        let sealed = |at: usize| Sealed(parts.get(at).cloned().unwrap_or_default());
        let job = Job {
            commission: sealed(0),
            price_table: sealed(1),
            operators: parts.iter().cloned().map(Sealed).collect(),
        };
        prop_assert_eq!(wire::from_bytes::<Job>(&wire::to_bytes(&job)), Ok(job));
        let fulfilment = Fulfilment { commission: sealed(0), receipt: sealed(1) };
        prop_assert_eq!(wire::from_bytes::<Fulfilment>(&wire::to_bytes(&fulfilment)), Ok(fulfilment));
    }
}
