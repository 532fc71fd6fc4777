#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| drop(tagout_fuzz::selector(data)));
