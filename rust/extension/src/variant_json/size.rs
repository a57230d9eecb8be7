//! What a save has to know at once about a document that is still encoded: its size as JSON, and whether it says what
//! another one says. Neither allocates. What most documents are made of is measured without serde between, which in a
//! library for size costs the game's thread twice as much; the rest, and what is wrong with it, by [`Size`].

use std::fmt::{self, Formatter};

use godot::builtin::VariantType;
use serde::Deserializer;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::decoder::{MAX_DEPTH, Reader};
use super::error::JsonError;

/// Bytes of JSON that the Dictionary in `bytes` takes.
pub fn size(bytes: &[u8]) -> Result<usize, JsonError> {
    match common_size(bytes) {
        Some(size) => Ok(size),
        None => thorough_size(bytes),
    }
}

/// The same of whatever there is.
pub(super) fn thorough_size(bytes: &[u8]) -> Result<usize, JsonError> {
    let mut reader = Reader::new(bytes);
    let size = Size.deserialize(&mut reader)?;
    reader.end()?;
    Ok(size)
}

/// The same where all is fit and of common types.
fn common_size(bytes: &[u8]) -> Option<usize> {
    let mut reader = Reader::new(bytes);
    let (kind, flags) = reader.head().ok()?;
    let size = match kind {
        VariantType::DICTIONARY => members_size(&mut reader, flags, 1)?,
        _ => return None,
    };
    reader.end().ok().map(|()| size)
}

/// Of one value, which `depth` containers are around.
fn value_size(reader: &mut Reader<'_>, depth: usize) -> Option<usize> {
    if depth > MAX_DEPTH {
        return None;
    }
    let (kind, flags) = reader.head().ok()?;
    match (kind, flags) {
        (VariantType::STRING | VariantType::STRING_NAME, 0) => string_size(reader),
        (VariantType::INT, _) => Some(int_size(reader.int(flags).ok()?)),
        (VariantType::FLOAT, _) => float_size(reader.float(flags).ok().filter(|value| value.is_finite())?),
        (VariantType::BOOL, 0) => Some(bool_size(reader.bool().ok()?)),
        (VariantType::NIL, 0) => Some("null".len()),
        (VariantType::DICTIONARY, _) => members_size(reader, flags, depth + 1),
        (VariantType::ARRAY, _) => {
            reader.container_type(flags).ok()?;
            let count = reader.count(4).ok()?;
            let mut size = "[]".len() + count.saturating_sub(1);
            for _ in 0..count {
                size += value_size(reader, depth + 1)?;
            }
            Some(size)
        }
        _ => None,
    }
}

fn members_size(reader: &mut Reader<'_>, flags: u32, depth: usize) -> Option<usize> {
    reader.container_type(flags & 0b11).ok()?;
    reader.container_type(flags >> 2).ok()?;
    let count = reader.count(8).ok()?;
    let mut size = "{}".len() + count.saturating_sub(1);
    for _ in 0..count {
        let (VariantType::STRING | VariantType::STRING_NAME, 0) = reader.head().ok()? else { return None };
        size += string_size(reader)? + 1 + value_size(reader, depth)?;
    }
    Some(size)
}

fn string_size(reader: &mut Reader<'_>) -> Option<usize> {
    let bytes = reader.string_bytes().ok()?;
    if is_plain(bytes) { Some(2 + bytes.len()) } else { std::str::from_utf8(bytes).ok().map(quoted_size) }
}

/// Whether it is ASCII without anything to escape: eight bytes at a time.
fn is_plain(bytes: &[u8]) -> bool {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGHS: u64 = ONES << 7;
    // Of each byte, the highest bit: that it is less than `limit`, at most 0x80. A borrow only follows one that is.
    let less = |word: u64, limit: u64| word.wrapping_sub(ONES * limit) & !word;
    let is_strange = |word: u64| {
        let (quote, backslash) = (word ^ (ONES * u64::from(b'"')), word ^ (ONES * u64::from(b'\\')));
        (word | less(word, 0x20) | less(quote, 1) | less(backslash, 1)) & HIGHS != 0
    };
    let (words, rest) = bytes.as_chunks();
    !words.iter().any(|word| is_strange(u64::from_ne_bytes(*word)))
        && rest.iter().all(|byte| byte.is_ascii() && ESCAPES[usize::from(*byte)] == 0)
}

const fn bool_size(value: bool) -> usize {
    if value { "true".len() } else { "false".len() }
}

fn int_size(value: i64) -> usize {
    let digits = value.unsigned_abs().checked_ilog10().unwrap_or(0) as usize + 1;
    digits + usize::from(value < 0)
}

fn float_size(value: f64) -> Option<usize> {
    let mut counter = Counter(0);
    serde_json::to_writer(&mut counter, &value).ok().map(|()| counter.0)
}

fn quoted_size(value: &str) -> usize {
    let escapes: usize = value.bytes().map(|byte| usize::from(ESCAPES[usize::from(byte)])).sum();
    2 + value.len() + escapes
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
        Ok(bool_size(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<usize, E> {
        Ok(int_size(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<usize, E> {
        Ok(value.checked_ilog10().unwrap_or(0) as usize + 1)
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<usize, E> {
        float_size(value).ok_or_else(|| E::custom("JSON has no such number"))
    }

    fn visit_str<E>(self, value: &str) -> Result<usize, E> {
        Ok(quoted_size(value))
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
