//! Counter Galois Onion: the cryptography of one hop (Tor proposal 359; ePrint 2025/583).
//!
//! A layer is the wide-block cipher UIV+ over the whole body of a cell, tweaked by the tag of the
//! cell before it, so that a changed, dropped or reordered cell turns itself and every later cell
//! into noise. Relays always run the `encrypt` direction, the client always `decrypt`: only
//! `encrypt` is non-malleable, the roles must never be swapped.
//!
//! The body length is a parameter: 509 bytes are Tor's cells and run Tor's published vectors, 1018
//! bytes are ours. The generator's counter reservation follows from it. Beyond the proposal, every
//! layer of either direction moves to new keys each [`RATCHET_CELLS`] cells, so that a hop that
//! only forwards has forward secrecy too.

use core::fmt;

use aes::cipher::StreamCipherSeekCore as _;
use aes::cipher::{BlockCipherDecrypt, BlockCipherEncrypt, InnerIvInit as _, KeyInit, StreamCipherCore as _};
use aes::{Aes128Dec, Aes128Enc};
use ctr::CtrCore;
use ctr::flavors::Ctr128BE;
use polyval::Polyval;
use polyval::universal_hash::UniversalHash as _;
use zeroize::Zeroizing;

/// Length of a tag, in bytes.
pub const TAG_BYTES: usize = 16;

/// Key material of one layer, both directions, in bytes.
pub const LAYER_SEED_BYTES: usize = 2 * DIRECTION_SEED_BYTES;

/// Cells after which a layer moves to new keys, per direction.
pub const RATCHET_CELLS: u32 = 4096;

/// Two AES-128 keys and two POLYVAL keys.
const KEYS_BYTES: usize = 64;
const DIRECTION_SEED_BYTES: usize = KEYS_BYTES + TAG_BYTES;
const BLOCK_BYTES: usize = 16;
/// What `polyval` takes at a time: a block that comes alone is reduced alone.
const HASH_BYTES: usize = 4 * BLOCK_BYTES;

/// The first sixteen bytes of a cell's body: its authenticator and the tweak of the next cell.
pub type Tag = [u8; TAG_BYTES];

/// Blocks of key stream for a body: the counter values that `PRF(_, 0)` uses.
const fn stream_blocks(body_bytes: usize) -> usize {
    (body_bytes - TAG_BYTES).div_ceil(BLOCK_BYTES)
}

/// Low bits of the counter that start at zero: enough for the stream of a cell and, after it, of
/// a key update. Six for Tor's 509 bytes, seven for 1018.
const fn counter_bits(body_bytes: usize) -> u32 {
    let blocks = stream_blocks(body_bytes) + DIRECTION_SEED_BYTES.div_ceil(BLOCK_BYTES);
    blocks.next_power_of_two().trailing_zeros()
}

/// UIV+ with its keys `((K_B, K_U), (K, B))`; `E` is the AES direction of the tweakable cipher.
struct Uiv<E, const BODY: usize> {
    block: E,
    block_hash: Polyval,
    stream: Aes128Enc,
    stream_hash: Polyval,
}

impl<E: KeyInit<KeySize = polyval::universal_hash::consts::U16>, const BODY: usize> Uiv<E, BODY> {
    fn new(keys: &[u8; KEYS_BYTES]) -> Self {
        let (block, rest) = split(keys);
        let (block_hash, rest) = split(rest);
        let (stream, rest) = split(rest);
        let (stream_hash, _) = split(rest);
        Self {
            block: E::new(block.into()),
            block_hash: Polyval::new(block_hash.into()),
            stream: Aes128Enc::new(stream.into()),
            stream_hash: Polyval::new(stream_hash.into()),
        }
    }

    /// `UPDATE_UIV`: new keys and a new nonce from the old ones.
    fn update(&mut self, nonce: &mut Tag) {
        let mut seed = Zeroizing::new([0; DIRECTION_SEED_BYTES]);
        self.apply_stream(nonce, stream_blocks(BODY), &mut *seed);
        if let Some((keys, next)) = seed.split_first_chunk::<KEYS_BYTES>() {
            *self = Self::new(keys);
            nonce.copy_from_slice(next);
        }
    }
}

impl<E, const BODY: usize> Uiv<E, BODY> {
    /// `UH(K_U, previous tag || command || payload)`.
    fn tweak(&self, previous: &Tag, command: u8, payload: &[u8]) -> Tag {
        let mut hash = self.block_hash.clone();
        // The command byte shifts the payload against the blocks of the hash.
        let (begin, rest) = payload.split_at_checked(HASH_BYTES - TAG_BYTES - 1).unwrap_or((payload, &[]));
        let mut head = [0; HASH_BYTES];
        put(&mut head, &[previous, &[command], begin]);
        hash.update_padded(&head);
        let (whole, last) = rest.split_at(rest.len() - rest.len() % HASH_BYTES);
        hash.update_padded(whole);
        let mut tail = [0; HASH_BYTES];
        put(&mut tail, &[last]);
        hash.update_padded(tail.get(..last.len().next_multiple_of(BLOCK_BYTES)).unwrap_or(&tail));
        hash.finalize().into()
    }

    /// XORs `PRF(tweak)` onto `bytes`, `skip` blocks into the stream.
    fn apply_stream(&self, tweak: &Tag, skip: usize, bytes: &mut [u8]) {
        let mut hash = self.stream_hash.clone();
        hash.update(&[(*tweak).into()]);
        let counter = u128::from_be_bytes(hash.finalize().into());
        let counter = (counter >> counter_bits(BODY)) << counter_bits(BODY);
        let mut core: CtrCore<&Aes128Enc, Ctr128BE> =
            CtrCore::inner_iv_init(&self.stream, &counter.to_be_bytes().into());
        core.set_block_pos(skip as u128);
        core.apply_keystream_partial(bytes.into());
    }

    fn split(body: &mut [u8; BODY]) -> (&mut Tag, &mut [u8]) {
        const { assert!(BODY >= TAG_BYTES + HASH_BYTES, "a payload fills what the hash takes at a time") };
        body.split_first_chunk_mut().expect("asserted above")
    }
}

impl<const BODY: usize> Uiv<Aes128Enc, BODY> {
    fn encrypt(&self, previous: &Tag, command: u8, body: &mut [u8; BODY]) {
        let (tag, payload) = Self::split(body);
        let mask = self.tweak(previous, command, payload);
        xor(tag, &mask);
        self.block.encrypt_block(tag.into());
        xor(tag, &mask);
        self.apply_stream(tag, 0, payload);
    }
}

impl<const BODY: usize> Uiv<Aes128Dec, BODY> {
    fn decrypt(&self, previous: &Tag, command: u8, body: &mut [u8; BODY]) {
        let (tag, payload) = Self::split(body);
        self.apply_stream(tag, 0, payload);
        let mask = self.tweak(previous, command, payload);
        xor(tag, &mask);
        self.block.decrypt_block(tag.into());
        xor(tag, &mask);
    }
}

/// One direction of one layer at one end.
struct Direction<E, const BODY: usize> {
    uiv: Uiv<E, BODY>,
    /// What the tag of the next cell for this hop decrypts to.
    nonce: Zeroizing<Tag>,
    /// Tag of the last cell.
    tag: Zeroizing<Tag>,
    /// Cells until the next ratchet; none in a comparison with Tor, which has no ratchet.
    until_ratchet: Option<u32>,
}

impl<E: KeyInit<KeySize = polyval::universal_hash::consts::U16>, const BODY: usize> Direction<E, BODY> {
    fn new(seed: &[u8; DIRECTION_SEED_BYTES]) -> Self {
        let (keys, nonce) = seed.split_first_chunk::<KEYS_BYTES>().expect("keys precede the nonce");
        let mut start = Zeroizing::new([0; TAG_BYTES]);
        start.copy_from_slice(nonce);
        Self {
            uiv: Uiv::new(keys),
            nonce: start,
            tag: Zeroizing::new([0; TAG_BYTES]),
            until_ratchet: Some(RATCHET_CELLS),
        }
    }

    /// Counts a cell, after everything else that it caused.
    fn count(&mut self) {
        let Some(left) = &mut self.until_ratchet else { return };
        *left -= 1;
        if *left == 0 {
            *left = RATCHET_CELLS;
            self.uiv.update(&mut self.nonce);
        }
    }

    fn is_nonce(&self, tag: &Tag) -> bool {
        u128::from_ne_bytes(*tag) ^ u128::from_ne_bytes(*self.nonce) == 0
    }
}

/// A relay's layer of a circuit.
pub struct RelayLayer<const BODY: usize> {
    outward: Direction<Aes128Enc, BODY>,
    inward: Direction<Aes128Enc, BODY>,
}

impl<const BODY: usize> RelayLayer<BODY> {
    /// A layer from the key material both ends derived.
    #[must_use]
    pub fn new(seed: &[u8; LAYER_SEED_BYTES]) -> Self {
        let (outward, inward) = directions(seed);
        Self { outward: Direction::new(outward), inward: Direction::new(inward) }
    }

    /// The same layer without the ratchet, which is Tor's: for comparisons with it.
    #[cfg(any(test, feature = "testing"))]
    #[must_use]
    pub const fn without_ratchet(mut self) -> Self {
        self.outward.until_ratchet = None;
        self.inward.until_ratchet = None;
        self
    }

    /// Takes a cell from the client: removes the layer. Yields the tag to acknowledge if the cell
    /// is for this hop; otherwise the body is for the next one.
    pub fn outward(&mut self, command: u8, body: &mut [u8; BODY]) -> Option<Tag> {
        let received = tag_of(body);
        let way = &mut self.outward;
        way.uiv.encrypt(&way.tag, command, body);
        *way.tag = tag_of(body);
        let ours = way.is_nonce(&way.tag);
        if ours {
            way.uiv.update(&mut way.nonce);
        }
        way.count();
        ours.then_some(received)
    }

    /// Takes a cell towards the client from the next hop: adds the layer.
    pub fn inward(&mut self, command: u8, body: &mut [u8; BODY]) {
        let way = &mut self.inward;
        way.uiv.encrypt(&way.tag, command, body);
        *way.tag = tag_of(body);
        way.count();
    }

    /// Makes a cell of this hop's own for the client; the first [`TAG_BYTES`] are overwritten.
    /// Yields the tag that the client will acknowledge.
    pub fn originate(&mut self, command: u8, body: &mut [u8; BODY]) -> Tag {
        let way = &mut self.inward;
        set_tag(body, &way.nonce);
        way.uiv.encrypt(&way.tag, command, body);
        let tag = tag_of(body);
        *way.tag = tag;
        *way.nonce = tag;
        way.uiv.update(&mut way.nonce);
        way.count();
        tag
    }
}

/// The client's layer for one hop.
pub struct ClientLayer<const BODY: usize> {
    outward: Direction<Aes128Dec, BODY>,
    inward: Direction<Aes128Dec, BODY>,
}

impl<const BODY: usize> ClientLayer<BODY> {
    /// A layer from the key material both ends derived.
    #[must_use]
    pub fn new(seed: &[u8; LAYER_SEED_BYTES]) -> Self {
        let (outward, inward) = directions(seed);
        Self { outward: Direction::new(outward), inward: Direction::new(inward) }
    }

    /// The same layer without the ratchet, which is Tor's: for comparisons with it.
    #[cfg(any(test, feature = "testing"))]
    #[must_use]
    pub const fn without_ratchet(mut self) -> Self {
        self.outward.until_ratchet = None;
        self.inward.until_ratchet = None;
        self
    }

    /// Makes a cell for this hop; the first [`TAG_BYTES`] are overwritten. The layers of the hops
    /// before it follow by [`Self::outward`]. Yields the tag that the hop will acknowledge.
    pub fn originate(&mut self, command: u8, body: &mut [u8; BODY]) -> Tag {
        set_tag(body, &self.outward.nonce);
        self.outward.uiv.decrypt(&self.outward.tag, command, body);
        let tag = tag_of(body);
        // The tweak of the next cell is this cell's tag on the relay's side of the cipher.
        *self.outward.tag = *self.outward.nonce;
        self.outward.uiv.update(&mut self.outward.nonce);
        self.outward.count();
        tag
    }

    /// Adds this hop's layer to a cell for a hop behind it.
    pub fn outward(&mut self, command: u8, body: &mut [u8; BODY]) {
        let way = &mut self.outward;
        let tag = tag_of(body);
        way.uiv.decrypt(&way.tag, command, body);
        *way.tag = tag;
        way.count();
    }

    /// Removes this hop's layer from a received cell. Yields the tag to acknowledge if the hop
    /// made the cell.
    pub fn inward(&mut self, command: u8, body: &mut [u8; BODY]) -> Option<Tag> {
        let way = &mut self.inward;
        let received = tag_of(body);
        way.uiv.decrypt(&way.tag, command, body);
        *way.tag = received;
        let theirs = way.is_nonce(&tag_of(body));
        if theirs {
            *way.nonce = received;
            way.uiv.update(&mut way.nonce);
        }
        way.count();
        theirs.then_some(received)
    }
}

impl<const BODY: usize> fmt::Debug for RelayLayer<BODY> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RelayLayer(..)")
    }
}

impl<const BODY: usize> fmt::Debug for ClientLayer<BODY> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientLayer(..)")
    }
}

fn directions(seed: &[u8; LAYER_SEED_BYTES]) -> (&[u8; DIRECTION_SEED_BYTES], &[u8; DIRECTION_SEED_BYTES]) {
    let (outward, rest) = seed.split_first_chunk().expect("two directions");
    (outward, rest.first_chunk().expect("two directions"))
}

/// The first block of key material that holds at least one, and the rest.
fn split(bytes: &[u8]) -> (&[u8; BLOCK_BYTES], &[u8]) {
    bytes.split_first_chunk().expect("key material is four blocks")
}

fn tag_of<const BODY: usize>(body: &[u8; BODY]) -> Tag {
    *body.first_chunk().expect("a body is longer than a tag")
}

fn set_tag<const BODY: usize>(body: &mut [u8; BODY], tag: &Tag) {
    *body.first_chunk_mut().expect("a body is longer than a tag") = *tag;
}

/// Writes `parts` one after the other, as far as there is room.
fn put(mut to: &mut [u8], parts: &[&[u8]]) {
    for part in parts {
        let Some((at, rest)) = to.split_at_mut_checked(part.len()) else { return };
        at.copy_from_slice(part);
        to = rest;
    }
}

fn xor(to: &mut Tag, mask: &Tag) {
    *to = (u128::from_ne_bytes(*to) ^ u128::from_ne_bytes(*mask)).to_ne_bytes();
}

#[cfg(test)]
mod tests;
