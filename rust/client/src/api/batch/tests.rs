use backend_protocol::limits::{self, MAX_BATCH};
use serde_json::{Value, json};

use super::*;

fn batch(value: Value) -> Batch {
    let value = RawJson::parse(value.to_string()).expect("an object");
    let item = |sequence| BatchItem {
        player_id: "ada".into(),
        key: "progress".into(),
        epoch: 3,
        sequence,
        value: value.clone(),
        loaded_version: (sequence == 1).then_some(7),
    };
    Batch { server_id: "server-1".into(), items: vec![item(1), item(i64::MAX)] }
}

#[test]
fn it_is_written_as_the_protocol_has_it() {
    let one = batch(json!({ "a": [1, 2.5, null, "\"\\\n\u{1}ä"], "b": {} }));
    let read: SaveDocuments = serde_json::from_slice(&one.to_json()).expect("a batch");
    assert_eq!(read, one.parsed());
    let strange = Batch { server_id: "\"},{\\".into(), items: Vec::new() };
    let read: SaveDocuments = serde_json::from_slice(&strange.to_json()).expect("a batch");
    assert_eq!(read, strange.parsed());
}

#[test]
fn it_is_checked_as_the_protocol_is() {
    let good = batch(json!({ "a": 1 }));
    let with = |change: fn(&mut Batch)| {
        let mut bad = good.clone();
        change(&mut bad);
        bad
    };
    let large = json!({ "a": "x".repeat(limits::MAX_DOCUMENT_BYTES) });
    for one in [
        good.clone(),
        with(|bad| bad.server_id = "a b".into()),
        with(|bad| bad.items.clear()),
        with(|bad| bad.items = vec![bad.items[0].clone(); MAX_BATCH + 1]),
        with(|bad| bad.items[1].player_id = "".into()),
        with(|bad| bad.items[1].key = "a/b".into()),
        with(|bad| bad.items[1].epoch = 0),
        with(|bad| bad.items[1].sequence = 0),
        batch(large),
    ] {
        let message = |outcome: Result<(), FieldError>| outcome.map_err(|error| error.to_string());
        assert_eq!(message(one.check()), message(one.parsed().check()));
    }
    assert!(good.check().is_ok());
}

#[test]
fn nothing_but_an_object_is_a_text() {
    for json in ["", "[]", "1", "null", "{\"a\":1", "{\"a\":1}}", "{\"a\":01}"] {
        assert!(RawJson::parse(json.to_owned()).is_err(), "{json}");
    }
}
