//! See `weir_fuzz::admin`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| weir_fuzz::admin(data));
