//! Documents between Godot's `Dictionary` and JSON.

mod attributes;
mod decoder;
mod equality;
mod error;
mod gstring;
mod size;
mod snapshot;
mod typed_value;
mod writer;

use backend_client::error::ClientError;
use backend_client::player_store::{Content, DocumentSource as _};
use backend_settings::GODOT_TYPES;
use godot::builtin::AnyDictionary;
use godot::classes::ProjectSettings;
use godot::prelude::*;
use serde_json::{Map, Number, Value};

pub use attributes::{attribute, attributes, attributes_dictionary};
pub use gstring::gstring;
pub use snapshot::{DictionarySnapshot, log_unmuted};

/// Deeper than documents are in practice; detects a container that contains itself.
const MAX_DEPTH: usize = 64;

/// How values that JSON does not have are saved, such as a `Vector3`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// As objects that name their type, so that they are loaded as what they were.
    Typed,
    /// Not at all: packed arrays become lists, the rest is refused.
    Plain,
}

impl Encoding {
    /// The one that the Project Settings name.
    fn of_project() -> Self {
        let typed = ProjectSettings::singleton().get_setting(GODOT_TYPES.path);
        if typed.try_to().unwrap_or(true) { Self::Typed } else { Self::Plain }
    }
}

/// `dictionary` as a JSON object, at once. Refuses what cannot be saved, naming the place.
pub fn from_dictionary(dictionary: &AnyDictionary) -> Result<Content, ClientError> {
    DictionarySnapshot::of(dictionary).map(|captured| captured.content())
}

/// `object` as a Dictionary. A number with a point or an exponent is a `float`, any other an `int`, so that what was saved
/// comes back as what it was: `3.0` is not 3, which a script would divide as one.
pub fn to_dictionary(object: &Map<String, Value>) -> VarDictionary {
    dictionary(object, Encoding::of_project())
}

fn dictionary(object: &Map<String, Value>, encoding: Encoding) -> VarDictionary {
    let mut dictionary = VarDictionary::new();
    for (key, value) in object {
        let key = if encoding == Encoding::Typed { typed_value::without_escape(key) } else { key };
        dictionary.set(&gstring(key), &to_variant(value, encoding));
    }
    dictionary
}

fn to_variant(value: &Value, encoding: Encoding) -> Variant {
    match value {
        Value::Null => Variant::nil(),
        Value::Bool(flag) => flag.to_variant(),
        Value::Number(number) => number_to_variant(number),
        Value::String(text) => gstring(text).to_variant(),
        Value::Array(items) => {
            items.iter().map(|item| to_variant(item, encoding)).collect::<VarArray>().to_variant()
        }
        Value::Object(object) => match typed_value::variant(object) {
            Some(value) if encoding == Encoding::Typed => value,
            _ => dictionary(object, encoding).to_variant(),
        },
    }
}

/// A whole number beyond 64 bits, which only another writer of JSON can have sent, is a `float` as well.
fn number_to_variant(number: &Number) -> Variant {
    match number.as_i64() {
        Some(whole) => whole.to_variant(),
        None => number.as_f64().unwrap_or_default().to_variant(),
    }
}
