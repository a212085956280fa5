use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use nonos_identity::Digest;

use crate::circuit::LocalCircuitId;
use crate::conflux::config::{Config, ConfigError};
use crate::conflux::frame::{Hello, Refusal};
use crate::domains;

/// Ended sessions that are remembered, so that a client whose answers were lost does not begin again
/// what was done already.
const ENDED_KEPT: usize = 4096;

/// A session of a [`Registry`]. It is a hash of the nonce, so that the time a look-up takes tells nothing of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SessionKey(Digest);

/// Where a leg belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// To a session that begins with it.
    New(SessionKey),
    /// To one that is there.
    Join(SessionKey),
}

/// The sessions of a server: who may join which, and how many there are.
#[derive(Debug)]
pub struct Registry {
    sessions: usize,
    sessions_per_circuit: usize,
    patience: Duration,
    /// And the circuits that opened them.
    living: BTreeMap<SessionKey, LocalCircuitId>,
    ended: VecDeque<(Duration, SessionKey)>,
}

impl Registry {
    /// An empty one.
    ///
    /// # Errors
    /// [`ConfigError`] if the limits do not work together.
    pub fn new(config: &Config) -> Result<Self, ConfigError> {
        config.check()?;
        Ok(Self {
            sessions: config.sessions,
            sessions_per_circuit: config.sessions_per_circuit,
            patience: config.patience,
            living: BTreeMap::new(),
            ended: VecDeque::new(),
        })
    }

    /// Finds the session of a leg that came by a circuit.
    ///
    /// # Errors
    /// [`Refusal`], which the leg is to be answered with.
    pub fn admit(
        &mut self,
        now: Duration,
        circuit: LocalCircuitId,
        hello: &Hello,
    ) -> Result<Admission, Refusal> {
        while self.ended.front().is_some_and(|&(at, _)| at.saturating_add(self.patience) <= now) {
            self.ended.pop_front();
        }
        let key = SessionKey(Digest::of(domains::CONFLUX_SESSION, &[hello.nonce.as_bytes()]));
        if self.living.contains_key(&key) {
            return Ok(Admission::Join(key));
        }
        if hello.join || self.ended.iter().any(|&(_, ended)| ended == key) {
            return Err(Refusal::Unknown);
        }
        if self.living.len() >= self.sessions {
            return Err(Refusal::Sessions);
        }
        if self.living.values().filter(|&&other| other == circuit).count() >= self.sessions_per_circuit {
            return Err(Refusal::Circuit);
        }
        self.living.insert(key, circuit);
        Ok(Admission::New(key))
    }

    /// A session is over.
    pub fn ended(&mut self, now: Duration, key: SessionKey) {
        if self.living.remove(&key).is_some() {
            self.ended.push_back((now, key));
            if self.ended.len() > ENDED_KEPT {
                self.ended.pop_front();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conflux::frame::Nonce;

    fn hello(nonce: u8, join: bool) -> Hello {
        Hello { nonce: Nonce::from_bytes([nonce; 32]), join, next: 0, limit: 0 }
    }

    #[test]
    fn only_who_knows_the_nonce_joins_and_the_rest_is_bounded() {
        let config = Config { sessions: 3, sessions_per_circuit: 2, ..Config::default() };
        let mut registry = Registry::new(&config).unwrap();
        let (one, two) = (LocalCircuitId(1), LocalCircuitId(2));
        let now = Duration::from_secs(5);
        let Ok(Admission::New(key)) = registry.admit(now, one, &hello(1, false)) else { panic!() };
        assert_eq!(registry.admit(now, two, &hello(1, true)), Ok(Admission::Join(key)));
        assert_eq!(registry.admit(now, two, &hello(1, false)), Ok(Admission::Join(key)));
        assert_eq!(registry.admit(now, two, &hello(2, true)), Err(Refusal::Unknown));

        assert!(registry.admit(now, one, &hello(3, false)).is_ok());
        assert_eq!(registry.admit(now, one, &hello(4, false)), Err(Refusal::Circuit));
        assert!(registry.admit(now, two, &hello(4, false)).is_ok());
        assert_eq!(registry.admit(now, two, &hello(5, false)), Err(Refusal::Sessions));

        registry.ended(now, key);
        assert_eq!(registry.admit(now, one, &hello(1, true)), Err(Refusal::Unknown));
        assert_eq!(
            registry.admit(now, one, &hello(1, false)),
            Err(Refusal::Unknown),
            "it does not begin again"
        );
        let later = now + config.patience;
        assert!(matches!(registry.admit(later, one, &hello(1, false)), Ok(Admission::New(_))));
    }
}
