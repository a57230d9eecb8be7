//! An encoded Dictionary as JSON text, written value by value with nothing in between.

use std::fmt::{self, Formatter};
use std::io::Write;

use serde::Deserializer;
use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};

use super::Encoding;
use super::decoder::Reader;
use super::error::JsonError;

/// The Dictionary in `bytes` as JSON of `size` bytes, as [`super::size::size`] counts it.
pub fn text(bytes: &[u8], encoding: Encoding, size: usize) -> Result<String, JsonError> {
    let mut json = Vec::with_capacity(size);
    write(bytes, encoding, &mut json)?;
    String::from_utf8(json).map_err(|_| JsonError::new("must be valid text"))
}

/// Writes the Dictionary in `bytes` as JSON.
pub(super) fn write(bytes: &[u8], encoding: Encoding, out: &mut impl Write) -> Result<(), JsonError> {
    let mut reader = Reader::new(bytes, encoding);
    JsonWriter { out, prefix: b"" }.deserialize(&mut reader)?;
    reader.end()
}

/// Writes `prefix`, then one value.
struct JsonWriter<'a, W> {
    out: &'a mut W,
    prefix: &'static [u8],
}

impl<W: Write> JsonWriter<'_, W> {
    fn raw<E: Error>(&mut self, bytes: &[u8]) -> Result<(), E> {
        self.out.write_all(bytes).map_err(E::custom)
    }

    fn scalar<E: Error>(self, value: &(impl serde::Serialize + ?Sized)) -> Result<(), E> {
        serde_json::to_writer(self.out, value).map_err(E::custom)
    }

    fn nested(&mut self, prefix: &'static [u8]) -> JsonWriter<'_, W> {
        JsonWriter { out: self.out, prefix }
    }
}

impl<'de, W: Write> DeserializeSeed<'de> for JsonWriter<'_, W> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(mut self, deserializer: D) -> Result<(), D::Error> {
        self.raw(self.prefix)?;
        deserializer.deserialize_any(self)
    }
}

impl<'de, W: Write> Visitor<'de> for JsonWriter<'_, W> {
    type Value = ();

    fn expecting(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.write_str("a value")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.scalar(&())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.scalar(&value)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.scalar(&value)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.scalar(&value)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.scalar(&value)
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        self.scalar(value)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut elements: A) -> Result<(), A::Error> {
        self.raw(b"[")?;
        let mut prefix: &[u8] = b"";
        while elements.next_element_seed(self.nested(prefix))?.is_some() {
            prefix = b",";
        }
        self.raw(b"]")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut members: A) -> Result<(), A::Error> {
        self.raw(b"{")?;
        let mut prefix: &[u8] = b"";
        while members.next_key_seed(self.nested(prefix))?.is_some() {
            members.next_value_seed(self.nested(b":"))?;
            prefix = b",";
        }
        self.raw(b"}")
    }
}
