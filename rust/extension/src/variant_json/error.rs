//! Why a value cannot be saved, and where it is.

use std::fmt::{self, Display, Formatter};

use backend_client::error::ClientError;

use super::MAX_DEPTH;

/// Why a value does not fit, and where. The path is put together on the way out, so that what fits costs nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonError {
    path: String,
    rule: String,
}

impl JsonError {
    pub fn new(rule: impl Into<String>) -> Self {
        Self { path: String::new(), rule: rule.into() }
    }

    pub fn too_deep() -> Self {
        Self::new(format!("is nested more than {MAX_DEPTH} levels deep"))
    }

    pub fn within(mut self, step: impl Display) -> Self {
        self.path.insert_str(0, &step.to_string());
        self
    }
}

impl Display for JsonError {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        write!(formatter, "value{} {}", self.path, self.rule)
    }
}

impl std::error::Error for JsonError {}

impl serde::de::Error for JsonError {
    fn custom<T: Display>(message: T) -> Self {
        Self::new(message.to_string())
    }
}

impl From<JsonError> for ClientError {
    fn from(JsonError { path, rule }: JsonError) -> Self {
        Self::field(format!("value{path}"), rule)
    }
}
