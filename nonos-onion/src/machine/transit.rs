//! Acknowledgements of batches, as a relay, as the hop behind one, and as the client before the first.

use nonos_identity::Digest;

use super::queue::Side;
use super::{Circuit, Machine, Output};
use crate::cell::{self, Assembler, BODY_BYTES, Body, CellError, Command, DestroyReason};
use crate::circuit::LocalCircuitId;
use crate::message::{Kind, Message};
use crate::transit::{BATCH_CELLS, Commitment, Hints, Opening, TransitKey, hint};

/// What a hop of somebody else's circuit knows of its transit.
#[derive(Debug)]
pub(super) struct Transit {
    key: TransitKey,
    message: Assembler,
    /// Batches that the hop before is owed acknowledgements of; `None` until the client says so.
    owed: Option<u16>,
    released: u16,
    /// What the next hop's acknowledgements hash to.
    hints: Vec<Digest>,
    proven: u16,
    /// RELAY cells on the link to the next hop, both directions.
    pub(super) onward_cells: u64,
}

impl Transit {
    pub(super) fn new(key: TransitKey) -> Self {
        let message = Assembler::default();
        Self { key, message, owed: None, released: 0, hints: Vec::new(), proven: 0, onward_cells: 0 }
    }

    /// Whether the hop before is owed acknowledgements.
    pub(super) fn is_owed(&self) -> bool {
        self.owed.is_some_and(|owed| self.released < owed)
    }

    /// The acknowledgement of the next batch, if so many cells make it due.
    fn release(&mut self, cells: u64) -> Option<Digest> {
        let due = self.released < self.owed? && cells >= BATCH_CELLS * (u64::from(self.released) + 1);
        due.then(|| {
            self.released += 1;
            self.key.ack(self.released - 1)
        })
    }

    /// Takes the next hop's acknowledgement of the next batch. Nothing of a relay that keeps no hints.
    fn acknowledged(&mut self, ack: Digest) -> Result<Option<Opening>, DestroyReason> {
        if self.hints.is_empty() {
            return Ok(None);
        }
        let expected = self.hints.get(usize::from(self.proven)).ok_or(DestroyReason::Protocol)?;
        // Nobody is to be made a witness of cells that it has not seen.
        if hint(&ack) != *expected || self.onward_cells < BATCH_CELLS * (u64::from(self.proven) + 1) {
            return Err(DestroyReason::Protocol);
        }
        let own = self.key.own(self.proven);
        self.proven += 1;
        Ok(Some(Opening { own, ack }))
    }
}

/// What a client knows of the transit of its own circuit.
#[derive(Debug, Default)]
pub(super) struct Promised {
    /// Of the hops so far, if anything is to be proven.
    pub(super) keys: Vec<TransitKey>,
    commitments: Vec<Commitment>,
    /// Batches that the first hop has acknowledged.
    acknowledged: u16,
}

impl Machine {
    /// What the relays of a built circuit are promised, from the first on; the destination proves nothing.
    /// For whoever is to judge their [`Share`](crate::transit::Share)s. Empty if
    /// [`Limits::transit_batches`](crate::Limits::transit_batches) is 0.
    #[must_use]
    pub fn commitments(&self, circuit: LocalCircuitId) -> &[Commitment] {
        match self.circuits.get(&circuit) {
            Some(Circuit::Client(client)) => &client.transit.commitments,
            _ => &[],
        }
    }

    /// Tells the hops of a circuit that has just been built what they can prove.
    pub(super) fn promise_transit(&mut self, circuit: LocalCircuitId) {
        let batches = self.config.limits.transit_batches;
        let Some(Circuit::Client(client)) = self.circuits.get_mut(&circuit) else { return };
        if batches == 0 {
            return;
        }
        let (epoch, transit) = (client.epoch, &mut client.transit);
        let next = transit.keys.iter().skip(1).map(|next| next.hints(batches));
        let hints: Vec<Vec<Digest>> = next.chain([Vec::new()]).collect();
        let relays = transit.keys.iter().zip(&hints).filter(|(_, hints)| !hints.is_empty());
        transit.commitments = relays.map(|(key, hints)| key.promise(epoch, hints).commitment()).collect();
        // From the first on: each knows its hints before the next can acknowledge.
        for (hop, hints) in hints.into_iter().enumerate() {
            self.originate_all(circuit, hop, Kind::Transit, &Hints { batches, hints }.to_bytes());
        }
    }

    /// Takes a part of what the client tells this hop.
    pub(super) fn on_transit(&mut self, circuit: LocalCircuitId, message: Message<'_>) {
        let most = self.config.limits.transit_batches_kept;
        let Some(Circuit::Relay(relay)) = self.circuits.get_mut(&circuit) else { return };
        let (epoch, Some(transit)) = (relay.epoch, &mut relay.transit) else { return };
        let complete = match transit.message.push(message.more, message.data, Hints::MAX_BYTES) {
            Ok(complete) if transit.owed.is_none() => complete,
            _ => return self.fail(circuit, DestroyReason::Protocol, None),
        };
        let Some(bytes) = complete else { return };
        let Ok(Hints { batches, hints }) = Hints::read(&bytes) else {
            return self.fail(circuit, DestroyReason::Protocol, None);
        };
        transit.owed = Some(batches);
        if !hints.is_empty() && batches <= most {
            let promise = transit.key.promise(epoch, &hints);
            transit.hints = hints;
            self.outputs.push_back(Output::Promised { circuit, promise });
        }
    }

    /// Acknowledges to the hop before what has passed its link by now.
    pub(super) fn release_acks(&mut self, circuit: LocalCircuitId) {
        while let Some(Circuit::Relay(relay)) = self.circuits.get_mut(&circuit) {
            let (cells, (link, id)) = (relay.cells, relay.prev);
            let Some(ack) = relay.transit.as_mut().and_then(|transit| transit.release(cells)) else { return };
            let mut body = [0; BODY_BYTES];
            cell::write_ack(&mut body, ack.as_bytes());
            self.push(circuit, link, id, Command::Ack, &body);
        }
    }

    pub(super) fn on_ack(
        &mut self,
        circuit: LocalCircuitId,
        side: Side,
        body: &Body,
    ) -> Result<(), CellError> {
        let ack = Digest::from_bytes(*cell::read_ack(body)?);
        match self.circuits.get_mut(&circuit) {
            Some(Circuit::Relay(relay)) if side == Side::Next => {
                let opening = match &mut relay.transit {
                    Some(transit) if relay.passing.is_none() => transit.acknowledged(ack),
                    _ => Err(DestroyReason::Protocol),
                };
                match opening {
                    Ok(Some(opening)) => self.outputs.push_back(Output::Carried { circuit, opening }),
                    Ok(None) => {}
                    Err(reason) => self.fail(circuit, reason, None),
                }
                Ok(())
            }
            Some(Circuit::Client(client)) => {
                let transit = &mut client.transit;
                let expected = match (transit.keys.first(), transit.commitments.first()) {
                    (Some(key), Some(promised)) if transit.acknowledged < promised.batches => {
                        Some(key.ack(transit.acknowledged))
                    }
                    // A circuit of one hop, which has nobody to prove anything to.
                    (Some(key), None) if transit.acknowledged < self.config.limits.transit_batches => {
                        Some(key.ack(transit.acknowledged))
                    }
                    _ => None,
                };
                transit.acknowledged += 1;
                if expected != Some(ack) {
                    self.fail(circuit, DestroyReason::Protocol, Some(0));
                }
                Ok(())
            }
            _ => Err(CellError),
        }
    }
}
