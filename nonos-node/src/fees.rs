//! Posting fees to the node's own journal.

use std::sync::Arc;

use nonos_identity::{Digest, NodeId};
use nonos_ledger::{AccountId, Amount, Code, Kind, PostError, Transfer};

use crate::clock;
use crate::event::Event;
use crate::node::Shared;
use crate::promises::Promise;
use crate::records::Voucher;

impl Shared {
    /// What this node promised to another one.
    pub(crate) async fn post_promise(self: &Arc<Self>, promise: &Promise) -> Posting {
        let debit = AccountId::Node(self.me);
        let credit = AccountId::Node(promise.payee);
        let purpose = Voucher::purpose(&promise.voucher.payer, &self.network);
        self.post(debit, credit, promise.voucher.amount, promise.code, purpose).await
    }

    /// What a pseudonym promised to this node.
    pub(crate) async fn post_voucher(self: &Arc<Self>, voucher: &Voucher, code: Code) -> Posting {
        if voucher.amount == 0 {
            return Posting::Refused;
        }
        let debit = AccountId::Pseudonym(*voucher.payer.as_bytes());
        let credit = AccountId::Node(self.me);
        let purpose = Voucher::purpose(&voucher.payer, &self.network);
        self.post(debit, credit, voucher.amount, code, purpose).await
    }

    /// A fee between two nodes for one receipt.
    pub(crate) async fn post_fee(
        self: &Arc<Self>,
        payer: NodeId,
        payee: NodeId,
        amount: u64,
        code: Code,
        purpose: Digest,
    ) -> Posting {
        self.post(AccountId::Node(payer), AccountId::Node(payee), amount, code, purpose).await
    }

    /// Posts one transfer, durably; posting it again changes nothing.
    async fn post(
        self: &Arc<Self>,
        debit: AccountId,
        credit: AccountId,
        amount: u64,
        code: Code,
        purpose: Digest,
    ) -> Posting {
        let transfer = Transfer {
            debit,
            credit,
            amount: Amount::from_nano(amount),
            code,
            receipt: purpose,
            leg: 0,
            price_table: self.prices.id(),
            timestamp: clock::now(),
            kind: Kind::Posted,
        };
        let shared = self.clone();
        let post = move || {
            let mut ledger = shared.ledger();
            // The first posting stands, with its own time.
            match ledger.find(&transfer.id()).map_err(PostError::from)? {
                Some(known) if is_same_fee(&known.transfer, &transfer) => Ok(Posting::Known),
                Some(_) => Ok(Posting::Refused),
                None => ledger.post(&[transfer]).map(|_| Posting::New),
            }
        };
        match crate::tasks::blocking(post).await {
            Some(Ok(posting)) => {
                if posting == Posting::New {
                    self.tell(Event::Posted { code: name(code).into(), amount });
                }
                posting
            }
            Some(Err(error)) => {
                self.fail("post a fee", &error);
                Posting::Refused
            }
            None => Posting::Refused,
        }
    }
}

/// What became of a fee.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Posting {
    /// It is in the journal now.
    New,
    /// The same fee was in the journal before.
    Known,
    /// Another fee has its name, or the ledger refused it.
    Refused,
}

/// Whether two transfers are one fee, posted at two times.
fn is_same_fee(a: &Transfer, b: &Transfer) -> bool {
    (a.debit, a.credit, a.amount, a.code) == (b.debit, b.credit, b.amount, b.code)
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
