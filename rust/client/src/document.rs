//! A document as the text that is journalled and sent.

use std::fmt::{self, Debug, Formatter};
use std::sync::Arc;

use serde_json::{Map, Value};

/// A document's content.
pub type Content = Map<String, Value>;

/// A document as JSON: one text for the journal and for every attempt to send it. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct RawJson(Arc<str>);

impl RawJson {
    /// `json`, if it is a JSON object.
    pub fn parse(json: String) -> Result<Self, serde_json::Error> {
        serde_json::from_str::<Content>(&json)?;
        Ok(Self(json.into()))
    }

    /// RawJson of somebody who has written a JSON object.
    pub(super) fn trusted(json: &str) -> Self {
        Self(json.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The document.
    pub fn content(&self) -> Content {
        serde_json::from_str(&self.0).expect("nothing else becomes a text")
    }
}

impl From<&Content> for RawJson {
    fn from(content: &Content) -> Self {
        // Keys are strings and numbers are finite: there is nothing that JSON has no words for.
        Self(serde_json::to_string(content).expect("JSON").into())
    }
}

impl Debug for RawJson {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}
