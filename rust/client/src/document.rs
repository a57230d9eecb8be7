//! A document as the text that is journalled and sent.

use std::fmt::{self, Debug, Formatter};
use std::sync::Arc;

use backend_protocol::player_store::parse_document;
use serde::{Serialize, Serializer};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value};

/// A document's content.
pub type Content = Map<String, Value>;

/// A document as JSON: one text for the journal and for every attempt to send it. Cheap to clone.
///
/// It is more than the [`RawValue`] that holds the text: an object, nested no deeper than can be read, and comparable.
#[derive(Clone)]
pub struct RawJson(Arc<RawValue>);

impl RawJson {
    /// `json`, if it is a JSON object.
    pub fn parse(json: String) -> Result<Self, serde_json::Error> {
        parse_document(&json)?;
        Self::trusted(json)
    }

    /// `json` of somebody who has written a JSON object.
    pub(super) fn trusted(json: String) -> Result<Self, serde_json::Error> {
        Ok(Self(RawValue::from_string(json)?.into()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        self.0.get()
    }

    /// The document.
    pub fn content(&self) -> Content {
        parse_document(self.as_str()).expect("nothing else becomes a text")
    }
}

impl From<&Content> for RawJson {
    fn from(content: &Content) -> Self {
        // Keys are strings and numbers are finite: there is nothing that JSON has no words for.
        Self(to_raw_value(content).expect("JSON").into())
    }
}

impl PartialEq for RawJson {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for RawJson {}

impl Serialize for RawJson {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl Debug for RawJson {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}
