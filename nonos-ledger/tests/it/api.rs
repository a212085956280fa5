use nonos_identity::{Digest, Timestamp};
use nonos_ledger::{
    AccountId, Amount, Config, Kind, Ledger, MemoryStore, Outcome, PostError, Refusal, SystemAccount,
    Transfer,
};

use crate::{nano, node, transfer};

const LATER: Timestamp = Timestamp::from_secs(2_000);

fn ledger() -> Ledger {
    Ledger::open(Box::new(MemoryStore::new())).expect("an empty store opens")
}

fn refusal(ledger: &mut Ledger, transfer: Transfer) -> Refusal {
    let before = ledger.head().expect("head");
    let error = ledger.post(&[transfer]).expect_err("must be refused");
    assert_eq!(ledger.head().expect("head"), before);
    match error {
        PostError::Refused { at: 0, refusal } => refusal,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_transfer_moves_money_once() {
    let mut ledger = ledger();
    let paid = transfer(1, 100, Kind::Posted);
    assert_eq!(ledger.post(&[paid]).expect("posts"), [Outcome::Applied { index: 0 }]);
    assert_eq!(ledger.post(&[paid, paid]).expect("posts"), [Outcome::AlreadyApplied { index: 0 }; 2]);
    assert_eq!((nano(&ledger, node(1)), nano(&ledger, node(2))), (-100, 100));
    assert_eq!(ledger.find(&paid.id()).expect("find").map(|entry| entry.transfer), Some(paid));
    assert_eq!(ledger.verify_chain().expect("sound").turnover, Amount::from_nano(100));
}

#[test]
fn one_receipt_with_two_stories_is_a_conflict() {
    let mut ledger = ledger();
    let _ = ledger.post(&[transfer(1, 100, Kind::Posted)]).expect("posts");
    assert_eq!(refusal(&mut ledger, transfer(1, 101, Kind::Posted)), Refusal::Conflict);
    let later = Transfer { timestamp: LATER, ..transfer(1, 100, Kind::Posted) };
    assert_eq!(refusal(&mut ledger, later), Refusal::Conflict);
}

#[test]
fn a_pending_transfer_resolves_once() {
    let mut ledger = ledger();
    let pending = transfer(1, 100, Kind::Pending);
    let _ = ledger.post(&[pending]).expect("reserves");
    assert_eq!(nano(&ledger, node(1)), 0);
    assert_eq!(ledger.account(node(1)).expect("account").debits_pending, Amount::from_nano(100));
    assert_eq!(ledger.pending().expect("pending"), [pending]);

    let receipt = Digest::of_bytes(b"proof");
    let too_much = pending.post_pending(Amount::from_nano(101), receipt, 0, LATER);
    assert_eq!(refusal(&mut ledger, too_much), Refusal::PendingMismatch);
    let other_payee = Transfer { credit: node(3), ..pending.post_pending(pending.amount, receipt, 0, LATER) };
    assert_eq!(refusal(&mut ledger, other_payee), Refusal::PendingMismatch);

    let post = pending.post_pending(Amount::from_nano(60), receipt, 0, LATER);
    let _ = ledger.post(&[post]).expect("posts");
    let account = ledger.account(node(1)).expect("account");
    assert_eq!((account.debits_posted, account.debits_pending), (Amount::from_nano(60), Amount::ZERO));
    assert_eq!(ledger.pending().expect("pending"), []);
    let void = pending.void_pending(Digest::of_bytes(b"timeout"), 0, LATER);
    assert_eq!(refusal(&mut ledger, void), Refusal::AlreadyResolved);
    assert_eq!(ledger.post(&[post]).expect("again"), [Outcome::AlreadyApplied { index: 1 }]);
}

#[test]
fn a_void_releases_everything() {
    let mut ledger = ledger();
    let pending = transfer(1, 100, Kind::Pending);
    let void = pending.void_pending(Digest::of_bytes(b"timeout"), 0, LATER);
    let _ = ledger.post(&[pending, void]).expect("within one batch");
    let account = ledger.account(node(1)).expect("account");
    assert_eq!(account, Default::default());
    assert_eq!(ledger.verify_chain().expect("sound").pending, 0);
}

#[test]
fn only_pending_transfers_can_be_resolved() {
    let mut ledger = ledger();
    let paid = transfer(1, 100, Kind::Posted);
    let void = paid.void_pending(Digest::of_bytes(b"timeout"), 0, LATER);
    assert_eq!(refusal(&mut ledger, void), Refusal::UnknownPending);
    let _ = ledger.post(&[paid]).expect("posts");
    assert_eq!(refusal(&mut ledger, void), Refusal::UnknownPending);
}

#[test]
fn senseless_transfers_are_refused() {
    let mut ledger = ledger();
    assert_eq!(refusal(&mut ledger, transfer(1, 0, Kind::Posted)), Refusal::ZeroAmount);
    let own = Transfer { credit: node(1), ..transfer(1, 1, Kind::Posted) };
    assert_eq!(refusal(&mut ledger, own), Refusal::SameAccount);
    let all = Transfer { amount: Amount::MAX, ..transfer(1, 1, Kind::Posted) };
    let _ = ledger.post(&[all]).expect("fits once");
    assert!(matches!(refusal(&mut ledger, transfer(2, 1, Kind::Posted)), Refusal::Amount(_)));
}

#[test]
fn credit_limits_count_reserved_money() {
    let mut config = Config::default();
    config.credit_limits.insert(node(1), Amount::from_nano(100));
    config.pseudonym_credit_limit = Amount::from_nano(5);
    let mut ledger = Ledger::with_config(Box::new(MemoryStore::new()), config).expect("opens");
    let _ = ledger.post(&[transfer(1, 60, Kind::Pending)]).expect("within the limit");
    let overdraft = |exposure, limit| Refusal::Overdraft {
        account: node(1),
        exposure: Amount::from_nano(exposure),
        limit: Amount::from_nano(limit),
    };
    assert_eq!(refusal(&mut ledger, transfer(2, 41, Kind::Posted)), overdraft(101, 100));
    let income =
        Transfer { debit: SystemAccount::Opening.into(), credit: node(1), ..transfer(3, 1, Kind::Posted) };
    let _ = ledger.post(&[income, transfer(2, 41, Kind::Posted)]).expect("income makes room");
    let stranger = Transfer { debit: AccountId::Pseudonym([9; 32]), ..transfer(4, 6, Kind::Posted) };
    assert!(matches!(refusal(&mut ledger, stranger), Refusal::Overdraft { .. }));
}

#[test]
fn a_refused_transfer_takes_its_batch_with_it() {
    let mut ledger = ledger();
    let batch = [transfer(1, 1, Kind::Posted), transfer(2, 0, Kind::Posted)];
    let error = ledger.post(&batch).expect_err("second is senseless");
    assert!(matches!(error, PostError::Refused { at: 1, refusal: Refusal::ZeroAmount }), "{error:?}");
    assert_eq!(ledger.head().expect("head").length, 0);
    assert_eq!(ledger.balances().expect("balances"), []);
}

#[test]
fn a_batch_has_a_limit() {
    let config = Config { max_batch_transfers: 1, ..Config::default() };
    let mut ledger = Ledger::with_config(Box::new(MemoryStore::new()), config).expect("opens");
    let batch = [transfer(1, 1, Kind::Posted), transfer(2, 1, Kind::Posted)];
    assert!(matches!(ledger.post(&batch), Err(PostError::BatchTooLong { len: 2, limit: 1 })));
}
