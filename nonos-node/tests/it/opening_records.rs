//! The records that carry openings: their forms, and what altered bytes amount to.

use data_encoding::HEXLOWER;
use nonos_capsule::{CapsuleId, Field, HiddenFields, Recipient, Release};
use nonos_identity::wire::{self, Wire};
use nonos_identity::{Digest, SharedBox, StaticSecret, Timestamp, WideDigest};
use nonos_node::inquiry::{Answer, Question};
use nonos_node::openings::{self, Kept, OpeningFile, Openings, Reading, Shown};
use nonos_node::records::{Disclosure, Sealed};
use proptest::prelude::*;

fn hidden_fields() -> HiddenFields {
    let field = Field { name: "licence".into(), value: "EUPL-1.2".into(), release: Release::Public };
    HiddenFields::new([7; 32], vec![field]).expect("within the rules")
}

/// Decoding and encoding again gives the same bytes.
fn canonical<T: Wire>(bytes: &[u8]) {
    if let Ok(value) = wire::from_bytes::<T>(bytes) {
        assert_eq!(wire::to_bytes(&value), bytes);
    }
}

fn decode_all(bytes: &[u8]) {
    canonical::<Question>(bytes);
    canonical::<Answer>(bytes);
    canonical::<OpeningFile>(bytes);
    canonical::<Openings>(bytes);
}

fn id() -> CapsuleId {
    CapsuleId::from_digest(WideDigest::of_bytes(b"capsule"))
}

fn shown(is_sealed: bool) -> Shown {
    let key = StaticSecret::from_bytes(&[1; 32]);
    let opening = hidden_fields().open(0).expect("a field");
    match is_sealed {
        true => openings::seal(&opening, &id(), &[Recipient::from_bytes(key.public())]).expect("a key"),
        false => Shown::Plain(opening),
    }
}

fn disclosure() -> Disclosure {
    let key = StaticSecret::from_bytes(&[1; 32]);
    let domain = nonos_node::domains::SEED;
    let opening = SharedBox::seal(&[key.public()], &key, domain, b"", b"opening").expect("a key");
    Disclosure { receipt: Sealed(vec![7; 99]), opening }
}

#[test]
fn wire_forms_are_pinned() {
    let receipt = Question::Receipt(Digest::from_bytes([7; 32]));
    let hex = |bytes: Vec<u8>| HEXLOWER.encode(&bytes);
    assert_eq!(hex(wire::to_bytes(&receipt)), format!("8201815820{}", "07".repeat(32)));
    let capsule = CapsuleId::from_digest(WideDigest::from_bytes([9; 64]));
    let question = Question::Field { capsule, field: 3 };
    assert_eq!(hex(wire::to_bytes(&question)), format!("8200825840{}03", "09".repeat(64)));
    let longest = Question::Field { capsule, field: u8::MAX };
    assert!(wire::to_bytes(&longest).len() <= Question::MAX_BYTES);
    for (number, answer) in [Answer::Withheld, Answer::Busy, Answer::Malformed].into_iter().enumerate() {
        assert_eq!(hex(wire::to_bytes(&answer)), format!("820{number}80"));
    }
}

proptest! {
    #[test]
    fn no_decoder_panics_on_any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        decode_all(&bytes);
    }

    #[test]
    fn altered_records_are_refused_or_canonical(
        is_sealed: bool,
        at in any::<prop::sample::Index>(),
        flip in 1_u8..,
    ) {
        let file = OpeningFile { capsule: id(), field: 0, shown: shown(is_sealed) };
        let kept = Kept { field: 0, from: Timestamp::from_secs(9), shown: shown(is_sealed) };
        let all = Openings { capsule: id(), fields: vec![kept] };
        let answers = [Answer::Field(shown(is_sealed)), Answer::Receipt(disclosure())];
        let hidden = hidden_fields().commit().expect("valid");
        for answer in &answers {
            prop_assert_eq!(&wire::from_bytes::<Answer>(&wire::to_bytes(answer)).expect("own bytes"), answer);
        }
        let [first, second] = &answers;
        let records =
            [wire::to_bytes(&file), wire::to_bytes(&all), wire::to_bytes(first), wire::to_bytes(second)];
        for mut bytes in records {
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            decode_all(&bytes);
        }
        // What an altered opening still says, it says of nothing that was signed.
        let mut bytes = wire::to_bytes(&file);
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        if let Ok(altered) = wire::from_bytes::<OpeningFile>(&bytes) {
            let key = StaticSecret::from_bytes(&[1; 32]);
            let reading = openings::open(&altered.shown, &altered.capsule, &hidden, altered.field, &key);
            let holds = matches!(reading, Ok(Reading::Opened(_)));
            // The name of the capsule is no part of a plain opening: the reader asked for it.
            prop_assert!(!holds || (altered.capsule != id() && !is_sealed), "{:?}", altered);
        }
    }
}
