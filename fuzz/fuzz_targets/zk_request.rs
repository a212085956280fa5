#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| nonos_zk::testing::fuzz_request(bytes));
