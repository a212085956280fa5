use core::time::Duration;

use nonos_identity::wire;
use nonos_identity::{Envelope, EnvelopeError, NetworkId, SigningKey, Timestamp};
use nonos_ledger::testing::SimStore;
use nonos_ledger::{Head, Kind, Ledger, PriceError, PriceTable, domains};

use crate::transfer;

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
const HOUR: Duration = Duration::from_secs(3_600);
const TABLE: PriceTable =
    PriceTable { version: 3, execution_nano: 500, seeding_nano: 2_000, verification_nano: 40, relay_nano: 7 };

fn envelope(bytes: &[u8]) -> nonos_identity::Unverified<Envelope> {
    Envelope::parse(bytes).expect("well-formed")
}

/// Formats and hashes are pinned: a change here breaks every ledger on disk.
#[test]
fn stored_forms_are_pinned() {
    let transfer = transfer(1, 100, Kind::Posted);
    assert_eq!(
        Head::genesis().hash.to_string(),
        "07124f2afdacacabc9aadb4e1e0a2e93aa4761f66c64b029d6adb3ce2bba30a3"
    );
    assert_eq!(transfer.id().to_string(), "dd7020793138ebfcb532da4293f1ab1e22749675fa021aae35d3dca828bcf884");
    assert_eq!(TABLE.id().to_string(), "66d2ed0e72b2ec116ec0c5073ef4d40baa293f9817008f34677eddd6a57da6ce");
    let mut ledger = Ledger::open(Box::new(SimStore::new())).expect("opens");
    let _ = ledger.post(&[transfer]).expect("posts");
    assert_eq!(
        ledger.head().expect("head").hash.to_string(),
        "cc4fdf68d7da0485758a47f7792f9fc37e752de5f3f317ba3527297550c58198"
    );
}

#[test]
fn a_price_table_opens_as_signed_and_not_otherwise() {
    let (key, network) = (SigningKey::from_seed(&[7; 32]), NetworkId::from_name("test"));
    let sealed = TABLE.seal(&key, &network, NOW, HOUR).expect("seals");
    let bytes = sealed.as_bytes();
    assert_eq!(*PriceTable::open(envelope(bytes), &network, NOW).expect("opens"), TABLE);

    let elsewhere = PriceTable::open(envelope(bytes), &NetworkId::from_name("other"), NOW);
    assert!(matches!(elsewhere, Err(PriceError::Envelope(EnvelopeError::Signature(_)))));
    let late = PriceTable::open(envelope(bytes), &network, NOW.saturating_add(HOUR));
    assert!(matches!(late, Err(PriceError::Envelope(EnvelopeError::Expired(_)))));
    for at in 0..bytes.len() {
        let mut bad = bytes.to_vec();
        bad[at] ^= 1;
        let opened = Envelope::parse(&bad).map(|envelope| PriceTable::open(envelope, &network, NOW));
        assert!(!matches!(opened, Ok(Ok(_))), "byte {at}");
    }
}

#[test]
fn a_signed_table_still_has_to_make_sense() {
    let (key, network) = (SigningKey::from_seed(&[7; 32]), NetworkId::from_name("test"));
    let seal = |seq, body| {
        let domain = domains::PRICE_TABLE;
        let sealed =
            Envelope::seal(&key, domain, &network, PriceTable::KIND, seq, NOW, HOUR, body).expect("seals");
        PriceTable::open(envelope(sealed.as_bytes()), &network, NOW).map(|table| table.into_inner())
    };
    assert_eq!(seal(3, wire::to_bytes(&TABLE)), Ok(TABLE));
    assert!(matches!(seal(4, wire::to_bytes(&TABLE)), Err(PriceError::Decode(_))));
    assert!(matches!(seal(3, vec![0]), Err(PriceError::Decode(_))));
    let dear = PriceTable { relay_nano: PriceTable::MAX_PRICE_NANO + 1, ..TABLE };
    assert_eq!(seal(3, wire::to_bytes(&dear)), Err(PriceError::TooDear));
    assert!(matches!(dear.seal(&key, &network, NOW, HOUR), Err(PriceError::TooDear)));
}
