//! The messages that build circuits: six records of one size, one of them for each hop.
//!
//! ```text
//! CREATE  = suite u8 | epoch u64 | slot u8 | nonce u64 | key[32] | 6 records        50 + 7872 bytes
//! CREATED = 6 records                                         7872 bytes
//! request = message 1 of the handshake                        1312 bytes
//!   routing = flags u8 | relay[32] | slot u8 | key[32] | nonce u64 | 6 zeros
//! reply   = message 2 of the handshake | 176 zeros            1312 bytes
//! keystream(key, direction, slot) = ChaCha20 from block 0, nonce = slot u8 | direction u8 | 6 zeros
//! ```
//! As the tunnel build messages of I2P (their proposal 157): a hop opens the record of its slot,
//! writes its reply there, adds the outward keystream of `key` to *all* records, and sends the
//! message to the relay of its routing under the slot of its routing; the last one sends CREATED
//! back, and every hop that passes it on adds the backward keystream. The client adds the outward
//! keystreams of the hops before when it makes a request, so that it lies bare when its hop gets
//! it. A record that no hop opens is keystream of a key that only the client has.
//!
//! So a hop sees its own request, that of the next hop once it has added its keystream, and
//! otherwise bytes that look random: neither the size nor the slots, a random permutation, tell
//! how long the path is or where it stands. The own keystream covers its reply too, because an
//! X25519 key is no random string and would show the next hop where a reply lies.
//!
//! The key of a CREATE is the ephemeral key of its slot's request once more, so that the first cell is enough to
//! check a puzzle by: the nonce, which the hop before has from its routing, solves it, or is zero.
//!
//! Every bit of every record is checked by somebody: requests by their hop, replies and their
//! zeros and the records that no hop opens by the client.

use chacha20::ChaCha20Rng;
use chacha20::rand_core::{Rng as _, SeedableRng as _};
use nonos_identity::{Epoch, NetworkId, NodeId};
use zeroize::Zeroizing;

use crate::cell::FRAGMENT_BYTES;
use crate::handshake::{
    Context, HandshakeError, Initiator, LayerSeed, REPLY_BYTES, REQUEST_BYTES, Responder, Suite, ephemeral,
};
use crate::message::DATA_BYTES;
use crate::puzzle::{NONCE_BYTES, Nonce, Puzzle, read_nonce, write_nonce};

mod draft;

pub(crate) use crate::records::draft::Draft;

/// Records of a message, which bounds the hops of a circuit: five relays and the destination.
pub(crate) const RECORDS: usize = 6;
/// Length of a record, in bytes. EXTEND, the longest of the messages, fits eight cells.
pub(crate) const RECORD_BYTES: usize = REQUEST_BYTES;
/// Length of what a request tells its hop, in bytes.
pub(crate) const ROUTING_BYTES: usize = 80;
/// Length of a CREATE message before its records, in bytes.
const HEAD_BYTES: usize = 10 + NONCE_BYTES + 32;
/// Length of a CREATE message, in bytes.
pub(crate) const CREATE_BYTES: usize = HEAD_BYTES + CREATED_BYTES;
/// Length of a CREATED message, in bytes.
pub(crate) const CREATED_BYTES: usize = RECORDS * RECORD_BYTES;

const _: () = assert!(RECORD_BYTES == 1312 && REPLY_BYTES <= RECORD_BYTES);
/// Cells of a whole build that a hop carries on one side: a CREATE message and a CREATED one.
pub(crate) const BUILD_CELLS: u64 =
    (CREATE_BYTES.div_ceil(FRAGMENT_BYTES) + CREATED_BYTES.div_ceil(FRAGMENT_BYTES)) as u64;

const _: () = assert!(32 + CREATE_BYTES <= 8 * DATA_BYTES);

type Record = [u8; RECORD_BYTES];

/// Records that no implementation of the protocol makes. The fault of whoever made them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed records")]
pub(crate) struct RecordError;

/// The place of a record in its message, below [`RECORDS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot(u8);

impl Slot {
    pub(crate) fn new(number: u8) -> Option<Self> {
        (usize::from(number) < RECORDS).then_some(Self(number))
    }

    pub(crate) const fn number(self) -> u8 {
        self.0
    }

    fn all() -> [Self; RECORDS] {
        #[expect(clippy::cast_possible_truncation, reason = "there are few records")]
        core::array::from_fn(|number| Self(number as u8))
    }

    /// All slots in a random order.
    fn shuffled(rng: &mut ChaCha20Rng) -> [Self; RECORDS] {
        let mut slots = Self::all();
        // Fisher and Yates. 64 bits against a range of six: the bias is below 2^-61.
        for (last, range) in (2_u64..).take(RECORDS - 1).enumerate() {
            #[expect(clippy::cast_possible_truncation, reason = "the range is small")]
            slots.swap(last + 1, (rng.next_u64() % range) as usize);
        }
        slots
    }
}

/// What a keystream covers; a pair of direction and slot is used once per key.
#[derive(Clone, Copy, Debug)]
enum Direction {
    /// Away from the client.
    Outward = 0,
    /// Towards it.
    Back = 1,
    /// Nothing: it is the record.
    Filler = 2,
}

/// The key of the keystreams that a hop adds to records.
#[derive(Clone)]
pub(crate) struct RecordKey(Zeroizing<[u8; 32]>);

impl RecordKey {
    fn draw(rng: &mut ChaCha20Rng) -> Self {
        let mut key = Zeroizing::new([0; 32]);
        rng.fill_bytes(&mut *key);
        Self(key)
    }

    /// Adds the keystream of a direction and slot to a record, or removes it.
    fn apply(&self, direction: Direction, slot: Slot, record: &mut Record) {
        let mut rng = ChaCha20Rng::from_seed(*self.0);
        rng.set_stream(u64::from_le_bytes([slot.0, direction as u8, 0, 0, 0, 0, 0, 0]));
        let mut keystream = Zeroizing::new([0; RECORD_BYTES]);
        rng.fill_bytes(&mut *keystream);
        record.iter_mut().zip(keystream.iter()).for_each(|(byte, with)| *byte ^= with);
    }
}

impl core::fmt::Debug for RecordKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("RecordKey(..)")
    }
}

/// The records of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Records(Box<[Record; RECORDS]>);

impl Records {
    /// Reads a CREATED message, or the end of a CREATE message.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, RecordError> {
        let (records, []) = bytes.as_chunks() else { return Err(RecordError) };
        Ok(Self(Box::new(records.try_into().map_err(|_| RecordError)?)))
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.0.as_flattened()
    }

    #[expect(clippy::indexing_slicing, reason = "a slot is below the number of records")]
    fn at(&self, slot: Slot) -> &Record {
        &self.0[usize::from(slot.0)]
    }

    #[expect(clippy::indexing_slicing, reason = "a slot is below the number of records")]
    fn at_mut(&mut self, slot: Slot) -> &mut Record {
        &mut self.0[usize::from(slot.0)]
    }

    fn apply(&mut self, key: &RecordKey, direction: Direction) {
        for (slot, record) in Slot::all().into_iter().zip(self.0.iter_mut()) {
            key.apply(direction, slot, record);
        }
    }

    /// Adds the keystream of a hop that passes a CREATED message towards the client.
    pub(crate) fn pass_back(&mut self, key: &RecordKey) {
        self.apply(key, Direction::Back);
    }
}

/// Where a message goes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Onward {
    pub(crate) relay: NodeId,
    /// The slot that it opens.
    pub(crate) slot: Slot,
    /// What solves its puzzle.
    pub(crate) nonce: Nonce,
}

/// What a request tells its hop, and nobody else.
#[derive(Clone, Debug)]
pub(crate) struct Routing {
    /// `None` for the last hop.
    pub(crate) onward: Option<Onward>,
    /// The key of the keystreams that this hop adds.
    pub(crate) key: RecordKey,
}

impl Routing {
    /// Flag of the last hop.
    const LAST: u8 = 1;

    pub(crate) fn to_bytes(&self) -> Zeroizing<[u8; ROUTING_BYTES]> {
        let (flags, relay, slot, nonce) = match &self.onward {
            Some(Onward { relay, slot, nonce }) => (0, *relay.as_bytes(), slot.0, *nonce),
            None => (Self::LAST, [0; 32], 0, None),
        };
        let mut bytes = Zeroizing::new([0; ROUTING_BYTES]);
        let nonce = write_nonce(nonce);
        let fields = [&[flags][..], &relay, &[slot], &*self.key.0, &nonce];
        bytes.iter_mut().zip(fields.into_iter().flatten()).for_each(|(to, from)| *to = *from);
        bytes
    }

    /// Reads the routing of a hop. What a flag makes meaningless is zero, as is the padding.
    pub(crate) fn read(bytes: &[u8; ROUTING_BYTES]) -> Result<Self, RecordError> {
        let (&[flags], rest) = bytes.split_first_chunk().ok_or(RecordError)?;
        let (relay, rest) = rest.split_first_chunk::<32>().ok_or(RecordError)?;
        let (&[slot], rest) = rest.split_first_chunk().ok_or(RecordError)?;
        let (key, rest) = rest.split_first_chunk().ok_or(RecordError)?;
        let (nonce, padding) = rest.split_first_chunk().ok_or(RecordError)?;
        let nonce = read_nonce(*nonce);
        let onward = match flags {
            0 => {
                let (relay, slot) = (NodeId::from_bytes(*relay), Slot::new(slot).ok_or(RecordError)?);
                Some(Onward { relay, slot, nonce })
            }
            Self::LAST if slot == 0 && *relay == [0; 32] && nonce.is_none() => None,
            _ => return Err(RecordError),
        };
        if padding.iter().any(|&byte| byte != 0) {
            return Err(RecordError);
        }
        Ok(Self { onward, key: RecordKey(Zeroizing::new(*key)) })
    }
}

/// What comes before the records of a CREATE message, all of it in the first cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CreateHead {
    pub(crate) suite: u8,
    pub(crate) epoch: Epoch,
    /// The record of whoever gets the message.
    pub(crate) slot: Slot,
    pub(crate) nonce: Nonce,
    /// The ephemeral key of the request in the slot, as the sender says.
    pub(crate) key: [u8; 32],
}

impl CreateHead {
    /// Reads the head of a message; yields the rest too.
    pub(crate) fn read(bytes: &[u8]) -> Result<(Self, &[u8]), RecordError> {
        let (&[suite], rest) = bytes.split_first_chunk().ok_or(RecordError)?;
        let (epoch, rest) = rest.split_first_chunk().ok_or(RecordError)?;
        let (&[slot], rest) = rest.split_first_chunk().ok_or(RecordError)?;
        let (nonce, rest) = rest.split_first_chunk().ok_or(RecordError)?;
        let (key, rest) = rest.split_first_chunk().ok_or(RecordError)?;
        let epoch = Epoch::from_number(u64::from_be_bytes(*epoch));
        let slot = Slot::new(slot).ok_or(RecordError)?;
        Ok((Self { suite, epoch, slot, nonce: read_nonce(*nonce), key: *key }, rest))
    }

    /// Whether its nonce solves the puzzle of `relay`.
    pub(crate) fn solves(&self, network: &NetworkId, relay: NodeId, bits: u8) -> bool {
        let puzzle = Puzzle::new(network, relay, self.epoch, &self.key);
        self.nonce.is_some_and(|nonce| puzzle.check(nonce, bits).is_ok())
    }
}

/// A CREATE message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Create {
    pub(crate) suite: u8,
    pub(crate) epoch: Epoch,
    /// The record of whoever gets the message.
    pub(crate) slot: Slot,
    /// What solves the puzzle of whoever gets the message.
    pub(crate) nonce: Nonce,
    pub(crate) records: Records,
}

impl Create {
    /// Reads a message; whether its suite and epoch are known is another question.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, RecordError> {
        let (CreateHead { suite, epoch, slot, nonce, key }, records) = CreateHead::read(bytes)?;
        let records = Records::read(records)?;
        if *ephemeral(records.at(slot)) != key {
            return Err(RecordError);
        }
        Ok(Self { suite, epoch, slot, nonce, records })
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let (epoch, nonce) = (self.epoch.number().to_be_bytes(), write_nonce(self.nonce));
        let key = ephemeral(self.request());
        [&[self.suite][..], &epoch, &[self.slot.0], &nonce, key, self.records.as_bytes()].concat()
    }

    /// The request of whoever gets the message.
    pub(crate) fn request(&self) -> &Record {
        self.records.at(self.slot)
    }

    /// Opens the request as `relay`, which has the secret epoch key.
    pub(crate) fn open(
        &self,
        relay: NodeId,
        network: &NetworkId,
        secret: &[u8; 32],
        seed: &[u8; 32],
    ) -> Result<Responder, HandshakeError> {
        let suite = Suite::from_byte(self.suite)?;
        let context = Context { suite, epoch: self.epoch, relay, network, slot: self.slot };
        Responder::read(&context, secret, self.request(), seed)
    }

    /// Puts the reply in the place of the request and adds the hop's keystream to all records.
    pub(crate) fn answer(&mut self, reply: &[u8; REPLY_BYTES], key: &RecordKey) {
        let record = self.records.at_mut(self.slot);
        record.fill(0);
        record.iter_mut().zip(reply).for_each(|(to, from)| *to = *from);
        self.records.apply(key, Direction::Outward);
    }
}

/// A key that no handshake can be made with. The fault of whoever signed the descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("hop {0} of the message has no usable onion key")]
pub(crate) struct OnionKeyError(pub(crate) usize);

/// The client between a CREATE message and its CREATED.
#[derive(Debug)]
pub(crate) struct Pending {
    hops: Vec<PendingHop>,
    filler: RecordKey,
}

#[derive(Debug)]
struct PendingHop {
    slot: Slot,
    key: RecordKey,
    initiator: Initiator,
}

impl Pending {
    /// The message that builds the hops of a path, each with its onion key, in order, and solves no puzzle.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn start(
        network: &NetworkId,
        epoch: Epoch,
        path: &[(NodeId, [u8; 32])],
        seed: &[u8; 32],
    ) -> Result<(Self, Create), OnionKeyError> {
        let mut draft = Draft::new(network, epoch, path, 0, seed);
        draft.work(0)?;
        Ok(draft.finish())
    }

    /// Takes the replies; yields the keys of the hops, in order. All records are looked at before
    /// one of them fails the build: a relay should not learn from the time which one it spoiled.
    pub(crate) fn finish(self, created: &[u8]) -> Result<Vec<LayerSeed>, HandshakeError> {
        let mut records = Records::read(created).map_err(|RecordError| HandshakeError)?;
        let mut unused: Vec<Slot> = Slot::all().to_vec();
        unused.retain(|slot| self.hops.iter().all(|hop| hop.slot != *slot));
        // The last hop makes the CREATED and passes none on.
        for hop in self.hops.iter().rev().skip(1) {
            records.apply(&hop.key, Direction::Back);
        }
        let mut seeds = Vec::with_capacity(self.hops.len());
        let mut changed = 0;
        // From the last hop on, because each one covered the replies of those before it.
        for PendingHop { slot, key, initiator } in self.hops.into_iter().rev() {
            records.apply(&key, Direction::Outward);
            let (reply, padding) = records.at(slot).split_first_chunk().ok_or(HandshakeError)?;
            changed = padding.iter().fold(changed, |all, byte| all | byte);
            seeds.push(initiator.finish(reply));
        }
        records.apply(&self.filler, Direction::Filler);
        for slot in unused {
            changed = records.at(slot).iter().fold(changed, |all, byte| all | byte);
        }
        if changed != 0 {
            return Err(HandshakeError);
        }
        seeds.into_iter().rev().collect()
    }
}

#[cfg(test)]
mod tests;
