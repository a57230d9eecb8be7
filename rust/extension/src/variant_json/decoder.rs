//! Godot's binary form of a Variant, as `var_to_bytes` writes it, as a data format of serde: read without the engine, on
//! any thread.
//!
//! The format is the one of the engine's manual, "Binary serialization API": little-endian, every value under a head of
//! four bytes (its type, and flags in the upper half) and padded to four bytes. Nothing is skipped or guessed: what this
//! does not know is refused, so that a later engine cannot change a document unnoticed.

use std::io::Write as _;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use godot::builtin::VariantType;
use godot::obj::EngineEnum as _;
use serde::de::value::{BorrowedStrDeserializer, SeqDeserializer};
use serde::de::{
    Deserialize as _, DeserializeSeed, Deserializer, IntoDeserializer as _, MapAccess, SeqAccess, Visitor,
};
use serde::forward_to_deserialize_any;
use serde_json::{Map, Value};

use super::error::JsonError;
use super::typed_value::{self, MARK, Shape, VALUE};
use super::{Encoding, MAX_DEPTH};

/// Ints and floats: eight bytes instead of four.
const WIDE: u32 = 1;
/// The element type of a container: none, a built-in type, the name of a class, the path of a script.
const UNTYPED: u32 = 0;
const BUILTIN: u32 = 1;
const CLASS: u32 = 2;
const SCRIPT: u32 = 3;
/// Set in the first word of a NodePath since Godot 3.
const NEW_PATH: u32 = 1 << 31;
const ABSOLUTE_PATH: u32 = 1;

/// The Dictionary in `bytes` as a JSON object.
pub fn object(bytes: &[u8], encoding: Encoding) -> Result<Map<String, Value>, JsonError> {
    let mut reader = Reader::new(bytes, encoding);
    let object = Map::deserialize(&mut reader)?;
    reader.end()?;
    Ok(object)
}

/// Reads one value.
pub struct Reader<'de> {
    rest: &'de [u8],
    /// Containers around the next value.
    depth: usize,
    encoding: Encoding,
}

fn unknown() -> JsonError {
    JsonError::new("is encoded by this engine in a way that is not understood")
}

impl<'de> Reader<'de> {
    /// A reader of the Dictionary in `bytes`, and of nothing else.
    pub fn new(bytes: &'de [u8], encoding: Encoding) -> Self {
        Self { rest: bytes, depth: 0, encoding }
    }

    /// Whether all has been read.
    pub fn end(&self) -> Result<(), JsonError> {
        if self.rest.is_empty() { Ok(()) } else { Err(unknown()) }
    }

    #[expect(clippy::inline_always, reason = "a library for size would call it for every word of a document")]
    #[inline(always)]
    fn take(&mut self, count: usize) -> Result<&'de [u8], JsonError> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or_else(unknown)?;
        self.rest = rest;
        Ok(taken)
    }

    #[expect(clippy::inline_always, reason = "a library for size would call it for every word of a document")]
    #[inline(always)]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], JsonError> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or_else(unknown)?;
        self.rest = rest;
        Ok(*taken)
    }

    #[expect(clippy::inline_always, reason = "a library for size would call it for every word of a document")]
    #[inline(always)]
    fn word(&mut self) -> Result<u32, JsonError> {
        self.array().map(u32::from_le_bytes)
    }

    /// A type, and its flags.
    #[expect(clippy::inline_always, reason = "a library for size would call it for every word of a document")]
    #[inline(always)]
    pub(super) fn head(&mut self) -> Result<(VariantType, u32), JsonError> {
        let head = self.word()?;
        let kind = VariantType::try_from_ord((head & 0xffff) as i32).ok_or_else(unknown)?;
        Ok((kind, head >> 16))
    }

    /// A number of elements of at least `least` bytes each: more than there are bytes for is no number to rely on.
    pub(super) fn count(&mut self, least: usize) -> Result<usize, JsonError> {
        let count = self.word()? as usize;
        if count > self.rest.len() / least { Err(unknown()) } else { Ok(count) }
    }

    /// What has to be UTF-8, with zeros behind it up to the next word.
    fn string_bytes(&mut self) -> Result<&'de [u8], JsonError> {
        let length = self.word()? as usize;
        let bytes = self.take(length)?;
        let padding = self.take(length.wrapping_neg() % 4)?;
        if padding.iter().any(|byte| *byte != 0) { Err(unknown()) } else { Ok(bytes) }
    }

    pub(super) fn string(&mut self) -> Result<&'de str, JsonError> {
        let bytes = self.string_bytes()?;
        std::str::from_utf8(bytes).map_err(|_| JsonError::new("must be valid text"))
    }

    /// A string of a packed array: with a zero behind it.
    fn terminated(&mut self) -> Result<&'de str, JsonError> {
        self.string()?.strip_suffix('\0').ok_or_else(unknown)
    }

    pub(super) fn bool(&mut self) -> Result<bool, JsonError> {
        match self.word()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(unknown()),
        }
    }

    pub(super) fn int(&mut self, flags: u32) -> Result<i64, JsonError> {
        match flags {
            0 => Ok(i32::from_le_bytes(self.array()?).into()),
            WIDE => Ok(i64::from_le_bytes(self.array()?)),
            _ => Err(unknown()),
        }
    }

    pub(super) fn float(&mut self, flags: u32) -> Result<f64, JsonError> {
        match flags {
            0 => Ok(f32::from_le_bytes(self.array()?).into()),
            WIDE => Ok(f64::from_le_bytes(self.array()?)),
            _ => Err(unknown()),
        }
    }

    /// As the engine shows it: names with slashes, subnames with colons.
    fn node_path(&mut self) -> Result<String, JsonError> {
        let (names, subnames, flags) = (self.word()?, self.word()?, self.word()?);
        if names & NEW_PATH == 0 || flags & !ABSOLUTE_PATH != 0 {
            return Err(unknown());
        }
        let mut path = String::new();
        if flags & ABSOLUTE_PATH != 0 {
            path.push('/');
        }
        for index in 0..names & !NEW_PATH {
            if index > 0 {
                path.push('/');
            }
            path.push_str(self.string()?);
        }
        for _ in 0..subnames {
            path.push(':');
            path.push_str(self.string()?);
        }
        Ok(path)
    }

    pub(super) fn key(&mut self) -> Result<&'de str, JsonError> {
        let (kind, flags) = self.head()?;
        let key = match (kind, flags) {
            (VariantType::STRING | VariantType::STRING_NAME, 0) => return self.string(),
            (VariantType::NIL, 0) => "<null>".to_owned(),
            (VariantType::BOOL, 0) => self.bool()?.to_string(),
            (VariantType::INT, _) => self.int(flags)?.to_string(),
            (VariantType::FLOAT, _) => format!("{:?}", self.float(flags)?),
            (VariantType::NODE_PATH, 0) => self.node_path()?,
            _ => "one".to_owned(),
        };
        Err(JsonError::new(format!("keys must be strings, {key} is {kind:?}")))
    }

    /// Skips the element type of a container: each element has its own.
    pub(super) fn container_type(&mut self, kind: u32) -> Result<(), JsonError> {
        match kind {
            UNTYPED => Ok(()),
            BUILTIN => self.word().map(|_| ()),
            CLASS | SCRIPT => self.string().map(|_| ()),
            _ => Err(unknown()),
        }
    }

    fn dictionary<V: Visitor<'de>>(&mut self, flags: u32, visitor: V) -> Result<V::Value, JsonError> {
        self.container_type(flags & 0b11)?;
        self.container_type(flags >> 2)?;
        let left = self.count(8)?;
        self.depth += 1;
        let value = visitor.visit_map(Members { reader: self, left, key: "" })?;
        self.depth -= 1;
        Ok(value)
    }

    fn list<V: Visitor<'de>>(&mut self, flags: u32, visitor: V) -> Result<V::Value, JsonError> {
        self.container_type(flags)?;
        let count = self.count(4)?;
        self.depth += 1;
        let value = visitor.visit_seq(Elements { reader: self, element: Element::Any, count, index: 0 })?;
        self.depth -= 1;
        Ok(value)
    }

    /// A value of a type that JSON does not have.
    fn engine_value<V: Visitor<'de>>(
        &mut self,
        kind: VariantType,
        flags: u32,
        visitor: V,
    ) -> Result<V::Value, JsonError> {
        let Some((name, shape)) = typed_value::of(kind) else {
            return Err(JsonError::new(format!("{kind:?} cannot be saved; convert it first")));
        };
        match self.encoding {
            // The object and the list in it.
            Encoding::Typed if self.depth + 2 > MAX_DEPTH => Err(JsonError::too_deep()),
            Encoding::Typed => {
                visitor.visit_map(TypedMembers { reader: self, name, shape, flags, members: 0 })
            }
            Encoding::Plain if shape.is_plain() => {
                TypedContent { reader: self, shape, flags }.deserialize_any(visitor)
            }
            Encoding::Plain => Err(JsonError::new(format!(
                "JSON has no {kind:?}; convert it first, or turn {} on",
                backend_settings::GODOT_TYPES.path
            ))),
        }
    }

    fn bytes(&mut self) -> Result<&'de [u8], JsonError> {
        let count = self.count(1)?;
        let bytes = self.take(count)?;
        self.take(count.wrapping_neg() % 4)?;
        Ok(bytes)
    }
}

impl<'de> Deserializer<'de> for &mut Reader<'de> {
    type Error = JsonError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, JsonError> {
        if self.depth > MAX_DEPTH {
            return Err(JsonError::too_deep());
        }
        let (kind, flags) = self.head()?;
        if self.depth == 0 && kind != VariantType::DICTIONARY {
            return Err(unknown());
        }
        match (kind, flags) {
            (VariantType::STRING | VariantType::STRING_NAME, 0) => visitor.visit_borrowed_str(self.string()?),
            (VariantType::INT, _) => visitor.visit_i64(self.int(flags)?),
            (VariantType::FLOAT, _) => visitor.visit_f64(finite(self.float(flags)?)?),
            (VariantType::DICTIONARY, _) => self.dictionary(flags, visitor),
            (VariantType::ARRAY, _) => self.list(flags, visitor),
            (VariantType::NIL, 0) => visitor.visit_unit(),
            (VariantType::BOOL, 0) => visitor.visit_bool(self.bool()?),
            (VariantType::STRING | VariantType::STRING_NAME | VariantType::NIL | VariantType::BOOL, _) => {
                Err(unknown())
            }
            _ => self.engine_value(kind, flags, visitor),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

fn finite(number: f64) -> Result<f64, JsonError> {
    if number.is_finite() { Ok(number) } else { Err(JsonError::new("must be a finite number")) }
}

/// The number with the fewest digits that is this one in 32 bits: 0.1 rather than 0.10000000149011612.
fn widened(number: f32) -> f64 {
    let mut text = [0; 32];
    let mut rest = text.as_mut_slice();
    let room = rest.len();
    let length = write!(rest, "{number:e}").map_or(0, |()| room - rest.len());
    let shortest = str::from_utf8(&text[..length]).ok().and_then(|text| text.parse().ok());
    shortest.unwrap_or_else(|| number.into())
}

/// What a list holds: values with heads, or bare ones.
#[derive(Clone, Copy)]
enum Element {
    Any,
    Int32,
    Int64,
    Float32,
    Float64,
    Text,
}

struct Members<'a, 'de> {
    reader: &'a mut Reader<'de>,
    left: usize,
    key: &'de str,
}

impl<'de> MapAccess<'de> for Members<'_, 'de> {
    type Error = JsonError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, JsonError> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        self.left = left;
        self.key = self.reader.key()?;
        if self.reader.encoding == Encoding::Typed && typed_value::is_like_mark(self.key) {
            return seed.deserialize(format!("${}", self.key).into_deserializer()).map(Some);
        }
        seed.deserialize(BorrowedStrDeserializer::new(self.key)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, JsonError> {
        seed.deserialize(&mut *self.reader).map_err(|unfit| unfit.within(format_args!(".{}", self.key)))
    }
}

/// The object that stands for a value that JSON does not have: its type, and what it consists of.
struct TypedMembers<'a, 'de> {
    reader: &'a mut Reader<'de>,
    name: &'static str,
    shape: Shape,
    flags: u32,
    /// Keys read so far.
    members: usize,
}

impl<'de> MapAccess<'de> for TypedMembers<'_, 'de> {
    type Error = JsonError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, JsonError> {
        let Some(key) = [MARK, VALUE].get(self.members) else { return Ok(None) };
        self.members += 1;
        seed.deserialize(BorrowedStrDeserializer::new(key)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, JsonError> {
        if self.members == 1 {
            return seed.deserialize(BorrowedStrDeserializer::new(self.name));
        }
        seed.deserialize(TypedContent { reader: self.reader, shape: self.shape, flags: self.flags })
    }
}

/// What a value that JSON does not have consists of.
struct TypedContent<'a, 'de> {
    reader: &'a mut Reader<'de>,
    shape: Shape,
    flags: u32,
}

impl<'de> Deserializer<'de> for TypedContent<'_, 'de> {
    type Error = JsonError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, JsonError> {
        let Self { reader, shape, flags } = self;
        // An engine built for double precision writes its vectors so.
        let (real, size) = match flags {
            0 => (Element::Float32, 4),
            WIDE => (Element::Float64, 8),
            _ => return Err(unknown()),
        };
        if flags != 0 && !matches!(shape, Shape::Reals(_) | Shape::RealsEach(_)) {
            return Err(unknown());
        }
        let (element, count) = match shape {
            Shape::Reals(count) => (real, count),
            Shape::Singles(count) => (Element::Float32, count),
            Shape::Ints(count) => (Element::Int32, count),
            Shape::RealsEach(count) => (real, reader.count(count * size)? * count),
            Shape::SinglesEach(count) => (Element::Float32, reader.count(count * 4)? * count),
            Shape::Int32List => (Element::Int32, reader.count(4)?),
            Shape::Int64List => (Element::Int64, reader.count(8)?),
            Shape::Float32List => (Element::Float32, reader.count(4)?),
            Shape::Float64List => (Element::Float64, reader.count(8)?),
            Shape::TextList => (Element::Text, reader.count(4)?),
            Shape::Bytes if reader.encoding == Encoding::Plain => {
                return visitor.visit_seq(SeqDeserializer::new(reader.bytes()?.iter().copied()));
            }
            Shape::Bytes => return visitor.visit_string(BASE64_STANDARD.encode(reader.bytes()?)),
            Shape::Path => return visitor.visit_string(reader.node_path()?),
        };
        visitor.visit_seq(Elements { reader, element, count, index: 0 })
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

struct Elements<'a, 'de> {
    reader: &'a mut Reader<'de>,
    element: Element,
    count: usize,
    index: usize,
}

impl<'de> SeqAccess<'de> for Elements<'_, 'de> {
    type Error = JsonError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, JsonError> {
        if self.index == self.count {
            return Ok(None);
        }
        let read = match self.element {
            Element::Any => seed.deserialize(&mut *self.reader),
            element => seed.deserialize(Bare { reader: self.reader, element }),
        };
        let value = read.map_err(|unfit| unfit.within(format_args!("[{}]", self.index)))?;
        self.index += 1;
        Ok(Some(value))
    }

    fn size_hint(&self) -> Option<usize> {
        // Backed by as many bytes at least.
        Some(self.count - self.index)
    }
}

/// One element of a packed array.
struct Bare<'a, 'de> {
    reader: &'a mut Reader<'de>,
    element: Element,
}

impl<'de> Deserializer<'de> for Bare<'_, 'de> {
    type Error = JsonError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, JsonError> {
        let reader = self.reader;
        match self.element {
            Element::Any => reader.deserialize_any(visitor),
            Element::Int32 => visitor.visit_i32(i32::from_le_bytes(reader.array()?)),
            Element::Int64 => visitor.visit_i64(i64::from_le_bytes(reader.array()?)),
            Element::Float32 => visitor.visit_f64(finite(widened(f32::from_le_bytes(reader.array()?)))?),
            Element::Float64 => visitor.visit_f64(finite(f64::from_le_bytes(reader.array()?))?),
            Element::Text => visitor.visit_borrowed_str(reader.terminated()?),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests;
