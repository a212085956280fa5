use nonos_identity::{Digest, NetworkId};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::beacon::{BeaconBody, Capabilities};
use crate::contact::{Contact, TransportId};
use crate::fetch::Response;
use crate::ticket::Ticket;

/// Any valid contact.
pub fn contact() -> impl Strategy<Value = Contact> {
    let transport =
        vec(any::<u8>(), 1..=TransportId::MAX_BYTES).prop_filter_map("length", |b| TransportId::new(b).ok());
    let addresses = vec("[!-~]{1,128}", 0..=Contact::MAX_ADDRESSES);
    (transport, addresses).prop_map(|(transport, addresses)| Contact { transport, addresses })
}

/// Any valid ticket.
pub fn ticket() -> impl Strategy<Value = Ticket> {
    let network = any::<[u8; 32]>().prop_map(NetworkId::from_bytes);
    (network, vec(contact(), 1..=Ticket::MAX_CONTACTS))
        .prop_map(|(network, contacts)| Ticket { network, contacts })
}

/// Any valid beacon content.
pub fn beacon_body() -> impl Strategy<Value = BeaconBody> {
    (
        vec(any::<u8>(), 0..=BeaconBody::MAX_ONION_BYTES),
        any::<u32>(),
        vec(any::<[u8; 32]>(), 0..=BeaconBody::MAX_ATTESTATIONS),
        vec(any::<u8>(), 0..=BeaconBody::MAX_RELAY_BYTES),
        vec(any::<u8>(), 0..=BeaconBody::MAX_EXTRA_BYTES),
    )
        .prop_map(|(onion, bits, attestations, relay, extra)| BeaconBody {
            onion,
            capabilities: Capabilities::from_bits(bits),
            attestations: attestations.into_iter().map(Digest::from_bytes).collect(),
            relay,
            extra,
        })
}

/// Any answer of a provider.
pub fn response() -> impl Strategy<Value = Response> {
    let bytes = || vec(any::<u8>(), 0..2000);
    prop_oneof![
        bytes().prop_map(Response::Head),
        (any::<u32>(), bytes()).prop_map(|(index, bytes)| Response::Chunk { index, bytes }),
        Just(Response::Paid),
        Just(Response::Permitted),
        Just(Response::NotFound),
        any::<u64>().prop_map(Response::PaymentRequired),
        Just(Response::Busy),
        bytes().prop_map(Response::Have),
    ]
}
