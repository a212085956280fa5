//! Durable posts per second, beside `redb` doing the same number of rows by itself.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use nonos_identity::{Digest, NodeId, Timestamp};
use nonos_ledger::redb::RedbStore;
use nonos_ledger::{Amount, Code, Kind, Ledger, SystemAccount, Transfer};
use redb::{Database, Durability, TableDefinition};

const BATCHES: [u64; 3] = [1, 16, 256];
const ROWS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("rows");

fn transfer(number: u64) -> Transfer {
    Transfer {
        debit: SystemAccount::Opening.into(),
        credit: NodeId::from_bytes([(number % 16) as u8; 32]).into(),
        amount: Amount::from_nano(number + 1),
        code: Code::Relay,
        receipt: Digest::of_bytes(&number.to_le_bytes()),
        leg: 0,
        price_table: Digest::of_bytes(b"prices"),
        timestamp: Timestamp::from_secs(number),
        kind: Kind::Posted,
    }
}

fn posts(c: &mut Criterion) {
    let mut group = c.benchmark_group("ledger::post");
    for batch in BATCHES {
        let folder = tempfile::tempdir().expect("temporary folder");
        let store = RedbStore::open(&folder.path().join("ledger.redb")).expect("opens");
        let mut ledger = Ledger::open(Box::new(store)).expect("opens");
        let mut next = 0;
        group.throughput(Throughput::Elements(batch));
        group.bench_function(BenchmarkId::from_parameter(format!("batch={batch}")), |b| {
            b.iter(|| {
                let transfers: Vec<_> = (next..next + batch).map(transfer).collect();
                next += batch;
                ledger.post(&transfers).expect("posts")
            });
        });
    }
    group.finish();
}

/// The anchor: as many rows of the same size in one table, one synced two-phase commit per batch.
fn raw(c: &mut Criterion) {
    let mut group = c.benchmark_group("redb::commit");
    for batch in BATCHES {
        let folder = tempfile::tempdir().expect("temporary folder");
        let database = Database::create(folder.path().join("raw.redb")).expect("opens");
        let mut next = 0;
        group.throughput(Throughput::Elements(batch));
        group.bench_function(BenchmarkId::from_parameter(format!("batch={batch}")), |b| {
            b.iter(|| {
                let mut transaction = database.begin_write().expect("begins");
                transaction.set_durability(Durability::Immediate).expect("durable");
                transaction.set_two_phase_commit(true);
                {
                    let mut table = transaction.open_table(ROWS).expect("table");
                    for number in next..next + batch {
                        let id = Digest::of_bytes(&number.to_le_bytes());
                        table.insert(&number.to_be_bytes()[..], &[7; 210][..]).expect("journal row");
                        table.insert(&id.as_bytes()[..], &number.to_be_bytes()[..]).expect("id row");
                    }
                    for account in 0..=u8::try_from(batch.min(16)).expect("small") {
                        table.insert(&[account; 36][..], &[7; 69][..]).expect("account row");
                    }
                }
                next += batch;
                transaction.commit().expect("commits");
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = posts, raw
}
criterion_main!(benches);
