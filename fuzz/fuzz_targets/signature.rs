#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    tagout_fuzz::signature(data);
});
