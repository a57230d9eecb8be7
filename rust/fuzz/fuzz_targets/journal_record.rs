//! A document in the journal: what is recovered is what is written again, number by number.
#![no_main]

use backend_client::player_store::Content;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(content) = serde_json::from_str::<Content>(text) else { return };
    let written = serde_json::to_string(&content).expect("a document has JSON");
    let again: Content = serde_json::from_str(&written).expect("what was written is read");
    assert_eq!(again, content);
});
