//! What a save has to know at once about a document that is still encoded: its size as JSON, and whether it says what
//! another one says. Neither allocates.

use std::fmt::{self, Formatter};

use serde::Deserializer;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::encoded::Reader;
use super::unfit::Unfit;

/// Bytes of JSON that the Dictionary in `bytes` takes.
pub fn size(bytes: &[u8]) -> Result<usize, Unfit> {
    let mut reader = Reader::new(bytes);
    let size = Size.deserialize(&mut reader)?;
    reader.end()?;
    Ok(size)
}

/// Whether the Dictionary in `bytes` is `known`.
pub fn is(bytes: &[u8], known: &Map<String, Value>) -> bool {
    let mut reader = Reader::new(bytes);
    matches!(reader.deserialize_any(IsObject(known)), Ok(true))
}

/// Of one value.
#[derive(Clone, Copy)]
struct Size;

impl<'de> DeserializeSeed<'de> for Size {
    type Value = usize;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<usize, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Size {
    type Value = usize;

    fn expecting(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<usize, E> {
        Ok("null".len())
    }

    fn visit_bool<E>(self, value: bool) -> Result<usize, E> {
        Ok(if value { "true".len() } else { "false".len() })
    }

    fn visit_i64<E>(self, value: i64) -> Result<usize, E> {
        let digits = value.unsigned_abs().checked_ilog10().unwrap_or(0) as usize + 1;
        Ok(digits + usize::from(value < 0))
    }

    fn visit_u64<E>(self, value: u64) -> Result<usize, E> {
        Ok(value.checked_ilog10().unwrap_or(0) as usize + 1)
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<usize, E> {
        let mut counter = Counter(0);
        serde_json::to_writer(&mut counter, &value).map_err(E::custom)?;
        Ok(counter.0)
    }

    fn visit_str<E>(self, value: &str) -> Result<usize, E> {
        let escapes: usize = value.bytes().map(|byte| usize::from(ESCAPES[usize::from(byte)])).sum();
        Ok(2 + value.len() + escapes)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<usize, A::Error> {
        let mut size = "[]".len();
        let mut comma = 0;
        while let Some(element) = elements.next_element_seed(Self)? {
            size += comma + element;
            comma = 1;
        }
        Ok(size)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<usize, A::Error> {
        let mut size = "{}".len();
        let mut comma = 0;
        while let Some(key) = members.next_key_seed(Self)? {
            size += comma + key + 1 + members.next_value_seed(Self)?;
            comma = 1;
        }
        Ok(size)
    }
}

/// Bytes that are added to a byte of a string (RFC 8259 §7): to what serde_json escapes, and nothing else.
static ESCAPES: [u8; 256] = {
    let mut added = [0; 256];
    let mut control = 0;
    while control < 0x20 {
        added[control] = "u0000".len() as u8;
        control += 1;
    }
    let mut short = 0;
    while short < SHORT.len() {
        added[SHORT[short] as usize] = 1;
        short += 1;
    }
    added
};
/// With an escape of two characters.
const SHORT: &[u8] = b"\"\\\n\r\t\x08\x0c";

struct Counter(usize);

impl std::io::Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
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
        while let Some(key) = members.next_key::<&str>()? {
            let known = self.0.get(key);
            let (Some(known), Some(fewer)) = (known, left.checked_sub(1)) else { return Ok(false) };
            left = fewer;
            if !members.next_value_seed(Is(known))? {
                return Ok(false);
            }
        }
        Ok(left == 0)
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
        Ok(matches!(self.0, Value::Number(known) if Some(known) == Number::from_f64(value).as_ref()))
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
