//! Custom attributes of a room: names with values whose types survive.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use crate::limits::{self, FieldError};

/// Most attributes of a room.
pub const MAX_ATTRIBUTES: usize = 32;
/// Longest name of an attribute, in bytes of `[A-Za-z0-9_.-]`.
pub const MAX_ATTRIBUTE_NAME: usize = 32;
/// Longest string that an attribute holds, in characters.
pub const MAX_ATTRIBUTE_TEXT: usize = 256;
/// Most bytes of all attributes together, as JSON.
pub const MAX_ATTRIBUTE_BYTES: usize = 2 * 1024;

/// Custom attributes by name.
pub type Attributes = BTreeMap<String, AttributeValue>;

/// A value of a custom attribute. A number with a point or an exponent is a float, any other an integer of 64 bits.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(untagged)]
pub enum AttributeValue {
    /// `true` or `false`.
    Bool(bool),
    /// A whole number of 64 bits.
    Int(i64),
    /// A number with a point: `3.0` stays one.
    Float(f64),
    /// Text of at most 256 characters.
    String(String),
}

impl PartialEq for AttributeValue {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Bool(one), Self::Bool(other)) => one == other,
            (Self::Int(one), Self::Int(other)) => one == other,
            // By their bits: only finite ones pass the check, and 0.0 is sent as it is.
            (Self::Float(one), Self::Float(other)) => one.to_bits() == other.to_bits(),
            (Self::String(one), Self::String(other)) => one == other,
            _ => false,
        }
    }
}

impl Eq for AttributeValue {}

impl<'de> Deserialize<'de> for AttributeValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Value;

        impl Visitor<'_> for Value {
            type Value = AttributeValue;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a string, a number, true or false")
            }

            fn visit_bool<E: Error>(self, value: bool) -> Result<AttributeValue, E> {
                Ok(AttributeValue::Bool(value))
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<AttributeValue, E> {
                Ok(AttributeValue::Int(value))
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<AttributeValue, E> {
                i64::try_from(value)
                    .map(AttributeValue::Int)
                    .map_err(|_| E::custom("expected a whole number of 64 bits"))
            }

            fn visit_f64<E: Error>(self, value: f64) -> Result<AttributeValue, E> {
                Ok(AttributeValue::Float(value))
            }

            fn visit_str<E: Error>(self, value: &str) -> Result<AttributeValue, E> {
                Ok(AttributeValue::String(value.to_owned()))
            }

            fn visit_string<E: Error>(self, value: String) -> Result<AttributeValue, E> {
                Ok(AttributeValue::String(value))
            }
        }

        deserializer.deserialize_any(Value)
    }
}

/// `attributes` keep their limits. The error names the attribute.
pub fn check_attributes(field: &str, attributes: &Attributes) -> Result<(), FieldError> {
    limits::at_most(field, attributes.len(), MAX_ATTRIBUTES)?;
    for (name, value) in attributes {
        check_attribute_name(field, name)?;
        match value {
            AttributeValue::String(text) => {
                limits::text(&format!("{field}.{name}"), text, 0, MAX_ATTRIBUTE_TEXT)?;
            }
            AttributeValue::Float(number) if !number.is_finite() => {
                return Err(FieldError::new(format!("{field}.{name}"), "must be a finite number"));
            }
            _ => {}
        }
    }
    let bytes = serde_json::to_string(attributes).map_or(usize::MAX, |json| json.len());
    if bytes > MAX_ATTRIBUTE_BYTES {
        let rule =
            format!("must have at most {MAX_ATTRIBUTE_BYTES} bytes as JSON, all together, has {bytes}");
        return Err(FieldError::new(field, rule));
    }
    Ok(())
}

/// `name` can be the name of an attribute.
pub fn check_attribute_name(field: &str, name: &str) -> Result<(), FieldError> {
    limits::identifier("name", name, MAX_ATTRIBUTE_NAME).map_err(|error| {
        let shown: String = name.chars().take(MAX_ATTRIBUTE_NAME).collect();
        FieldError::new(field, format!("the name of an attribute {}, is {shown:?}", error.rule))
    })
}

#[cfg(test)]
mod tests;
