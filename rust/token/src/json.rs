//! JSON in which every member occurs once, at every depth.
//!
//! serde_json keeps the last of two equal members, other parsers the first: whoever signs and whoever verifies could
//! read two different documents (RFC 7515 §5.2 step 4, RFC 8725 §2.4 in spirit). Names are compared after escapes are resolved.

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// The members of an object.
pub type Members = Map<String, Value>;

/// `bytes` as one JSON object in UTF-8, with nothing after it and no member twice in it or in anything it holds.
pub fn object(bytes: &[u8]) -> Option<Members> {
    match serde_json::from_slice::<Single>(bytes) {
        Ok(Single(Value::Object(members))) => Some(members),
        _ => None,
    }
}

struct Single(Value);

impl<'de> Deserialize<'de> for Single {
    // Nested no deeper than serde_json's own limit of 128.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SingleVisitor).map(Self)
    }
}

struct SingleVisitor;

impl<'de> Visitor<'de> for SingleVisitor {
    type Value = Value;

    fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("JSON without doubled members")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("not a finite number"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(Single(value)) = access.next_element()? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut members = Members::new();
        while let Some((name, Single(value))) = access.next_entry::<String, Single>()? {
            if members.insert(name, value).is_some() {
                return Err(A::Error::custom("doubled member"));
            }
        }
        Ok(Value::Object(members))
    }
}
