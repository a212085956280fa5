//! The machine of one mesh node.

mod beacons;
mod contacts;
mod gossip;
mod link;
mod sync;

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use nonos_identity::NodeId;
use nonos_identity::wire::{self, Wire as _};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

use self::beacons::Beacons;
use self::contacts::{Book, Source};
use self::gossip::Gossip;
use self::link::{Lane, Link};
use self::sync::Sync;
use crate::config::{Config, ConfigError};
use crate::contact::{Contact, TransportId};
use crate::digest::StateDigest;
use crate::hello::{Hello, HelloError};
use crate::io::{CloseReason, Command, Event, Input, LinkId, Now, Output, Peer, Stats};
use crate::item::ItemId;
use crate::message::Message;
use crate::ticket::Ticket;

/// Period of the housekeeping: pings, silent links, eager links, expiry.
const MAINTAIN: Duration = Duration::from_secs(1);
/// Nodes remembered as banned: whoever mints keys only to misbehave must not grow our memory.
const MAX_BANNED: usize = 4096;
/// Penalty of a frame that no honest node sends.
const PENALTY_PROTOCOL: u32 = 50;
/// Penalty of an item that fails its check.
const PENALTY_REJECTED: u32 = 25;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Hello(LinkId),
    Announce,
    Pull(ItemId),
    Sync,
    Beacon,
    Exchange,
    Maintain,
}

/// One node of the mesh: values in, values out.
///
/// It owns links, gossip, anti-entropy, beacons and contacts, and no socket, clock, thread or
/// store. Everything it remembers is bounded by its [`Config`].
#[derive(Debug)]
pub struct Mesh {
    config: Config,
    rng: ChaCha8Rng,
    links: BTreeMap<LinkId, Link>,
    banned: BTreeMap<NodeId, Duration>,
    gossip: Gossip,
    sync: Sync,
    beacons: Beacons,
    book: Book,
    timers: BTreeSet<(Duration, Timer)>,
    outputs: VecDeque<Output>,
    stats: Stats,
}

impl Mesh {
    /// Longest frame body on a link, in bytes; a driver closes a link that declares more.
    pub const MAX_FRAME_BYTES: usize = Message::MAX_BYTES;

    /// A node without links.
    ///
    /// # Errors
    /// [`ConfigError`] names the field that cannot work.
    pub fn new(config: Config, now: Now, seed: [u8; 32]) -> Result<Self, ConfigError> {
        config.check()?;
        let mut mesh = Self {
            config,
            rng: ChaCha8Rng::from_seed(seed),
            links: BTreeMap::new(),
            banned: BTreeMap::new(),
            gossip: Gossip::default(),
            sync: Sync::new(),
            beacons: Beacons::default(),
            book: Book::default(),
            timers: BTreeSet::new(),
            outputs: VecDeque::new(),
            stats: Stats::default(),
        };
        let first = mesh.spread(MAINTAIN);
        mesh.set(now.mono + first, Timer::Maintain);
        mesh.schedule_sync(now.mono);
        let exchange = mesh.spread(mesh.config.links.exchange_interval);
        mesh.set(now.mono + exchange, Timer::Exchange);
        Ok(mesh)
    }

    /// Takes one input. Safe to call before the outputs of earlier inputs are drained.
    pub fn handle(&mut self, now: Now, input: Input) {
        self.fire(now);
        match input {
            Input::Tick => {}
            Input::LinkUp { link, remote, outbound } => self.link_up(now, link, remote, outbound),
            Input::LinkDown { link } => self.link_down(now, link),
            Input::Frame { link, bytes } => self.frame(now, link, &bytes),
            Input::Sent { link, bytes } => {
                if let Some(l) = self.links.get_mut(&link) {
                    l.sent(bytes);
                }
                self.pump(link);
            }
            Input::DialFailed { transport } => self.dial_failed(now, &transport),
            Input::Checked { ticket, verdict } => self.checked(now, ticket, verdict),
            Input::Loaded { request, item } => self.loaded(request, item),
            Input::StoreFailed { id } => self.unhold(&id),
            Input::Held { collection, ids } => self.held(collection, &ids),
            Input::Command(command) => self.command(now, command),
        }
        self.flush_wants();
    }

    /// The next thing to do, in order.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call [`Self::handle`] with [`Input::Tick`], on the clock of [`Now::mono`].
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// The id of this node.
    #[must_use]
    pub const fn node(&self) -> NodeId {
        self.config.certificate.node()
    }

    /// Links that are up.
    #[must_use]
    pub fn links(&self) -> Vec<(LinkId, NodeId)> {
        let up = self.links.iter().filter(|(_, l)| l.is_up());
        up.filter_map(|(id, l)| Some((*id, l.node?))).collect()
    }

    /// Every node known by link or by beacon, by id.
    #[must_use]
    pub fn peers(&self) -> Vec<Peer> {
        let own = self.node();
        let mut peers: BTreeMap<NodeId, Peer> = BTreeMap::new();
        for (node, beacon) in self.beacons.all().filter(|(node, _)| **node != own) {
            let peer = Peer { node: *node, link: None, contact: None, beacon: Some(beacon.clone()) };
            peers.insert(*node, peer);
        }
        for (link, node) in self.links() {
            let peer = peers.entry(node).or_insert(Peer { node, link: None, contact: None, beacon: None });
            peer.link = Some(link);
            peer.contact = self.links.get(&link).and_then(|link| self.book.find(&link.remote)).cloned();
        }
        peers.into_values().collect()
    }

    /// What this node holds, one digest per collection.
    #[must_use]
    pub fn digests(&mut self) -> Vec<StateDigest> {
        self.sync.states()
    }

    /// Contacts known, for a contact file.
    #[must_use]
    pub fn contacts(&self) -> Vec<Contact> {
        self.book.all().cloned().collect()
    }

    /// Where this node can be dialled.
    #[must_use]
    pub fn contact(&self) -> Contact {
        Contact { transport: self.config.transport.clone(), addresses: self.config.addresses.clone() }
    }

    /// An invitation to this node, `None` while it has no address.
    #[must_use]
    pub fn ticket(&self) -> Option<Ticket> {
        let listens = !self.config.addresses.is_empty();
        listens.then(|| Ticket { network: self.config.network, contacts: vec![self.contact()] })
    }

    /// Counters since the start.
    #[must_use]
    pub const fn stats(&self) -> Stats {
        self.stats
    }

    fn command(&mut self, now: Now, command: Command) {
        match command {
            Command::Publish(item) => self.publish(item),
            Command::SetBeacon(body) => self.set_beacon(now, body),
            Command::SetAddresses(addresses) => self.set_addresses(addresses),
            Command::Dial(contact) => self.dial_contact(now, contact),
            Command::Learn(contacts) => {
                for contact in contacts {
                    self.remember(now, contact, Source::Application);
                }
                self.dial_more(now);
            }
            Command::Forget(id) => self.forget(&id),
            Command::Ban(node) => self.ban(now, node, CloseReason::Application),
            Command::Rotate { signer, certificate } => {
                // A certificate for another key would silence the node: keep the old pair.
                if certificate.subject() == signer.public() && certificate.node() == self.node() {
                    self.config.signer = signer;
                    self.config.certificate = *certificate;
                    self.refresh_beacon(now);
                }
            }
        }
    }

    // Links.

    fn link_up(&mut self, now: Now, id: LinkId, remote: TransportId, outbound: bool) {
        let link = Link::new(&self.config.links, remote.clone(), outbound, now.mono);
        self.links.insert(id, link);
        self.book.reached(&remote);
        if self.links.len() > self.config.links.max_links {
            self.close(id, CloseReason::TooMany);
            return;
        }
        self.set(now.mono + self.config.links.hello_timeout, Timer::Hello(id));
        let Config { signer, certificate, network, transport, .. } = &self.config;
        if let Ok(hello) = Hello::seal(signer, certificate, network, transport, &remote, now.wall) {
            self.send(id, Lane::Control, &Message::Hello(hello));
        }
    }

    fn link_down(&mut self, now: Now, id: LinkId) {
        let Some(link) = self.links.remove(&id) else { return };
        self.gossip.link_gone(id);
        self.book.lost(now.mono, &self.config.links, &link.remote);
        if let Some(node) = link.node {
            self.event(Event::LinkDown { link: id, node });
        }
    }

    fn frame(&mut self, now: Now, id: LinkId, bytes: &[u8]) {
        let Some(link) = self.links.get_mut(&id) else { return };
        if link.closing {
            return;
        }
        link.heard = now.mono;
        let up = link.is_up();
        let message = wire::from_bytes::<Message>(bytes);
        match message {
            Ok(Message::Hello(hello)) if !up => self.hello(now, id, &hello),
            Ok(message) if up && message.is_within_limits() => self.message(now, id, message),
            Err(error) if !up => self.refuse(id, error.into()),
            _ if !up => self.refuse(id, HelloError::Order),
            _ => self.penalize(now, id, PENALTY_PROTOCOL),
        }
    }

    fn message(&mut self, now: Now, id: LinkId, message: Message) {
        match message {
            Message::Hello(_) => self.penalize(now, id, PENALTY_PROTOCOL),
            Message::Ping(stamp) => self.send(id, Lane::Control, &Message::Pong(stamp)),
            Message::Pong(stamp) => {
                let sent = Duration::from_micros(stamp);
                if let (Some(link), Some(rtt)) = (self.links.get_mut(&id), now.mono.checked_sub(sent)) {
                    // A peer that echoes an old stamp only slows its own pulls, up to a bound.
                    link.measured(rtt.min(self.config.links.ping_interval));
                }
            }
            Message::Contacts(contacts) => self.contacts_heard(now, id, contacts),
            Message::Push { kind, bytes } => self.item_heard(now, id, kind, bytes, false),
            Message::Reply { kind, bytes } => self.item_heard(now, id, kind, bytes, true),
            Message::Have(ids) => self.have(now, id, &ids, false),
            Message::Offer(ids) => self.have(now, id, &ids, true),
            Message::Want(ids) => self.want(id, &ids),
            Message::Missing(ids) => self.missing(now, id, &ids),
            Message::Graft => self.grafted(id),
            Message::Prune => self.pruned(now, id),
            Message::States { answer, states } => self.states_heard(now, id, answer, &states),
            Message::Ask(collections) => self.asked(id, &collections),
            Message::Buckets { state, digests } => self.buckets_heard(now, id, state, &digests),
            Message::Ids { collection, ranges } => self.ids_heard(now, id, collection, &ranges),
        }
    }

    fn hello(&mut self, now: Now, id: LinkId, hello: &Hello) {
        let Some(link) = self.links.get(&id) else { return };
        let checked = hello.check(&self.config.network, &self.config.transport, &link.remote, now.wall);
        let node = match checked {
            Ok(node) if node == self.node() => return self.refuse(id, HelloError::Own),
            Ok(node) if self.is_banned(now, &node) => return self.refuse(id, HelloError::Banned),
            Ok(node) => node,
            Err(error) => return self.refuse(id, error),
        };
        if let Some(other) = self.other_link(id, node) {
            if self.is_preferred(other, id) {
                return self.close(id, CloseReason::Duplicate);
            }
            self.close(other, CloseReason::Duplicate);
        }
        if let Some(link) = self.links.get_mut(&id) {
            link.node = Some(node);
        }
        self.event(Event::LinkUp { link: id, node });
        self.ping(now, id);
        self.introduce(id);
        self.offer_beacons(id);
        self.graft_missing(now);
        self.neighbour_came(now);
    }

    fn other_link(&self, id: LinkId, node: NodeId) -> Option<LinkId> {
        self.links.iter().find(|(i, l)| **i != id && l.is_up() && l.node == Some(node)).map(|(i, _)| *i)
    }

    /// Both ends keep the link that the smaller transport id dialled, and the newer of two that
    /// one side dialled: it reconnects because it lost the older.
    fn is_preferred(&self, old: LinkId, new: LinkId) -> bool {
        let (Some(old), Some(new)) = (self.links.get(&old), self.links.get(&new)) else { return false };
        let small = |link: &Link| link.outbound == (self.config.transport < link.remote);
        old.outbound != new.outbound && small(old)
    }

    fn refuse(&mut self, id: LinkId, error: HelloError) {
        if let Some(link) = self.links.get(&id) {
            self.book.refused(&link.remote);
        }
        self.event(Event::LinkRefused { link: id, error });
        self.close(id, CloseReason::Hello);
    }

    fn close(&mut self, id: LinkId, reason: CloseReason) {
        if let Some(link) = self.links.get_mut(&id)
            && !link.closing
        {
            link.closing = true;
            self.outputs.push_back(Output::Close { link: id, reason });
        }
    }

    fn is_banned(&self, now: Now, node: &NodeId) -> bool {
        self.banned.get(node).is_some_and(|until| *until > now.mono)
    }

    fn ban(&mut self, now: Now, node: NodeId, reason: CloseReason) {
        if self.banned.len() >= MAX_BANNED {
            self.banned.pop_first();
        }
        self.banned.insert(node, now.mono + self.config.links.ban_time);
        let links: Vec<_> =
            self.links.iter().filter(|(_, l)| l.node == Some(node)).map(|(id, _)| *id).collect();
        links.into_iter().for_each(|id| self.close(id, reason));
    }

    fn penalize(&mut self, now: Now, id: LinkId, points: u32) {
        let Some(link) = self.links.get_mut(&id) else { return };
        if link.penalize(&self.config.links, now.mono, points)
            && let Some(node) = link.node
        {
            self.ban(now, node, CloseReason::Misbehaved);
        }
    }

    // Sending.

    fn send(&mut self, id: LinkId, lane: Lane, message: &Message) {
        self.send_frame(id, lane, wire::to_bytes(message).into());
    }

    fn send_frame(&mut self, id: LinkId, lane: Lane, frame: Arc<[u8]>) {
        let Some(link) = self.links.get_mut(&id) else { return };
        if link.closing {
            return;
        }
        let dropped = link.push(&self.config.links, lane, frame);
        if dropped > 0 {
            self.event(Event::Overflow { link: id, bytes: dropped });
        }
        self.pump(id);
    }

    fn pump(&mut self, id: LinkId) {
        let Some(link) = self.links.get_mut(&id) else { return };
        if link.closing {
            return;
        }
        while let Some(frame) = link.pop(&self.config.links) {
            self.stats.sent_bytes += frame.len() as u64;
            self.outputs.push_back(Output::Send { link: id, frame });
        }
    }

    fn event(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }

    fn ping(&mut self, now: Now, id: LinkId) {
        let stamp = u64::try_from(now.mono.as_micros()).unwrap_or(u64::MAX);
        self.send(id, Lane::Control, &Message::Ping(stamp));
    }

    // Timers and chance.

    fn set(&mut self, at: Duration, timer: Timer) {
        self.timers.insert((at, timer));
    }

    fn fire(&mut self, now: Now) {
        while let Some((at, timer)) = self.timers.first().copied()
            && at <= now.mono
        {
            self.timers.pop_first();
            match timer {
                Timer::Hello(id) => {
                    if self.links.get(&id).is_some_and(|l| l.node.is_none() && !l.closing) {
                        self.refuse(id, HelloError::Timeout);
                    }
                }
                Timer::Announce => self.flush_announcements(),
                Timer::Pull(id) => self.pull_due(now, at, id),
                Timer::Sync => self.sync_due(now),
                Timer::Beacon => self.beacon_due(now, at),
                Timer::Exchange => self.exchange_due(now),
                Timer::Maintain => self.maintain(now),
            }
        }
    }

    fn maintain(&mut self, now: Now) {
        self.set(now.mono + MAINTAIN, Timer::Maintain);
        let config = &self.config.links;
        let (silence, interval) = (config.silence_timeout, config.ping_interval);
        let period = u64::try_from(interval.as_millis() / MAINTAIN.as_millis()).unwrap_or(1).max(1);
        let turn = now.mono.as_secs();
        let up: Vec<_> = self.links.iter().filter(|(_, l)| l.is_up()).map(|(id, l)| (*id, l.heard)).collect();
        for (id, heard) in up {
            if now.mono.saturating_sub(heard) > silence {
                self.close(id, CloseReason::Silent);
            } else if (turn + id.0).is_multiple_of(period) {
                self.ping(now, id);
            }
        }
        self.banned.retain(|_, until| *until > now.mono);
        self.graft_missing(now);
        self.expire_beacons(now);
        self.dial_more(now);
    }

    fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.rng.next_u64() % bound).unwrap_or_default()
    }

    /// A time drawn from half to one and a half of `mean`.
    fn spread(&mut self, mean: Duration) -> Duration {
        let thousandths = 500 + u32::try_from(self.rng.next_u64() % 1001).unwrap_or_default();
        mean * thousandths / 1000
    }

    /// Up to `count` random links out of `links`.
    fn choose(&mut self, mut links: Vec<LinkId>, count: usize) -> Vec<LinkId> {
        for at in 0..links.len().min(count) {
            let other = at + self.below(links.len() - at);
            links.swap(at, other);
        }
        links.truncate(count);
        links
    }

    fn up(&self) -> Vec<LinkId> {
        self.links.iter().filter(|(_, l)| l.is_up()).map(|(id, _)| *id).collect()
    }
}
