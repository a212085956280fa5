//! The wire form of what other crates carry and store, pinned: ours, v1.

use nonos_identity::{Epoch, NodeId, Timestamp, wire};
use nonos_onion::{BandwidthClass, FamilyTag, RelayDescriptor, SubnetTag};

const DESCRIPTOR: &str = include_str!("../vectors/descriptor.txt");

#[test]
fn the_descriptor_has_its_pinned_bytes() {
    let descriptor = RelayDescriptor {
        relay: NodeId::from_bytes([0x11; 32]),
        onion_key: [0x22; 32],
        epoch: Epoch::from_number(2_900_000),
        family: FamilyTag::from_bytes([0x33; 16]),
        subnet: SubnetTag::from_bytes([0x44; 16]),
        bandwidth: BandwidthClass::new(7),
        expiry: Timestamp::from_secs(1_740_000_600),
    };
    let bytes = wire::to_bytes(&descriptor);
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let pinned = DESCRIPTOR.lines().find(|line| !line.starts_with('#')).unwrap();
    assert_eq!(hex, pinned);
    assert_eq!(wire::from_bytes::<RelayDescriptor>(&bytes), Ok(descriptor));
}

#[test]
fn what_is_not_canonical_is_refused() {
    let pinned = DESCRIPTOR.lines().find(|line| !line.starts_with('#')).unwrap();
    let bytes: Vec<u8> =
        (0..pinned.len() / 2).map(|i| u8::from_str_radix(&pinned[2 * i..2 * i + 2], 16).unwrap()).collect();
    assert!(wire::from_bytes::<RelayDescriptor>(&bytes).is_ok());
    let trailing = [&bytes[..], &[0]].concat();
    assert!(wire::from_bytes::<RelayDescriptor>(&trailing).is_err());
    assert!(wire::from_bytes::<RelayDescriptor>(&bytes[..bytes.len() - 1]).is_err());
    // The bandwidth class stands before the five bytes of the expiry; there is no class 11.
    let mut class = bytes.clone();
    let at = class.len() - 6;
    assert_eq!(class[at], 7);
    class[at] = 11;
    assert!(wire::from_bytes::<RelayDescriptor>(&class).is_err());
}
