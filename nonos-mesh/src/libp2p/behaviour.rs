//! The swarm's part: opens and accepts streams by name and leaves everything else to the driver.

use std::collections::{BTreeSet, VecDeque};
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll};

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::core::upgrade::{InboundUpgrade, OutboundUpgrade, UpgradeInfo};
use libp2p::swarm::handler::{
    ConnectionEvent, ConnectionHandlerEvent, DialUpgradeError, FullyNegotiatedInbound,
    FullyNegotiatedOutbound,
};
use libp2p::swarm::{
    ConnectionDenied, ConnectionHandler, ConnectionId, FromSwarm, NetworkBehaviour, NotifyHandler, Stream,
    StreamProtocol, StreamUpgradeError, SubstreamProtocol, THandler, THandlerInEvent, THandlerOutEvent,
    ToSwarm,
};
use libp2p::{Multiaddr, PeerId};

/// Protocol names this node answers to, shared with every connection.
#[derive(Clone, Debug)]
pub(super) struct Names(Arc<RwLock<Vec<StreamProtocol>>>);

impl Names {
    pub(super) fn new(first: StreamProtocol) -> Self {
        Self(Arc::new(RwLock::new(vec![first])))
    }

    pub(super) fn add(&self, name: StreamProtocol) {
        let mut names = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if !names.contains(&name) {
            names.push(name);
        }
    }

    fn all(&self) -> Vec<StreamProtocol> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Offers or asks for names and yields the bare stream with the name agreed upon.
#[derive(Debug)]
pub(super) struct Negotiate(Vec<StreamProtocol>);

impl UpgradeInfo for Negotiate {
    type Info = StreamProtocol;
    type InfoIter = std::vec::IntoIter<StreamProtocol>;

    fn protocol_info(&self) -> Self::InfoIter {
        self.0.clone().into_iter()
    }
}

impl InboundUpgrade<Stream> for Negotiate {
    type Output = (Stream, StreamProtocol);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_inbound(self, stream: Stream, name: StreamProtocol) -> Self::Future {
        ready(Ok((stream, name)))
    }
}

impl OutboundUpgrade<Stream> for Negotiate {
    type Output = (Stream, StreamProtocol);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_outbound(self, stream: Stream, name: StreamProtocol) -> Self::Future {
        ready(Ok((stream, name)))
    }
}

/// Opens a stream; the ticket comes back with the outcome.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) ticket: u64,
    pub(super) name: StreamProtocol,
}

/// Why a stream did not open.
#[derive(Debug)]
pub(super) enum OpenError {
    Unsupported,
    Link(String),
}

#[derive(Debug)]
pub(super) enum Happened {
    Opened { ticket: u64, stream: Stream },
    Failed { ticket: u64, error: OpenError },
    Incoming { name: StreamProtocol, stream: Stream },
}

/// One connection.
#[derive(Debug)]
pub(super) struct Handler {
    names: Names,
    open: VecDeque<Open>,
    happened: VecDeque<Happened>,
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Open;
    type ToBehaviour = Happened;
    type InboundProtocol = Negotiate;
    type OutboundProtocol = Negotiate;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = u64;

    fn listen_protocol(&self) -> SubstreamProtocol<Negotiate> {
        SubstreamProtocol::new(Negotiate(self.names.all()), ())
    }

    // The core decides which connections live.
    fn connection_keep_alive(&self) -> bool {
        true
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ConnectionHandlerEvent<Negotiate, u64, Happened>> {
        if let Some(happened) = self.happened.pop_front() {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(happened));
        }
        if let Some(Open { ticket, name }) = self.open.pop_front() {
            let protocol = SubstreamProtocol::new(Negotiate(vec![name]), ticket);
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
        }
        // Both queues are filled only by the two calls below, after which the swarm polls again.
        Poll::Pending
    }

    fn on_behaviour_event(&mut self, open: Open) {
        self.open.push_back(open);
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<'_, Negotiate, Negotiate, (), u64>) {
        let happened = match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol: (stream, name),
                ..
            }) => Happened::Incoming { name, stream },
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol: (stream, _),
                info: ticket,
            }) => Happened::Opened { ticket, stream },
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info: ticket, error }) => {
                let error = match error {
                    StreamUpgradeError::NegotiationFailed => OpenError::Unsupported,
                    StreamUpgradeError::Timeout => OpenError::Link("negotiation timed out".into()),
                    StreamUpgradeError::Io(error) => OpenError::Link(error.to_string()),
                    StreamUpgradeError::Apply(never) => match never {},
                };
                Happened::Failed { ticket, error }
            }
            _ => return,
        };
        self.happened.push_back(happened);
    }
}

/// Too many inbound handshakes at once.
#[derive(Debug, thiserror::Error)]
#[error("too many connections in their handshake")]
struct TooManyPending;

/// All connections.
#[derive(Debug)]
pub(super) struct Behaviour {
    names: Names,
    max_pending: usize,
    pending: BTreeSet<ConnectionId>,
    to_swarm: VecDeque<ToSwarm<(ConnectionId, Happened), Open>>,
}

impl Behaviour {
    pub(super) fn new(names: Names, max_pending: usize) -> Self {
        Self { names, max_pending, pending: BTreeSet::new(), to_swarm: VecDeque::new() }
    }

    pub(super) fn open(&mut self, peer_id: PeerId, connection: ConnectionId, open: Open) {
        let handler = NotifyHandler::One(connection);
        self.to_swarm.push_back(ToSwarm::NotifyHandler { peer_id, handler, event: open });
    }

    fn handler(&mut self, connection: ConnectionId) -> Handler {
        self.pending.remove(&connection);
        Handler { names: self.names.clone(), open: VecDeque::new(), happened: VecDeque::new() }
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = (ConnectionId, Happened);

    fn handle_pending_inbound_connection(
        &mut self,
        connection: ConnectionId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        if self.pending.len() >= self.max_pending {
            return Err(ConnectionDenied::new(TooManyPending));
        }
        self.pending.insert(connection);
        Ok(())
    }

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler(connection))
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler(connection))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        if let FromSwarm::ListenFailure(failure) = event {
            self.pending.remove(&failure.connection_id);
        }
    }

    fn on_connection_handler_event(
        &mut self,
        _: PeerId,
        connection: ConnectionId,
        happened: THandlerOutEvent<Self>,
    ) {
        self.to_swarm.push_back(ToSwarm::GenerateEvent((connection, happened)));
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        // The driver polls the swarm after every call that fills the queue.
        self.to_swarm.pop_front().map_or(Poll::Pending, Poll::Ready)
    }
}
