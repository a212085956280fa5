//! Items: full pushes along the eager links, announcements to some lazy ones, pulls for the rest;
//! nothing is stored, announced or forwarded before its check.

use core::convert::Infallible;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use nonos_identity::{Unverified, Verified, wire};

use super::link::Lane;
use super::{Mesh, PENALTY_PROTOCOL, PENALTY_REJECTED, Timer};
use crate::check::Verdict;
use crate::io::{Event, LinkId, Now, Output};
use crate::item::{Item, ItemId, ItemKind};
use crate::message::Message;

/// Shortest wait for the answer to a pull.
const ANSWER_MIN: Duration = Duration::from_millis(250);
/// Pulls of one item before it is left to anti-entropy.
const MAX_ATTEMPTS: u32 = 8;
/// Items one frame may ask for before the answers go by the bulk lane.
const BULK: usize = 8;
/// Store reads in progress; stops a neighbour from queueing reads without end.
const MAX_LOADS: usize = 1024;
/// How long a pruned link stays lazy.
const PRUNE_BACKOFF: Duration = Duration::from_secs(60);

/// What is known of an id.
#[derive(Debug)]
enum Seen {
    /// In check; these links have it.
    Checking(BTreeSet<LinkId>),
    Accepted,
    /// Rejected, ignored or forgotten; not looked at again before then.
    Refused(Duration),
}

#[derive(Debug)]
struct Pull {
    holders: VecDeque<LinkId>,
    /// Who announced it first: its share of the pulls is bounded.
    first: LinkId,
    asked: Option<LinkId>,
    attempts: u32,
    due: Duration,
    /// Found by anti-entropy.
    repair: bool,
}

#[derive(Debug)]
struct Checking {
    item: Item,
    link: Option<LinkId>,
    repair: bool,
}

#[derive(Debug, Default)]
pub(super) struct Gossip {
    seen: BTreeMap<ItemId, Seen>,
    seen_order: VecDeque<ItemId>,
    /// Items the application forgot; they are never taken again.
    buried: BTreeSet<ItemId>,
    buried_order: VecDeque<ItemId>,
    cache: BTreeMap<ItemId, Item>,
    cache_order: VecDeque<ItemId>,
    cache_bytes: usize,
    pulls: BTreeMap<ItemId, Pull>,
    wants: BTreeMap<LinkId, Vec<ItemId>>,
    checking: BTreeMap<u64, Checking>,
    unverified_bytes: usize,
    loads: BTreeMap<u64, (LinkId, ItemId, Lane)>,
    /// Tickets of checks and loads.
    next_ticket: u64,
    /// Patience with announced items, in thousandths of a round trip: grows when a pull proves
    /// needless because the push was on its way.
    patience: u32,
    announcing: bool,
}

impl Gossip {
    fn ticket(&mut self) -> u64 {
        self.next_ticket += 1;
        self.next_ticket
    }

    fn note(&mut self, capacity: usize, id: ItemId, seen: Seen) {
        if self.seen.insert(id, seen).is_none() {
            self.seen_order.push_back(id);
            while self.seen_order.len() > capacity
                && let Some(oldest) = self.seen_order.pop_front()
            {
                self.seen.remove(&oldest);
            }
        }
    }

    /// Drops what was known of an id; its place in the order stays until it is the oldest.
    fn unsee(&mut self, id: &ItemId) {
        self.seen.remove(id);
    }

    fn bury(&mut self, capacity: usize, id: ItemId) {
        if self.buried.insert(id) {
            self.buried_order.push_back(id);
            while self.buried_order.len() > capacity
                && let Some(oldest) = self.buried_order.pop_front()
            {
                self.buried.remove(&oldest);
            }
        }
    }

    fn keep(&mut self, capacity_bytes: usize, item: Item) {
        let len = item.bytes().len();
        if self.cache.insert(item.id(), item.clone()).is_none() {
            self.cache_order.push_back(item.id());
            self.cache_bytes += len;
        }
        while self.cache_bytes > capacity_bytes
            && let Some(oldest) = self.cache_order.pop_front()
        {
            self.cache_bytes -= self.cache.remove(&oldest).map_or(0, |i| i.bytes().len());
        }
    }

    fn uncache(&mut self, id: &ItemId) {
        if let Some(item) = self.cache.remove(id) {
            self.cache_bytes -= item.bytes().len();
            self.cache_order.retain(|i| i != id);
        }
    }

    pub(super) fn link_gone(&mut self, link: LinkId) {
        self.wants.remove(&link);
    }
}

impl Mesh {
    pub(super) fn publish(&mut self, item: Item) {
        // Beacons are made here from their content, never from outside.
        if item.kind() != ItemKind::Beacon && !self.is_known(&item.id()) {
            self.check(item, None, false);
        }
    }

    fn is_known(&self, id: &ItemId) -> bool {
        self.gossip.seen.contains_key(id) || self.sync.holds(id) || self.gossip.buried.contains(id)
    }

    /// An item arrived, unasked or in answer to a pull.
    pub(super) fn item_heard(&mut self, now: Now, link: LinkId, kind: ItemKind, bytes: Vec<u8>, reply: bool) {
        let Ok(item) = Item::new(kind, bytes) else {
            return self.penalize(now, link, PENALTY_PROTOCOL);
        };
        let id = item.id();
        self.refresh_refusal(now, &id);
        if self.is_known(&id) {
            return self.duplicate(now, link, &id, reply);
        }
        let asked = self.gossip.pulls.get(&id).is_some_and(|p| p.asked == Some(link));
        let len = item.bytes().len();
        let gossip = &self.config.gossip;
        let Some(l) = self.links.get_mut(&link) else { return };
        let fits = self.gossip.unverified_bytes + len <= gossip.unverified_bytes
            && l.unverified_bytes + len <= gossip.unverified_bytes_per_link;
        if !fits || (!asked && !l.take_token(&self.config.links, now.mono)) {
            self.stats.over_budget += 1;
            return;
        }
        let repair = match self.take_pull(&id) {
            Some(pull) => {
                self.judge_pull(&pull, link);
                pull.repair
            }
            None => false,
        };
        if kind == ItemKind::Beacon {
            self.beacon_heard(now, link, item);
        } else {
            self.check(item, Some(link), repair);
        }
    }

    fn duplicate(&mut self, now: Now, link: LinkId, id: &ItemId, reply: bool) {
        self.stats.duplicates += 1;
        if let Some(Seen::Checking(links)) = self.gossip.seen.get_mut(id) {
            links.insert(link);
        }
        if !reply && self.eager_links() > self.config.gossip.eager {
            self.make_lazy(now, link);
            self.send(link, Lane::Control, &Message::Prune);
        }
    }

    /// Patience follows whether pulls were needed (multiplicative up, additive down).
    fn judge_pull(&mut self, pull: &Pull, from: LinkId) {
        let patience = self.gossip.patience;
        match pull.asked {
            Some(asked) if asked == from => self.gossip.patience = patience.saturating_sub(20),
            Some(_) => self.gossip.patience = (patience + patience / 10 + 100).min(10_000),
            None => {}
        }
    }

    fn check(&mut self, item: Item, link: Option<LinkId>, repair: bool) {
        let len = item.bytes().len();
        let own = self.node();
        let from = link.and_then(|id| self.links.get_mut(&id)).map_or(own, |l| {
            l.unverified_bytes += len;
            l.node.unwrap_or(own)
        });
        self.gossip.unverified_bytes += len;
        let holders = link.into_iter().collect();
        self.gossip.note(self.config.gossip.seen_capacity, item.id(), Seen::Checking(holders));
        let ticket = self.gossip.ticket();
        let cost = if matches!(item.kind(), ItemKind::Receipt) { 40 } else { 1 };
        let (kind, bytes) = (item.kind(), item.bytes().clone());
        self.gossip.checking.insert(ticket, Checking { item, link, repair });
        self.outputs.push_back(Output::Check { ticket, kind, bytes, from, link, cost });
    }

    pub(super) fn checked(&mut self, now: Now, ticket: u64, verdict: Verdict) {
        let Some(Checking { item, link, repair }) = self.gossip.checking.remove(&ticket) else { return };
        let len = item.bytes().len();
        self.gossip.unverified_bytes -= len;
        let own = self.node();
        let from = link.and_then(|id| self.links.get_mut(&id)).map_or(own, |l| {
            l.unverified_bytes = l.unverified_bytes.saturating_sub(len);
            l.node.unwrap_or(own)
        });
        let id = item.id();
        match verdict {
            Verdict::Accept => {
                if self.sync.is_full(item.kind(), self.config.sync.max_items) {
                    return self.refuse_item(now, id);
                }
                let Ok(item) = Unverified::new(item).check(|_| Ok::<(), Infallible>(()));
                self.stats.repaired += u64::from(repair);
                self.sync.hold(&item);
                self.changed(now);
                self.outputs.push_back(Output::Store(item.clone()));
                self.event(Event::Accepted { item: item.clone(), from });
                self.spread_item(now, &item, repair);
            }
            Verdict::Reject(reason) => self.rejected(now, &item, link, reason),
            Verdict::Ignore => self.refuse_item(now, id),
            Verdict::Defer => self.gossip.unsee(&id),
        }
    }

    /// An item failed its check: it went nowhere, and who sent it pays.
    pub(super) fn rejected(&mut self, now: Now, item: &Item, link: Option<LinkId>, reason: &'static str) {
        self.stats.rejected += 1;
        self.refuse_item(now, item.id());
        let own = self.node();
        let from = link.and_then(|id| self.links.get(&id)).map_or(own, |l| l.node.unwrap_or(own));
        self.event(Event::Rejected { id: item.id(), kind: item.kind(), from, reason });
        if let Some(link) = link {
            self.penalize(now, link, PENALTY_REJECTED);
        }
    }

    pub(super) fn refuse_item(&mut self, now: Now, id: ItemId) {
        let until = now.mono + self.config.gossip.negative_ttl;
        self.gossip.note(self.config.gossip.seen_capacity, id, Seen::Refused(until));
    }

    fn refresh_refusal(&mut self, now: Now, id: &ItemId) {
        if matches!(self.gossip.seen.get(id), Some(Seen::Refused(until)) if *until <= now.mono) {
            self.gossip.unsee(id);
        }
    }

    pub(super) fn is_refused(&mut self, now: Now, id: &ItemId) -> bool {
        self.refresh_refusal(now, id);
        matches!(self.gossip.seen.get(id), Some(Seen::Refused(_))) || self.gossip.buried.contains(id)
    }

    /// Hands on an item that was checked on arrival.
    pub(super) fn spread_from(&mut self, now: Now, item: &Verified<Item>, link: LinkId) {
        let holders = BTreeSet::from([link]);
        self.gossip.note(self.config.gossip.seen_capacity, item.id(), Seen::Checking(holders));
        self.spread_item(now, item, false);
    }

    /// Hands a checked item on: whole to the eager links, announced to some lazy ones. What
    /// anti-entropy found is announced to all of them, for most neighbours have it.
    pub(super) fn spread_item(&mut self, now: Now, item: &Verified<Item>, repair: bool) {
        self.stats.accepted += 1;
        let capacity = self.config.gossip.seen_capacity;
        self.gossip.keep(self.config.gossip.cache_bytes, Item::clone(item));
        let id = item.id();
        let holders = match self.gossip.seen.get(&id) {
            Some(Seen::Checking(holders)) => holders.clone(),
            _ => BTreeSet::new(),
        };
        self.gossip.note(capacity, id, Seen::Accepted);
        let others = self.links.iter().filter(|(id, l)| l.is_up() && !holders.contains(id));
        let (eager, lazy): (Vec<_>, Vec<_>) = others.partition(|(_, l)| l.eager && !repair);
        let eager: Vec<_> = eager.into_iter().map(|(id, _)| *id).collect();
        let lazy: Vec<_> = lazy.into_iter().map(|(id, _)| *id).collect();
        let bytes = item.bytes().to_vec();
        let frame: Arc<[u8]> = wire::to_bytes(&Message::Push { kind: item.kind(), bytes }).into();
        for link in eager {
            self.send_frame(link, Lane::of(item.kind()), frame.clone());
        }
        let count = self.config.gossip.lazy + if repair { self.config.gossip.eager } else { 0 };
        for link in self.choose(lazy, count) {
            if let Some(l) = self.links.get_mut(&link) {
                l.announce.push(id);
            }
        }
        if !self.gossip.announcing {
            self.gossip.announcing = true;
            self.set(now.mono + self.config.gossip.announce_delay, Timer::Announce);
        }
    }

    pub(super) fn flush_announcements(&mut self) {
        self.gossip.announcing = false;
        for link in self.up() {
            let ids = self.links.get_mut(&link).map(|l| core::mem::take(&mut l.announce)).unwrap_or_default();
            for ids in ids.chunks(Message::MAX_IDS) {
                self.send(link, Lane::Control, &Message::Have(ids.to_vec()));
            }
        }
    }

    // Pulls.

    /// A neighbour has items; `offered` ones were found by anti-entropy and are asked for at once.
    pub(super) fn have(&mut self, now: Now, link: LinkId, ids: &[ItemId], offered: bool) {
        for id in ids {
            self.refresh_refusal(now, id);
            if let Some(Seen::Checking(holders)) = self.gossip.seen.get_mut(id) {
                holders.insert(link);
            } else if !self.is_known(id) {
                self.announced(now, link, *id, offered);
            }
        }
    }

    fn announced(&mut self, now: Now, link: LinkId, id: ItemId, offered: bool) {
        let config = &self.config.gossip;
        if let Some(pull) = self.gossip.pulls.get_mut(&id) {
            if pull.holders.len() < config.max_holders && !pull.holders.contains(&link) {
                pull.holders.push_back(link);
            }
            return;
        }
        let Some(l) = self.links.get_mut(&link) else { return };
        // A quarter at most for each neighbour: invented ids must not crowd out real ones.
        if self.gossip.pulls.len() >= config.max_pulls || l.pulls >= (config.max_pulls / 4).max(1) {
            self.stats.over_budget += 1;
            return;
        }
        l.pulls += 1;
        let wait = l.rtt * (1100 + self.gossip.patience) / 1000;
        let due = if offered { now.mono } else { now.mono + wait.max(config.pull_min) };
        let holders = VecDeque::from([link]);
        let pull = Pull { holders, first: link, asked: None, attempts: 0, due, repair: offered };
        self.gossip.pulls.insert(id, pull);
        if offered {
            self.pull_due(now, due, id);
        } else {
            self.set(due, Timer::Pull(id));
        }
    }

    fn take_pull(&mut self, id: &ItemId) -> Option<Pull> {
        let pull = self.gossip.pulls.remove(id)?;
        if let Some(first) = self.links.get_mut(&pull.first) {
            first.pulls = first.pulls.saturating_sub(1);
        }
        Some(pull)
    }

    pub(super) fn pull_due(&mut self, now: Now, at: Duration, id: ItemId) {
        let links = &self.links;
        let Some(pull) = self.gossip.pulls.get_mut(&id) else { return };
        if pull.due != at {
            return;
        }
        pull.holders.retain(|link| links.get(link).is_some_and(super::link::Link::is_up));
        let holder = pull.holders.pop_front();
        let Some(holder) = holder.filter(|_| pull.attempts < MAX_ATTEMPTS) else {
            self.take_pull(&id);
            return;
        };
        pull.holders.push_back(holder);
        pull.asked = Some(holder);
        let rtt = links.get(&holder).map_or(ANSWER_MIN, |l| l.rtt);
        let wait = (rtt * 2).max(ANSWER_MIN) * (1 << pull.attempts.min(5));
        pull.attempts += 1;
        pull.due = now.mono + wait;
        let (due, repair) = (pull.due, pull.repair);
        self.stats.pulls += 1;
        self.set(due, Timer::Pull(id));
        self.gossip.wants.entry(holder).or_default().push(id);
        if !repair && self.eager_links() < self.config.gossip.eager {
            self.graft(now, holder);
        }
    }

    pub(super) fn flush_wants(&mut self) {
        for (link, ids) in core::mem::take(&mut self.gossip.wants) {
            for ids in ids.chunks(Message::MAX_IDS) {
                self.send(link, Lane::Control, &Message::Want(ids.to_vec()));
            }
        }
    }

    pub(super) fn want(&mut self, link: LinkId, ids: &[ItemId]) {
        let mut missing = Vec::new();
        for id in ids {
            let item = self.gossip.cache.get(id).or_else(|| self.beacons.item(id)).cloned();
            let lane = |kind| if ids.len() > BULK { Lane::Bulk } else { Lane::of(kind) };
            if let Some(item) = item {
                let reply = Message::Reply { kind: item.kind(), bytes: item.bytes().to_vec() };
                self.send(link, lane(item.kind()), &reply);
            } else if let Some(kind) = self.sync.kind_hint(id).filter(|_| self.gossip.loads.len() < MAX_LOADS)
            {
                let request = self.gossip.ticket();
                self.gossip.loads.insert(request, (link, *id, lane(kind)));
                self.outputs.push_back(Output::Load { request, id: *id });
            } else {
                missing.push(*id);
            }
        }
        if !missing.is_empty() {
            self.send(link, Lane::Control, &Message::Missing(missing));
        }
    }

    pub(super) fn loaded(&mut self, request: u64, item: Option<Item>) {
        let Some((link, id, lane)) = self.gossip.loads.remove(&request) else { return };
        match item {
            Some(item) => {
                let reply = Message::Reply { kind: item.kind(), bytes: item.bytes().to_vec() };
                self.send(link, lane, &reply);
            }
            None => {
                // The store lost it: stop claiming it, so that anti-entropy brings it back.
                self.unhold(&id);
                self.send(link, Lane::Control, &Message::Missing(vec![id]));
            }
        }
    }

    pub(super) fn missing(&mut self, now: Now, link: LinkId, ids: &[ItemId]) {
        for id in ids {
            let Some(pull) = self.gossip.pulls.get_mut(id) else { continue };
            pull.holders.retain(|holder| *holder != link);
            if pull.asked == Some(link) {
                pull.due = now.mono;
                self.pull_due(now, now.mono, *id);
            }
        }
    }

    /// An item is no longer held: the store failed or lost it.
    pub(super) fn unhold(&mut self, id: &ItemId) {
        self.sync.drop_id(id);
        self.gossip.unsee(id);
        self.gossip.uncache(id);
    }

    pub(super) fn forget(&mut self, id: &ItemId) {
        self.unhold(id);
        self.gossip.bury(self.config.gossip.seen_capacity, *id);
        self.outputs.push_back(Output::Remove(*id));
    }

    // The tree.

    fn eager_links(&self) -> usize {
        self.links.values().filter(|l| l.is_up() && l.eager).count()
    }

    fn make_lazy(&mut self, now: Now, link: LinkId) {
        if let Some(l) = self.links.get_mut(&link) {
            l.eager = false;
            l.graft_after = now.mono + PRUNE_BACKOFF;
        }
    }

    fn graft(&mut self, now: Now, link: LinkId) {
        if let Some(l) = self.links.get_mut(&link)
            && l.is_up()
            && !l.eager
            && l.graft_after <= now.mono
        {
            l.eager = true;
            self.send(link, Lane::Control, &Message::Graft);
        }
    }

    /// Fills the eager set up to its size with random links.
    pub(super) fn graft_missing(&mut self, now: Now) {
        let lacking = self.config.gossip.eager.saturating_sub(self.eager_links());
        if lacking == 0 {
            return;
        }
        let candidates: Vec<_> = self
            .links
            .iter()
            .filter(|(_, l)| l.is_up() && !l.eager && l.graft_after <= now.mono)
            .map(|(id, _)| *id)
            .collect();
        for link in self.choose(candidates, lacking) {
            self.graft(now, link);
        }
    }

    pub(super) fn grafted(&mut self, link: LinkId) {
        // Some slack, or two full neighbours of a lonely node would both send it away.
        let full = self.eager_links() >= self.config.gossip.eager * 2;
        let Some(l) = self.links.get_mut(&link) else { return };
        if l.eager {
            return;
        }
        if full {
            self.send(link, Lane::Control, &Message::Prune);
        } else {
            l.eager = true;
        }
    }

    pub(super) fn pruned(&mut self, now: Now, link: LinkId) {
        self.make_lazy(now, link);
    }
}
