//! One link: its queues, its budgets and what is known about the peer.

use core::time::Duration;
use std::collections::VecDeque;
use std::sync::Arc;

use nonos_identity::NodeId;

use crate::config::LinkConfig;
use crate::contact::TransportId;
use crate::item::{ItemId, ItemKind};

/// What goes first. The first two are strict; the others share the rest 8 : 3 : 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Lane {
    Control,
    Proof,
    Manifest,
    Plain,
    Bulk,
}

impl Lane {
    const COUNT: usize = 5;
    const STRICT: usize = 2;
    /// Cost of a byte in each lane's virtual time: 24 / weight, unused in the strict lanes.
    const COST: [u64; Self::COUNT] = [0, 0, 3, 8, 24];

    pub(super) const fn of(kind: ItemKind) -> Self {
        match kind {
            ItemKind::Receipt | ItemKind::Revocation => Self::Proof,
            ItemKind::Manifest => Self::Manifest,
            ItemKind::Beacon | ItemKind::Attestation | ItemKind::App(_) => Self::Plain,
        }
    }
}

#[derive(Debug, Default)]
struct Queue {
    frames: VecDeque<Arc<[u8]>>,
    bytes: usize,
    /// Bytes sent, weighted: the lane that is furthest behind goes next.
    virtual_time: u64,
}

#[derive(Debug)]
pub(super) struct Link {
    pub(super) remote: TransportId,
    pub(super) outbound: bool,
    /// Who is there, once the hello was accepted.
    pub(super) node: Option<NodeId>,
    pub(super) closing: bool,
    pub(super) heard: Duration,
    pub(super) eager: bool,
    /// A pruned link is not made eager again before this.
    pub(super) graft_after: Duration,
    pub(super) rtt: Duration,
    pub(super) announce: Vec<ItemId>,
    /// Pulls that this peer was the first to announce.
    pub(super) pulls: usize,
    pub(super) unverified_bytes: usize,
    /// What the last comparison of state digests said, and how often in a row they differed.
    pub(super) converged: Option<bool>,
    pub(super) diverged_rounds: u32,
    /// Whether this peer's own contact was passed on already.
    pub(super) introduced: bool,
    queues: [Queue; Lane::COUNT],
    in_flight: usize,
    /// Thousandths of items that may still come unasked.
    tokens: u64,
    tokens_at: Duration,
    penalty: u32,
    penalty_at: Duration,
}

impl Link {
    /// Round trip assumed before the first pong.
    const FIRST_RTT: Duration = Duration::from_millis(100);

    pub(super) fn new(config: &LinkConfig, remote: TransportId, outbound: bool, now: Duration) -> Self {
        Self {
            remote,
            outbound,
            node: None,
            closing: false,
            heard: now,
            eager: false,
            graft_after: Duration::ZERO,
            rtt: Self::FIRST_RTT,
            announce: Vec::new(),
            pulls: 0,
            unverified_bytes: 0,
            converged: None,
            diverged_rounds: 0,
            introduced: false,
            queues: Default::default(),
            in_flight: 0,
            tokens: u64::from(config.items_burst) * 1000,
            tokens_at: now,
            penalty: 0,
            penalty_at: now,
        }
    }

    pub(super) const fn is_up(&self) -> bool {
        self.node.is_some() && !self.closing
    }

    /// Queues a frame; returns the bytes of older frames dropped to make room.
    pub(super) fn push(&mut self, config: &LinkConfig, lane: Lane, frame: Arc<[u8]>) -> usize {
        let floor = self.queues.iter().filter(|q| q.bytes > 0).map(|q| q.virtual_time).min();
        let Some(queue) = self.queues.get_mut(lane as usize) else { return 0 };
        if queue.bytes == 0 {
            // A lane that was idle earns no credit for it.
            queue.virtual_time = queue.virtual_time.max(floor.unwrap_or_default());
        }
        queue.bytes += frame.len();
        queue.frames.push_back(frame);
        let mut dropped = 0;
        while queue.bytes > config.queue_bytes && queue.frames.len() > 1 {
            let len = queue.frames.pop_front().map_or(0, |f| f.len());
            queue.bytes -= len;
            dropped += len;
        }
        dropped
    }

    /// The next frame that the window lets out.
    pub(super) fn pop(&mut self, config: &LinkConfig) -> Option<Arc<[u8]>> {
        if self.in_flight >= config.window_bytes {
            return None;
        }
        let strict = (0..Lane::STRICT).find(|lane| self.queues.get(*lane).is_some_and(|q| q.bytes > 0));
        let shared = || {
            let waiting = self.queues.iter().enumerate().skip(Lane::STRICT).filter(|(_, q)| q.bytes > 0);
            waiting.min_by_key(|(_, q)| q.virtual_time).map(|(lane, _)| lane)
        };
        let lane = strict.or_else(shared)?;
        let queue = self.queues.get_mut(lane)?;
        let frame = queue.frames.pop_front()?;
        queue.bytes -= frame.len();
        queue.virtual_time += frame.len() as u64 * Lane::COST.get(lane).copied().unwrap_or(1);
        self.in_flight += frame.len();
        Some(frame)
    }

    pub(super) const fn sent(&mut self, bytes: usize) {
        self.in_flight = self.in_flight.saturating_sub(bytes);
    }

    /// Takes one unasked item out of the peer's budget.
    pub(super) fn take_token(&mut self, config: &LinkConfig, now: Duration) -> bool {
        let elapsed = u64::try_from(now.saturating_sub(self.tokens_at).as_millis()).unwrap_or(u64::MAX);
        let refill = elapsed.saturating_mul(u64::from(config.items_per_sec));
        self.tokens = self.tokens.saturating_add(refill).min(u64::from(config.items_burst) * 1000);
        self.tokens_at = now;
        let enough = self.tokens >= 1000;
        if enough {
            self.tokens -= 1000;
        }
        enough
    }

    /// Adds penalty points; says whether the peer is beyond the limit.
    pub(super) fn penalize(&mut self, config: &LinkConfig, now: Duration, points: u32) -> bool {
        let forgiven = u32::try_from(now.saturating_sub(self.penalty_at).as_secs()).unwrap_or(u32::MAX);
        if forgiven > 0 {
            self.penalty = self.penalty.saturating_sub(forgiven);
            self.penalty_at = now;
        }
        self.penalty = self.penalty.saturating_add(points);
        self.penalty >= config.penalty_limit
    }

    /// Smooths the round trip as TCP does (RFC 6298, section 2, alpha = 1/8).
    pub(super) fn measured(&mut self, rtt: Duration) {
        self.rtt = if self.rtt == Self::FIRST_RTT { rtt } else { (self.rtt * 7 + rtt) / 8 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(config: &LinkConfig) -> Link {
        Link::new(config, TransportId::default(), true, Duration::ZERO)
    }

    fn frame(lane: Lane, len: usize) -> Arc<[u8]> {
        vec![lane as u8; len].into()
    }

    #[test]
    fn proofs_overtake_and_bulk_is_not_starved() {
        let config = LinkConfig { window_bytes: usize::MAX, ..LinkConfig::default() };
        let mut link = link(&config);
        for lane in [Lane::Bulk, Lane::Plain, Lane::Manifest, Lane::Proof, Lane::Control] {
            for _ in 0..100 {
                assert_eq!(link.push(&config, lane, frame(lane, 100)), 0);
            }
        }
        let order: Vec<u8> = std::iter::from_fn(|| link.pop(&config)).map(|f| f[0]).collect();
        assert!(order[..100].iter().all(|l| *l == Lane::Control as u8));
        assert!(order[100..200].iter().all(|l| *l == Lane::Proof as u8));
        let count = |lane: Lane| order[200..320].iter().filter(|l| **l == lane as u8).count();
        assert_eq!((count(Lane::Manifest), count(Lane::Plain), count(Lane::Bulk)), (80, 30, 10));
    }

    #[test]
    fn queues_and_window_are_bounded() {
        let config = LinkConfig { window_bytes: 150, queue_bytes: 250, ..LinkConfig::default() };
        let mut link = link(&config);
        assert_eq!(link.push(&config, Lane::Plain, frame(Lane::Plain, 100)), 0);
        assert_eq!(link.push(&config, Lane::Plain, frame(Lane::Plain, 100)), 0);
        assert_eq!(link.push(&config, Lane::Plain, frame(Lane::Plain, 100)), 100);
        assert!(link.pop(&config).is_some() && link.pop(&config).is_some());
        link.push(&config, Lane::Control, frame(Lane::Control, 1));
        assert!(link.pop(&config).is_none(), "the window is full");
        link.sent(100);
        assert!(link.pop(&config).is_some());
    }

    #[test]
    fn budgets_refill_and_penalties_fade() {
        let config = LinkConfig { items_per_sec: 2, items_burst: 3, ..LinkConfig::default() };
        let mut link = link(&config);
        let at = Duration::from_secs;
        assert_eq!((0..9).filter(|_| link.take_token(&config, at(0))).count(), 3);
        assert_eq!((0..9).filter(|_| link.take_token(&config, at(1))).count(), 2);
        assert!(!link.penalize(&config, at(1), 99));
        assert!(!link.penalize(&config, at(11), 10));
        assert!(link.penalize(&config, at(11), 1));
    }
}
