//! Circuits over the mesh's links.

use std::time::{Duration, Instant};

use nonos_identity::wire::Wire;
use nonos_identity::{Digest, Epoch, NodeId, Timestamp};
use nonos_mesh::libp2p::Handle as MeshHandle;
use nonos_onion::link::{BuildError, ByteLink, CircuitHandle, LinkError, LinkFuture, Links, OpenError};
use nonos_onion::transit::Commitment;
use nonos_onion::{
    AnonymitySet, BandwidthClass, FamilyTag, GuardError, PathError, PathRequest, PathRules, PathSelector,
    RelayDescriptor, SubnetTag, anonymity_set,
};
use nonos_trust::Evidence;

use crate::clock;
use crate::config::Config;
use crate::domains;
use crate::event::{Circuit, Event};
use crate::node::Shared;

/// Mesh protocol that carries onion cells between neighbours.
pub(crate) const LINK_PROTOCOL: &str = "/nonos/onion/1";

/// Ports of a node at the end of a circuit.
pub(crate) mod port {
    /// Serves chunks and inputs.
    pub(crate) const FETCH: u16 = 1;
    /// Takes receipts for broadcast.
    pub(crate) const SUBMIT: u16 = 2;
    /// Takes claims of fees.
    pub(crate) const CLAIM: u16 = 3;
    /// Answers for runs of this node.
    pub(crate) const DISPUTE: u16 = 4;
    /// Shows openings of hidden fields and carried disclosures.
    pub(crate) const DISCLOSE: u16 = 5;
    /// Takes promises that did not come along with what they pay for.
    pub(crate) const PAY: u16 = 6;
    /// Keeps descriptors of onion services.
    pub(crate) const DIRECTORY: u16 = 7;
    /// Shows what this node carried as a relay.
    pub(crate) const TRANSIT: u16 = 8;
}

/// Relay descriptors in a beacon: this epoch's and the next one's.
#[derive(Debug, minicbor::Encode, minicbor::Decode)]
#[cbor(transparent)]
pub(crate) struct Descriptors(#[n(0)] pub(crate) Vec<RelayDescriptor>);

impl Wire for Descriptors {
    const MAX_BYTES: usize = 512;
}

/// Reaches relays over the mesh: only neighbours, so a circuit never makes a node dial.
#[derive(Debug)]
pub(crate) struct MeshLinks(pub(crate) MeshHandle);

impl Links for MeshLinks {
    fn open(&self, relay: NodeId) -> LinkFuture {
        let mesh = self.0.clone();
        Box::pin(async move {
            let stream = mesh.open_stream(relay, LINK_PROTOCOL).await.map_err(|_| LinkError)?;
            Ok(Box::new(stream) as Box<dyn ByteLink>)
        })
    }
}

/// A node's descriptor for an epoch.
pub(crate) fn descriptor(
    config: &Config,
    node: NodeId,
    epoch: Epoch,
    onion_key: [u8; 32],
) -> RelayDescriptor {
    let tag = |domain, text: &str| {
        let digest = Digest::of(domain, &[text.as_bytes()]);
        digest.as_bytes().first_chunk::<16>().copied().unwrap_or_default()
    };
    // Without a declared operator a node is its own.
    let operator = if config.operator.is_empty() { node.to_string() } else { config.operator.clone() };
    let subnet = config.listen.first().map(|address| subnet(address)).unwrap_or_default();
    RelayDescriptor {
        relay: node,
        onion_key,
        epoch,
        family: FamilyTag::from_bytes(tag(domains::OPERATOR, &operator)),
        subnet: SubnetTag::from_bytes(tag(domains::SUBNET, &subnet)),
        bandwidth: BandwidthClass::new(3),
        expiry: epoch.end(),
    }
}

/// The /16 of an IPv4 or the /32 of an IPv6 multiaddr; the text itself for anything else.
fn subnet(address: &str) -> String {
    let mut parts = address.split('/').skip(1);
    match (parts.next(), parts.next()) {
        (Some("ip4"), Some(ip)) => ip.split('.').take(2).collect::<Vec<_>>().join("."),
        (Some("ip6"), Some(ip)) => ip.split(':').take(2).collect::<Vec<_>>().join(":"),
        _ => address.to_owned(),
    }
}

/// Why no circuit stands.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum RouteError {
    /// The mesh has too few relays that fit the rules.
    #[error("no path: {0}")]
    Path(#[from] PathError),
    /// No guard carries it.
    #[error("no path: {0}")]
    Guard(#[from] GuardError),
    /// The destination's beacon is not known, or is stale.
    #[error("{0} is not known as the end of a circuit; wait for its beacon")]
    Destination(NodeId),
    /// Every try failed.
    #[error("no circuit could be built")]
    Build(#[from] BuildError),
    /// The destination did not open the port.
    #[error("the destination did not answer")]
    Open(#[from] OpenError),
}

/// A standing circuit.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) circuit: CircuitHandle,
    pub(crate) view: Circuit,
    /// What its relays can prove, if this node demands proof. Kept from the start: a circuit that is lost tells
    /// nothing any more.
    pub(crate) commitments: Vec<Commitment>,
    /// Nodes that must not relay it.
    never: Vec<NodeId>,
}

/// Which circuit is wanted.
#[derive(Clone, Copy)]
struct Wanted<'a> {
    purpose: &'a str,
    destination: NodeId,
    /// Relays that are not in it.
    never: &'a [NodeId],
    /// Relays that are only in it if too few others are left.
    avoid: &'a [NodeId],
    /// The same, and these sooner.
    apart: &'a [NodeId],
    /// Whether the second hop is pinned too.
    vanguards: bool,
}

impl<'a> Wanted<'a> {
    const fn new(purpose: &'a str, destination: NodeId) -> Self {
        Self { purpose, destination, never: &[], avoid: &[], apart: &[], vanguards: false }
    }
}

/// Tries before the mesh counts as unable to carry a circuit.
const TRIES: usize = 6;
/// Fewest neighbours to draw guards among, until the node has been up for [`SETTLING`].
const NEIGHBOURS_MIN: usize = 5;
/// How long the mesh may take to link a node that has just started.
const SETTLING: Duration = Duration::from_secs(60);
/// Longest wait for a guard that did not answer, before the next try.
const GUARD_PATIENCE: Duration = Duration::from_secs(20);
/// How long a lost circuit may take to say which hop failed.
const BLAME_PATIENCE: Duration = Duration::from_millis(500);

impl Shared {
    /// Builds a circuit.
    async fn route(&self, wanted: Wanted<'_>) -> Result<Route, RouteError> {
        let Wanted { purpose, destination, never, avoid, .. } = wanted;
        let mut avoid: Vec<NodeId> = avoid.to_vec();
        let mut outcome = Err(RouteError::Destination(destination));
        for _ in 0..TRIES {
            let now = clock::now();
            let path = match self.path(Wanted { avoid: &avoid, ..wanted }, now).await {
                Err(RouteError::Guard(error @ (GuardError::Unreachable(_) | GuardError::Unlisted))) => {
                    outcome = Err(error.into());
                    let wait = match error {
                        GuardError::Unreachable(wait) => wait.min(GUARD_PATIENCE),
                        _ => SETTLING / 10,
                    };
                    tokio::time::sleep(wait).await;
                    continue;
                }
                path => path?,
            };
            let relays: Vec<NodeId> = path.iter().map(|hop| hop.relay).take(path.len() - 1).collect();
            let Some(&guard) = relays.first() else { break };
            let begin = Instant::now();
            match self.onion.build(path).await {
                Ok(circuit) => {
                    self.hops().built(begin.elapsed());
                    tokio::task::block_in_place(|| self.guards().answered(&guard, now));
                    let view = Circuit { purpose: purpose.into(), relays, destination };
                    let commitments = match self.config.circuits.transit_batches {
                        0 => Vec::new(),
                        _ => circuit.commitments().await,
                    };
                    return Ok(Route { circuit, view, commitments, never: never.to_vec() });
                }
                Err(error) => {
                    let blamed = match error {
                        BuildError::Hop { hop, .. } => hop,
                        _ => None,
                    };
                    avoid.extend(self.blame(&relays, blamed));
                    tracing::debug!(%error, "circuit not built");
                    outcome = Err(error.into());
                }
            }
        }
        outcome
    }

    /// Builds a circuit to `destination`, none of them in `never`.
    pub(crate) async fn first_route(
        &self,
        purpose: &str,
        destination: NodeId,
        never: &[NodeId],
    ) -> Result<Route, RouteError> {
        self.route_apart(purpose, destination, never, &[]).await
    }

    /// The same, and disjoint from circuits that have the relays in `apart` if there are enough others.
    pub(crate) async fn route_apart(
        &self,
        purpose: &str,
        destination: NodeId,
        never: &[NodeId],
        apart: &[NodeId],
    ) -> Result<Route, RouteError> {
        let route = self.route(Wanted { never, apart, ..Wanted::new(purpose, destination) }).await?;
        self.tell(Event::CircuitBuilt(route.view.clone()));
        Ok(route)
    }

    pub(crate) fn path_selector(&self) -> PathSelector {
        PathSelector::new(PathRules {
            distinct_subnets: !self.config.allow_same_subnet,
            ..PathRules::default()
        })
    }

    /// Builds a successor of a circuit that was lost, around the relay that failed, and apart from other
    /// circuits as [`Self::route_apart`] does.
    pub(crate) async fn reroute(
        &self,
        lost: &Route,
        avoid: &mut Vec<NodeId>,
        apart: &[NodeId],
    ) -> Result<Route, RouteError> {
        let closed = tokio::time::timeout(BLAME_PATIENCE, lost.circuit.closed()).await;
        let hop = closed.ok().and_then(|closed| closed.blamed);
        let blamed = self.blame(&lost.view.relays, hop);
        avoid.extend(blamed);
        let (purpose, destination) = (&lost.view.purpose, lost.view.destination);
        let route = self
            .route(Wanted { never: &lost.never, avoid, apart, ..Wanted::new(purpose, destination) })
            .await?;
        self.tell(Event::CircuitRebuilt { blamed, circuit: route.view.clone() });
        Ok(route)
    }

    /// Holds a failure against the relay that is to blame, if one is.
    fn blame(&self, relays: &[NodeId], hop: Option<usize>) -> Option<NodeId> {
        let relay = *relays.get(hop?)?;
        self.observe(relay, Evidence::RelayFailed);
        tokio::task::block_in_place(|| self.guards().failed(&relay, hop, clock::now()));
        Some(relay)
    }

    /// Builds a circuit that a stranger may have provoked: its second hop is pinned too.
    pub(crate) async fn provoked_route(
        &self,
        purpose: &str,
        destination: NodeId,
    ) -> Result<Route, RouteError> {
        let route = self.route(Wanted { vanguards: true, ..Wanted::new(purpose, destination) }).await?;
        self.tell(Event::CircuitBuilt(route.view.clone()));
        Ok(route)
    }

    async fn path(&self, wanted: Wanted<'_>, now: Timestamp) -> Result<Vec<RelayDescriptor>, RouteError> {
        let Wanted { destination, never, avoid, apart, vanguards, .. } = wanted;
        let links = self.mesh.links().await.map_err(|_| BuildError::Stopped)?;
        let mut neighbours: Vec<NodeId> = links.into_iter().map(|(_, node)| node).collect();
        if !may_draw(neighbours.len(), self.started.elapsed()) {
            neighbours.clear();
        }
        let (end, candidates) = {
            let board = self.board();
            (board.descriptor(&destination, now), board.relays(now))
        };
        let end = end.ok_or(RouteError::Destination(destination))?;
        let hops = self.hops().class();
        let selector = self.path_selector();
        let sound: Vec<NodeId> = never.iter().chain(avoid).copied().collect();
        let disjoint: Vec<NodeId> = sound.iter().chain(apart).copied().collect();
        // Where the relays are too few to hide anybody, guards must not stop the work.
        let is_small = matches!(anonymity_set(&candidates, now), AnonymitySet::Insufficient { .. });
        let guarded = |exclude: &[NodeId]| {
            let request = PathRequest {
                candidates: &candidates,
                destination: &end,
                exclude,
                hops,
                reachable: Some(&neighbours),
            };
            tokio::task::block_in_place(|| match vanguards {
                true => self.guards().path_by_vanguards(&selector, &request, now),
                false => self.guards().path(&selector, &request, now),
            })
        };
        let unguarded = |exclude: &[NodeId]| {
            let exclude: Vec<NodeId> = [self.me, destination].iter().chain(exclude).copied().collect();
            selector.select(&candidates, &exclude, hops, now, clock::random())
        };
        let select = |exclude: &[NodeId]| match guarded(exclude) {
            Err(_) if is_small => Ok(unguarded(exclude)?),
            selection => Ok::<_, RouteError>(selection?),
        };
        // A relay that failed once may be all there is left.
        let selection = select(&disjoint).or_else(|_| select(&sound)).or_else(|_| select(never))?;
        Ok(selection.relays.into_iter().chain([end]).collect())
    }
}

/// Whether guards may be drawn now. Whoever is the first contact of a node is to be a guard of its no sooner
/// than others can be.
fn may_draw(neighbours: usize, uptime: Duration) -> bool {
    neighbours >= NEIGHBOURS_MIN || uptime >= SETTLING
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_contacts_alone_are_no_guards() {
        assert!(!may_draw(1, Duration::from_secs(2)) && !may_draw(4, Duration::from_secs(59)));
        assert!(may_draw(5, Duration::ZERO));
        assert!(may_draw(1, Duration::from_secs(60)), "a mesh may be that small");
    }

    #[test]
    fn subnets_are_prefixes() {
        assert_eq!(subnet("/ip4/10.1.2.3/tcp/4001"), "10.1");
        assert_eq!(subnet("/ip6/2001:db8:1::1/tcp/1"), "2001:db8");
        assert_eq!(subnet("/dns4/example/tcp/1"), "/dns4/example/tcp/1");
    }
}
