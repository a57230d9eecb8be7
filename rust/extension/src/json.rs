//! Documents between Godot's `Dictionary` and JSON.

mod alike;
mod capture;
mod encoded;
mod measured;
mod unfit;
mod written;

use backend_client::error::ClientError;
use backend_client::player_store::{Content, Draft as _};
use godot::builtin::AnyDictionary;
use godot::prelude::*;
use serde_json::{Map, Number, Value};

pub use capture::{Captured, aloud};

/// `dictionary` as a JSON object, at once. Refuses what JSON cannot hold, naming the place.
pub fn from_dictionary(dictionary: &AnyDictionary) -> Result<Content, ClientError> {
    Captured::of(dictionary).map(|captured| captured.content())
}

/// `object` as a Dictionary. Whole numbers become `int`, so that they compare and index as a script expects.
pub fn to_dictionary(object: &Map<String, Value>) -> VarDictionary {
    let mut dictionary = VarDictionary::new();
    for (key, value) in object {
        dictionary.set(&GString::from(key), &to_variant(value));
    }
    dictionary
}

fn to_variant(value: &Value) -> Variant {
    match value {
        Value::Null => Variant::nil(),
        Value::Bool(flag) => flag.to_variant(),
        Value::Number(number) => number_to_variant(number),
        Value::String(text) => GString::from(text).to_variant(),
        Value::Array(items) => items.iter().map(to_variant).collect::<VarArray>().to_variant(),
        Value::Object(object) => to_dictionary(object).to_variant(),
    }
}

/// Integers stay integers; `2.0`, which other writers of JSON send for 2, becomes one.
fn number_to_variant(number: &Number) -> Variant {
    if let Some(whole) = number.as_i64() {
        return whole.to_variant();
    }
    let real = number.as_f64().unwrap_or_default();
    whole_from(real).map_or_else(|| real.to_variant(), |whole| whole.to_variant())
}

/// `real` as an integer if that loses nothing.
fn whole_from(real: f64) -> Option<i64> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    (real.fract() == 0.0 && real.abs() <= EXACT && !(real == 0.0 && real.is_sign_negative()))
        .then_some(real as i64)
}

#[cfg(test)]
mod tests {
    use super::whole_from;

    #[test]
    fn only_what_is_whole_and_exact_becomes_an_integer() {
        assert_eq!(whole_from(3.0), Some(3));
        assert_eq!(whole_from(-7.0), Some(-7));
        assert_eq!(whole_from(0.5), None);
        assert_eq!(whole_from(-0.0), None);
        assert_eq!(whole_from(1e300), None);
    }
}
