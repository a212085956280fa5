#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| nonos_mesh::testing::fuzz_beacon(bytes));
