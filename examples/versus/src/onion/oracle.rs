//! Our Counter Galois Onion held against tor-proto's: the same keys and bodies make the same cells,
//! byte for byte, at the client and at every relay, in both directions.
//!
//! Cells are of Tor's length, 509 bytes; the cipher is generic over it. Both sides update keys by
//! Tor's rule, at the hop that makes or recognises a cell. Our ratchet each 4096 cells, which Tor
//! has not, is off for the long runs; [`ratchet`] shows that nothing else differs before the first.

use nonos_onion::cgo::{ClientLayer, RATCHET_CELLS, RelayLayer, TAG_BYTES};
use tor_proto::bench_utils::{
    BENCH_CHAN_CMD, InboundClientCrypt, InboundRelayLayer as _, OutboundClientCrypt, OutboundRelayLayer as _,
    RelayCellBody, RelayLayer as _, cgo,
};

use aes::Aes128Enc;

use super::cells::{HOPS, RELAY, TOR_BODY, TorClient, TorRelay, seed, tor};
use crate::Failure;
use crate::report::{Better, Of, Row, count};

/// Cells of one chain.
const CELLS: usize = 10_000;
/// Cells that follow a changed one, all of which must be lost.
const AFTERMATH: usize = 100;
/// Changed bits for each link and direction.
const FLIPS: usize = 40;

type TorOutward = cgo::RelayOutbound<Aes128Enc, Aes128Enc>;
type TorInward = cgo::RelayInbound<Aes128Enc, Aes128Enc>;

/// Compares; an error names the first cell that differs.
pub(super) fn compare() -> Result<Vec<Row>, Failure> {
    let all = count(CELLS);
    let (outward, inward) = (chain(Circuit::outward)?, chain(Circuit::inward)?);
    let (lost_outward, lost_inward) = (flips(Circuit::outward, HOPS)?, flips(Circuit::inward, HOPS - 1)?);
    let before = ratchet()?;
    let row = |name: &str, found: usize, target: f64| {
        Row::alone(name, "cells", Better::Higher, &[count(found)]).target(Of::Ours, target)
    };
    let flipped = count(FLIPS * usize::from(HOPS));
    Ok(vec![
        row("outward: cells of one chain equal to tor-proto's at every place", outward, all),
        row("inward: cells of one chain equal to tor-proto's at every place", inward, all),
        row("outward: flipped bits that destroy their cell and the 100 after it", lost_outward, flipped),
        row("inward: flipped bits that destroy their cell and the 100 after it", lost_inward, flipped),
        row("cells equal with our ratchet on, before it first differs", before, RATCHET_CELLS.into()),
    ])
}

/// SplitMix64: bodies, hops and places that differ and are the same in every run.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).unwrap_or(0)
    }

    fn body(&mut self) -> [u8; TOR_BODY] {
        let mut body = [0; TOR_BODY];
        body.chunks_mut(8)
            .for_each(|to| to.iter_mut().zip(self.next().to_le_bytes()).for_each(|(to, from)| *to = from));
        body
    }
}

/// A bit that changes on a link; the client's own link is 0.
#[derive(Clone, Copy)]
struct Flip {
    link: usize,
    bit: usize,
}

/// One cell in both implementations.
struct Pair {
    ours: [u8; TOR_BODY],
    theirs: RelayCellBody,
}

impl Pair {
    fn new(body: [u8; TOR_BODY]) -> Self {
        Self { ours: body, theirs: RelayCellBody::from(Box::new(body)) }
    }

    fn flip(&mut self, bit: usize) {
        for body in [self.ours.as_mut_slice(), self.theirs.as_mut()] {
            if let Some(byte) = body.get_mut(bit / 8) {
                *byte ^= 1 << (bit % 8);
            }
        }
    }

    /// The bodies agree, and so do the tags to acknowledge.
    fn same(&self, place: &str, ours: Option<&[u8]>, theirs: Option<&[u8]>) -> Result<(), Failure> {
        if self.ours.as_slice() != self.theirs.as_ref() {
            return Err(format!("bodies differ from tor-proto's: {place}").into());
        }
        if ours != theirs {
            return Err(format!("tags differ from tor-proto's: {place}").into());
        }
        Ok(())
    }
}

/// Both ends of a circuit, in both implementations.
struct Circuit {
    client: Vec<ClientLayer<TOR_BODY>>,
    relays: Vec<RelayLayer<TOR_BODY>>,
    tor_outward: OutboundClientCrypt,
    tor_inward: InboundClientCrypt,
    tor_relays: Vec<(TorOutward, TorInward)>,
}

impl Circuit {
    fn new(has_ratchet: bool) -> Result<Self, Failure> {
        let (mut tor_outward, mut tor_inward) = (OutboundClientCrypt::new(), InboundClientCrypt::new());
        let (mut client, mut relays, mut tor_relays) = (Vec::new(), Vec::new(), Vec::new());
        for hop in 0..HOPS {
            let (near, far) = (ClientLayer::new(&seed(hop)), RelayLayer::new(&seed(hop)));
            client.push(if has_ratchet { near } else { near.without_ratchet() });
            relays.push(if has_ratchet { far } else { far.without_ratchet() });
            tor_outward.add_layer_from_pair(tor::<TorClient>(hop)?);
            tor_inward.add_layer_from_pair(tor::<TorClient>(hop)?);
            let (outward, inward, _) = tor::<TorRelay>(hop)?.split_relay_layer();
            tor_relays.push((outward, inward));
        }
        Ok(Self { client, relays, tor_outward, tor_inward, tor_relays })
    }

    /// A cell of the client's for a hop. Yields the hop that recognises it, and its body there or
    /// where it was lost.
    fn outward(
        &mut self,
        hop: u8,
        body: [u8; TOR_BODY],
        flip: Option<Flip>,
    ) -> Result<(Option<usize>, [u8; TOR_BODY]), Failure> {
        let mut cell = Pair::new(body);
        let layers = self.client.get_mut(..=usize::from(hop)).unwrap_or_default();
        let (last, before) = layers.split_last_mut().ok_or("no such hop")?;
        let ours = last.originate(RELAY, &mut cell.ours);
        before.iter_mut().rev().for_each(|layer| layer.outward(RELAY, &mut cell.ours));
        let theirs = self.tor_outward.encrypt(BENCH_CHAN_CMD, &mut cell.theirs, hop.into())?;
        cell.same("client, originated", Some(&ours), Some(theirs.as_ref()))?;
        for (at, (relay, (tor, _))) in self.relays.iter_mut().zip(&mut self.tor_relays).enumerate() {
            if let Some(flip) = flip.filter(|flip| flip.link == at) {
                cell.flip(flip.bit);
            }
            let ours = relay.outward(RELAY, &mut cell.ours);
            let theirs = tor.decrypt_outbound(BENCH_CHAN_CMD, &mut cell.theirs);
            let (ours, theirs) =
                (ours.as_ref().map(<[u8; TAG_BYTES]>::as_slice), theirs.as_ref().map(AsRef::as_ref));
            cell.same(&format!("relay {at}, outward"), ours, theirs)?;
            if ours.is_some() {
                return Ok((Some(at), cell.ours));
            }
        }
        Ok((None, cell.ours))
    }

    /// A cell of a hop's for the client. Yields the hop that the client recognises, and its body.
    fn inward(
        &mut self,
        hop: u8,
        body: [u8; TOR_BODY],
        flip: Option<Flip>,
    ) -> Result<(Option<usize>, [u8; TOR_BODY]), Failure> {
        let mut cell = Pair::new(body);
        let relays = self.relays.iter_mut().zip(&mut self.tor_relays).enumerate();
        for (at, (relay, (_, tor))) in relays.take(usize::from(hop) + 1).rev() {
            let place = format!("relay {at}, inward");
            if at == usize::from(hop) {
                let ours = relay.originate(RELAY, &mut cell.ours);
                let theirs = tor.originate(BENCH_CHAN_CMD, &mut cell.theirs);
                cell.same(&place, Some(&ours), Some(theirs.as_ref()))?;
            } else {
                relay.inward(RELAY, &mut cell.ours);
                tor.encrypt_inbound(BENCH_CHAN_CMD, &mut cell.theirs);
                cell.same(&place, None, None)?;
            }
            if let Some(flip) = flip.filter(|flip| flip.link == at) {
                cell.flip(flip.bit);
            }
        }
        let mut ours = None;
        for (at, layer) in self.client.iter_mut().enumerate() {
            if let Some(tag) = layer.inward(RELAY, &mut cell.ours) {
                ours = Some((at, tag));
                break;
            }
        }
        // A cell that no layer recognises is an error there.
        let theirs = self.tor_inward.decrypt(BENCH_CHAN_CMD, &mut cell.theirs).ok();
        let tag = ours.as_ref().map(|(_, tag)| tag.as_slice());
        cell.same("client, inward", tag, theirs.as_ref().map(|(_, tag)| tag.as_ref()))?;
        let found = ours.map(|(at, _)| at);
        if found != theirs.map(|(hop, _)| usize::from(hop)) {
            return Err("another hop than tor-proto's made the cell".into());
        }
        Ok((found, cell.ours))
    }
}

/// [`Circuit::outward`] or [`Circuit::inward`].
type Way =
    fn(&mut Circuit, u8, [u8; TOR_BODY], Option<Flip>) -> Result<(Option<usize>, [u8; TOR_BODY]), Failure>;

/// One chain of cells to or from hops in no order. Yields their number.
fn chain(way: Way) -> Result<usize, Failure> {
    let (mut circuit, mut noise) = (Circuit::new(false)?, Noise(1));
    for cell in 0..CELLS {
        let (body, hop) = (noise.body(), u8::try_from(noise.below(HOPS.into()))?);
        let (found, read) =
            way(&mut circuit, hop, body, None).map_err(|error| format!("cell {cell}: {error}"))?;
        if found != Some(hop.into()) || read.get(TAG_BYTES..) != body.get(TAG_BYTES..) {
            return Err(format!("cell {cell} did not arrive at hop {hop} as it was sent").into());
        }
    }
    Ok(CELLS)
}

/// Flips a bit of a cell of the last hop's on each link. Yields how many of them lost this cell and
/// all after it; both implementations must make the same noise of them.
///
/// Nothing of the body survives a change on the first `covered` links. The last link of an inward
/// path is not one of them: the only layer that the client removes there is malleable in its
/// payload, not in its tag, so the cell is lost with its payload readable.
fn flips(way: Way, covered: u8) -> Result<usize, Failure> {
    let (mut noise, mut lost) = (Noise(2), 0);
    for link in 0..usize::from(HOPS) {
        for _ in 0..FLIPS {
            let mut circuit = Circuit::new(false)?;
            for _ in 0..noise.below(20) {
                way(&mut circuit, HOPS - 1, noise.body(), None)?;
            }
            let flip = Flip { link, bit: noise.below(8 * TOR_BODY) };
            let body = noise.body();
            let (mut found, read) = way(&mut circuit, HOPS - 1, body, Some(flip))?;
            // By chance one byte in 256 is as it was.
            let kept = read.iter().zip(&body).skip(TAG_BYTES).filter(|(read, sent)| read == sent).count();
            if link < usize::from(covered) && kept > TOR_BODY / 16 {
                return Err(format!("{kept} bytes survive a flipped bit on link {link}").into());
            }
            for _ in 0..AFTERMATH {
                found = found.or(way(&mut circuit, HOPS - 1, noise.body(), None)?.0);
            }
            lost += usize::from(found.is_none());
        }
    }
    Ok(lost)
}

/// Cells of one chain with our ratchet on that equal tor-proto's before one does not.
fn ratchet() -> Result<usize, Failure> {
    let (mut circuit, mut noise) = (Circuit::new(true)?, Noise(3));
    for cell in 0..CELLS {
        let sent = circuit.outward(HOPS - 1, noise.body(), None);
        if sent.is_err() {
            return Ok(cell);
        }
    }
    Err("the ratchet changes nothing".into())
}
