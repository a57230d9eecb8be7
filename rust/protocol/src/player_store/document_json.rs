//! Reading a document's JSON.
//!
//! `serde_json`'s own reader of a [`Value`] replaces an object whose first member is named `$serde_json::private::RawValue` by
//! the JSON in that member, in every program in which anything enables the feature `raw_value`. Such a document would come
//! back changed, and deeper than the limit of nesting. The reader here takes every name for a name. It relies on
//! the feature `arbitrary_precision` being off: with it, numbers come as objects with a reserved name, too.

use std::fmt::{self, Formatter};

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// Reads one JSON object and nothing after it.
pub fn parse_document(json: &str) -> Result<Map<String, Value>, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let document = deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(document)
}

/// Reads a document that is a field of something.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Map<String, Value>, D::Error> {
    deserializer.deserialize_map(DocumentVisitor)
}

struct DocumentVisitor;

impl<'de> Visitor<'de> for DocumentVisitor {
    type Value = Map<String, Value>;

    fn expecting(&self, out: &mut Formatter<'_>) -> fmt::Result {
        out.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        let mut members = Map::new();
        while let Some((name, PlainValue(value))) = access.next_entry()? {
            members.insert(name, value);
        }
        Ok(members)
    }
}

struct PlainValue(Value);

impl<'de> Deserialize<'de> for PlainValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor).map(Self)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, out: &mut Formatter<'_>) -> fmt::Result {
        out.write_str("any valid JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut elements = Vec::new();
        while let Some(PlainValue(element)) = access.next_element()? {
            elements.push(element);
        }
        Ok(Value::Array(elements))
    }

    fn visit_map<A: MapAccess<'de>>(self, access: A) -> Result<Value, A::Error> {
        DocumentVisitor.visit_map(access).map(Value::Object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The name that `serde_json` reads as an instruction.
    const RESERVED: &str = "$serde_json::private::RawValue";

    #[test]
    fn every_name_is_a_name() {
        let json = format!(r#"{{"a":{{"{RESERVED}":"[1]"}},"b":[{{"{RESERVED}":"{{"}}]}}"#);
        let document = parse_document(&json).expect("a document");
        assert_eq!(document["a"][RESERVED], "[1]");
        assert_eq!(serde_json::to_string(&document).expect("JSON"), json);
    }

    #[test]
    fn it_is_read_as_serde_json_reads_it() {
        for json in [
            r#"{"a":[1,-1,18446744073709551615,-9223372036854775808,1.0,1e300,0.1,-0.0],"b":{"c":null,"d":[true,false]}}"#,
            r#" {"a":"\u00e4\n\ud83d\ude00","a":2} "#,
            "{}",
            "[]",
            "null",
            "{\"a\":1}}",
            "{\"a\":01}",
            "{\"a\":1e999}",
            "",
        ] {
            let read = parse_document(json).map_err(|error| error.to_string());
            let other = serde_json::from_str::<Map<String, Value>>(json).map_err(|error| error.to_string());
            assert_eq!(read, other, "{json}");
        }
    }

    #[test]
    fn nesting_is_limited() {
        let nested = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
        assert!(parse_document(&nested(126)).is_ok());
        assert!(parse_document(&nested(127)).is_err());
    }
}
