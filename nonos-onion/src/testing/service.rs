use nonos_identity::{Epoch, NodeId, SigningKey};
use proptest::prelude::*;

use crate::service::{Directory, DirectoryIndex, IntroductionPoint, ServiceDescriptor};

/// Any content of a service descriptor.
pub fn arb_service_descriptor() -> impl Strategy<Value = ServiceDescriptor> {
    let keys = (any::<[u8; 32]>(), any::<[u8; 32]>(), any::<[u8; 32]>(), any::<[u8; 32]>());
    let point = (keys, any::<u64>()).prop_map(|((relay, onion_key, auth_seed, encryption_key), epoch)| {
        IntroductionPoint {
            relay: NodeId::from_bytes(relay),
            onion_key,
            epoch: Epoch::from_number(epoch),
            auth_key: SigningKey::from_seed(&auth_seed).public(),
            encryption_key,
        }
    });
    prop::collection::vec(point, 1..=ServiceDescriptor::MAX_POINTS)
        .prop_filter_map("points that share a key", |points| ServiceDescriptor::new(points).ok())
}

/// Checks the contract of [`Directory`] on one where nothing is at `index` and `elsewhere`: `older` and `newer`
/// are two revisions of one descriptor that belongs at `index` alone.
///
/// # Panics
/// If the contract is broken.
pub async fn check_directory(
    directory: &dyn Directory,
    index: DirectoryIndex,
    elsewhere: DirectoryIndex,
    older: Vec<u8>,
    newer: Vec<u8>,
) {
    let fetch = async |index| directory.fetch(index).await.expect("the directory can be reached");
    assert!(fetch(index).await.is_empty(), "the check needs an empty index");
    let publish = async |index, bytes: &Vec<u8>| directory.publish(index, bytes.clone()).await;
    for _ in 0..2 {
        publish(index, &older).await.expect("a record that holds is kept");
        assert_eq!(fetch(index).await, [&older[..]]);
    }
    let mut forged = newer.clone();
    if let Some(last) = forged.last_mut() {
        *last ^= 1;
    }
    assert!(publish(index, &forged).await.is_err(), "kept with a wrong signature");
    assert!(publish(elsewhere, &newer).await.is_err(), "kept at another index");
    assert_eq!(fetch(index).await, [&older[..]], "a refused publication changed something");
    publish(index, &newer).await.expect("a newer record that holds is kept");
    assert!(publish(index, &older).await.is_err(), "an older revision replaced a newer one");
    assert_eq!(fetch(index).await, [&newer[..]], "a refused publication changed something");
    assert!(fetch(elsewhere).await.is_empty(), "a refused publication was kept");
}
