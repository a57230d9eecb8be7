//! Conditions of a room query on custom attributes.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use super::attributes::{AttributeValue, Attributes, MAX_ATTRIBUTE_TEXT, check_attribute_name};
use crate::limits::{self, FieldError};

/// Most conditions on attributes in one query.
pub const MAX_ATTRIBUTE_FILTERS: usize = 8;
/// Most values of one condition with `in`.
pub const MAX_FILTER_VALUES: usize = 16;
/// Longest text of all conditions, in bytes.
pub const MAX_FILTER_BYTES: usize = 4 * 1024;

/// How an attribute is compared with a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Comparison {
    /// The same.
    #[serde(rename = "=")]
    Equal,
    /// Another one of the same type.
    #[serde(rename = "!=")]
    Unequal,
    /// Less.
    #[serde(rename = "<")]
    Less,
    /// At most.
    #[serde(rename = "<=")]
    AtMost,
    /// More.
    #[serde(rename = ">")]
    More,
    /// At least.
    #[serde(rename = ">=")]
    AtLeast,
    /// One of a list.
    #[serde(rename = "in")]
    In,
}

impl Comparison {
    /// The operator as it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::Unequal => "!=",
            Self::Less => "<",
            Self::AtMost => "<=",
            Self::More => ">",
            Self::AtLeast => ">=",
            Self::In => "in",
        }
    }

    /// The operator that is written like this.
    pub fn parse(text: &str) -> Option<Self> {
        let all = [Self::Equal, Self::Unequal, Self::Less, Self::AtMost, Self::More, Self::AtLeast, Self::In];
        all.into_iter().find(|one| one.as_str() == text)
    }

    fn holds(self, order: Ordering) -> bool {
        match self {
            Self::Equal | Self::In => order.is_eq(),
            Self::Unequal => order.is_ne(),
            Self::Less => order.is_lt(),
            Self::AtMost => order.is_le(),
            Self::More => order.is_gt(),
            Self::AtLeast => order.is_ge(),
        }
    }
}

/// One value, or several for `in`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum FilterValue {
    /// Several.
    Many(Vec<AttributeValue>),
    /// One.
    One(AttributeValue),
}

impl FilterValue {
    /// All of them.
    pub fn all(&self) -> &[AttributeValue] {
        match self {
            Self::One(value) => std::slice::from_ref(value),
            Self::Many(values) => values,
        }
    }
}

/// A condition: rooms that lack the attribute, or have one of another type, do not meet it. Numbers are compared as floats, texts by
/// their code points.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttributeFilter {
    /// Name of the attribute.
    pub name: String,
    /// The comparison.
    pub op: Comparison,
    /// What it is compared with.
    pub value: FilterValue,
}

impl AttributeFilter {
    /// Whether a room with these attributes meets the condition.
    pub fn is_met(&self, attributes: &Attributes) -> bool {
        let Some(has) = attributes.get(&self.name) else { return false };
        let met = |value: &AttributeValue| compared(has, value).is_some_and(|order| self.op.holds(order));
        self.value.all().iter().any(met)
    }

    fn check(&self, field: &str) -> Result<(), FieldError> {
        check_attribute_name(field, &self.name)?;
        let refuse = |rule: String| Err(FieldError::new(field, format!("{}: {rule}", self.name)));
        match (&self.value, self.op) {
            (FilterValue::Many(values), Comparison::In) => {
                if values.is_empty() || values.len() > MAX_FILTER_VALUES {
                    return refuse(format!("\"in\" takes 1 to {MAX_FILTER_VALUES} values"));
                }
            }
            (FilterValue::One(_), Comparison::In) => return refuse("\"in\" takes a list of values".into()),
            (FilterValue::Many(_), _) => return refuse("only \"in\" takes a list of values".into()),
            (FilterValue::One(_), _) => {}
        }
        for value in self.value.all() {
            match value {
                AttributeValue::Bool(_)
                    if !matches!(self.op, Comparison::Equal | Comparison::Unequal | Comparison::In) =>
                {
                    return refuse("true and false have no order; use = or !=".into());
                }
                AttributeValue::String(text) => limits::opaque(field, text, 0, MAX_ATTRIBUTE_TEXT)?,
                AttributeValue::Float(number) if !number.is_finite() => {
                    return refuse("must be a finite number".into());
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Of values of one type; numbers are one.
fn compared(one: &AttributeValue, other: &AttributeValue) -> Option<Ordering> {
    #[allow(clippy::cast_precision_loss, reason = "the databases compare floats, too")]
    let number = |value: &AttributeValue| match value {
        AttributeValue::Int(number) => Some(*number as f64),
        AttributeValue::Float(number) => Some(*number),
        _ => None,
    };
    match (one, other) {
        (AttributeValue::String(one), AttributeValue::String(other)) => Some(one.cmp(other)),
        (AttributeValue::Bool(one), AttributeValue::Bool(other)) => Some(one.cmp(other)),
        _ => number(one)?.partial_cmp(&number(other)?),
    }
}

/// Conditions as a query string has them: a JSON list.
pub fn parse_attribute_filters(field: &str, text: &str) -> Result<Vec<AttributeFilter>, FieldError> {
    if text.len() > MAX_FILTER_BYTES {
        return Err(FieldError::new(
            field,
            format!("must have at most {MAX_FILTER_BYTES} bytes, has {}", text.len()),
        ));
    }
    let filters: Vec<AttributeFilter> = serde_json::from_str(text).map_err(|error| {
        let rule = format!(
            "must be a JSON list such as [{{\"name\":\"round\",\"op\":\">=\",\"value\":3}}]; is none at column {}",
            error.column()
        );
        FieldError::new(field, rule)
    })?;
    limits::at_most(field, filters.len(), MAX_ATTRIBUTE_FILTERS)?;
    filters.iter().try_for_each(|filter| filter.check(field))?;
    Ok(filters)
}
