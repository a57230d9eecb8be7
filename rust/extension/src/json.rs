//! Documents between Godot's `Dictionary` and JSON.

use backend_client::error::ClientError;
use godot::builtin::{AnyArray, AnyDictionary};
use godot::prelude::*;
use serde_json::{Map, Number, Value};

/// Deeper values than anybody saves on purpose; a container that holds itself is caught by it.
const MAX_DEPTH: usize = 64;

/// `dictionary` as a JSON object. Refuses what JSON cannot hold, naming the place.
pub fn from_dictionary(dictionary: &AnyDictionary) -> Result<Map<String, Value>, ClientError> {
    object(dictionary, 0).map_err(|unfit| ClientError::field(format!("value{}", unfit.path), unfit.rule))
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

/// Why a value does not fit, and where. The path is put together on the way out, so that what fits costs nothing.
struct Unfit {
    path: String,
    rule: String,
}

impl Unfit {
    fn new(rule: impl Into<String>) -> Self {
        Self { path: String::new(), rule: rule.into() }
    }

    fn within(mut self, step: impl std::fmt::Display) -> Self {
        self.path.insert_str(0, &step.to_string());
        self
    }
}

fn object(dictionary: &AnyDictionary, depth: usize) -> Result<Map<String, Value>, Unfit> {
    let mut object = Map::new();
    for (key, value) in dictionary.iter_shared() {
        if !matches!(key.get_type(), VariantType::STRING | VariantType::STRING_NAME) {
            return Err(Unfit::new(format!("keys must be strings, {key} is {:?}", key.get_type())));
        }
        let key = key.stringify().to_string();
        match from_variant(&value, depth + 1) {
            Ok(value) => object.insert(key, value),
            Err(unfit) => return Err(unfit.within(format_args!(".{key}"))),
        };
    }
    Ok(object)
}

fn from_variant(value: &Variant, depth: usize) -> Result<Value, Unfit> {
    if depth > MAX_DEPTH {
        return Err(Unfit::new(format!("is nested more than {MAX_DEPTH} levels deep")));
    }
    match value.get_type() {
        VariantType::NIL => Ok(Value::Null),
        VariantType::BOOL => read::<bool>(value).map(Value::Bool),
        VariantType::INT => read::<i64>(value).map(Value::from),
        VariantType::FLOAT => real(read(value)?),
        VariantType::STRING | VariantType::STRING_NAME | VariantType::NODE_PATH => {
            Ok(Value::String(value.stringify().to_string()))
        }
        VariantType::DICTIONARY => object(&read(value)?, depth).map(Value::Object),
        VariantType::ARRAY => {
            items(read::<AnyArray>(value)?.iter_shared(), |item| from_variant(&item, depth + 1))
        }
        VariantType::PACKED_STRING_ARRAY => {
            items(read::<PackedStringArray>(value)?.as_slice(), |text| Ok(Value::String(text.to_string())))
        }
        VariantType::PACKED_BYTE_ARRAY => {
            items(read::<PackedByteArray>(value)?.as_slice(), |byte| Ok((*byte).into()))
        }
        VariantType::PACKED_INT32_ARRAY => {
            items(read::<PackedInt32Array>(value)?.as_slice(), |whole| Ok((*whole).into()))
        }
        VariantType::PACKED_INT64_ARRAY => {
            items(read::<PackedInt64Array>(value)?.as_slice(), |whole| Ok((*whole).into()))
        }
        VariantType::PACKED_FLOAT32_ARRAY => {
            items(read::<PackedFloat32Array>(value)?.as_slice(), |single| real(f64::from(*single)))
        }
        VariantType::PACKED_FLOAT64_ARRAY => {
            items(read::<PackedFloat64Array>(value)?.as_slice(), |double| real(*double))
        }
        other => Err(Unfit::new(format!("JSON has no {other:?}; convert it first"))),
    }
}

fn read<T: FromGodot>(value: &Variant) -> Result<T, Unfit> {
    value.try_to().map_err(|error| Unfit::new(error.to_string()))
}

fn real(number: f64) -> Result<Value, Unfit> {
    Number::from_f64(number).map(Value::Number).ok_or_else(|| Unfit::new("must be a finite number"))
}

fn items<T>(
    items: impl IntoIterator<Item = T>,
    convert: impl Fn(T) -> Result<Value, Unfit>,
) -> Result<Value, Unfit> {
    let converted = items
        .into_iter()
        .enumerate()
        .map(|(index, item)| convert(item).map_err(|unfit| unfit.within(format_args!("[{index}]"))));
    converted.collect::<Result<Vec<Value>, Unfit>>().map(Value::Array)
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
