#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| nonos_identity::testing::fuzz_recovery_phrase(bytes));
