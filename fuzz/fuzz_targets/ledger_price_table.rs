#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| nonos_ledger::testing::fuzz_price_table(bytes));
