use backend_protocol::player_store::SaveDocuments;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::is_identical;
use crate::player_store::{Batch, BatchItem, DocumentSource, RawJson};

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(object) => object,
        other => panic!("{other} is no object"),
    }
}

#[test]
fn types_signs_and_texts_count() {
    let differing = [
        (json!(3), json!(3.0)),
        (json!(0.0), json!(-0.0)),
        (json!(9_007_199_254_740_993_i64), json!(9_007_199_254_740_992_i64)),
        (json!(u64::MAX), json!(u64::MAX as f64)),
        (json!("\u{feff}a"), json!("a")),
        (json!("\u{e9}"), json!("e\u{301}")),
        (json!([]), json!({})),
        (json!([0.0]), json!([-0.0])),
        (json!([1]), json!([1, 1])),
        (json!({"a": {"b": -0.0}}), json!({"a": {"b": 0.0}})),
        (json!({"a": null}), json!({})),
        (json!({"\u{feff}a": 1}), json!({"a": 1})),
        (json!(null), json!(false)),
    ];
    for (one, other) in differing {
        let (one, other) = (object(json!({ "a": one })), object(json!({ "a": other })));
        assert!(is_identical(&one, &one) && is_identical(&other, &other));
        assert!(!is_identical(&one, &other) && !is_identical(&other, &one), "{one:?} and {other:?}");
    }
}

#[test]
fn a_document_survives_as_text() {
    let texts = [
        r#"{"a":3.0,"b":3,"c":-0.0,"d":1e+308,"e":5e-324,"f":2.2250738585072014e-308,"g":1.7976931348623157e+308}"#,
        r#"{"max":9223372036854775807,"min":-9223372036854775808,"odd":9007199254740993}"#,
        "{\"a\":2,\"nfc\":\"\u{e9}\",\"nfd\":\"e\u{301}\",\"\u{feff}\":\"\u{feff}\u{feff}a\",\"\u{feff}a\":1}",
        r#"{"control":"\u0000\u001f","deep":[[],{},[[{"":[]}]]]}"#,
    ];
    for text in texts {
        let read = RawJson::parse(text.to_owned()).expect(text).content();
        let again = RawJson::from(&read);
        assert!(is_identical(&again.content(), &read), "{text} became {again:?}");
        assert_eq!(again.as_str().replace("e+", "e"), text.replace("e+", "e"));
    }
}

fn any_object() -> impl Strategy<Value = Map<String, Value>> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (-20i64..20).prop_map(Value::from),
        (-20i64..20).prop_map(|whole| Value::from(whole as f64)),
        Just(Value::from(-0.0)),
        any::<u64>()
            .prop_map(f64::from_bits)
            .prop_filter("finite", |real| real.is_finite())
            .prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        "\u{feff}{0,2}[\\x00-\\x20\"\\\\\u{fffd}\u{301}e]{0,4}".prop_map(Value::from),
    ];
    let value = leaf.prop_recursive(5, 64, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map("\u{feff}?[a-z\"\n]{0,3}", inner, 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    });
    prop::collection::btree_map("\u{feff}?[a-zü]{0,3}", value, 0..6)
        .prop_map(|members| members.into_iter().collect())
}

proptest! {
    /// Journal, batch, backend and back.
    #[test]
    fn a_document_survives_its_whole_way(document in any_object()) {
        let journalled = RawJson::parse(DocumentSource::text(&document)).map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert!(is_identical(&journalled.content(), &document));
        let item = BatchItem {
            player_id: "player".into(),
            key: "progress".into(),
            epoch: 1,
            sequence: 1,
            value: journalled,
            loaded_version: None,
        };
        let batch = Batch { server_id: "server".into(), items: vec![item] };
        let received: SaveDocuments = serde_json::from_slice(&batch.to_json())?;
        prop_assert!(is_identical(&received.items[0].value, &document));
        let stored = serde_json::to_string(&received.items[0].value)?;
        let loaded: Map<String, Value> = serde_json::from_str(&stored)?;
        prop_assert!(is_identical(&loaded, &document));
        prop_assert!(loaded.is_same_as(&document));
    }

    /// As strict as the texts are, but for the order of members.
    #[test]
    fn identical_is_what_is_written_alike(one in any_object(), other in any_object()) {
        let alike = RawJson::from(&one) == RawJson::from(&other);
        prop_assert_eq!(is_identical(&one, &other), alike);
    }
}
