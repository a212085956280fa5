use nonos_identity::{EnvelopeError, NetworkId, SigningKey, Timestamp, Verified};
use nonos_zk::{
    Enrolment, EnrolmentError, IdentityCommitment, IdentitySecret, IdentityTree, OperatorKey, TreeError,
};

fn operator(seed: u8) -> OperatorKey {
    IdentitySecret::from_seed(&[seed; 32]).operator_key()
}

fn commitment(seed: u8) -> IdentityCommitment {
    operator(seed).commitment()
}

fn enrolment(root: u8, secret: u8, secs: u64) -> Verified<Enrolment> {
    let (network, now) = (NetworkId::from_name("a"), Timestamp::from_secs(secs));
    let key = SigningKey::from_seed(&[root; 32]);
    let envelope = Enrolment::sign(&key, &network, operator(secret), now).unwrap();
    Enrolment::check(envelope.as_bytes(), &network, now).unwrap()
}

#[test]
fn a_tree_of_one_says_so() {
    let mut tree = IdentityTree::new();
    assert!(tree.is_empty());
    assert!(tree.path(0).is_none());
    let empty = tree.root();
    assert_eq!(tree.insert(commitment(1)), Ok(0));
    assert_eq!(tree.len(), 1);
    assert_ne!(tree.root(), empty);
    assert_eq!(tree.insert(commitment(1)), Err(TreeError::Duplicate));
}

#[test]
fn each_path_leads_its_own_leaf_to_the_root() {
    let mut tree = IdentityTree::new();
    for seed in 0..9 {
        assert_eq!(tree.insert(commitment(seed)), Ok(u32::from(seed)));
    }
    for seed in 0..9 {
        let index = tree.index_of(&commitment(seed)).unwrap();
        let path = tree.path(index).unwrap();
        assert_eq!(path.root(&commitment(seed)), tree.root());
        assert_ne!(path.root(&commitment(seed + 1)), tree.root());
    }
    assert!(tree.path(9).is_none());
    assert!(tree.path(u32::MAX).is_none());
}

#[test]
fn enrolments_in_any_order_make_one_root() {
    let (a, b, late) = (enrolment(1, 1, 1000), enrolment(2, 2, 1000), enrolment(1, 3, 9000));
    let root = |list: &[&Verified<Enrolment>]| {
        let tree = IdentityTree::from_enrolments(list.iter().copied()).unwrap();
        (tree.root(), tree.len())
    };
    assert_eq!(root(&[&a, &b]), root(&[&b, &a]));
    // The later one of a node replaces the earlier; one node never has two leaves.
    assert_eq!(root(&[&a, &b, &late]), root(&[&late, &b, &a]));
    assert_eq!(root(&[&a, &b, &late]), root(&[&late, &b]));
    assert_ne!(root(&[&a, &b]), root(&[&late, &b]));
    // Claiming the commitment of another node neither removes nor doubles it.
    let thief = enrolment(9, 1, 1000);
    let tree = IdentityTree::from_enrolments([&a, &thief]).unwrap();
    assert_eq!(tree.len(), 1);
    assert!(tree.index_of(&commitment(1)).is_some());
}

#[test]
fn enrolment_is_the_root_keys_word() {
    let (network, now) = (NetworkId::from_name("a"), Timestamp::from_secs(1_000_000));
    let key = SigningKey::from_seed(&[1; 32]);
    let envelope = Enrolment::sign(&key, &network, operator(1), now).unwrap();
    let bytes = envelope.as_bytes();
    let checked = Enrolment::check(bytes, &network, now).unwrap();
    assert_eq!(checked.node, key.public().node_id());
    assert_eq!(checked.operator, operator(1));

    let other = NetworkId::from_name("b");
    assert!(matches!(
        Enrolment::check(bytes, &other, now),
        Err(EnrolmentError::Envelope(EnvelopeError::Signature(_)))
    ));
    assert!(matches!(
        Enrolment::check(bytes, &network, now.saturating_add(Enrolment::LIFETIME)),
        Err(EnrolmentError::Envelope(EnvelopeError::Expired(_)))
    ));
    for at in 0..bytes.len() {
        let mut altered = bytes.to_vec();
        altered[at] ^= 1;
        assert!(Enrolment::check(&altered, &network, now).is_err(), "byte {at}");
    }
}
