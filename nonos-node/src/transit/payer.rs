//! As a payer: asking relays for their proofs, and paying for what holds.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use nonos_identity::wire::{self, Wire as _};
use nonos_identity::{Digest, NodeId};
use nonos_ledger::Op;
use nonos_onion::link::CircuitHandle;
use nonos_onion::transit::{BATCH_CELLS, Commitment};
use nonos_trust::Evidence;
use tokio::task::JoinSet;

use super::debt::Proven;
use super::{Answer, Debt, Shown, Transit};
use crate::circuits::{Route, port};
use crate::clock;
use crate::event::Event;
use crate::fees::Posting;
use crate::node::Shared;
use crate::promises::DeliveryAnswer;
use crate::submit::{ask, ask_for};
use crate::tasks::blocking;

/// Bytes of a cell on a link, of which a fee is for every one.
const CELL_BYTES: u64 = 1024;
/// Debts settled at a time.
const SETTLEMENTS_MAX: usize = 4;
/// Pause before a relay is asked for the first time: what was acknowledged while the circuit closed reaches its
/// disk meanwhile.
const SETTLING: Duration = Duration::from_secs(5);
/// Pause before a relay that did not settle is asked again; each time four times as long.
const PAUSE: Duration = Duration::from_secs(1);
/// Steps after which the pause grows no more, above an hour: the debt lapses before that.
const PAUSE_STEPS_MAX: u32 = 6;
/// Pause between looks at the debts.
const LOOK: Duration = Duration::from_secs(1);

/// The relays of a circuit and what they can prove.
#[derive(Debug)]
pub(crate) struct Owed {
    circuit: CircuitHandle,
    relays: Vec<(NodeId, Commitment)>,
}

impl Owed {
    pub(crate) fn of(route: &Route) -> Self {
        let relays = route.view.relays.iter().copied().zip(route.commitments.iter().copied());
        Self { circuit: route.circuit.clone(), relays: relays.collect() }
    }
}

impl Shared {
    /// Writes down what the relays of a circuit are owed if they prove it. Called when all is carried: the
    /// payer's own count of cells bounds what it pays.
    pub(crate) async fn owe(&self, owed: Owed) {
        let Some(transit) = &self.transit else { return };
        let cells = owed.circuit.cells();
        let price = self.prices.quote(Op::Relay, BATCH_CELLS * CELL_BYTES);
        let price = u64::try_from(price.as_nano()).unwrap_or(u64::MAX);
        let debt = |(relay, commitment)| Debt::new(relay, commitment, price, cells, clock::random());
        let debts: Vec<Debt> = owed.relays.into_iter().filter_map(debt).collect();
        if debts.is_empty() {
            return;
        }
        match transit.write(debts).await {
            Some(true) | None => {}
            Some(false) => tracing::warn!("more debts than a node keeps: some relays go unpaid"),
        }
    }
}

impl Transit {
    /// Says whether there was room; nothing if they are not on the disk.
    async fn write(&self, debts: Vec<Debt>) -> Option<bool> {
        let file = self.file.clone();
        match blocking(move || file.owe(&debts)).await? {
            Ok(room) => Some(room),
            Err(error) => {
                tracing::error!(%error, "debts to relays were not written");
                None
            }
        }
    }

    pub(super) async fn debts(&self) -> Vec<Debt> {
        let file = self.file.clone();
        match blocking(move || file.debts()).await {
            Some(Ok(debts)) => debts,
            Some(Err(error)) => {
                tracing::error!(%error, "debts to relays cannot be read");
                Vec::new()
            }
            None => Vec::new(),
        }
    }

    async fn clear(&self, root: Digest) {
        let file = self.file.clone();
        // A debt that stays is settled again, by the same promise.
        if let Some(Err(error)) = blocking(move || file.clear(&root)).await {
            tracing::error!(%error, "a settled debt was not cleared");
        }
    }
}

/// Settles debts as they come, and those of an earlier run.
pub(crate) async fn settle_debts(shared: Arc<Shared>) {
    let Some(transit) = &shared.transit else { return };
    let mut asked: BTreeMap<Digest, (u32, Instant)> = BTreeMap::new();
    loop {
        let debts = transit.debts().await;
        asked.retain(|root, _| debts.iter().any(|debt| debt.commitment.root == *root));
        let mut work = JoinSet::new();
        for debt in debts {
            let root = debt.commitment.root;
            if debt.expiry() <= clock::now() {
                transit.lapsed.fetch_add(1, Ordering::Relaxed);
                transit.clear(root).await;
                continue;
            }
            let (tries, next) = *asked.entry(root).or_insert((0, Instant::now() + SETTLING));
            if next > Instant::now() {
                continue;
            }
            asked.insert(root, (tries + 1, Instant::now() + PAUSE * 4_u32.pow(tries.min(PAUSE_STEPS_MAX))));
            if work.len() >= SETTLEMENTS_MAX {
                work.join_next().await;
            }
            let shared = shared.clone();
            work.spawn(async move { shared.settle_debt(debt).await });
        }
        work.join_all().await;
        tokio::time::sleep(LOOK).await;
    }
}

impl Shared {
    /// Asks for the proof, unless it was shown before, and pays. Each debt has a circuit of its own: a relay is
    /// not told which of its circuits had one client.
    async fn settle_debt(self: &Arc<Self>, debt: Debt) {
        let Some(transit) = &self.transit else { return };
        let Ok(route) = self.first_route("settle transit", debt.relay, &[]).await else { return };
        let proven = match debt.proven {
            Some(proven) => proven,
            None => match ask_proof(&route, &debt.commitment).await {
                // Asked again later: proofs come in while a circuit ends.
                None => return,
                Some(shown) => match self.judge(transit, &debt, shown).await {
                    Some(proven) => proven,
                    None => return,
                },
            },
        };
        let promise = debt.promise(&proven, &self.network);
        let answer = match route.circuit.open(port::PAY).await {
            Ok(mut stream) => ask(&mut stream, &promise.delivery()).await.ok(),
            Err(_) => None,
        };
        match answer.and_then(|answer| wire::from_bytes(&answer).ok()) {
            Some(DeliveryAnswer::Booked) => match self.post_promise(&promise).await {
                Posting::New => {
                    transit.paid_batches.fetch_add(proven.batches.into(), Ordering::Relaxed);
                    let (batches, amount) = (proven.batches, promise.voucher.amount);
                    self.tell(Event::TransitPaid {
                        relay: debt.relay,
                        batches,
                        amount,
                        receipt: proven.receipt,
                    });
                }
                // An earlier run posted it and was cut off before it cleared the debt.
                Posting::Known => {}
                Posting::Refused => return,
            },
            Some(DeliveryAnswer::Refused) => {
                tracing::warn!(relay = %debt.relay, "a relay refuses the fee for what it has proven");
            }
            None => return,
        }
        transit.clear(debt.commitment.root).await;
    }

    /// What the relay has proven, once that stands on the disk. A relay that shows something false is owed
    /// nothing more.
    async fn judge(&self, transit: &Transit, debt: &Debt, shown: Shown) -> Option<Proven> {
        match debt.judge(shown, &self.network, clock::now()) {
            Ok(proven) => {
                self.observe(debt.relay, Evidence::RelayOk);
                transit.write(vec![debt.settled(proven)]).await?.then_some(proven)
            }
            Err(error) => {
                tracing::debug!(%error, relay = %debt.relay, "a proof of transit does not hold");
                transit.refused.fetch_add(1, Ordering::Relaxed);
                self.refuse("proof of transit", error.check(), debt.relay, Evidence::ProofInvalid);
                transit.clear(debt.commitment.root).await;
                None
            }
        }
    }
}

async fn ask_proof(route: &Route, commitment: &Commitment) -> Option<Shown> {
    let mut stream = route.circuit.open(port::TRANSIT).await.ok()?;
    let answer = ask_for(&mut stream, &wire::to_bytes(commitment), Answer::MAX_BYTES).await.ok()?;
    wire::from_bytes::<Answer>(&answer).ok()?.0
}
