use core::fmt;
use core::future::Future;
use core::time::Duration;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use nonos_identity::PublicKey;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use crate::link::CircuitHandle;
use crate::rendezvous::circuits::CircuitFuture;
use crate::service::IntroductionPoint;

/// Circuits that stand ahead of visits, or are being built for that; the oldest goes. Against pages that name many
/// services, each visited once: relays bear no circuit for all of them.
const MAX_AHEAD: usize = 8;

/// Circuits to introduction points, each for one visit that is still to come.
///
/// They go with this value, and each goes when it has stood idle for too long.
pub(super) struct Ahead {
    idle: Duration,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// The oldest first.
    spares: VecDeque<Spare>,
    /// Names the next one.
    next: u64,
}

struct Spare {
    number: u64,
    /// Of the introduction point: no other service has it there.
    auth_key: [u8; 32],
    /// None while it is being built.
    circuit: Option<CircuitHandle>,
    /// Builds it, and ends it when nobody came.
    task: AbortHandle,
}

impl Drop for Spare {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Ahead {
    pub(super) fn new(idle: Duration) -> Self {
        Self { idle, state: Arc::default() }
    }

    /// Takes the circuit to an introduction point, if one stands.
    pub(super) fn take(&self, auth_key: &PublicKey) -> Option<CircuitHandle> {
        let mut state = lock(&self.state);
        let stands = |spare: &Spare| spare.auth_key == *auth_key.as_bytes() && spare.circuit.is_some();
        let at = state.spares.iter().position(stands)?;
        state.spares.remove(at).and_then(|mut spare| spare.circuit.take())
    }

    /// Whether a circuit to the introduction point stands.
    pub(super) fn stands(&self, point: &IntroductionPoint) -> bool {
        let auth_key = point.auth_key.as_bytes();
        lock(&self.state).spares.iter().any(|spare| spare.auth_key == *auth_key && spare.circuit.is_some())
    }

    /// Whether one stands, or is being built.
    pub(super) fn is_coming(&self, point: &IntroductionPoint) -> bool {
        let auth_key = point.auth_key.as_bytes();
        lock(&self.state).spares.iter().any(|spare| spare.auth_key == *auth_key)
    }

    /// Keeps a circuit that stands.
    pub(super) fn keep(&self, auth_key: &PublicKey, circuit: CircuitHandle) {
        let expired = expire(circuit.clone(), self.idle);
        self.push(auth_key, Some(circuit), |_, _| expired);
    }

    /// Builds one, and keeps it.
    pub(super) fn start(&self, auth_key: &PublicKey, build: CircuitFuture) {
        let idle = self.idle;
        self.push(auth_key, None, |state, number| async move {
            match build.await {
                Ok(circuit) => {
                    if let Some(state) = state.upgrade() {
                        lock(&state).stands(number, &circuit);
                    }
                    expire(circuit, idle).await;
                }
                // The visit that is to come builds its own, and says what is wrong if that fails too.
                Err(error) => tracing::debug!(%error, "no circuit ahead of a visit"),
            }
        });
    }

    fn push<F>(
        &self,
        auth_key: &PublicKey,
        circuit: Option<CircuitHandle>,
        work: impl FnOnce(Weak<Mutex<State>>, u64) -> F,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut state = lock(&self.state);
        if state.spares.len() >= MAX_AHEAD {
            state.spares.pop_front();
        }
        let number = state.next;
        state.next += 1;
        // Tasks do not keep the state: they are aborted when it goes.
        let weak = Arc::downgrade(&self.state);
        let work = work(Weak::clone(&weak), number);
        let task = tokio::spawn(async move {
            work.await;
            if let Some(state) = weak.upgrade() {
                lock(&state).spares.retain(|spare| spare.number != number);
            }
        });
        let task = task.abort_handle();
        state.spares.push_back(Spare { number, auth_key: *auth_key.as_bytes(), circuit, task });
    }
}

impl State {
    fn stands(&mut self, number: u64, circuit: &CircuitHandle) {
        if let Some(spare) = self.spares.iter_mut().find(|spare| spare.number == number) {
            spare.circuit = Some(circuit.clone());
        }
    }
}

/// Waits until a circuit has stood for too long, or is closed.
async fn expire(circuit: CircuitHandle, idle: Duration) {
    // Either way there is nothing left to keep.
    let _ = timeout(idle, circuit.closed()).await;
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    // A panic while holding it leaves a queue whose entries are all valid.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Ahead {
    /// Without the introduction points: a log is where nobody should find them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ahead({})", lock(&self.state).spares.len())
    }
}

#[cfg(test)]
mod tests {
    use nonos_identity::SigningKey;
    use tokio::sync::oneshot::{self, Receiver, Sender};

    use super::*;
    use crate::circuit::BuildError;

    fn key(number: u8) -> PublicKey {
        SigningKey::from_seed(&[number; 32]).public()
    }

    /// A build that never ends, and how to know that it was dropped.
    fn endless() -> (CircuitFuture, Receiver<()>) {
        let (held, dropped): (Sender<()>, _) = oneshot::channel();
        let build = async move {
            core::future::pending::<()>().await;
            drop(held);
            Err(BuildError::Stopped.into())
        };
        (Box::pin(build), dropped)
    }

    async fn ended(build: Receiver<()>) {
        assert!(timeout(Duration::from_secs(10), build).await.unwrap().is_err());
    }

    #[tokio::test]
    async fn builds_ahead_are_bounded_and_the_oldest_goes() {
        let ahead = Ahead::new(Duration::MAX);
        let mut builds = Vec::new();
        for number in 0..MAX_AHEAD + 3 {
            let (build, dropped) = endless();
            ahead.start(&key(u8::try_from(number).unwrap()), build);
            builds.push(dropped);
        }
        assert_eq!(lock(&ahead.state).spares.len(), MAX_AHEAD);
        let rest = builds.split_off(3);
        for build in builds {
            ended(build).await;
        }
        assert!(rest.into_iter().all(|mut build| build.try_recv().is_err_and(|it| it == empty())));
    }

    fn empty() -> oneshot::error::TryRecvError {
        oneshot::error::TryRecvError::Empty
    }

    #[tokio::test]
    async fn builds_ahead_end_with_their_owner() {
        let ahead = Ahead::new(Duration::MAX);
        let (build, dropped) = endless();
        ahead.start(&key(1), build);
        tokio::task::yield_now().await;
        drop(ahead);
        ended(dropped).await;
    }

    #[tokio::test]
    async fn a_build_that_fails_leaves_its_place() {
        let ahead = Ahead::new(Duration::MAX);
        ahead.start(&key(1), Box::pin(core::future::ready(Err(BuildError::Stopped.into()))));
        assert!(ahead.take(&key(1)).is_none());
        while !lock(&ahead.state).spares.is_empty() {
            tokio::task::yield_now().await;
        }
    }
}
