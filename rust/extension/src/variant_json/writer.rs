//! A Dictionary that is still encoded, as JSON text: value by value, with nothing in between.

use std::fmt::{self, Formatter};

use serde::Deserializer;
use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};

use super::decoder::Reader;
use super::error::JsonError;

/// The Dictionary in `bytes` as JSON of `size` bytes, as [`super::size::size`] tells it.
pub fn text(bytes: &[u8], size: usize) -> Result<String, JsonError> {
    let mut json = Vec::with_capacity(size);
    let mut reader = Reader::new(bytes);
    Writing(&mut json).deserialize(&mut reader)?;
    reader.end()?;
    String::from_utf8(json).map_err(|_| JsonError::new("must be valid text"))
}

/// One value, to the end of this.
struct Writing<'a>(&'a mut Vec<u8>);

impl Writing<'_> {
    fn scalar<E: Error>(self, value: &(impl serde::Serialize + ?Sized)) -> Result<(), E> {
        serde_json::to_writer(self.0, value).map_err(E::custom)
    }
}

impl<'de> DeserializeSeed<'de> for Writing<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Writing<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.0.extend_from_slice(b"null");
        Ok(())
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.0.extend_from_slice(if value { b"true" } else { b"false" });
        Ok(())
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

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        self.0.push(b'[');
        let begin = self.0.len();
        loop {
            let end = self.0.len();
            if end > begin {
                self.0.push(b',');
            }
            if elements.next_element_seed(Writing(self.0))?.is_none() {
                self.0.truncate(end);
                break;
            }
        }
        self.0.push(b']');
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        self.0.push(b'{');
        let begin = self.0.len();
        loop {
            let end = self.0.len();
            if end > begin {
                self.0.push(b',');
            }
            if members.next_key_seed(Writing(self.0))?.is_none() {
                self.0.truncate(end);
                break;
            }
            self.0.push(b':');
            members.next_value_seed(Writing(self.0))?;
        }
        self.0.push(b'}');
        Ok(())
    }
}
