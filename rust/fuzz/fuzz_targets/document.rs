//! A document on its whole way: from a game's JSON through the journal's text and a batch to what the backend stores, and
//! back to what a game loads. Types, numbers and texts are the same bit for bit at every step.
#![no_main]

use backend_client::player_store::{Batch, BatchItem, Content, DocumentSource, RawJson, is_identical, merge_patch};
use backend_protocol::player_store::SaveDocuments;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(document) = serde_json::from_str::<Content>(text) else { return };
    assert!(is_identical(&document, &document));

    let journalled = RawJson::parse(DocumentSource::text(&document)).expect("the journal takes what a game may save");
    assert!(is_identical(&journalled.content(), &document));

    let item = BatchItem {
        player_id: "player".into(),
        key: "progress".into(),
        epoch: 1,
        sequence: 1,
        value: journalled.clone(),
        loaded_version: None,
    };
    let batch = Batch { server_id: "server".into(), items: vec![item] };
    let received: SaveDocuments = serde_json::from_slice(&batch.to_json()).expect("the backend reads a batch");
    let received = &received.items[0].value;
    assert!(is_identical(received, &document));

    let stored = serde_json::to_string(received).expect("the backend stores JSON");
    let loaded: Content = serde_json::from_str(&stored).expect("the backend reads what it stored");
    assert!(is_identical(&loaded, &document));
    assert!(loaded.is_same_as(&document) && document.is_same_source(&loaded) == Some(true), "loaded and saved again is no change");
    assert!(is_identical(&merge_patch(&document, &Content::new()), &document), "a patch of nothing changes nothing");
});
