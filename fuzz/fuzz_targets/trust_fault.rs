#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| nonos_trust::testing::fuzz_fault(bytes));
