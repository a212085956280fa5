use chacha20::ChaCha20Rng;
use chacha20::rand_core::{Rng as _, SeedableRng as _};
use nonos_identity::{Epoch, NetworkId, NodeId};
use zeroize::Zeroizing;

use super::{
    Create, Direction, OnionKeyError, Onward, Pending, PendingHop, RECORD_BYTES, RECORDS, Record, RecordKey,
    Records, Routing, Slot,
};
use crate::handshake::{Context, Initiator, Suite, ephemeral};
use crate::puzzle::{Nonce, Puzzle, Solver};

/// A CREATE message in the making: from the last hop to the first, as each is told what solves the puzzle of
/// the next.
pub(crate) struct Draft {
    network: NetworkId,
    suite: Suite,
    epoch: Epoch,
    /// Bits of each puzzle; 0 for none.
    bits: u8,
    slots: [Slot; RECORDS],
    filler: RecordKey,
    /// Hops without a request, the first one first.
    todo: Vec<Hop>,
    /// Hops with one, the last one first.
    made: Vec<(PendingHop, Record)>,
    solver: Option<Solver>,
    /// Where the hop before the one made last sends the message.
    onward: Option<Onward>,
}

struct Hop {
    relay: NodeId,
    onion_key: [u8; 32],
    slot: Slot,
    key: RecordKey,
    seed: Zeroizing<[u8; 32]>,
}

impl Draft {
    /// A message for the hops of a path, each with its onion key, in order; the first [`RECORDS`] of them if
    /// there are more.
    pub(crate) fn new(
        network: &NetworkId,
        epoch: Epoch,
        path: &[(NodeId, [u8; 32])],
        bits: u8,
        seed: &[u8; 32],
    ) -> Self {
        let mut rng = ChaCha20Rng::from_seed(*seed);
        let slots = Slot::shuffled(&mut rng);
        let filler = RecordKey::draw(&mut rng);
        let hop = |(&(relay, onion_key), slot)| {
            let key = RecordKey::draw(&mut rng);
            let mut seed = Zeroizing::new([0; 32]);
            rng.fill_bytes(&mut *seed);
            Hop { relay, onion_key, slot, key, seed }
        };
        let todo = path.iter().zip(slots).map(hop).collect();
        let (network, suite) = (*network, Suite::default());
        Self {
            network,
            suite,
            epoch,
            bits,
            slots,
            filler,
            todo,
            made: Vec::new(),
            solver: None,
            onward: None,
        }
    }

    pub(crate) fn with_suite(self, suite: Suite) -> Self {
        Self { suite, ..self }
    }

    /// Goes on with the message, for so many hashes of puzzles; yields whether it is complete.
    pub(crate) fn work(&mut self, mut hashes: u32) -> Result<bool, OnionKeyError> {
        loop {
            if let Some(solver) = &mut self.solver {
                let nonce = solver.work(&mut hashes);
                if nonce.is_none() {
                    return Ok(false);
                }
                self.solved(nonce);
            }
            let Some(hop) = self.todo.pop() else { return Ok(true) };
            self.make(hop)?;
        }
    }

    fn make(&mut self, hop: Hop) -> Result<(), OnionKeyError> {
        let Hop { relay, onion_key, slot, key, seed } = hop;
        let routing = Routing { onward: self.onward, key: key.clone() }.to_bytes();
        let context = Context { suite: self.suite, epoch: self.epoch, relay, network: &self.network, slot };
        let (initiator, request) = Initiator::start(&context, &onion_key, &routing, &seed)
            .map_err(|_| OnionKeyError(self.todo.len()))?;
        if self.bits > 0 {
            let puzzle = Puzzle::new(&self.network, relay, self.epoch, ephemeral(&request));
            self.solver = Some(Solver::new(puzzle, self.bits));
        }
        self.onward = Some(Onward { relay, slot, nonce: None });
        self.made.push((PendingHop { slot, key, initiator }, request));
        Ok(())
    }

    fn solved(&mut self, nonce: Nonce) {
        self.solver = None;
        if let Some(onward) = &mut self.onward {
            onward.nonce = nonce;
        }
    }

    /// The message, and what waits for its answer. What is not complete is not in it.
    pub(crate) fn finish(self) -> (Pending, Create) {
        let mut records = Records(Box::new([[0; RECORD_BYTES]; RECORDS]));
        records.apply(&self.filler, Direction::Filler);
        let mut hops: Vec<PendingHop> = Vec::with_capacity(RECORDS);
        for (hop, mut request) in self.made.into_iter().rev() {
            for before in &hops {
                before.key.apply(Direction::Outward, hop.slot, &mut request);
            }
            *records.at_mut(hop.slot) = request;
            hops.push(hop);
        }
        let ([slot, ..], nonce) = (self.slots, self.onward.and_then(|first| first.nonce));
        (
            Pending { hops, filler: self.filler },
            Create { suite: self.suite as u8, epoch: self.epoch, slot, nonce, records },
        )
    }
}

impl core::fmt::Debug for Draft {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Draft(..)")
    }
}
