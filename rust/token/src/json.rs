//! JSON in which every member occurs once, at every depth.
//!
//! serde_json keeps the last of two equal members, other parsers the first: whoever signs and whoever verifies could
//! read two different documents (RFC 7515 §5.2 step 4, RFC 8725 §2.4 in spirit). Names are compared after escapes are resolved.

use std::borrow::Cow;
use std::collections::BTreeSet;

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

/// The values of the members `names` in the JSON object `bytes`, which is as strict as [`object`], and whether there are
/// members of other names. Nothing is built of what is not asked for.
pub fn members<'a, const COUNT: usize>(
    bytes: &'a [u8],
    names: [&str; COUNT],
) -> Option<([Option<Plain<'a>>; COUNT], bool)> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let read = deserializer.deserialize_any(MembersVisitor(names)).ok()?;
    deserializer.end().ok()?;
    Some(read)
}

/// A member's value, as far as the members of a token go.
pub enum Plain<'a> {
    /// A text: part of what was read, unless it was escaped.
    Text(Cow<'a, str>),
    /// A number that is written as an integer, and not negative.
    Natural(u64),
    /// Anything else, null too.
    Other,
}

struct MembersVisitor<'n, const COUNT: usize>([&'n str; COUNT]);

impl<'de, const COUNT: usize> Visitor<'de> for MembersVisitor<'_, COUNT> {
    type Value = ([Option<Plain<'de>>; COUNT], bool);

    fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("a JSON object without doubled members")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        let mut found = [const { None }; COUNT];
        let mut others = BTreeSet::new();
        while let Some((name, value)) = access.next_entry()? {
            let Plain::Text(name) = name else { return Err(A::Error::custom("not a name")) };
            let place = self.0.iter().zip(&mut found).find(|(known, _)| **known == name);
            let is_new = match place {
                Some((_, place)) => place.replace(value).is_none(),
                None => others.insert(name),
            };
            if !is_new {
                return Err(A::Error::custom("doubled member"));
            }
        }
        Ok((found, !others.is_empty()))
    }
}

impl<'de> Deserialize<'de> for Plain<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PlainVisitor)
    }
}

struct PlainVisitor;

impl<'de> Visitor<'de> for PlainVisitor {
    type Value = Plain<'de>;

    fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        SingleVisitor.expecting(out)
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Plain<'de>, E> {
        Ok(Plain::Text(Cow::Borrowed(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Plain<'de>, E> {
        Ok(Plain::Text(Cow::Owned(value.to_owned())))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Plain<'de>, E> {
        Ok(Plain::Natural(value))
    }

    fn visit_i64<E>(self, _value: i64) -> Result<Plain<'de>, E> {
        Ok(Plain::Other)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Plain<'de>, E> {
        SingleVisitor.visit_f64(value).map(|_| Plain::Other)
    }

    fn visit_bool<E>(self, _value: bool) -> Result<Plain<'de>, E> {
        Ok(Plain::Other)
    }

    fn visit_unit<E>(self) -> Result<Plain<'de>, E> {
        Ok(Plain::Other)
    }

    // What is in them is no business of ours, but it is read as strictly.
    fn visit_seq<A: SeqAccess<'de>>(self, access: A) -> Result<Plain<'de>, A::Error> {
        SingleVisitor.visit_seq(access).map(|_| Plain::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, access: A) -> Result<Plain<'de>, A::Error> {
        SingleVisitor.visit_map(access).map(|_| Plain::Other)
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
