//! Custom attributes of rooms between Godot's Dictionary and the protocol.

use backend_client::error::ClientError;
use backend_client::protocol::rooms::{AttributeValue, Attributes};
use godot::builtin::VariantType;
use godot::prelude::*;

use super::gstring;

/// `value` as an attribute; the error names `field`.
pub fn attribute(field: &str, value: &Variant) -> Result<AttributeValue, ClientError> {
    Ok(match value.get_type() {
        VariantType::BOOL => AttributeValue::Bool(value.to()),
        VariantType::INT => AttributeValue::Int(value.to()),
        VariantType::FLOAT => AttributeValue::Float(value.to()),
        VariantType::STRING | VariantType::STRING_NAME => {
            AttributeValue::String(value.stringify().to_string())
        }
        other => {
            let rule = format!("must be a String, an int, a float or a bool, is a value of type {other:?}");
            return Err(ClientError::field(field, rule));
        }
    })
}

/// All entries of `dictionary`, whose keys are names.
pub fn attributes(field: &str, dictionary: &VarDictionary) -> Result<Attributes, ClientError> {
    let entry = |(name, value): (Variant, Variant)| {
        if !matches!(name.get_type(), VariantType::STRING | VariantType::STRING_NAME) {
            return Err(ClientError::field(field, "must have Strings as keys"));
        }
        let name = name.stringify().to_string();
        let value = attribute(&format!("{field}.{name}"), &value)?;
        Ok((name, value))
    };
    dictionary.iter_shared().map(entry).collect()
}

/// `attributes` as a script sees them.
pub fn attributes_dictionary(attributes: &Attributes) -> VarDictionary {
    let mut dictionary = VarDictionary::new();
    for (name, value) in attributes {
        let value = match value {
            AttributeValue::Bool(flag) => flag.to_variant(),
            AttributeValue::Int(number) => number.to_variant(),
            AttributeValue::Float(number) => number.to_variant(),
            AttributeValue::String(text) => gstring(text).to_variant(),
        };
        dictionary.set(&gstring(name), &value);
    }
    dictionary
}
