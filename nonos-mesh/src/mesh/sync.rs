//! Anti-entropy: two neighbours compare state digests, then bucket digests, then ids, and pull
//! what they lack through the same check as everything else.

use core::time::Duration;

use nonos_identity::Verified;

use super::link::Lane;
use super::{Mesh, PENALTY_PROTOCOL, Timer};
use crate::digest::{Index, StateDigest, bounds, root_of};
use crate::io::{Event, LinkId, Now};
use crate::item::{Collection, Item, ItemId, ItemKind};
use crate::message::{IdRange, Message};

/// Frames of ids sent in one round.
const MAX_ID_FRAMES: usize = 8;
/// A collection that changed more recently is compared again before its buckets are asked for:
/// most differences are items on their way.
const SETTLE: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Sync {
    indices: Vec<(Collection, Index)>,
    changed: Option<Duration>,
    /// The neighbour to compare with next, after a difference.
    focus: Option<LinkId>,
}

impl Sync {
    pub(super) fn new() -> Self {
        Self { indices: Collection::ALL.map(|c| (c, Index::new())).into(), changed: None, focus: None }
    }

    fn index(&mut self, collection: Collection) -> Option<&mut Index> {
        self.indices.get_mut(collection.index()).map(|(_, index)| index)
    }

    pub(super) fn states(&mut self) -> Vec<StateDigest> {
        self.indices.iter_mut().map(|(collection, index)| index.digest(*collection)).collect()
    }

    pub(super) fn holds(&self, id: &ItemId) -> bool {
        self.indices.iter().any(|(_, index)| index.contains(id))
    }

    /// A kind of the collection that holds the id: enough to choose a lane.
    pub(super) fn kind_hint(&self, id: &ItemId) -> Option<ItemKind> {
        let (collection, _) = self.indices.iter().find(|(_, index)| index.contains(id))?;
        Some(match collection {
            Collection::Receipts => ItemKind::Receipt,
            Collection::Manifests => ItemKind::Manifest,
            Collection::Attestations => ItemKind::Attestation,
            Collection::Revocations => ItemKind::Revocation,
            Collection::App => ItemKind::App(0),
        })
    }

    pub(super) fn is_full(&self, kind: ItemKind, limit: usize) -> bool {
        let index = kind.collection().and_then(|c| self.indices.get(c.index()));
        index.is_some_and(|(_, index)| index.len() >= limit)
    }

    pub(super) fn hold(&mut self, item: &Verified<Item>) {
        if let Some(index) = item.kind().collection().and_then(|c| self.index(c)) {
            index.insert(item.id());
        }
    }

    pub(super) fn drop_id(&mut self, id: &ItemId) {
        self.indices.iter_mut().for_each(|(_, index)| {
            index.remove(id);
        });
    }
}

impl Mesh {
    pub(super) fn held(&mut self, collection: Collection, ids: &[ItemId]) {
        let limit = self.config.sync.max_items;
        if let Some(index) = self.sync.index(collection) {
            for id in ids {
                if index.len() < limit {
                    index.insert(*id);
                }
            }
        }
    }

    pub(super) fn schedule_sync(&mut self, now: Duration) {
        let mean = self.config.sync.interval / if self.sync.focus.is_some() { 4 } else { 1 };
        let wait = self.spread(mean);
        self.set(now + wait, Timer::Sync);
    }

    pub(super) fn sync_due(&mut self, now: Now) {
        let focus = self.sync.focus.take().filter(|id| self.links.get(id).is_some_and(super::Link::is_up));
        let up = self.up();
        let link = focus.or_else(|| self.choose(up, 1).first().copied());
        if let Some(link) = link {
            let states = self.sync.states();
            self.send(link, Lane::Control, &Message::States { answer: false, states });
        }
        self.schedule_sync(now.mono);
    }

    pub(super) fn states_heard(&mut self, now: Now, id: LinkId, answer: bool, states: &[StateDigest]) {
        let own = self.sync.states();
        if !answer {
            self.send(id, Lane::Control, &Message::States { answer: true, states: own.clone() });
        }
        let theirs = |c| states.iter().find(|s| s.collection == c);
        let differing: Vec<Collection> =
            own.iter().filter(|s| theirs(s.collection) != Some(s)).map(|s| s.collection).collect();
        let Some(link) = self.links.get_mut(&id) else { return };
        let Some(node) = link.node else { return };
        let was = link.converged.replace(differing.is_empty());
        if differing.is_empty() {
            link.diverged_rounds = 0;
            if was != Some(true) {
                self.event(Event::Converged { node });
            }
            return;
        }
        link.diverged_rounds += u32::from(answer);
        let again = link.diverged_rounds > 1;
        if was != Some(false) {
            self.event(Event::Diverged { node, collections: differing.clone() });
        }
        // The side that began goes on: its rounds fill the gaps of both.
        if answer {
            self.sync.focus = Some(id);
            let settled = self.sync.changed.is_none_or(|at| now.mono.saturating_sub(at) >= SETTLE);
            if settled || again {
                self.send(id, Lane::Control, &Message::Ask(differing));
            }
        }
    }

    pub(super) fn asked(&mut self, id: LinkId, collections: &[Collection]) {
        for collection in collections {
            let Some(index) = self.sync.index(*collection) else { continue };
            let state = index.digest(*collection);
            let digests = index.buckets().to_vec();
            self.send(id, Lane::Bulk, &Message::Buckets { state, digests });
        }
    }

    pub(super) fn buckets_heard(
        &mut self,
        now: Now,
        id: LinkId,
        state: StateDigest,
        digests: &[nonos_identity::Digest],
    ) {
        if root_of(digests) != state.root {
            return self.penalize(now, id, PENALTY_PROTOCOL);
        }
        let Some(index) = self.sync.index(state.collection) else { return };
        let own = index.buckets().to_vec();
        let differing = (0..=u8::MAX).zip(own.iter().zip(digests)).filter(|(_, (a, b))| a != b);
        let mut buckets: Vec<u8> = differing.map(|(bucket, _)| bucket).collect();
        // Different buckets each round, should there be more than one round takes.
        if !buckets.is_empty() {
            let start = self.below(buckets.len());
            buckets.rotate_left(start);
        }
        buckets.truncate(self.config.sync.max_buckets);
        let max_ids = self.config.sync.max_ids;
        let Some(index) = self.sync.index(state.collection) else { return };
        let frames = list(index, &buckets, max_ids);
        for ranges in frames {
            self.send(id, Lane::Bulk, &Message::Ids { collection: state.collection, ranges });
        }
    }

    pub(super) fn ids_heard(&mut self, now: Now, id: LinkId, collection: Collection, ranges: &[IdRange]) {
        let (mut offers, mut wants) = (Vec::new(), Vec::new());
        let Some(index) = self.sync.index(collection) else { return };
        for IdRange { first, last, ids } in ranges {
            let listed: std::collections::BTreeSet<_> = ids.iter().collect();
            let lacking = index.range(*first, *last).filter(|own| !listed.contains(own));
            offers.extend(lacking.take(Message::MAX_IDS.saturating_sub(offers.len())).copied());
            wants.extend(ids.iter().filter(|i| !index.contains(i)).copied());
        }
        wants.retain(|i| !self.is_refused(now, i));
        self.have(now, id, &wants, true);
        if !offers.is_empty() {
            self.send(id, Lane::Bulk, &Message::Offer(offers));
        }
    }

    /// Remembers that a collection changed, for the settling time.
    pub(super) const fn changed(&mut self, now: Now) {
        self.sync.changed = Some(now.mono);
    }
}

/// Lists the ids of buckets as ranges, at most `max_ids` per frame; a long bucket is cut into
/// several ranges, and what does not fit into [`MAX_ID_FRAMES`] waits for the next round.
fn list(index: &Index, buckets: &[u8], max_ids: usize) -> Vec<Vec<IdRange>> {
    let mut frames = vec![Vec::new()];
    let mut room = max_ids;
    for bucket in buckets {
        let (mut first, end) = bounds(*bucket);
        let mut ids = index.range(first, end).copied().peekable();
        loop {
            let part: Vec<ItemId> = ids.by_ref().take(room).collect();
            room -= part.len();
            let more = ids.peek().is_some();
            let last = if more { part.last().copied() } else { Some(end) };
            if let (Some(frame), Some(last)) = (frames.last_mut(), last) {
                frame.push(IdRange { first, last, ids: part });
                first = successor(last);
            }
            if !more {
                break;
            }
            if frames.len() == MAX_ID_FRAMES {
                return frames;
            }
            frames.push(Vec::new());
            room = max_ids;
        }
    }
    frames.retain(|frame| !frame.is_empty());
    frames
}

/// The next id in order.
fn successor(id: ItemId) -> ItemId {
    let mut bytes = *id.as_bytes();
    for byte in bytes.iter_mut().rev() {
        *byte = byte.wrapping_add(1);
        if *byte != 0 {
            break;
        }
    }
    ItemId::from_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_cover_buckets_without_gaps() {
        let mut index = Index::new();
        let ids: Vec<_> = (0..2_000u32).map(|i| ItemId::of(ItemKind::Receipt, &i.to_le_bytes())).collect();
        ids.iter().for_each(|id| assert!(index.insert(*id)));
        let buckets: Vec<u8> = (0..=40).collect();
        for max_ids in [3, 64, 1024] {
            let frames = list(&index, &buckets, max_ids);
            assert!(frames.len() <= MAX_ID_FRAMES);
            let ranges: Vec<_> = frames.iter().flatten().collect();
            for pair in ranges.windows(2) {
                let border = bounds(pair[1].first.as_bytes()[0]).0;
                assert!(pair[1].first == successor(pair[0].last) || pair[1].first == border);
            }
            let mut listed = 0;
            for range in frames.iter().flatten() {
                let held: Vec<_> = index.range(range.first, range.last).copied().collect();
                assert_eq!(held, range.ids, "a range lists all and only its ids");
                listed += range.ids.len();
            }
            assert!(frames.iter().all(|f| f.iter().map(|r| r.ids.len()).sum::<usize>() <= max_ids));
            let all = ids.iter().filter(|id| id.as_bytes()[0] <= 40).count();
            assert_eq!(listed, all.min(MAX_ID_FRAMES * max_ids), "max_ids {max_ids}");
        }
    }
}
