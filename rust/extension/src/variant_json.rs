//! Documents between Godot's `Dictionary` and JSON.

mod attributes;
mod decoder;
mod equality;
mod error;
mod gstring;
mod size;
mod snapshot;
mod writer;

use backend_client::error::ClientError;
use backend_client::player_store::{Content, DocumentSource as _};
use godot::builtin::AnyDictionary;
use godot::prelude::*;
use serde_json::{Map, Number, Value};

pub use attributes::{attribute, attributes, attributes_dictionary};
pub use gstring::gstring;
pub use snapshot::{DictionarySnapshot, log_unmuted};

/// Deeper than documents are in practice; detects a container that contains itself.
const MAX_DEPTH: usize = 64;

/// `dictionary` as a JSON object, at once. Refuses what JSON cannot hold, naming the place.
pub fn from_dictionary(dictionary: &AnyDictionary) -> Result<Content, ClientError> {
    DictionarySnapshot::of(dictionary).map(|captured| captured.content())
}

/// `object` as a Dictionary. A number with a point or an exponent is a `float`, any other an `int`, so that what was saved
/// comes back as what it was: `3.0` is not 3, which a script would divide as one.
pub fn to_dictionary(object: &Map<String, Value>) -> VarDictionary {
    let mut dictionary = VarDictionary::new();
    for (key, value) in object {
        dictionary.set(&gstring(key), &to_variant(value));
    }
    dictionary
}

fn to_variant(value: &Value) -> Variant {
    match value {
        Value::Null => Variant::nil(),
        Value::Bool(flag) => flag.to_variant(),
        Value::Number(number) => number_to_variant(number),
        Value::String(text) => gstring(text).to_variant(),
        Value::Array(items) => items.iter().map(to_variant).collect::<VarArray>().to_variant(),
        Value::Object(object) => to_dictionary(object).to_variant(),
    }
}

/// A whole number beyond 64 bits, which only another writer of JSON can have sent, is a `float` as well.
fn number_to_variant(number: &Number) -> Variant {
    match number.as_i64() {
        Some(whole) => whole.to_variant(),
        None => number.as_f64().unwrap_or_default().to_variant(),
    }
}
