//! Promises of fees, as the payer keeps them until it knows that the payee has them.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use minicbor::{Decode, Encode};
use nonos_identity::wire::{self, Wire};
use nonos_identity::{NodeId, SigningKey, Unverified};
use nonos_ledger::{Code, Op};
use nonos_trust::Evidence;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::circuits::{Route, port};
use crate::clock;
use crate::fees::Posting;
use crate::node::Shared;
use crate::records::{self, Voucher};
use crate::submit::{answer_with, ask, read_record};
use crate::transit::Owed;

/// Circuits to a payee that are tried for one promise.
const DELIVERIES: u32 = 3;
/// Pause after the first of them; it doubles.
const PAUSE: Duration = Duration::from_secs(1);

/// A fee this node promised.
#[derive(Clone, Debug)]
pub(crate) struct Promise {
    pub(crate) payee: NodeId,
    pub(crate) voucher: Voucher,
    pub(crate) code: Code,
}

/// Promises on their way over one circuit. Those of nothing are left out: nobody books them.
#[derive(Debug, Default)]
#[must_use = "what the payee booked stands in one journal only until it is settled"]
pub(crate) struct Promises {
    sent: Vec<Promise>,
    /// In place of promises to relays, if they are to prove what they carried.
    owed: Option<Owed>,
}

impl Promises {
    pub(crate) fn add(&mut self, promise: Promise) {
        if promise.voucher.amount > 0 {
            self.sent.push(promise);
        }
    }
}

impl Promise {
    /// As the payee's port takes it.
    pub(crate) fn delivery(&self) -> Vec<u8> {
        wire::to_bytes(&Delivery { voucher: self.voucher.clone(), code: self.code })
    }
}

/// A promise that is brought to its payee by itself.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
struct Delivery {
    #[n(0)]
    voucher: Voucher,
    #[n(1)]
    code: Code,
}

impl Wire for Delivery {
    const MAX_BYTES: usize = Voucher::MAX_BYTES + 8;
}

/// What the payee answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) enum DeliveryAnswer {
    /// It stands in the payee's journal.
    #[n(0)]
    Booked,
    /// It is no promise to this node.
    #[n(1)]
    Refused,
}

impl Wire for DeliveryAnswer {
    const MAX_BYTES: usize = 8;
}

impl Shared {
    /// A promise under a key that is used once.
    pub(crate) fn promise(&self, payee: NodeId, amount: u64, code: Code) -> Promise {
        let payer = SigningKey::from_seed(&clock::random());
        Promise { payee, voucher: Voucher::sign(&payer, payee, amount, &self.network), code }
    }

    /// Promises each relay of a circuit its fee. The caller then makes one round trip over the same circuit,
    /// which shows whether the promises went ahead of it, and settles them. Relays that are to prove what they
    /// carried are promised nothing on the way.
    pub(crate) async fn promise_relays(&self, route: &Route) -> Promises {
        if self.config.circuits.transit_batches > 0 {
            return Promises { sent: Vec::new(), owed: Some(Owed::of(route)) };
        }
        let bytes = route.circuit.cells().saturating_mul(1024);
        let amount = self.prices.quote(Op::Relay, bytes);
        let amount = u64::try_from(amount.as_nano()).unwrap_or(u64::MAX);
        let mut promises = Promises::default();
        for (hop, &relay) in route.view.relays.iter().enumerate() {
            let promise = self.promise(relay, amount, Code::Relay);
            // One that cannot be sent now is delivered when the circuit proves lost.
            if let Err(error) = route.circuit.pay(hop, wire::to_bytes(&promise.voucher)).await {
                tracing::debug!(%error, "promise not sent");
            }
            promises.add(promise);
        }
        promises
    }

    /// Books promises that were delivered; those of a circuit that was lost may have reached some payees, so
    /// each is brought again, by itself, in the background.
    pub(crate) async fn settle(self: &Arc<Self>, promises: Promises, delivered: bool) {
        let Promises { sent, owed } = promises;
        if let Some(owed) = owed {
            self.owe(owed).await;
        }
        for promise in sent {
            if delivered {
                if promise.code == Code::Relay {
                    self.observe(promise.payee, Evidence::RelayOk);
                }
                self.post_promise(&promise).await;
            } else {
                let shared = self.clone();
                tokio::spawn(async move { shared.deliver(&promise).await });
            }
        }
    }

    /// Brings a promise to its payee over a circuit that ends there. A payee that has it books nothing twice.
    async fn deliver(self: &Arc<Self>, promise: &Promise) {
        let delivery = promise.delivery();
        for attempt in 0..DELIVERIES {
            match self.deliver_once(promise.payee, &delivery).await {
                Some(DeliveryAnswer::Booked) => {
                    self.post_promise(promise).await;
                    return;
                }
                Some(DeliveryAnswer::Refused) => break,
                None => tokio::time::sleep(PAUSE * 2_u32.pow(attempt)).await,
            }
        }
        tracing::warn!(payee = %promise.payee, amount = promise.voucher.amount, "promise not delivered");
    }

    async fn deliver_once(&self, payee: NodeId, delivery: &[u8]) -> Option<DeliveryAnswer> {
        let route = self.first_route("pay", payee, &[]).await.ok()?;
        let mut stream = route.circuit.open(port::PAY).await.ok()?;
        let answer = ask(&mut stream, delivery).await.ok()?;
        wire::from_bytes(&answer).ok()
    }
}

/// Takes one promise and answers once it is in the journal.
pub(crate) async fn serve(
    shared: &Arc<Shared>,
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
) -> io::Result<()> {
    let bytes = read_record(&mut stream, Delivery::MAX_BYTES).await?;
    let answer = match wire::from_bytes::<Delivery>(&bytes) {
        Ok(Delivery { voucher, code: code @ (Code::Relay | Code::Seeding) }) => {
            match records::check_voucher(Unverified::new(voucher), shared.me, &shared.network) {
                Ok(voucher) => match shared.post_voucher(&voucher, code).await {
                    Posting::New | Posting::Known => DeliveryAnswer::Booked,
                    Posting::Refused => DeliveryAnswer::Refused,
                },
                Err(_) => DeliveryAnswer::Refused,
            }
        }
        _ => DeliveryAnswer::Refused,
    };
    answer_with(&mut stream, &wire::to_bytes(&answer)).await
}

#[cfg(test)]
mod tests {
    use nonos_zk::Profile;

    use super::*;
    use crate::control::{Request, Response};
    use crate::{Config, Event, Node, init};

    /// Payer, payee and three relays between them, with one to spare.
    const NODES: usize = 6;
    const PATIENCE: Duration = Duration::from_secs(90);

    async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
        let wait = async {
            while !holds().await {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("waited in vain for {what}"));
    }

    async fn mesh(root: &std::path::Path) -> Vec<Node> {
        let mut nodes: Vec<Node> = Vec::new();
        for index in 0..NODES {
            let config = Config {
                network: "nonos-promises".into(),
                operator: format!("operator-{index}"),
                sync_interval_secs: 1,
                beacon_min_ms: 250,
                allow_insecure_dev_keys: true,
                profile: Profile::Lite,
                key_cache: Some(root.join("keys")),
                ..Config::default()
            };
            let data_dir = root.join(index.to_string());
            let identity = init::create(&data_dir, "a passphrase", &config).unwrap();
            nodes.push(Node::builder(config, identity).data_dir(&data_dir).start().await.unwrap());
        }
        let Response::Ticket { ticket } = nodes[0].handle(Request::Ticket).await else { panic!("no ticket") };
        for node in &nodes[1..] {
            node.handle(Request::Join { ticket: ticket.clone() }).await;
        }
        for node in &nodes {
            until("relays", async || match node.handle(Request::Status).await {
                Response::Status(status) => status.relays >= NODES - 1,
                _ => false,
            })
            .await;
        }
        nodes
    }

    async fn position(node: &Node) -> i64 {
        match node.handle(Request::Books).await {
            Response::Books(books) => books.position,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn promises_of_a_lost_circuit_reach_both_journals_once() {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let root = tempfile::tempdir().unwrap();
        runtime.block_on(async {
            let nodes = mesh(root.path()).await;
            let (payer, payee) = (&nodes[0].shared, &nodes[1].shared);
            let booked = payer.promise(payee.me, 300, Code::Relay);
            let lost = payer.promise(payee.me, 20, Code::Seeding);
            let foreign =
                Promise { voucher: payer.promise(nodes[2].id(), 5, Code::Relay).voucher, ..booked.clone() };
            // The circuit broke after this one had arrived.
            payee.post_voucher(&booked.voucher, Code::Relay).await;
            let mut promises = Promises::default();
            for promise in [booked, lost, foreign, payer.promise(payee.me, 0, Code::Relay)] {
                promises.add(promise);
            }
            payer.settle(promises, false).await;
            until("both to book", async || position(&nodes[0]).await == -320).await;
            assert_eq!(position(&nodes[1]).await, 320);
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert_eq!((position(&nodes[0]).await, position(&nodes[1]).await), (-320, 320));
            let failed = |node: &Node| {
                node.events().since(0).into_iter().any(|entry| matches!(entry.event, Event::Failed { .. }))
            };
            assert!(!nodes.iter().any(failed));
        });
    }
}
