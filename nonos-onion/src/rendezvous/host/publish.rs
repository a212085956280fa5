use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::Arc;

use nonos_identity::{Epoch, Timestamp};
use tokio::time::{Instant, timeout};

use crate::rendezvous::host::Shared;
use crate::service::{Access, Issue, Service, ServiceDescriptor, SignedDescriptor, TimePeriod};

/// How long a descriptor stands before it is published again; a third of its validity, so that two attempts
/// may fail.
const REPUBLISH_EPOCHS: u64 = SignedDescriptor::MAX_LIFETIME_EPOCHS / 3;
/// Pause after a publication that failed.
const RETRY: Duration = Duration::from_secs(15);
/// Time for all directories of one descriptor.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(60);
/// Revisions of one minute.
const REVISIONS_PER_MINUTE: u64 = 1024;

/// Makes descriptors and brings them to directories.
pub(super) struct Publisher {
    service: Arc<Service>,
    clients: Option<Vec<[u8; 32]>>,
    /// The last revision of each period, and the epoch in which it was published.
    done: BTreeMap<TimePeriod, (u64, Epoch)>,
    not_before: Option<Instant>,
}

impl Publisher {
    pub(super) const fn new(service: Arc<Service>, clients: Option<Vec<[u8; 32]>>) -> Self {
        Self { service, clients, done: BTreeMap::new(), not_before: None }
    }

    /// Whether the pause after a failure is over.
    pub(super) fn may_try(&self) -> bool {
        self.not_before.is_none_or(|at| at <= Instant::now())
    }

    /// Whether a period has no descriptor, or none that is fresh.
    pub(super) fn is_due(&self, now: Timestamp) -> bool {
        TimePeriod::published_at(now).into_iter().any(|period| self.is_period_due(period, now))
    }

    fn is_period_due(&self, period: TimePeriod, now: Timestamp) -> bool {
        let epoch = Epoch::at(now).number();
        let fresh = |at: Epoch| (at.number()..at.number().saturating_add(REPUBLISH_EPOCHS)).contains(&epoch);
        !self.done.get(&period).is_some_and(|&(_, at)| fresh(at))
    }

    /// Publishes what is due, or for both periods if the content has changed. Whether clients find the
    /// service now: what failed beside the current period is tried again after a pause.
    pub(super) async fn publish(
        &mut self,
        shared: &Shared,
        content: &ServiceDescriptor,
        changed: bool,
    ) -> bool {
        let now = shared.now();
        self.done.retain(|period, _| period.is_live(now));
        self.not_before = None;
        for period in TimePeriod::published_at(now) {
            if !changed && !self.is_period_due(period, now) {
                continue;
            }
            let published = timeout(PUBLISH_TIMEOUT, self.publish_for(period, now, shared, content)).await;
            if !published.unwrap_or(false) {
                self.not_before = Some(Instant::now() + RETRY);
            }
        }
        !self.is_period_due(TimePeriod::at(now), now)
    }

    async fn publish_for(
        &mut self,
        period: TimePeriod,
        now: Timestamp,
        shared: &Shared,
        content: &ServiceDescriptor,
    ) -> bool {
        let revision = self.revision(period, now);
        // Not done until a directory says so.
        self.done.insert(period, (revision, Epoch::from_number(0)));
        let Some(random) = (shared.environment.randoms)(period) else { return false };
        let epoch = Epoch::at(now);
        let expiry = Epoch::from_number(epoch.number().saturating_add(SignedDescriptor::MAX_LIFETIME_EPOCHS));
        let access = self.clients.as_deref().map_or(Access::Public, Access::Clients);
        let issue = Issue { period, revision, expiry, access };
        let Ok(bytes) = self.service.descriptor(content, &issue, &shared.draw.seed()) else { return false };
        let mut kept = false;
        for index in self.service.indices(period, &random) {
            match shared.environment.directory.publish(index, bytes.clone()).await {
                Ok(()) => kept = true,
                Err(error) => tracing::debug!(%error, "a directory does not keep a service's descriptor"),
            }
        }
        if kept {
            self.done.insert(period, (revision, epoch));
        }
        kept
    }

    /// Counts up, and by the clock over restarts, of which nothing needs to be stored. In whole minutes,
    /// which show the clock no better than the time of the publication does.
    fn revision(&self, period: TimePeriod, now: Timestamp) -> u64 {
        let half = TimePeriod::LENGTH / 2 + Timestamp::MAX_SKEW;
        let from = Timestamp::from_secs(period.start().start().as_secs().saturating_sub(half.as_secs()));
        let by_clock = (now.saturating_since(from).as_secs() / 60).saturating_mul(REVISIONS_PER_MINUTE);
        let last = self.done.get(&period).map_or(0, |(revision, _)| *revision);
        by_clock.max(last.saturating_add(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nonos_identity::{NetworkId, SigningKey};

    #[test]
    fn revisions_count_up_over_restarts() {
        let service = || {
            let key = SigningKey::from_seed(&[1; 32]);
            Arc::new(Service::new(NetworkId::from_name("test"), &key).unwrap())
        };
        let period = TimePeriod::from_number(20_000);
        let now = period.start().start();
        let later = now.saturating_add(Duration::from_secs(60));
        let mut first = Publisher::new(service(), None);
        let mut last = 0;
        for _ in 0..REVISIONS_PER_MINUTE {
            let revision = first.revision(period, now);
            assert!(revision > last);
            last = revision;
            first.done.insert(period, (revision, Epoch::at(now)));
        }
        let restarted = Publisher::new(service(), None);
        assert!(restarted.revision(period, later) > last);
        let early = Timestamp::from_secs(now.as_secs() - TimePeriod::LENGTH.as_secs() / 2);
        assert!(restarted.revision(period, early) < restarted.revision(period, now));
    }

    #[test]
    fn a_descriptor_is_due_anew_by_period_and_age() {
        let network = NetworkId::from_name("test");
        let service = Service::new(network, &SigningKey::from_seed(&[1; 32])).unwrap();
        let mut publisher = Publisher::new(Arc::new(service), None);
        let now = TimePeriod::from_number(20_000).start().start();
        assert!(publisher.is_due(now));
        for period in TimePeriod::published_at(now) {
            assert!(publisher.is_due(now));
            publisher.done.insert(period, (1, Epoch::at(now)));
        }
        let after = |epochs: u64| now.saturating_add(Epoch::LENGTH * u32::try_from(epochs).unwrap());
        assert!(!publisher.is_due(now) && !publisher.is_due(after(REPUBLISH_EPOCHS - 1)));
        assert!(publisher.is_due(after(REPUBLISH_EPOCHS)));
        for (_, at) in publisher.done.values_mut() {
            *at = Epoch::at(after(TimePeriod::LENGTH_EPOCHS / 2));
        }
        assert!(publisher.is_due(after(TimePeriod::LENGTH_EPOCHS / 2)), "the next period has none");
    }
}
