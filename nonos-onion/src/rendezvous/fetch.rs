use core::fmt;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use nonos_identity::{OnionAddress, StaticSecret, Timestamp};
use tokio::task::JoinSet;

use crate::rendezvous::Environment;
use crate::rendezvous::dial::DialError;
use crate::service::{Client, DirectoryError, MAX_COPIES, Opened, REPLICAS, TimePeriod};

/// Most descriptors that a client keeps, about 2 kB each. Beyond, those that expire first go, and with them
/// the memory of their revision.
const MAX_KEPT: usize = 256;

/// The service's key, the client's key if it has one, and the period: what one client may read another must
/// not find here.
type Key = ([u8; 32], Option<[u8; 32]>, TimePeriod);

/// The newest descriptors that were seen.
#[derive(Default)]
pub(super) struct Fetched(Mutex<BTreeMap<Key, Opened>>);

/// A descriptor, and whether it was here already.
pub(super) struct Found {
    pub(super) opened: Opened,
    pub(super) kept: bool,
}

impl Fetched {
    /// The descriptor of a service: one that was seen before and holds, unless `anew`, or the newest that
    /// directories have.
    pub(super) async fn descriptor(
        &self,
        environment: &Environment,
        address: &OnionAddress,
        client_key: Option<&StaticSecret>,
        anew: bool,
    ) -> Result<Found, DialError> {
        let key = client_key.map(|key| StaticSecret::from_bytes(&key.to_bytes()));
        let client = Client::new(environment.network, address, key)?;
        let now = (environment.clock)();
        let period = TimePeriod::at(now);
        let key = (*address.key().as_bytes(), client_key.map(StaticSecret::public), period);
        let last = self.kept().get(&key).cloned();
        if let Some(opened) = last.clone().filter(|opened| !anew && now < opened.expiry.start()) {
            return Ok(Found { opened, kept: true });
        }
        let random = (environment.randoms)(period).ok_or(DialError::NoRandom(period))?;
        let mut fetches = JoinSet::new();
        for index in client.indices(period, &random) {
            fetches.spawn(environment.directory.fetch(index));
        }
        let (mut copies, mut failed) = (Vec::new(), None);
        while let Some(fetched) = fetches.join_next().await {
            match fetched.unwrap_or(Err(DirectoryError::Unreachable)) {
                // No replica crowds another one out.
                Ok(found) => copies.extend(found.into_iter().take(MAX_COPIES / usize::from(REPLICAS))),
                Err(error) => failed = Some(error),
            }
        }
        if let (true, Some(error)) = (copies.is_empty(), failed) {
            return Err(error.into());
        }
        let opened = client.open_newest(period, &copies, now, last.map(|opened| opened.revision))?;
        self.keep(key, opened.clone(), now);
        Ok(Found { opened, kept: false })
    }

    fn keep(&self, key: Key, opened: Opened, now: Timestamp) {
        let mut kept = self.kept();
        if kept.len() >= MAX_KEPT && !kept.contains_key(&key) {
            kept.retain(|(_, _, period), _| period.is_live(now));
        }
        if kept.len() >= MAX_KEPT && !kept.contains_key(&key) {
            let first = kept.iter().min_by_key(|(_, opened)| opened.expiry).map(|(key, _)| *key);
            first.and_then(|first| kept.remove(&first));
        }
        kept.insert(key, opened);
    }

    fn kept(&self) -> MutexGuard<'_, BTreeMap<Key, Opened>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Fetched {
    /// Without the services: a log is where nobody should find them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fetched({})", self.kept().len())
    }
}
