//! Equality of encoded Dictionaries with each other and with JSON objects, without decoding them into a tree.

use std::borrow::Cow;
use std::fmt::{self, Formatter};

use godot::builtin::VariantType;
use serde::Deserializer;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::Encoding;
use super::decoder::Reader;
use super::error::JsonError;

/// Whether both are equal as JSON; `None` where reading them side by side does not decide it: members in another order, or
/// values of types that are the same in JSON. A document that is saved again is most often built in the same order.
pub fn equal_side_by_side(one: &[u8], other: &[u8]) -> Option<bool> {
    if one == other {
        return Some(true);
    }
    // Only values of JSON are compared: it is the same in both encodings.
    let reader = |bytes| Reader::new(bytes, Encoding::Plain);
    value(&mut reader(one), &mut reader(other)).ok().flatten()
}

fn value<'a>(one: &mut Reader<'a>, other: &mut Reader<'a>) -> Result<Option<bool>, JsonError> {
    use VariantType as T;

    let ((kind, flags), (other_kind, other_flags)) = (one.head()?, other.head()?);
    let same = match (kind, other_kind) {
        (T::NIL, T::NIL) => true,
        (T::BOOL, T::BOOL) => one.bool()? == other.bool()?,
        (T::INT, T::INT) => one.int(flags)? == other.int(other_flags)?,
        // Bit for bit: -0.0 is not 0.0.
        (T::FLOAT, T::FLOAT) => one.float(flags)?.to_bits() == other.float(other_flags)?.to_bits(),
        (T::STRING | T::STRING_NAME, T::STRING | T::STRING_NAME) => one.string()? == other.string()?,
        (T::ARRAY, T::ARRAY) => {
            one.container_type(flags)?;
            other.container_type(other_flags)?;
            let count = one.count(4)?;
            if count != other.count(4)? {
                return Ok(Some(false));
            }
            return all(count, || value(one, other));
        }
        (T::DICTIONARY, T::DICTIONARY) => {
            for (reader, flags) in [(&mut *one, flags), (&mut *other, other_flags)] {
                reader.container_type(flags & 0b11)?;
                reader.container_type(flags >> 2)?;
            }
            let count = one.count(8)?;
            if count != other.count(8)? {
                return Ok(Some(false));
            }
            return all(count, || if one.key()? == other.key()? { value(one, other) } else { Ok(None) });
        }
        _ => return Ok(None),
    };
    Ok(Some(same))
}

/// Stops at the first that is not the same.
fn all(
    count: usize,
    mut next: impl FnMut() -> Result<Option<bool>, JsonError>,
) -> Result<Option<bool>, JsonError> {
    for _ in 0..count {
        let same = next()?;
        if same != Some(true) {
            return Ok(same);
        }
    }
    Ok(Some(true))
}

/// Whether the Dictionary in `bytes` equals `known`.
pub fn equals(bytes: &[u8], encoding: Encoding, known: &Map<String, Value>) -> bool {
    let mut reader = Reader::new(bytes, encoding);
    matches!(reader.deserialize_any(IsObject(known)), Ok(true))
}

/// Whether the Dictionary is this object.
struct IsObject<'a>(&'a Map<String, Value>);

impl<'de> Visitor<'de> for IsObject<'_> {
    type Value = bool;

    fn expecting(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.write_str("a Dictionary")
    }

    /// Stops at the first difference: what is left is not read.
    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<bool, A::Error> {
        let mut left = self.0.len();
        while let Some(key) = members.next_key_seed(Key)? {
            let known = self.0.get(key.as_ref());
            let (Some(known), Some(fewer)) = (known, left.checked_sub(1)) else { return Ok(false) };
            left = fewer;
            if !members.next_value_seed(Is(known))? {
                return Ok(false);
            }
        }
        Ok(left == 0)
    }
}

/// A key, borrowed unless it is written in another way than the game has it.
struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Cow<'de, str>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Key {
    type Value = Cow<'de, str>;

    fn expecting(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.write_str("a key")
    }

    fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Borrowed(key))
    }

    fn visit_str<E>(self, key: &str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Owned(key.to_owned()))
    }
}

/// Whether the value is this one.
struct Is<'a>(&'a Value);

impl<'de> DeserializeSeed<'de> for Is<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Is<'_> {
    type Value = bool;

    fn expecting(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<bool, E> {
        Ok(self.0.is_null())
    }

    fn visit_bool<E>(self, value: bool) -> Result<bool, E> {
        Ok(*self.0 == Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<bool, E> {
        Ok(matches!(self.0, Value::Number(known) if *known == value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<bool, E> {
        Ok(matches!(self.0, Value::Number(known) if *known == value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<bool, E> {
        // Bit for bit: -0.0 is not 0.0, and 3.0 is not 3.
        let is_same = |known: &Number| known.as_f64().map(f64::to_bits) == Some(value.to_bits());
        Ok(matches!(self.0, Value::Number(known) if known.is_f64() && is_same(known)))
    }

    fn visit_str<E>(self, value: &str) -> Result<bool, E> {
        Ok(matches!(self.0, Value::String(known) if known == value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<bool, A::Error> {
        let Value::Array(known) = self.0 else { return Ok(false) };
        for known in known {
            if elements.next_element_seed(Is(known))? != Some(true) {
                return Ok(false);
            }
        }
        Ok(elements.next_element::<IgnoredAny>()?.is_none())
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<bool, A::Error> {
        match self.0 {
            Value::Object(known) => IsObject(known).visit_map(members),
            _ => Ok(false),
        }
    }
}
