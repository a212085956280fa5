use core::time::Duration;

use nonos_identity::{NetworkId, SigningKey, Timestamp, wire};
use nonos_ledger::testing::{SimStore, fuzz_price_table, fuzz_rows, transfers};
use nonos_ledger::{Ledger, PriceTable};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn decoders_survive_noise(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        fuzz_rows(&bytes);
        fuzz_price_table(&bytes);
    }

    #[test]
    fn transfers_round_trip_and_survive_mutation(transfer in transfers(), at in any::<prop::sample::Index>(), to: u8) {
        let mut bytes = wire::to_bytes(&transfer);
        prop_assert_eq!(wire::from_bytes(&bytes), Ok(transfer));
        let at = at.index(bytes.len());
        bytes[at] = to;
        fuzz_rows(&bytes);
    }

    #[test]
    fn stored_rows_survive_mutation(transfer in transfers(), at in any::<prop::sample::Index>(), to: u8) {
        let store = SimStore::new();
        let mut ledger = Ledger::open(Box::new(store.clone())).expect("opens");
        let _ = ledger.post(&[transfer]);
        for (table, row) in store.rows() {
            let mut value = row.value.clone();
            let at = at.index(value.len());
            value[at] = to;
            fuzz_rows(&value);
            let changed = nonos_ledger::Row { value, ..row.clone() };
            store.replace(table, &row, changed);
            // Whatever the damage, an answer and no panic.
            let _ = (ledger.balances(), ledger.pending(), ledger.transfers(0, 9), ledger.verify_chain());
            let _ = Ledger::open(Box::new(store.clone()));
            store.replace(table, &row, row.clone());
        }
    }

    #[test]
    fn price_tables_survive_mutation(version: u64, at in any::<prop::sample::Index>(), to: u8) {
        let table =
            PriceTable { version, execution_nano: 1, seeding_nano: 2, verification_nano: 3, relay_nano: 4 };
        let (key, network) = (SigningKey::from_seed(&[7; 32]), NetworkId::from_name("fuzz"));
        let sealed = table.seal(&key, &network, Timestamp::from_secs(0), Duration::from_secs(9)).expect("seals");
        let mut bytes = sealed.as_bytes().to_vec();
        let at = at.index(bytes.len());
        bytes[at] = to;
        fuzz_price_table(&bytes);
    }
}
