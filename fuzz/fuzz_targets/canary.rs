//! A planted fault. Nobody comes upon it by chance: four letters, each of which is a step that only coverage shows.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Ok(text) = str::from_utf8(data) else { return };
    let (plural, _) = tagout::api::kind_parts(text);
    let mut right = 0;
    for (own, wanted) in plural.bytes().zip(*b"boom") {
        if own != wanted {
            return;
        }
        right += 1;
    }
    assert!(right < 4, "the canary sings");
});
