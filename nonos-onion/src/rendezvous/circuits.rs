use core::future::Future;
use core::pin::Pin;

use nonos_identity::NodeId;

use crate::circuit::BuildError;
use crate::guard::GuardError;
use crate::link::CircuitHandle;
use crate::rendezvous::handshake::RelayHint;

/// What a circuit is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Purpose {
    /// A client asks a hub to introduce it.
    Introduce,
    /// A client waits for the service.
    Wait,
    /// A service establishes an introduction point.
    Establish,
    /// A service meets a client, where the client says: strangers make it build these.
    Meet,
}

/// Why there is no circuit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CircuitError {
    /// The relay is not one that this node knows; the fault of whoever named it, or the mesh is out of date.
    #[error("relay is not known")]
    UnknownRelay,
    /// No path leads there now; nobody's fault.
    #[error(transparent)]
    Path(#[from] GuardError),
    /// A path was found and does not stand.
    #[error(transparent)]
    Build(#[from] BuildError),
}

/// What [`Circuits::build`] returns.
pub type CircuitFuture = Pin<Box<dyn Future<Output = Result<CircuitHandle, CircuitError>> + Send>>;

/// How clients and services get circuits to relays.
///
/// Every circuit is new and shared with nobody else, or two visits could be linked. Its last hop is the
/// relay of the hint, by the relay's own descriptor if there is one; an implementation may refuse relays
/// that it does not know, and refuses to reach any of them by other means than a circuit. All these
/// circuits can be provoked by strangers, those of [`Purpose::Meet`] without end, so that guards and second
/// hops are pinned ([`Vanguards`](crate::Vanguards)).
///
/// Dropping the future closes the circuit.
pub trait Circuits: Send + Sync {
    /// Builds a circuit that ends at a relay.
    fn build(&self, relay: RelayHint, purpose: Purpose) -> CircuitFuture;

    /// A relay that serves a [`Hub`](crate::rendezvous::Hub), chosen at random and unpredictably, and none
    /// of these; `None` if no other is known.
    fn pick(&self, exclude: &[NodeId]) -> Option<RelayHint>;
}
