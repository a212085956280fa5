//! Overlay beacons: checked here, kept until they expire, sent on the Trickle timer (RFC 6206).

use core::convert::Infallible;
use core::time::Duration;
use std::collections::BTreeMap;

use nonos_identity::{NodeId, Unverified, Verified};

use super::link::Lane;
use super::{Mesh, Timer};
use crate::beacon::{Beacon, BeaconBody};
use crate::io::{Event, LinkId, Now};
use crate::item::{Item, ItemId, ItemKind};
use crate::message::Message;

#[derive(Debug)]
struct Entry {
    beacon: Beacon,
    item: Verified<Item>,
}

#[derive(Debug, Default)]
pub(super) struct Beacons {
    entries: BTreeMap<NodeId, Entry>,
    /// The node of each kept beacon item.
    ids: BTreeMap<ItemId, NodeId>,
    own: Option<BeaconBody>,
    /// Content that no beacon has carried yet: it is sent whatever others say.
    news: bool,
    sent: Option<Duration>,
    interval: Duration,
    interval_end: Duration,
    /// When in the interval the beacon is due; `None` once that moment passed.
    due: Option<Duration>,
    heard: u32,
}

impl Beacons {
    pub(super) fn all(&self) -> impl Iterator<Item = (&NodeId, &Beacon)> {
        self.entries.iter().map(|(node, entry)| (node, &entry.beacon))
    }

    pub(super) fn item(&self, id: &ItemId) -> Option<&Item> {
        let node = self.ids.get(id)?;
        self.entries.get(node).map(|entry| &*entry.item)
    }

    fn insert(&mut self, beacon: Beacon, item: Verified<Item>) {
        let (node, id) = (beacon.node, item.id());
        if let Some(old) = self.entries.insert(node, Entry { beacon, item }) {
            self.ids.remove(&old.item.id());
        }
        self.ids.insert(id, node);
    }

    fn remove(&mut self, node: &NodeId) {
        if let Some(old) = self.entries.remove(node) {
            self.ids.remove(&old.item.id());
        }
    }
}

impl Mesh {
    pub(super) fn beacon_heard(&mut self, now: Now, link: LinkId, item: Item) {
        let id = item.id();
        let beacon = match Beacon::check(item.bytes(), &self.config.network, now.wall) {
            Ok(beacon) => beacon,
            Err(error) if error.is_clock() => return self.refuse_item(now, id),
            Err(_) => return self.rejected(now, &item, Some(link), "beacon"),
        };
        let node = beacon.node;
        let known = self.beacons.entries.get(&node).map(|entry| entry.beacon.seq);
        let stale = known.is_some_and(|seq| seq >= beacon.seq);
        // A full table keeps whom it knows: minting nodes must not push out real ones. Neighbours
        // always find room, their number is bounded by the links.
        let neighbour = self.links.values().any(|l| l.node == Some(node));
        let full =
            known.is_none() && !neighbour && self.beacons.entries.len() >= self.config.beacon.max_peers;
        if stale || full || node == self.node() || self.is_banned(now, &node) {
            return self.refuse_item(now, id);
        }
        let Ok(item) = Unverified::new(item).check(|_| Ok::<(), Infallible>(()));
        self.beacons.heard = self.beacons.heard.saturating_add(1);
        self.beacons.insert(beacon.clone(), item.clone());
        self.event(Event::Beacon { node, beacon: Box::new(beacon) });
        self.spread_from(now, &item, link);
    }

    /// Tells a new neighbour which beacons are known.
    pub(super) fn offer_beacons(&mut self, link: LinkId) {
        let ids: Vec<_> = self.beacons.ids.keys().copied().collect();
        for ids in ids.chunks(Message::MAX_IDS) {
            self.send(link, Lane::Control, &Message::Have(ids.to_vec()));
        }
    }

    pub(super) fn set_beacon(&mut self, now: Now, body: BeaconBody) {
        // A body beyond its limits is the caller's mistake; what was set before stays.
        if body.check().is_ok() && self.beacons.own.as_ref() != Some(&body) {
            self.beacons.own = Some(body);
            self.refresh_beacon(now);
        }
    }

    /// The content changed: say so soon, whatever was heard.
    pub(super) fn refresh_beacon(&mut self, now: Now) {
        if self.beacons.own.is_some() {
            self.beacons.news = true;
            self.restart_trickle(now);
        }
    }

    /// A new neighbour is an inconsistency in the sense of RFC 6206: the interval shrinks.
    pub(super) fn neighbour_came(&mut self, now: Now) {
        if self.beacons.own.is_some() && self.beacons.interval > self.config.beacon.interval_min {
            self.restart_trickle(now);
        }
    }

    fn restart_trickle(&mut self, now: Now) {
        self.beacons.interval = self.config.beacon.interval_min;
        self.begin_interval(now);
    }

    fn begin_interval(&mut self, now: Now) {
        let interval = self.beacons.interval;
        let half = interval / 2;
        let part = u32::try_from(self.below(1000)).unwrap_or_default();
        let due = now.mono + half + half * part / 1000;
        self.beacons.heard = 0;
        self.beacons.due = Some(due);
        self.beacons.interval_end = now.mono + interval;
        self.set(due, Timer::Beacon);
        self.set(now.mono + interval, Timer::Beacon);
    }

    pub(super) fn beacon_due(&mut self, now: Now, at: Duration) {
        if self.beacons.due == Some(at) {
            self.beacons.due = None;
            let config = &self.config.beacon;
            let half_life = config.lifetime / 2;
            let fading = self.beacons.sent.is_none_or(|sent| now.mono.saturating_sub(sent) >= half_life);
            if self.beacons.news || fading || self.beacons.heard < config.redundancy {
                self.send_beacon(now);
            }
        } else if self.beacons.due.is_none() && self.beacons.interval_end == at {
            self.beacons.interval = (self.beacons.interval * 2).min(self.config.beacon.interval_max);
            self.begin_interval(now);
        }
    }

    fn send_beacon(&mut self, now: Now) {
        let Some(body) = self.beacons.own.clone() else { return };
        let node = self.node();
        // Seconds since 1970 keep the sequence growing over restarts.
        let last = self.beacons.entries.get(&node).map_or(0, |entry| entry.beacon.seq);
        let seq = now.wall.as_secs().max(last.saturating_add(1));
        let states = self.sync.states();
        let expiry = now.wall.saturating_add(self.config.beacon.lifetime);
        let beacon = Beacon { node, body: body.clone(), states: states.clone(), seq, expiry };
        let config = &self.config;
        let sealed = Beacon::seal(
            &config.signer,
            &config.certificate,
            &config.network,
            &body,
            states,
            seq,
            now.wall,
            config.beacon.lifetime,
        );
        let Some(item) = sealed.ok().and_then(|bytes| Item::new(ItemKind::Beacon, bytes).ok()) else {
            return;
        };
        let Ok(item) = Unverified::new(item).check(|_| Ok::<(), Infallible>(()));
        self.beacons.news = false;
        self.beacons.sent = Some(now.mono);
        self.beacons.insert(beacon, item.clone());
        self.spread_item(now, &item, false);
    }

    pub(super) fn expire_beacons(&mut self, now: Now) {
        let gone = self.beacons.entries.iter().filter(|(_, entry)| entry.beacon.expiry <= now.wall);
        let gone: Vec<_> = gone.map(|(node, _)| *node).collect();
        for node in gone {
            self.beacons.remove(&node);
            self.event(Event::BeaconExpired { node });
        }
    }
}
