//! Which leg carries what.

use core::time::Duration;

use super::{LegId, Session};
use crate::conflux::leg::Leg;

impl Session {
    /// Decides which leg carries what is next, until none takes more.
    pub(super) fn fill(&mut self, now: Duration) {
        if self.ended.is_some() {
            return;
        }
        // Before anything is known of the server, the first leg is as good as any.
        let is_unknown = !self.legs.values().any(Leg::is_linked);
        while let Some(id) = self.best(|leg| (leg.is_linked() || is_unknown) && leg.is_open()) {
            let lost = self.outbound.lost();
            if lost.is_none() && self.is_sooner_by_another(id) {
                break;
            }
            let Some(number) = lost.or_else(|| self.outbound.fresh()) else { break };
            self.carry(now, id, number);
        }
        self.repeat(now);
    }

    /// Whether what waits is delivered sooner if it waits for a leg that is full now (earliest completion first:
    /// Lim et al., "ECF: An MPTCP path scheduler", CoNEXT 2017).
    fn is_sooner_by_another(&self, id: LegId) -> bool {
        let waiting = self.outbound.waiting();
        let round_trip = |leg: &Leg| leg.pace.round_trip();
        // Of one that has not answered yet nothing is known.
        let own = self.legs.get(&id).and_then(round_trip).unwrap_or(Duration::MAX);
        let is_usable = |leg: &&Leg| leg.is_linked() && !leg.is_retiring() && !leg.is_suspect;
        let others = self.legs.values().filter(is_usable).filter(|leg| round_trip(leg).is_some());
        others.map(|leg| leg.pace.time_for(waiting)).any(|time| time < own)
    }

    /// Nothing else may be sent: what slow legs still carry goes by a fast one too.
    fn repeat(&mut self, now: Duration) {
        while let Some(id) = self.best(|leg| leg.is_linked() && leg.is_open() && leg.pace.is_idle())
            && let Some(round_trip) = self.legs.get(&id).and_then(|leg| leg.pace.round_trip())
            && let Some(number) = self.outbound.overdue(now, id, 2 * round_trip)
        {
            self.carry(now, id, number);
        }
    }

    fn carry(&mut self, now: Duration, id: LegId, number: u64) {
        let Some(leg) = self.legs.get_mut(&id) else { return };
        if let Some(bytes) = self.outbound.send(number, now, id, &mut leg.out) {
            leg.carry(now, number, bytes);
        }
    }

    /// The leg with the shortest round trip among some.
    pub(super) fn best(&self, is_fit: impl Fn(&Leg) -> bool) -> Option<LegId> {
        let key = |leg: &Leg| leg.pace.round_trip().unwrap_or(Duration::MAX);
        let fit = self.legs.iter().filter(|(_, leg)| is_fit(leg));
        fit.min_by_key(|(id, leg)| (key(leg), **id)).map(|(&id, _)| id)
    }
}
