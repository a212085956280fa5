//! Posting fees to the node's own journal.

use std::sync::Arc;

use nonos_identity::{Digest, NodeId};
use nonos_ledger::{AccountId, Amount, Code, Kind, Outcome, PostError, Transfer};

use crate::circuits::Promise;
use crate::clock;
use crate::event::Event;
use crate::node::Shared;
use crate::records::Voucher;

impl Shared {
    /// What this node promised to another one.
    pub(crate) async fn post_promise(self: &Arc<Self>, promise: &Promise) {
        let debit = AccountId::Node(self.me);
        let credit = AccountId::Node(promise.payee);
        self.post(debit, credit, promise.amount, promise.code, promise.purpose, promise.leg).await;
    }

    /// What a pseudonym promised to this node.
    pub(crate) async fn post_voucher(self: &Arc<Self>, voucher: &Voucher, code: Code) {
        if voucher.amount == 0 {
            return;
        }
        let debit = AccountId::Pseudonym(*voucher.payer.as_bytes());
        let credit = AccountId::Node(self.me);
        self.post(debit, credit, voucher.amount, code, voucher.purpose, voucher.leg).await;
    }

    /// A fee between two nodes for one receipt.
    pub(crate) async fn post_fee(
        self: &Arc<Self>,
        payer: NodeId,
        payee: NodeId,
        amount: u64,
        code: Code,
        receipt: Digest,
        leg: u32,
    ) -> bool {
        self.post(AccountId::Node(payer), AccountId::Node(payee), amount, code, receipt, leg).await
    }

    /// Posts one transfer, durably; posting it again changes nothing.
    async fn post(
        self: &Arc<Self>,
        debit: AccountId,
        credit: AccountId,
        amount: u64,
        code: Code,
        receipt: Digest,
        leg: u32,
    ) -> bool {
        let transfer = Transfer {
            debit,
            credit,
            amount: Amount::from_nano(amount),
            code,
            receipt,
            leg,
            price_table: self.prices.id(),
            timestamp: clock::now(),
            kind: Kind::Posted,
        };
        let shared = self.clone();
        let post = move || {
            let mut ledger = shared.ledger();
            // The first posting stands, with its own time.
            match ledger.find(&transfer.id()).map_err(PostError::from)? {
                Some(known) if known.transfer.credit == credit => {
                    Ok(vec![Outcome::AlreadyApplied { index: known.index }])
                }
                _ => ledger.post(&[transfer]),
            }
        };
        let posted = crate::tasks::blocking(post).await;
        match posted.map(|outcome| outcome.map(|outcomes| outcomes.into_iter().next())) {
            Some(Ok(Some(Outcome::Applied { .. }))) => {
                self.tell(Event::Posted { code: name(code).into(), amount });
                true
            }
            Some(Ok(Some(Outcome::AlreadyApplied { .. }))) => true,
            Some(Ok(outcome)) => {
                tracing::warn!(?outcome, "a fee was not posted");
                false
            }
            Some(Err(error)) => {
                self.fail("post a fee", &error);
                false
            }
            None => false,
        }
    }
}

const fn name(code: Code) -> &'static str {
    match code {
        Code::Execution => "execution",
        Code::Seeding => "seeding",
        Code::Verification => "verification",
        Code::Relay => "relay",
        _ => "other",
    }
}
