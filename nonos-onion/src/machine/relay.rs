use core::time::Duration;

use nonos_identity::{Epoch, NodeId};
use zeroize::Zeroizing;

use super::padding::{Padding, Passed};
use super::queue::Side;
use super::transit::Transit;
use super::{Circuit, LinkId, Machine, Output, Timer};
use crate::cell::{Assembler, BODY_BYTES, Body, CellError, Command, DestroyReason, Fragment};
use crate::cgo::{RelayLayer, Tag};
use crate::circuit::{Closed, LocalCircuitId, MAX_PAYMENT_BYTES, Payment};
use crate::epoch::Refusal;
use crate::handshake::{LayerSeed, ephemeral};
use crate::message::{Kind, Message};
use crate::mux::Mux;
use crate::records::{
    BUILD_CELLS, CREATE_BYTES, CREATED_BYTES, Create, CreateHead, RecordError, RecordKey, Records, Routing,
};
use crate::transit::TransitKey;

/// Length of an EXTEND message: the next relay's id and its CREATE message, in bytes.
const EXTEND_BYTES: usize = 32 + CREATE_BYTES;

/// Splits an EXTEND message.
fn read_extend(message: &[u8]) -> Option<(NodeId, &[u8])> {
    let (relay, create) = message.split_first_chunk()?;
    (create.len() == CREATE_BYTES).then(|| (NodeId::from_bytes(*relay), create))
}

/// What lies behind this hop.
enum Next {
    /// Nothing: this node is the end of the circuit.
    End,
    /// A link is being opened for a CREATE message.
    Opening(NodeId, Vec<u8>),
    /// The next hop has it.
    Creating(LinkId, u32, Assembler),
    Open(LinkId, u32),
    /// It was lost; the client knows and will close.
    Truncated,
}

/// A circuit of somebody else's that this node is a hop of.
pub(super) struct Relay {
    pub(super) prev: (LinkId, u32),
    /// `None` until the CREATE is complete.
    pub(super) layer: Option<RelayLayer<BODY_BYTES>>,
    next: Next,
    /// Until the CREATED that answers this hop too comes back: the key of its keystream. As long
    /// as it is there the client knows no hop, so that only a DESTROY can reach it.
    pub(super) passing: Option<RecordKey>,
    create: Assembler,
    extend: Assembler,
    pub(super) mux: Mux,
    /// RELAY cells on the link to the hop before, both directions.
    pub(super) cells: u64,
    pub(super) epoch: Epoch,
    /// There once the layer is.
    pub(super) transit: Option<Transit>,
    pub(super) padding: Padding,
    payments: u32,
    hop_deadline: Option<Duration>,
    expiry: Option<Duration>,
}

impl Relay {
    pub(super) fn originate(&mut self, body: &mut Body) -> Option<(Tag, LinkId, u32)> {
        let (link, id) = self.prev;
        self.cells += 1;
        Some((self.layer.as_mut()?.originate(Command::Relay as u8, body), link, id))
    }
}

impl Machine {
    fn relay(&mut self, circuit: LocalCircuitId) -> Option<&mut Relay> {
        match self.circuits.get_mut(&circuit)? {
            Circuit::Relay(relay) => Some(relay),
            Circuit::Client(_) | Circuit::Ended(_) => None,
        }
    }

    pub(super) fn on_create(
        &mut self,
        link: LinkId,
        id: u32,
        route: Option<(LocalCircuitId, Side)>,
        body: &Body,
    ) -> Result<(), CellError> {
        let fragment = Fragment::read(body)?;
        let circuit = match route {
            Some((circuit, Side::Prev)) => {
                let greeting = self.relay(circuit).is_some_and(|relay| relay.layer.is_none());
                if !greeting || fragment.first {
                    return Err(CellError);
                }
                circuit
            }
            Some((_, Side::Next)) => return Err(CellError),
            // The rest of a CREATE that was refused.
            None if !fragment.first => return Ok(()),
            None => match self.admit_circuit(link, id, fragment.data)? {
                Some(circuit) => circuit,
                None => return Ok(()),
            },
        };
        let Some(relay) = self.relay(circuit) else { return Ok(()) };
        if let Some(message) = relay.create.push(fragment.more, fragment.data, CREATE_BYTES)? {
            self.answer_create(circuit, link, id, &message);
        }
        Ok(())
    }

    /// Makes room for a circuit of the peer's, whose CREATE begins with `head`, or refuses it.
    fn admit_circuit(
        &mut self,
        link: LinkId,
        id: u32,
        head: &[u8],
    ) -> Result<Option<LocalCircuitId>, CellError> {
        let Some(entry) = self.links.get(&link) else { return Ok(None) };
        // Nor one whose last circuit still leaves: an honest peer draws them at random.
        if !entry.is_peers(id) || entry.routes.contains(id) {
            return Err(CellError);
        }
        if !self.admits(link, head) {
            self.refuse_create(link, id);
            return Ok(None);
        }
        let (now, timeout) = (self.now, self.config.limits.hop_timeout);
        let mux = Mux::new(&self.config.limits);
        let Some(entry) = self.links.get_mut(&link) else { return Ok(None) };
        let deadline = now + timeout;
        let relay = Relay {
            prev: (link, id),
            layer: None,
            next: Next::End,
            passing: None,
            create: Assembler::default(),
            extend: Assembler::default(),
            mux,
            cells: 0,
            epoch: Epoch::from_number(0),
            transit: None,
            padding: Padding::default(),
            payments: 0,
            hop_deadline: Some(deadline),
            expiry: None,
        };
        entry.created += 1;
        let circuit = LocalCircuitId(self.next_circuit);
        self.next_circuit += 1;
        entry.routes.insert(id, circuit, Side::Prev);
        self.circuits.insert(circuit, Circuit::Relay(Box::new(relay)));
        self.timers.insert((deadline, Timer::Hop(circuit)));
        Ok(Some(circuit))
    }

    /// Whether there is room for a circuit of the peer's: as long as there is some for everybody, or for one
    /// hash if its CREATE solves a puzzle.
    fn admits(&mut self, link: LinkId, head: &[u8]) -> bool {
        let (now, circuits, limits) = (self.now, self.circuits.len(), &self.config.limits);
        let Some(entry) = self.links.get_mut(&link) else { return false };
        if circuits >= limits.circuits || entry.created >= limits.circuits_per_link {
            return false;
        }
        let head = CreateHead::read(head).ok().map(|(head, _)| head);
        let full = |head: CreateHead| {
            self.keys.check(head.epoch, &head.key, limits.creates_per_epoch) == Err(Refusal::Full)
        };
        if circuits < limits.unpuzzled(limits.circuits)
            && entry.created < limits.unpuzzled(limits.circuits_per_link)
            && !head.is_some_and(full)
            && entry.creates.take(now, limits.creates_per_second, limits.create_burst)
            && self.creates.take(now, limits.all_creates_per_second, limits.all_creates_per_second)
        {
            return true;
        }
        // The hash first, so that nobody spends what is for those who solve.
        limits.puzzle_bits > 0
            && head.is_some_and(|head| {
                head.solves(&self.config.network, self.config.node, limits.puzzle_bits)
                    && entry.puzzled.take(now, limits.puzzled_creates_per_second, limits.puzzled_create_burst)
                    && self.keys.spend(head.epoch, &head.key, limits.creates_per_epoch).is_ok()
            })
    }

    fn answer_create(&mut self, circuit: LocalCircuitId, link: LinkId, id: u32, message: &[u8]) {
        let (mut create, routing, seed) = match self.respond(message) {
            Ok(answer) => answer,
            Err(reason) => return self.close_relay(circuit, reason, true, false),
        };
        let expiry = self.expiry_of(create.epoch);
        let Some(relay) = self.relay(circuit) else { return };
        relay.layer = Some(RelayLayer::new(&seed));
        relay.transit = Some(Transit::new(TransitKey::of(&seed)));
        relay.epoch = create.epoch;
        relay.expiry = Some(expiry);
        if let Some(at) = relay.hop_deadline.take() {
            self.timers.remove(&(at, Timer::Hop(circuit)));
        }
        self.timers.insert((expiry, Timer::Expiry(circuit)));
        let Some(onward) = routing.onward else {
            return self.send_fragments(circuit, link, id, Command::Created, create.records.as_bytes());
        };
        if let Some(relay) = self.relay(circuit) {
            relay.passing = Some(routing.key);
        }
        (create.slot, create.nonce) = (onward.slot, onward.nonce);
        self.connect(circuit, onward.relay, create.to_bytes());
    }

    /// The relay's half of the handshake: the message with its reply in place of its request.
    fn respond(&mut self, message: &[u8]) -> Result<(Create, Routing, LayerSeed), DestroyReason> {
        let (refuse, protocol) = (DestroyReason::Handshake, DestroyReason::Protocol);
        let mut create = Create::read(message).map_err(|RecordError| protocol)?;
        let (epoch, limit) = (create.epoch, self.config.limits.creates_per_epoch);
        let refused = |refusal| match refusal {
            Refusal::Replay => refuse,
            Refusal::Full => DestroyReason::Busy,
        };
        // Before the handshake, which costs a thousand times as much.
        self.keys.check(epoch, ephemeral(create.request()), limit).map_err(refused)?;
        let seed = Zeroizing::new(self.draw_seed());
        let secret = self.keys.secret(epoch).ok_or(refuse)?;
        #[cfg(any(test, feature = "testing"))]
        {
            self.handshakes += 1;
        }
        let responder =
            create.open(self.config.node, &self.config.network, secret, &seed).map_err(|_| refuse)?;
        // Only an authentic request enters the set, so that nobody can fill it with noise.
        self.keys.admit(epoch, ephemeral(create.request()), limit).map_err(refused)?;
        #[cfg(any(test, feature = "testing"))]
        self.opened_messages.push(responder.routing().to_vec());
        let routing = Routing::read(responder.routing()).map_err(|RecordError| protocol)?;
        let (reply, seed) = responder.reply().map_err(|_| refuse)?;
        create.answer(&reply, &routing.key);
        Ok((create, routing, seed))
    }

    /// Takes a cell; one of a circuit that `is_counted` is booked for its padding.
    pub(super) fn relay_cell(
        &mut self,
        circuit: LocalCircuitId,
        side: Side,
        body: &mut Body,
        is_counted: bool,
    ) {
        let Some(relay) = self.relay(circuit) else { return };
        let (Some(layer), None) = (relay.layer.as_mut(), &relay.passing) else {
            return self.fail(circuit, DestroyReason::Protocol, None);
        };
        relay.cells += 1;
        if side == Side::Next {
            relay.transit.iter_mut().for_each(|transit| transit.onward_cells += 1);
            layer.inward(Command::Relay as u8, body);
            let (link, id) = relay.prev;
            self.push(circuit, link, id, Command::Relay, body);
            if is_counted {
                self.padded_cell(circuit, Passed::Sent);
            }
            return;
        }
        match (layer.outward(Command::Relay as u8, body), &relay.next) {
            (Some(tag), _) => return self.relay_message(circuit, tag, body),
            (None, &Next::Open(link, id)) => {
                relay.transit.iter_mut().for_each(|transit| transit.onward_cells += 1);
                self.push(circuit, link, id, Command::Relay, body);
            }
            // On its way when the circuit broke behind this hop.
            (None, Next::Truncated) => {}
            (None, Next::End | Next::Opening(..) | Next::Creating(..)) => {
                self.fail(circuit, DestroyReason::Integrity, None);
            }
        }
        if is_counted {
            self.padded_cell(circuit, Passed::Received);
        }
    }

    fn relay_message(&mut self, circuit: LocalCircuitId, tag: Tag, body: &Body) {
        #[cfg(any(test, feature = "testing"))]
        self.opened_messages.push(body.to_vec());
        let protocol = DestroyReason::Protocol;
        let max_payments = self.config.limits.payments_per_circuit;
        let Ok(message) = Message::read(body) else { return self.fail(circuit, protocol, None) };
        if message.kind == Kind::Drop {
            return self.on_drop(circuit, message.data, None);
        }
        self.padded_cell(circuit, Passed::Received);
        let Some(relay) = self.relay(circuit) else { return };
        match message.kind {
            Kind::Padding => self.on_padding(circuit, message.data),
            Kind::Extend if matches!(relay.next, Next::End) && relay.mux.is_empty() => {
                match relay.extend.push(message.more, message.data, EXTEND_BYTES) {
                    Ok(Some(extend)) => self.extend(circuit, &extend),
                    Ok(None) => {}
                    Err(CellError) => self.fail(circuit, protocol, None),
                }
            }
            Kind::Pay if message.data.len() <= MAX_PAYMENT_BYTES && relay.payments < max_payments => {
                relay.payments += 1;
                let (cells, bytes) = (BUILD_CELLS + relay.cells, message.data.to_vec());
                self.outputs.push_back(Output::Paid(Payment { circuit, cells, bytes }));
            }
            Kind::Transit => self.on_transit(circuit, message),
            Kind::Begin | Kind::Data | Kind::End | Kind::Sendme if matches!(relay.next, Next::End) => {
                self.stream_message(circuit, message, tag, 0);
            }
            _ => self.fail(circuit, protocol, None),
        }
    }

    fn extend(&mut self, circuit: LocalCircuitId, message: &[u8]) {
        match read_extend(message) {
            Some((next, create)) => self.connect(circuit, next, create.to_vec()),
            None => self.fail(circuit, DestroyReason::Protocol, None),
        }
    }

    /// Sends a CREATE message to the next hop, over a link that may have to be opened first.
    fn connect(&mut self, circuit: LocalCircuitId, next: NodeId, create: Vec<u8>) {
        if !self.config.relaying {
            return self.truncate(circuit, DestroyReason::Busy);
        }
        let (own, deadline) = (self.config.node, self.now + self.config.limits.hop_timeout);
        let Some(relay) = self.relay(circuit) else { return };
        let (prev, _) = relay.prev;
        // A path that returns where it came from only wastes relays.
        if next == own || self.links.get(&prev).is_some_and(|link| link.peer == next) {
            return self.truncate(circuit, DestroyReason::Protocol);
        }
        // Against clients that make this node dial names without end.
        if !self.peers.contains_key(&next) && self.opening.len() >= self.config.limits.links {
            return self.truncate(circuit, DestroyReason::Busy);
        }
        if let Some(relay) = self.relay(circuit) {
            relay.next = Next::Opening(next, create);
            relay.hop_deadline = Some(deadline);
        }
        self.timers.insert((deadline, Timer::Hop(circuit)));
        if let Some(link) = self.link_to(next, circuit) {
            self.relay_next_hop(circuit, link);
        }
    }

    /// The link to the next hop is there.
    pub(super) fn relay_next_hop(&mut self, circuit: LocalCircuitId, link: LinkId) {
        let Some(relay) = self.relay(circuit) else { return };
        let Next::Opening(_, create) = core::mem::replace(&mut relay.next, Next::End) else { return };
        match self.send_create(circuit, link, Side::Next, &create) {
            Some(id) => {
                if let Some(relay) = self.relay(circuit) {
                    relay.next = Next::Creating(link, id, Assembler::default());
                }
            }
            None => self.truncate(circuit, DestroyReason::LinkLost),
        }
    }

    pub(super) fn relay_created(&mut self, circuit: LocalCircuitId, body: &Body) -> Result<(), CellError> {
        let fragment = Fragment::read(body)?;
        let Some(relay) = self.relay(circuit) else { return Ok(()) };
        let Next::Creating(link, id, assembler) = &mut relay.next else { return Err(CellError) };
        let (link, id) = (*link, *id);
        let Some(reply) = assembler.push(fragment.more, fragment.data, CREATED_BYTES)? else { return Ok(()) };
        let mut records = Records::read(&reply).map_err(|RecordError| CellError)?;
        relay.next = Next::Open(link, id);
        let ((prev, prev_id), passing) = (relay.prev, relay.passing.take());
        if let Some(at) = relay.hop_deadline.take() {
            self.timers.remove(&(at, Timer::Hop(circuit)));
        }
        match passing {
            Some(key) => {
                records.pass_back(&key);
                self.send_fragments(circuit, prev, prev_id, Command::Created, records.as_bytes());
            }
            None => self.originate_all(circuit, 0, Kind::Extended, records.as_bytes()),
        }
        Ok(())
    }

    /// Gives up what lies behind this hop and tells the client, who learns by the layer of this
    /// hop who says so; or, while it knows no layer, by a DESTROY that does not tell.
    pub(super) fn truncate(&mut self, circuit: LocalCircuitId, reason: DestroyReason) {
        let Some(relay) = self.relay(circuit) else { return };
        if relay.passing.is_some() {
            return self.close_relay(circuit, reason, true, true);
        }
        let next = core::mem::replace(&mut relay.next, Next::Truncated);
        if let Some(at) = relay.hop_deadline.take() {
            self.timers.remove(&(at, Timer::Hop(circuit)));
        }
        self.leave_next(circuit, next, DestroyReason::Finished, true);
        let message = Message { stream: 0, kind: Kind::Truncated, more: false, data: &[reason as u8] };
        self.originate(circuit, 0, message);
    }

    fn leave_next(&mut self, circuit: LocalCircuitId, next: Next, reason: DestroyReason, tell: bool) {
        match next {
            Next::Creating(link, id, _) | Next::Open(link, id) => self.drop_route(link, id, reason, tell),
            Next::Opening(relay, _) => self.stop_waiting(relay, circuit),
            Next::End | Next::Truncated => {}
        }
    }

    /// Forgets a circuit of somebody else's and tells the sides asked for.
    pub(super) fn close_relay(
        &mut self,
        circuit: LocalCircuitId,
        reason: DestroyReason,
        tell_prev: bool,
        tell_next: bool,
    ) {
        let Some(Circuit::Relay(relay)) = self.circuits.remove(&circuit) else { return };
        self.stop_padding(circuit, &relay.padding);
        if let Some(at) = relay.hop_deadline {
            self.timers.remove(&(at, Timer::Hop(circuit)));
        }
        if let Some(at) = relay.expiry {
            self.timers.remove(&(at, Timer::Expiry(circuit)));
        }
        let (link, id) = relay.prev;
        self.drop_route(link, id, reason, tell_prev);
        self.leave_next(circuit, relay.next, reason, tell_next);
        if relay.layer.is_some() {
            let closed = Closed { reason, blamed: None };
            self.outputs.push_back(Output::Closed { circuit, closed, cells: relay.cells });
        }
        self.keep_ended(circuit, relay.mux, reason);
    }
}
