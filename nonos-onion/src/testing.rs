//! Tools for integrators' tests: an in-memory mesh of nodes whose links can be watched, cut and
//! tampered with, machines on links of a given latency and rate under virtual time, proptest strategies, and one function per decoder for fuzzers.

mod fuzz;
mod network;
mod rendezvous;
mod service;
mod simulation;

use core::time::Duration;

use nonos_identity::{Epoch, NodeId, Timestamp};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

pub use crate::testing::fuzz::{
    fuzz_cell, fuzz_conflux, fuzz_descriptor, fuzz_guards, fuzz_handshake, fuzz_introduction, fuzz_machine,
    fuzz_manifest, fuzz_message, fuzz_multipath, fuzz_records, fuzz_service_descriptor, fuzz_transit,
    fuzz_vanguards, valid_cell, valid_create, valid_frames, valid_introduction, valid_introduction_content,
    valid_message, valid_routing,
};
pub use crate::testing::network::{MemoryLinks, Network, Node, Observer, Seen, View};
pub use crate::testing::rendezvous::{HubNetwork, HubStream};
pub use crate::testing::service::{arb_service_descriptor, check_directory};
pub use crate::testing::simulation::{Fault, LinkShape, Simulation};

use crate::conflux::{BuiltLeg, Legs};
use crate::descriptor::{BandwidthClass, FamilyTag, RelayDescriptor, SubnetTag};
use crate::guard::GuardSet;
use crate::link::{ByteLink, Links};
use crate::path::{HopClass, PathRequest, PathSelector};
use crate::vanguard::Vanguards;

/// Any descriptor.
pub fn arb_descriptor() -> impl Strategy<Value = RelayDescriptor> {
    let ids = (any::<[u8; 32]>(), any::<[u8; 32]>(), any::<[u8; 16]>(), any::<[u8; 16]>());
    (ids, any::<u64>(), any::<u64>(), 0..=BandwidthClass::MAX).prop_map(
        |((relay, onion_key, family, subnet), epoch, expiry, class)| RelayDescriptor {
            relay: NodeId::from_bytes(relay),
            onion_key,
            epoch: Epoch::from_number(epoch),
            family: FamilyTag::from_bytes(family),
            subnet: SubnetTag::from_bytes(subnet),
            bandwidth: BandwidthClass::new(class),
            expiry: Timestamp::from_secs(expiry),
        },
    )
}

/// A relay of an epoch with an operator and a subnet of its own, by number.
pub(crate) fn descriptor(relay: NodeId, number: u8, onion_key: [u8; 32], epoch: Epoch) -> RelayDescriptor {
    RelayDescriptor {
        relay,
        onion_key,
        epoch,
        family: FamilyTag::from_bytes([number; 16]),
        subnet: SubnetTag::from_bytes([number; 16]),
        bandwidth: BandwidthClass::default(),
        expiry: epoch.end(),
    }
}

/// Relays that are live at `now`, each with its own operator and subnet, of bandwidth class 0.
#[must_use]
pub fn relays(count: u16, now: Timestamp) -> Vec<RelayDescriptor> {
    let tag = |number: u16| {
        let mut bytes = [0; 32];
        bytes.iter_mut().zip(number.to_be_bytes()).for_each(|(to, from)| *to = from);
        bytes
    };
    let short = |number| tag(number).first_chunk::<16>().copied().unwrap_or_default();
    let relay = |number: u16| RelayDescriptor {
        relay: NodeId::from_bytes(tag(number)),
        onion_key: tag(number),
        epoch: Epoch::at(now),
        family: FamilyTag::from_bytes(short(number)),
        subnet: SubnetTag::from_bytes(short(number)),
        bandwidth: BandwidthClass::new(0),
        expiry: Epoch::at(now).end(),
    };
    (0..count).map(relay).collect()
}

/// The guards and vanguards of a client that built some circuits over up to a year, in a mesh that
/// grew and shrank, over guards that answered or did not.
pub fn arb_pinned() -> impl Strategy<Value = (GuardSet, Vanguards)> {
    let step = (0..40_u64, 0..40_u16, proptest::option::of(0..3_usize), any::<[u8; 32]>());
    proptest::collection::vec(step, 0..10).prop_map(|steps| {
        let (mut guards, mut vanguards) =
            (GuardSet::new(NodeId::from_bytes([0xff; 32])), Vanguards::default());
        let mut now = Timestamp::from_secs(1_700_000_000);
        for (days, count, blamed, seed) in steps {
            now = now.saturating_add(Duration::from_secs(days * 24 * 3600));
            let candidates = relays(count, now);
            let Some(destination) = candidates.last() else { continue };
            let request = PathRequest {
                candidates: &candidates,
                destination,
                exclude: &[],
                hops: HopClass::Three,
                reachable: None,
            };
            let path = vanguards.path(&mut guards, &PathSelector::default(), &request, now, seed);
            let Some(guard) = path.ok().and_then(|path| path.relays.first().map(|hop| hop.relay)) else {
                continue;
            };
            match blamed {
                None => guards.answered(&guard, now),
                hop => guards.failed(&guard, hop, now, seed),
            }
        }
        (guards, vanguards)
    })
}

/// Checks an implementation of [`Links`]: bytes arrive whole, in order and in both directions,
/// links are independent, and dropping one end is the end of the other.
///
/// `accept` yields the far end of each link to `relay` that is opened.
///
/// # Panics
/// If the contract is broken.
pub async fn check_links(
    links: &dyn Links,
    relay: NodeId,
    mut accept: impl AsyncFnMut() -> Box<dyn ByteLink>,
) {
    let bytes: Vec<u8> = (0..200_000_u32).map(|i| i.to_le_bytes().first().copied().unwrap_or(0)).collect();
    let mut first = links.open(relay).await.expect("the relay is reachable");
    let mut far = accept().await;
    let mut second = links.open(relay).await.expect("a second link to the same relay");
    let mut other_far = accept().await;

    let mut received = vec![0; bytes.len()];
    let send = async {
        first.write_all(&bytes).await.expect("the link takes bytes");
        first.flush().await.expect("the link flushes");
    };
    let (_, read) = tokio::join!(send, far.read_exact(&mut received));
    read.expect("all bytes arrive");
    assert_eq!(received, bytes, "bytes arrive in order");

    far.write_all(b"back").await.expect("the link takes bytes backwards");
    far.flush().await.expect("the link flushes backwards");
    let mut back = [0; 4];
    first.read_exact(&mut back).await.expect("bytes arrive backwards");
    assert_eq!(&back, b"back");

    drop(far);
    let closed = tokio::time::timeout(Duration::from_secs(10), first.read(&mut back)).await;
    assert!(matches!(closed, Ok(Ok(0) | Err(_))), "dropping one end ends the other");

    second.write_all(b"still").await.expect("another link goes on");
    second.flush().await.expect("another link flushes");
    let mut still = [0; 5];
    other_far.read_exact(&mut still).await.expect("another link delivers");
    assert_eq!(&still, b"still");
}

/// Checks an implementation of [`Legs`]: a leg carries bytes both ways and says of which epoch and through which
/// relays it is, one that is to avoid those does where it can, and dropping a leg is the end of the other end.
///
/// `accept` yields the far end of each leg that is built. At least two disjoint paths must be there.
///
/// # Panics
/// If the contract is broken.
pub async fn check_legs(legs: &dyn Legs, epoch: Epoch, mut accept: impl AsyncFnMut() -> Box<dyn ByteLink>) {
    let mut avoid = Vec::new();
    for _ in 0..2 {
        let built = legs.build(epoch, avoid.clone()).await.expect("a circuit can be built");
        let BuiltLeg { mut stream, epoch: built, relays } = built;
        assert_eq!(built, epoch, "it is of the epoch asked for");
        assert!(!relays.is_empty(), "it says its relays");
        assert!(!relays.iter().any(|relay| avoid.contains(relay)), "it avoids what it can");
        let mut far = accept().await;
        stream.write_all(b"there").await.expect("the leg takes bytes");
        stream.flush().await.expect("the leg flushes");
        let mut bytes = [0; 5];
        far.read_exact(&mut bytes).await.expect("bytes arrive");
        far.write_all(&bytes).await.expect("the far end takes bytes");
        far.flush().await.expect("the far end flushes");
        stream.read_exact(&mut bytes).await.expect("bytes arrive backwards");
        assert_eq!(&bytes, b"there");
        drop(stream);
        let ended = tokio::time::timeout(Duration::from_secs(10), far.read(&mut [0])).await;
        assert!(matches!(ended, Ok(Ok(0) | Err(_))), "dropping a leg ends it");
        avoid = relays;
    }
}
