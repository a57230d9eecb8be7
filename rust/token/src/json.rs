//! JSON in which every member occurs once, at every depth.
//!
//! serde_json keeps the last of two equal members, other parsers the first: the signer and the verifier could read two
//! different documents (RFC 7515 §5.2 step 4, RFC 8725 §2.4 in spirit). Names are compared after escapes are resolved. The
//! reader relies on serde_json's feature `arbitrary_precision` being off: with it, numbers come as objects.

use std::borrow::Cow;
use std::collections::BTreeSet;

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// The members of an object.
pub type Members = Map<String, Value>;

/// `bytes` as one JSON object in UTF-8, with nothing after it and no member twice in it or in anything it holds.
pub fn object(bytes: &[u8]) -> Option<Members> {
    match serde_json::from_slice::<StrictValue>(bytes) {
        Ok(StrictValue(Value::Object(members))) => Some(members),
        _ => None,
    }
}

/// The values of the members `names` in the JSON object `bytes`, which is as strict as [`object`], and whether there are
/// members of other names. Nothing is built of the other members.
pub fn members<'a, const COUNT: usize>(
    bytes: &'a [u8],
    names: [&str; COUNT],
) -> Option<([Option<MemberValue<'a>>; COUNT], bool)> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let read = deserializer.deserialize_any(MembersVisitor(names)).ok()?;
    deserializer.end().ok()?;
    Some(read)
}

/// The value of a member, of the types that members of a token have.
pub enum MemberValue<'a> {
    /// A string: a part of the input, unless it has escapes.
    String(Cow<'a, str>),
    /// A number that is written as an integer and is not negative.
    Unsigned(u64),
    /// Anything else, null too.
    Other,
}

struct MembersVisitor<'n, const COUNT: usize>([&'n str; COUNT]);

impl<'de, const COUNT: usize> Visitor<'de> for MembersVisitor<'_, COUNT> {
    type Value = ([Option<MemberValue<'de>>; COUNT], bool);

    fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("a JSON object without duplicate members")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        let mut found = [const { None }; COUNT];
        let mut others = BTreeSet::new();
        while let Some((name, value)) = access.next_entry()? {
            let MemberValue::String(name) = name else { return Err(A::Error::custom("not a name")) };
            let place = self.0.iter().zip(&mut found).find(|(known, _)| **known == name);
            let is_new = match place {
                Some((_, place)) => place.replace(value).is_none(),
                None => others.insert(name),
            };
            if !is_new {
                return Err(A::Error::custom("duplicate member"));
            }
        }
        Ok((found, !others.is_empty()))
    }
}

impl<'de> Deserialize<'de> for MemberValue<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(MemberValueVisitor)
    }
}

struct MemberValueVisitor;

impl<'de> Visitor<'de> for MemberValueVisitor {
    type Value = MemberValue<'de>;

    fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        StrictValueVisitor.expecting(out)
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<MemberValue<'de>, E> {
        Ok(MemberValue::String(Cow::Borrowed(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<MemberValue<'de>, E> {
        Ok(MemberValue::String(Cow::Owned(value.to_owned())))
    }

    fn visit_u64<E>(self, value: u64) -> Result<MemberValue<'de>, E> {
        Ok(MemberValue::Unsigned(value))
    }

    fn visit_i64<E>(self, _value: i64) -> Result<MemberValue<'de>, E> {
        Ok(MemberValue::Other)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<MemberValue<'de>, E> {
        StrictValueVisitor.visit_f64(value).map(|_| MemberValue::Other)
    }

    fn visit_bool<E>(self, _value: bool) -> Result<MemberValue<'de>, E> {
        Ok(MemberValue::Other)
    }

    fn visit_unit<E>(self) -> Result<MemberValue<'de>, E> {
        Ok(MemberValue::Other)
    }

    // Their content is not used, but it is read as strictly.
    fn visit_seq<A: SeqAccess<'de>>(self, access: A) -> Result<MemberValue<'de>, A::Error> {
        StrictValueVisitor.visit_seq(access).map(|_| MemberValue::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, access: A) -> Result<MemberValue<'de>, A::Error> {
        StrictValueVisitor.visit_map(access).map(|_| MemberValue::Other)
    }
}

struct StrictValue(Value);

impl<'de> Deserialize<'de> for StrictValue {
    // Nested no deeper than serde_json's own limit of 128.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictValueVisitor).map(Self)
    }
}

struct StrictValueVisitor;

impl<'de> Visitor<'de> for StrictValueVisitor {
    type Value = Value;

    fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("JSON without duplicate members")
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
        while let Some(StrictValue(value)) = access.next_element()? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut members = Members::new();
        while let Some((name, StrictValue(value))) = access.next_entry::<String, StrictValue>()? {
            if members.insert(name, value).is_some() {
                return Err(A::Error::custom("duplicate member"));
            }
        }
        Ok(Value::Object(members))
    }
}
