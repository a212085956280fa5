#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| nonos_capsule::testing::fuzz_dispute(bytes));
