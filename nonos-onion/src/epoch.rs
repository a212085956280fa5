use core::fmt;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use nonos_identity::{Digest, Epoch, Timestamp};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use crate::domains;

/// Length of the part of an ephemeral key that the replay set keeps.
const REPLAY_BYTES: usize = 16;

/// The secret onion keys of a relay: previous epoch within its grace, current and next.
///
/// A key is a step of a hash chain. The chain only moves forward and old links are wiped, so
/// whoever takes the state after the grace learns nothing about earlier epochs. The seed must not
/// outlive the construction either; a restarted node draws a fresh one.
pub struct EpochKeys {
    chain: Zeroizing<[u8; 32]>,
    /// The epoch of `chain`, one after the newest key.
    chain_epoch: Epoch,
    keys: BTreeMap<Epoch, EpochKey>,
}

struct EpochKey {
    secret: StaticSecret,
    public: [u8; 32],
    seen: BTreeSet<[u8; REPLAY_BYTES]>,
    /// Keys of requests that came in by a puzzle, authentic or not: a solution works once.
    solved: BTreeSet<[u8; REPLAY_BYTES]>,
}

/// Why a CREATE was not admitted to its epoch key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The ephemeral key was used before: a replay.
    Replay,
    /// The exact replay set is full; it never forgets within the epoch.
    Full,
}

impl EpochKeys {
    /// Starts the chain at the epoch of `now`.
    #[must_use]
    pub fn new(seed: Zeroizing<[u8; 32]>, now: Timestamp) -> Self {
        let mut keys = Self { chain: seed, chain_epoch: Epoch::at(now), keys: BTreeMap::new() };
        keys.grow(Epoch::at(now).next());
        keys
    }

    /// The public X25519 key of an epoch, if its secret is held.
    #[must_use]
    pub fn onion_key(&self, epoch: Epoch) -> Option<[u8; 32]> {
        self.keys.get(&epoch).map(|key| key.public)
    }

    /// Moves to the epoch of `now`: derives the next key, wipes keys past the grace together with
    /// their replay sets. A clock that goes back changes nothing.
    pub fn advance(&mut self, now: Timestamp, grace: Duration) {
        self.grow(Epoch::at(now).next());
        self.keys.retain(|epoch, _| now < epoch.end().saturating_add(grace));
    }

    pub(crate) fn secret(&self, epoch: Epoch) -> Option<&[u8; 32]> {
        self.keys.get(&epoch).map(|key| key.secret.as_bytes())
    }

    /// Checks that an ephemeral key is new and finds room: `limit` of them, and those that solved a puzzle.
    pub(crate) fn check(&self, epoch: Epoch, ephemeral: &[u8; 32], limit: usize) -> Result<(), Refusal> {
        let Some(key) = self.keys.get(&epoch) else { return Err(Refusal::Replay) };
        let prefix = prefix(ephemeral);
        if key.seen.contains(&prefix) {
            return Err(Refusal::Replay);
        }
        if key.seen.len() >= limit.saturating_add(key.solved.len()) {
            return Err(Refusal::Full);
        }
        Ok(())
    }

    /// Admits an ephemeral key once per epoch.
    pub(crate) fn admit(&mut self, epoch: Epoch, ephemeral: &[u8; 32], limit: usize) -> Result<(), Refusal> {
        self.check(epoch, ephemeral, limit)?;
        if let Some(key) = self.keys.get_mut(&epoch) {
            key.seen.insert(prefix(ephemeral));
        }
        Ok(())
    }

    /// Spends the puzzle of an ephemeral key, which solves it: once per epoch.
    pub(crate) fn spend(&mut self, epoch: Epoch, ephemeral: &[u8; 32], limit: usize) -> Result<(), Refusal> {
        let Some(key) = self.keys.get_mut(&epoch) else { return Err(Refusal::Replay) };
        let prefix = prefix(ephemeral);
        if key.seen.contains(&prefix) || key.solved.contains(&prefix) {
            return Err(Refusal::Replay);
        }
        if key.solved.len() >= limit {
            return Err(Refusal::Full);
        }
        key.solved.insert(prefix);
        Ok(())
    }

    fn grow(&mut self, until: Epoch) {
        while self.chain_epoch <= until {
            // Keys that nobody can ask for any more are skipped, not made: the node slept.
            if self.chain_epoch.number() + 3 > until.number() {
                let secret = Zeroizing::new(
                    *Digest::of(domains::EPOCH_KEY, &[&*self.chain, &self.number_bytes()]).as_bytes(),
                );
                let secret = StaticSecret::from(*secret);
                let public = PublicKey::from(&secret).to_bytes();
                self.keys.insert(
                    self.chain_epoch,
                    EpochKey { secret, public, seen: BTreeSet::new(), solved: BTreeSet::new() },
                );
            }
            self.chain = Zeroizing::new(*Digest::of(domains::EPOCH_CHAIN, &[&*self.chain]).as_bytes());
            self.chain_epoch = self.chain_epoch.next();
        }
    }

    fn number_bytes(&self) -> [u8; 8] {
        self.chain_epoch.number().to_be_bytes()
    }
}

impl fmt::Debug for EpochKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EpochKeys").field("epochs", &self.keys.keys()).finish_non_exhaustive()
    }
}

fn prefix(ephemeral: &[u8; 32]) -> [u8; REPLAY_BYTES] {
    *ephemeral.first_chunk().expect("a key is longer than its prefix")
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(60);

    fn keys() -> (EpochKeys, Epoch) {
        let epoch = Epoch::from_number(100);
        (EpochKeys::new(Zeroizing::new([7; 32]), epoch.start()), epoch)
    }

    #[test]
    fn the_same_epoch_has_the_same_key_whenever_it_is_reached() {
        let (mut late, epoch) = keys();
        let (early, _) = keys();
        let next = early.onion_key(epoch.next());
        assert!(next.is_some());
        assert_eq!(early.onion_key(epoch.next().next()), None);
        late.advance(epoch.next().start(), GRACE);
        assert_eq!(late.onion_key(epoch.next()), next);
        assert_ne!(late.onion_key(epoch), next);
    }

    #[test]
    fn keys_die_after_the_grace() {
        let (mut keys, epoch) = keys();
        keys.advance(epoch.end().saturating_add(Duration::from_secs(59)), GRACE);
        assert!(keys.onion_key(epoch).is_some());
        keys.advance(epoch.end().saturating_add(GRACE), GRACE);
        assert!(keys.onion_key(epoch).is_none() && keys.secret(epoch).is_none());
        assert!(keys.onion_key(epoch.next()).is_some());
    }

    #[test]
    fn a_long_sleep_leaves_only_living_keys() {
        let (mut keys, epoch) = keys();
        let later = Epoch::from_number(epoch.number() + 10_000);
        keys.advance(later.start().saturating_add(GRACE), GRACE);
        assert_eq!(keys.keys.keys().copied().collect::<Vec<_>>(), [later, later.next()]);
    }

    #[test]
    fn the_replay_set_is_exact_bounded_and_never_forgets() {
        let (mut keys, epoch) = keys();
        assert_eq!(keys.admit(epoch, &[1; 32], 2), Ok(()));
        assert_eq!(keys.admit(epoch, &[1; 32], 2), Err(Refusal::Replay));
        assert_eq!(keys.admit(epoch, &[2; 32], 2), Ok(()));
        assert_eq!(keys.admit(epoch, &[3; 32], 2), Err(Refusal::Full));
        assert_eq!(keys.admit(epoch, &[1; 32], 2), Err(Refusal::Replay));
        assert_eq!(keys.admit(epoch.next(), &[1; 32], 2), Ok(()));
    }
    #[test]
    fn a_solution_is_spent_once_and_takes_nobodys_room() {
        let (mut keys, epoch) = keys();
        assert_eq!(keys.admit(epoch, &[1; 32], 1), Ok(()));
        assert_eq!(keys.check(epoch, &[2; 32], 1), Err(Refusal::Full));
        assert_eq!(keys.spend(epoch, &[1; 32], 1), Err(Refusal::Replay));
        assert_eq!(keys.spend(epoch, &[2; 32], 1), Ok(()));
        assert_eq!(keys.spend(epoch, &[2; 32], 2), Err(Refusal::Replay));
        assert_eq!(keys.spend(epoch, &[3; 32], 1), Err(Refusal::Full));
        assert_eq!(keys.spend(Epoch::from_number(7), &[3; 32], 1), Err(Refusal::Replay));
        assert_eq!(keys.admit(epoch, &[2; 32], 1), Ok(()));
        assert_eq!(keys.admit(epoch, &[2; 32], 1), Err(Refusal::Replay));
        assert_eq!(keys.admit(epoch, &[3; 32], 1), Err(Refusal::Full));
    }
}
