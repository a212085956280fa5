//! Sells verification in a program of its own: prices, a durable ledger, and a refused second story.
//!
//! Run with `cargo run -p nonos-example-embed-ledger`; `cargo tree -p nonos-example-embed-ledger`
//! shows how little comes with it.
#![expect(clippy::print_stdout, reason = "an example talks to its reader")]

use std::error::Error;
use std::time::Duration;

use nonos_identity::{Digest, Domain, Envelope, NetworkId, SigningKey, Timestamp};
use nonos_ledger::redb::RedbStore;
use nonos_ledger::{Amount, Code, Kind, Ledger, Op, PostError, PriceTable, Refusal, SystemAccount, Transfer};

/// This program's own receipts; a domain keeps them apart from everybody else's.
const RECEIPT: Domain = Domain::new("nonos/example/receipt/v1");

fn main() -> Result<(), Box<dyn Error>> {
    // Time and keys are arguments everywhere; an embedder takes them from its clock and keystore.
    let now = Timestamp::from_secs(1_800_000_000);
    let network = NetworkId::from_name("example");
    let seller = SigningKey::from_seed(&[1; 32]);
    let buyer = SigningKey::from_seed(&[2; 32]);
    let (seller_id, buyer_id) = (seller.public().node_id(), buyer.public().node_id());

    // The seller signs its prices; the buyer checks them before it relies on them.
    let prices = PriceTable {
        version: 1,
        execution_nano: 500,
        seeding_nano: 2_000,
        verification_nano: 40,
        relay_nano: 7,
    };
    let signed = prices.seal(&seller, &network, now, Duration::from_secs(3_600))?;
    let prices = PriceTable::open(Envelope::parse(signed.as_bytes())?, &network, now)?;
    println!("prices   {}", prices.id());

    let folder = std::env::temp_dir().join(format!("nonos-embed-ledger-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let path = folder.join("ledger.redb");
    let mut ledger = Ledger::open(Box::new(RedbStore::open(&path)?))?;

    // The buyer paid one mod in advance, outside of this ledger.
    let deposit = Transfer {
        debit: SystemAccount::Opening.into(),
        credit: buyer_id.into(),
        amount: Amount::from_mod(1),
        code: Code::Opening,
        receipt: Digest::of(RECEIPT, &[b"deposit", buyer_id.as_bytes()]),
        leg: 0,
        price_table: prices.id(),
        timestamp: now,
        kind: Kind::Posted,
    };
    // Reserve the fee when the work begins.
    let fee = Transfer {
        debit: buyer_id.into(),
        credit: seller_id.into(),
        amount: prices.quote(Op::Verification, 1_000),
        code: Code::Verification,
        receipt: Digest::of(RECEIPT, &[b"order 1"]),
        kind: Kind::Pending,
        ..deposit
    };
    ledger.post(&[deposit, fee])?;
    println!("reserved {}", ledger.account(buyer_id)?.debits_pending);

    // The work is done for less: the receipt makes the fee final, the rest is released.
    let done = Digest::of(RECEIPT, &[b"order 1 done: 900 proofs"]);
    let cost = prices.quote(Op::Verification, 900);
    let paid = fee.post_pending(cost, done, 0, now.saturating_add(Duration::from_secs(60)));
    println!("paid     {:?}", ledger.post(&[paid])?);

    // A restart loses nothing, and a repeated receipt counts once.
    drop(ledger);
    let mut ledger = Ledger::open(Box::new(RedbStore::open(&path)?))?;
    println!("repeated {:?}", ledger.post(&[paid])?);
    for (id, account) in ledger.balances()? {
        println!("balance  {id} {}", account.balance());
    }

    // The same receipt with another amount is a second story, and is refused.
    let story = Transfer { amount: prices.quote(Op::Verification, 899), ..paid };
    match ledger.post(&[story]) {
        Err(PostError::Refused { refusal: Refusal::Conflict, .. }) => println!("refused  the second story"),
        other => return Err(format!("a second story was not refused: {other:?}").into()),
    }
    let summary = ledger.verify_chain()?;
    println!("audited  {} entries, head {}", summary.head.length, summary.head.hash);
    std::fs::remove_dir_all(folder)?;
    Ok(())
}
