//! Whether two documents are the same, as a game would see it.

use serde_json::{Number, Value};

use super::Content;

/// Whether both hold the same, bit for bit. `==` takes -0.0 for 0.0, so that a game which saves the one over the other
/// would read back what it did not save.
pub fn is_identical(one: &Content, other: &Content) -> bool {
    one.len() == other.len()
        && one.iter().all(|(key, value)| other.get(key).is_some_and(|other| is_same(value, other)))
}

fn is_same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => one == other && bits(one) == bits(other),
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| is_same(one, other))
        }
        (Value::Object(one), Value::Object(other)) => is_identical(one, other),
        (one, other) => one == other,
    }
}

/// Of a float.
fn bits(number: &Number) -> Option<u64> {
    if number.is_f64() { number.as_f64().map(f64::to_bits) } else { None }
}

#[cfg(test)]
mod tests;
