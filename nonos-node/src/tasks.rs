//! The loops of a running node: each takes one kind of news and hands it to a role.

use std::sync::Arc;
use std::time::Duration;

use nonos_identity::wire;
use nonos_identity::{Epoch, NodeId, Timestamp, Unverified};
use nonos_ledger::Code;
use nonos_mesh::libp2p::{EventReceiver, StreamReceiver};
use nonos_mesh::{Beacon, Capabilities, Event as MeshEvent, Item, ItemKind};
use nonos_onion::link::{Incoming, IncomingStream, Payments};
use nonos_onion::rendezvous::ports;
use nonos_trust::Evidence;
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::board::PeerEntry;
use crate::circuits::{Descriptors, port};
use crate::clock;
use crate::event::Event;
use crate::gate::{Fact, JOB_ITEM, OPERATORS_ITEM, VERDICT_ITEM};
use crate::node::Shared;
use crate::records::{self, Sealed, Verdict, Voucher};
use crate::{directory, discloser, dispute, executor, expiry, promises, publisher, seeder, submit, transit};

/// How often a node looks whether a new epoch has begun.
const EPOCH_LOOK: Duration = Duration::from_secs(2);
/// Streams of other nodes served at a time on one port.
const STREAMS_MAX: usize = 64;

/// What the mesh tells: neighbours, beacons, refusals.
pub(crate) async fn mesh_events(shared: Arc<Shared>, mut events: EventReceiver) {
    while let Some(event) = events.recv().await {
        match event {
            MeshEvent::LinkUp { node, .. } => {
                shared.observe(node, Evidence::HeartbeatOk);
                shared.tell(Event::LinkUp { node });
            }
            MeshEvent::LinkDown { node, .. } => shared.tell(Event::LinkDown { node }),
            MeshEvent::Beacon { node, beacon } => {
                let entry = peer_entry(node, &beacon);
                shared.board().peers.insert(node, entry);
            }
            MeshEvent::BeaconExpired { node } => {
                shared.board().peers.remove(&node);
            }
            MeshEvent::Accepted { item, from } if from == shared.me => {
                tracing::debug!(id = ?item.id(), "own item is in gossip");
            }
            MeshEvent::Rejected { kind, from, reason, .. } if from != shared.me => {
                let evidence = match reason {
                    "proof" => Evidence::ProofInvalid,
                    "nonce" => Evidence::BadNonce,
                    "identity" => Evidence::BadIdentity,
                    _ => Evidence::ItemRejected,
                };
                shared.refuse(item_name(kind), reason, from, evidence);
            }
            _ => {}
        }
    }
}

fn item_name(kind: ItemKind) -> &'static str {
    match kind {
        ItemKind::Receipt => "receipt",
        ItemKind::Manifest => "manifest",
        ItemKind::Beacon => "beacon",
        ItemKind::Attestation => "attestation",
        ItemKind::Revocation => "revocation",
        JOB_ITEM => "job",
        VERDICT_ITEM => "verdict",
        OPERATORS_ITEM => "operators",
        _ => "item",
    }
}

/// What of a checked beacon the node needs. Descriptors of anybody but its signer do not count.
fn peer_entry(node: NodeId, beacon: &Beacon) -> PeerEntry {
    let descriptors = wire::from_bytes(&beacon.body.relay).map(|Descriptors(all)| all).unwrap_or_default();
    PeerEntry {
        descriptors: descriptors.into_iter().filter(|descriptor| descriptor.relay == node).collect(),
        enrolment: (!beacon.body.extra.is_empty()).then(|| Sealed(beacon.body.extra.clone())),
        broadcaster: beacon.body.capabilities.contains(Capabilities::BROADCASTER),
        relay: beacon.body.capabilities.contains(Capabilities::RELAY),
    }
}

/// Onion links that neighbours open.
pub(crate) async fn onion_links(shared: Arc<Shared>, mut links: StreamReceiver) {
    while let Some((peer, stream)) = links.recv().await {
        shared.onion.accept_link(peer, Box::new(stream)).await;
    }
}

/// Streams that end at this node's ports. Each port has places of its own, so that clients who
/// hold one port busy do not close the others.
pub(crate) async fn streams(shared: Arc<Shared>, mut incoming: Incoming) {
    let places = || Arc::new(Semaphore::new(STREAMS_MAX));
    let (fetch, submit, claim, dispute) = (places(), places(), places(), places());
    let (disclose, pay, descriptors, transits) = (places(), places(), places(), places());
    while let Some(arrived) = incoming.recv().await {
        let places = match arrived.port {
            port::FETCH if shared.config.roles.seeder => &fetch,
            port::SUBMIT if shared.config.roles.broadcaster => &submit,
            port::CLAIM => &claim,
            port::PAY => &pay,
            port::DIRECTORY if shared.config.roles.relay => &descriptors,
            port::TRANSIT if shared.config.circuits.prove_transit => &transits,
            hub if shared.config.roles.relay && ports::ALL.contains(&hub) => {
                meet(&shared, arrived);
                continue;
            }
            port::DISPUTE if shared.config.answer_disputes => &dispute,
            port::DISCLOSE => &disclose,
            _ => continue,
        };
        // A stream without a place is dropped, which tells its client to come again.
        let Ok(place) = places.clone().try_acquire_owned() else { continue };
        let shared = shared.clone();
        tokio::spawn(async move {
            let served = match arrived.port {
                port::FETCH => seeder::serve(&shared, arrived.stream).await,
                port::SUBMIT => submit::serve(&shared, arrived.stream).await,
                port::DIRECTORY => directory::serve(&shared, arrived.stream).await,
                port::PAY => promises::serve(&shared, arrived.stream).await,
                port::TRANSIT => transit::serve(&shared, arrived.stream).await,
                port::DISPUTE => dispute::answer::serve(&shared, arrived.stream).await,
                port::DISCLOSE => {
                    discloser::serve(&shared.desk, arrived.circuit.number(), arrived.stream).await
                }
                _ => publisher::serve_claims(&shared, arrived.stream).await,
            };
            if let Err(error) = served {
                tracing::debug!(%error, port = arrived.port, "stream ended");
            }
            drop(place);
        });
    }
}

/// A stream for the hub, which has bounds of its own.
fn meet(shared: &Arc<Shared>, arrived: IncomingStream) {
    let hub = shared.hub.clone();
    tokio::spawn(async move {
        if let Err(error) = hub.serve(arrived.circuit, arrived.port, arrived.stream).await {
            tracing::debug!(%error, "stream of the hub ended");
        }
    });
}

/// Promises of clients whose cells this node relayed.
pub(crate) async fn payments(shared: Arc<Shared>, mut payments: Payments) {
    while let Some(payment) = payments.recv().await {
        let Ok(voucher) = wire::from_bytes::<Voucher>(&payment.bytes) else { continue };
        let checked = records::check_voucher(Unverified::new(voucher), shared.me, &shared.network);
        match checked {
            Ok(voucher) => {
                shared.post_voucher(&voucher, Code::Relay).await;
            }
            Err(error) => tracing::debug!(%error, "a promise was not this node's"),
        }
    }
}

/// Records that passed their check.
pub(crate) async fn facts(shared: Arc<Shared>, mut facts: mpsc::Receiver<Fact>) {
    while let Some(fact) = facts.recv().await {
        match fact {
            Fact::Job { id } if shared.config.roles.executor => {
                let shared = shared.clone();
                tokio::spawn(async move { executor::work(&shared, id).await });
            }
            Fact::Job { .. } => {}
            Fact::Receipt { id } => {
                if shared.config.roles.verifier {
                    vouch(&shared, id).await;
                }
                let early = shared.board().early_verdicts.remove(&id).unwrap_or_default();
                for verifier in early {
                    publisher::on_verdict(&shared, id, verifier).await;
                }
            }
            Fact::Verdict { receipt, verifier } => publisher::on_verdict(&shared, receipt, verifier).await,
            Fact::Attestation(attestation) => {
                if let Err(error) = shared.trust().merge(*attestation, clock::now()) {
                    tracing::debug!(%error, "attestation not kept");
                }
            }
        }
    }
}

/// Publishes this node's verdict on a receipt that it checked itself.
async fn vouch(shared: &Shared, receipt: nonos_identity::Digest) {
    let commission = {
        let board = shared.board();
        let entry = board.receipts.get(&receipt);
        let known = entry.map(|entry| (entry.commission, entry.body.statement.id_root));
        // Nobody vouches for a run of its own, or for operators that its settings do not name.
        known.filter(|(commission, root)| {
            !board.own_runs.contains(commission) && shared.accepts_operators(root)
        })
    };
    let commission = commission.map(|(commission, _)| commission);
    let Some(commission) = commission else { return };
    let verdict = Verdict { receipt, commission };
    let Ok(sealed) = shared.credentials().signer.seal(&verdict, 0, clock::now()) else { return };
    if let Err(error) = shared.mesh.publish(VERDICT_ITEM, sealed.as_bytes().clone()).await {
        tracing::debug!(%error, "verdict not published");
    }
}

/// Renews onion keys in the beacon when an epoch ends, and saves the trust view.
pub(crate) async fn epochs(shared: Arc<Shared>) {
    let mut announced = Epoch::at(clock::now());
    loop {
        tokio::time::sleep(EPOCH_LOOK).await;
        let now = clock::now();
        if Epoch::at(now) == announced {
            continue;
        }
        announced = Epoch::at(now);
        if let Some(class) = shared.hops().advance(announced) {
            shared.tell(Event::HopsChanged { relays: class.relays() });
        }
        shared.descriptors.advance(now, directory::randoms(&shared.network, now));
        if let Some(transit) = &shared.transit {
            transit.advance(announced).await;
        }
        shared.board().prune(now);
        forget_expired(&shared, now).await;
        shared.trust().refresh(now);
        shared.save_trust();
        if let Err(error) = shared.renew(now).await {
            tracing::error!(%error, "the node's certificate was not renewed; others will refuse its records");
        }
        if shared.announce(now).await.is_err() {
            return;
        }
    }
}

/// Drops items that no longer count; they are not taken again.
async fn forget_expired(shared: &Arc<Shared>, now: Timestamp) {
    let items = shared.items.clone();
    let is_expired = move |item: &Item| expiry::of(item).is_some_and(|expiry| expiry <= now);
    let Some(Ok(expired)) = blocking(move || items.select(is_expired)).await else { return };
    for id in expired {
        if shared.mesh.forget(id).await.is_err() {
            return;
        }
    }
}

/// Runs something that blocks, off the async threads.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (reply, answer) = oneshot::channel();
    tokio::task::spawn_blocking(move || reply.send(work()));
    answer.await.ok()
}
