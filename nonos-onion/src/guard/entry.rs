use core::time::Duration;

use minicbor::{Decode, Decoder, Encode, decode};
use nonos_identity::Timestamp;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::Rng as _;

use super::GuardSet;
use crate::descriptor::RelayDescriptor;
use crate::pinned::{Day, Missed, Pinned, uniform_days};
use crate::pool::Place;

/// One pinned relay and what is remembered of it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) struct Guard {
    #[n(0)]
    pub(super) place: Place,
    /// Counts from the day it first answered.
    #[cbor(n(1), decode_with = "decode_lifetime")]
    lifetime_days: u8,
    #[n(2)]
    first_used: Option<Day>,
    /// Days without a descriptor, since it last had one.
    #[n(3)]
    pub(super) unlisted: Missed,
    /// Days on which it failed, since it last answered.
    #[n(4)]
    silent: Missed,
    #[cbor(skip)]
    pub(super) retry: Option<Retry>,
}

impl Guard {
    pub(super) fn new(relay: &RelayDescriptor, rng: &mut ChaCha20Rng) -> Self {
        Self {
            place: relay.into(),
            lifetime_days: uniform_days(rng, GuardSet::MIN_LIFETIME_DAYS, GuardSet::MAX_LIFETIME_DAYS),
            first_used: None,
            unlisted: Missed::default(),
            silent: Missed::default(),
            retry: None,
        }
    }

    pub(super) fn answered(&mut self, now: Timestamp) {
        self.first_used.get_or_insert(Day::of(now));
        self.silent = Missed::default();
        self.retry = None;
    }

    /// Circuits that fail at once, or while it is left alone, are one failure.
    pub(super) fn failed(&mut self, now: Timestamp, rng: &mut ChaCha20Rng) {
        if self.wait(now).is_none() {
            self.retry = Some(Retry::new(self.retry, now, rng));
            self.silent.mark(Day::of(now));
        }
    }

    /// How long it is still to be left alone. After a clock went back it is not.
    pub(super) fn wait(&self, now: Timestamp) -> Option<Duration> {
        let retry = self.retry.filter(|retry| now >= retry.failed_at)?;
        let left = retry.wait.saturating_sub(now.saturating_since(retry.failed_at));
        Some(left).filter(|left| !left.is_zero())
    }

    pub(super) fn is_expired(&self, day: Day) -> bool {
        self.first_used.is_some_and(|first| day >= first.plus(u32::from(self.lifetime_days)))
    }

    pub(super) fn is_lost(&self) -> bool {
        self.unlisted.days().max(self.silent.days()) >= GuardSet::LOST_AFTER_DAYS
    }
}

impl Pinned for Guard {
    fn place(&self) -> &Place {
        &self.place
    }
}

/// When a guard failed, and how long it is left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Retry {
    failed_at: Timestamp,
    /// Without the random part.
    base: Duration,
    wait: Duration,
}

impl Retry {
    /// `before` is the last one since the guard answered.
    fn new(before: Option<Self>, now: Timestamp, rng: &mut ChaCha20Rng) -> Self {
        let base = before.map_or(GuardSet::MIN_RETRY, |before| before.base * 2).min(GuardSet::MAX_RETRY);
        let half = base.as_secs() / 2;
        Self { failed_at: now, base, wait: base + Duration::from_secs(rng.next_u64() % (half + 1)) }
    }
}

fn decode_lifetime<C>(d: &mut Decoder<'_>, _: &mut C) -> Result<u8, decode::Error> {
    let days = d.u8()?;
    if !(GuardSet::MIN_LIFETIME_DAYS..=GuardSet::MAX_LIFETIME_DAYS).contains(&days) {
        return Err(decode::Error::message("no lifetime of a guard"));
    }
    Ok(days)
}
