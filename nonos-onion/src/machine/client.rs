use core::time::Duration;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nonos_identity::{Epoch, NodeId};
use zeroize::Zeroizing;

use super::padding::{Padding, Passed};
use super::queue::Side;
use super::transit::Promised;
use super::{Circuit, LinkId, Machine, Now, Output, Timer};
use crate::cell::{Assembler, Body, CellError, Command, DestroyReason, Fragment};
use crate::cgo::{ClientLayer, Tag};
use crate::circuit::{BuildError, Closed, LocalCircuitId, MAX_PAYMENT_BYTES, PayError};
use crate::config::Limits;
use crate::descriptor::RelayDescriptor;
use crate::message::{Kind, Message};
use crate::mux::Mux;
use crate::records::{CREATED_BYTES, Draft, OnionKeyError, Pending};
use crate::transit::TransitKey;

/// A circuit of this node's own.
pub(super) struct Client {
    /// The link and id of the first hop, once its link is open.
    pub(super) route: Option<(LinkId, u32)>,
    path: Vec<(NodeId, [u8; 32])>,
    pub(super) epoch: Epoch,
    /// One per hop that is built.
    pub(super) layers: Vec<ClientLayer<{ crate::cell::BODY_BYTES }>>,
    /// One hop after the other, so that a failure names its hop; else all by one message.
    telescoping: bool,
    /// A hop was busy: puzzles are solved for all.
    puzzled: bool,
    /// The next message, if its puzzles are not solved yet.
    draft: Option<Draft>,
    /// The records that are not answered yet.
    pending: Option<Pending>,
    assembler: Assembler,
    pub(super) mux: Mux,
    pub(super) transit: Promised,
    pub(super) padding: Padding,
    pub(super) cells: Arc<AtomicU64>,
    hop_deadline: Option<Duration>,
    expiry: Duration,
}

impl Client {
    pub(super) const fn is_built(&self) -> bool {
        self.layers.len() == self.path.len()
    }

    /// Whether one message to all hops is on its way, so that a failure names none of them.
    pub(super) const fn awaits_all(&self) -> bool {
        !self.telescoping && self.route.is_some() && !self.is_built()
    }

    pub(super) const fn is_solving(&self) -> bool {
        self.draft.is_some()
    }

    /// The hops that the next message builds.
    fn next_hops(&self) -> &[(NodeId, [u8; 32])] {
        let rest = self.path.get(self.layers.len()..).unwrap_or_default();
        if self.telescoping { rest.get(..1).unwrap_or_default() } else { rest }
    }

    pub(super) fn originate(&mut self, hop: usize, body: &mut Body) -> Option<(Tag, LinkId, u32)> {
        let (link, id) = self.route?;
        let (target, before) = self.layers.get_mut(..=hop)?.split_last_mut()?;
        let tag = target.originate(Command::Relay as u8, body);
        for layer in before.iter_mut().rev() {
            layer.outward(Command::Relay as u8, body);
        }
        self.cells.fetch_add(1, Ordering::Relaxed);
        Some((tag, link, id))
    }

    /// Removes the layers of a received cell; yields the hop that made it and the tag.
    fn inward(&mut self, body: &mut Body) -> Option<(usize, Tag)> {
        self.cells.fetch_add(1, Ordering::Relaxed);
        self.layers
            .iter_mut()
            .enumerate()
            .find_map(|(hop, layer)| layer.inward(Command::Relay as u8, body).map(|tag| (hop, tag)))
    }
}

impl Machine {
    /// Starts to build a circuit through `path`: the relays in order, the destination last.
    /// [`Output::Built`] or [`Output::Closed`] follows.
    ///
    /// One message builds all hops. If it fails and does not tell whose fault that is, the circuit
    /// is built again over the same path, hop by hop, to name the hop that fails; if none does
    /// now, the circuit is as good as any other. The first time that a hop is busy, the build starts again
    /// with a puzzle solved for each hop ([`Limits::puzzle_bits`](crate::Limits::puzzle_bits)).
    ///
    /// # Errors
    /// [`BuildError::Path`] and [`BuildError::Circuits`].
    pub fn build(
        &mut self,
        now: impl Into<Now>,
        path: &[RelayDescriptor],
    ) -> Result<LocalCircuitId, BuildError> {
        self.set_time(now);
        let distinct: BTreeSet<NodeId> = path.iter().map(|hop| hop.relay).collect();
        let first = path.first().ok_or(BuildError::Path)?;
        let expiry = self.expiry_of(first.epoch);
        if path.len() > self.config.limits.hops
            || distinct.len() != path.len()
            || distinct.contains(&self.config.node)
            || path.iter().any(|hop| hop.epoch != first.epoch)
            || expiry <= self.now
        {
            return Err(BuildError::Path);
        }
        if self.circuits.len() >= self.config.limits.circuits {
            return Err(BuildError::Circuits);
        }
        let circuit = self.new_circuit_id();
        let client = Client {
            route: None,
            path: path.iter().map(|hop| (hop.relay, hop.onion_key)).collect(),
            epoch: first.epoch,
            layers: Vec::with_capacity(path.len()),
            // One message for one hop is both; its failure names that hop.
            telescoping: path.len() == 1,
            puzzled: false,
            draft: None,
            pending: None,
            assembler: Assembler::default(),
            mux: Mux::new(&self.config.limits),
            transit: Promised::default(),
            padding: Padding::default(),
            cells: Arc::new(AtomicU64::new(0)),
            hop_deadline: None,
            expiry,
        };
        self.circuits.insert(circuit, Circuit::Client(Box::new(client)));
        self.timers.insert((expiry, Timer::Expiry(circuit)));
        self.client_start(circuit, first.relay);
        Ok(circuit)
    }

    /// Closes a circuit of this node's own. [`Output::Closed`] follows.
    pub fn close(&mut self, now: impl Into<Now>, circuit: LocalCircuitId) {
        self.set_time(now);
        if matches!(self.circuits.get(&circuit), Some(Circuit::Client(_))) {
            let closed = Closed { reason: DestroyReason::Finished, blamed: None };
            self.close_client(circuit, closed, true);
        }
    }

    /// Sends a payment to a hop of an own circuit.
    ///
    /// # Errors
    /// [`PayError`]; a circuit that is gone counts as finished.
    pub fn pay(
        &mut self,
        now: impl Into<Now>,
        circuit: LocalCircuitId,
        hop: usize,
        bytes: &[u8],
    ) -> Result<(), PayError> {
        self.set_time(now);
        if bytes.len() > MAX_PAYMENT_BYTES {
            return Err(PayError::TooLong(bytes.len()));
        }
        let gone = PayError::Closed(Closed { reason: DestroyReason::Finished, blamed: None });
        let Some(Circuit::Client(client)) = self.circuits.get(&circuit) else { return Err(gone) };
        if hop >= client.layers.len() {
            return Err(PayError::NoSuchHop(hop));
        }
        let message = Message { stream: 0, kind: Kind::Pay, more: false, data: bytes };
        self.originate(circuit, hop, message).map(|_| ()).ok_or(gone)
    }

    fn client(&mut self, circuit: LocalCircuitId) -> Option<&mut Client> {
        match self.circuits.get_mut(&circuit)? {
            Circuit::Client(client) => Some(client),
            Circuit::Relay(_) | Circuit::Ended(_) => None,
        }
    }

    fn arm_hop_timer(&mut self, circuit: LocalCircuitId) {
        let at = self.now + self.config.limits.hop_timeout;
        let Some(client) = self.client(circuit) else { return };
        if let Some(old) = client.hop_deadline.replace(at) {
            self.timers.remove(&(old, Timer::Hop(circuit)));
        }
        self.timers.insert((at, Timer::Hop(circuit)));
    }

    /// Goes for the first hop.
    fn client_start(&mut self, circuit: LocalCircuitId, first: NodeId) {
        self.arm_hop_timer(circuit);
        if self.link_to(first, circuit).is_some() {
            self.next_create(circuit);
        }
    }

    /// A hop has ended a circuit that is being built, and does not say which one.
    pub(super) fn build_failed(&mut self, circuit: LocalCircuitId, reason: DestroyReason) {
        let Some(client) = self.client(circuit) else { return };
        if client.awaits_all() || reason == DestroyReason::Busy {
            return self.try_again(circuit, reason, Some(0), false);
        }
        self.close_client(circuit, Closed { reason, blamed: Some(0) }, false);
    }

    /// Builds again: with puzzles if a hop was busy for the first time, else hop by hop. After both the
    /// circuit fails. Tells the first hop if `tell`.
    fn try_again(
        &mut self,
        circuit: LocalCircuitId,
        reason: DestroyReason,
        blamed: Option<usize>,
        tell: bool,
    ) {
        let may_solve = self.config.limits.puzzle_bits > 0;
        let Some(client) = self.client(circuit) else { return };
        if reason == DestroyReason::Busy && may_solve && !client.puzzled {
            client.puzzled = true;
        } else if client.awaits_all() {
            client.telescoping = true;
        } else {
            return self.close_client(circuit, Closed { reason, blamed }, tell);
        }
        client.layers.clear();
        client.transit = Promised::default();
        client.draft = None;
        client.pending = None;
        client.assembler = Assembler::default();
        let Some(&(first, _)) = client.path.first() else { return };
        if let Some((link, id)) = client.route.take() {
            self.drop_route(link, id, DestroyReason::Finished, tell);
        }
        self.client_start(circuit, first);
    }

    /// Gives up the message that builds all hops and starts again hop by hop.
    pub(super) fn rebuild(&mut self, circuit: LocalCircuitId) {
        self.try_again(circuit, DestroyReason::Handshake, None, true);
    }

    /// Begins the CREATE message for the next hops of a circuit. An onion key that no handshake can be made
    /// with ends the circuit.
    pub(super) fn next_create(&mut self, circuit: LocalCircuitId) {
        let seed = Zeroizing::new(self.draw_seed());
        let (network, suite, bits) = (self.config.network, self.config.suite, self.config.limits.puzzle_bits);
        let Some(client) = self.client(circuit) else { return };
        let bits = if client.puzzled { bits } else { 0 };
        let draft = Draft::new(&network, client.epoch, client.next_hops(), bits, &seed).with_suite(suite);
        client.draft = Some(draft);
        if bits > 0 {
            self.solving.push_back(circuit);
        } else {
            self.draft(circuit, 0);
        }
    }

    /// Works on the puzzles of one own circuit for a moment.
    pub(super) fn solve(&mut self) {
        if let Some(circuit) = self.solving.pop_front() {
            self.draft(circuit, Limits::PUZZLE_HASHES_PER_TICK);
        }
    }

    /// Goes on with a CREATE message, for so many hashes, and sends it once it is complete.
    fn draft(&mut self, circuit: LocalCircuitId, hashes: u32) {
        let Some(client) = self.client(circuit) else { return };
        let Some(mut draft) = client.draft.take() else { return };
        match draft.work(hashes) {
            Ok(true) => {
                let (pending, create) = draft.finish();
                client.pending = Some(pending);
                self.send_next_create(circuit, &create.to_bytes());
            }
            Ok(false) => {
                client.draft = Some(draft);
                self.solving.push_back(circuit);
            }
            Err(OnionKeyError(hop)) => {
                let blamed = Some(client.layers.len() + hop);
                self.fail(circuit, DestroyReason::Handshake, blamed);
            }
        }
    }

    /// Sends a CREATE message to the first hop, or to the one after the last so far.
    fn send_next_create(&mut self, circuit: LocalCircuitId, message: &[u8]) {
        self.arm_hop_timer(circuit);
        let Some(client) = self.client(circuit) else { return };
        let Some(&(relay, _)) = client.next_hops().first() else { return };
        if let Some(hop) = client.layers.len().checked_sub(1) {
            let extend = [relay.as_bytes(), message].concat();
            return self.originate_all(circuit, hop, Kind::Extend, &extend);
        }
        let link = self.peers.get(&relay).copied();
        let sent = link.and_then(|link| Some((link, self.send_create(circuit, link, Side::Next, message)?)));
        match self.client(circuit) {
            Some(client) if sent.is_some() => client.route = sent,
            _ => self.fail(circuit, DestroyReason::LinkLost, Some(0)),
        }
    }

    pub(super) fn client_created(&mut self, circuit: LocalCircuitId, body: &Body) -> Result<(), CellError> {
        let fragment = Fragment::read(body)?;
        let Some(client) = self.client(circuit) else { return Ok(()) };
        if !client.layers.is_empty() {
            return Err(CellError);
        }
        if let Some(reply) = client.assembler.push(fragment.more, fragment.data, CREATED_BYTES)? {
            self.client_reply(circuit, &reply);
        }
        Ok(())
    }

    /// Takes the relays' half of the handshakes and goes on to the next hop, if there is one.
    fn client_reply(&mut self, circuit: LocalCircuitId, reply: &[u8]) {
        let proves = self.config.limits.transit_batches > 0;
        let Some(client) = self.client(circuit) else { return };
        let hop = client.layers.len();
        let seeds = client.pending.take().and_then(|pending| pending.finish(reply).ok());
        let Some(seeds) = seeds else {
            if client.awaits_all() {
                return self.rebuild(circuit);
            }
            return self.fail(circuit, DestroyReason::Handshake, Some(hop));
        };
        client.layers.extend(seeds.iter().map(|seed| ClientLayer::new(seed)));
        if proves {
            client.transit.keys.extend(seeds.iter().map(|seed| TransitKey::of(seed)));
        }
        if client.is_built() {
            if let Some(at) = client.hop_deadline.take() {
                self.timers.remove(&(at, Timer::Hop(circuit)));
            }
            self.outputs.push_back(Output::Built { circuit });
            self.ask_for_padding(circuit);
            return self.promise_transit(circuit);
        }
        self.arm_hop_timer(circuit);
        self.next_create(circuit);
    }

    pub(super) fn client_cell(&mut self, circuit: LocalCircuitId, body: &mut Body) {
        let protocol = DestroyReason::Protocol;
        let Some(client) = self.client(circuit) else { return };
        if client.layers.is_empty() {
            // Only the first hop can send what no hop has made.
            return self.fail(circuit, protocol, Some(0));
        }
        let Some((hop, tag)) = client.inward(body) else {
            return self.fail(circuit, DestroyReason::Integrity, None);
        };
        let (built, last) = (client.is_built(), hop + 1 == client.layers.len());
        let Ok(message) = Message::read(body) else { return self.fail(circuit, protocol, Some(hop)) };
        if message.kind == Kind::Drop && hop == 0 {
            return self.on_drop(circuit, message.data, Some(hop));
        }
        self.padded_cell(circuit, Passed::Received);
        let Some(client) = self.client(circuit) else { return };
        match message.kind {
            Kind::Truncated if hop + 1 < client.path.len() => {
                let &[reason] = message.data else { return self.fail(circuit, protocol, Some(hop)) };
                let (reason, blamed) = (DestroyReason::from_byte(reason), Some(hop + 1));
                if built {
                    return self.fail(circuit, reason, blamed);
                }
                self.try_again(circuit, reason, blamed, true);
            }
            Kind::Extended if last && !built && client.pending.is_some() => {
                match client.assembler.push(message.more, message.data, CREATED_BYTES) {
                    Ok(Some(reply)) => self.client_reply(circuit, &reply),
                    Ok(None) => {}
                    Err(CellError) => self.fail(circuit, protocol, Some(hop)),
                }
            }
            Kind::Connected | Kind::Data | Kind::End | Kind::Sendme if last && built => {
                self.stream_message(circuit, message, tag, hop);
            }
            _ => self.fail(circuit, protocol, Some(hop)),
        }
    }

    /// Forgets an own circuit and says why; tells the first hop if `tell`.
    pub(super) fn close_client(&mut self, circuit: LocalCircuitId, closed: Closed, tell: bool) {
        let Some(Circuit::Client(client)) = self.circuits.remove(&circuit) else { return };
        self.stop_padding(circuit, &client.padding);
        self.timers.remove(&(client.expiry, Timer::Expiry(circuit)));
        if let Some(at) = client.hop_deadline {
            self.timers.remove(&(at, Timer::Hop(circuit)));
        }
        match (client.route, client.path.first()) {
            // The relays learn that it is over, not why.
            (Some((link, id)), _) => self.drop_route(link, id, DestroyReason::Finished, tell),
            (None, Some((relay, _))) => self.stop_waiting(*relay, circuit),
            (None, None) => {}
        }
        let cells = client.cells.load(Ordering::Relaxed);
        self.outputs.push_back(Output::Closed { circuit, closed, cells });
        self.keep_ended(circuit, client.mux, closed.reason);
    }

    /// Takes a circuit from those that wait for a link.
    pub(super) fn stop_waiting(&mut self, relay: NodeId, circuit: LocalCircuitId) {
        if let Some(waiting) = self.opening.get_mut(&relay) {
            waiting.retain(|&other| other != circuit);
        }
    }
}
