//! Cell cryptography beside tor-proto's Counter Galois Onion and beside Sphinx packets, per core.

use std::hint::black_box;

use aes::{Aes128Dec, Aes128Enc};
use nonos_onion::cgo::{ClientLayer, LAYER_SEED_BYTES, RelayLayer};
use sphinx_packet::SphinxPacket;
use sphinx_packet::constants::{DESTINATION_ADDRESS_LENGTH, IDENTIFIER_LENGTH, NODE_ADDRESS_LENGTH};
use sphinx_packet::header::delays::Delay;
use sphinx_packet::packet::builder::SphinxPacketBuilder;
use sphinx_packet::route::{Destination, DestinationAddressBytes, Node, NodeAddressBytes};
use tor_proto::bench_utils::{
    BENCH_CHAN_CMD, CryptInit, InboundRelayLayer as _, OutboundClientCrypt, OutboundRelayLayer as _,
    RelayCellBody, RelayLayer as _, cgo,
};
use x25519_dalek::{PublicKey, StaticSecret};

use crate::Failure;
use crate::report::{Better, Of, Paired, Row, count, cpu_seconds};

/// Body of our cells, in bytes.
const BODY: usize = 1018;
/// Body of Tor's cells, in bytes.
pub(super) const TOR_BODY: usize = 509;
/// The command byte that both bind: RELAY of Tor.
pub(super) const RELAY: u8 = 3;
/// Layers of a circuit, as many as Tor's circuits have.
pub(super) const HOPS: u8 = 3;
/// Cells that one side handles in a round.
const CELLS: usize = 40_000;
/// Sphinx packets that are handled in a round.
const PACKETS: usize = 400;
/// Payload of a Sphinx packet, its own key material and padding included.
const SPHINX_BYTES: usize = 1024;
const MEGABYTE: f64 = 1e6;

const TOR: &str = "tor-proto 0.47 CGO, 509-byte bodies";
const SPHINX: &str = "sphinx-packet 0.8, 1024-byte payloads, unwrapped by a hop";

pub(super) type TorRelay = cgo::CryptStatePair<Aes128Enc, Aes128Enc>;
pub(super) type TorClient = cgo::CryptStatePair<Aes128Dec, Aes128Enc>;

pub(super) fn seed(hop: u8) -> [u8; LAYER_SEED_BYTES] {
    core::array::from_fn(|i| hop.wrapping_mul(31).wrapping_add(i.to_le_bytes().first().copied().unwrap_or(0)))
}

/// Tor's state of the same layer; its seed ends with a binding that no cell depends on.
pub(super) fn tor<T: CryptInit>(hop: u8) -> Result<T, Failure> {
    let mut bytes = seed(hop).to_vec();
    bytes.resize(T::seed_len(), 0);
    Ok(T::initialize(&bytes)?)
}

fn tor_client() -> Result<OutboundClientCrypt, Failure> {
    let mut client = OutboundClientCrypt::new();
    for hop in 0..HOPS {
        client.add_layer_from_pair(tor::<TorClient>(hop)?);
    }
    Ok(client)
}

fn client<const N: usize>() -> Vec<ClientLayer<N>> {
    (0..HOPS).map(|hop| ClientLayer::new(&seed(hop))).collect()
}

fn originate<const N: usize>(layers: &mut [ClientLayer<N>], body: &mut [u8; N]) {
    if let Some((last, before)) = layers.split_last_mut() {
        last.originate(RELAY, body);
        before.iter_mut().rev().for_each(|layer| layer.outward(RELAY, body));
    }
}

/// A Sphinx packet for three hops, as bytes, and the secret of the first.
fn sphinx() -> Result<(Vec<u8>, StaticSecret), Failure> {
    let secrets: Vec<StaticSecret> = (1..=HOPS).map(|hop| StaticSecret::from([hop; 32])).collect();
    let node = |(hop, secret)| {
        let address = NodeAddressBytes::from_bytes([hop; NODE_ADDRESS_LENGTH]);
        Node::new(address, PublicKey::from(secret))
    };
    let route: Vec<Node> = (1..).zip(&secrets).map(node).collect();
    let destination = Destination::new(
        DestinationAddressBytes::from_bytes([9; DESTINATION_ADDRESS_LENGTH]),
        [9; IDENTIFIER_LENGTH],
    );
    let delays = vec![Delay::new_from_nanos(0); route.len()];
    let packet = SphinxPacketBuilder::new().with_payload_size(SPHINX_BYTES).build_packet(
        [7; SPHINX_BYTES / 2],
        &route,
        &destination,
        &delays,
    )?;
    let first = secrets.into_iter().next().ok_or("a circuit has hops")?;
    Ok((packet.to_bytes(), first))
}

/// Packets per second that a hop unwraps.
fn sphinx_rate(packet: &[u8], secret: &StaticSecret) -> Result<f64, Failure> {
    let (done, seconds) = cpu_seconds(|| -> Result<(), sphinx_packet::Error> {
        for _ in 0..PACKETS {
            black_box(SphinxPacket::from_bytes(black_box(packet))?.process(secret)?);
        }
        Ok(())
    });
    done?;
    Ok(count(PACKETS) / seconds)
}

/// Cells per second of one side.
fn rate(mut cell: impl FnMut()) -> f64 {
    count(CELLS) / cpu_seconds(|| (0..CELLS).for_each(|_| cell())).1
}

pub(super) fn compare(rounds: usize) -> Result<Vec<Row>, Failure> {
    let mut relay = RelayLayer::<BODY>::new(&seed(0));
    let mut same = RelayLayer::<TOR_BODY>::new(&seed(0));
    let (mut tor_outward, mut tor_inward, _) = tor::<TorRelay>(0)?.split_relay_layer();
    let (mut layers, mut tor_layers) = (client::<BODY>(), tor_client()?);
    let (mut body, mut small) = ([7; BODY], [7; TOR_BODY]);
    let mut tor_body = RelayCellBody::from(Box::new([7; TOR_BODY]));

    let (packet, secret) = sphinx()?;

    let (mut outward, mut inward, mut equal) = (Paired::default(), Paired::default(), Paired::default());
    let (mut origin, mut mixed) = (Paired::default(), Paired::default());
    let mut failed = None;
    for _ in 0..rounds {
        let ours = rate(|| {
            black_box(relay.outward(RELAY, black_box(&mut body)));
        });
        let theirs = rate(|| {
            black_box(tor_outward.decrypt_outbound(BENCH_CHAN_CMD, black_box(&mut tor_body)));
        });
        let ours_small = rate(|| {
            black_box(same.outward(RELAY, black_box(&mut small)));
        });
        outward.push(ours, theirs);
        mixed.push(ours, sphinx_rate(&packet, &secret)?);
        equal.push(ours_small, theirs);
        let ours = rate(|| relay.inward(RELAY, black_box(&mut body)));
        inward.push(ours, rate(|| tor_inward.encrypt_inbound(BENCH_CHAN_CMD, black_box(&mut tor_body))));
        let ours = rate(|| originate(&mut layers, black_box(&mut body)));
        let theirs = rate(|| {
            let made = tor_layers.encrypt(BENCH_CHAN_CMD, black_box(&mut tor_body), (HOPS - 1).into());
            failed = failed.take().or(made.err());
        });
        origin.push(ours, theirs);
    }
    if let Some(error) = failed {
        return Err(error.into());
    }
    let cells = |pair: &Paired, name: &str| pair.row(name, "cells/s", Better::Higher, TOR);
    let bytes = |pair: &Paired, name: &str| {
        let scale = |rates: &[f64], body| rates.iter().map(|rate| rate * count(body) / MEGABYTE).collect();
        let pair = Paired { ours: scale(&pair.ours, BODY), anchor: scale(&pair.anchor, TOR_BODY) };
        pair.row(name, "MB/s", Better::Higher, TOR)
    };
    Ok(vec![
        cells(&outward, "relay, outward, 1018-byte bodies").target(Of::Ours, 1.2e6),
        cells(&inward, "relay, inward, 1018-byte bodies").target(Of::Ours, 1.2e6),
        bytes(&outward, "relay, outward, bytes"),
        bytes(&inward, "relay, inward, bytes"),
        cells(&equal, "relay, outward, 509-byte bodies on both sides"),
        cells(&origin, "client originates over 3 hops, 1018-byte bodies"),
        bytes(&origin, "client originates over 3 hops, bytes"),
        mixed.row("relay, outward, beside Sphinx", "cells/s", Better::Higher, SPHINX),
    ])
}
