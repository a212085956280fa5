use core::fmt;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nonos_identity::NodeId;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng as _;

use crate::circuit::BuildError;
use crate::descriptor::RelayDescriptor;
use crate::guard::GuardSet;
use crate::link::{Clock, Onion};
use crate::path::{HopClass, PathRequest, PathSelector};
use crate::pool::Pool;
use crate::rendezvous::circuits::{CircuitError, CircuitFuture, Circuits, Purpose};
use crate::rendezvous::draw::Draw;
use crate::rendezvous::handshake::RelayHint;
use crate::vanguard::Vanguards;

/// Stores guards and vanguards, sealed, when they have changed and before a circuit is built. Blocks.
pub type Keep = Arc<dyn Fn(&GuardSet, &Vanguards) + Send + Sync>;

/// [`Circuits`] over the relays that this node knows, with pinned first and second hops for every purpose.
///
/// A relay that it does not know it does not go to: a hint can send a node nowhere but to relays
/// whose own descriptors it has.
pub struct RelayCircuits(Arc<Shared>);

struct Shared {
    onion: Onion,
    selector: PathSelector,
    hops: HopClass,
    clock: Clock,
    keep: Keep,
    draw: Draw,
    state: Mutex<State>,
}

struct State {
    guards: GuardSet,
    vanguards: Vanguards,
    relays: Vec<RelayDescriptor>,
    hubs: BTreeSet<NodeId>,
}

impl RelayCircuits {
    /// Knows no relays yet. `hops` is how many stand before the relay at the end; `seed` is fresh
    /// randomness.
    #[must_use]
    pub fn new(
        onion: Onion,
        (guards, vanguards): (GuardSet, Vanguards),
        (selector, hops): (PathSelector, HopClass),
        clock: Clock,
        keep: Keep,
        seed: &[u8; 32],
    ) -> Self {
        let state = State { guards, vanguards, relays: Vec::new(), hubs: BTreeSet::new() };
        let (draw, state) = (Draw::new(seed), Mutex::new(state));
        Self(Arc::new(Shared { onion, selector, hops, clock, keep, draw, state }))
    }

    /// Replaces the relays, of this epoch or the next, and says which of them serve a
    /// [`Hub`](crate::rendezvous::Hub).
    pub fn learn(&self, relays: Vec<RelayDescriptor>, hubs: BTreeSet<NodeId>) {
        let mut state = self.0.state();
        state.relays = relays;
        state.hubs = hubs;
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, relay: &NodeId) -> Result<Vec<RelayDescriptor>, CircuitError> {
        let now = (self.clock)();
        let mut state = self.state();
        let State { guards, vanguards, relays, .. } = &mut *state;
        let live = |known: &&RelayDescriptor| known.relay == *relay && known.is_live(now);
        let destination = relays.iter().rfind(live).ok_or(CircuitError::UnknownRelay)?.clone();
        let request = PathRequest {
            candidates: relays,
            destination: &destination,
            exclude: &[],
            hops: self.hops,
            reachable: None,
        };
        let before = (guards.clone(), vanguards.clone());
        let path = vanguards.path(guards, &self.selector, &request, now, *self.draw.seed());
        if (&before.0, &before.1) != (guards, vanguards) {
            (self.keep)(guards, vanguards);
        }
        let mut path = path?.relays;
        path.push(destination);
        Ok(path)
    }

    /// Tells the guard's record what became of a circuit.
    fn learned(&self, guard: &NodeId, result: Result<(), &BuildError>) {
        let (now, seed) = ((self.clock)(), *self.draw.seed());
        let mut state = self.state();
        let State { guards, vanguards, .. } = &mut *state;
        let before = guards.clone();
        match result {
            Ok(()) => guards.answered(guard, now),
            Err(BuildError::Hop { hop, .. }) => guards.failed(guard, *hop, now, seed),
            Err(_) => {}
        }
        if before != *guards {
            (self.keep)(guards, vanguards);
        }
    }
}

impl Circuits for RelayCircuits {
    fn build(&self, relay: RelayHint, _: Purpose) -> CircuitFuture {
        let shared = Arc::clone(&self.0);
        Box::pin(async move {
            let path = shared.path(&relay.relay)?;
            let guard = path.first().map(|hop| hop.relay);
            let built = shared.onion.build(path).await;
            if let Some(guard) = guard {
                shared.learned(&guard, built.as_ref().map(|_| ()));
            }
            Ok(built?)
        })
    }

    fn pick(&self, exclude: &[NodeId]) -> Option<RelayHint> {
        let now = (self.0.clock)();
        let state = self.0.state();
        let hubs = state.relays.iter().filter(|relay| state.hubs.contains(&relay.relay));
        let exclude: Vec<NodeId> = exclude.iter().copied().chain([state.guards.client()]).collect();
        let pool = Pool::new(self.0.selector.rules(), hubs, &exclude, now);
        pool.draw(&mut ChaCha20Rng::from_seed(*self.0.draw.seed())).map(Into::into)
    }
}

impl fmt::Debug for RelayCircuits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RelayCircuits").field("relays", &self.0.state().relays.len()).finish_non_exhaustive()
    }
}
