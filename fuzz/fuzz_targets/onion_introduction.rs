#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| nonos_onion::testing::fuzz_introduction(bytes));
